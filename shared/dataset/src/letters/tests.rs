use super::*;

fn letters(of: &[(i32, i64)]) -> Letters {
    of.iter()
        .map(|(partition, offset)| (PartitionId(*partition), Offset(*offset)))
        .collect()
}

#[test]
fn sets_of_letters_add_and_subtract() {
    let mut some = letters(&[(0, 7), (0, 5), (0, 6), (1, 1)]);
    assert_eq!(some.count(), 4);
    assert!(some.contains(PartitionId(0), Offset(6)) && !some.contains(PartitionId(1), Offset(6)));
    let spans: Vec<_> = some.spans().collect();
    assert_eq!(spans[0], (PartitionId(0), OffsetRange::new(Offset(5), Offset(8))));
    assert_eq!(
        some.minus(&letters(&[(0, 6), (1, 1), (2, 2)])),
        letters(&[(0, 5), (0, 7)])
    );
    assert!(some.minus(&some.clone()).is_empty());
    some.add(&letters(&[(0, 6), (2, 0)]));
    assert_eq!(some, letters(&[(0, 5), (0, 6), (0, 7), (1, 1), (2, 0)]));
}

#[test]
fn letters_survive_json() {
    let some = letters(&[(0, 5), (0, 6), (3, 9)]);
    let json = serde_json::to_string(&some).unwrap();
    assert_eq!(json, r#"{"0":[{"start":5,"end":7}],"3":[{"start":9,"end":10}]}"#);
    assert_eq!(serde_json::from_str::<Letters>(&json).unwrap(), some);
}
