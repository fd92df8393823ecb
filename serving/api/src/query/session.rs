//! What a query may see: the views of its principal, system tables, functions.

use std::fmt;
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_view::View;
use async_trait::async_trait;
use datafusion::catalog::memory::{MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as QueryResult;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use crate::Error;
use crate::provider::MergedView;

/// The SQL catalog that holds everything.
pub(crate) const CATALOG: &str = "anabranch";
/// The schema of the views.
pub(crate) const SCHEMA: &str = "public";

/// What holds for all statements of one connection.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who asks.
    pub principal: Principal,
}

impl Session {
    pub fn new(principal: Principal) -> Self {
        Self { principal }
    }
}

/// A schema beside the views: system tables, or the catalog that SQL clients look for.
pub trait SystemSchema: Send + Sync {
    /// Its name in SQL, in lower case.
    fn name(&self) -> &str;

    /// Whether its tables are found by their bare names too, behind the views.
    fn is_searched(&self) -> bool {
        false
    }

    /// Its tables, as this session may see them. `catalogs` holds all other schemas of the session.
    fn tables(&self, session: &Session, catalogs: &Arc<dyn CatalogProviderList>) -> Arc<dyn SchemaProvider>;
}

/// Everything that names in one statement can mean.
pub(crate) struct Scope {
    /// The views that the principal may read.
    pub(crate) views: Arc<Vec<View>>,
    pub(crate) schemas: Vec<(String, Arc<dyn SchemaProvider>)>,
    searched: Vec<Arc<dyn SchemaProvider>>,
    catalogs: Arc<dyn CatalogProviderList>,
}

impl Scope {
    pub(crate) fn new(session: &Session, served: &[View], system: &[Arc<dyn SystemSchema>]) -> Result<Self, Error> {
        let readable = served.iter().filter(|view| session.principal.may_read(view.name()));
        let views: Arc<Vec<View>> = Arc::new(readable.cloned().collect());
        let catalog = Arc::new(MemoryCatalogProvider::new());
        let catalogs: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        catalogs.register_catalog(CATALOG.to_owned(), Arc::clone(&catalog) as Arc<dyn CatalogProvider>);
        let (mut schemas, mut searched) = (Vec::new(), Vec::new());
        for system in system {
            let tables = system.tables(session, &catalogs);
            if system.is_searched() {
                searched.push(Arc::clone(&tables));
            }
            catalog
                .register_schema(system.name(), Arc::clone(&tables))
                .map_err(Error::from_query)?;
            schemas.push((system.name().to_owned(), tables));
        }
        let public = Public {
            views: Arc::clone(&views),
            searched: searched.clone(),
        };
        catalog
            .register_schema(SCHEMA, Arc::new(public))
            .map_err(Error::from_query)?;
        Ok(Self {
            views,
            schemas,
            searched,
            catalogs,
        })
    }

    /// Whether a name that is no view's is that of a system table.
    pub(crate) fn has_system_table(&self, schema: Option<&str>, table: &str) -> bool {
        match schema {
            Some(schema) => self
                .schemas
                .iter()
                .any(|(name, tables)| name == schema && tables.table_exist(table)),
            None => self.searched.iter().any(|tables| tables.table_exist(table)),
        }
    }

    /// A session that sees this and nothing else.
    pub(crate) fn state(&self, template: &SessionState) -> SessionState {
        let mut state = SessionStateBuilder::new_from_existing(template.clone())
            .with_catalog_list(Arc::clone(&self.catalogs))
            .build();
        // `now()` is the time of this query, not of the template.
        state.mark_start_execution();
        state
    }
}

/// Functions and rules of every query; catalog and memory are each query's own.
pub(crate) fn template() -> SessionState {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_bool("datafusion.explain.show_statistics", false)
        // What a scan from the end of a view may be ahead of its reader, in bytes.
        .set_usize("datafusion.execution.sort_pushdown_buffer_capacity", 16 << 20)
        .set_str("datafusion.execution.time_zone", "UTC");
    SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .build()
}

/// The views that a session may read, and behind them the tables of searched schemas.
struct Public {
    views: Arc<Vec<View>>,
    searched: Vec<Arc<dyn SchemaProvider>>,
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.views.iter().map(View::name)).finish()
    }
}

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        self.views.iter().map(|view| view.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        if let Some(view) = self.views.iter().find(|view| view.name() == name) {
            return Ok(Some(Arc::new(MergedView::new(view.clone()))));
        }
        for schema in &self.searched {
            if let Some(table) = schema.table(name).await? {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.views.iter().any(|view| view.name() == name)
    }
}
