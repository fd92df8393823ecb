use anabranch_model::ErrorKind;

use super::*;

fn with(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::from([("bootstrap.servers".to_string(), "localhost:1".to_string())]);
    properties.extend(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    properties
}

#[test]
fn what_would_break_a_promise_is_refused_with_its_reason() {
    for (name, reason) in REFUSED {
        let error = client_config(&with(&[(name, "x")]), Role::Metadata).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let message = error.to_string();
        assert!(message.contains(name) && message.contains(reason), "{message}");
    }
}

#[test]
fn uncommitted_records_are_never_read() {
    for value in ["read_uncommitted", " READ_UNCOMMITTED"] {
        let error = client_config(&with(&[("isolation.level", value)]), Role::Metadata).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("aborted"), "{error}");
    }
    for properties in [with(&[]), with(&[("isolation.level", "read_committed")])] {
        for role in [Role::Metadata, Role::Reader, Role::Member { group: "speed" }] {
            let config = client_config(&properties, role).unwrap();
            assert_eq!(config.get("isolation.level"), Some("read_committed"), "{role:?}");
        }
    }
}

#[test]
fn brokers_must_be_given() {
    let error = client_config(&BTreeMap::new(), Role::Producer).unwrap_err();
    assert!(error.to_string().contains("bootstrap.servers"), "{error}");
}

#[test]
fn the_user_overrides_defaults_but_not_guarantees() {
    let properties = with(&[
        ("session.timeout.ms", "6000"),
        ("linger.ms", "50"),
        ("fetch.min.bytes", "10"),
    ]);
    let member = client_config(&properties, Role::Member { group: "speed" }).unwrap();
    assert_eq!(member.get("session.timeout.ms"), Some("6000"));
    assert_eq!(member.get("group.id"), Some("speed"));
    assert_eq!(member.get("partition.assignment.strategy"), Some("cooperative-sticky"));
    assert_eq!(member.get("enable.auto.commit"), Some("false"));
    assert_eq!(member.get("fetch.min.bytes"), Some("10"));
    assert_eq!(member.get("linger.ms"), None, "the producer's");
    let producer = client_config(&properties, Role::Producer).unwrap();
    assert_eq!(producer.get("linger.ms"), Some("50"));
    assert_eq!(producer.get("acks"), Some("all"));
    assert_eq!(producer.get("fetch.min.bytes"), None, "the consumer's");
}

#[test]
fn librdkafka_takes_every_default() {
    for role in [
        Role::Metadata,
        Role::Producer,
        Role::Reader,
        Role::Member { group: "g" },
    ] {
        client_config(&with(&[]), role).unwrap().create_native_config().unwrap();
    }
}
