mod together;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::Environment;
use anabranch_merge::{Decision, Patience, Plan, RetryReason, ViewFacts, ViewPlan, decide, lacking};
use anabranch_model::realtime::{SnapshotReply, SnapshotRequest, ViewCut};
use anabranch_model::{CoverageMap, TopicOffsets};
use anabranch_realtime::{Directory, Services, SpeedWorker, Worker};
use anabranch_trace::{Kind, Span, TraceContext};
use anabranch_view::View;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use async_trait::async_trait;
use datafusion::execution::memory_pool::MemoryPool;
use futures::future::join_all;

use crate::Error;
use crate::admission::{QueryMemory, Ticket};
use crate::follow::adoption::{Adoption, Probe, Published};
use crate::follow::masters::Masters;
use crate::snapshot::pushdown::{Point, Pushdown};
use crate::snapshot::reading::pooled::Pooled;
use crate::snapshot::reading::{Reading, realtime};
use together::Together;

/// How often the facts are gathered again before what is unsettled is called missing.
const ATTEMPTS: u32 = 5;
/// First and longest pause between two attempts; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// A freeze waits for the one before it, so that it answers everybody who asks meanwhile. When a worker keeps that one waiting,
/// it begins after this time all the same.
const FREEZE_PATIENCE: Duration = Duration::from_millis(50);
/// So does a read of single groups for the one before it.
const READ_PATIENCE: Duration = Duration::from_millis(50);

/// What a request demands of its answer, beside being consistent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// `require=exact`: nothing may be missing.
    pub exact: bool,
    /// `topic/partition` → next offset that the answer must reach.
    pub at_least: TopicOffsets,
    /// How long to wait for the two above.
    pub timeout: Duration,
    /// Which part of the merge to show.
    pub arm: Arm,
}

/// The arms of the river: the answer is both of them together, but each can be looked at alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arm {
    /// Batch view up to the cut, realtime state from there on.
    #[default]
    Merged,
    /// The batch view alone.
    Batch,
    /// Realtime state from the cut on alone.
    Realtime,
}

/// Freezes one consistent state of several views. Cheap to clone; clones share what they freeze at the same time.
#[derive(Clone)]
pub(crate) struct Consistency {
    pub(crate) adoption: Arc<Adoption>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) masters: Arc<Masters>,
    together: Together<Vec<Version>, Shared>,
}

/// What comes of freezing for all who wait for it, and the trace that shows how it was done.
type Shared = (Result<Arc<Settled>, Arc<Error>>, Option<TraceContext>);

/// Name and hash of a view.
type Version = (String, String);

/// One consistent state of the views of a request: one publication, and one prefix of the log per partition. Holding it
/// keeps the publication pinned; the workers' part expires after a while.
pub(crate) struct Frozen {
    settled: Arc<Settled>,
    arm: Arm,
    environment: Environment,
}

/// What was frozen, for all who wait for the same views.
struct Settled {
    published: Arc<Published>,
    views: BTreeMap<String, FrozenView>,
}

struct FrozenView {
    view: View,
    plan: ViewPlan,
    workers: BTreeMap<String, Worker>,
    /// Reads of single groups, by all who hold this.
    points: Pooled<Point, Result<Arc<Vec<RecordBatch>>, Arc<Error>>>,
}

impl Consistency {
    pub(crate) fn new(adoption: Arc<Adoption>, directory: Arc<Directory>, masters: Arc<Masters>) -> Self {
        Self {
            adoption,
            directory,
            masters,
            together: Together::default(),
        }
    }

    /// Freezes `views`, waiting as long as `demand` allows until the answer would meet it.
    ///
    /// # Errors
    /// `Inexact` or `Behind` when the demand is not met in time; whatever makes an exact merge impossible.
    pub(crate) async fn freeze(&self, views: &[View], demand: &Demand) -> Result<Frozen, Error> {
        self.freeze_with(views, demand, None).await
    }

