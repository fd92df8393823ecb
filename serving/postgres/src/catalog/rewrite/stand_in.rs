//! Where the library's tables spell what PostgreSQL has numbers or arrays for: functions by name, types of arguments in one text.

use std::borrow::Cow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, ArrayElemTypeDef, DataType, Expr, Ident, Query, Subscript, TableAlias, TableFactor, Value,
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

/// Types by their numbers, and the types of their elements, as asyncpg wants them: there are no domains, ranges or composite types.
const TYPES_OF_ELEMENTS: &str = "WITH wanted AS (SELECT oid, typname, typtype, typelem, typlen, typdelim, typnamespace \
     FROM pg_catalog.pg_type WHERE oid = ANY(CAST({} AS INT[]))), \
     both_of AS (SELECT oid, typname, typtype, typelem, typlen, typnamespace, 0 AS depth FROM wanted \
     UNION ALL SELECT t.oid, t.typname, t.typtype, t.typelem, t.typlen, t.typnamespace, 1 \
     FROM pg_catalog.pg_type AS t \
     WHERE t.oid IN (SELECT typelem FROM wanted WHERE typlen = -1) AND t.oid NOT IN (SELECT oid FROM wanted)) \
     SELECT b.oid, n.nspname AS ns, b.typname AS name, b.typtype AS kind, CAST(NULL AS INT) AS basetype, b.typelem AS elemtype, \
     e.typdelim AS elemdelim, CAST(NULL AS INT) AS range_subtype, CAST(NULL AS INT) AS attrtypoids, \
     CAST(NULL AS TEXT) AS attrnames, b.depth, CAST(NULL AS TEXT) AS basetype_name, e.typname AS elemtype_name, \
     CAST(NULL AS TEXT) AS range_subtype_name \
     FROM both_of AS b JOIN pg_catalog.pg_namespace AS n ON n.oid = b.typnamespace \
     LEFT JOIN pg_catalog.pg_type AS e ON e.oid = b.typelem AND b.typlen = -1 ORDER BY b.depth DESC, b.oid";

/// What asyncpg asks about types, without recursion.
pub(super) fn types_of_elements(sql: &str) -> Cow<'_, str> {
    const WANTED: &str = "ti.oid = any(";
    let wanted = sql.find(WANTED).map(|at| &sql[at + WANTED.len()..]);
    match wanted.and_then(|rest| rest.split_once("::oid[])")) {
        Some((wanted, _)) => Cow::Owned(TYPES_OF_ELEMENTS.replace("{}", wanted)),
        None => Cow::Borrowed(sql),
    }
}

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

/// `column::regtype::text` is the name of the type.
pub(super) fn type_name(expr: &Expr, kind: &DataType) -> Option<Expr> {
    let Expr::Cast {
        expr,
        data_type: DataType::Custom(inner, _),
        ..
    } = expr
    else {
        return None;
    };
    let named = matches!(kind, DataType::Text) && parts(inner).pop()? == "regtype";
    named.then(|| parsed(&format!("format_type({expr}, NULL)"))).flatten()
}

/// `column::regproc` is the column, which has the name already; `'lower(text)'::regprocedure` a look into `pg_proc`, by the name
/// and the number of arguments.
pub(super) fn function_name(expr: &Expr, kind: &DataType) -> Option<Expr> {
    // Types of arguments have numbers here, not names.
    if let DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) = kind {
        let named = matches!(item.as_ref(), DataType::Custom(name, _) if parts(name).last().is_some_and(|name| name == "regtype"));
        return named.then(|| parsed("CAST(NULL AS TEXT[])")).flatten();
    }
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
