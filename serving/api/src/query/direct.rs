//! The short way of plain queries: rows of one view, filtered, computed from, sorted and cut. What such a query means follows
//! from its analysed plan alone, so nothing is optimised, and nothing is planned for an execution of a few rows that takes less
//! time than its plan. Only expressions go this way of which it is certain that they mean here what they mean on the long one:
//! columns, values, comparisons, logic and arithmetic, but no functions, of which some are settled while a plan is optimised.

use std::sync::Arc;

use anabranch_view::View;
use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{
    SortColumn, SortOptions, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, Result as QueryResult, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable, FetchType, Limit, LogicalPlan, Operator, SkipType, SortExpr};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;

use super::session::SCHEMA;
use crate::Error;
use crate::admission::{QueryMemory, slice_bytes};
use crate::compute::LARGE_ROWS;
use crate::snapshot::consistency::Frozen;
use crate::snapshot::pushdown::Pushdown;
use crate::snapshot::reading::Reading;

/// A plain query, with its parameters still open.
#[derive(Debug)]
pub(crate) struct Direct {
    /// What is done with the rows of the view, one after the other.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Filter(Computed),
    Project {
        expressions: Vec<Computed>,
        output: SchemaRef,
    },
    Sort {
        by: Vec<(Computed, SortOptions)>,
        first: Option<usize>,
    },
    Limit(Limit),
}

/// An expression over the rows that a step is given.
#[derive(Debug)]
struct Computed {
    expression: Expr,
    input: DFSchemaRef,
    /// `None` while it waits for values of parameters.
    ready: Option<Arc<dyn PhysicalExpr>>,
}

/// What becomes of a query that may go the short way.
pub(crate) enum Taken {
    Rows(SendableRecordBatchStream),
    /// It has too many rows for it. Its view may be opened already.
    TooLarge(Option<(Pushdown, Reading)>),
}

/// A step, ready for rows.
enum Bound {
    Filter(Arc<dyn PhysicalExpr>),
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
    Sort(Vec<(Arc<dyn PhysicalExpr>, SortOptions)>, Option<usize>),
    Limit(usize, Option<usize>),
}

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The long way may apply a filter to other rows, so it must not fail on any.
    Filter,
    Result,
}

/// Nodes and expressions of a plan that goes the short way, at most. Long chains of conditions are the optimiser's affair, which
/// makes one of those that are equal, and nothing is gained for them here.
const MOST_PARTS: usize = 256;

/// Whether a plan is worth looking at. Cheap for any plan.
pub(crate) fn is_small(plan: &LogicalPlan) -> bool {
    let mut parts = 0;
    let mut count = || {
        parts += 1;
        match parts > MOST_PARTS {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        }
    };
    let visited = plan.apply(|node| {
        node.apply_expressions(|expression| expression.apply(|_| Ok(count())))?;
        Ok(count())
    });
    visited.is_ok() && parts <= MOST_PARTS
}

impl Direct {
    /// The short way of an analysed plan over one view; `None` for whatever is not plain.
    pub(crate) fn of(analysed: &LogicalPlan, view: &View) -> Option<Self> {
        let mut steps = Vec::new();
        let mut node = analysed;
        loop {
            node = match node {
                LogicalPlan::Limit(limit) => {
                    steps.push(Step::Limit(limit.clone()));
                    &limit.input
                }
                LogicalPlan::Sort(sort) => {
                    let input = sort.input.schema();
                    let by = sort
                        .expr
                        .iter()
                        .map(|by| Some((Computed::sort(by, input)?, options(by))));
                    steps.push(Step::Sort {
                        by: by.collect::<Option<_>>()?,
                        first: sort.fetch,
                    });
                    &sort.input
                }
                LogicalPlan::Projection(projection) => {
                    let input = projection.input.schema();
                    let computed = projection.expr.iter();
                    let computed = computed.map(|expression| Computed::new(expression, input, Place::Result));
                    let fields = projection.schema.as_arrow().fields().iter();
                    let fields = fields.map(|field| Field::new(field.name(), field.data_type().clone(), true));
                    steps.push(Step::Project {
                        expressions: computed.collect::<Option<_>>()?,
                        output: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
                    });
                    &projection.input
                }
                LogicalPlan::Filter(filter) => {
                    let input = filter.input.schema();
                    steps.push(Step::Filter(Computed::new(&filter.predicate, input, Place::Filter)?));
                    &filter.input
                }
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                LogicalPlan::TableScan(scan) => {
                    let name = &scan.table_name;
                    let is_view = name.table() == view.name() && name.schema().is_none_or(|schema| schema == SCHEMA);
                    let whole = scan.projection.is_none() && scan.filters.is_empty() && scan.fetch.is_none();
                    steps.reverse();
                    return (is_view && whole).then_some(Self { steps });
                }
                _ => return None,
            };
        }
    }

