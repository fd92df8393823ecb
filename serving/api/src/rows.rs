use std::sync::Arc;
use std::time::Instant;

use anabranch_catalog::did_you_mean;
use anabranch_merge::Order;
use anabranch_model::CoverageMap;
use anabranch_view::View;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::{
    CastOptions, SortColumn, SortOptions, cast_with_options, concat_batches, filter_record_batch, lexsort_to_indices,
    take_record_batch,
};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_expr::create_physical_expr;
use futures::TryStreamExt;

use crate::Error;
use crate::admission::{Admission, QueryMemory, Ticket, slice_bytes};
use crate::compute::{LARGE_ROWS, cpu};
use crate::format::{Answer, sql_type};
use crate::params;
use crate::snapshot::consistency::{Consistency, Demand, Frozen};
use crate::snapshot::pushdown::Pushdown;
use crate::snapshot::reading::Reading;

/// How often a read is started anew when a speed worker disappears.
const READS: u32 = 3;

/// `GET /v1/views/{view}/rows`: filters, order and columns of one view.
#[derive(Clone, Debug)]
pub(crate) struct RowsRequest {
    filters: Vec<Expr>,
    /// Column index, descending.
    order: Vec<(usize, bool)>,
    limit: Option<usize>,
    offset: usize,
    columns: Option<Vec<usize>>,
    /// A larger answer is refused as soon as so much of it is read.
    most: Option<usize>,
    demand: Demand,
}

impl RowsRequest {
    /// Reads the query string. A column that is called like a parameter is reached with an operator: `limit.eq=5`.
    ///
    /// # Errors
    /// For unknown columns, operators and parameters, and values that are not of the column's type.
    pub(crate) fn parse(view: &View, pairs: &[(String, String)]) -> Result<Self, Error> {
        let schema = view.output_schema();
        let (mut filters, mut order, mut columns) = (Vec::new(), None, None);
        let (mut limit, mut offset) = (None, 0);
        let (mut require, mut at_least, mut timeout, mut layer) = (None, None, None, None);
        for (key, value) in pairs {
            match key.as_str() {
                "order" => order = Some(parse_order(view, &schema, value)?),
                "limit" => limit = Some(parse_count("limit", value)?),
                "offset" => offset = parse_count("offset", value)?,
                "columns" => {
                    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                    columns = Some(
                        names
                            .map(|name| column(view, &schema, name))
                            .collect::<Result<Vec<_>, _>>()?,
                    );
                }
                "require" => require = Some(value.as_str()),
                "at_least" => at_least = Some(params::at_least_text(value)?),
                "timeout" => timeout = Some(value.as_str()),
                "layer" => layer = Some(value.as_str()),
                _ => filters.push(parse_filter(view, &schema, key, value)?),
            }
        }
        if columns.as_ref().is_some_and(Vec::is_empty) {
            columns = None;
        }
        // The keys decide among equals: pages follow each other, and live rows keep their places.
        let mut order: Vec<(usize, bool)> = order.unwrap_or_default();
        for (index, descending) in default_order(view, &schema) {
            if !order.iter().any(|(known, _)| *known == index) {
                order.push((index, descending));
            }
        }
        Ok(Self {
            filters,
            order,
            limit,
            offset,
            columns,
            most: None,
            demand: params::demand(require, at_least, timeout, layer)?,
        })
    }

    /// Takes out which columns are shown, so that all of them are; `None` when all were.
    pub(crate) fn take_columns(&mut self) -> Option<Vec<usize>> {
        self.columns.take()
    }

    /// The same, of which no more than so many rows are read: an answer that has more is `LiveTooLarge`.
    pub(crate) fn at_most(mut self, rows: usize) -> Self {
        self.most = Some(rows);
        self
    }

    /// # Errors
    /// When an answer of which so many rows are there already is too large.
    fn check(&self, rows: usize) -> Result<(), Error> {
        let found = rows.saturating_sub(self.offset).min(self.limit.unwrap_or(usize::MAX));
        match self.most {
            Some(limit) if found > limit => Err(Error::LiveTooLarge {
                found,
                unit: "rows",
                limit,
            }),
            _ => Ok(()),
        }
    }

    /// How long the request may wait for its demands.
    pub(crate) fn wait(&self) -> std::time::Duration {
        self.demand.timeout
    }
}

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
    let batch = cpu(rows > LARGE_ROWS, move || arrange(&schema, batches, &request)).await?;
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
        request.check(gathered.rows)?;
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

/// The view's keys, so that pages follow each other.
fn default_order(view: &View, schema: &SchemaRef) -> Vec<(usize, bool)> {
    let keys = view
        .output_keys()
        .iter()
        .filter_map(|(name, _)| schema.index_of(name).ok());
    keys.filter(|index| !schema.field(*index).data_type().is_nested())
        .map(|index| (index, false))
        .collect()
}

