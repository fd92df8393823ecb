use std::fmt::{self, Debug, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::guard::{NullCounter, isolate, null_scalar, slice};

/// A call of a scalar function where a row that makes it fail gives NULL and is counted.
///
/// It evaluates its arguments once, whatever fails, so that what they count is counted once. The fields of the arguments
/// are found when the view is compiled rather than per batch.
#[derive(Clone)]
pub(crate) struct GuardedFunction {
    function: Arc<ScalarUDF>,
    args: Vec<Arc<dyn PhysicalExpr>>,
    arg_fields: Vec<FieldRef>,
    return_field: FieldRef,
    options: Arc<ConfigOptions>,
    nulled: NullCounter,
}

impl GuardedFunction {
    pub(crate) fn new(call: &ScalarFunctionExpr, schema: &Schema, nulled: NullCounter) -> Result<Self> {
        let arg_fields = call
            .args()
            .iter()
            .map(|a| a.return_field(schema))
            .collect::<Result<_>>()?;
        Ok(Self {
            function: Arc::new(call.fun().clone()),
            args: call.args().to_vec(),
            arg_fields,
            return_field: call.return_field(schema)?,
            options: Arc::new(call.config_options().clone()),
            nulled,
        })
    }

    fn invoke(&self, args: Vec<ColumnarValue>, rows: usize) -> Result<ColumnarValue> {
        let all_scalar = !args.is_empty() && args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let call = ScalarFunctionArgs {
            args,
            arg_fields: self.arg_fields.clone(),
            number_rows: rows,
            return_field: Arc::clone(&self.return_field),
            config_options: Arc::clone(&self.options),
        };
        // A function that panics on some value would otherwise stop the view at that event, again after every restart.
        let value = catch_unwind(AssertUnwindSafe(|| self.function.invoke_with_args(call)))
            .unwrap_or_else(|_| Err(exec_datafusion_err!("{} panicked", self.function.name())))?;
        match &value {
            ColumnarValue::Array(array) if array.len() != rows => {
                if array.len() == 1 && all_scalar {
                    ScalarValue::try_from_array(array, 0).map(ColumnarValue::Scalar)
                } else {
                    internal_err!("{} gave {} rows for {rows}", self.function.name(), array.len())
                }
            }
            _ => Ok(value),
        }
    }
}

impl Debug for GuardedFunction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedFunction")
            .field("function", &self.function.name())
            .field("args", &self.args)
            .finish()
    }
}

impl PartialEq for GuardedFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function && self.args.eq(&other.args) && self.return_field == other.return_field
    }
}

impl Eq for GuardedFunction {}

impl Hash for GuardedFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name().hash(state);
        self.args.hash(state);
    }
}

impl Display for GuardedFunction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name())?;
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            Display::fmt(arg, f)?;
        }
        f.write_str(")")
    }
}

impl PhysicalExpr for GuardedFunction {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(self.return_field.data_type().clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let args = self
            .args
            .iter()
            .map(|a| a.evaluate(batch))
            .collect::<Result<Vec<_>>>()?;
        if let Ok(value) = self.invoke(args.clone(), rows) {
            return Ok(value);
        }
        let data_type = self.return_field.data_type();
        if args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_))) {
            return null_scalar(data_type, rows, &self.nulled);
        }
        isolate(rows, data_type, &self.nulled, |range| {
            let args = args.iter().map(|a| slice(a, range)).collect();
            self.invoke(args, range.len())?.into_array(range.len())
        })
        .map(ColumnarValue::Array)
    }

    fn return_field(&self, _input_schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(self.return_field.as_ref().clone().with_nullable(true)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.args.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self {
            args: children,
            ..self.as_ref().clone()
        }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}
