//! Reading one view of a frozen state: realtime state from the workers, blocks of the batch view, merged as they are asked for.

pub(crate) mod pooled;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anabranch_merge::{Live, Merging, Order, Selection, ViewPlan};
use anabranch_model::realtime::StateTicket;
use anabranch_realtime::Worker;
use anabranch_view::View;
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use futures::future::try_join_all;
use futures::stream::{self, Stream};

use crate::Error;
use crate::admission::{QueryMemory, slice_bytes};
use crate::compute::{LARGE_ROWS, cpu};
use crate::follow::batch_view::BatchViewState;

/// Blocks of a view in a local file that are read before they are merged, and merged at once.
const WINDOW: usize = 32;

/// Asks the workers of a plan for the state of one view.
///
/// # Errors
/// `WorkerFailed` when a worker's state could not be read: freeze again.
pub(crate) async fn realtime(
    view: &str,
    plan: &ViewPlan,
    workers: &BTreeMap<String, Worker>,
    filter: Option<&str>,
) -> Result<Vec<RecordBatch>, Error> {
    let reads = plan.reads.iter().map(|read| {
        let ticket = StateTicket {
            snapshot: read.snapshot,
            view: view.to_owned(),
            partitions: read.partitions.clone(),
            filter: filter.map(str::to_owned),
        };
        fetch(read.worker.clone(), workers.get(&read.worker).cloned(), ticket)
    });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}

/// Reads one view's state out of one worker's snapshot.
async fn fetch(name: String, worker: Option<Worker>, ticket: StateTicket) -> Result<Vec<RecordBatch>, Error> {
    let worker = worker.ok_or_else(|| Error::WorkerFailed {
        worker: name,
        message: "its connection is gone".into(),
    })?;
    Ok(worker.state(&ticket).await?)
}

/// The selected groups of one view, ready to be merged.
#[derive(Clone)]
pub(crate) struct Reading {
    view: View,
    batch: Option<Arc<BatchViewState>>,
    /// Numbers of the blocks that hold selected groups, ascending.
    blocks: Vec<usize>,
    live: Arc<Live>,
    /// Which rows of `live` belong to these blocks.
    part: Range<usize>,
    selection: Selection,
    /// What the realtime state is taken out of. The batch view is the process's.
    _memory: Arc<QueryMemory>,
}

impl Reading {
    /// Merges realtime state by itself and finds the blocks that it meets.
    ///
    /// # Errors
    /// When a worker sent what is no state of the view, or more than the query may hold.
    pub(crate) async fn new(
        view: View,
        batch: Option<Arc<BatchViewState>>,
        realtime: Vec<RecordBatch>,
        selection: Selection,
        memory: QueryMemory,
    ) -> Result<Self, Error> {
        memory.take(realtime.iter().map(slice_bytes).sum())?;
        let rows: usize = realtime.iter().map(RecordBatch::num_rows).sum();
        let work = move || {
            let live = Live::new(&view, &realtime, &selection)?;
            memory.hold(live.size_bytes())?;
            let blocks = batch.as_ref().map_or(Vec::new(), |batch| batch.select(&selection));
            Ok(Self {
                part: 0..live.rows(),
                live: Arc::new(live),
                view,
                batch,
                blocks,
                selection,
                _memory: Arc::new(memory),
            })
        };
        cpu(rows > LARGE_ROWS, work).await
    }

    /// Groups at most: those of whole blocks are counted.
    pub(crate) fn rows_at_most(&self) -> usize {
        self.batch_rows() + self.part.len()
    }

    fn batch_rows(&self) -> usize {
        let rows = |batch: &Arc<BatchViewState>| self.blocks.iter().map(|block| batch.rows_of(*block)).sum();
        self.batch.as_ref().map_or(0, rows)
    }

    /// Whether all of it is in memory.
    pub(crate) fn is_resident(&self) -> bool {
        self.batch.as_ref().is_none_or(|batch| batch.is_resident())
    }

