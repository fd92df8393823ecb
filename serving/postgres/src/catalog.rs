//! What SQL clients look up before they ask anything: `pg_catalog`, `information_schema`, and statements without relations.
//!
//! Such statements are run here, over relations that have columns but no rows to give; all others go to the query engine.

mod context;
mod empty;
mod functions;
mod information_schema;
pub(crate) mod live;
mod pg;
mod relations;
mod rewrite;
mod settings;
mod sheet;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::{Principal, Role, ViewPatterns};
use anabranch_front::{
    Cause, MAX_OPERATORS, Prepared, QueryEngine, QueryError, Running, has_too_many_operators, is_deeper, mismatch,
    parameter_types,
};
use anabranch_model::CoverageMap;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Statement, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use datafusion_pg_catalog::pg_catalog::PgCatalogStaticTables;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::live::Live;
use crate::dialect::{self, Planner};
use crate::{Error, PgError, types};

/// Levels of expressions in a catalog query; the longest of clients have about 40.
const MAX_DEPTH: usize = 200;
/// Stack that looking at one level takes at most, in a build without optimisation.
const LEVEL_BYTES: usize = 32 << 10;
/// Statements of so many bytes have few levels.
const SHORT: usize = 512;
/// Statements that run here at the same time.
const CONCURRENT: usize = 4;
/// How long one may take.
const LONGEST: Duration = Duration::from_secs(30);
/// Principals whose contexts are kept.
const CONTEXTS: usize = 64;
const PG_CATALOG: &str = "pg_catalog";
const INFORMATION_SCHEMA: &str = "information_schema";

/// All that says what a principal sees: another one of the same name may see other views.
type Whose = (Arc<str>, Role, ViewPatterns);

/// Runs statements over the catalog.
pub(crate) struct Catalog {
    engine: Arc<dyn QueryEngine>,
    parser: PostgresCompatibilityParser,
    tables: Arc<PgCatalogStaticTables>,
    /// One per principal, so that object identifiers are the same in all of its connections.
    contexts: Mutex<HashMap<Whose, SessionContext>>,
    permits: Arc<Semaphore>,
}

/// A statement for the catalog.
#[derive(Debug)]
pub(crate) struct Concern {
    statement: Statement,
    /// The columns of the answer, if it is known to have no rows.
    nothing: Option<Vec<String>>,
    /// How many parameters it was sent with: not all of them may be left in the statement.
    parameters: usize,
}

/// A query that was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) asked: Asked,
    /// What PostgreSQL would call the columns, where the query alone tells.
    pub(crate) names: Option<Vec<String>>,
}

/// Who answers a query.
#[derive(Debug)]
pub(crate) enum Asked {
    Catalog(Box<Concern>),
    /// The query engine; in words of its own, if they differ.
    Engine(Option<String>),
}

/// A statement of which the columns are known.
struct Planned {
    context: SessionContext,
    /// `None` when it is known to give no rows.
    plan: Option<LogicalPlan>,
}

impl Catalog {
    /// # Errors
    /// When the tables that are the same everywhere cannot be read.
    pub(crate) fn new(engine: Arc<dyn QueryEngine>) -> Result<Self, Error> {
        Ok(Self {
            engine,
            parser: PostgresCompatibilityParser::new(),
            tables: Arc::new(PgCatalogStaticTables::try_new().map_err(Error::Catalog)?),
            contexts: Mutex::default(),
            permits: Arc::new(Semaphore::new(CONCURRENT)),
        })
    }

    /// Finds out who answers a query, and puts it in words that whoever plans it understands.
    ///
    /// # Errors
    /// 0A000 for what would be answered otherwise than by PostgreSQL, 54001 for more levels than can be looked into.
    pub(crate) fn read(&self, sql: &str) -> Result<Read, PgError> {
        if sql.len() <= SHORT {
            return self.read_here(sql);
        }
        // Queries with more are the query engine's to refuse.
        if has_too_many_operators(sql, &PostgreSqlDialect {}) {
            return Ok(Read {
                asked: Asked::Engine(None),
                names: None,
            });
        }
        // What is parsed is a tree, and looking at a level of it takes stack, as does dropping it.
        stacker::grow(sql.len().min(MAX_OPERATORS) * LEVEL_BYTES, || self.read_here(sql))
    }

