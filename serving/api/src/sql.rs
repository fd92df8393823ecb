use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use anabranch_access::Principal;
use anabranch_catalog::nearest;
use anabranch_view::View;
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::memory::{MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider};
use datafusion::common::{SchemaError, TableReference};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement, TableFactor, Visit, Visitor};
use futures::TryStreamExt;

use crate::Error;
use crate::consistency::{Consistency, Demand, Frozen};
use crate::format::{Answer, MAX_ANSWER_BYTES};
use crate::provider::FrozenSchema;
use crate::views;

/// Memory that one query may use for joins, sorts and aggregation, in bytes.
const QUERY_MEMORY_BYTES: usize = 1 << 30;
/// Below so many groups, one thread is faster than handing batches around.
const PARALLEL_ROWS: usize = 100_000;
/// How often a query is started anew when a speed worker disappears while its state is read.
const READS: u32 = 3;
const CATALOG: &str = "anabranch";
const SCHEMA: &str = "public";

/// Answers SQL over merged views.
pub(crate) struct SqlEngine {
    consistency: Arc<Consistency>,
    /// Functions and rules of every query; catalog and memory are each query's own.
    template: SessionState,
    threads: usize,
}

/// A query that passed the checks.
#[derive(Debug)]
struct Checked {
    statement: Statement,
    views: BTreeSet<String>,
}

impl SqlEngine {
    pub(crate) fn new(consistency: Arc<Consistency>) -> Self {
        let config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(false)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
            .set_bool("datafusion.explain.show_statistics", false)
            .set_str("datafusion.execution.time_zone", "UTC");
        let template = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .build();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            consistency,
            template,
            threads,
        }
    }

    /// Runs one query over the views that the principal may see.
    ///
    /// # Errors
    /// `Sql` for anything but one SELECT over views, `UnknownView`, and whatever the query or its views meet.
    pub(crate) async fn query(&self, sql: &str, demand: &Demand, principal: &Principal) -> Result<Answer, Error> {
        for _ in 1..READS {
            match self.attempt(sql, demand, principal).await {
                Err(error) if error.is_lost_worker() => tracing::debug!(%error, "running the query again"),
                settled => return settled,
            }
        }
        self.attempt(sql, demand, principal).await
    }

    async fn attempt(&self, sql: &str, demand: &Demand, principal: &Principal) -> Result<Answer, Error> {
        let served: Vec<View> = views::visible(&self.consistency.adoption.pin().served, principal)
            .cloned()
            .collect();
        let Checked { statement, views } = check(sql, &served)?;
        let views: Vec<View> = served
            .iter()
            .filter(|view| views.contains(view.name()))
            .cloned()
            .collect();
        let views = views.as_slice();
        let frozen = Arc::new(self.consistency.freeze(views, demand).await?);
        let state = self.session(&frozen)?;
        let plan = state
            .statement_to_plan(statement)
            .await
            .map_err(|error| self.explain(error, views))?;
        read_only().verify_plan(&plan).map_err(Error::from_query)?;
        let physical = state
            .create_physical_plan(&plan)
            .await
            .map_err(|error| self.explain(error, views))?;
        let stream = execute_stream(physical, state.task_ctx()).map_err(Error::from_query)?;
        let schema = stream.schema();
        let batches = collect(stream).await?;
        Ok(Answer {
            schema: output_schema(&plan, &schema),
            batches,
            coverage: frozen.coverage(),
        })
    }

    /// A session that sees the frozen views and nothing else: no files, no spilling, bounded memory.
    fn session(&self, frozen: &Arc<Frozen>) -> Result<SessionState, Error> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(QUERY_MEMORY_BYTES)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(Error::from_query)?;
        let catalog = MemoryCatalogProvider::new();
        let schema: Arc<dyn SchemaProvider> = Arc::new(FrozenSchema(Arc::clone(frozen)));
        catalog.register_schema(SCHEMA, schema).map_err(Error::from_query)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let threads = if frozen.batch_rows() < PARALLEL_ROWS {
            1
        } else {
            self.threads
        };
        let config = self.template.config().clone().with_target_partitions(threads);
        let mut state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_config(config)
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(catalogs))
            .build();
        // `now()` is the time of this query, not of the template.
        state.mark_start_execution();
        Ok(state)
    }

    /// Names the nearest column in what the planner says about an unknown one.
    fn explain(&self, error: DataFusionError, views: &[View]) -> Error {
        if let DataFusionError::SchemaError(inner, _) = error.find_root()
            && let SchemaError::FieldNotFound { field, .. } = inner.as_ref()
        {
            let schemas: Vec<SchemaRef> = views.iter().map(View::output_schema).collect();
            let columns = schemas
                .iter()
                .flat_map(|schema| schema.fields().iter())
                .map(|field| field.name().as_str());
            let hint = match nearest(&field.name, columns.clone()) {
                Some(near) => Some(format!("did you mean `{near}`?")),
                None => anabranch_catalog::did_you_mean(&field.name, columns),
            };
            return Error::Sql {
                message: format!("there is no column {}", field.quoted_flat_name()),
                hint,
            };
        }
        Error::from_query(error)
    }
}

