use std::sync::{Arc, LazyLock};

use anabranch_catalog::Source;
use anabranch_model::columns::timestamp_type;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, Result, TableReference, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
    logical_plan::builder::LogicalTableSource,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{DataType as SqlType, Expr as SqlExpr, Query, Statement};

use super::casts;
use crate::window;

/// The functions and options that views are planned with. It holds no tables and never changes.
static SESSION: LazyLock<SessionState> = LazyLock::new(|| {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    let mut state = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .build();
    for function in [window::tumble(), window::hop()] {
        state.register_udf(function).expect("a session accepts a new function");
    }
    state
});

pub(crate) fn session() -> &'static SessionState {
    &SESSION
}

/// The event schema as views see it: every field nullable, nested fields without metadata, which would make types differ
/// that are the same.
pub(crate) fn event_schema(source: &Source) -> Schema {
    Schema::new(
        source
            .event_schema()
            .fields()
            .iter()
            .map(|f| plain_field(f))
            .collect::<Fields>(),
    )
}

fn plain_field(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| plain_field(f)).collect()),
        DataType::List(item) => DataType::List(Arc::new(plain_field(item))),
        other => other.clone(),
    };
    Field::new(field.name(), data_type, true)
}

/// [`event_schema`] with the table's name on every column.
pub(crate) fn event_df_schema(source: &Source) -> Result<DFSchema> {
    DFSchema::try_from_qualified_schema(TableReference::bare(source.name.as_str()), &event_schema(source))
}

/// Plans a query over `source` and coerces its types. Where the planner takes two expressions for one because it does not
/// look at casts, these are named: [`casts::plain`] undoes it.
pub(crate) fn plan_query(source: &Source, query: &Query) -> Result<LogicalPlan> {
    let planned = try_plan(source, query);
    match casts::named(query).filter(|_| planned.is_err()) {
        Some(named) => try_plan(source, &named).or(planned),
        None => planned,
    }
}

fn try_plan(source: &Source, query: &Query) -> Result<LogicalPlan> {
    let provider = Provider::new(source);
    let statement = Statement::Query(Box::new(query.clone()));
    let plan = planner(&provider).sql_statement_to_plan(statement)?;
    SESSION
        .analyzer()
        .execute_and_check(plan, SESSION.config_options(), |_, _| {})
}

/// Plans one expression over columns of `schema`.
pub(crate) fn plan_expression(source: &Source, schema: &DFSchema, expr: &SqlExpr) -> Result<Expr> {
    let provider = Provider::new(source);
    planner(&provider).sql_to_expr(expr.clone(), schema, &mut PlannerContext::new())
}

/// Makes the types of an expression's operands agree.
pub(crate) fn coerce(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(Arc::clone(SESSION.config_options()))
        .build();
    ExprSimplifier::new(context).coerce(expr, schema)
}

/// [`plan_expression`], then [`coerce`].
pub(crate) fn coerced_expression(source: &Source, schema: &DFSchema, expr: &SqlExpr) -> Result<Expr> {
    coerce(plan_expression(source, schema, expr)?, schema)
}

fn planner<'a>(provider: &'a Provider) -> SqlToRel<'a, Provider> {
    SqlToRel::new_with_options(provider, ParserOptions::from(&SESSION.config_options().sql_parser))
}

/// One table, the source, and the functions of [`SESSION`].
struct Provider {
    name: String,
    table: Arc<dyn TableSource>,
}

impl Provider {
    fn new(source: &Source) -> Self {
        Self {
            name: source.name.clone(),
            table: Arc::new(LogicalTableSource::new(Arc::new(event_schema(source)))),
        }
    }
}

impl ContextProvider for Provider {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if name.table() == self.name {
            Ok(Arc::clone(&self.table))
        } else {
            plan_err!("unknown table `{name}`")
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        SESSION.expr_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == casts::NAMED {
            return Some(casts::function());
        }
        SESSION.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        SESSION.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        SESSION.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        SESSION.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        SESSION.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        SESSION.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        SESSION.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        SESSION.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        SESSION.window_functions().keys().cloned().collect()
    }
}

/// TIMESTAMP is microseconds UTC everywhere, in a cast too.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        Ok(match sql_type {
            SqlType::Timestamp(_, _) | SqlType::Datetime(_) => Some(Arc::new(Field::new("", timestamp_type(), true))),
            _ => None,
        })
    }
}
