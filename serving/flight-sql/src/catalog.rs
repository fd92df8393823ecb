//! What clients look up before they ask: schemas, tables, what the server can do.

use anabranch_front::{CATALOG, PUBLIC, Relation, RelationKind, SYSTEM};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, SqlInfo,
    SqlSupportedCaseSensitivity, SqlSupportedTransaction,
};

const VIEW: &str = "VIEW";
const TABLE: &str = "TABLE";

fn kind(relation: &Relation) -> &'static str {
    match relation.kind {
        RelationKind::View => VIEW,
        RelationKind::System => TABLE,
    }
}

pub(crate) fn catalogs(query: CommandGetCatalogs) -> Result<(SchemaRef, RecordBatch), FlightError> {
    let mut builder = query.into_builder();
    builder.append(CATALOG);
    Ok((builder.schema(), builder.build()?))
}

pub(crate) fn schemas(query: CommandGetDbSchemas) -> Result<(SchemaRef, RecordBatch), FlightError> {
    let mut builder = query.into_builder();
    for schema in [SYSTEM, PUBLIC] {
        builder.append(CATALOG, schema);
    }
    Ok((builder.schema(), builder.build()?))
}

pub(crate) fn table_types(query: CommandGetTableTypes) -> Result<(SchemaRef, RecordBatch), FlightError> {
    let mut builder = query.into_builder();
    for kind in [TABLE, VIEW] {
        builder.append(kind);
    }
    Ok((builder.schema(), builder.build()?))
}

pub(crate) fn tables(query: CommandGetTables, relations: &[Relation]) -> Result<(SchemaRef, RecordBatch), FlightError> {
    let mut builder = query.into_builder();
    for relation in relations {
        builder.append(
            CATALOG,
            relation.schema,
            &relation.name,
            kind(relation),
            &relation.columns,
        )?;
    }
    Ok((builder.schema(), builder.build()?))
}

/// What this server can do.
pub(crate) fn info() -> Result<SqlInfoData, FlightError> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Anabranch");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(
        SqlInfo::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
    );
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32,
    );
    info.build()
}
