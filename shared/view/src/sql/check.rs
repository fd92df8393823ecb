//! What a view may not compute, found in the syntax tree, where places are known. What no view may look like, such as a
//! join or a subquery, the catalog has refused before.

use std::ops::ControlFlow;

use anabranch_catalog::{Diagnostic, Place, ViewDefinition, did_you_mean};
use datafusion::common::{DFSchema, DataFusionError, SchemaError};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArgumentClause, FunctionArguments, GroupByExpr, SelectItem, SetExpr, Spanned,
    Visit, Visitor,
};

use super::session::{coerced_expression, event_df_schema, session};
use crate::window::{HOP, TUMBLE, Windows};

/// Refuses what cannot be a view, naming the first place.
pub(crate) fn check(definition: &ViewDefinition) -> Result<(), Diagnostic> {
    let schema = event_df_schema(&definition.source).map_err(|e| internal(definition, &e))?;
    let mut checker = Checker {
        definition,
        schema: &schema,
        aggregate_depth: 0,
        hop: None,
    };
    match definition.ast.visit(&mut checker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(diagnostic) => Err(diagnostic),
    }
}

/// An error of the planner that has no place in the text.
pub(crate) fn internal(definition: &ViewDefinition, error: &DataFusionError) -> Diagnostic {
    Diagnostic::new(definition.place, reason(error))
}