    /// Whether no group has a null in this key column.
    pub(crate) fn is_without_null_keys(&self, key: usize) -> bool {
        !self.live.has_null_keys(key) && !self.batch.as_ref().is_some_and(|batch| batch.has_null_keys(key))
    }

    /// At most `parts` readings that follow each other in key order and give together what this one gives.
    pub(crate) fn divide(self, parts: usize) -> Vec<Self> {
        let parts = parts.clamp(1, self.blocks.len().max(1));
        let Some(batch) = self.batch.as_ref().filter(|_| parts > 1) else {
            return vec![self];
        };
        let runs: Vec<Vec<usize>> = self
            .blocks
            .chunks(self.blocks.len().div_ceil(parts))
            .map(<[usize]>::to_vec)
            .collect();
        let ends: Vec<usize> = runs.iter().filter_map(|run| run.last().copied()).collect();
        let divided = batch.divide(&self.live, &ends);
        let runs = runs.into_iter().zip(divided);
        runs.map(|(blocks, part)| Self {
            blocks,
            part,
            ..self.clone()
        })
        .collect()
    }

    /// All rows, in no order.
    ///
    /// # Errors
    /// When local state cannot be read, or the view cannot finalise its state.
    pub(crate) async fn collect(self) -> Result<Vec<RecordBatch>, Error> {
        let started = Instant::now();
        let rows = if self.is_resident() {
            let large = self.rows_at_most() > LARGE_ROWS && self.blocks.len() > 1;
            let (batch, mut held) = (self.batch.clone(), Vec::with_capacity(self.blocks.len()));
            for number in &self.blocks {
                let Some(batch) = &batch else { break };
                held.push(batch.block(&self.view, *number).await?);
            }
            let work = move || {
                let mut merging = self.merging(Order::Any);
                let mut rows = Vec::with_capacity(held.len() + 1);
                for block in held {
                    rows.extend(merging.block(&block)?);
                }
                rows.extend(merging.rest()?);
                Ok(rows)
            };
            cpu(large, work).await
        } else {
            self.stream(Order::Any).try_collect().await
        };
        metrics::histogram!("anabranch_serving_merge_seconds").record(started.elapsed().as_secs_f64());
        rows
    }

    /// All rows, as they are asked for.
    pub(crate) fn stream(self, order: Order) -> impl Stream<Item = Result<RecordBatch, Error>> + Send + 'static {
        let (mut numbers, window) = (self.blocks.clone(), if self.is_resident() { 1 } else { WINDOW });
        if order == Order::Descending {
            numbers.reverse();
        }
        let merging = self.merging(order);
        let state = Some((self, merging, numbers.into_iter(), 1));
        let windows = stream::try_unfold(state, move |state| async move {
            let Some((reading, mut merging, mut numbers, ahead)) = state else {
                return Ok(None);
            };
            // A reader that stops soon has not waited for much that it does not need.
            let next: Vec<usize> = numbers.by_ref().take(ahead).collect();
            if next.is_empty() {
                let rest = merging.rest()?;
                return Ok::<_, Error>(Some((rest, None)));
            }
            let mut rows = Vec::with_capacity(next.len());
            if let Some(batch) = reading.batch.clone() {
                let view = &reading.view;
                for block in try_join_all(next.iter().map(|number| batch.block(view, *number))).await? {
                    rows.extend(merging.block(&block)?);
                }
            }
            let ahead = (ahead * 2).min(window);
            Ok(Some((rows, Some((reading, merging, numbers, ahead)))))
        });
        windows
            .map_ok(|rows| stream::iter(rows.into_iter().map(Ok::<_, Error>)))
            .try_flatten()
    }

    fn merging(&self, order: Order) -> Merging {
        Merging::of_part(
            &self.view,
            Arc::clone(&self.live),
            self.part.clone(),
            &self.selection,
            order,
        )
    }
}
