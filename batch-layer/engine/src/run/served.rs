//! What is served of a view at one version: its batch view, merged with realtime state from its cut up to there.

use std::collections::BTreeMap;

use anabranch_compute::{InputError, ViewState};
use anabranch_dataset::{BatchView, Notes, Publication};
use anabranch_model::realtime::{Owner, Piece, SnapshotReply, SnapshotRequest, StateTicket, ViewCut};
use anabranch_model::{Offset, OffsetRange, OffsetVector, PartitionId, topic_partition};
use anabranch_realtime::{Directory, Worker};
use anabranch_view::View;
use arrow::array::RecordBatch;
use futures::future::join_all;
use futures::{StreamExt, stream};

use super::Workshop;
use super::input::{SourceInput, fold, stored};
use crate::Error;
use crate::runs::record::LiveRun;

/// Batches of realtime state that are read ahead.
const STATE_BATCHES: usize = 4;

/// What is served of one view.
pub(crate) enum Served {
    /// Its state, and why some partitions' landed rows stand in for their realtime state.
    State {
        /// Its base is read when it is, which may wait: not on an async thread.
        state: Box<ViewState>,
        not_compared: BTreeMap<String, String>,
    },
    /// There is nothing to compare with.
    Nothing {
        why: String,
        not_compared: BTreeMap<String, String>,
    },
}

/// What is served of `view` at the version of `source`.
///
/// # Errors
/// When batch views or landed rows cannot be read. Workers that are away are no error.
pub(crate) async fn served(
    workshop: &Workshop,
    run: &LiveRun,
    view: &View,
    publication: Option<&Publication>,
    source: &SourceInput,
) -> Result<Served, Error> {
    let batch = publication.and_then(|publication| batch_view(publication, view));
    let cut = batch.map(|(_, cut)| cut.clone()).unwrap_or_default();
    let wanted = wanted(&cut, &source.starts, &source.cut.next);
    let mut missing: BTreeMap<PartitionId, String> = BTreeMap::new();
    let (mut reads, mut workers) = (Vec::new(), BTreeMap::new());
    if !wanted.is_empty() {
        let asked = ask(&workshop.directory, view, &cut, &source.cut.next).await?;
        let chosen = choose(&wanted, &asked.owners, &asked.replies, view.name(), &source.notes);
        (reads, missing, workers) = (chosen.reads, chosen.missing, asked.workers);
    }
    loop {
        let not_compared: BTreeMap<String, String> = missing
            .iter()
            .map(|(partition, why)| (topic_partition(&view.source().topic, *partition), why.clone()))
            .collect();
        if batch.is_none() && !missing.is_empty() {
            // Its landed rows are all of history: folding them once more would compare the run with itself.
            return Ok(Served::Nothing {
                why: "no batch view of it is published, and not all of its realtime state could be asked for".into(),
                not_compared,
            });
        }
        let mut states = Vec::new();
        if !missing.is_empty() {
            let end = |partition: &PartitionId| Some((*partition, source.cut.next.get(*partition)?));
            let to: OffsetVector = missing.keys().filter_map(end).collect();
            let landed = fold(workshop, run, vec![view.clone()], source.rows(Some(&cut), Some(&to))).await?;
            for state in landed {
                states.push(
                    stream::iter(state.states()?)
                        .map(|state| {
                            state.map_err(|error| {
                                (
                                    None,
                                    InputError {
                                        kind: error.kind(),
                                        source: error.into(),
                                    },
                                )
                            })
                        })
                        .boxed(),
                );
            }
        }
        states.extend(reads.iter().filter_map(|read: &Read| {
            let worker: Worker = workers.get(&read.worker).cloned()?;
            Some(realtime(worker, view.name(), read.clone()))
        }));
        let (merged, lost) = merge(workshop, run, view, states).await?;
        match (merged, lost) {
            (Ok(state), _) => {
                let state = match batch {
                    Some((written, _)) => {
                        state.with_base(stored(&workshop.site.store, view, written).await, written.rows)
                    }
                    None => state,
                };
                return Ok(Served::State {
                    state: Box::new(state),
                    not_compared,
                });
            }
            // A worker that is lost on the way is one that was away from the beginning.
            (Err(error), Some(worker)) => {
                reads.retain(|read| {
                    if read.worker == worker {
                        missing.extend(read.partitions.iter().map(|partition| (*partition, error.to_string())));
                    }
                    read.worker != worker
                });
            }
            (Err(error), None) => return Err(error.into()),
        }
    }
}

