//! The rows of one view: filtered, in order, a page of them.

mod request;

use std::sync::Arc;
use std::time::Instant;

use anabranch_merge::Order;
use anabranch_model::CoverageMap;
use anabranch_view::View;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{
    SortColumn, SortOptions, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch,
};
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::create_physical_expr;
use futures::TryStreamExt;

use crate::Error;
use crate::admission::{Admission, QueryMemory, Ticket, slice_bytes};
use crate::compute::{LARGE_ROWS, cpu};
use crate::format::Answer;
use crate::snapshot::consistency::{Consistency, Frozen};
use crate::snapshot::pushdown::Pushdown;
use crate::snapshot::reading::Reading;
pub(crate) use request::RowsRequest;

/// How often a read is started anew when a speed worker disappears.
const READS: u32 = 3;

/// Answers one `rows` request.
///
/// # Errors
/// Whatever freezing and merging meet.
pub(crate) async fn rows(
    consistency: &Consistency,
    admission: &Arc<Admission>,
    view: &View,
    request: RowsRequest,
) -> Result<Answer, Error> {
    let ticket = admission.enter(request.demand.timeout).await?;
    let answer = admitted(consistency, ticket, view, request, None).await?;
    answer.ok_or_else(|| Error::Internal("rows were left out that nobody has".into()))
}

/// The same for whoever looks again and again, in the line of those: nothing when the answer would cover exactly what `known`
/// covers, as then it holds the same rows.
///
/// # Errors
/// Whatever freezing and merging meet.
pub(crate) async fn rows_unless(
    consistency: &Consistency,
    admission: &Arc<Admission>,
    view: &View,
    request: RowsRequest,
    known: Option<&CoverageMap>,
) -> Result<Option<Answer>, Error> {
    let ticket = admission.enter_look(request.demand.timeout).await?;
    admitted(consistency, ticket, view, request, known).await
}

async fn admitted(
    consistency: &Consistency,
    mut ticket: Ticket,
    view: &View,
    request: RowsRequest,
    known: Option<&CoverageMap>,
) -> Result<Option<Answer>, Error> {
    let (at, after) = ticket.deadline();
    let work = read(consistency, &mut ticket, view, request, known);
    let answer = tokio::time::timeout_at(at, work)
        .await
        .unwrap_or(Err(Error::Timeout { after }));
    match answer {
        Ok(answer) => {
            ticket.succeed();
            Ok(answer)
        }
        Err(error) => Err(ticket.fail(error)),
    }
}

async fn read(
    consistency: &Consistency,
    ticket: &mut Ticket,
    view: &View,
    request: RowsRequest,
    known: Option<&CoverageMap>,
) -> Result<Option<Answer>, Error> {
    let pushdown = Pushdown::new(view, &request.filters);
    let views = std::slice::from_ref(view);
    let schema = view.output_schema();
    let mut attempt = 1;
    let (batches, coverage) = loop {
        let frozen = consistency
            .freeze_with(views, &request.demand, Some(&mut *ticket))
            .await?;
        if known.is_some_and(|known| *known == frozen.coverage()) {
            return Ok(None);
        }
        match page(&frozen, view, &pushdown, &request, ticket.memory()).await {
            Ok(batches) => break (batches, frozen.coverage()),
            Err(error) if error.is_lost_worker() && attempt < READS => attempt += 1,
            Err(error) => return Err(error),
        }
    };
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let batch = cpu(rows > LARGE_ROWS, move || {
        let page = arrange(&schema, batches, &request)?;
        request.check(page.num_rows())?;
        Ok(page)
    })
    .await?;
    Ok(Some(Answer {
        schema: batch.schema(),
        batches: vec![batch],
        coverage,
    }))
}

/// The rows that a page is cut from: of a large view no more than the page needs, so far as its order tells.
async fn page(
    frozen: &Frozen,
    view: &View,
    pushdown: &Pushdown,
    request: &RowsRequest,
    memory: &Arc<dyn MemoryPool>,
) -> Result<Vec<RecordBatch>, Error> {
    let reading = frozen.open(view.name(), pushdown, memory).await?;
    if reading.rows_at_most() <= LARGE_ROWS {
        return reading.collect().await;
    }
    let started = Instant::now();
    let end = request.limit.map(|limit| request.offset.saturating_add(limit));
    // In the order of keys the first rows are enough, in any other the best of those that came so far.
    let order = end.and(key_order(view, &reading, &request.order));
    let enough = end.filter(|_| order.is_some()).unwrap_or(usize::MAX);
    let schema = view.output_schema();
    let mut gathered = Gathered::new(&schema, request, memory);
    let mut merged = std::pin::pin!(reading.stream(order.unwrap_or(Order::Any)));
    while gathered.rows < enough
        && let Some(batch) = merged.try_next().await?
    {
        gathered.add(filtered(&schema, vec![batch], &request.filters)?)?;
        request.check(request.rows_of_page(gathered.rows))?;
        // What is merged in memory never waits; others have their turn, and whoever hangs up is noticed.
        tokio::task::yield_now().await;
    }
    metrics::histogram!("anabranch_serving_merge_seconds").record(started.elapsed().as_secs_f64());
    Ok(gathered.batches)
}

