use std::sync::Arc;

use anabranch_front::{CATALOG, PUBLIC, Relation, RelationKind, SYSTEM};
use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

use super::relations::Listing;
use super::sheet::{NO_TEXT, int, sheet, text};
use super::{INFORMATION_SCHEMA, PG_CATALOG};
use crate::types::{
    DATE, FLOAT4, FLOAT8, INT2, INT4, INT8, INTERVAL, NUMERIC, PgType, TIME, TIMESTAMPTZ, sql_name, type_name,
};

/// `information_schema` (ISO 9075-11), as far as tools read it.
#[derive(Debug)]
pub(super) struct InformationSchema(pub(super) Listing);

/// Tables that are empty here, with the columns that are asked for.
const EMPTY: [(&str, &[&str]); 14] = [
    (
        "table_constraints",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "constraint_type",
            "is_deferrable",
            "initially_deferred",
            "enforced",
        ],
    ),
    (
        "key_column_usage",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "ordinal_position",
            "position_in_unique_constraint",
        ],
    ),
    (
        "referential_constraints",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "unique_constraint_catalog",
            "unique_constraint_schema",
            "unique_constraint_name",
            "match_option",
            "update_rule",
            "delete_rule",
        ],
    ),
    (
        "constraint_column_usage",
        &[
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
        ],
    ),
    (
        "constraint_table_usage",
        &[
            "table_catalog",
            "table_schema",
            "table_name",
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
        ],
    ),
    (
        "check_constraints",
        &[
            "constraint_catalog",
            "constraint_schema",
            "constraint_name",
            "check_clause",
        ],
    ),
    (
        "triggers",
        &[
            "trigger_catalog",
            "trigger_schema",
            "trigger_name",
            "event_manipulation",
            "event_object_catalog",
            "event_object_schema",
            "event_object_table",
            "action_statement",
            "action_timing",
        ],
    ),
    (
        "routines",
        &[
            "specific_catalog",
            "specific_schema",
            "specific_name",
            "routine_catalog",
            "routine_schema",
            "routine_name",
            "routine_type",
            "data_type",
            "routine_definition",
            "external_language",
        ],
    ),
    (
        "parameters",
        &[
            "specific_catalog",
            "specific_schema",
            "specific_name",
            "ordinal_position",
            "parameter_mode",
            "parameter_name",
            "data_type",
        ],
    ),
    (
        "sequences",
        &[
            "sequence_catalog",
            "sequence_schema",
            "sequence_name",
            "data_type",
            "start_value",
            "increment",
        ],
    ),
    (
        "domains",
        &[
            "domain_catalog",
            "domain_schema",
            "domain_name",
            "data_type",
            "domain_default",
        ],
    ),
    (
        "element_types",
        &[
            "object_catalog",
            "object_schema",
            "object_name",
            "object_type",
            "collection_type_identifier",
            "data_type",
        ],
    ),
    (
        "view_table_usage",
        &[
            "view_catalog",
            "view_schema",
            "view_name",
            "table_catalog",
            "table_schema",
            "table_name",
        ],
    ),
    (
        "column_privileges",
        &[
            "grantor",
            "grantee",
            "table_catalog",
            "table_schema",
            "table_name",
            "column_name",
            "privilege_type",
            "is_grantable",
        ],
    ),
];

