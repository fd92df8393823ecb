//! Catalog queries in words that the planner has. What joins, asks for or tests relations that are always empty here is
//! replaced by its known result, however it is spelled: clients read those with more of PostgreSQL's language than the
//! planner knows.

mod stand_in;

use std::borrow::Cow;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, JoinConstraint, JoinOperator,
    Query, Select, SelectItem, SetExpr, Statement, TableFactor, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::empty;

/// Functions that are NULL here whatever they are asked: nothing has a comment, and there is nothing that they could define.
const NULL: [&str; 12] = [
    "obj_description",
    "col_description",
    "shobj_description",
    "pg_get_indexdef",
    "pg_get_ruledef",
    "pg_get_triggerdef",
    "pg_get_functiondef",
    "pg_get_function_sqlbody",
    "pg_get_serial_sequence",
    "pg_get_partition_constraintdef",
    "pg_get_statisticsobjdef",
    "pg_get_constraintdef",
];

/// Takes out what is not there to be planned. Grafana asks which schemas are searched by the elements of a setting and their
/// numbers; the JDBC driver asks for arrays by the function that reads them, which `pg_type` has the name of; asyncpg asks for types
/// and the types in them, as deep as they go: here that is arrays and their elements.
pub(super) fn plain(sql: &str) -> Cow<'_, str> {
    const READS_ARRAYS: &str = "'pg_catalog.array_in'::regproc";
    const TYPES: &str = "typeinfo_tree(";
    if sql.contains(TYPES) {
        return stand_in::types_of_elements(sql);
    }
    // pgcli looks into the bodies of functions for how people spell names; there are no such functions.
    if sql.contains("regexp_split_to_table(prosrc") {
        return Cow::Borrowed("SELECT CAST(NULL AS TEXT) AS word FROM pg_catalog.pg_proc WHERE false");
    }
    match without_search_path(sql) {
        sql if sql.contains(READS_ARRAYS) => Cow::Owned(sql.replace(READS_ARRAYS, "'array_in'")),
        sql => sql,
    }
}

fn without_search_path(sql: &str) -> Cow<'_, str> {
    const ELEMENT: &str = "CASE WHEN trim(s[i])";
    const END: &str = "string_to_array(current_setting('search_path'),',') s";
    let mut rest = sql;
    let mut written = String::new();
    while let Some(element) = rest.find(ELEMENT) {
        let (Some(start), Some(end)) = (rest[..element].rfind("SELECT"), rest[element..].find(END)) else {
            break;
        };
        written.push_str(&rest[..start]);
        written.push_str("'public'");
        rest = &rest[element + end + END.len()..];
    }
    match written.is_empty() {
        true => Cow::Borrowed(sql),
        false => Cow::Owned(written + rest),
    }
}

/// Rewrites a statement in place.
pub(super) fn rewrite(statement: &mut Statement) {
    let _: ControlFlow<()> = statement.visit(&mut Rewrite);
}

struct Rewrite;

impl VisitorMut for Rewrite {
    type Break = ();

    /// Columns keep the names that PostgreSQL gives them, whatever becomes of their expressions.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for at in 0..select.projection.len() {
            let SelectItem::UnnamedExpr(expr) = &select.projection[at] else {
                continue;
            };
            let changes =
                matches!(expr, Expr::Subquery(_) | Expr::Case { .. } | Expr::Value(_)) || is_null_function(expr);
            if !changes {
                continue;
            }
            let name = empty::name_of(expr);
            let taken = select.projection.iter().any(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => alias.value == name,
                SelectItem::UnnamedExpr(other) => !std::ptr::eq(other, expr) && empty::name_of(other) == name,
                _ => false,
            });
            let name = if taken { format!("{name}_{}", at + 1) } else { name };
            select.projection[at] = SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias: Ident::with_quote('"', name),
            };
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let joins = select.from.iter_mut().flat_map(|from| &mut from.joins);
        for join in joins.filter(|join| empty::is_empty_factor(&join.relation)) {
            if let JoinOperator::Left(condition) | JoinOperator::LeftOuter(condition) = &mut join.join_operator {
                *condition = JoinConstraint::On(boolean(false));
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let Some(replaced) = stand_in::relation(factor) {
            *factor = replaced;
            return ControlFlow::Continue(());
        }
        if let TableFactor::Derived { subquery, lateral, .. } = factor
            && let Some(names) = empty::of_query(subquery)
            && let Some(nothing) = nothing(&names)
        {
            **subquery = nothing;
            *lateral = false;
        }
        ControlFlow::Continue(())
    }

    /// What is known to be nothing is not looked into.
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(value) = of_nothing(expr) {
            *expr = value;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(value) = of_nothing(expr) {
            *expr = value;
        }
        let replaced = match &mut *expr {
            Expr::Subquery(query) => {
                first_only(query);
                None
            }
            Expr::Cast { expr, data_type, .. } => {
                stand_in::type_name(expr, data_type).or_else(|| stand_in::function_name(expr, data_type))
            }
            Expr::CompoundFieldAccess { root, access_chain } => stand_in::argument_type(root, access_chain),
            // ARRAY(SELECT …)
            Expr::Function(Function {
                args: FunctionArguments::Subquery(query),
                ..
            }) => gathered(query),
            Expr::Like {
                pattern, escape_char, ..
            } => {
                escape_by_backslash(pattern, escape_char);
                None
            }
            Expr::Function(function) if name(function) == "array_to_string" && is_of_nothing(function) => Some(null()),
            Expr::Case {
                conditions,
                else_result,
                ..
            } if conditions.iter().all(|when| is_null(&when.result)) && else_result.as_deref().is_none_or(is_null) => {
                Some(null())
            }
            Expr::Function(function) if name(function) == "pg_get_viewdef" => definition(function),
            other if is_null_function(other) => Some(null()),
            _ => None,
        };
        if let Some(replaced) = replaced {
            *expr = replaced;
        }
        ControlFlow::Continue(())
    }
}

