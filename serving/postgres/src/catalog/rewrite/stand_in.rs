//! Where the library's tables spell what PostgreSQL has numbers or arrays for: functions by name, types of arguments in one text.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, DataType, Expr, Ident, Query, Subscript, TableAlias, TableFactor, Value,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::super::{PG_CATALOG, parts};
use super::parsed;

/// Support functions of operator families, by number. Of functions with one name it is the first.
const SUPPORT_FUNCTIONS: &str = "SELECT ap.oid, ap.amprocfamily, ap.amproclefttype, ap.amprocrighttype, ap.amprocnum, \
     named.oid AS amproc \
     FROM pg_catalog.pg_amproc AS ap LEFT JOIN \
     (SELECT proname, min(oid) AS oid FROM pg_catalog.pg_proc GROUP BY proname) AS named \
     ON named.proname = replace(ap.amproc, 'pg_catalog.', '')";

/// Nothing here has partitions in the sense of PostgreSQL.
const PARTITIONS: &str =
    "SELECT CAST(NULL AS INT) AS relid, CAST(NULL AS INT) AS parentrelid, false AS isleaf, 0 AS level WHERE false";

/// Nothing here takes texts apart.
const TOKENS: &str =
    "SELECT CAST(NULL AS INT) AS tokid, CAST(NULL AS TEXT) AS alias, CAST(NULL AS TEXT) AS description WHERE false";

/// What is read instead of a relation.
pub(super) fn relation(factor: &TableFactor) -> Option<TableFactor> {
    let TableFactor::Table { name, alias, args, .. } = factor else {
        return None;
    };
    let name = parts(name);
    let (schema, name) = match name.as_slice() {
        [.., schema, name] => (schema.as_str(), name.as_str()),
        [name] => (PG_CATALOG, name.as_str()),
        [] => return None,
    };
    let sql = match (schema, name, args) {
        (PG_CATALOG, "pg_amproc", None) => SUPPORT_FUNCTIONS,
        (PG_CATALOG, "pg_partition_tree", Some(_)) => PARTITIONS,
        (PG_CATALOG, "ts_token_type", Some(_)) => TOKENS,
        (PG_CATALOG, "pg_timezone_names", Some(_)) => "SELECT * FROM pg_catalog.pg_timezone_names",
        _ => return None,
    };
    let alias = alias.clone().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::new(name),
        columns: Vec::new(),
        at: None,
    });
    Some(TableFactor::Derived {
        lateral: false,
        subquery: query(sql)?,
        alias: Some(alias),
        sample: None,
    })
}

fn query(sql: &str) -> Option<Box<Query>> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?;
    parser.parse_query().ok()
}

/// `column::regproc` is the column, which has the name already; `'lower(text)'::regprocedure` a look into `pg_proc`, by the name
/// and the number of arguments.
pub(super) fn function_name(expr: &Expr, kind: &DataType) -> Option<Expr> {
    let DataType::Custom(kind, _) = kind else {
        return None;
    };
    let kind = parts(kind).pop()?;
    match (kind.as_str(), expr) {
        ("regproc", Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => Some(expr.clone()),
        ("regprocedure", Expr::Value(value)) => {
            let Value::SingleQuotedString(signature) = &value.value else {
                return None;
            };
            let (name, arguments) = signature.trim_end().strip_suffix(')')?.split_once('(')?;
            let count = arguments
                .split(',')
                .filter(|argument| !argument.trim().is_empty())
                .count();
            let name = name.trim().rsplit('.').next()?.trim_matches('"').replace('\'', "''");
            parsed(&format!(
                "(SELECT min(oid) FROM pg_catalog.pg_proc WHERE proname = '{name}' AND pronargs = {count})"
            ))
        }
        _ => None,
    }
}

/// `proargtypes[n]`, counted from 0, of a text with a blank between two.
pub(super) fn argument_type(root: &Expr, chain: &[AccessExpr]) -> Option<Expr> {
    let (column, index) = match chain {
        [AccessExpr::Subscript(Subscript::Index { index })] => (root.to_string(), index),
        [AccessExpr::Dot(name), AccessExpr::Subscript(Subscript::Index { index })] => (format!("{root}.{name}"), index),
        _ => return None,
    };
    let index: usize = index.to_string().parse().ok()?;
    let is_types = column.rsplit('.').next() == Some("proargtypes");
    let item = format!(
        "CAST(NULLIF(split_part({column}, ' ', {}), '') AS INT)",
        index.checked_add(1)?
    );
    is_types.then(|| parsed(&item)).flatten()
}
