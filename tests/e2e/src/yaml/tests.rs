use serde_json::json;

use super::parse;

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let text = "base: &base\n  a: 1\n  b: [x, 'y z']\nderived:\n  <<: *base\n  a: 2 # a comment\n";
    let expected = json!({"base": {"a": "1", "b": ["x", "y z"]}, "derived": {"a": "2", "b": ["x", "y z"]}});
    assert_eq!(parse(text), Ok(expected));
}

#[test]
fn what_is_no_yaml_is_refused() {
    for text in [
        "a: b: c\n",
        "a:\n\t- b\n",
        "a: [b\n",
        "a: 'b\n",
        "a: 1\na: 2\n",
        "",
        "a: 1\n---\nb: 2\n",
        "a: *nobody\n",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}
