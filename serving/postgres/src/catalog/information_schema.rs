use std::sync::Arc;

use anabranch_front::{CATALOG, PUBLIC, Relation, RelationKind, SYSTEM};
use arrow::datatypes::Field;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

use super::relations::Listing;
use super::sheet::{Sheet, int, text};
use super::{INFORMATION_SCHEMA, PG_CATALOG};
use crate::types::{
    DATE, FLOAT4, FLOAT8, INT2, INT4, INT8, INTERVAL, NUMERIC, PgType, TIME, TIMESTAMPTZ, sql_name, type_name,
};

/// `information_schema` (ISO 9075-11), as far as tools read it.
#[derive(Debug)]
pub(super) struct InformationSchema(pub(super) Listing);

/// Tables that are empty here, with the columns that are asked for.
const EMPTY: [(&str, &str); 14] = [
    (
        "table_constraints",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name constraint_type \
         is_deferrable initially_deferred enforced",
    ),
    (
        "key_column_usage",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name column_name \
         ordinal_position:int position_in_unique_constraint:int",
    ),
    (
        "referential_constraints",
        "constraint_catalog constraint_schema constraint_name unique_constraint_catalog unique_constraint_schema \
         unique_constraint_name match_option update_rule delete_rule",
    ),
    (
        "constraint_column_usage",
        "table_catalog table_schema table_name column_name constraint_catalog constraint_schema constraint_name",
    ),
    (
        "constraint_table_usage",
        "table_catalog table_schema table_name constraint_catalog constraint_schema constraint_name",
    ),
    (
        "check_constraints",
        "constraint_catalog constraint_schema constraint_name check_clause",
    ),
    (
        "triggers",
        "trigger_catalog trigger_schema trigger_name event_manipulation event_object_catalog event_object_schema \
         event_object_table action_statement action_timing",
    ),
    (
        "routines",
        "specific_catalog specific_schema specific_name routine_catalog routine_schema routine_name routine_type data_type \
         routine_definition external_language",
    ),
    (
        "parameters",
        "specific_catalog specific_schema specific_name ordinal_position:int parameter_mode parameter_name data_type",
    ),
    (
        "sequences",
        "sequence_catalog sequence_schema sequence_name data_type start_value increment",
    ),
    (
        "domains",
        "domain_catalog domain_schema domain_name data_type domain_default",
    ),
    (
        "element_types",
        "object_catalog object_schema object_name object_type collection_type_identifier data_type",
    ),
    (
        "view_table_usage",
        "view_catalog view_schema view_name table_catalog table_schema table_name",
    ),
    (
        "column_privileges",
        "grantor grantee table_catalog table_schema table_name column_name privilege_type is_grantable",
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

type Row = Vec<(&'static str, ScalarValue)>;

pub(super) fn is_empty_here(name: &str) -> bool {
    EMPTY.iter().any(|(known, _)| *known == name)
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        let empty = EMPTY.iter().map(|(name, _)| *name);
        FILLED.into_iter().chain(empty).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let relations = self.0.relations();
        let owner = self.0.owner();
        let sheet = match name {
            "schemata" => schemata(owner),
            "tables" => tables(&relations),
            "views" => views(&relations),
            "columns" => columns(&relations),
            "table_privileges" | "role_table_grants" => privileges(&relations, owner),
            "enabled_roles" => Sheet::new("role_name").row([("role_name", text(owner))]),
            "information_schema_catalog_name" => Sheet::new("catalog_name").row([("catalog_name", text(CATALOG))]),
            other => match EMPTY.iter().find(|(name, _)| *name == other) {
                Some((_, columns)) => Sheet::new(columns),
                None => return Ok(None),
            },
        };
        sheet.table().map(Some)
    }

    fn table_exist(&self, name: &str) -> bool {
        FILLED.contains(&name) || is_empty_here(name)
    }
}

fn schemata(owner: &str) -> Sheet {
    let schemas = [PUBLIC, SYSTEM, INFORMATION_SCHEMA, PG_CATALOG].into_iter();
    Sheet::new(
        "catalog_name schema_name schema_owner default_character_set_catalog default_character_set_schema \
         default_character_set_name sql_path",
    )
    .rows(schemas.map(|schema| {
        vec![
            ("catalog_name", text(CATALOG)),
            ("schema_name", text(schema)),
            ("schema_owner", text(owner)),
        ]
    }))
}

/// The name of a relation, which most tables begin with.
fn named(relation: &Relation) -> Row {
    vec![
        ("table_catalog", text(CATALOG)),
        ("table_schema", text(relation.schema)),
        ("table_name", text(&relation.name)),
    ]
}

fn tables(relations: &[Relation]) -> Sheet {
    Sheet::new(
        "table_catalog table_schema table_name table_type self_referencing_column_name reference_generation \
         user_defined_type_catalog user_defined_type_schema user_defined_type_name is_insertable_into is_typed commit_action",
    )
    .rows(relations.iter().map(|relation| {
        let kind = match relation.kind {
            RelationKind::View => "VIEW",
            RelationKind::System => "BASE TABLE",
        };
        let mut row = named(relation);
        row.push(("table_type", text(kind)));
        row.extend(["is_insertable_into", "is_typed"].map(|name| (name, text("NO"))));
        row
    }))
}

fn views(relations: &[Relation]) -> Sheet {
    let views = relations.iter().filter(|relation| relation.kind == RelationKind::View);
    Sheet::new(
        "table_catalog table_schema table_name view_definition check_option is_updatable is_insertable_into \
         is_trigger_updatable is_trigger_deletable is_trigger_insertable_into",
    )
    .rows(views.map(|view| {
        let mut row = named(view);
        row.push(("view_definition", ScalarValue::Utf8(view.definition.clone())));
        row.push(("check_option", text("NONE")));
        let never = [
            "is_updatable",
            "is_insertable_into",
            "is_trigger_updatable",
            "is_trigger_deletable",
            "is_trigger_insertable_into",
        ];
        row.extend(never.map(|name| (name, text("NO"))));
        row
    }))
}

fn privileges(relations: &[Relation], owner: &str) -> Sheet {
    Sheet::new("grantor grantee table_catalog table_schema table_name privilege_type is_grantable with_hierarchy").rows(
        relations.iter().map(|relation| {
            let mut row = named(relation);
            row.extend([
                ("grantor", text(owner)),
                ("grantee", text(owner)),
                ("privilege_type", text("SELECT")),
                ("is_grantable", text("NO")),
                ("with_hierarchy", text("YES")),
            ]);
            row
        }),
    )
}

fn columns(relations: &[Relation]) -> Sheet {
    let rows = relations.iter().flat_map(|relation| {
        let fields = relation.columns.fields().iter().enumerate();
        fields.map(|(index, field)| column(relation, index, field))
    });
    Sheet::new(
        "table_catalog table_schema table_name column_name ordinal_position:int column_default is_nullable data_type \
         character_maximum_length:int character_octet_length:int numeric_precision:int numeric_precision_radix:int \
         numeric_scale:int datetime_precision:int interval_type interval_precision:int character_set_name collation_name \
         domain_catalog domain_schema domain_name udt_catalog udt_schema udt_name dtd_identifier is_self_referencing \
         is_identity identity_generation is_generated generation_expression is_updatable",
    )
    .rows(rows)
}

fn column(relation: &Relation, index: usize, field: &Field) -> Row {
    let place = i32::try_from(index + 1).unwrap_or(i32::MAX);
    let kind = PgType::of(field);
    let mut row = named(relation);
    row.extend([
        ("column_name", text(field.name())),
        ("ordinal_position", int(place)),
        ("is_nullable", text(if field.is_nullable() { "YES" } else { "NO" })),
        ("data_type", text(sql_name(kind.oid))),
        ("udt_catalog", text(CATALOG)),
        ("udt_schema", text(PG_CATALOG)),
        ("udt_name", text(type_name(kind.oid))),
        ("dtd_identifier", text(place.to_string())),
        ("is_generated", text("NEVER")),
    ]);
    row.extend(["is_self_referencing", "is_identity", "is_updatable"].map(|name| (name, text("NO"))));
    let (precision, radix, scale) = match kind.oid {
        INT2 => (Some(16), 2, Some(0)),
        INT4 => (Some(32), 2, Some(0)),
        INT8 => (Some(64), 2, Some(0)),
        FLOAT4 => (Some(24), 2, None),
        FLOAT8 => (Some(53), 2, None),
        NUMERIC if kind.modifier >= 0 => (Some((kind.modifier - 4) >> 16), 10, Some((kind.modifier - 4) & 0xffff)),
        NUMERIC => (None, 10, None),
        DATE => return with_precision(row, 0),
        TIME | TIMESTAMPTZ | INTERVAL => return with_precision(row, 6),
        _ => return row,
    };
    row.push(("numeric_precision", ScalarValue::Int32(precision)));
    row.push(("numeric_precision_radix", int(radix)));
    row.push(("numeric_scale", ScalarValue::Int32(scale)));
    row
}

/// With the digits of its seconds.
fn with_precision(mut row: Row, digits: i32) -> Row {
    row.push(("datetime_precision", int(digits)));
    row
}
