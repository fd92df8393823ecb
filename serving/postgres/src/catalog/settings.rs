//! `current_setting`, `set_config`, and the tables that tell of the session: `pg_settings`, `pg_cursors`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, TableType, TypeSignature, Volatility,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;

use super::live::{Change, Live};
use super::sheet::{Sheet, bool, text};
use crate::PgError;
use crate::session::Lasting;

const SETTINGS: &str = "name setting unit category short_desc extra_desc context vartype source min_val max_val boot_val \
                        reset_val sourcefile sourceline:int pending_restart:bool";
const CURSORS: &str = "name statement is_holdable:bool is_binary:bool is_scrollable:bool";

/// A function of the session's settings.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SettingFunction {
    name: &'static str,
    signature: Signature,
}

impl SettingFunction {
    /// `current_setting(name [, missing_ok])`.
    pub(super) fn current() -> Self {
        let named = TypeSignature::OneOf(vec![
            TypeSignature::Exact(vec![DataType::Utf8]),
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean]),
        ]);
        Self {
            name: "current_setting",
            signature: Signature::new(named, Volatility::Volatile),
        }
    }

    /// `set_config(name, value, is_local)`.
    pub(super) fn set() -> Self {
        let arguments = vec![DataType::Utf8, DataType::Utf8, DataType::Boolean];
        Self {
            name: "set_config",
            signature: Signature::exact(arguments, Volatility::Volatile),
        }
    }

    fn value(&self, live: &Live, name: &str, value: Option<&str>, flag: bool) -> Result<Option<String>, PgError> {
        if self.name == "current_setting" {
            return match live.show(name) {
                Err(_) if flag => Ok(None),
                shown => shown.map(Some),
            };
        }
        let change = Change {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            lasting: if flag { Lasting::Transaction } else { Lasting::Session },
        };
        live.change(change).map(Some)
    }
}

impl ScalarUDFImpl for SettingFunction {
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
        let live = Live::of(&arguments.config_options)
            .ok_or_else(|| DataFusionError::Execution(format!("{} is for sessions", self.name)))?;
        let rows = arguments.number_rows;
        let arrays = arguments.args.iter().map(|argument| argument.to_array(rows));
        let arrays = arrays.collect::<Result<Vec<ArrayRef>>>()?;
        let names = arrays[0].as_string::<i32>();
        let values = match self.name {
            "set_config" => Some(arrays[1].as_string::<i32>()),
            _ => None,
        };
        let flags = match arrays.last() {
            Some(last) if last.data_type() == &DataType::Boolean => Some(as_boolean_array(last)?),
            _ => None,
        };
        let row = |row: usize| {
            if !names.is_valid(row) {
                return Ok(None);
            }
            let value = values.and_then(|values| values.is_valid(row).then(|| values.value(row)));
            let flag = flags.is_some_and(|flags| flags.is_valid(row) && flags.value(row));
            let told = self.value(live, names.value(row), value, flag);
            told.map_err(|error| DataFusionError::Execution(live.refuse(error)))
        };
        let told = (0..rows).map(row).collect::<Result<StringArray>>()?;
        match rows {
            1 => ScalarValue::try_from_array(&told, 0).map(ColumnarValue::Scalar),
            _ => Ok(ColumnarValue::Array(Arc::new(told))),
        }
    }
}

/// A table whose rows are the session's own.
#[derive(Debug)]
pub(super) struct SessionTable {
    columns: &'static str,
    schema: SchemaRef,
}

impl SessionTable {
    /// # Errors
    /// Never, as its columns are known.
    pub(super) fn settings() -> Result<Self> {
        Self::new(SETTINGS)
    }

    /// # Errors
    /// Never, as its columns are known.
    pub(super) fn cursors() -> Result<Self> {
        Self::new(CURSORS)
    }

    fn new(columns: &'static str) -> Result<Self> {
        let schema = Sheet::new(columns).table()?.schema();
        Ok(Self { columns, schema })
    }

    fn rows(&self, live: &Live) -> Vec<Vec<(&'static str, ScalarValue)>> {
        if self.columns == CURSORS {
            let cursors = live.cursors().iter().map(|cursor| {
                vec![
                    ("name", text(&cursor.name)),
                    ("statement", text(&cursor.statement)),
                    ("is_holdable", bool(cursor.holds)),
                    ("is_binary", bool(cursor.binary)),
                    ("is_scrollable", bool(false)),
                ]
            });
            return cursors.collect();
        }
        let settings = live.settings().into_iter().map(|(name, value, reset)| {
            let source = if value == reset { "default" } else { "session" };
            vec![
                ("name", text(name)),
                ("setting", text(value)),
                ("category", text("Anabranch")),
                ("short_desc", text("")),
                ("context", text("user")),
                ("vartype", text("string")),
                ("source", text(source)),
                ("boot_val", text(&reset)),
                ("reset_val", text(reset)),
                ("pending_restart", bool(false)),
            ]
        });
        settings.collect()
    }
}

#[async_trait]
impl TableProvider for SessionTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = Live::of(state.config_options()).map(|live| self.rows(live));
        let table = Sheet::new(self.columns).rows(rows.unwrap_or_default()).table()?;
        table.scan(state, projection, filters, limit).await
    }
}
