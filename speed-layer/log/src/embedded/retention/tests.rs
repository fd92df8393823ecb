use super::*;

fn block(max_timestamp_ms: i64) -> IndexEntry {
    IndexEntry {
        records: 1,
        bytes: 100,
        total_bytes: 100,
        max_timestamp_ms,
        highest_timestamp_ms: max_timestamp_ms,
    }
}

#[test]
fn nothing_expires_without_limits() {
    assert!(!Retention::default().expires(&block(0), u64::MAX, false, i64::MAX));
}

#[test]
fn bytes_expire_above_the_limit_only() {
    let retention = Retention {
        bytes: Some(1_000),
        age: None,
    };
    assert!(!retention.expires(&block(0), 1_000, false, 0));
    assert!(retention.expires(&block(0), 1_001, false, 0));
    assert!(!retention.expires(&block(0), 1_001, true, 0), "the last block stays");
}

#[test]
fn age_counts_from_the_newest_record_of_the_block() {
    let retention = Retention {
        bytes: None,
        age: Some(Duration::from_secs(10)),
    };
    assert!(!retention.expires(&block(5_000), 1, false, 15_000));
    assert!(retention.expires(&block(4_999), 1, false, 15_000));
    assert!(
        !retention.expires(&block(4_999), 1, true, 15_000),
        "the last block stays"
    );
}
