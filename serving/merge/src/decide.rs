use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anabranch_model::realtime::{Owner, Piece, SnapshotReply};
use anabranch_model::{
    Coverage, Cut, Offset, OffsetRange, OffsetVector, PartitionId, RangeSet, TopicOffsets, TopicRanges, topic_partition,
};

use crate::Error;

/// Everything known about one view when an answer is planned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewFacts {
    pub view: String,
    /// Name of the view's source. Views of one source share their prefix of the log.
    pub source: String,
    /// Topic of the source, as coverage spells it.
    pub topic: String,
    /// The publication that holds a batch view of this definition, if one does.
    pub publication: Option<u64>,
    /// Cut of that batch view; the empty cut when there is none.
    pub cut: Cut,
    /// How many partitions the source has, as live workers say. `None`: nobody says, so there may be more than are seen.
    pub partitions_total: Option<i32>,
    /// Where partitions begin, as far as recorded. A partition without a cut must be held from here.
    pub starts: OffsetVector,
    /// Owners of the highest epoch, as live leases say.
    pub owners: BTreeMap<PartitionId, Owner>,
    /// Workers that were asked for a snapshot and did not answer.
    pub silent: BTreeSet<String>,
    /// What the batch view leaves out, by the notes that its run applied.
    pub batch_notes: Noted,
    /// What the source's table says by now.
    pub notes: Noted,
}

/// What of a source's events is excluded, lost or expired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    pub excluded: BTreeMap<PartitionId, RangeSet>,
    pub gaps: BTreeMap<PartitionId, RangeSet>,
    /// Events before these offsets have expired.
    pub since: OffsetVector,
}

/// Whether asking again is still an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// What asking again may cure is a [`Decision::Retry`].
    Retry,
    /// Last attempt: what asking again might have cured is missing.
    Settle,
}

/// What to do with the pieces that were offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Read this; it makes one consistent answer.
    Read(Plan),
    /// The facts are about to change: gather them again.
    Retry(RetryReason),
}

/// Why asking again makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// A newer publication has replaced the one that was asked with: reload it first.
    CutTooOld { partition: String, worker: String },
    /// The worker is still behind the cut.
    CutAhead { partition: String, worker: String },
    /// Two workers claim the same epoch of a partition.
    TwoOwners { partition: String, workers: [String; 2] },
    /// The lease's owner answered, but no longer (or not yet) holds the partition.
    Rebalancing { partition: String, worker: String },
}

impl fmt::Display for RetryReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutTooOld { partition, worker } => {
                write!(
                    f,
                    "worker {worker} has replaced its state of {partition}: a newer publication is out"
                )
            }
            Self::CutAhead { partition, worker } => {
                write!(f, "worker {worker} has not consumed {partition} up to the cut yet")
            }
            Self::TwoOwners {
                partition,
                workers: [a, b],
            } => write!(f, "workers {a} and {b} both claim {partition}"),
            Self::Rebalancing { partition, worker } => write!(f, "{partition} is moving away from worker {worker}"),
        }
    }
}

/// What to read for a consistent answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of the facts.
    pub views: Vec<ViewPlan>,
}

/// One view's part of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewPlan {
    pub view: String,
    pub coverage: Coverage,
    /// Why each entry of `coverage.missing` is missing.
    pub missing: BTreeMap<String, Missing>,
    /// Realtime state to read. Pieces that hold nothing are left out.
    pub reads: Vec<Read>,
}

/// Realtime state to read from one worker's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub worker: String,
    pub snapshot: u64,
    pub partitions: Vec<PartitionId>,
}

/// Why a partition's realtime part is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No live worker says how many partitions there are.
    NobodyServes,
    /// No live worker owns it.
    NoOwner,
    /// Its owner does not answer.
    Silent { worker: String },
    /// Its owner runs another definition of the view.
    OtherDefinition { worker: String },
    /// Its owner is still folding landed rows, and is at `through`.
    Rebuilding { worker: String, through: Offset },
    /// Asking again did not help.
    Unsettled(RetryReason),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyServes => f.write_str("no speed worker is alive"),
            Self::NoOwner => f.write_str("no speed worker owns it"),
            Self::Silent { worker } => write!(f, "its owner {worker} does not answer"),
            Self::OtherDefinition { worker } => write!(f, "its owner {worker} runs another definition of the view"),
            Self::Rebuilding { worker, through } => {
                write!(f, "its owner {worker} is rebuilding it and is at {through}")
            }
            Self::Unsettled(reason) => reason.fmt(f),
        }
    }
}

