use serde_json::json;

use super::*;

fn same(a: Value, b: Value) -> bool {
    Cell::of(&a).same(&Cell::of(&b))
}

#[test]
fn spellings_of_one_value_are_equal() {
    assert!(same(json!("11.10"), json!(11.1)));
    assert!(same(json!(16.65), json!("16.65")));
    assert!(same(json!("2023-09-18T14:00:00"), json!("2023-09-18T14:00:00Z")));
    assert!(same(
        json!("2015-07-15 00:00:01.001"),
        json!("2015-07-15T00:00:01.001+00:00")
    ));
    assert!(same(json!(8_728.0), json!(8728)));
    assert!(same(json!(263_196.666_666_666_7), json!(263_196.666_666_67)));
}

#[test]
fn different_values_are_not_equal() {
    assert!(!same(json!(1), json!(2)));
    assert!(
        !same(json!(1_000_000_000_000_001_i64), json!(1_000_000_000_000_000_i64)),
        "integers have no tolerance"
    );
    assert!(!same(json!(1.0), json!(1.000_001)));
    assert!(!same(json!(null), json!(0)));
    assert!(!same(json!("null"), json!(null)));
    assert!(!same(json!("2023-09-18T14:00:00"), json!("2023-09-18T15:00:00")));
    assert!(!same(json!("a"), json!("b")));
}

#[test]
fn rows_are_a_multiset() {
    assert_same_rows(
        "any order",
        &[vec![json!(1)], vec![json!(2)]],
        &[vec![json!(2)], vec![json!(1)]],
    );
    let twice = [vec![json!(1)], vec![json!(1)]];
    assert!(std::panic::catch_unwind(|| assert_same_rows("once", &twice[..1], &twice)).is_err());
    assert!(std::panic::catch_unwind(|| assert_same_rows("other", &twice, &[vec![json!(1)], vec![json!(2)]])).is_err());
}
