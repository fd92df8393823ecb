use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Datum, RecordBatch};
use arrow::compute::kernels::numeric;
use arrow::compute::{kernels::cmp, nullif, or};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::physical_expr_common::datum::apply;

use super::guard::{NullCounter, isolate, null_scalar, slice};

/// `a + b`, `-`, `*`, `/`, `%` where a row that overflows or divides by zero gives NULL and is counted.
///
/// Division by zero gives NULL for floats too: an infinity would poison every sum and average it gets into.
#[derive(Debug, Clone)]
pub(crate) struct GuardedArithmetic {
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
    op: Operator,
    data_type: DataType,
    kernel: Kernel,
    nulled: NullCounter,
}

#[derive(Debug, Clone)]
enum Kernel {
    Arrow(fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError>),
    /// Combinations that DataFusion adds to Arrow's, such as DATE - DATE: `@0 op @1` over a batch of the two operands.
    DataFusion(Arc<BinaryExpr>, SchemaRef),
}

/// Whether `op` is one that [`GuardedArithmetic`] stands in for.
pub(crate) fn is_arithmetic(op: Operator) -> bool {
    matches!(
        op,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo
    )
}

impl GuardedArithmetic {
    pub(crate) fn new(expr: &BinaryExpr, schema: &Schema, nulled: NullCounter) -> Result<Self> {
        let (left, right, op) = (Arc::clone(expr.left()), Arc::clone(expr.right()), *expr.op());
        let (left_type, right_type) = (left.data_type(schema)?, right.data_type(schema)?);
        let numeric = |t: &DataType| t.is_numeric();
        let instant = |t: &DataType| matches!(t, DataType::Timestamp(_, _));
        let span = |t: &DataType| matches!(t, DataType::Interval(_) | DataType::Duration(_));
        let in_arrow = (numeric(&left_type) && numeric(&right_type))
            || (instant(&left_type) && (span(&right_type) || instant(&right_type)))
            || (instant(&right_type) && span(&left_type));
        let kernel = if in_arrow {
            Kernel::Arrow(match op {
                Operator::Plus => numeric::add,
                Operator::Minus => numeric::sub,
                Operator::Multiply => numeric::mul,
                Operator::Divide => numeric::div,
                _ => numeric::rem,
            })
        } else {
            let operands = Schema::new(vec![
                Field::new("left", left_type, true),
                Field::new("right", right_type, true),
            ]);
            let expr = BinaryExpr::new(Arc::new(Column::new("left", 0)), op, Arc::new(Column::new("right", 1)));
            Kernel::DataFusion(Arc::new(expr.with_fail_on_overflow(true)), Arc::new(operands))
        };
        Ok(Self {
            left,
            right,
            op,
            data_type: expr.data_type(schema)?,
            kernel,
            nulled,
        })
    }

    fn run(&self, left: &ColumnarValue, right: &ColumnarValue, rows: usize) -> Result<ColumnarValue> {
        match &self.kernel {
            Kernel::Arrow(kernel) => apply(left, right, kernel),
            Kernel::DataFusion(expr, schema) => {
                let columns = vec![left.to_array(rows)?, right.to_array(rows)?];
                expr.evaluate(&RecordBatch::try_new(Arc::clone(schema), columns)?)
            }
        }
    }

    /// Replaces zeros among the divisors by NULL and counts the rows that lose their value by it.
    fn without_zeros(&self, left: &ColumnarValue, right: ColumnarValue, rows: usize) -> Result<ColumnarValue> {
        if !right.data_type().is_numeric() {
            return Ok(right);
        }
        match &right {
            ColumnarValue::Scalar(divisor) => {
                if divisor.is_null() || !is_zero(divisor)? {
                    return Ok(right);
                }
                self.nulled.add(valid_rows(left, rows));
                Ok(ColumnarValue::Scalar(ScalarValue::try_from(&right.data_type())?))
            }
            ColumnarValue::Array(divisors) => {
                let zeros = zeros(divisors)?;
                if zeros.true_count() == 0 {
                    return Ok(right);
                }
                self.nulled.add(match left {
                    ColumnarValue::Array(dividends) => (0..rows)
                        .filter(|&row| zeros.is_valid(row) && zeros.value(row) && dividends.is_valid(row))
                        .count(),
                    ColumnarValue::Scalar(dividend) if dividend.is_null() => 0,
                    ColumnarValue::Scalar(_) => zeros.true_count(),
                });
                Ok(ColumnarValue::Array(nullif(divisors, &zeros)?))
            }
        }
    }