/// Decides, for all views of one request, which pieces make one consistent answer.
///
/// # Errors
/// When a piece of the highest epoch does not begin where the batch view ends, or one snapshot has two prefixes.
pub fn decide(facts: &[ViewFacts], replies: &[SnapshotReply], patience: Patience) -> Result<Decision, Error> {
    let mut plan = Plan::default();
    let mut retry: Option<RetryReason> = None;
    // (source, partition) → the view that fixed its prefix, and that prefix.
    let mut prefixes: BTreeMap<(&str, PartitionId), (&str, Offset)> = BTreeMap::new();
    let holders = holders(facts, replies);
    for view in facts {
        let (view_plan, reason) = decide_view(view, replies, &holders, patience, &mut prefixes)?;
        plan.views.push(view_plan);
        // Reloading the publication comes first: it changes what the others are about.
        retry = match (retry, reason) {
            (Some(known @ RetryReason::CutTooOld { .. }), _) => Some(known),
            (_, Some(new @ RetryReason::CutTooOld { .. })) => Some(new),
            (known, new) => known.or(new),
        };
    }
    Ok(match retry {
        Some(reason) if patience == Patience::Retry => Decision::Retry(reason),
        _ => Decision::Read(plan),
    })
}

/// The worker that holds a partition under the highest epoch known, by lease or by what it offers of any view.
#[derive(Clone, Copy)]
struct Holder<'f> {
    worker: &'f str,
    epoch: i64,
}

/// (source, partition) → its holder.
type Holders<'f> = BTreeMap<(&'f str, PartitionId), Holder<'f>>;

/// Who holds each partition. All views of a source are looked at together: a former owner, whose lease may still be the
/// only one that is known, must not stand in for one view at its own prefix where the new owner already offers another.
fn holders<'f>(facts: &'f [ViewFacts], replies: &'f [SnapshotReply]) -> Holders<'f> {
    let mut holders = Holders::new();
    for facts in facts {
        let leased = facts.owners.iter().map(|(&partition, owner)| {
            let (worker, epoch) = (owner.worker.as_str(), owner.epoch);
            (partition, Holder { worker, epoch })
        });
        let offered = replies.iter().flat_map(|reply| {
            let pieces = reply
                .views
                .get(&facts.view)
                .into_iter()
                .flat_map(|pieces| &pieces.partitions);
            pieces.map(|(&partition, piece)| {
                let (worker, epoch) = (reply.worker.as_str(), piece.epoch());
                (partition, Holder { worker, epoch })
            })
        });
        for (partition, holder) in leased.chain(offered) {
            let known = holders.entry((facts.source.as_str(), partition)).or_insert(holder);
            if holder.epoch > known.epoch {
                *known = holder;
            }
        }
    }
    holders
}

/// What became of one partition.
enum Verdict {
    /// Read `[start, end)` from the reply at this index.
    Use {
        reply: usize,
        end: Offset,
        empty: bool,
    },
    Missing(Missing),
    Retry(RetryReason),
}

