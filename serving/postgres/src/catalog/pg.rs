use std::fmt;
use std::sync::Arc;

use anabranch_front::RelationKind;
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

use super::empty;
use super::relations::Listing;
use super::sheet::{int, sheet, text};
use crate::session;

/// `pg_catalog`: the tables that `datafusion-pg-catalog` has, and those that tell of this server.
pub(super) struct PgCatalog<P> {
    inner: P,
    listing: Listing,
}

impl<P> PgCatalog<P> {
    pub(super) fn new(inner: P, listing: Listing) -> Self {
        Self { inner, listing }
    }
}

impl<P> fmt::Debug for PgCatalog<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgCatalog")
            .field("listing", &self.listing)
            .finish_non_exhaustive()
    }
}

/// Tables that are made here.
const OWN: [&str; 6] = [
    "pg_settings",
    "pg_stat_activity",
    "pg_stat_database",
    "pg_timezone_names",
    "pg_user",
    "pg_views",
];

#[async_trait]
impl<P: SchemaProvider + 'static> SchemaProvider for PgCatalog<P> {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.inner.table_names();
        names.extend(OWN.iter().map(|name| (*name).to_owned()));
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(match name {
            "pg_settings" => settings()?,
            "pg_views" => self.views()?,
            "pg_user" => self.users()?,
            "pg_timezone_names" => zones()?,
            "pg_stat_activity" => sheet(
                &[
                    ("datid", DataType::Int32),
                    ("datname", DataType::Utf8),
                    ("pid", DataType::Int32),
                    ("usesysid", DataType::Int32),
                    ("usename", DataType::Utf8),
                    ("application_name", DataType::Utf8),
                    ("client_addr", DataType::Utf8),
                    ("state", DataType::Utf8),
                    ("query", DataType::Utf8),
                    ("backend_type", DataType::Utf8),
                ],
                Vec::new(),
            )?,
            "pg_stat_database" => sheet(
                &[
                    ("datid", DataType::Int32),
                    ("datname", DataType::Utf8),
                    ("numbackends", DataType::Int32),
                    ("xact_commit", DataType::Int64),
                    ("xact_rollback", DataType::Int64),
                ],
                Vec::new(),
            )?,
            name => match self.inner.table(name).await? {
                // What other systems keep of themselves in these tables tells nothing of this one.
                Some(table) if empty::is_empty_here(name) => {
                    let schema = Arc::new(empty::with_arrays(name, &table.schema()));
                    Arc::new(MemTable::try_new(schema, vec![Vec::new()])?)
                }
                Some(table) => table,
                None => return Ok(None),
            },
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        OWN.contains(&name) || self.inner.table_exist(name)
    }
}

impl<P> PgCatalog<P> {
    fn views(&self) -> Result<Arc<dyn TableProvider>> {
        let columns = [
            ("schemaname", DataType::Utf8),
            ("viewname", DataType::Utf8),
            ("viewowner", DataType::Utf8),
            ("definition", DataType::Utf8),
        ];
        let relations = self.listing.relations().into_iter();
        let views = relations.filter(|relation| relation.kind == RelationKind::View);
        let rows = views.map(|view| {
            vec![
                text(view.schema),
                text(view.name),
                text(self.listing.owner()),
                ScalarValue::Utf8(view.definition),
            ]
        });
        sheet(&columns, rows.collect())
    }

    fn users(&self) -> Result<Arc<dyn TableProvider>> {
        let columns = [
            ("usename", DataType::Utf8),
            ("usesysid", DataType::Int32),
            ("usecreatedb", DataType::Boolean),
            ("usesuper", DataType::Boolean),
            ("userepl", DataType::Boolean),
            ("usebypassrls", DataType::Boolean),
        ];
        let mut row = vec![text(self.listing.owner()), int(10)];
        row.resize(columns.len(), ScalarValue::Boolean(Some(false)));
        sheet(&columns, vec![row])
    }
}

fn settings() -> Result<Arc<dyn TableProvider>> {
    let names = [
        "name",
        "setting",
        "unit",
        "category",
        "short_desc",
        "extra_desc",
        "context",
        "vartype",
        "source",
        "min_val",
        "max_val",
        "boot_val",
        "reset_val",
        "sourcefile",
    ];
    let columns = names.map(|name| (name, DataType::Utf8));
    let rows = session::defaults().map(|(name, value)| {
        let mut row = vec![ScalarValue::Utf8(None); names.len()];
        row[0] = text(name);
        for column in [1, 11, 12] {
            row[column] = text(value.clone());
        }
        row[3] = text("Anabranch");
        row[6] = text("user");
        row[7] = text("string");
        row[8] = text("default");
        row
    });
    sheet(&columns, rows.collect())
}

fn zones() -> Result<Arc<dyn TableProvider>> {
    let columns = [
        ("name", DataType::Utf8),
        ("abbrev", DataType::Utf8),
        ("utc_offset", DataType::Utf8),
        ("is_dst", DataType::Boolean),
    ];
    let row = vec![
        text("UTC"),
        text("UTC"),
        text("00:00:00"),
        ScalarValue::Boolean(Some(false)),
    ];
    sheet(&columns, vec![row])
}
