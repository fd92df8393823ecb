use serde_json::json;

use super::*;

#[test]
fn timeouts_are_seconds_or_carry_a_unit() {
    for (text, expected) in [
        ("5s", 5_000),
        ("5", 5_000),
        ("250ms", 250),
        ("0", 0),
        ("1.5s", 1_500),
        (" 2 min ", 120_000),
        ("10m", 600_000),
    ] {
        assert_eq!(duration(text).unwrap(), Duration::from_millis(expected), "{text}");
    }
    for text in ["", "s", "-1s", "5 parsecs", "1e9", "11m", "NaN"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn demands_are_read_from_json_in_both_spellings() {
    let body = br#"{"sql":"SELECT 1","require":"exact","at_least":{"clicks/0":7},"timeout":"250ms"}"#;
    let expected = Demand {
        exact: true,
        at_least: [("clicks/0".to_owned(), 7)].into(),
        timeout: Duration::from_millis(250),
        ..Demand::default()
    };
    assert_eq!(SqlRequest::parse(body).unwrap().demand().unwrap(), expected);

    let body = br#"{"sql":"SELECT 1","timeout":2}"#;
    let expected = Demand {
        timeout: Duration::from_secs(2),
        ..Demand::default()
    };
    assert_eq!(SqlRequest::parse(body).unwrap().demand().unwrap(), expected);
    assert_eq!(demand(None, None, None, None).unwrap().timeout, DEFAULT_TIMEOUT);
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_hint() {
    for body in [&b"{"[..], b"{}", b"[]", br#"{"sql":"SELECT 1","requires":"exact"}"#] {
        assert!(matches!(
            SqlRequest::parse(body),
            Err(Error::Request { hint: Some(_), .. })
        ));
    }
    assert!(demand(Some("approximate"), None, None, None).is_err());
    assert!(demand(None, Some(json!({"clicks/0": "seven"})), None, None).is_err());
    assert!(demand(None, Some(json!([1])), None, None).is_err());
    assert!(at_least_text("clicks/0=7").is_err());
}

#[test]
fn one_layer_alone_makes_no_promises() {
    assert_eq!(demand(None, None, None, Some("batch")).unwrap().arm, Arm::Batch);
    assert_eq!(
        demand(Some("exact"), None, None, Some("merged")).unwrap().arm,
        Arm::Merged
    );
    assert!(demand(Some("exact"), None, None, Some("realtime")).is_err());
    assert!(demand(None, Some(json!({"clicks/0": 7})), None, Some("batch")).is_err());
    assert!(demand(None, None, None, Some("speed")).is_err());
}