const FILLED: [&str; 8] = [
    "schemata",
    "tables",
    "views",
    "columns",
    "table_privileges",
    "role_table_grants",
    "enabled_roles",
    "information_schema_catalog_name",
];

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        let empty = EMPTY.iter().map(|(name, _)| *name);
        FILLED.into_iter().chain(empty).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let relations = self.0.relations();
        let owner = self.0.owner();
        Ok(Some(match name {
            "schemata" => schemata(owner)?,
            "tables" => tables(&relations)?,
            "views" => views(&relations)?,
            "columns" => columns(&relations)?,
            "table_privileges" | "role_table_grants" => privileges(&relations, owner)?,
            "enabled_roles" => sheet(&[("role_name", DataType::Utf8)], vec![vec![text(owner)]])?,
            "information_schema_catalog_name" => sheet(&[("catalog_name", DataType::Utf8)], vec![vec![text(CATALOG)]])?,
            other => match EMPTY.iter().find(|(name, _)| *name == other) {
                Some((_, columns)) => {
                    let columns: Vec<_> = columns.iter().map(|name| (*name, kind_of(name))).collect();
                    sheet(&columns, Vec::new())?
                }
                None => return Ok(None),
            },
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        FILLED.contains(&name) || EMPTY.iter().any(|(known, _)| *known == name)
    }
}

fn kind_of(column: &str) -> DataType {
    match column {
        "ordinal_position" | "position_in_unique_constraint" => DataType::Int32,
        _ => DataType::Utf8,
    }
}

fn schemata(owner: &str) -> Result<Arc<dyn TableProvider>> {
    let columns = [
        ("catalog_name", DataType::Utf8),
        ("schema_name", DataType::Utf8),
        ("schema_owner", DataType::Utf8),
        ("default_character_set_catalog", DataType::Utf8),
        ("default_character_set_schema", DataType::Utf8),
        ("default_character_set_name", DataType::Utf8),
        ("sql_path", DataType::Utf8),
    ];
    let schemas = [PUBLIC, SYSTEM, INFORMATION_SCHEMA, PG_CATALOG].into_iter();
    let rows = schemas.map(|schema| {
        vec![
            text(CATALOG),
            text(schema),
            text(owner),
            NO_TEXT,
            NO_TEXT,
            NO_TEXT,
            NO_TEXT,
        ]
    });
    sheet(&columns, rows.collect())
}

fn tables(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    let columns = [
        ("table_catalog", DataType::Utf8),
        ("table_schema", DataType::Utf8),
        ("table_name", DataType::Utf8),
        ("table_type", DataType::Utf8),
        ("self_referencing_column_name", DataType::Utf8),
        ("reference_generation", DataType::Utf8),
        ("user_defined_type_catalog", DataType::Utf8),
        ("user_defined_type_schema", DataType::Utf8),
        ("user_defined_type_name", DataType::Utf8),
        ("is_insertable_into", DataType::Utf8),
        ("is_typed", DataType::Utf8),
        ("commit_action", DataType::Utf8),
    ];
    let rows = relations.iter().map(|relation| {
        let kind = match relation.kind {
            RelationKind::View => "VIEW",
            RelationKind::System => "BASE TABLE",
        };
        vec![
            text(CATALOG),
            text(relation.schema),
            text(&relation.name),
            text(kind),
            NO_TEXT,
            NO_TEXT,
            NO_TEXT,
            NO_TEXT,
            NO_TEXT,
            text("NO"),
            text("NO"),
            NO_TEXT,
        ]
    });
    sheet(&columns, rows.collect())
}

fn views(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    let columns = [
        ("table_catalog", DataType::Utf8),
        ("table_schema", DataType::Utf8),
        ("table_name", DataType::Utf8),
        ("view_definition", DataType::Utf8),
        ("check_option", DataType::Utf8),
        ("is_updatable", DataType::Utf8),
        ("is_insertable_into", DataType::Utf8),
        ("is_trigger_updatable", DataType::Utf8),
        ("is_trigger_deletable", DataType::Utf8),
        ("is_trigger_insertable_into", DataType::Utf8),
    ];
    let views = relations.iter().filter(|relation| relation.kind == RelationKind::View);
    let rows = views.map(|view| {
        let mut row = vec![
            text(CATALOG),
            text(view.schema),
            text(&view.name),
            ScalarValue::Utf8(view.definition.clone()),
            text("NONE"),
        ];
        row.resize(columns.len(), text("NO"));
        row
    });
    sheet(&columns, rows.collect())
}

fn privileges(relations: &[Relation], owner: &str) -> Result<Arc<dyn TableProvider>> {
    let columns = [
        ("grantor", DataType::Utf8),
        ("grantee", DataType::Utf8),
        ("table_catalog", DataType::Utf8),
        ("table_schema", DataType::Utf8),
        ("table_name", DataType::Utf8),
        ("privilege_type", DataType::Utf8),
        ("is_grantable", DataType::Utf8),
        ("with_hierarchy", DataType::Utf8),
    ];
    let rows = relations.iter().map(|relation| {
        vec![
            text(owner),
            text(owner),
            text(CATALOG),
            text(relation.schema),
            text(&relation.name),
            text("SELECT"),
            text("NO"),
            text("YES"),
        ]
    });
    sheet(&columns, rows.collect())
}

fn columns(relations: &[Relation]) -> Result<Arc<dyn TableProvider>> {
    let columns = [
        ("table_catalog", DataType::Utf8),
        ("table_schema", DataType::Utf8),
        ("table_name", DataType::Utf8),
        ("column_name", DataType::Utf8),
        ("ordinal_position", DataType::Int32),
        ("column_default", DataType::Utf8),
        ("is_nullable", DataType::Utf8),
        ("data_type", DataType::Utf8),
        ("character_maximum_length", DataType::Int32),
        ("character_octet_length", DataType::Int32),
        ("numeric_precision", DataType::Int32),
        ("numeric_precision_radix", DataType::Int32),
        ("numeric_scale", DataType::Int32),
        ("datetime_precision", DataType::Int32),
        ("interval_type", DataType::Utf8),
        ("interval_precision", DataType::Int32),
        ("character_set_name", DataType::Utf8),
        ("collation_name", DataType::Utf8),
        ("domain_catalog", DataType::Utf8),
        ("domain_schema", DataType::Utf8),
        ("domain_name", DataType::Utf8),
        ("udt_catalog", DataType::Utf8),
        ("udt_schema", DataType::Utf8),
        ("udt_name", DataType::Utf8),
        ("dtd_identifier", DataType::Utf8),
        ("is_self_referencing", DataType::Utf8),
        ("is_identity", DataType::Utf8),
        ("identity_generation", DataType::Utf8),
        ("is_generated", DataType::Utf8),
        ("generation_expression", DataType::Utf8),
        ("is_updatable", DataType::Utf8),
    ];
    let rows = relations.iter().flat_map(|relation| {
        let fields = relation.columns.fields().iter().enumerate();
        fields.map(|(index, field)| column(relation, index, field))
    });
    sheet(&columns, rows.collect())
}

fn column(relation: &Relation, index: usize, field: &Field) -> Vec<ScalarValue> {
    const NO_INT: ScalarValue = ScalarValue::Int32(None);
    let place = int(i32::try_from(index + 1).unwrap_or(i32::MAX));
    let kind = PgType::of(field);
    let (precision, radix, scale) = match kind.oid {
        INT2 => (int(16), int(2), int(0)),
        INT4 => (int(32), int(2), int(0)),
        INT8 => (int(64), int(2), int(0)),
        FLOAT4 => (int(24), int(2), NO_INT),
        FLOAT8 => (int(53), int(2), NO_INT),
        NUMERIC if kind.modifier >= 0 => (
            int((kind.modifier - 4) >> 16),
            int(10),
            int((kind.modifier - 4) & 0xffff),
        ),
        NUMERIC => (NO_INT, int(10), NO_INT),
        _ => (NO_INT, NO_INT, NO_INT),
    };
    let seconds = match kind.oid {
        DATE => int(0),
        TIME | TIMESTAMPTZ | INTERVAL => int(6),
        _ => NO_INT,
    };
    vec![
        text(CATALOG),
        text(relation.schema),
        text(&relation.name),
        text(field.name()),
        place,
        NO_TEXT,
        text(if field.is_nullable() { "YES" } else { "NO" }),
        text(sql_name(kind.oid)),
        NO_INT,
        NO_INT,
        precision,
        radix,
        scale,
        seconds,
        NO_TEXT,
        NO_INT,
        NO_TEXT,
        NO_TEXT,
        NO_TEXT,
        NO_TEXT,
        NO_TEXT,
        text(CATALOG),
        text(PG_CATALOG),
        text(type_name(kind.oid)),
        text((index + 1).to_string()),
        text("NO"),
        text("NO"),
        NO_TEXT,
        text("NEVER"),
        NO_TEXT,
        text("NO"),
    ]
}
