//! What a query may see: the views of its principal, and system tables.

use std::fmt;
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_front::{SYSTEM, bound_functions};
use anabranch_view::View;
use async_trait::async_trait;
use datafusion::catalog::memory::{MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as QueryResult;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;

use super::provider::MergedView;
use super::system::System;
use crate::Error;

/// The SQL catalog that holds everything.
pub(crate) const CATALOG: &str = "anabranch";
/// The schema of the views.
pub(crate) const SCHEMA: &str = "public";

/// Everything that names in one statement can mean.
pub(crate) struct Scope {
    /// The views that the principal may read.
    pub(crate) views: Arc<Vec<View>>,
    system: Arc<dyn SchemaProvider>,
    catalogs: Arc<dyn CatalogProviderList>,
}

impl Scope {
    pub(crate) fn new(principal: &Principal, served: &[View], system: &Arc<System>) -> Result<Self, Error> {
        let readable = served.iter().filter(|view| principal.may_read(view.name()));
        let views: Arc<Vec<View>> = Arc::new(readable.cloned().collect());
        let system = system.tables(principal);
        let catalog = MemoryCatalogProvider::new();
        let public: Arc<dyn SchemaProvider> = Arc::new(Public(Arc::clone(&views)));
        for (name, schema) in [(SCHEMA, public), (SYSTEM, Arc::clone(&system))] {
            catalog.register_schema(name, schema).map_err(Error::from_query)?;
        }
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        Ok(Self {
            views,
            system,
            catalogs: Arc::new(catalogs),
        })
    }

    /// Whether a name that is no view's is that of a system table.
    pub(crate) fn has_system_table(&self, schema: Option<&str>, table: &str) -> bool {
        schema == Some(SYSTEM) && self.system.table_exist(table)
    }

    /// Lets a session see this and nothing else.
    pub(crate) fn enter(&self, state: &mut SessionState) {
        state.register_catalog_list(Arc::clone(&self.catalogs));
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
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .build();
    bound_functions(&mut state).expect("a session takes functions in the place of its own");
    state
}

/// The views that a principal may read.
struct Public(Arc<Vec<View>>);

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(View::name)).finish()
    }
}

#[async_trait]
impl SchemaProvider for Public {
    fn table_names(&self) -> Vec<String> {
        self.0.iter().map(|view| view.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        let view = self.0.iter().find(|view| view.name() == name);
        Ok(view.map(|view| Arc::new(MergedView::new(view.clone())) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.iter().any(|view| view.name() == name)
    }
}
