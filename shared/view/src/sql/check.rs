//! What a view may not contain, found in the syntax tree, where places are known.

use std::ops::ControlFlow;

use anabranch_catalog::{Diagnostic, Place, ViewDefinition, did_you_mean};
use datafusion::common::{DFSchema, DataFusionError, SchemaError};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArgumentClause, FunctionArguments, GroupByExpr,
    Select, SelectItem, SetExpr, Spanned, Visit, Visitor,
};

use super::session::{coerced_expression, event_df_schema, session};
use crate::window::{HOP, SESSION, TUMBLE, Windows};

/// Refuses what cannot be a view, naming the first place.
pub(crate) fn check(definition: &ViewDefinition) -> Result<(), Diagnostic> {
    let select = select(definition)?;
    let schema = event_df_schema(&definition.source).map_err(|e| internal(definition, &e))?;
    check_grouping(definition, select)?;
    let mut checker = Checker { definition, schema: &schema, aggregate_depth: 0, hop: None };
    match definition.ast.visit(&mut checker) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(diagnostic) => Err(diagnostic),
    }
}

fn select(definition: &ViewDefinition) -> Result<&Select, Diagnostic> {
    match definition.ast.body.as_ref() {
        SetExpr::Select(select) => Ok(select),
        _ => Err(Diagnostic::new(definition.place, "a view is one SELECT")),
    }
}

/// An error of the planner that has no place in the text.
pub(crate) fn internal(definition: &ViewDefinition, error: &DataFusionError) -> Diagnostic {
    Diagnostic::new(definition.place, reason(error))
}

/// The planner's reason, without the layers it was wrapped in.
fn reason(error: &DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let text = text.strip_prefix("Error during planning: ").unwrap_or(&text);
    let text = text.strip_prefix("Schema error: ").unwrap_or(text);
    let text = text.strip_prefix("This feature is not implemented: ").unwrap_or(text);
    text.lines().next().unwrap_or(text).to_string()
}

/// GROUPING SETS and their kin, and aliases that could mean two things.
fn check_grouping(definition: &ViewDefinition, select: &Select) -> Result<(), Diagnostic> {
    let GroupByExpr::Expressions(groups, modifiers) = &select.group_by else { return Ok(()) };
    let several_groupings =
        groups.iter().find(|e| matches!(e, SqlExpr::Rollup(_) | SqlExpr::Cube(_) | SqlExpr::GroupingSets(_)));
    if let Some(expr) = several_groupings {
        let place = place_of(expr, definition);
        return Err(Diagnostic::new(place, "a view has one grouping; GROUPING SETS, CUBE and ROLLUP are not supported")
            .with_hint("write one view per grouping"));
    }
    if !modifiers.is_empty() {
        let place = groups.first().map_or(definition.place, |e| place_of(e, definition));
        return Err(Diagnostic::new(place, "modifiers of GROUP BY are not supported")
            .with_hint("write one view per grouping"));
    }
    for group in groups {
        let SqlExpr::Identifier(ident) = group else { continue };
        let folded = |ident: &datafusion::sql::sqlparser::ast::Ident| {
            if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
        };
        let name = folded(ident);
        let is_column = definition.source.columns.iter().any(|c| c.name == name);
        let aliased = select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if folded(alias) == name => Some(expr),
            _ => None,
        });
        if let (true, Some(expr)) = (is_column, aliased)
            && !matches!(expr, SqlExpr::Identifier(column) if folded(column) == name)
        {
            return Err(Diagnostic::new(
                ident.span,
                format!("`{name}` in GROUP BY is both a column of `{}` and an alias", definition.source.name),
            )
            .with_hint("give the alias another name"));
        }
    }
    Ok(())
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
        let refused = match expr {
            SqlExpr::Subquery(_) | SqlExpr::Exists { .. } | SqlExpr::InSubquery { .. } => {
                Err(Diagnostic::new(self.place(expr), "subqueries are not supported in a view")
                    .with_hint("query several views with POST /v1/sql instead"))
            }
            SqlExpr::Function(function) => self.check_function(function, expr),
            _ => Ok(()),
        };
        match refused {
            Ok(()) => ControlFlow::Continue(()),
            Err(diagnostic) => ControlFlow::Break(diagnostic),
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
            let place = if place.start.line == 0 { self.definition.place } else { place.into() };
            Err(Diagnostic::new(place, message).with_hint(hint))
        };
        if function.over.is_some() {
            return refuse(
                format!("`{name}(…) OVER` is a window function, which does not merge"),
                "query the view with POST /v1/sql, where window functions work",
            );
        }
        if name == SESSION {
            return refuse(
                "session windows are not supported yet".into(),
                "use tumble(ts, INTERVAL '30 minutes'), or group by a session id that the events carry",
            );
        }
        if let Some(aggregate) = session().aggregate_functions().get(&name) {
            if self.aggregate_depth > 0 {
                return refuse(format!("`{name}` stands inside another aggregate"), "aggregates do not nest");
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
                    format!("`{name}` needs an order, and `{}` declares no event_time", self.definition.source.name),
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
        let Expr::ScalarFunction(call) = planned else { return Ok(()) };
        let windows = Windows::of(&call)
            .map_err(|(message, hint)| Diagnostic::new(self.place(expr), message).with_hint(hint))?;
        if name == HOP {
            if self.hop.as_ref().is_some_and(|first| *first != windows) {
                return Err(Diagnostic::new(self.place(expr), "a view has at most one hop")
                    .with_hint("write one view per hop"));
            }
            self.hop = Some(windows);
        }
        Ok(())
    }
}

