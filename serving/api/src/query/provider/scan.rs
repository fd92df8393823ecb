//! A large view as a plan: merged while it is read, in key order, in several parts.

use std::fmt;
use std::sync::Arc;

use anabranch_merge::Order;
use anabranch_view::View;
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::{DataFusionError, Result as QueryResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SortOrderPushdownResult,
};
use futures::TryStreamExt;

use crate::snapshot::reading::Reading;

/// Reads and merges the selected groups of one view. Each partition is a run of keys; its rows are in key order.
pub(crate) struct MergedScan {
    name: String,
    readings: Vec<Reading>,
    /// Columns of the view's output.
    projection: Vec<usize>,
    schema: SchemaRef,
    /// The column of the schema that each leading key is, and whether it holds no null.
    keys: Vec<(Column, bool)>,
    order: Order,
    rows: usize,
    properties: Arc<PlanProperties>,
}

impl MergedScan {
    pub(crate) fn new(
        view: &View,
        reading: Reading,
        projection: Option<&Vec<usize>>,
        partitions: usize,
    ) -> QueryResult<Self> {
        let output = view.output_schema();
        let projection = projection
            .cloned()
            .unwrap_or_else(|| (0..output.fields().len()).collect());
        let schema = Arc::new(output.project(&projection)?);
        let keys = leading_keys(view, &schema, &reading);
        let rows = reading.rows_at_most();
        let readings = reading.divide(partitions);
        let properties = properties(&schema, &keys, Order::Ascending, readings.len());
        Ok(Self {
            name: view.name().to_owned(),
            readings,
            projection,
            schema,
            keys,
            order: Order::Ascending,
            rows,
            properties,
        })
    }

    /// The same from the other end.
    fn descending(&self) -> Self {
        let order = Order::Descending;
        Self {
            name: self.name.clone(),
            readings: self.readings.clone(),
            projection: self.projection.clone(),
            schema: Arc::clone(&self.schema),
            keys: self.keys.clone(),
            order,
            rows: self.rows,
            properties: properties(&self.schema, &self.keys, order, self.readings.len()),
        }
    }
}

/// The keys that the rows are ordered by: those that are columns, up to the first that is not.
fn leading_keys(view: &View, schema: &SchemaRef, reading: &Reading) -> Vec<(Column, bool)> {
    let column = |key: usize| {
        let named = view.output_keys().iter().filter(|(_, number)| *number == key);
        let mut indices = named.filter_map(|(name, _)| Some(Column::new(name, schema.index_of(name).ok()?)));
        indices.next()
    };
    (0..view.key_count())
        .map_while(|key| Some((column(key)?, reading.is_without_null_keys(key))))
        .collect()
}

fn properties(schema: &SchemaRef, keys: &[(Column, bool)], order: Order, partitions: usize) -> Arc<PlanProperties> {
    let descending = order == Order::Descending;
    // Where there is no null it may as well stand at either end; queries that say nothing of nulls want them behind the
    // largest values.
    let sorted = keys.iter().map(|(column, without_nulls)| PhysicalSortExpr {
        expr: Arc::new(column.clone()),
        options: SortOptions {
            descending,
            nulls_first: *without_nulls == descending,
        },
    });
    let sorted: Vec<PhysicalSortExpr> = sorted.collect();
    let orderings = Some(sorted).filter(|sorted| !sorted.is_empty());
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new_with_orderings(Arc::clone(schema), orderings),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

impl fmt::Debug for MergedScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MergedScan").field(&self.name).finish()
    }
}

impl DisplayAs for MergedScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, rows, parts) = (&self.name, self.rows, self.readings.len());
        write!(f, "MergedScan: view={name}, groups<={rows}, partitions={parts}")?;
        if self.order == Order::Descending {
            write!(f, ", backwards")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for MergedScan {
    fn name(&self) -> &'static str {
        "MergedScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> QueryResult<TreeNodeRecursion>,
    ) -> QueryResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            internal_err!("a scan has no children")
        }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> QueryResult<SendableRecordBatchStream> {
        let Some(reading) = self.readings.get(partition).cloned() else {
            return internal_err!(
                "a scan of {} partitions has no partition {partition}",
                self.readings.len()
            );
        };
        let projection = self.projection.clone();
        let rows = reading
            .stream(self.order)
            .map_err(DataFusionError::from)
            .and_then(move |batch| {
                let projected = batch.project(&projection).map_err(DataFusionError::from);
                async move { projected }
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows)))
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> QueryResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let rows = match args.partition() {
            Some(partition) => self.readings.get(partition).map_or(0, Reading::rows_at_most),
            None => self.rows,
        };
        statistics.num_rows = Precision::Inexact(rows);
        Ok(Arc::new(statistics))
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> QueryResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        let backwards = order.len() <= self.keys.len()
            && order.iter().zip(&self.keys).all(|(wanted, (column, without_nulls))| {
                let same = wanted.expr.downcast_ref::<Column>() == Some(column);
                same && wanted.options.descending && (*without_nulls || !wanted.options.nulls_first)
            });
        Ok(if backwards && self.order != Order::Descending {
            SortOrderPushdownResult::Exact {
                inner: Arc::new(self.descending()),
            }
        } else {
            SortOrderPushdownResult::Unsupported
        })
    }
}
