use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_front::{CATALOG, PUBLIC, QueryEngine, SYSTEM, bound_functions};
use datafusion::catalog::memory::{MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::{PgCatalogSchemaProvider, PgCatalogStaticTables};

use super::information_schema::InformationSchema;
use super::pg::PgCatalog;
use super::relations::{Listing, Relations, role};
use super::{INFORMATION_SCHEMA, PG_CATALOG, functions};

/// Memory of all catalog statements of a principal, in bytes.
const MEMORY_BYTES: usize = 128 << 20;

/// The context of a principal's catalog statements: no files, no spilling, bounded memory.
pub(super) fn build(
    engine: &Arc<dyn QueryEngine>,
    tables: &Arc<PgCatalogStaticTables>,
    principal: &Principal,
) -> Result<SessionContext> {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, PUBLIC)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(1)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_str("datafusion.sql_parser.dialect", "PostgreSQL")
        .set_str("datafusion.execution.time_zone", "UTC");
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(MEMORY_BYTES)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let catalogs: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
    let catalog = Arc::new(MemoryCatalogProvider::new());
    catalogs.register_catalog(CATALOG.to_owned(), Arc::clone(&catalog) as Arc<dyn CatalogProvider>);

    let listing = Listing::new(engine, principal);
    let roles = Roles(role(principal).into());
    let pg = PgCatalogSchemaProvider::try_new(Arc::clone(&catalogs), Arc::clone(tables), roles)?;
    let pg: Arc<dyn SchemaProvider> = Arc::new(PgCatalog::new(pg, listing.clone()));
    let schemas: [(&str, Arc<dyn SchemaProvider>); 4] = [
        (
            PUBLIC,
            Arc::new(Relations::new(PUBLIC, listing.clone(), Some(Arc::clone(&pg)))),
        ),
        (SYSTEM, Arc::new(Relations::new(SYSTEM, listing.clone(), None))),
        (INFORMATION_SCHEMA, Arc::new(InformationSchema(listing))),
        (PG_CATALOG, pg),
    ];
    for (name, schema) in schemas {
        catalog.register_schema(name, schema)?;
    }
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_runtime_env(runtime)
        .with_catalog_list(catalogs)
        .with_type_planner(Arc::new(PgOidTypePlanner))
        .build();
    bound_functions(&mut state)?;
    let context = SessionContext::new_with_state(state);
    functions::register(&context, role(principal), tables);
    CoerceIntArgsToBigInt::widen(&context);
    Ok(context)
}

/// The one role that there is, for whoever asks.
#[derive(Clone, Debug)]
struct Roles(Arc<str>);

#[async_trait::async_trait]
impl PgCatalogContextProvider for Roles {
    async fn roles(&self) -> Vec<String> {
        vec![self.0.to_string()]
    }

    async fn role(&self, name: &str) -> Option<Role> {
        (name == &*self.0).then(|| Role {
            name: name.to_owned(),
            is_superuser: false,
            can_login: true,
            can_create_db: false,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: Vec::new(),
            inherited_roles: Vec::new(),
        })
    }
}
