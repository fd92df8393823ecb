use serde_json::json;

use super::*;

#[test]
fn a_comparison_agrees_only_if_every_view_was_compared_and_no_group_differs() {
    let same = json!({"views": {"a": {"compared": 7, "differing": 0}, "b": {"compared": 1}}});
    assert!(agrees(&same));
    assert_eq!(differs(&same), 0);
    for (key, value) in [
        ("differing", json!(1)),
        ("only_computed", json!(2)),
        ("only_served", json!(3)),
        ("skipped", json!("no speed layer")),
    ] {
        let mut diff = same.clone();
        diff["views"]["b"][key] = value.clone();
        assert!(!agrees(&diff), "{key}");
        assert_eq!(differs(&diff).as_u64(), Some(value.as_u64().unwrap_or_default()));
    }
    assert_eq!(differs(&Value::Null), Value::Null, "nothing was compared");
}

#[test]
fn values_of_a_group_stand_beside_their_names() {
    assert_eq!(pairs(&json!({"page": "/a", "user": null})), "page = /a\nuser = NULL");
    assert_eq!(pairs(&Value::Null), "–");
}