/// A view's batch view and cut in a publication, if it is there as it is defined now.
fn batch_view<'p>(publication: &'p Publication, view: &View) -> Option<(&'p BatchView, &'p OffsetVector)> {
    let manifest = &publication.manifest;
    let written = manifest
        .views
        .get(view.name())
        .filter(|written| written.hash == *view.hash())?;
    Some((written, &manifest.cuts.get(&written.source)?.next))
}

/// The range of each partition that realtime state must cover; partitions of which nothing is wanted are left out.
fn wanted(cut: &OffsetVector, starts: &OffsetVector, until: &OffsetVector) -> BTreeMap<PartitionId, OffsetRange> {
    let range = |(partition, end): (PartitionId, Offset)| {
        let start = cut.get(partition).or_else(|| starts.get(partition)).unwrap_or(end);
        (start < end).then(|| (partition, OffsetRange::new(start, end)))
    };
    until.iter().filter_map(range).collect()
}

/// What the speed workers answered.
struct Asked {
    owners: BTreeMap<PartitionId, Owner>,
    replies: Vec<SnapshotReply>,
    workers: BTreeMap<String, Worker>,
}

async fn ask(directory: &Directory, view: &View, cut: &OffsetVector, until: &OffsetVector) -> Result<Asked, Error> {
    directory.refresh().await?;
    let services = directory.services();
    let request = SnapshotRequest {
        views: vec![ViewCut {
            view: view.name().to_owned(),
            hash: view.hash().clone(),
            cut: cut.clone(),
            until: Some(until.clone()),
        }],
    };
    let asked = services.speed.iter().map(async |worker| {
        let connection = directory.worker(worker)?;
        Ok::<_, anabranch_realtime::Error>((connection.snapshot(&request).await?, connection))
    });
    let (mut replies, mut workers) = (Vec::new(), BTreeMap::new());
    for answer in join_all(asked).await {
        match answer {
            Ok((reply, worker)) => {
                workers.insert(reply.worker.clone(), worker);
                replies.push(reply);
            }
            Err(error) => tracing::info!(%error, "a speed worker cannot be asked for what it serves"),
        }
    }
    Ok(Asked {
        owners: services.owners(&view.source().name),
        replies,
        workers,
    })
}

/// Realtime state to read from one worker's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    worker: String,
    snapshot: u64,
    partitions: Vec<PartitionId>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Chosen {
    reads: Vec<Read>,
    missing: BTreeMap<PartitionId, String>,
}