fn parse_order(view: &View, schema: &SchemaRef, value: &str) -> Result<Vec<(usize, bool)>, Error> {
    let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (name, descending) = match entry.strip_prefix('-') {
                // A column may begin with a minus itself.
                Some(rest) if schema.index_of(entry).is_err() => (rest, true),
                _ => (entry, false),
            };
            let index = column(view, schema, name)?;
            if schema.field(index).data_type().is_nested() {
                return Err(Error::Request {
                    message: format!(
                        "{name} is {} and has no order",
                        sql_type(schema.field(index).data_type())
                    ),
                    hint: None,
                });
            }
            Ok((index, descending))
        })
        .collect()
}

fn parse_count(name: &str, value: &str) -> Result<usize, Error> {
    value.trim().parse().map_err(|_| Error::Request {
        message: format!("{name} is {value:?}"),
        hint: Some("give a number of rows".into()),
    })
}

fn column(view: &View, schema: &Schema, name: &str) -> Result<usize, Error> {
    schema.index_of(name).map_err(|_| Error::UnknownColumn {
        view: view.name().to_owned(),
        column: name.to_owned(),
        hint: did_you_mean(name, schema.fields().iter().map(|field| field.name().as_str())),
    })
}

fn parse_filter(view: &View, schema: &SchemaRef, key: &str, value: &str) -> Result<Expr, Error> {
    let (index, operator) = match (schema.index_of(key), key.rsplit_once('.')) {
        (Ok(index), _) => (index, "eq"),
        (Err(_), Some((name, operator))) => (column(view, schema, name)?, operator),
        (Err(_), None) => {
            // Says what it is not: a column, nor one of the parameters.
            let known = schema.fields().iter().map(|field| field.name().as_str());
            let known = known.chain([
                "order", "limit", "offset", "columns", "require", "at_least", "timeout", "layer",
            ]);
            let hint = did_you_mean(key, known);
            return Err(Error::UnknownColumn {
                view: view.name().to_owned(),
                column: key.to_owned(),
                hint,
            });
        }
    };
    let field = schema.field(index);
    let this = Expr::Column(Column::from_name(field.name()));
    let value_of = |text: &str| literal(field.name(), field.data_type(), text);
    Ok(match operator {
        "eq" => this.eq(value_of(value)?),
        "ne" => this.not_eq(value_of(value)?),
        "gt" => this.gt(value_of(value)?),
        "gte" => this.gt_eq(value_of(value)?),
        "lt" => this.lt(value_of(value)?),
        "lte" => this.lt_eq(value_of(value)?),
        "in" => this.in_list(value.split(',').map(value_of).collect::<Result<_, _>>()?, false),
        "null" => match value.trim() {
            "true" | "1" | "" => this.is_null(),
            "false" | "0" => this.is_not_null(),
            other => {
                return Err(Error::Request {
                    message: format!("{key} is {other:?}"),
                    hint: Some("write true or false".into()),
                });
            }
        },
        other => {
            return Err(Error::Request {
                message: format!("{other} is no comparison"),
                hint: Some("there are eq, ne, gt, gte, lt, lte, in and null".into()),
            });
        }
    })
}

/// Reads a value of a column's type, spelled as answers spell it.
fn literal(name: &str, data_type: &DataType, text: &str) -> Result<Expr, Error> {
    let bad = |hint: Option<String>| Error::Request {
        message: format!("{text:?} is no {} for {name}", sql_type(data_type)),
        hint,
    };
    if data_type.is_nested() {
        return Err(Error::Request {
            message: format!("{name} is {} and cannot be compared here", sql_type(data_type)),
            hint: Some("use POST /v1/sql".into()),
        });
    }
    let array: ArrayRef = match data_type {
        DataType::Utf8 => Arc::new(StringArray::from(vec![text])),
        DataType::Binary => {
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|_| bad(Some("write bytes in base64".into())))?;
            Arc::new(BinaryArray::from_vec(vec![&bytes]))
        }
        _ => {
            let strict = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            let trimmed: ArrayRef = Arc::new(StringArray::from(vec![text.trim()]));
            match cast_with_options(&trimmed, data_type, &strict) {
                Ok(array) if array.is_valid(0) => array,
                _ => return Err(bad(spelling(data_type))),
            }
        }
    };
    ScalarValue::try_from_array(&array, 0)
        .map(lit)
        .map_err(Error::from_query)
}

fn spelling(data_type: &DataType) -> Option<String> {
    let text = match data_type {
        DataType::Timestamp(..) => "write it like 2015-09-12T01:00:00Z",
        DataType::Date32 | DataType::Date64 => "write it like 2015-09-12",
        DataType::Boolean => "write true or false",
        data_type if data_type.is_integer() => "write a whole number in the column's range",
        data_type if data_type.is_numeric() => "write a number",
        _ => return None,
    };
    Some(text.to_owned())
}
