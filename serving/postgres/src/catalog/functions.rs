use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_pg_catalog::pg_catalog::{
    PgCatalogStaticTables, array_bounds_udf, create_current_database_udf, create_current_schema_udf,
    create_current_schemas_udf, create_pg_backend_pid_udf, create_pg_encoding_to_char_udf,
    create_pg_get_partition_ancestors_udf, create_pg_get_partkeydef_udf, create_pg_get_statisticsobjdef_columns_udf,
    create_pg_relation_is_publishable_udf, create_pg_stat_get_numscans, create_pg_table_is_visible, format_type,
    has_privilege_udf, pg_get_expr_udf, quote_ident_udf,
};

use super::settings::SettingFunction;
use super::sheet::{NO_TEXT, int, text};
use crate::{session, types};

/// Adds the functions that clients call in catalog queries.
pub(super) fn register(context: &SessionContext, user: &str, tables: &Arc<PgCatalogStaticTables>) {
    for function in [
        create_current_database_udf(anabranch_front::CATALOG),
        create_current_schema_udf(),
        create_current_schemas_udf(),
        create_pg_table_is_visible(),
        create_pg_get_partkeydef_udf(),
        create_pg_relation_is_publishable_udf(),
        create_pg_get_statisticsobjdef_columns_udf(),
        create_pg_encoding_to_char_udf(),
        create_pg_backend_pid_udf(),
        create_pg_stat_get_numscans(),
        create_pg_get_partition_ancestors_udf(),
        format_type::create_format_type_udf(),
        pg_get_expr_udf::create_pg_get_expr_udf(),
        quote_ident_udf::create_quote_ident_udf(),
        quote_ident_udf::create_parse_ident_udf(),
        array_bounds_udf::create_array_upper_udf(),
        array_bounds_udf::create_array_lower_udf(),
        has_privilege_udf::create_has_privilege_udf("has_table_privilege"),
        has_privilege_udf::create_has_privilege_udf("has_schema_privilege"),
        has_privilege_udf::create_has_privilege_udf("has_database_privilege"),
        has_privilege_udf::create_has_privilege_udf("has_any_column_privilege"),
    ] {
        context.register_udf(function);
    }
    context.register_udtf("pg_get_keywords", Arc::clone(&tables.pg_get_keywords) as _);
    for (name, value) in constants(user) {
        context.register_udf(ScalarUDF::from(Constant::new(name, value)));
    }
    context.register_udf(ScalarUDF::from(SettingFunction::current()));
    context.register_udf(ScalarUDF::from(SettingFunction::set()));
    context.register_udf(ScalarUDF::from(QuoteText::new("quote_literal")));
    context.register_udf(ScalarUDF::from(QuoteText::new("quote_nullable")));
    context.register_udf(ScalarUDF::from(ToRegtype::new()));
    context.register_udf(ScalarUDF::from(Format::new()));
}

/// Functions that have one value here, whatever they are asked.
fn constants(user: &str) -> Vec<(&'static str, ScalarValue)> {
    let yes = ScalarValue::Boolean(Some(true));
    let no = ScalarValue::Boolean(Some(false));
    let zero = ScalarValue::Int64(Some(0));
    let version = format!("PostgreSQL {} on Anabranch", session::server_version());
    let mut all = vec![
        ("version", text(version)),
        ("session_user", text(user)),
        ("pg_get_userbyid", text(user)),
        ("pg_client_encoding", text("UTF8")),
        ("pg_char_to_encoding", int(6)),
        ("pg_size_pretty", text("0 bytes")),
        ("pg_my_temp_schema", int(0)),
        ("pg_relation_is_updatable", int(0)),
        ("txid_current", ScalarValue::Int64(Some(1))),
        ("pg_tablespace_location", text("")),
        // Nothing can be locked here, so that nothing is left to unlock.
        ("pg_advisory_unlock_all", text("")),
        ("pg_get_function_arguments", text("")),
        ("pg_get_function_identity_arguments", text("")),
        ("pg_get_function_result", text("")),
        ("inet_server_port", ScalarValue::Int32(None)),
        ("inet_client_port", ScalarValue::Int32(None)),
        ("pg_sequence_last_value", ScalarValue::Int64(None)),
    ];
    let same = |names: &[&'static str], value: &ScalarValue| -> Vec<(&'static str, ScalarValue)> {
        names.iter().map(|name| (*name, value.clone())).collect()
    };
    all.extend(same(&["inet_server_addr", "inet_client_addr"], &NO_TEXT));
    all.extend(same(
        &[
            "pg_function_is_visible",
            "pg_type_is_visible",
            "pg_collation_is_visible",
            "pg_conversion_is_visible",
            "pg_opclass_is_visible",
            "pg_operator_is_visible",
            "pg_opfamily_is_visible",
            "pg_ts_config_is_visible",
            "pg_ts_dict_is_visible",
            "pg_ts_parser_is_visible",
            "pg_ts_template_is_visible",
            "pg_statistics_obj_is_visible",
            "has_function_privilege",
            "has_column_privilege",
            "has_sequence_privilege",
            "has_type_privilege",
            "has_tablespace_privilege",
            "has_language_privilege",
            "pg_has_role",
        ],
        &yes,
    ));
    all.extend(same(
        &[
            "pg_is_in_recovery",
            "pg_is_other_temp_schema",
            "pg_column_is_updatable",
            "row_security_active",
        ],
        &no,
    ));
    all.extend(same(
        &[
            "pg_relation_size",
            "pg_total_relation_size",
            "pg_table_size",
            "pg_indexes_size",
            "pg_database_size",
            "pg_tablespace_size",
        ],
        &zero,
    ));
    all
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: ScalarValue) -> Self {
        let any = TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]);
        Self {
            name,
            value,
            signature: Signature::new(any, Volatility::Stable),
        }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `to_regtype(name)`: the number of a type, NULL where there is none such, as of extensions that clients look for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToRegtype {
    signature: Signature,
}

