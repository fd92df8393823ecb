use super::*;

#[test]
fn finds_slips_of_the_finger() {
    let names = ["connector", "topic", "format", "event_time"];
    assert_eq!(nearest("conector", names), Some("connector"));
    assert_eq!(nearest("tpoic", names), Some("topic"));
    assert_eq!(nearest("EVENT_TIEM", names), Some("event_time"));
    assert_eq!(nearest("partitions", names), None);
    assert_eq!(nearest("", names), None);
}

#[test]
fn prefers_the_nearer_and_then_the_earlier() {
    assert_eq!(nearest("pages", ["page", "pages2", "pages"]), Some("pages"));
    assert_eq!(nearest("edits", ["edit1", "edit2"]), Some("edit1"));
}

#[test]
fn hints_name_one_or_all() {
    assert_eq!(
        did_you_mean("logg", ["kafka", "log"]).as_deref(),
        Some("did you mean `log`?")
    );
    assert_eq!(
        did_you_mean("pulsar", ["kafka", "log"]).as_deref(),
        Some("known: `kafka`, `log`")
    );
    assert_eq!(did_you_mean("x", []), None);
}