/// Decides which pieces are the realtime state of exactly the ranges wanted: each from its highest epoch only, and folded under
/// the exclusions of `notes` and without what has expired by them. Workers follow exclusions a moment later than runs do, and
/// what expires while a run goes on is missing in state that is rebuilt meanwhile.
fn choose(
    wanted: &BTreeMap<PartitionId, OffsetRange>,
    owners: &BTreeMap<PartitionId, Owner>,
    replies: &[SnapshotReply],
    view: &str,
    notes: &Notes,
) -> Chosen {
    let mut chosen = Chosen::default();
    let mut reads: BTreeMap<usize, Vec<PartitionId>> = BTreeMap::new();
    for (partition, range) in wanted {
        let offers = replies.iter().enumerate().filter_map(|(index, reply)| {
            let piece = reply.views.get(view)?.partitions.get(partition)?;
            Some((index, piece))
        });
        let best = offers.max_by_key(|(_, piece)| piece.epoch());
        let why = match (best, owners.get(partition)) {
            (None, None) => "no speed worker owns it".to_owned(),
            (None, Some(owner)) => format!("its owner {} does not answer, or does not hold the view", owner.worker),
            (Some((_, piece)), Some(owner)) if piece.epoch() < owner.epoch => {
                format!("its owner {} does not answer", owner.worker)
            }
            (Some((index, piece)), _) => match piece {
                Piece::Ready { range: held, .. } if held == range => {
                    let pieces = &replies[index].views[view];
                    let excluded = pieces.excluded.get(partition).cloned().unwrap_or_default();
                    let expired = notes.since.get(*partition).filter(|since| range.start < *since);
                    if excluded != notes.excluded_of(*partition).within(*range) {
                        "its state was folded under other exclusions".to_owned()
                    } else if pieces.since.get(*partition) != expired {
                        "its state was folded when other events had expired".to_owned()
                    } else {
                        reads.entry(index).or_default().push(*partition);
                        continue;
                    }
                }
                Piece::Ready { range: held, .. } => format!("{held} is held instead of {range}"),
                Piece::Rebuilding { through, .. } => format!("it is being rebuilt, and is at {through}"),
                Piece::CutTooOld { held_from, .. } => format!("it is held from {held_from} on only"),
                Piece::CutAhead { through, .. } => format!("its owner has consumed it up to {through} only"),
                Piece::NoBoundary { .. } => "state was merged across the cut or the version".to_owned(),
            },
        };
        chosen.missing.insert(*partition, why);
    }
    chosen.reads = reads
        .into_iter()
        .map(|(reply, partitions)| Read {
            worker: replies[reply].worker.clone(),
            snapshot: replies[reply].id,
            partitions,
        })
        .collect();
    chosen
}

/// A batch of state, or why it is not there and which worker is lost with it.
type Delivered = Result<RecordBatch, (Option<String>, InputError)>;

/// One worker's part of a view, batch by batch.
fn realtime(worker: Worker, view: &str, read: Read) -> stream::BoxStream<'static, Delivered> {
    let ticket = StateTicket {
        snapshot: read.snapshot,
        view: view.to_owned(),
        partitions: read.partitions,
        filter: None,
    };
    let lost = {
        let name = read.worker;
        move |error: anabranch_realtime::Error| {
            (
                Some(name.clone()),
                InputError {
                    kind: error.kind(),
                    source: error.into(),
                },
            )
        }
    };
    stream::once(async move { worker.state_stream(&ticket).await })
        .map(move |opened| match opened {
            Ok(states) => {
                let lost = lost.clone();
                states.map(move |state| state.map_err(&lost)).boxed()
            }
            Err(error) => stream::iter([Err(lost(error))]).boxed(),
        })
        .flatten()
        .boxed()
}

/// Merges state within the memory budget; says which worker was lost if one was.
async fn merge(
    workshop: &Workshop,
    run: &LiveRun,
    view: &View,
    states: Vec<stream::BoxStream<'static, Delivered>>,
) -> Result<(Result<ViewState, anabranch_compute::Error>, Option<String>), Error> {
    let environment = workshop.site.environment();
    let states = environment.drain(STATE_BATCHES, stream::iter(states).flatten()).await;
    let (kernel, control, view) = (workshop.kernel.clone(), run.control.clone(), view.clone());
    let merge = move || {
        let mut lost = None;
        let states = states.map(|state| {
            state.map_err(|(worker, error)| {
                lost = worker;
                error
            })
        });
        let merged = kernel.merge(&view, states, &control);
        (merged, lost)
    };
    environment
        .offload(merge)
        .await
        .map_err(|error| Error::Task(format!("merging realtime state: {error}")))
}

#[cfg(test)]
mod tests;