fn decide_view<'f>(
    facts: &'f ViewFacts,
    replies: &[SnapshotReply],
    holders: &Holders,
    patience: Patience,
    prefixes: &mut BTreeMap<(&'f str, PartitionId), (&'f str, Offset)>,
) -> Result<(ViewPlan, Option<RetryReason>), Error> {
    let mut coverage = Coverage {
        publication: facts.publication,
        batch_version: facts.cut.version,
        batch_cut: spell(&facts.topic, &facts.cut.next),
        ..Coverage::default()
    };
    let mut missing = BTreeMap::new();
    let mut reads: BTreeMap<usize, Vec<PartitionId>> = BTreeMap::new();
    let mut retry = None;

    for partition in known_partitions(facts, replies) {
        let name = topic_partition(&facts.topic, partition);
        // The batch part is served in any case.
        if let Some(cut) = facts.cut.next.get(partition) {
            coverage.served_through.insert(name.clone(), cut.0);
        }
        let holder = holders.get(&(facts.source.as_str(), partition)).copied();
        let verdict = judge(facts, replies, holder, partition, &name)?;
        let realtime = match &verdict {
            Verdict::Use { reply, .. } => Some(&replies[*reply]),
            Verdict::Missing(_) | Verdict::Retry(_) => None,
        };
        let end = match &verdict {
            Verdict::Use { end, .. } => Some(*end),
            Verdict::Missing(_) | Verdict::Retry(_) => facts.cut.next.get(partition),
        };
        if let Some(end) = end {
            left_out(&mut coverage, facts, realtime, partition, end);
        }
        let why = match verdict {
            Verdict::Use { reply, end, empty } => {
                let worker = &replies[reply].worker;
                match prefixes.get(&(facts.source.as_str(), partition)) {
                    Some(&(other_view, other_end)) if other_end != end => {
                        return Err(Error::TwoPrefixes {
                            worker: worker.clone(),
                            partition: name,
                            view: facts.view.clone(),
                            end,
                            other_view: other_view.to_owned(),
                            other_end,
                        });
                    }
                    _ => prefixes.insert((&facts.source, partition), (&facts.view, end)),
                };
                coverage.served_through.insert(name, end.0);
                if !empty {
                    reads.entry(reply).or_default().push(partition);
                }
                continue;
            }
            Verdict::Missing(why) => why,
            Verdict::Retry(reason) => {
                if patience == Patience::Retry {
                    retry = match (retry, reason.clone()) {
                        (_, new @ RetryReason::CutTooOld { .. }) => Some(new),
                        (known, new) => known.or(Some(new)),
                    };
                }
                Missing::Unsettled(reason)
            }
        };
        missing.insert(name, why);
    }
    if facts.partitions_total.is_none() && missing.is_empty() {
        missing.insert(format!("{}/*", facts.topic), Missing::NobodyServes);
    }
    coverage.missing = missing.keys().cloned().collect();
    coverage.exact = coverage.missing.is_empty();
    let reads = reads
        .into_iter()
        .map(|(reply, partitions)| Read {
            worker: replies[reply].worker.clone(),
            snapshot: replies[reply].id,
            partitions,
        })
        .collect();
    Ok((
        ViewPlan {
            view: facts.view.clone(),
            coverage,
            missing,
            reads,
        },
        retry,
    ))
}

/// Notes in `coverage` what the answer leaves out of `partition` before `end`: of the batch part what its run left out, of
/// the realtime part what its worker says.
fn left_out(
    coverage: &mut Coverage,
    facts: &ViewFacts,
    realtime: Option<&SnapshotReply>,
    partition: PartitionId,
    end: Offset,
) {
    let before = |offset: Offset| OffsetRange {
        start: Offset(i64::MIN),
        end: offset,
    };
    let of = |ranges: &BTreeMap<PartitionId, RangeSet>, end: Offset| {
        ranges
            .get(&partition)
            .map(|ranges| ranges.within(before(end)))
            .unwrap_or_default()
    };
    let pieces = realtime.and_then(|reply| reply.views.get(&facts.view));
    let mut excluded = pieces.map(|pieces| of(&pieces.excluded, end)).unwrap_or_default();
    let mut since = pieces.and_then(|pieces| pieces.since.get(partition));
    if let Some(cut) = facts.cut.next.get(partition) {
        excluded = excluded.union(&of(&facts.batch_notes.excluded, cut));
        since = since.max(facts.batch_notes.since.get(partition));
    }
    let still_included = of(&facts.notes.excluded, end).minus(&excluded);
    let name = topic_partition(&facts.topic, partition);
    if let Some(since) = since {
        coverage.since.insert(name.clone(), since.0);
    }
    let list = |listed: &mut TopicRanges, ranges: RangeSet| {
        if !ranges.is_empty() {
            listed.insert(name.clone(), ranges);
        }
    };
    list(&mut coverage.gaps, of(&facts.notes.gaps, end));
    list(&mut coverage.still_included, still_included);
    list(&mut coverage.excluded, excluded);
}

/// Every partition that anybody knows of.
fn known_partitions(facts: &ViewFacts, replies: &[SnapshotReply]) -> BTreeSet<PartitionId> {
    let mut known: BTreeSet<_> = facts.cut.next.partitions().chain(facts.starts.partitions()).collect();
    known.extend(facts.owners.keys());
    known.extend((0..facts.partitions_total.unwrap_or(0)).map(PartitionId));
    for reply in replies {
        known.extend(
            reply
                .views
                .get(&facts.view)
                .into_iter()
                .flat_map(|pieces| pieces.partitions.keys()),
        );
    }
    known
}

