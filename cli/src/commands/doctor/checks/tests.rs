use super::super::State;
use super::*;

#[test]
fn a_mix_of_versions_is_told_with_who_has_which() {
    let of = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, Vec<String>> {
        let named = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        pairs
            .iter()
            .map(|(version, ids)| ((*version).to_owned(), named(ids)))
            .collect()
    };
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(compared(&of(&[])), None);
    let same = compared(&of(&[(own, &["speed-1", "serve-1"])])).expect("there are services");
    assert_eq!((same.state, same.advice), (State::Ok, None));
    let other = compared(&of(&[("0.0.1", &["speed-1"])])).expect("there are services");
    assert!(other.state == State::Warn && other.found.contains(own), "{other:?}");
    let mix = compared(&of(&[("0.0.1", &["speed-1"]), (own, &["batch-1", "serve-1"])])).expect("there are services");
    assert_eq!(mix.found, format!("0.0.1: speed-1; {own}: batch-1, serve-1"));
    assert!(
        mix.advice
            .is_some_and(|advice| advice.contains("restart the older ones"))
    );
}

#[test]
fn each_trouble_of_the_store_has_its_own_advice() {
    let no_bucket = Error::NoBucket {
        url: "s3://b".into(),
        answer: "404".into(),
    };
    let refused = Error::Credentials {
        url: "s3://b".into(),
        answer: "403".into(),
    };
    let not_atomic = Error::NotAtomic {
        url: "s3://b".into(),
        reason: "2 of 16 racing puts won".into(),
    };
    assert!(advice("s3://b", &no_bucket).contains("create the bucket"));
    assert!(advice("s3://b", &refused).contains("credentials"));
    assert!(advice("s3://b", &not_atomic).contains("atomic conditional writes"));
    let other = Error::Invalid("away".into());
    assert!(advice("s3://b", &other).contains("endpoint"));
    assert!(advice("file:///data", &other).contains("room on the disk"));
}
