use super::*;

const LIMITS: Limits = Limits {
    max_age: Duration::from_secs(5),
    max_bytes: 100,
};

fn decided(age_seconds: u64, bytes: usize, flush: bool) -> Close {
    decide(
        Open {
            age: Some(Duration::from_secs(age_seconds)),
            bytes,
            flush,
        },
        LIMITS,
    )
}

#[test]
fn age_size_and_a_moving_partition_close_a_landing() {
    assert_eq!(decided(4, 99, false), Close::No);
    assert_eq!(
        decided(5, 0, false),
        Close::IfRoom,
        "an empty range counts: only its offsets are landed"
    );
    assert_eq!(decided(0, 100, false), Close::Now);
    assert_eq!(decided(9, 100, true), Close::Now);
    assert_eq!(decided(0, 1, true), Close::IfRoom);
}

#[test]
fn nothing_is_landed_without_a_range() {
    assert_eq!(
        decide(
            Open {
                age: None,
                bytes: 0,
                flush: true
            },
            LIMITS
        ),
        Close::No
    );
}
