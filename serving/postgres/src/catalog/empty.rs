//! Queries whose answer has no rows whatever else they say, because they join a relation that is always empty here:
//! indexes, constraints, triggers and the like. Clients read those with more of PostgreSQL's language than the planner has.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, JoinOperator, Query, Select, SelectItem, SetExpr, SetOperator, Statement, TableFactor,
    TableWithJoins,
};

use super::{INFORMATION_SCHEMA, PG_CATALOG, information_schema, parts};

/// Relations of `pg_catalog` that are empty on this server.
const EMPTY: [&str; 35] = [
    "pg_attrdef",
    "pg_auth_members",
    "pg_collation",
    "pg_constraint",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_inherits",
    "pg_largeobject",
    "pg_matviews",
    "pg_parameter_acl",
    "pg_partitioned_table",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_rewrite",
    "pg_seclabel",
    "pg_sequence",
    "pg_shdescription",
    "pg_statistic_ext",
    "pg_subscription",
    "pg_subscription_rel",
    "pg_trigger",
    "pg_ts_config_map",
    "pg_user_mapping",
    "pg_user_mappings",
];

pub(super) fn is_empty_here(name: &str) -> bool {
    EMPTY.contains(&name)
}

/// The names of the columns of a statement that gives no rows; `None` when it might.
pub(super) fn columns(statement: &Statement) -> Option<Vec<String>> {
    match statement {
        Statement::Query(query) => of_query(query),
        _ => None,
    }
}

pub(super) fn of_query(query: &Query) -> Option<Vec<String>> {
    of_set(&query.body)
}

fn of_set(set: &SetExpr) -> Option<Vec<String>> {
    match set {
        SetExpr::Select(select) => of_select(select),
        SetExpr::Query(query) => of_query(query),
        SetExpr::SetOperation {
            op: SetOperator::Union,
            left,
            right,
            ..
        } => {
            let names = of_set(left)?;
            of_set(right).map(|_| names)
        }
        SetExpr::SetOperation { left, .. } => of_set(left),
        _ => None,
    }
}

fn of_select(select: &Select) -> Option<Vec<String>> {
    let nothing = select.from.iter().any(is_nothing) || is_false(select.selection.as_ref());
    let grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(expressions, _) => !expressions.is_empty(),
    };
    // An aggregate over nothing is a row.
    if !nothing || (!grouped && select.projection.iter().any(may_aggregate)) {
        return None;
    }
    let inner = select.from.iter().find_map(|from| match &from.relation {
        TableFactor::Derived { subquery, .. } => of_query(subquery),
        _ => None,
    });
    let mut names = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => names.push(alias.value.clone()),
            SelectItem::UnnamedExpr(expr) => names.push(name_of(expr)),
            // Only of a subquery whose columns are known.
            _ => names.extend(inner.clone()?),
        }
    }
    Some(names)
}

fn is_false(selection: Option<&Expr>) -> bool {
    use datafusion::sql::sqlparser::ast::Value;
    matches!(selection, Some(Expr::Value(value)) if value.value == Value::Boolean(false))
}

fn is_nothing(table: &TableWithJoins) -> bool {
    let mut nothing = is_empty_factor(&table.relation);
    for join in &table.joins {
        nothing = match &join.join_operator {
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => {
                nothing || is_empty_factor(&join.relation)
            }
            JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => nothing,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => is_empty_factor(&join.relation),
            _ => return false,
        };
    }
    nothing
}

pub(super) fn is_empty_factor(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Table { name, args: None, .. } => {
            let parts: Vec<String> = parts(name);
            match parts.as_slice() {
                [.., schema, name] if schema == INFORMATION_SCHEMA => information_schema::is_empty_here(name),
                [.., schema, name] => schema == PG_CATALOG && is_empty_here(name),
                [name] => is_empty_here(name),
                [] => false,
            }
        }
        TableFactor::Derived { subquery, .. } => of_query(subquery).is_some(),
        TableFactor::NestedJoin { table_with_joins, .. } => is_nothing(table_with_joins),
        _ => false,
    }
}

/// Whether an item of a projection could be an aggregate.
pub(super) fn may_aggregate(item: &SelectItem) -> bool {
    let expr = match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
        _ => return false,
    };
    let text = expr.to_string().to_ascii_lowercase();
    [
        "count(",
        "sum(",
        "min(",
        "max(",
        "avg(",
        "_agg(",
        "bool_and(",
        "bool_or(",
        "every(",
    ]
    .iter()
    .any(|aggregate| text.contains(aggregate))
}

pub(super) fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.clone()).unwrap_or_default(),
        Expr::Function(function) => {
            let name = function.name.0.last().and_then(|part| part.as_ident());
            name.map(|name| name.value.clone()).unwrap_or_default()
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) => name_of(expr),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Subquery(query) => match query.body.as_select().map(|select| select.projection.as_slice()) {
            Some([SelectItem::ExprWithAlias { alias, .. }]) => alias.value.clone(),
            Some([SelectItem::UnnamedExpr(expr)]) => name_of(expr),
            _ => "?column?".to_owned(),
        },
        _ => "?column?".to_owned(),
    }
}

/// The columns of an empty table; those that clients take elements of are arrays, which they are texts of in the library.
pub(super) fn with_arrays(name: &str, schema: &Schema) -> Schema {
    let is_array = |column: &str| name == "pg_constraint" && matches!(column, "conkey" | "confkey");
    let fields = schema.fields().iter().map(|field| match is_array(field.name()) {
        true => Arc::new(Field::new_list(
            field.name(),
            Field::new_list_field(DataType::Int16, true),
            true,
        )),
        false => Arc::clone(field),
    });
    Schema::new(fields.collect::<Fields>())
}
