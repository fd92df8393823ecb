//! The end of a run: faults stop, everything comes to rest, and what is left is compared with the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::{MasterDataset, Publications, RunState, Runs, Snapshot, StateFiles, read_columns};
use anabranch_model::{PartitionId, columns};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type, Schema};
use futures::TryStreamExt;

use crate::log::TOPIC;
use crate::oracle::{self, Part, Record};
use crate::scheduler::Micros;
use crate::world::World;
use crate::{definitions, editor, operator};

/// How long everything may take to come to rest.
const REST: Micros = 150_000_000;
const LOOK_EVERY: Micros = 400_000;

/// Waits for rest, and judges.
pub async fn reach(world: Arc<World>) {
    let wrong = judge(&world).await;
    match wrong {
        Ok(()) => world.finish(),
        Err(wrong) => world.violation(wrong),
    }
}

async fn judge(world: &World) -> Result<(), String> {
    loop {
        let (before, _) = editor::newest(world)?;
        realtime(world).await?;
        let snapshot = landed(world).await?;
        exactly_once(world, &snapshot).await?;
        recomputed(world).await?;
        realtime(world).await?;
        runs(world).await?;
        publications(world).await?;
        // A service that started late may have applied what it read.
        if editor::newest(world)?.0 == before {
            return Ok(());
        }
    }
}

/// What may keep a piece of work from being done, by what it says: the store, a process that died, or another that was
/// first. Anything else is a defect.
pub fn is_passing(error: &str) -> bool {
    [
        // Every error of the simulated store names it.
        "Generic simulated error",
        "the process that ran it ended before it was finished",
        "another batch service has taken over",
        "is there already",
        "other writers were always first",
    ]
    .iter()
    .any(|passing| error.contains(passing))
}

/// Every run that failed had a reason to, and none differs from what was served before it.
async fn runs(world: &World) -> Result<(), String> {
    let runs = Runs::new(&world.store());
    let records = runs.list(usize::MAX).await.map_err(|error| error.to_string())?;
    for record in records {
        world.checked("batch runs");
        if record.state == RunState::Failed {
            world.happened("batch runs that failed");
            let error = record.error.unwrap_or_default();
            if !is_passing(&error) {
                return Err(format!("run {} failed: {error}", record.run_id));
            }
        }
        // Exclusions or retention have changed in between.
        let Some(diff) = record.diff.filter(|diff| diff.expected.is_none()) else {
            continue;
        };
        for (view, diff) in diff.views {
            if diff.differs() {
                return Err(format!(
                    "run {} differs from what was served of {view}: {diff:?}",
                    record.run_id
                ));
            }
            if diff.skipped.is_none() && diff.not_compared.is_empty() {
                world.checked("batch views compared with what was served");
            }
        }
    }
    Ok(())
}

/// Waits until every serving process answers exactly, up to the end of the log.
async fn realtime(world: &World) -> Result<(), String> {
    let ends = world.log.ends();
    let deadline = world.scheduler.now() + REST;
    loop {
        let servings: Vec<_> = {
            let servings = world.servings.lock();
            servings
                .iter()
                .map(|(slot, serving)| (*slot, serving.clone()))
                .collect()
        };
        let mut behind = servings.is_empty().then(|| "no serving process is alive".to_owned());
        for (slot, serving) in servings {
            let asked = world.scheduler.now();
            match serving.answer(false, Duration::from_secs(1)).await {
                Ok(answer) => {
                    world.check(&answer, slot, asked);
                    if let Some(pending) = editor::pending(world, &answer.versions)? {
                        behind = Some(pending);
                    }
                    for (view, coverage) in &answer.coverage {
                        let reached = ends.iter().enumerate().all(|(partition, end)| {
                            coverage
                                .served_through
                                .get(&format!("{TOPIC}/{partition}"))
                                .copied()
                                .unwrap_or(0)
                                == *end
                        });
                        if !coverage.exact || !reached {
                            behind = Some(format!("{view}: {coverage:?}, the log ends at {ends:?}"));
                        } else if let Some(pending) = operator::pending(world, coverage) {
                            behind = Some(format!("{view}: {pending}"));
                        }
                    }
                }
                Err(error) => behind = Some(error.to_string()),
            }
        }
        match behind {
            None => return Ok(()),
            Some(behind) if world.scheduler.now() > deadline => {
                return Err(format!(
                    "without faults, answers do not become exact and complete: {behind}"
                ));
            }
            Some(_) => world.scheduler.sleep_micros(LOOK_EVERY).await,
        }
    }
}