/// An error about one aggregate call of the plan: placed where the call is written.
pub(crate) fn in_aggregate(
    definition: &ViewDefinition,
    schema: &DFSchema,
    call: &Expr,
    error: &DataFusionError,
) -> Diagnostic {
    struct Finder<'a>(&'a ViewDefinition, &'a DFSchema, &'a Expr);
    impl Visitor for Finder<'_> {
        type Break = Place;
        fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<Place> {
            let Self(definition, schema, call) = self;
            match expr {
                SqlExpr::Function(_)
                    if coerced_expression(&definition.source, schema, expr).is_ok_and(|e| e.unalias() == **call) =>
                {
                    ControlFlow::Break(place_of(expr, definition))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    let place = match definition.ast.visit(&mut Finder(definition, schema, call)) {
        ControlFlow::Break(place) => place,
        ControlFlow::Continue(()) => definition.place,
    };
    Diagnostic::new(place, reason(error))
}

/// Where the `index`th expression of GROUP BY is written.
pub(crate) fn place_of_key(definition: &ViewDefinition, index: usize) -> Place {
    match definition.ast.body.as_ref() {
        SetExpr::Select(select) => match &select.group_by {
            GroupByExpr::Expressions(keys, _) => keys.get(index).map_or(definition.place, |k| place_of(k, definition)),
            GroupByExpr::All(_) => definition.place,
        },
        _ => definition.place,
    }
}

/// The planner's reason, without the layers it was wrapped in.
fn reason(error: &DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let text = text.strip_prefix("Error during planning: ").unwrap_or(&text);
    let text = text.strip_prefix("Schema error: ").unwrap_or(text);
    let text = text.strip_prefix("This feature is not implemented: ").unwrap_or(text);
    text.lines().next().unwrap_or(text).to_string()
}

struct Checker<'a> {
    definition: &'a ViewDefinition,
    schema: &'a DFSchema,
    aggregate_depth: usize,
    /// The one hop call a view may have.
    hop: Option<Windows>,
}

impl Visitor for Checker<'_> {
    type Break = Diagnostic;

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<Diagnostic> {
        match expr {
            SqlExpr::Function(function) => match self.check_function(function, expr) {
                Ok(()) => ControlFlow::Continue(()),
                Err(diagnostic) => ControlFlow::Break(diagnostic),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<Diagnostic> {
        if let SqlExpr::Function(function) = expr
            && session().aggregate_functions().contains_key(&name_of(function))
        {
            self.aggregate_depth -= 1;
        }
        ControlFlow::Continue(())
    }
}

impl Checker<'_> {
    fn place(&self, expr: &SqlExpr) -> Place {
        place_of(expr, self.definition)
    }

    fn check_function(&mut self, function: &Function, expr: &SqlExpr) -> Result<(), Diagnostic> {
        let name = name_of(function);
        let refuse = |message: String, hint: &str| {
            let place = function.name.span();
            let place = if place.start.line == 0 {
                self.definition.place
            } else {
                place.into()
            };
            Err(Diagnostic::new(place, message).with_hint(hint))
        };
        if let Some(aggregate) = session().aggregate_functions().get(&name) {
            if self.aggregate_depth > 0 {
                return refuse(
                    format!("`{name}` stands inside another aggregate"),
                    "aggregates do not nest",
                );
            }
            self.aggregate_depth += 1;
            if let Some((message, hint)) = refused_aggregate(aggregate.name()) {
                return refuse(message.replace("{name}", &name), hint);
            }
            if has_order_by(function) && !matches!(aggregate.name(), "first_value" | "last_value") {
                return refuse(
                    format!("ORDER BY inside `{name}` is not supported"),
                    "only first_value and last_value take an ORDER BY",
                );
            }
            if is_distinct(function) && !DISTINCT.contains(&aggregate.name()) {
                return refuse(
                    format!("`{name}(DISTINCT …)` is not supported"),
                    "count, sum, avg, min and max take DISTINCT",
                );
            }
            if matches!(aggregate.name(), "first_value" | "last_value")
                && !has_order_by(function)
                && self.definition.source.event_time.is_none()
            {
                return refuse(
                    format!(
                        "`{name}` needs an order, and `{}` declares no event_time",
                        self.definition.source.name
                    ),
                    "write first_value(x ORDER BY y), or declare WITH (event_time = '…')",
                );
            }
            return Ok(());
        }
        if let Some(scalar) = session().scalar_functions().get(&name) {
            if scalar.signature().volatility != Volatility::Immutable {
                return refuse(
                    format!("`{name}` gives another answer each time, so batch and speed layer could not agree"),
                    "use the event's own time, or filter when you query the view",
                );
            }
            if name == TUMBLE || name == HOP {
                return self.check_window(&name, expr);
            }
        }
        Ok(())
    }

    fn check_window(&mut self, name: &str, expr: &SqlExpr) -> Result<(), Diagnostic> {
        let planned = coerced_expression(&self.definition.source, self.schema, expr)
            .map_err(|e| locate(self.definition, self.schema, &e))?;
        let Expr::ScalarFunction(call) = planned else {
            return Ok(());
        };
        let windows =
            Windows::of(&call).map_err(|(message, hint)| Diagnostic::new(self.place(expr), message).with_hint(hint))?;
        if name == HOP {
            if self.hop.as_ref().is_some_and(|first| *first != windows) {
                return Err(
                    Diagnostic::new(self.place(expr), "a view has at most one hop").with_hint("write one view per hop")
                );
            }
            self.hop = Some(windows);
        }
        Ok(())
    }
}

/// Aggregates that take DISTINCT.
const DISTINCT: [&str; 5] = ["count", "sum", "avg", "min", "max"];

/// Every aggregate that may be in a view.
pub const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "stddev",
    "stddev_pop",
    "var",
    "var_pop",
    "covar_samp",
    "covar_pop",
    "corr",
    "regr_slope",
    "regr_intercept",
    "regr_count",
    "regr_r2",
    "regr_avgx",
    "regr_avgy",
    "regr_sxx",
    "regr_syy",
    "regr_sxy",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "first_value",
    "last_value",
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
];

/// Why an aggregate cannot be in a view, and what to write instead.
fn refused_aggregate(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "median" => ("`{name}` needs every value and does not merge", "use approx_median"),
        "percentile_cont" => (
            "`{name}` needs every value and does not merge",
            "use approx_percentile_cont",
        ),
        "array_agg" => (
            "`{name}` keeps every value, without bound",
            "use count(DISTINCT x) or approx_distinct(x)",
        ),
        "string_agg" => (
            "`{name}` keeps every value, without bound",
            "use first_value, last_value, min or max",
        ),
        "nth_value" => ("`{name}` does not merge", "use first_value or last_value"),
        "any_value" => (
            "`{name}` may give another answer each time",
            "use first_value, min or max",
        ),
        "grouping" => (
            "`{name}` belongs to GROUPING SETS, which are not supported",
            "write one view per grouping",
        ),
        name if AGGREGATES.contains(&name) => return None,
        _ => (
            "the aggregate `{name}` is not known to merge",
            "use count, sum, avg, min, max or another that merges",
        ),
    })
}

