use super::*;

#[test]
fn offsets_are_two_numbers_in_order() {
    assert_eq!(offsets("3..10").unwrap(), OffsetRange::new(Offset(3), Offset(10)));
    assert_eq!(offsets(" 0 .. 1 ").unwrap(), OffsetRange::new(Offset(0), Offset(1)));
    for wrong in ["", "3", "3..", "..3", "3..3", "4..3", "-1..3", "3..x", "3...4"] {
        assert!(offsets(wrong).is_err(), "{wrong}");
    }
}