    fn read_here(&self, sql: &str) -> Result<Read, PgError> {
        let sql = rewrite::plain(sql);
        let command = dialect::table_command(&sql);
        let sql = command.as_deref().unwrap_or(&sql);
        let lower = sql.to_ascii_lowercase();
        let mut parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql).ok().and_then(only);
        let names = parsed.as_ref().and_then(dialect::told);
        let concern = if lower.contains("pg_") || lower.contains(INFORMATION_SCHEMA) {
            let statement = self.parser.parse(sql).ok().and_then(only);
            statement.filter(|statement| {
                let relations = relations_of(statement);
                relations.is_empty() || relations.iter().any(is_catalog)
            })
        } else {
            // Session functions have their own spelling.
            let own = parsed.take_if(|parsed| relations_of(parsed).is_empty());
            own.map(|parsed| self.parser.rewrite(parsed))
        };
        if let Some(mut statement) = concern.filter(|statement| matches!(statement, Statement::Query(_))) {
            if is_deeper(&statement, MAX_DEPTH) {
                return Err(PgError::new("54001", "statement too complex")
                    .with_hint(format!("expressions over the catalog have {MAX_DEPTH} levels at most")));
            }
            let nothing = empty::columns(&statement);
            rewrite::rewrite(&mut statement);
            dialect::rewrite(&mut statement, Planner::Catalog)?;
            let asked = Asked::Catalog(Box::new(Concern {
                statement,
                nothing,
                parameters: placeholders(sql),
            }));
            return Ok(Read { asked, names });
        }
        let translated = match parsed {
            Some(mut statement) => dialect::rewrite(&mut statement, Planner::Engine)?.then(|| statement.to_string()),
            None => None,
        };
        Ok(Read {
            asked: Asked::Engine(translated.or(command)),
            names,
        })
    }

    /// Plans a statement that concerns the catalog.
    ///
    /// # Errors
    /// What the planner says.
    pub(crate) async fn prepare(&self, concern: Concern, principal: &Principal) -> Result<Prepared, QueryError> {
        let context = self.context(principal)?;
        let Concern {
            statement,
            nothing,
            parameters: count,
        } = concern;
        let planned = context
            .state()
            .statement_to_plan(PlannerStatement::Statement(Box::new(statement)))
            .await;
        match (planned, nothing) {
            (Ok(plan), nothing) => {
                let schema = columns(&plan);
                let parameters = parameters(&plan, count).map_err(of_planner)?;
                // What would be done with rows that there are not may be more than the planner can do.
                let plan = nothing.is_none().then_some(plan);
                Ok(Prepared::new(schema, parameters, Planned { context, plan }))
            }
            // Clients ask for more than the planner knows; of relations that are always empty, the answer is known.
            (Err(error), Some(names)) => {
                tracing::debug!(%error, "a catalog query is answered with no rows");
                let fields = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true));
                let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                Ok(Prepared::new(
                    schema,
                    vec![None; count],
                    Planned { context, plan: None },
                ))
            }
            (Err(error), None) => Err(of_planner(error)),
        }
    }

    /// Runs a statement that was planned here, in a session whose settings are `live`.
    ///
    /// # Errors
    /// When its values do not fit, or too much memory is needed.
    pub(crate) async fn run(
        &self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
        live: Live,
    ) -> Result<Running, QueryError> {
        let Some(planned) = prepared.plan::<Planned>() else {
            return Err(QueryError::new(Cause::Internal, "a statement was planned elsewhere"));
        };
        let schema = Arc::clone(&prepared.schema);
        let Some(plan) = planned.plan.clone() else {
            return Ok(Running {
                schema,
                batches: futures::stream::empty().boxed(),
                coverage: CoverageMap::new(),
            });
        };
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| QueryError::new(Cause::Unavailable, "the server is shutting down"))?;
        let mut state = planned.context.state();
        state.config_mut().options_mut().extensions.insert(live);
        // What is computed while planning sees it too.
        state.mark_start_execution();
        let plan = match values.is_empty() {
            true => plan,
            false => plan
                .replace_params_with_values(&ParamValues::from(values))
                .map_err(of_planner)?,
        };
        let physical = state.create_physical_plan(&plan).await.map_err(of_planner)?;
        let stream = execute_stream(physical, state.task_ctx()).map_err(of_planner)?;
        let batches = Bounded { stream, permit }.into_stream();
        Ok(Running {
            schema,
            batches: batches.boxed(),
            coverage: CoverageMap::new(),
        })
    }

    fn context(&self, principal: &Principal) -> Result<SessionContext, QueryError> {
        let key = (Arc::clone(&principal.name), principal.role, principal.views.clone());
        let mut contexts = self.contexts.lock();
        if let Some(known) = contexts.get(&key) {
            return Ok(known.clone());
        }
        let context = context::build(&self.engine, &self.tables, principal).map_err(of_planner)?;
        if contexts.len() >= CONTEXTS {
            contexts.clear();
        }
        contexts.insert(key, context.clone());
        Ok(context)
    }
}

/// Rows of a statement, with its permit and its deadline.
struct Bounded {
    stream: SendableRecordBatchStream,
    permit: OwnedSemaphorePermit,
}