/// Rows of a page in the making.
struct Gathered<'r> {
    schema: &'r SchemaRef,
    request: &'r RowsRequest,
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    memory: QueryMemory,
}

impl<'r> Gathered<'r> {
    fn new(schema: &'r SchemaRef, request: &'r RowsRequest, memory: &Arc<dyn MemoryPool>) -> Self {
        Self {
            schema,
            request,
            batches: Vec::new(),
            rows: 0,
            bytes: 0,
            memory: QueryMemory::new(memory, "the rows"),
        }
    }

    /// # Errors
    /// When they are more than the query may hold.
    fn add(&mut self, batches: Vec<RecordBatch>) -> Result<(), Error> {
        for batch in batches {
            self.rows += batch.num_rows();
            self.bytes += slice_bytes(&batch);
            self.batches.push(batch);
        }
        self.let_go()?;
        self.memory.hold(self.bytes)
    }

    /// Lets go of rows that cannot be on the page, once they are many.
    fn let_go(&mut self) -> Result<(), Error> {
        let Some(end) = self
            .request
            .limit
            .map(|limit| self.request.offset.saturating_add(limit))
        else {
            return Ok(());
        };
        if self.request.order.is_empty() || self.rows < end.saturating_mul(2).saturating_add(LARGE_ROWS) {
            return Ok(());
        }
        let all = concat_batches(self.schema, &self.batches)?;
        let best = sorted(&all, &self.request.order, Some(end))?;
        (self.rows, self.bytes) = (best.num_rows(), slice_bytes(&best));
        self.batches = vec![best];
        Ok(())
    }
}

/// The order of keys that is the order asked for, nulls last.
fn key_order(view: &View, reading: &Reading, order: &[(usize, bool)]) -> Option<Order> {
    let descending = order.first()?.1;
    let schema = view.output_schema();
    let same = order.len() <= view.key_count()
        && order.iter().enumerate().all(|(key, (column, backwards))| {
            let name = schema.field(*column).name();
            let is_key = view
                .output_keys()
                .iter()
                .any(|(output, number)| output == name && *number == key);
            is_key && *backwards == descending && (descending || reading.is_without_null_keys(key))
        });
    same.then_some(if descending {
        Order::Descending
    } else {
        Order::Ascending
    })
}

/// Filter, order, limit, columns.
fn arrange(schema: &SchemaRef, batches: Vec<RecordBatch>, request: &RowsRequest) -> Result<RecordBatch, Error> {
    let end = request.limit.map(|limit| request.offset.saturating_add(limit));
    let mut kept = filtered(schema, batches, &request.filters)?;
    if let Some(end) = end
        && !request.order.is_empty()
    {
        // The best of all are among the best of each.
        for batch in &mut kept {
            if batch.num_rows() > end {
                *batch = sorted(batch, &request.order, Some(end))?;
            }
        }
    }
    let all = concat_batches(schema, &kept)?;
    let all = sorted(&all, &request.order, end)?;
    let start = request.offset.min(all.num_rows());
    let end = end.unwrap_or(usize::MAX).min(all.num_rows());
    let page = all.slice(start, end.saturating_sub(start));
    match &request.columns {
        Some(columns) => Ok(page.project(columns)?),
        None => Ok(page),
    }
}

fn filtered(schema: &SchemaRef, mut batches: Vec<RecordBatch>, filters: &[Expr]) -> Result<Vec<RecordBatch>, Error> {
    let Some(filter) = conjunction(filters.iter().cloned()) else {
        return Ok(batches);
    };
    let df_schema = DFSchema::try_from(Arc::clone(schema)).map_err(Error::from_query)?;
    let context = PhysicalPlanningContext::default();
    let filter =
        create_physical_expr(&filter, &df_schema, &ExecutionProps::new(), &context).map_err(Error::from_query)?;
    for batch in &mut batches {
        let mask = filter
            .evaluate(batch)
            .and_then(|mask| mask.into_array(batch.num_rows()));
        *batch = filter_record_batch(batch, mask.map_err(Error::from_query)?.as_boolean())?;
    }
    Ok(batches)
}

/// The first `limit` rows in order, nulls last; as they are when there is no order.
fn sorted(batch: &RecordBatch, order: &[(usize, bool)], limit: Option<usize>) -> Result<RecordBatch, Error> {
    if order.is_empty() || batch.num_rows() < 2 {
        return Ok(batch.clone());
    }
    let columns: Vec<SortColumn> = order
        .iter()
        .map(|&(index, descending)| SortColumn {
            values: Arc::clone(batch.column(index)),
            options: Some(SortOptions {
                descending,
                nulls_first: false,
            }),
        })
        .collect();
    Ok(take_record_batch(batch, &lexsort_to_indices(&columns, limit)?)?)
}