/// Waits until everything is landed.
async fn landed(world: &World) -> Result<Snapshot, String> {
    let ends = world.log.ends();
    let deadline = world.scheduler.now() + REST;
    // Opening it costs much more than looking whether there is more.
    let mut opened = None;
    loop {
        if opened.is_none() {
            let dataset = MasterDataset::open_existing(&world.store(), world.source()).await;
            opened = dataset.map_err(|error| error.to_string())?;
        }
        let behind = match &opened {
            None => "there is no master dataset".to_owned(),
            Some(dataset) => {
                let snapshot = dataset.snapshot(None).await.map_err(|error| error.to_string())?;
                let reached = ends.iter().enumerate().all(|(p, end)| {
                    snapshot
                        .next
                        .get(PartitionId(p as i32))
                        .is_some_and(|next| next.0 == *end)
                });
                if reached {
                    return Ok(snapshot);
                }
                format!("landed up to {:?}, the log ends at {ends:?}", snapshot.next)
            }
        };
        if world.scheduler.now() > deadline {
            return Err(format!("without faults, not everything is landed: {behind}"));
        }
        world.scheduler.sleep_micros(LOOK_EVERY).await;
    }
}

/// Every record of the log is in the master dataset once: events among the events, others among the dead letters.
async fn exactly_once(world: &World, snapshot: &Snapshot) -> Result<(), String> {
    let events = world.source().event_schema();
    let place = |name: &str| events.field_with_name(name).expect("every event has a place").clone();
    let wanted = Arc::new(Schema::new(vec![place(columns::PARTITION), place(columns::OFFSET)]));
    let mut found: BTreeMap<(i32, i64, bool), usize> = BTreeMap::new();
    for file in &snapshot.files {
        let batches: Vec<_> = read_columns(&world.store(), file, &wanted)
            .try_collect()
            .await
            .map_err(|error| format!("a landed file cannot be read: {error}"))?;
        for batch in batches {
            let partitions = batch.column(0).as_primitive::<Int32Type>();
            let offsets = batch.column(1).as_primitive::<Int64Type>();
            for (partition, offset) in partitions.values().iter().zip(offsets.values()) {
                *found.entry((*partition, *offset, file.dead)).or_default() += 1;
            }
        }
    }
    let mut wanted: BTreeMap<(i32, i64, bool), usize> = BTreeMap::new();
    world.log.read_all(|log| {
        for (partition, records) in log.iter().enumerate() {
            for (offset, record) in records.iter().enumerate() {
                let dead = match record {
                    Record::Event(_) => false,
                    Record::Malformed => true,
                    Record::Marker => continue,
                };
                let place = (partition as i32, offset as i64, dead);
                let since = snapshot.notes.since.get(PartitionId(partition as i32));
                // What has expired may still lie in a file with what has not.
                if since.is_none_or(|since| since.0 <= offset as i64) || found.contains_key(&place) {
                    wanted.insert(place, 1);
                }
            }
        }
    });
    world
        .server
        .counts
        .lock()
        .checked("landed records", wanted.len() as u64);
    if found == wanted {
        return Ok(());
    }
    let lost: Vec<_> = wanted
        .keys()
        .filter(|place| !found.contains_key(place))
        .take(5)
        .collect();
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count > 1).take(5).collect();
    let strange: Vec<_> = found
        .keys()
        .filter(|place| !wanted.contains_key(place))
        .take(5)
        .collect();
    Err(format!(
        "the master dataset does not hold each record once (partition, offset, dead): lost {lost:?}, more than once \
         {twice:?}, unknown {strange:?}"
    ))
}

