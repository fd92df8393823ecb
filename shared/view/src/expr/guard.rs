use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_empty_array, new_null_array};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

/// Counts the values that became NULL because a cast failed, a divisor was zero, or a result did not fit.
#[derive(Clone, Default)]
pub(crate) struct NullCounter(Arc<AtomicU64>);

impl fmt::Debug for NullCounter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("NullCounter")
    }
}

impl NullCounter {
    pub(crate) fn add(&self, values: usize) {
        if values > 0 {
            self.0.fetch_add(values as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Rows `range` of a value; a scalar stands for every row.
pub(crate) fn slice(value: &ColumnarValue, range: &Range<usize>) -> ColumnarValue {
    match value {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(range.start, range.len())),
        ColumnarValue::Scalar(_) => value.clone(),
    }
}

/// Runs `kernel` over `rows` rows of which some are known to fail: halves the range until the failing rows stand alone,
/// makes those NULL and counts them.
pub(crate) fn isolate(
    rows: usize,
    data_type: &DataType,
    nulled: &NullCounter,
    kernel: impl Fn(&Range<usize>) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    if rows == 0 {
        return Ok(new_empty_array(data_type));
    }
    let mut pieces: Vec<ArrayRef> = Vec::new();
    let mut failed_run = 0;
    // The whole batch has failed before this is called, so its halves are what is worth trying.
    let half = rows / 2;
    let mut pending: Vec<Range<usize>> = [half..rows, 0..half].into_iter().filter(|r| !r.is_empty()).collect();
    while let Some(range) = pending.pop() {
        match kernel(&range) {
            Ok(piece) => {
                if failed_run > 0 {
                    pieces.push(new_null_array(data_type, failed_run));
                    failed_run = 0;
                }
                pieces.push(piece);
            }
            Err(_) if range.len() == 1 => {
                failed_run += 1;
                nulled.add(1);
            }
            Err(_) => {
                let middle = range.start + range.len() / 2;
                pending.push(middle..range.end);
                pending.push(range.start..middle);
            }
        }
    }
    if failed_run > 0 {
        pieces.push(new_null_array(data_type, failed_run));
    }
    let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
    Ok(arrow::compute::concat(&pieces)?)
}

/// Catches whatever fails below it and has no guard of its own, such as a pattern that is no regular expression.
#[derive(Debug, Clone)]
pub(crate) struct Guarded {
    inner: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    nulled: NullCounter,
}

impl Guarded {
    pub(crate) fn new(inner: Arc<dyn PhysicalExpr>, data_type: DataType, nulled: NullCounter) -> Self {
        Self {
            inner,
            data_type,
            nulled,
        }
    }
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Display for Guarded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if let Ok(value) = self.inner.evaluate(batch) {
            return Ok(value);
        }
        let rows = batch.num_rows();
        isolate(rows, &self.data_type, &self.nulled, |range| {
            self.inner
                .evaluate(&batch.slice(range.start, range.len()))?
                .into_array(range.len())
        })
        .map(ColumnarValue::Array)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(
            self.inner
                .return_field(input_schema)?
                .as_ref()
                .clone()
                .with_nullable(true),
        ))
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
        self.inner.fmt_sql(f)
    }
}

/// How many rows a scalar NULL stands for that came from a failure.
pub(crate) fn null_scalar(data_type: &DataType, rows: usize, nulled: &NullCounter) -> Result<ColumnarValue> {
    nulled.add(rows);
    Ok(ColumnarValue::Scalar(ScalarValue::try_from(data_type)?))
}

/// A predicate's result as a selection: NULL is not true.
pub(crate) fn truth(mask: &BooleanArray) -> BooleanArray {
    if mask.null_count() == 0 {
        mask.clone()
    } else {
        prep_null_mask_filter(mask)
    }
}