/// Parses, refuses everything that is not one query, and finds the views it reads.
fn check(sql: &str, served: &[View]) -> Result<Checked, Error> {
    let parsed = DFParserBuilder::new(sql)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(Error::from_query)?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return Err(Error::Sql {
            message: "send exactly one SELECT".into(),
            hint: None,
        });
    };
    if !is_query(&statement) {
        return Err(Error::Sql {
            message: format!(
                "only SELECT is answered here, not {}",
                first_words(&statement.to_string())
            ),
            hint: Some("views are declared in views.sql; events are sent to /v1/ingest".into()),
        });
    }
    let mut functions = TableFunctions::default();
    if let Statement::Statement(inner) = &statement {
        let _: ControlFlow<()> = inner.visit(&mut functions);
    }
    if let Some(clause) = functions.refused {
        return Err(Error::Sql {
            message: format!("{clause} is not allowed in a query"),
            hint: None,
        });
    }
    let (references, _) = resolve_table_references(&statement, true).map_err(Error::from_query)?;
    let mut views = BTreeSet::new();
    for reference in references {
        if functions.names.contains(&reference.table().to_lowercase()) {
            continue;
        }
        views.insert(resolve(&reference, served)?);
    }
    Ok(Checked { statement, views })
}

fn resolve(reference: &TableReference, served: &[View]) -> Result<String, Error> {
    let qualified = reference.catalog().is_none_or(|catalog| catalog == CATALOG)
        && reference.schema().is_none_or(|schema| schema == SCHEMA);
    if qualified && served.iter().any(|view| view.name() == reference.table()) {
        return Ok(reference.table().to_owned());
    }
    let names = served.iter().map(View::name);
    let hint = anabranch_catalog::did_you_mean(reference.table(), names);
    Err(Error::UnknownView {
        name: reference.to_string(),
        hint,
    })
}

fn is_query(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(inner) => match inner.as_ref() {
            SqlStatement::Query(_) => true,
            SqlStatement::Explain { statement, .. } => matches!(statement.as_ref(), SqlStatement::Query(_)),
            _ => false,
        },
        Statement::Explain(explain) => is_query(&explain.statement),
        _ => false,
    }
}

fn first_words(statement: &str) -> String {
    let mut words = statement.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    words.truncate(words.char_indices().nth(40).map_or(words.len(), |(at, _)| at));
    words
}

fn read_only() -> SQLOptions {
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
}

/// Finds table functions, which look like tables but are none, and clauses that write.
#[derive(Default)]
struct TableFunctions {
    names: BTreeSet<String>,
    refused: Option<&'static str>,
}

impl Visitor for TableFunctions {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            name, args: Some(_), ..
        } = factor
            && let Some(ident) = name.0.last().and_then(|part| part.as_ident())
        {
            self.names.insert(ident.value.to_lowercase());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(select) = query.body.as_select()
            && select.into.is_some()
        {
            self.refused = Some("SELECT … INTO");
        }
        if !query.locks.is_empty() {
            self.refused = Some("FOR UPDATE");
        }
        ControlFlow::Continue(())
    }
}

/// Names as the query wrote them (a physical plan may have changed those of duplicates), types as they were computed.
fn output_schema(plan: &LogicalPlan, physical: &SchemaRef) -> SchemaRef {
    let logical = plan.schema().fields();
    if logical.len() != physical.fields().len() {
        return Arc::clone(physical);
    }
    let fields = logical.iter().zip(physical.fields());
    let fields: Vec<Field> = fields
        .map(|(logical, physical)| Field::new(logical.name(), physical.data_type().clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

async fn collect(mut stream: datafusion::execution::SendableRecordBatchStream) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    let mut bytes = 0;
    while let Some(batch) = stream.try_next().await.map_err(Error::from_query)? {
        // Batches may be slices of one buffer, which counts once.
        bytes += batch
            .columns()
            .iter()
            .map(|c| c.to_data().get_slice_memory_size().unwrap_or(0))
            .sum::<usize>();
        if bytes > MAX_ANSWER_BYTES {
            return Err(Error::AnswerTooLarge {
                limit_bytes: MAX_ANSWER_BYTES,
            });
        }
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    Ok(batches)
}