    /// Decimal kernels only notice what leaves their 128 or 256 bits; a value of too many digits is an overflow too.
    fn within_precision(&self, value: ColumnarValue) -> Result<ColumnarValue> {
        let ColumnarValue::Array(array) = &value else {
            return Ok(value);
        };
        let checked: ArrayRef = match array.data_type() {
            DataType::Decimal128(precision, _) => {
                let array = array.as_primitive::<Decimal128Type>();
                if array.validate_decimal_precision(*precision).is_ok() {
                    return Ok(value);
                }
                Arc::new(array.null_if_overflow_precision(*precision))
            }
            DataType::Decimal256(precision, _) => {
                let array = array.as_primitive::<Decimal256Type>();
                if array.validate_decimal_precision(*precision).is_ok() {
                    return Ok(value);
                }
                Arc::new(array.null_if_overflow_precision(*precision))
            }
            _ => return Ok(value),
        };
        self.nulled.add(checked.null_count().saturating_sub(array.null_count()));
        Ok(ColumnarValue::Array(checked))
    }
}

fn is_zero(value: &ScalarValue) -> Result<bool> {
    Ok(zeros(&value.to_array()?)?.value(0))
}

/// True where a number is zero; for floats also where it is -0, which Arrow tells from 0.
fn zeros(array: &ArrayRef) -> Result<BooleanArray> {
    let zero = ScalarValue::new_zero(array.data_type())?;
    let zeros = cmp::eq(array, &zero.to_scalar()?)?;
    if array.data_type().is_floating() {
        let minus_zero = zero.arithmetic_negate()?;
        return Ok(or(&zeros, &cmp::eq(array, &minus_zero.to_scalar()?)?)?);
    }
    Ok(zeros)
}

fn valid_rows(value: &ColumnarValue, rows: usize) -> usize {
    match value {
        ColumnarValue::Array(array) => array.len() - array.null_count(),
        ColumnarValue::Scalar(scalar) => {
            if scalar.is_null() {
                0
            } else {
                rows
            }
        }
    }
}

impl PartialEq for GuardedArithmetic {
    fn eq(&self, other: &Self) -> bool {
        self.left.eq(&other.left) && self.op == other.op && self.right.eq(&other.right)
    }
}

impl Eq for GuardedArithmetic {}

impl Hash for GuardedArithmetic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.op.hash(state);
        self.right.hash(state);
    }
}

impl Display for GuardedArithmetic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, self.op, self.right)
    }
}

impl PhysicalExpr for GuardedArithmetic {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = self.left.evaluate(batch)?;
        let mut right = self.right.evaluate(batch)?;
        if matches!(self.op, Operator::Divide | Operator::Modulo) {
            right = self.without_zeros(&left, right, rows)?;
        }
        if let Ok(value) = self.run(&left, &right, rows) {
            return self.within_precision(value);
        }
        if matches!((&left, &right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_))) {
            return null_scalar(&self.data_type, rows, &self.nulled);
        }
        let value = isolate(rows, &self.data_type, &self.nulled, |range| {
            self.run(&slice(&left, range), &slice(&right, range), range.len())?
                .into_array(range.len())
        })?;
        self.within_precision(ColumnarValue::Array(value))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let (left, right) = (Arc::clone(&children[0]), Arc::clone(&children[1]));
        Ok(Arc::new(Self {
            left,
            right,
            ..self.as_ref().clone()
        }))
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// `-x`, where the one integer without a counterpart gives NULL and is counted.
#[derive(Debug, Clone)]
pub(crate) struct GuardedNegative {
    inner: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    nulled: NullCounter,
}

impl GuardedNegative {
    pub(crate) fn new(inner: Arc<dyn PhysicalExpr>, data_type: DataType, nulled: NullCounter) -> Self {
        Self {
            inner,
            data_type,
            nulled,
        }
    }
}

impl PartialEq for GuardedNegative {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for GuardedNegative {}

impl Hash for GuardedNegative {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Display for GuardedNegative {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "(- {})", self.inner)
    }
}

impl PhysicalExpr for GuardedNegative {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let value = self.inner.evaluate(batch)?;
        match &value {
            ColumnarValue::Scalar(scalar) => match scalar.arithmetic_negate() {
                Ok(negated) => Ok(ColumnarValue::Scalar(negated)),
                Err(_) => null_scalar(&self.data_type, batch.num_rows(), &self.nulled),
            },
            ColumnarValue::Array(array) => match numeric::neg(array) {
                Ok(negated) => Ok(ColumnarValue::Array(negated)),
                Err(_) => isolate(array.len(), &self.data_type, &self.nulled, |range| {
                    Ok(numeric::neg(&array.slice(range.start, range.len()))?)
                })
                .map(ColumnarValue::Array),
            },
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
        Display::fmt(self, f)
    }
}