    /// As [`freeze`](Self::freeze), for a query that lets others compute while it waits.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze), and when it does not get its permit back.
    pub(crate) async fn freeze_with(
        &self,
        views: &[View],
        demand: &Demand,
        mut ticket: Option<&mut Ticket>,
    ) -> Result<Frozen, Error> {
        self.check_topics(views, demand)?;
        let environment = self.adoption.environment();
        let deadline = environment.instant() + demand.timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            let settled = self.share(views).await?;
            let frozen = Frozen {
                settled,
                arm: demand.arm,
                environment: environment.clone(),
            };
            let Some(shortfall) = frozen.shortfall(demand) else {
                return Ok(frozen);
            };
            let now = environment.instant();
            if now >= deadline {
                return Err(shortfall);
            }
            // The pinned publication must not hold back the speed layer while nothing is read from it.
            drop(frozen);
            if let Some(ticket) = &mut ticket {
                ticket.pause();
            }
            environment.sleep(pause.min(deadline - now)).await;
            if let Some(ticket) = &mut ticket {
                ticket.resume().await?;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A topic that none of the views reads would never be covered: better say so than wait.
    fn check_topics(&self, views: &[View], demand: &Demand) -> Result<(), Error> {
        let topics: BTreeSet<&str> = views.iter().map(|view| view.source().topic.as_str()).collect();
        for name in demand.at_least.keys() {
            let topic = name.rsplit_once('/').map(|(topic, _)| topic);
            if !topic.is_some_and(|topic| topics.contains(topic)) {
                return Err(Error::Request {
                    message: format!("at_least names {name}, which no view of this request reads"),
                    hint: Some(format!(
                        "keys are topic/partition of {}",
                        topics.iter().copied().collect::<Vec<_>>().join(", ")
                    )),
                });
            }
        }
        Ok(())
    }

    /// What was frozen of `views` by something that began after this call: queries that come while one is frozen share the next
    /// one, so workers are asked as often as they can answer and no more.
    async fn share(&self, views: &[View]) -> Result<Arc<Settled>, Error> {
        let versions = views.iter().map(|view| (view.name().to_owned(), view.hash().clone()));
        let patience = {
            let environment = self.adoption.environment().clone();
            async move { environment.sleep(FREEZE_PATIENCE).await }
        };
        let work = {
            let (this, views) = (self.clone(), views.to_vec());
            async move {
                let span = Span::child(Kind::Internal, "freeze views");
                let context = span.as_ref().map(Span::context);
                let settled = anabranch_trace::in_scope(context.clone(), this.settle(&views)).await;
                (settled.map(Arc::new).map_err(Arc::new), context)
            }
        };
        let work = anabranch_trace::in_scope(TraceContext::current(), work);
        let began = self.adoption.environment().instant();
        let (settled, done) = self.together.share(versions.collect(), patience, work).await;
        // Whoever shares what another query has begun finds its workers in that one's trace.
        let waited = self.adoption.environment().elapsed(began);
        drop(done.and_then(|done| Span::waited("share freeze", waited, &done)));
        let settled = match settled {
            Ok(settled) => settled,
            Err(error) => match Arc::try_unwrap(error) {
                Ok(error) => return Err(error),
                // An error belongs to one query. The others find out for themselves.
                Err(_) => Arc::new(self.settle(views).await?),
            },
        };
        // Somebody with the same hash may have meant other columns.
        if !views.iter().all(|view| settled.published.serves(view)) {
            return Err(Error::Superseded);
        }
        Ok(settled)
    }

    /// One attempt after the other until the facts make a decision, or what is unsettled is declared missing.
    async fn settle(&self, views: &[View]) -> Result<Settled, Error> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let patience = if attempt < ATTEMPTS {
                Patience::Retry
            } else {
                Patience::Settle
            };
            let gathered = self.gather(self.adoption.pin(), views).await;
            if !views.iter().all(|view| gathered.published.serves(view)) {
                return Err(Error::Superseded);
            }
            match decide(&gathered.facts, &gathered.replies, patience)? {
                Decision::Read(plan) => return Ok(gathered.freeze(views, plan)),
                Decision::Retry(reason) => {
                    tracing::debug!(%reason, attempt, "asking the speed workers again");
                    metrics::counter!("anabranch_serving_snapshot_retries_total").increment(1);
                    drop(gathered);
                    let refreshed = match reason {
                        RetryReason::CutTooOld { .. } => self.adoption.refresh().await,
                        RetryReason::TwoOwners { .. } | RetryReason::Rebalancing { .. } => {
                            self.directory.refresh().await.map_err(Error::from)
                        }
                        RetryReason::CutAhead { .. } => Ok(()),
                    };
                    if let Err(error) = refreshed {
                        tracing::warn!(%error, "the facts of a query cannot be refreshed");
                    }
                    self.adoption.environment().sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        unreachable!("the last attempt settles")
    }

    /// Asks every live speed worker for a snapshot of all views.
    async fn gather(&self, published: Arc<Published>, views: &[View]) -> Gathered {
        // A query without views needs nobody.
        let services = if views.is_empty() {
            Arc::default()
        } else {
            self.directory.services()
        };
        let request = SnapshotRequest {
            views: views
                .iter()
                .map(|view| ViewCut {
                    view: view.name().to_owned(),
                    hash: view.hash().clone(),
                    cut: published
                        .views
                        .get(view.name())
                        .map(|batch| batch.cut.next.clone())
                        .unwrap_or_default(),
                    until: None,
                })
                .collect(),
        };
        let asked = services.speed.iter().map(|worker| self.ask(worker, &request));
        let mut replies = Vec::new();
        let mut workers = BTreeMap::new();
        let mut silent = BTreeSet::new();
        for (worker, reply) in services.speed.iter().zip(join_all(asked).await) {
            match reply {
                Ok((reply, connection)) => {
                    workers.insert(reply.worker.clone(), connection);
                    replies.push(reply);
                }
                Err(error) => {
                    tracing::debug!(worker = worker.id, %error, "no snapshot");
                    metrics::counter!("anabranch_serving_snapshot_failures_total").increment(1);
                    silent.insert(worker.id.clone());
                }
            }
        }
        let facts = views
            .iter()
            .map(|view| self.facts(view, &published, &services, &silent))
            .collect();
        Gathered {
            published,
            facts,
            replies,
            workers,
        }
    }

    async fn ask(&self, worker: &SpeedWorker, request: &SnapshotRequest) -> Result<(SnapshotReply, Worker), Error> {
        let connection = self.directory.worker(worker)?;
        Ok((connection.snapshot(request).await?, connection))
    }

    fn facts(&self, view: &View, published: &Published, services: &Services, silent: &BTreeSet<String>) -> ViewFacts {
        let source = view.source();
        let batch = published.views.get(view.name());
        ViewFacts {
            view: view.name().to_owned(),
            source: source.name.clone(),
            topic: source.topic.clone(),
            publication: batch.map(|_| published.number),
            cut: batch.map(|batch| batch.cut.clone()).unwrap_or_default(),
            partitions_total: services.partitions_total(&source.name),
            starts: self.masters.starts(&source.name),
            owners: services.owners(&source.name),
            silent: silent.clone(),
            batch_notes: batch.map(|batch| batch.notes.clone()).unwrap_or_default(),
            notes: self.masters.noted(&source.name),
        }
    }
}

#[async_trait]
impl Probe for Consistency {
    async fn lacking(&self, published: Arc<Published>, views: &[View]) -> BTreeMap<String, BTreeSet<String>> {
        let gathered = self.gather(published, views).await;
        match decide(&gathered.facts, &gathered.replies, Patience::Settle) {
            Ok(Decision::Read(plan)) => plan
                .views
                .into_iter()
                .map(|view| (view.view, view.missing.into_keys().collect()))
                .collect(),
            // Pieces that do not fit make no answer at all.
            Ok(Decision::Retry(_)) | Err(_) => BTreeMap::new(),
        }
    }
}

/// The facts of one attempt.
struct Gathered {
    published: Arc<Published>,
    facts: Vec<ViewFacts>,
    replies: Vec<SnapshotReply>,
    workers: BTreeMap<String, Worker>,
}

impl Gathered {
    fn freeze(self, views: &[View], plan: Plan) -> Settled {
        let views = views
            .iter()
            .zip(plan.views)
            .map(|(view, plan)| {
                let workers = plan
                    .reads
                    .iter()
                    .filter_map(|read| Some((read.worker.clone(), self.workers.get(&read.worker)?.clone())))
                    .collect();
                (
                    view.name().to_owned(),
                    FrozenView {
                        view: view.clone(),
                        plan,
                        workers,
                        points: Pooled::default(),
                    },
                )
            })
            .collect();
        Settled {
            published: self.published,
            views,
        }
    }
}

impl Settled {
    fn view(&self, name: &str) -> &FrozenView {
        self.views.get(name).expect("only views of the request are read")
    }
}

impl Frozen {
    /// Coverage of each view. One arm alone is never exact: it leaves out what the other holds.
    pub(crate) fn coverage(&self) -> CoverageMap {
        let coverage = |frozen: &FrozenView| {
            let mut coverage = frozen.plan.coverage.clone();
            coverage.exact &= self.arm == Arm::Merged;
            coverage
        };
        self.settled
            .views
            .iter()
            .map(|(name, frozen)| (name.clone(), coverage(frozen)))
            .collect()
    }

    /// The pinned publication.
    pub(crate) fn published(&self) -> &Published {
        &self.settled.published
    }

    /// Groups in the batch views of the request: what a planner can know of its size beforehand.
    pub(crate) fn batch_rows(&self) -> usize {
        let rows = |name: &String| {
            self.settled
                .published
                .views
                .get(name)
                .map_or(0, |batch| batch.state.rows())
        };
        self.settled.views.keys().map(rows).sum()
    }

    /// Groups in the blocks of the batch view that hold selected ones, as far as it is read.
    pub(crate) fn batch_rows_near(&self, view: &str, pushdown: &Pushdown) -> usize {
        let batch = self.settled.published.views.get(view);
        let batch = batch.filter(|_| self.arm != Arm::Realtime).map(|batch| &batch.state);
        batch.map_or(0, |batch| {
            let blocks = batch.select(&pushdown.selection);
            blocks.into_iter().map(|block| batch.rows_of(block)).sum()
        })
    }

    /// What the demand still lacks.
    fn shortfall(&self, demand: &Demand) -> Option<Error> {
        let waited = demand.timeout;
        let mut behind = BTreeMap::new();
        let mut missing = BTreeMap::new();
        for frozen in self.settled.views.values() {
            let topic = &frozen.view.source().topic;
            for (partition, (wanted, served)) in lacking(&frozen.plan.coverage, topic, &demand.at_least) {
                let served = served.map_or("nothing".to_owned(), |served| served.to_string());
                behind.insert(partition, format!("wanted {wanted}, served {served}"));
            }
            if demand.exact {
                missing.extend(
                    frozen
                        .plan
                        .missing
                        .iter()
                        .map(|(partition, why)| (partition.clone(), why.to_string())),
                );
            }
        }
        if !missing.is_empty() {
            return Some(Error::Inexact { waited, missing });
        }
        (!behind.is_empty()).then_some(Error::Behind {
            waited,
            lacking: behind,
        })
    }

    /// Reads the realtime state of one view into a query's memory, and finds the groups of its batch view that are selected. Rows
    /// outside of `pushdown` may or may not be among them.
    ///
    /// # Errors
    /// `WorkerFailed` when a worker's state could not be read: freeze again; when the state is more than the query may hold.
    pub(crate) async fn open(
        &self,
        view: &str,
        pushdown: &Pushdown,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Reading, Error> {
        let frozen = self.settled.view(view);
        let mut span = Span::child(Kind::Internal, "merge view");
        if let Some(span) = &mut span {
            span.text("anabranch.view", view);
        }
        let context = span.as_ref().map(Span::context);
        let live = if self.arm == Arm::Batch {
            Vec::new()
        } else {
            anabranch_trace::in_scope(context, self.realtime(frozen, pushdown)).await?
        };
        let batch = self
            .settled
            .published
            .views
            .get(view)
            .map(|batch| Arc::clone(&batch.state));
        let batch = batch.filter(|_| self.arm != Arm::Realtime);
        let memory = QueryMemory::new(memory, "realtime state");
        Reading::new(frozen.view.clone(), batch, live, pushdown.selection.clone(), memory).await
    }

    /// The realtime state of one view. Single groups are read together with those that others want of the same state.
    async fn realtime(&self, frozen: &FrozenView, pushdown: &Pushdown) -> Result<Vec<RecordBatch>, Error> {
        let view = frozen.view.name();
        let alone = || realtime(view, &frozen.plan, &frozen.workers, pushdown.sql.as_deref());
        let Some(point) = pushdown.point.clone() else {
            return alone().await;
        };
        let (settled, name) = (Arc::clone(&self.settled), view.to_owned());
        let context = TraceContext::current();
        let own = pushdown.sql.clone();
        let read = async move |points: Vec<Point>| {
            let frozen = settled.view(&name);
            let filter = if points.len() > 1 { Point::any_of(&points) } else { own };
            let read = realtime(&name, &frozen.plan, &frozen.workers, filter.as_deref());
            let batches = anabranch_trace::in_scope(context, read).await.map_err(Arc::new)?;
            Ok(Arc::new(joined(batches)))
        };
        let environment = self.environment.clone();
        let patience = async move { environment.sleep(READ_PATIENCE).await };
        match frozen.points.read(point, patience, read).await {
            // Of what others wanted nothing is held.
            Ok(batches) => {
                let own = batches.iter().map(|batch| pushdown.selection.of(&frozen.view, batch));
                Ok(own.collect::<Result<_, _>>()?)
            }
            Err(error) => match Arc::try_unwrap(error) {
                Ok(error) => Err(error),
                // An error belongs to one query. The others find out for themselves.
                Err(_) => alone().await,
            },
        }
    }
}

/// Few rows in one batch, where they are of one schema.
fn joined(batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
    match batches.as_slice() {
        [first, _, ..] => concat_batches(first.schema_ref(), &batches).map_or(batches, |all| vec![all]),
        _ => batches,
    }
}