impl Bounded {
    fn into_stream(self) -> impl futures::Stream<Item = Result<arrow::array::RecordBatch, QueryError>> + Send {
        let deadline = tokio::time::Instant::now() + LONGEST;
        futures::stream::unfold(Some(self), move |bounded| async move {
            let mut this = bounded?;
            match tokio::time::timeout_at(deadline, this.stream.next()).await {
                Ok(Some(Ok(batch))) => Some((Ok(batch), Some(this))),
                Ok(Some(Err(error))) => Some((Err(of_planner(error)), None)),
                Ok(None) => {
                    drop(this.permit);
                    None
                }
                Err(_) => {
                    let error = QueryError::new(Cause::Timeout, format!("the query did not finish within {LONGEST:?}"));
                    Some((Err(error), None))
                }
            }
        })
    }
}

fn only(mut statements: Vec<Statement>) -> Option<Statement> {
    match statements.len() {
        1 => statements.pop(),
        _ => None,
    }
}

/// Names of the relations of a statement; not of its common table expressions, nor of functions that look like tables.
fn relations_of(statement: &Statement) -> Vec<Vec<String>> {
    #[derive(Default)]
    struct Names {
        relations: Vec<Vec<String>>,
        others: HashSet<Vec<String>>,
    }
    impl Visitor for Names {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            for with in query.with.iter().flat_map(|with| &with.cte_tables) {
                self.others.insert(vec![with.alias.name.value.to_ascii_lowercase()]);
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table {
                name, args: Some(_), ..
            }
            | TableFactor::Function { name, .. } = factor
            {
                self.others.insert(parts(name));
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
            self.relations.push(parts(name));
            ControlFlow::Continue(())
        }
    }
    let mut names = Names::default();
    let _: ControlFlow<()> = statement.visit(&mut names);
    let Names { relations, others } = names;
    relations.into_iter().filter(|name| !others.contains(name)).collect()
}

fn parts(name: &ObjectName) -> Vec<String> {
    let part = |ident: &datafusion::sql::sqlparser::ast::Ident| ident.value.to_ascii_lowercase();
    name.0.iter().filter_map(|name| name.as_ident()).map(part).collect()
}

fn is_catalog(name: &Vec<String>) -> bool {
    match name.as_slice() {
        [.., schema, _] => schema == PG_CATALOG || schema == INFORMATION_SCHEMA,
        [name] => name.starts_with("pg_"),
        [] => false,
    }
}

fn columns(plan: &LogicalPlan) -> SchemaRef {
    Arc::new(plan.schema().as_arrow().clone())
}

/// The highest number of a parameter.
fn placeholders(sql: &str) -> usize {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize()
        .unwrap_or_default();
    let number = |token: &Token| match token {
        Token::Placeholder(name) => name.strip_prefix('$')?.parse::<u16>().ok(),
        _ => None,
    };
    tokens.iter().filter_map(number).max().map_or(0, usize::from)
}

/// The type that a statement casts a parameter to, where that is one the planner has no own for: numbers of catalog rows, which
/// asyncpg can send before it knows any other array. 0 for others.
pub(crate) fn declared(sql: &str, number: usize) -> u32 {
    match sql.contains(&format!("${number}::oid[]")) {
        true => types::array_of(types::OID).unwrap_or(0),
        false => 0,
    }
}

/// Types of `$1`, `$2` and so on, of which the statement as it was sent has `count`.
fn parameters(plan: &LogicalPlan, count: usize) -> Result<Vec<Option<DataType>>, DataFusionError> {
    let mut types = parameter_types(plan)?;
    let mut named = |number: usize| types.remove(&format!("${number}")).flatten();
    Ok((1..=count).map(&mut named).collect())
}

/// The planner's errors, without its prefixes.
fn of_planner(error: DataFusionError) -> QueryError {
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(error) = inner.downcast_ref::<QueryError>()
    {
        return error.clone();
    }
    let (cause, message) = match error.find_root() {
        DataFusionError::SQL(parser, _) => (Cause::Syntax, parser.to_string()),
        DataFusionError::Plan(message) if message.contains("table '") && message.contains("not found") => {
            (Cause::UnknownRelation, message.clone())
        }
        DataFusionError::Plan(message) if message.contains("Invalid function") => {
            (Cause::UnknownFunction, message.clone())
        }
        DataFusionError::Plan(message) => (Cause::Invalid, message.clone()),
        DataFusionError::SchemaError(error, _) => (Cause::UnknownColumn, error.to_string()),
        DataFusionError::NotImplemented(message) => (Cause::Unsupported, message.clone()),
        DataFusionError::ResourcesExhausted(message) => (Cause::TooLarge, message.clone()),
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) | DataFusionError::Configuration(_) => {
            (Cause::Invalid, error.strip_backtrace())
        }
        DataFusionError::Internal(message) => match mismatch(message) {
            Some(said) => (Cause::Invalid, said),
            None => (Cause::Internal, error.strip_backtrace()),
        },
        _ => (Cause::Internal, error.strip_backtrace()),
    };
    QueryError::new(cause, message)
}

#[cfg(test)]
mod tests;
