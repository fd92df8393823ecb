//! Somebody who excludes events, and at times thinks better of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_dataset::MasterDataset;
use anabranch_model::{Coverage, Offset, OffsetRange, PartitionId, RangeSet, topic_partition};

use crate::log::TOPIC;
use crate::scheduler::Micros;
use crate::world::World;

/// Within this time everybody has read what was recorded.
const READ_WITHIN: Micros = 40_000_000;

/// What was excluded, and when.
#[derive(Debug, Default)]
pub struct Exclusions(Vec<Exclusion>);

#[derive(Debug)]
struct Exclusion {
    id: u64,
    partition: PartitionId,
    range: OffsetRange,
    recorded: Micros,
    undone: Option<Micros>,
}

impl Exclusions {
    /// Those of a partition that a condition holds for.
    fn of(&self, partition: PartitionId, when: impl Fn(&Exclusion) -> bool) -> RangeSet {
        let of = self
            .0
            .iter()
            .filter(|known| known.partition == partition && when(known));
        of.map(|known| known.range).collect()
    }

    /// Ids of those that hold.
    fn standing(&self) -> Vec<u64> {
        self.0
            .iter()
            .filter(|known| known.undone.is_none())
            .map(|known| known.id)
            .collect()
    }
}

/// Excludes and includes until the world settles.
pub async fn work(world: Arc<World>) {
    let mut dataset = None;
    loop {
        let wait = world.scheduler.draw(|random| random.within(1_500_000..9_000_000));
        world.scheduler.sleep_micros(wait).await;
        if world.is_settling() {
            return;
        }
        let table = match &dataset {
            Some(table) => table,
            None => match MasterDataset::open_existing(&world.store(), world.source()).await {
                Ok(Some(table)) => dataset.insert(table),
                Ok(None) => continue,
                Err(error) => return world.violation(format!("the table cannot be opened: {error}")),
            },
        };
        if let Err(error) = decide(&world, table).await {
            return world.violation(format!("events cannot be excluded or included: {error}"));
        }
    }
}

async fn decide(world: &World, table: &MasterDataset) -> Result<(), anabranch_dataset::Error> {
    let standing = world.exclusions.lock().standing();
    if !standing.is_empty() && world.scheduler.draw(|random| random.chance(400)) {
        let id = standing[world.scheduler.draw(|random| random.index(standing.len()))];
        table.include(id, "somebody").await?;
        let now = world.scheduler.now();
        let mut exclusions = world.exclusions.lock();
        exclusions
            .0
            .iter_mut()
            .filter(|known| known.id == id)
            .for_each(|known| known.undone = Some(now));
        world.happened("exclusions undone");
        return Ok(());
    }
    let ends = world.log.ends();
    let (partition, range) = world.scheduler.draw(|random| {
        let partition = random.index(ends.len());
        // They may lie ahead of what was landed, or produced.
        let start = random.within(0..ends[partition].unsigned_abs() + 8).cast_signed();
        let end = start + 1 + random.within(0..10).cast_signed();
        (
            PartitionId(partition as i32),
            OffsetRange::new(Offset(start), Offset(end)),
        )
    });
    let recorded = table.exclude(partition, range, "a mistake", "somebody").await?;
    world.exclusions.lock().0.push(Exclusion {
        id: recorded.id,
        partition,
        range,
        recorded: world.scheduler.now(),
        undone: None,
    });
    world.happened("exclusions");
    Ok(())
}

/// Whether coverage says of exclusions and of expired events what is true.
///
/// # Errors
/// What it keeps silent about, or makes up.
pub fn check(world: &World, view: &str, coverage: &Coverage, asked: Micros) -> Result<(), String> {
    let exclusions = world.exclusions.lock();
    for partition in (0..world.log.partitions()).map(|p| PartitionId(p as i32)) {
        let name = topic_partition(TOPIC, partition);
        let said = |ranges: &BTreeMap<String, RangeSet>| ranges.get(&name).cloned().unwrap_or_default();
        let (excluded, still_included) = (said(&coverage.excluded), said(&coverage.still_included));
        let ever = exclusions.of(partition, |_| true);
        if !excluded.union(&still_included).minus(&ever).is_empty() {
            return Err(format!(
                "{view} names exclusions of {name} that nobody asked for: {coverage:?}"
            ));
        }
        let through = coverage.served_through.get(&name).copied().unwrap_or(0);
        let known = exclusions.of(partition, |known| {
            known.recorded + READ_WITHIN < asked && known.undone.is_none()
        });
        let known = known.within(OffsetRange::new(Offset(0), Offset(through)));
        if !known.minus(&excluded).minus(&still_included).is_empty() {
            return Err(format!(
                "{view} keeps silent about exclusions {known:?} of {name}: {coverage:?}"
            ));
        }
        let since = coverage.since.get(&name).copied().unwrap_or(0);
        if let Some(at) = world.log.time_before(partition.0 as usize, since)
            && world
                .kept_for()
                .is_none_or(|kept_for| at + kept_for > world.scheduler.now())
        {
            return Err(format!(
                "{view} says that {name} has expired before {since}, too soon: {coverage:?}"
            ));
        }
    }
    Ok(())
}

/// What keeps coverage from saying that exactly what stands excluded is left out.
pub fn pending(world: &World, coverage: &Coverage) -> Option<String> {
    let exclusions = world.exclusions.lock();
    if !coverage.still_included.is_empty() {
        return Some(format!("{:?} still count", coverage.still_included));
    }
    (0..world.log.partitions()).find_map(|p| {
        let partition = PartitionId(p as i32);
        let name = topic_partition(TOPIC, partition);
        let through = coverage.served_through.get(&name).copied().unwrap_or(0);
        let standing = exclusions.of(partition, |known| known.undone.is_none());
        let standing = standing.within(OffsetRange::new(Offset(0), Offset(through)));
        let said = coverage.excluded.get(&name).cloned().unwrap_or_default();
        (said != standing).then(|| format!("{said:?} of {name} is left out instead of {standing:?}"))
    })
}
