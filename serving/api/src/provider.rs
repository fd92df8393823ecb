use std::fmt;
use std::sync::Arc;

use anabranch_view::View;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as QueryResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::consistency::Frozen;
use crate::pushdown::{Pushdown, is_pushable};

/// The views of one request as one SQL schema. All tables share one frozen state.
pub(crate) struct FrozenSchema(pub(crate) Arc<Frozen>);

impl fmt::Debug for FrozenSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.views().map(View::name)).finish()
    }
}

#[async_trait]
impl SchemaProvider for FrozenSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.views().map(|view| view.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        let view = self.0.views().find(|view| view.name() == name).cloned();
        Ok(view.map(|view| {
            Arc::new(MergedView {
                frozen: Arc::clone(&self.0),
                view,
            }) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.views().any(|view| view.name() == name)
    }
}

/// A merged view as a table. Filters on key columns are applied before merging, all filters after it.
pub(crate) struct MergedView {
    frozen: Arc<Frozen>,
    view: View,
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

    /// Reads and merges at once, so that the planner knows the true size of each input.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let pushdown = Pushdown::new(&self.view, filters);
        let batches = self.frozen.read(self.view.name(), &pushdown).await?;
        // A batch to each partition in turn, so that large views are queried in parallel.
        let partitions = state.config().target_partitions().clamp(1, batches.len().max(1));
        let mut spread = vec![Vec::new(); partitions];
        for (index, batch) in batches.into_iter().enumerate() {
            spread[index % partitions].push(batch);
        }
        let exec = MemorySourceConfig::try_new_exec(&spread, self.view.output_schema(), projection.cloned())?;
        Ok(exec)
    }
}
