use super::*;

fn facts(present: Option<&str>, published: Option<&str>, ready: bool) -> Facts {
    Facts {
        newest: "new".into(),
        present: present.map(str::to_owned),
        published: published.map(str::to_owned),
        ready,
    }
}

#[test]
fn the_former_version_answers_until_the_newest_lacks_nothing_that_it_has() {
    let cases = [
        // (present, published, ready) → verdict
        (Some("old"), Some("old"), false, Verdict::Present),
        (Some("old"), None, false, Verdict::Present),
        (Some("old"), Some("older"), false, Verdict::Present),
        (Some("old"), Some("old"), true, Verdict::Newest),
        (Some("old"), None, true, Verdict::Newest),
        (Some("old"), Some("new"), true, Verdict::Newest),
        (Some("old"), Some("new"), false, Verdict::Wait),
        // Nothing is there to go back to.
        (None, None, false, Verdict::Newest),
        (None, Some("old"), false, Verdict::Newest),
        (Some("new"), Some("old"), false, Verdict::Newest),
    ];
    for (present, published, ready, verdict) in cases {
        assert_eq!(
            judge(&facts(present, published, ready)),
            verdict,
            "{present:?} answers, {published:?} is published, ready: {ready}"
        );
    }
}
