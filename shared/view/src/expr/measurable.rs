use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, nullif};
use arrow::datatypes::{DataType, Float64Type, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

use super::guard::NullCounter;

/// Beyond this, sums of as many values as a log can hold are no longer finite.
const LARGEST: f64 = 1e280;

/// A number that a sketch of quantiles can take in, else NULL, counted: DataFusion's t-digest breaks on NaN, on infinity,
/// on sums that become one, and on weights that are not positive.
#[derive(Debug, Clone)]
pub(crate) struct Measurable {
    inner: Arc<dyn PhysicalExpr>,
    /// Whether the number is a weight.
    weight: bool,
    nulled: NullCounter,
}

impl Measurable {
    pub(crate) fn new(inner: Arc<dyn PhysicalExpr>, weight: bool, nulled: NullCounter) -> Self {
        Self { inner, weight, nulled }
    }
}

impl PartialEq for Measurable {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner) && self.weight == other.weight
    }
}

impl Eq for Measurable {}

impl Hash for Measurable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
        self.weight.hash(state);
    }
}

impl Display for Measurable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}({})",
            if self.weight { "weight" } else { "measurable" },
            self.inner
        )
    }
}

impl PhysicalExpr for Measurable {
    fn data_type(&self, input_schema: &Schema) -> Result<DataType> {
        self.inner.data_type(input_schema)
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let values = self.inner.evaluate(batch)?.into_array(batch.num_rows())?;
        let numbers = cast(&values, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        // NaN compares as neither.
        let fits = |x: f64| {
            if self.weight {
                x > 0.0 && x <= LARGEST
            } else {
                x.abs() <= LARGEST
            }
        };
        if numbers.values().iter().all(|&x| fits(x)) {
            return Ok(ColumnarValue::Array(values));
        }
        let unfit = BooleanArray::from_unary(numbers, |x| !fits(x));
        self.nulled.add(unfit.true_count());
        Ok(ColumnarValue::Array(nullif(&values, &unfit)?))
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
        Display::fmt(self, f)
    }
}