impl ToRegtype {
    fn new() -> Self {
        Self {
            signature: Signature::exact(vec![DataType::Utf8], Volatility::Stable),
        }
    }
}

impl ScalarUDFImpl for ToRegtype {
    fn name(&self) -> &str {
        "to_regtype"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let names = ColumnarValue::values_to_arrays(&arguments.args)?;
        let names = names[0].as_string::<i32>();
        let number = |name: &str| types::oid_of(name).and_then(|oid| i32::try_from(oid).ok());
        let numbers: Int32Array = names.iter().map(|name| name.and_then(number)).collect();
        match numbers.len() {
            1 => ScalarValue::try_from_array(&numbers, 0).map(ColumnarValue::Scalar),
            _ => Ok(ColumnarValue::Array(Arc::new(numbers) as ArrayRef)),
        }
    }
}

/// `format(template, …)` with `%s`, `%I`, `%L` and `%%`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Format {
    signature: Signature,
}

impl Format {
    fn new() -> Self {
        Self {
            signature: Signature::variadic(vec![DataType::Utf8], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let columns: Vec<_> = arrays.iter().map(|array| array.as_string::<i32>()).collect();
        let row = |row: usize| {
            let mut values = columns[1..]
                .iter()
                .map(|column| column.is_valid(row).then(|| column.value(row)));
            columns[0]
                .is_valid(row)
                .then(|| formatted(columns[0].value(row), &mut values))
        };
        let texts: StringArray = (0..columns[0].len()).map(row).collect();
        match texts.len() {
            1 => ScalarValue::try_from_array(&texts, 0).map(ColumnarValue::Scalar),
            _ => Ok(ColumnarValue::Array(Arc::new(texts) as ArrayRef)),
        }
    }
}

fn formatted<'v>(template: &str, values: &mut impl Iterator<Item = Option<&'v str>>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template.chars();
    while let Some(c) = rest.next() {
        let verb = if c == '%' { rest.next() } else { None };
        match (c, verb) {
            ('%', Some('s')) => text.push_str(values.next().flatten().unwrap_or_default()),
            ('%', Some('I')) => text.push_str(&identifier(values.next().flatten().unwrap_or_default())),
            ('%', Some('L')) => match values.next().flatten() {
                Some(value) => text.push_str(&literal(value)),
                None => text.push_str("NULL"),
            },
            ('%', other) => text.extend(other),
            (c, _) => text.push(c),
        }
    }
    text
}

/// `quote_literal(value)` and `quote_nullable(value)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct QuoteText {
    name: &'static str,
    signature: Signature,
}

impl QuoteText {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for QuoteText {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = arguments.args[0].cast_to(&DataType::Utf8, None)?;
        let values = values.to_array(arguments.number_rows)?;
        let absent = (self.name == "quote_nullable").then(|| "NULL".to_owned());
        let quoted = |value: Option<&str>| value.map(literal).or_else(|| absent.clone());
        let texts: StringArray = values.as_string::<i32>().iter().map(quoted).collect();
        match texts.len() {
            1 => ScalarValue::try_from_array(&texts, 0).map(ColumnarValue::Scalar),
            _ => Ok(ColumnarValue::Array(Arc::new(texts) as ArrayRef)),
        }
    }
}

/// A text as SQL spells it.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A name as SQL spells it: in quotes where it needs them.
fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match plain {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}
