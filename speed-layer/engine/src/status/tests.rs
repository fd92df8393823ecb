use super::*;

fn partitions(of: &[(&str, i32)]) -> BTreeSet<(String, PartitionId)> {
    of.iter()
        .map(|(table, partition)| ((*table).to_owned(), PartitionId(*partition)))
        .collect()
}

#[test]
fn gauges_of_partitions_that_went_away_are_known_until_they_come_back() {
    let mut gauges = Gauges::default();
    assert!(gauges.gone(partitions(&[("clicks", 0), ("clicks", 1)])).is_empty());
    let gone = [("clicks".to_owned(), PartitionId(1))];
    assert_eq!(gauges.gone(partitions(&[("clicks", 0), ("orders", 1)])), gone);
    // A task that was still ending may have set one again.
    assert_eq!(gauges.gone(partitions(&[("clicks", 0), ("orders", 1)])), gone);
    assert!(
        gauges
            .gone(partitions(&[("clicks", 0), ("clicks", 1), ("orders", 1)]))
            .is_empty()
    );
}