/// Aggregates that take DISTINCT.
const DISTINCT: [&str; 5] = ["count", "sum", "avg", "min", "max"];

/// Why an aggregate cannot be in a view, and what to write instead.
fn refused_aggregate(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "median" => ("`{name}` needs every value and does not merge", "use approx_median"),
        "percentile_cont" => ("`{name}` needs every value and does not merge", "use approx_percentile_cont"),
        "array_agg" => ("`{name}` keeps every value, without bound", "use count(DISTINCT x) or approx_distinct(x)"),
        "string_agg" => ("`{name}` keeps every value, without bound", "use first_value, last_value, min or max"),
        "nth_value" => ("`{name}` does not merge", "use first_value or last_value"),
        "any_value" => ("`{name}` may give another answer each time", "use first_value, min or max"),
        "grouping" => ("`{name}` belongs to GROUPING SETS, which are not supported", "write one view per grouping"),
        "count" | "sum" | "avg" | "min" | "max" | "stddev" | "stddev_pop" | "var" | "var_pop" | "covar_samp"
        | "covar_pop" | "corr" | "regr_slope" | "regr_intercept" | "regr_count" | "regr_r2" | "regr_avgx" | "regr_avgy"
        | "regr_sxx" | "regr_syy" | "regr_sxy" | "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor"
        | "first_value" | "last_value" | "approx_distinct" | "approx_median" | "approx_percentile_cont"
        | "approx_percentile_cont_with_weight" => return None,
        _ => ("the aggregate `{name}` is not known to merge", "use count, sum, avg, min, max or another that merges"),
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
    if span.start.line == 0 { definition.place } else { span.into() }
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
    let mut locator = Locator { definition, schema, aliases };
    match definition.ast.visit(&mut locator) {
        ControlFlow::Break(diagnostic) => diagnostic,
        ControlFlow::Continue(()) => diagnose(definition.place, schema, error),
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
            let known = schema.fields().iter().map(|f| f.name().as_str()).filter(|n| !n.starts_with('_'));
            let hint = did_you_mean(&name, known);
            Diagnostic { place, message: format!("unknown column `{name}`"), hint }
        }
        None => Diagnostic::new(place, reason(error)),
    }
}