/// The value of an expression over a query that gives no rows.
fn of_nothing(expr: &Expr) -> Option<Expr> {
    let nothing = |query: &Query| empty::of_query(query).is_some();
    match expr {
        Expr::Subquery(query) => nothing(query).then(null),
        Expr::Exists { subquery, negated } | Expr::InSubquery { subquery, negated, .. } => {
            nothing(subquery).then(|| boolean(*negated))
        }
        // ARRAY(SELECT …)
        Expr::Function(Function {
            args: FunctionArguments::Subquery(query),
            ..
        }) => (nothing(query) || is_of_function(query)).then(null),
        _ => None,
    }
}

/// A subquery that stands for a value: the planner must see that it gives one row at most.
fn first_only(query: &mut Query) {
    let limited = query.limit_clause.is_some() || query.fetch.is_some();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return;
    };
    let ungrouped = matches!(&select.group_by, GroupByExpr::Expressions(expressions, _) if expressions.is_empty());
    if limited || !ungrouped || select.from.is_empty() || select.projection.iter().any(empty::may_aggregate) {
        return;
    }
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_slice() else {
        return;
    };
    let name = empty::name_of(expr);
    if let Some(first) = parsed(&format!("first_value({expr})")) {
        select.projection = vec![SelectItem::ExprWithAlias {
            expr: first,
            alias: Ident::with_quote('"', name),
        }];
        query.order_by = None;
    }
}

/// Whether rows come of a function, such as of the elements of a list: all lists of the catalog's relations are NULL.
fn is_of_function(query: &Query) -> bool {
    let from = query.body.as_select().map_or(&[][..], |select| select.from.as_slice());
    let function = |factor: &TableFactor| match factor {
        TableFactor::Table { args, .. } => args.is_some(),
        TableFactor::Function { .. } | TableFactor::TableFunction { .. } | TableFactor::UNNEST { .. } => true,
        _ => false,
    };
    from.iter().any(|from| function(&from.relation))
}

/// `ARRAY(SELECT x …)` as `(SELECT array_agg(x) …)`.
fn gathered(query: &Query) -> Option<Expr> {
    let mut query = query.clone();
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_slice() else {
        return None;
    };
    select.projection = vec![SelectItem::UnnamedExpr(parsed(&format!("array_agg({expr})"))?)];
    query.order_by = None;
    Some(Expr::Subquery(Box::new(query)))
}

/// The planner knows one character that takes the meaning of the next one away.
fn escape_by_backslash(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    let Some(character) = escape.as_ref().map(|escape| escape.value.clone().to_string()) else {
        return;
    };
    if character == "'\\'" {
        return;
    }
    if let Some(plain) = parsed(&format!("replace(replace({pattern}, '\\', '\\\\'), {character}, '\\')")) {
        *pattern = plain;
        *escape = None;
    }
}

/// Whether the list that is spelled is none: NULL, or access rights, as nobody has granted anything to anybody.
fn is_of_nothing(function: &Function) -> bool {
    let FunctionArguments::List(arguments) = &function.args else {
        return false;
    };
    match arguments.args.first() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(list))) => {
            is_null(list) || empty::name_of(list).ends_with("acl")
        }
        _ => false,
    }
}

/// `pg_get_viewdef(oid [, …])` as a look into `pg_views`.
fn definition(function: &Function) -> Option<Expr> {
    let FunctionArguments::List(arguments) = &function.args else {
        return None;
    };
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(oid)) = arguments.args.first()? else {
        return None;
    };
    parsed(&format!(
        "(SELECT first_value(view_of.definition) FROM pg_catalog.pg_views AS view_of \
          JOIN pg_catalog.pg_namespace AS schema_of ON schema_of.nspname = view_of.schemaname \
          JOIN pg_catalog.pg_class AS class_of \
            ON class_of.relnamespace = schema_of.oid AND class_of.relname = view_of.viewname \
          WHERE class_of.oid = {oid})"
    ))
}

/// A query with these columns and no rows.
fn nothing(names: &[String]) -> Option<Query> {
    let mut columns: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let quoted = format!("CAST(NULL AS TEXT) AS \"{}\"", name.replace('"', "\"\""));
        if columns.contains(&quoted) {
            return None;
        }
        columns.push(quoted);
    }
    let sql = format!("SELECT {} WHERE false", columns.join(", "));
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql).ok()?;
    parser.parse_query().ok().map(|query| *query)
}

fn parsed(expr: &str) -> Option<Expr> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(expr).ok()?;
    parser.parse_expr().ok()
}

/// The last part of a function's name, in lower case.
fn name(function: &Function) -> String {
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.map(|name| name.value.to_ascii_lowercase()).unwrap_or_default()
}

fn is_null_function(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if NULL.contains(&name(function).as_str()))
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => value.value == Value::Null,
        Expr::Nested(expr) | Expr::Cast { expr, .. } => is_null(expr),
        _ => false,
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

fn boolean(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).with_empty_span())
}

#[cfg(test)]
mod tests;