fn judge(
    facts: &ViewFacts,
    replies: &[SnapshotReply],
    holder: Option<Holder>,
    partition: PartitionId,
    name: &str,
) -> Result<Verdict, Error> {
    let offers = || {
        replies
            .iter()
            .enumerate()
            .filter_map(|(index, reply)| Some((index, reply.views.get(&facts.view)?.partitions.get(&partition)?)))
    };
    let Some(holder) = holder else {
        return Ok(Verdict::Missing(Missing::NoOwner));
    };
    let mut highest = offers().filter(|(_, piece)| piece.epoch() == holder.epoch);
    let Some((index, piece)) = highest.next() else {
        return Ok(unoffered(facts, replies, holder, name));
    };
    let worker = replies[index].worker.clone();
    if let Some((second, _)) = highest.next() {
        let workers = [worker, replies[second].worker.clone()];
        return Ok(Verdict::Retry(RetryReason::TwoOwners {
            partition: name.to_owned(),
            workers,
        }));
    }
    let partition_name = name.to_owned();
    Ok(match *piece {
        Piece::Rebuilding { through, .. } => Verdict::Missing(Missing::Rebuilding { worker, through }),
        Piece::CutTooOld { .. } => Verdict::Retry(RetryReason::CutTooOld {
            partition: partition_name,
            worker,
        }),
        Piece::CutAhead { .. } => Verdict::Retry(RetryReason::CutAhead {
            partition: partition_name,
            worker,
        }),
        // This request never names an end, so the worker answers another question than was asked.
        Piece::NoBoundary { .. } => {
            return Err(Error::NotAsked {
                view: facts.view.clone(),
                partition: partition_name,
                worker,
            });
        }
        Piece::Ready { range, .. } => {
            let view = facts.view.clone();
            if range.end < range.start {
                let (start, end) = (range.start, range.end);
                return Err(Error::Backwards {
                    view,
                    partition: partition_name,
                    worker,
                    start,
                    end,
                });
            }
            // Where nothing is recorded yet, the owner's own start is the partition's.
            let expected = facts
                .cut
                .next
                .get(partition)
                .or_else(|| facts.starts.get(partition))
                .unwrap_or(range.start);
            match range.start.cmp(&expected) {
                std::cmp::Ordering::Greater => {
                    return Err(Error::Gap {
                        view,
                        partition: partition_name,
                        worker,
                        cut: expected,
                        start: range.start,
                    });
                }
                std::cmp::Ordering::Less => {
                    return Err(Error::Overlap {
                        view,
                        partition: partition_name,
                        worker,
                        cut: expected,
                        start: range.start,
                    });
                }
                std::cmp::Ordering::Equal => Verdict::Use {
                    reply: index,
                    end: range.end,
                    empty: range.is_empty(),
                },
            }
        }
    })
}

/// The partition is held under a higher epoch than the view is offered: nobody else may stand in for its holder.
fn unoffered(facts: &ViewFacts, replies: &[SnapshotReply], holder: Holder, name: &str) -> Verdict {
    let worker = holder.worker.to_owned();
    if facts.silent.contains(&worker) {
        return Verdict::Missing(Missing::Silent { worker });
    }
    match replies.iter().find(|reply| reply.worker == worker) {
        Some(reply) if !reply.views.contains_key(&facts.view) => Verdict::Missing(Missing::OtherDefinition { worker }),
        _ => Verdict::Retry(RetryReason::Rebalancing {
            partition: name.to_owned(),
            worker,
        }),
    }
}

fn spell(topic: &str, offsets: &OffsetVector) -> TopicOffsets {
    offsets
        .iter()
        .map(|(partition, next)| (topic_partition(topic, partition), next.0))
        .collect()
}

/// What `served_through` lacks of `wanted`: partition → (wanted, served). Entries of other topics are not looked at.
pub fn lacking(coverage: &Coverage, topic: &str, wanted: &TopicOffsets) -> BTreeMap<String, (i64, Option<i64>)> {
    wanted
        .iter()
        .filter(|(name, _)| name.rsplit_once('/').is_some_and(|(t, _)| t == topic))
        .filter_map(|(name, &offset)| {
            let served = coverage.served_through.get(name).copied();
            // Nothing is wanted of a partition of which zero records are wanted.
            (offset > 0 && served.is_none_or(|served| served < offset)).then(|| (name.clone(), (offset, served)))
        })
        .collect()
}

#[cfg(test)]
mod tests;
