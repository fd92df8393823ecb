use std::collections::BTreeSet;

use super::*;

#[test]
fn names_are_unique_and_well_formed() {
    let names: BTreeSet<&str> = POINTS.iter().copied().collect();
    assert_eq!(names.len(), POINTS.len());
    for name in POINTS {
        let plain = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
        assert!(name.contains('.') && name.chars().all(plain), "{name}");
        assert!(is_listed(name));
    }
    assert!(!is_listed("land.commit"));
    assert!(!is_listed("land.commit.befora"));
}

#[test]
fn the_nth_pass_is_due_once() {
    let armed = Armed::parse("land.commit.after:3");
    let due: Vec<bool> = (0..6).map(|_| armed.is_due("land.commit.after")).collect();
    assert_eq!(due, [false, false, true, false, false, false]);
    assert!(!armed.is_due("land.commit.before"));
    assert!(Armed::parse("seal.before").is_due("seal.before"));
}

#[test]
fn a_process_that_is_not_armed_goes_on() {
    crate::crash_point!("seal.before");
    crate::crash_point!("seal.after");
}
