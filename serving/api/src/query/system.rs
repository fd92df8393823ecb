//! System tables: what the HTTP API says of this site, in SQL. The schema `anabranch`.

mod rows;

use std::fmt;
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_front::{columns, sheet};
use anabranch_realtime::Directory;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session as QuerySession, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as QueryResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::follow::adoption::Adoption;
use crate::follow::masters::Masters;
use crate::forward::Forwarder;
use crate::snapshot::consistency::Consistency;

/// What the tables are read from.
pub(crate) struct System {
    pub(crate) adoption: Arc<Adoption>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) masters: Arc<Masters>,
    pub(crate) consistency: Arc<Consistency>,
    pub(crate) forwarder: Arc<Forwarder>,
}

/// A table of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Views,
    Runs,
    Partitions,
    Workers,
    DeadLetters,
    Coverage,
}

impl Table {
    pub(crate) const ALL: [Self; 6] = [
        Self::Coverage,
        Self::DeadLetters,
        Self::Partitions,
        Self::Runs,
        Self::Views,
        Self::Workers,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Views => "views",
            Self::Runs => "runs",
            Self::Partitions => "partitions",
            Self::Workers => "workers",
            Self::DeadLetters => "dead_letters",
            Self::Coverage => "coverage",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Whether the table is there for a principal. Dead letters hold events as they came, whatever views they belong to.
    pub(crate) fn is_readable(self, principal: &Principal) -> bool {
        match self {
            Self::DeadLetters => principal.may_administer(),
            // Runs and services tell of all views.
            Self::Runs | Self::Workers => principal.may_read_all(),
            _ => true,
        }
    }

    pub(crate) fn schema(self) -> SchemaRef {
        let text = DataType::Utf8;
        let (int, bigint, flag) = (DataType::Int32, DataType::Int64, DataType::Boolean);
        let instant = DataType::Timestamp(TimeUnit::Microsecond, None);
        match self {
            Self::Views => columns(&[
                ("name", text.clone()),
                ("source", text.clone()),
                ("topic", text.clone()),
                ("definition", text.clone()),
                ("hash", text),
                ("changing", flag),
                ("publication", bigint.clone()),
                ("batch_groups", bigint.clone()),
                ("batch_events", bigint),
            ]),
            Self::Runs => columns(&[
                ("run_id", text.clone()),
                ("state", text.clone()),
                ("kind", text.clone()),
                ("trigger", text.clone()),
                ("mode", text.clone()),
                ("reason", text.clone()),
                ("created_at", instant.clone()),
                ("started_at", instant.clone()),
                ("finished_at", instant),
                ("rows", bigint.clone()),
                ("groups", bigint.clone()),
                ("publication", bigint),
                ("differs", flag),
                ("error", text),
            ]),
            Self::Partitions => columns(&[
                ("source", text.clone()),
                ("topic", text.clone()),
                ("partition", int),
                ("owner", text),
                ("epoch", bigint.clone()),
                ("next_consumed", bigint.clone()),
                ("next_landed", bigint.clone()),
                ("log_end", bigint.clone()),
                ("lag", bigint.clone()),
                ("not_landed", bigint.clone()),
                ("open_segments", bigint.clone()),
                ("sealed_segments", bigint),
            ]),
            Self::Workers => columns(&[
                ("kind", text.clone()),
                ("id", text.clone()),
                ("address", text.clone()),
                ("answers", flag),
                ("error", text),
                ("publication", bigint),
            ]),
            Self::DeadLetters => columns(&[
                ("source", text.clone()),
                ("partition", int),
                ("offset", bigint.clone()),
                ("at", instant),
                ("reason", text.clone()),
                ("bytes", bigint),
                ("preview", text),
            ]),
            Self::Coverage => columns(&[
                ("view", text.clone()),
                ("partition", text),
                ("publication", bigint.clone()),
                ("batch_version", bigint.clone()),
                ("batch_cut", bigint.clone()),
                ("served_through", bigint.clone()),
                ("since", bigint),
                ("missing", flag.clone()),
                ("exact", flag),
            ]),
        }
    }
}

impl System {
    /// The tables, as a principal may see them.
    pub(crate) fn tables(self: &Arc<Self>, principal: &Principal) -> Arc<dyn SchemaProvider> {
        Arc::new(Tables {
            system: Arc::clone(self),
            principal: principal.clone(),
        })
    }
}

/// The tables as a principal sees them.
struct Tables {
    system: Arc<System>,
    principal: Principal,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tables").field(&self.principal).finish()
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        let readable = Table::ALL
            .into_iter()
            .filter(|table| table.is_readable(&self.principal));
        readable.map(|table| table.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        let table = Table::of_name(name).filter(|table| table.is_readable(&self.principal));
        Ok(table.map(|table| {
            Arc::new(SystemTable {
                table,
                schema: table.schema(),
                system: Arc::clone(&self.system),
                principal: self.principal.clone(),
            }) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        Table::of_name(name).is_some_and(|table| table.is_readable(&self.principal))
    }
}

/// One table. Its rows are gathered when it is scanned, as they are at that moment.
struct SystemTable {
    table: Table,
    schema: SchemaRef,
    system: Arc<System>,
    principal: Principal,
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SystemTable").field(&self.table).finish()
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn QuerySession,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let rows = self.system.rows(self.table, &self.principal).await?;
        let batch = sheet(&self.schema, &rows)?;
        let exec = MemorySourceConfig::try_new_exec(&[vec![batch]], self.schema(), projection.cloned())?;
        Ok(exec)
    }
}