    /// Reads, merges and computes, if that is little work.
    ///
    /// # Errors
    /// Whatever reading the view, or an expression, meets.
    pub(crate) async fn run(
        &self,
        view: &View,
        values: &[ScalarValue],
        frozen: &Frozen,
        memory: &Arc<dyn MemoryPool>,
    ) -> Result<Taken, Error> {
        let Some((steps, filters)) = self.bound(values) else {
            return Ok(Taken::TooLarge(None));
        };
        let pushdown = Pushdown::new(view, &filters);
        if frozen.batch_rows_near(view.name(), &pushdown) > LARGE_ROWS {
            return Ok(Taken::TooLarge(None));
        }
        let reading = frozen.open(view.name(), &pushdown, memory).await?;
        if reading.rows_at_most() > LARGE_ROWS {
            return Ok(Taken::TooLarge(Some((pushdown, reading))));
        }
        let held = QueryMemory::new(memory, "the rows of a plain query");
        let mut batches = reading.collect().await?;
        let mut schema = view.output_schema();
        for step in &steps {
            // What a step makes of them is about as large.
            held.hold(2 * batches.iter().map(slice_bytes).sum::<usize>())?;
            (schema, batches) = step.apply(schema, batches).map_err(Error::from_query)?;
        }
        let rows = stream::iter(batches.into_iter().map(Ok));
        Ok(Taken::Rows(Box::pin(RecordBatchStreamAdapter::new(schema, rows))))
    }

    /// The steps with values for the parameters, and the filters on rows of the view as such.
    fn bound(&self, values: &[ScalarValue]) -> Option<(Vec<Bound>, Vec<Expr>)> {
        let (mut steps, mut filters) = (Vec::with_capacity(self.steps.len()), Vec::new());
        let mut of_view = true;
        for step in &self.steps {
            steps.push(match step {
                Step::Filter(filter) => {
                    let (expression, ready) = filter.with(values)?;
                    if of_view {
                        filters.push(expression);
                    }
                    Bound::Filter(ready)
                }
                Step::Project { expressions, output } => {
                    of_view = false;
                    let mut computed = Vec::with_capacity(expressions.len());
                    for (expression, field) in expressions.iter().zip(output.fields()) {
                        let (_, ready) = expression.with(values)?;
                        let kind = ready.data_type(expression.input.as_arrow()).ok()?;
                        if kind != *field.data_type() {
                            return None;
                        }
                        computed.push(ready);
                    }
                    Bound::Project(computed, Arc::clone(output))
                }
                Step::Sort { by, first } => {
                    of_view &= first.is_none();
                    let by = by.iter().map(|(by, options)| Some((by.with(values)?.1, *options)));
                    Bound::Sort(by.collect::<Option<_>>()?, *first)
                }
                Step::Limit(limit) => {
                    of_view = false;
                    let given = |count: &Option<Box<Expr>>| {
                        let given = count
                            .as_deref()
                            .map(|count| Some(Box::new(bind(count.clone(), values)?)));
                        given.map_or(Some(None), |count| count.map(Some))
                    };
                    let limit = Limit {
                        skip: given(&limit.skip)?,
                        fetch: given(&limit.fetch)?,
                        input: Arc::clone(&limit.input),
                    };
                    match (limit.get_skip_type(), limit.get_fetch_type()) {
                        (Ok(SkipType::Literal(skip)), Ok(FetchType::Literal(fetch))) => Bound::Limit(skip, fetch),
                        _ => return None,
                    }
                }
            });
        }
        Some((steps, filters))
    }
}

fn options(by: &SortExpr) -> SortOptions {
    SortOptions {
        descending: !by.asc,
        nulls_first: by.nulls_first,
    }
}

impl Computed {
    fn new(expression: &Expr, input: &DFSchemaRef, place: Place) -> Option<Self> {
        if !is_plain(expression, input, place) {
            return None;
        }
        let expression = bind(expression.clone(), &[])?;
        let open = expression
            .exists(|part| Ok(matches!(part, Expr::Placeholder(_))))
            .ok()?;
        let ready = match open {
            true => None,
            false => Some(compile(&expression, input)?),
        };
        Some(Self {
            expression,
            input: Arc::clone(input),
            ready,
        })
    }

    fn sort(by: &SortExpr, input: &DFSchemaRef) -> Option<Self> {
        let computed = Self::new(&by.expr, input, Place::Result)?;
        // The order of a value from outside is the long way's affair, and so is that of what holds other values.
        let kind = computed.ready.as_ref()?.data_type(input.as_arrow()).ok()?;
        (!kind.is_nested()).then_some(computed)
    }

    fn with(&self, values: &[ScalarValue]) -> Option<(Expr, Arc<dyn PhysicalExpr>)> {
        if let Some(ready) = &self.ready {
            return Some((self.expression.clone(), Arc::clone(ready)));
        }
        let expression = bind(self.expression.clone(), values)?;
        let ready = compile(&expression, &self.input)?;
        Some((expression, ready))
    }
}

fn compile(expression: &Expr, input: &DFSchemaRef) -> Option<Arc<dyn PhysicalExpr>> {
    let context = PhysicalPlanningContext::default();
    create_physical_expr(expression, input, &ExecutionProps::new(), &context).ok()
}