fn name_of(function: &Function) -> String {
    function.name.to_string().to_lowercase()
}

fn has_order_by(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list)
        if list.clauses.iter().any(|c| matches!(c, FunctionArgumentClause::OrderBy(_))))
}

fn is_distinct(function: &Function) -> bool {
    use datafusion::sql::sqlparser::ast::DuplicateTreatment;
    matches!(&function.args, FunctionArguments::List(list)
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

fn place_of(expr: &SqlExpr, definition: &ViewDefinition) -> Place {
    let span = match expr {
        SqlExpr::Function(function) => function.name.span(),
        other => other.span(),
    };
    if span.start.line == 0 {
        definition.place
    } else {
        span.into()
    }
}

/// Gives an error of the planner its place: of the smallest expression that fails on its own.
pub(crate) fn locate(definition: &ViewDefinition, schema: &DFSchema, error: &DataFusionError) -> Diagnostic {
    let aliases = match definition.ast.body.as_ref() {
        SetExpr::Select(select) => select
            .projection
            .iter()
            .filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.to_lowercase()),
                _ => None,
            })
            .collect(),
        _ => vec![],
    };
    let mut locator = Locator {
        definition,
        schema,
        aliases,
    };
    match definition.ast.visit(&mut locator) {
        ControlFlow::Break(diagnostic) => diagnostic,
        ControlFlow::Continue(()) => {
            // The planner knows some places itself, and says there what is wrong rather than how it found out.
            let known = error.diagnostic().and_then(|d| Some((d.span?, d.message.clone())));
            match known {
                Some((span, message)) => {
                    let place = Place {
                        line: span.start.line,
                        column: span.start.column,
                    };
                    Diagnostic::new(place, message)
                }
                None => diagnose(definition.place, schema, error),
            }
        }
    }
}

struct Locator<'a> {
    definition: &'a ViewDefinition,
    schema: &'a DFSchema,
    aliases: Vec<String>,
}

impl Visitor for Locator<'_> {
    type Break = Diagnostic;

    fn post_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<Diagnostic> {
        // Whatever uses an alias of the SELECT list cannot be planned alone.
        if uses_alias(expr, &self.aliases) {
            return ControlFlow::Continue(());
        }
        match coerced_expression(&self.definition.source, self.schema, expr) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(diagnose(place_of(expr, self.definition), self.schema, &error)),
        }
    }
}

fn uses_alias(expr: &SqlExpr, aliases: &[String]) -> bool {
    struct Finder<'a>(&'a [String]);
    impl Visitor for Finder<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<()> {
            match expr {
                SqlExpr::Identifier(ident) if self.0.contains(&ident.value.to_lowercase()) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Finder(aliases)).is_break()
}

fn diagnose(place: Place, schema: &DFSchema, error: &DataFusionError) -> Diagnostic {
    let unknown = match error.find_root() {
        DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(field.name.clone()),
            _ => None,
        },
        _ => None,
    };
    match unknown {
        Some(name) => {
            let known = schema
                .fields()
                .iter()
                .map(|f| f.name().as_str())
                .filter(|n| !n.starts_with('_'));
            let hint = did_you_mean(&name, known);
            Diagnostic {
                place,
                message: format!("unknown column `{name}`"),
                hint,
            }
        }
        None => Diagnostic::new(place, reason(error)),
    }
}
