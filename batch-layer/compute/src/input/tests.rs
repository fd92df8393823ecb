use super::*;

#[test]
fn sparse_files_give_what_was_fetched_and_nothing_else() {
    let parts = vec![(50, Bytes::from_static(b"fghij")), (10, Bytes::from_static(b"abcde"))];
    let file = FileBytes::sparse(100, parts);
    assert_eq!(Length::len(&file), 100);
    assert_eq!(file.held_bytes(), 10);
    assert_eq!(file.get_bytes(10, 5).unwrap(), "abcde");
    assert_eq!(file.get_bytes(52, 2).unwrap(), "hi");
    for (start, length) in [(0, 1), (9, 1), (13, 3), (20, 1), (54, 2), (90, 1)] {
        assert!(file.get_bytes(start, length).is_err(), "{start}+{length}");
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut file.get_read(51).unwrap(), &mut text).unwrap();
    assert_eq!(text, "ghij");
}

#[test]
fn whole_files_are_read_anywhere() {
    let file = FileBytes::Whole(Bytes::from_static(b"abcdef"));
    assert_eq!(Length::len(&file), 6);
    assert_eq!(file.get_bytes(2, 3).unwrap(), "cde");
    assert!(file.get_bytes(4, 3).is_err());
    assert!(file.get_read(7).is_err());
}