/// The expression with values in the place of as many parameters as there are values for, and casts of values done; `None` when
/// one cannot be done.
fn bind(expression: Expr, values: &[ScalarValue]) -> Option<Expr> {
    let mut possible = true;
    let bound = expression.transform_up(|part| {
        Ok(match part {
            Expr::Placeholder(open) if !values.is_empty() => {
                let number = open
                    .id
                    .strip_prefix('$')
                    .and_then(|number| number.parse::<usize>().ok());
                match number.and_then(|number| values.get(number.checked_sub(1)?)) {
                    Some(value) => Transformed::yes(Expr::Literal(value.clone(), None)),
                    None => {
                        possible = false;
                        Transformed::no(Expr::Placeholder(open))
                    }
                }
            }
            Expr::Cast(cast) => match cast.expr.as_ref() {
                Expr::Literal(value, _) => match value.cast_to(cast.field.data_type()) {
                    Ok(value) => Transformed::yes(Expr::Literal(value, None)),
                    Err(_) => {
                        possible = false;
                        Transformed::no(Expr::Cast(cast))
                    }
                },
                _ => Transformed::no(Expr::Cast(cast)),
            },
            other => Transformed::no(other),
        })
    });
    bound.data().ok().filter(|_| possible)
}

/// Whether an expression means the same on both ways.
fn is_plain(expression: &Expr, input: &DFSchemaRef, place: Place) -> bool {
    let mut plain = true;
    let visited = expression.apply(|part| {
        plain &= match part {
            Expr::Column(_)
            | Expr::Alias(_)
            | Expr::Literal(..)
            | Expr::Placeholder(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Between(_)
            | Expr::InList(_) => true,
            Expr::Cast(cast) => place == Place::Result || is_certain(&cast.expr, input, cast.field.data_type()),
            Expr::BinaryExpr(binary) => match binary.op {
                Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
                | Operator::And
                | Operator::Or
                | Operator::IsDistinctFrom
                | Operator::IsNotDistinctFrom => true,
                Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo => {
                    place == Place::Result
                }
                _ => false,
            },
            Expr::Negative(_) => place == Place::Result,
            _ => false,
        };
        Ok(match plain {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    });
    plain && visited.is_ok()
}

/// Whether a cast succeeds whatever the row: of a value, which is tried beforehand, or of a number to what holds all of them.
fn is_certain(of: &Expr, input: &DFSchemaRef, to: &DataType) -> bool {
    match of {
        Expr::Literal(..) | Expr::Placeholder(_) => true,
        _ => match of.get_type(input) {
            Ok(from) => from.is_signed_integer() && matches!(to, DataType::Int64 | DataType::Float64),
            Err(_) => false,
        },
    }
}

impl Bound {
    fn apply(&self, schema: SchemaRef, batches: Vec<RecordBatch>) -> QueryResult<(SchemaRef, Vec<RecordBatch>)> {
        let batches = batches.into_iter().filter(|batch| batch.num_rows() > 0);
        match self {
            Self::Filter(predicate) => {
                let kept = batches.map(|batch| {
                    let mask = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
                    Ok(filter_record_batch(&batch, mask.as_boolean())?)
                });
                Ok((schema, kept.collect::<QueryResult<_>>()?))
            }
            Self::Project(expressions, output) => {
                let projected = batches.map(|batch| {
                    let rows = batch.num_rows();
                    let columns = expressions.iter().map(|one| one.evaluate(&batch)?.into_array(rows));
                    let columns = columns.collect::<QueryResult<_>>()?;
                    let options = RecordBatchOptions::new().with_row_count(Some(rows));
                    Ok(RecordBatch::try_new_with_options(
                        Arc::clone(output),
                        columns,
                        &options,
                    )?)
                });
                Ok((Arc::clone(output), projected.collect::<QueryResult<_>>()?))
            }
            Self::Sort(by, first) => {
                let all = concat_batches(&schema, &batches.collect::<Vec<_>>())?;
                if all.num_rows() < 2 {
                    return Ok((schema, vec![all]));
                }
                let columns = by.iter().map(|(by, options)| {
                    Ok(SortColumn {
                        values: by.evaluate(&all)?.into_array(all.num_rows())?,
                        options: Some(*options),
                    })
                });
                let order = lexsort_to_indices(&columns.collect::<QueryResult<Vec<_>>>()?, *first)?;
                Ok((schema, vec![take_record_batch(&all, &order)?]))
            }
            Self::Limit(skip, fetch) => {
                let (mut skip, mut left) = (*skip, fetch.unwrap_or(usize::MAX));
                let mut kept = Vec::new();
                for batch in batches {
                    let start = skip.min(batch.num_rows());
                    skip -= start;
                    let rows = left.min(batch.num_rows() - start);
                    left -= rows;
                    if rows > 0 {
                        kept.push(batch.slice(start, rows));
                    }
                }
                Ok((schema, kept))
            }
        }
    }
}

#[cfg(test)]
mod tests;
