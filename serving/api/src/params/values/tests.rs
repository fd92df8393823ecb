use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn lists_have_the_type_that_holds_all_they_have() {
    let list = |kind: DataType| DataType::new_list(kind, true);
    for (value, expected) in [
        (json!([1, null, -2]), list(DataType::Int64)),
        (json!([u64::MAX]), list(DataType::UInt64)),
        (json!([-1, u64::MAX, 2]), list(INTEGERS)),
        (json!([-1, u64::MAX, 0.5]), list(DataType::Float64)),
        (json!(["a", null]), list(DataType::Utf8)),
        (json!(["1", 2, true]), list(DataType::Utf8)),
        (json!([null]), list(DataType::Null)),
        (json!([]), list(DataType::Null)),
        (json!([[1], [], null, [2.5]]), list(list(DataType::Float64))),
    ] {
        let read = read(1, &value).unwrap();
        assert_eq!(read.data_type(), expected, "{value}");
    }
    let read = read(1, &json!([-1, u64::MAX])).unwrap();
    assert_eq!(read.to_string(), "[-1, 18446744073709551615]");
}

#[test]
fn what_no_list_can_hold_is_refused_by_its_number() {
    let deep = (0..=DEEPEST).fold(json!(1), |inner, _| json!([inner]));
    for value in [json!({}), json!([{"a": 1}]), json!([1, [2]]), json!([[1], "a"]), deep] {
        match read(3, &value) {
            Err(Error::Request { message, hint }) => {
                assert!(message.starts_with("$3 is ") && hint.is_some(), "{message}");
            }
            other => panic!("{value}: {other:?}"),
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        ".{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        proptest::collection::vec(inner, 0..5).prop_map(Value::from)
    })
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused(value in any_json()) {
        if let Err(error) = read(1, &value) {
            let refused = matches!(error, Error::Request { .. });
            prop_assert!(refused, "{:?}", error);
        }
    }
}
