use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{DurationFormat, FormatOptions};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use super::guard::{NullCounter, isolate, null_scalar, slice};

/// What does not cast becomes NULL.
const SAFE: CastOptions<'static> = CastOptions {
    safe: true,
    format_options: FormatOptions::new().with_duration_format(DurationFormat::Pretty),
};

/// `CAST(x AS type)` where a value that does not cast gives NULL and is counted.
#[derive(Debug, Clone)]
pub(crate) struct GuardedCast {
    inner: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    nulled: NullCounter,
}

impl GuardedCast {
    pub(crate) fn new(inner: Arc<dyn PhysicalExpr>, data_type: DataType, nulled: NullCounter) -> Self {
        Self {
            inner,
            data_type,
            nulled,
        }
    }
}

impl PartialEq for GuardedCast {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner) && self.data_type == other.data_type
    }
}

impl Eq for GuardedCast {}

impl Hash for GuardedCast {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
        self.data_type.hash(state);
    }
}

impl Display for GuardedCast {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CAST({} AS {})", self.inner, self.data_type)
    }
}

impl PhysicalExpr for GuardedCast {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let value = self.inner.evaluate(batch)?;
        let rows = batch.num_rows();
        match (value.cast_to(&self.data_type, Some(&SAFE)), &value) {
            (Ok(ColumnarValue::Array(cast)), ColumnarValue::Array(array)) => {
                self.nulled
                    .add(cast.logical_null_count().saturating_sub(array.logical_null_count()));
                Ok(ColumnarValue::Array(cast))
            }
            (Ok(ColumnarValue::Scalar(cast)), ColumnarValue::Scalar(scalar)) => {
                if cast.is_null() && !scalar.is_null() {
                    self.nulled.add(rows);
                }
                Ok(ColumnarValue::Scalar(cast))
            }
            (Ok(cast), _) => Ok(cast),
            (Err(_), ColumnarValue::Scalar(_)) => null_scalar(&self.data_type, rows, &self.nulled),
            (Err(_), ColumnarValue::Array(_)) => isolate(rows, &self.data_type, &self.nulled, |range| {
                slice(&value, range)
                    .cast_to(&self.data_type, Some(&SAFE))?
                    .into_array(range.len())
            })
            .map(ColumnarValue::Array),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self {
            inner: Arc::clone(&children[0]),
            ..self.as_ref().clone()
        }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CAST(")?;
        self.inner.fmt_sql(f)?;
        write!(f, " AS {})", self.data_type)
    }
}
