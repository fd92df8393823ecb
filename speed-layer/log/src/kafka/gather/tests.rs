use super::*;

const LIMITS: ReadLimits = ReadLimits {
    max_records: 4,
    max_bytes: 100,
    wait: Duration::ZERO,
};

fn push(gather: &mut Gather, partition: i32, offset: i64, bytes: usize, now: Instant) -> bool {
    let payload = vec![b'x'; bytes];
    gather.push((PartitionId(partition), offset), bytes, LIMITS, now, |builder| {
        builder.push(offset, None, None, Some(&payload), []);
    })
}

fn started(partitions: i32) -> (Gather, Instant) {
    let mut gather = Gather::default();
    for partition in 0..partitions {
        gather.start(PartitionId(partition), Offset(10));
    }
    (gather, Instant::now())
}

#[test]
fn gaps_in_offsets_leave_no_gap_in_ranges() {
    let (mut gather, now) = started(1);
    assert!(push(&mut gather, 0, 13, 1, now));
    assert!(push(&mut gather, 0, 17, 1, now));
    let batch = gather.any().unwrap();
    assert_eq!(batch.range, OffsetRange::new(Offset(10), Offset(18)));
    assert_eq!(batch.offsets.values(), &[13, 17]);
    gather.advance(PartitionId(0), Offset(20), now);
    gather.advance(PartitionId(0), Offset(19), now);
    let markers = gather.any().unwrap();
    assert_eq!(markers.range, OffsetRange::new(Offset(18), Offset(20)));
    assert!(markers.is_empty());
    assert!(gather.any().is_none());
}

#[test]
fn only_started_partitions_and_new_offsets_are_taken() {
    let (mut gather, now) = started(1);
    assert!(!push(&mut gather, 5, 10, 1, now));
    assert!(!push(&mut gather, 0, 9, 1, now), "before the start");
    assert!(push(&mut gather, 0, 10, 1, now));
    assert!(!push(&mut gather, 0, 10, 1, now), "twice");
    gather.start(PartitionId(0), Offset(10));
    assert!(
        gather.any().is_none(),
        "what was gathered before another start is dropped"
    );
    assert!(push(&mut gather, 0, 10, 1, now));
    assert!(gather.stop(PartitionId(0)));
    assert!(gather.any().is_none());
    assert_eq!(gather.bytes, 0);
}

#[test]
fn a_batch_is_due_when_full_or_when_it_has_waited() {
    let (mut gather, now) = started(2);
    for offset in 10..13 {
        push(&mut gather, 0, offset, 1, now);
    }
    assert!(gather.due(LIMITS, now).is_none());
    push(&mut gather, 0, 13, 1, now);
    assert_eq!(gather.due(LIMITS, now).unwrap().len(), 4, "records");
    push(&mut gather, 1, 10, 60, now);
    push(&mut gather, 1, 11, 40, now);
    assert_eq!(gather.due(LIMITS, now).unwrap().len(), 2, "bytes");
    push(&mut gather, 1, 12, 1, now);
    assert!(gather.due(LIMITS, now).is_none());
    assert_eq!(gather.due(LIMITS, now + LINGER).unwrap().len(), 1, "time");
}

#[test]
fn a_record_that_does_not_fit_begins_the_next_batch() {
    let (mut gather, now) = started(1);
    push(&mut gather, 0, 10, 60, now);
    push(&mut gather, 0, 12, 41, now);
    let first = gather.due(LIMITS, now).unwrap();
    assert_eq!(first.range, OffsetRange::new(Offset(10), Offset(11)));
    assert!(gather.due(LIMITS, now).is_none());
    push(&mut gather, 0, 13, 1_000, now);
    assert_eq!(
        gather.due(LIMITS, now).unwrap().range,
        OffsetRange::new(Offset(11), Offset(13))
    );
    let alone = gather.due(LIMITS, now).unwrap();
    assert_eq!(
        (alone.len(), alone.payload_bytes()),
        (1, 1_000),
        "a record larger than the limit comes alone"
    );
    push(&mut gather, 0, 14, 60, now);
    push(&mut gather, 0, 15, 60, now);
    assert!(gather.stop(PartitionId(0)));
    assert!(gather.any().is_none(), "closed batches go with their partition");
}

#[test]
fn a_held_partition_is_silent_and_loses_nothing() {
    let (mut gather, now) = started(2);
    push(&mut gather, 0, 10, 60, now);
    push(&mut gather, 0, 11, 60, now);
    gather.hold(PartitionId(0), true);
    push(&mut gather, 1, 10, 1, now);
    assert_eq!(gather.any().unwrap().partition, PartitionId(1));
    assert!(gather.any().is_none());
    assert!(gather.due(LIMITS, now + LINGER).is_none());
    gather.hold(PartitionId(0), false);
    assert_eq!(gather.any().unwrap().range, OffsetRange::new(Offset(10), Offset(11)));
    assert_eq!(gather.any().unwrap().range, OffsetRange::new(Offset(11), Offset(12)));
}

#[test]
fn all_partitions_together_are_bounded() {
    let (mut gather, now) = started(10);
    let mut handed_out = 0;
    for offset in 10..13 {
        for partition in 0..10 {
            push(&mut gather, partition, offset, 30, now);
            while let Some(batch) = gather.due(LIMITS, now) {
                handed_out += batch.payload_bytes();
            }
            assert!(gather.bytes < 200);
        }
    }
    while let Some(batch) = gather.any() {
        handed_out += batch.payload_bytes();
    }
    assert_eq!(handed_out, 900);
}

#[test]
fn partitions_take_turns() {
    let (mut gather, now) = started(3);
    let mut order = Vec::new();
    for round in 0..2 {
        for partition in 0..3 {
            push(&mut gather, partition, 10 + round, 1, now);
        }
        order.push(gather.any().unwrap().partition.0);
        push(&mut gather, order[order.len() - 1], 20 + round, 1, now);
    }
    order.push(gather.any().unwrap().partition.0);
    order.sort();
    assert_eq!(order, [0, 1, 2]);
}
