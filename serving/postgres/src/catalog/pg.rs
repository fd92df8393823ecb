use std::fmt;
use std::sync::Arc;

use anabranch_front::{CATALOG, RelationKind};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::Column;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::prelude::lit;
use datafusion::scalar::ScalarValue;

use super::empty;
use super::relations::Listing;
use super::settings::SessionTable;
use super::sheet::{Sheet, bool, int, text};

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
const OWN: [&str; 10] = [
    "pg_cursors",
    "pg_parameter_acl",
    "pg_settings",
    "pg_stat_activity",
    "pg_stat_database",
    "pg_timezone_names",
    "pg_ts_config_map",
    "pg_user",
    "pg_user_mappings",
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
            "pg_parameter_acl" => Sheet::new("oid:int parname paracl").table()?,
            "pg_user_mappings" => Sheet::new("umid:int srvid:int srvname umuser:int usename umoptions").table()?,
            "pg_ts_config_map" => Sheet::new("mapcfg:int maptokentype:int mapseqno:int mapdict:int").table()?,
            "pg_settings" => Arc::new(SessionTable::settings()?),
            "pg_cursors" => Arc::new(SessionTable::cursors()?),
            "pg_views" => self.views()?,
            "pg_user" => self.users()?,
            "pg_timezone_names" => zones()?,
            "pg_stat_activity" => Sheet::new(
                "datid:int datname pid:int usesysid:int usename application_name client_addr state query backend_type",
            )
            .table()?,
            "pg_stat_database" => {
                Sheet::new("datid:int datname numbackends:int xact_commit:long xact_rollback:long").table()?
            }
            name => match self.inner.table(name).await? {
                // What other systems keep of themselves in these tables tells nothing of this one.
                Some(table) if empty::is_empty_here(name) => {
                    let schema = Arc::new(empty::with_arrays(name, &table.schema()));
                    Arc::new(MemTable::try_new(schema, vec![Vec::new()])?)
                }
                // There is one, whatever a client calls it.
                Some(table) if name == "pg_database" => only(name, table, "datname", CATALOG)?,
                Some(table) if name == "pg_class" => widened(name, table, &["relacl", "reloptions"])?,
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
        let relations = self.listing.relations().into_iter();
        let views = relations.filter(|relation| relation.kind == RelationKind::View);
        let rows = views.map(|view| {
            vec![
                ("schemaname", text(view.schema)),
                ("viewname", text(view.name)),
                ("viewowner", text(self.listing.owner())),
                ("definition", ScalarValue::Utf8(view.definition)),
            ]
        });
        Sheet::new("schemaname viewname viewowner definition")
            .rows(rows)
            .table()
    }

    fn users(&self) -> Result<Arc<dyn TableProvider>> {
        let never = ["usecreatedb", "usesuper", "userepl", "usebypassrls"].map(|name| (name, bool(false)));
        let mut row = vec![("usename", text(self.listing.owner())), ("usesysid", int(10))];
        row.extend(never);
        Sheet::new("usename usesysid:int usecreatedb:bool usesuper:bool userepl:bool usebypassrls:bool")
            .row(row)
            .table()
    }
}

/// A table of the library with more columns, which PostgreSQL has and which say nothing here: lists that are NULL.
fn widened(name: &str, table: Arc<dyn TableProvider>, more: &[&str]) -> Result<Arc<dyn TableProvider>> {
    let known = table.schema();
    let known = known
        .fields()
        .iter()
        .map(|field| Expr::Column(Column::new(Some(name), field.name())));
    let none = lit(ScalarValue::try_from(&DataType::new_list(DataType::Utf8, true))?);
    let columns: Vec<Expr> = known.chain(more.iter().map(|name| none.clone().alias(*name))).collect();
    let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.project(columns)?;
    Ok(Arc::new(ViewTable::new(plan.build()?, None)))
}

/// The rows of a table of the library that have this text in a column.
fn only(name: &str, table: Arc<dyn TableProvider>, column: &str, value: &str) -> Result<Arc<dyn TableProvider>> {
    let wanted = Expr::Column(Column::new(Some(name), column)).eq(lit(value));
    let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.filter(wanted)?;
    Ok(Arc::new(ViewTable::new(plan.build()?, None)))
}

fn zones() -> Result<Arc<dyn TableProvider>> {
    let row = [
        ("name", text("UTC")),
        ("abbrev", text("UTC")),
        ("utc_offset", text("00:00:00")),
        ("is_dst", bool(false)),
    ];
    Sheet::new("name abbrev utc_offset is_dst:bool").row(row).table()
}
