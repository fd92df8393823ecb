//! What PostgreSQL calls the columns of an answer that the query does not name.

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Query, Select, SelectItem, SetExpr, Statement, TrimWhereField, Value,
};

use crate::types;

const NO_NAME: &str = "?column?";

/// The names of all columns; `None` where they come from relations (`*`), or the statement is no query.
pub(crate) fn told(statement: &Statement) -> Option<Vec<String>> {
    match statement {
        Statement::Query(query) => of_query(query),
        _ => None,
    }
}

fn of_query(query: &Query) -> Option<Vec<String>> {
    let mut body = query.body.as_ref();
    loop {
        body = match body {
            SetExpr::Select(select) => return of_select(select),
            SetExpr::Query(query) => query.body.as_ref(),
            SetExpr::SetOperation { left, .. } => left.as_ref(),
            _ => return None,
        };
    }
}

fn of_select(select: &Select) -> Option<Vec<String>> {
    let names = select.projection.iter().map(|item| match item {
        SelectItem::UnnamedExpr(expr) => Some(name_of(expr).unwrap_or_else(|| NO_NAME.to_owned())),
        SelectItem::ExprWithAlias { alias, .. } => Some(match alias.quote_style {
            None => alias.value.to_lowercase(),
            Some(_) => alias.value.clone(),
        }),
        _ => None,
    });
    names.collect()
}

/// The name that an expression gives its column, if it gives one (`FigureColname` in PostgreSQL's `parse_target.c`).
fn name_of(expr: &Expr) -> Option<String> {
    let word = |word: &str| Some(word.to_owned());
    match expr {
        Expr::Identifier(name) => Some(match name.quote_style {
            None => name.value.to_lowercase(),
            Some(_) => name.value.clone(),
        }),
        Expr::CompoundIdentifier(names) => name_of(&Expr::Identifier(names.last()?.clone())),
        Expr::CompoundFieldAccess { root, .. } => name_of(root),
        Expr::Function(function) => {
            let name = function.name.0.last()?.as_ident()?;
            name_of(&Expr::Identifier(name.clone()))
        }
        Expr::Nested(expr) | Expr::Collate { expr, .. } => name_of(expr),
        Expr::Cast { expr, data_type, .. } => name_of(expr)
            .filter(|name| name != "case")
            .or_else(|| type_name(data_type)),
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Interval(_) => word("interval"),
        Expr::Case { else_result, .. } => else_result
            .as_deref()
            .and_then(|result| match result {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => name_of(result),
                _ => None,
            })
            .or_else(|| word("case")),
        Expr::Exists { .. } => word("exists"),
        Expr::Subquery(query) => of_query(query)?.into_iter().next().filter(|name| name != NO_NAME),
        Expr::Array(_) => word("array"),
        Expr::Extract { .. } => word("extract"),
        Expr::Ceil { .. } => word("ceil"),
        Expr::Floor { .. } => word("floor"),
        Expr::Position { .. } => word("position"),
        Expr::Substring { shorthand, .. } => word(if *shorthand { "substr" } else { "substring" }),
        Expr::Overlay { .. } => word("overlay"),
        Expr::Trim { trim_where, .. } => word(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::AtTimeZone { .. } => word("timezone"),
        Expr::Tuple(_) => word("row"),
        Expr::Value(value) => match &value.value {
            Value::Boolean(_) => word("bool"),
            _ => None,
        },
        _ => None,
    }
}

fn type_name(kind: &DataType) -> Option<String> {
    let spelled = kind.to_string().to_ascii_lowercase();
    let plain = spelled.split('(').next().unwrap_or(&spelled).trim();
    let oid = match plain {
        "int" => types::INT4,
        "float" | "double" => types::FLOAT8,
        "decimal" | "dec" => types::NUMERIC,
        "char" => types::BPCHAR,
        other => types::oid_of(other)?,
    };
    Some(types::type_name(oid).to_owned())
}