/// Waits until a batch run over everything is published.
async fn recomputed(world: &World) -> Result<(), String> {
    let ends = world.log.ends();
    let deadline = world.scheduler.now() + REST;
    let publications = Publications::new(&world.store());
    loop {
        let latest = publications.latest().await.map_err(|error| error.to_string())?;
        let cut = latest
            .as_ref()
            .and_then(|publication| publication.manifest.cuts.get("clicks"));
        let covers = cut.is_some_and(|cut| {
            ends.iter()
                .enumerate()
                .all(|(p, end)| cut.next.get(PartitionId(p as i32)).is_some_and(|next| next.0 == *end))
        });
        let views = latest.iter().flat_map(|latest| &latest.manifest.views);
        let versions = views.map(|(name, view)| (name.clone(), view.hash.clone())).collect();
        let pending = editor::pending(world, &versions)?;
        if covers && pending.is_none() {
            return Ok(());
        }
        if world.scheduler.now() > deadline {
            return Err(format!(
                "without faults, no batch run over everything is published; the latest cut is {cut:?}; {pending:?}"
            ));
        }
        let batches: Vec<_> = world.batches.lock().values().cloned().collect();
        for batch in batches {
            if !batch.is_busy().await {
                // The next round tries again.
                let _ = batch.request().await;
            }
        }
        world.scheduler.sleep_micros(LOOK_EVERY * 4).await;
    }
}

/// Every publication that keeps its state files holds what the log says at its cut.
async fn publications(world: &World) -> Result<(), String> {
    let store = world.store();
    let publications = Publications::new(&store);
    let fail = |error: &dyn std::fmt::Display| format!("a publication cannot be read: {error}");
    let numbers = publications.list().await.map_err(|error| fail(&error))?;
    let keep = world.settings.maintenance.keep_publications;
    for (place, number) in numbers.iter().copied().enumerate() {
        let may_be_gone = place + keep < numbers.len();
        let publication = publications
            .get(number)
            .await
            .map_err(|error| fail(&error))?
            .ok_or_else(|| format!("publication {number} is listed and not there"))?;
        for (name, batch) in &publication.manifest.views {
            let Some(definitions::Version { view, fold }) = definitions::version(name, &batch.hash) else {
                return Err(format!("publication {number} holds {name}, which nobody has declared"));
            };
            let cut = &publication.manifest.cuts[&batch.source];
            let states = match StateFiles::read(&store, batch, &view.state_schema()).await {
                Ok(states) => states,
                Err(_) if may_be_gone => continue,
                Err(error) => return Err(fail(&error)),
            };
            let mut rows = Vec::new();
            if states.is_empty() {
                let mut nothing = view.aggregator().map_err(|error| fail(&error))?;
                let nothing = nothing.emit().map_err(|error| fail(&error))?;
                rows.push(view.finalise(&nothing).map_err(|error| fail(&error))?);
            }
            for state in states {
                rows.push(view.finalise(&state).map_err(|error| fail(&error))?);
            }
            let notes = publication
                .manifest
                .notes
                .get(&batch.source)
                .cloned()
                .unwrap_or_default();
            let part = |partition: usize| {
                let partition = PartitionId(partition as i32);
                Part {
                    since: notes.since.get(partition).map_or(0, |since| since.0),
                    through: cut.next.get(partition).map_or(0, |next| next.0),
                    excluded: notes.excluded_of(partition),
                }
            };
            let wanted = world.log.read_all(|log| oracle::expected(*fold, log, part));
            let got = oracle::answered(&rows);
            if got != wanted {
                return Err(format!(
                    "publication {number} holds {got:?} of {name} where the log says {wanted:?}; cut {cut:?}"
                ));
            }
        }
        if !may_be_gone {
            world.checked("publications");
        }
    }
    Ok(())
}
