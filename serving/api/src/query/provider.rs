mod scan;

use std::fmt;
use std::sync::Arc;

use anabranch_view::View;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::internal_err;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as QueryResult;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

use crate::snapshot::consistency::Frozen;
use crate::snapshot::pushdown::{Pushdown, is_pushable};
use crate::snapshot::reading::Reading;
use scan::MergedScan;

/// Up to so many groups are merged before the query begins.
const SMALL_ROWS: usize = 32_768;

/// The state that an execution reads, and what it takes its memory from, in its session's configuration: plans are made before
/// anything is frozen.
pub(crate) struct FrozenState {
    pub(crate) frozen: Arc<Frozen>,
    /// Its view, where that was opened before: for the first scan that asks for the same groups.
    pub(crate) opened: Mutex<Option<(Pushdown, Reading)>>,
    pub(crate) memory: Arc<dyn MemoryPool>,
}

/// A merged view as a table. Filters on key columns are applied before merging, all filters after it.
pub(crate) struct MergedView {
    view: View,
}

impl MergedView {
    pub(crate) fn new(view: View) -> Self {
        Self { view }
    }
}

impl fmt::Debug for MergedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MergedView").field(&self.view.name()).finish()
    }
}

#[async_trait]
impl TableProvider for MergedView {
    fn schema(&self) -> SchemaRef {
        self.view.output_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        // Never `Exact`: the query engine's own reading of a filter has the last word.
        Ok(filters
            .iter()
            .map(|filter| {
                if is_pushable(&self.view, filter) {
                    TableProviderFilterPushDown::Inexact
                } else {
                    TableProviderFilterPushDown::Unsupported
                }
            })
            .collect())
    }

    /// A small part of a view is read and merged at once, so that the planner knows the true size of each input; a large one
    /// is merged while it is read.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let pushdown = Pushdown::new(&self.view, filters);
        let Some(state_of) = state.config().get_extension::<FrozenState>() else {
            return internal_err!("view {} is executed without a frozen state", self.view.name());
        };
        let memory = &state_of.memory;
        let opened = state_of.opened.lock().take();
        let reading = match opened.filter(|(groups, _)| groups.sql == pushdown.sql) {
            Some((_, reading)) => reading,
            None => state_of.frozen.open(self.view.name(), &pushdown, memory).await?,
        };
        let partitions = state.config().target_partitions();
        if reading.rows_at_most() > SMALL_ROWS && self.view.key_count() > 0 {
            return Ok(Arc::new(MergedScan::new(&self.view, reading, projection, partitions)?));
        }
        let batches = reading.collect().await?;
        // A batch to each partition in turn, so that they are queried in parallel.
        let partitions = partitions.clamp(1, batches.len().max(1));
        let mut spread = vec![Vec::new(); partitions];
        for (index, batch) in batches.into_iter().enumerate() {
            spread[index % partitions].push(batch);
        }
        let exec = MemorySourceConfig::try_new_exec(&spread, self.view.output_schema(), projection.cloned())?;
        Ok(exec)
    }
}
