use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, IntervalUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use anabranch_model::columns::timestamp_type;

use super::Grid;

pub(crate) const TUMBLE: &str = "tumble";
pub(crate) const HOP: &str = "hop";

/// Most windows that one event may belong to: a day by the minute. Every batch is expanded in memory.
const MOST_WINDOWS: i64 = 1_440;

/// The SQL function `tumble(ts, size [, offset])`.
pub(crate) fn tumble() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(WindowStart::new(TUMBLE)))
}

/// The SQL function `hop(ts, slide, size [, offset])`. Planned as a function; `prepare` expands rows in its place.
pub(crate) fn hop() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(WindowStart::new(HOP)))
}

/// A call of `tumble` or `hop`, understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Windows {
    pub time: Expr,
    pub grid: Grid,
}

impl Windows {
    /// Reads a planned call; the sizes must be constants. The error is a reason and a hint.
    pub(crate) fn of(call: &ScalarFunction) -> Result<Self, (String, String)> {
        let name = call.func.name();
        let sizes = call.args[1..]
            .iter()
            .map(|a| microseconds(name, a))
            .collect::<Result<Vec<_>, _>>()?;
        let (slide, size, offset) = match (name, sizes.as_slice()) {
            (HOP, [slide, size, rest @ ..]) => (*slide, *size, rest.first()),
            (_, [size, rest @ ..]) => (*size, *size, rest.first()),
            _ => return Err((format!("{name} lacks its size"), usage(name).into())),
        };
        if slide <= 0 || size <= 0 {
            return Err((format!("{name} needs sizes greater than zero"), usage(name).into()));
        }
        let grid = Grid::new(slide, size, offset.copied().unwrap_or(0));
        if grid.most_windows() > MOST_WINDOWS {
            return Err((
                format!(
                    "every event would belong to {} windows; at most {MOST_WINDOWS} are supported",
                    grid.most_windows()
                ),
                "hop takes the slide first, then the size; use a larger slide".into(),
            ));
        }
        Ok(Self {
            time: call.args[0].clone(),
            grid,
        })
    }
}

fn usage(name: &str) -> &'static str {
    if name == HOP {
        "write hop(ts, INTERVAL '1 minute', INTERVAL '10 minutes'): slide, then size"
    } else {
        "write tumble(ts, INTERVAL '1 hour')"
    }
}

/// A constant interval in microseconds.
fn microseconds(name: &str, arg: &Expr) -> Result<i64, (String, String)> {
    let not_constant = || (format!("{name} takes constant intervals"), usage(name).to_string());
    let value = match arg {
        Expr::Literal(value, _) => value.clone(),
        Expr::Negative(inner) => match inner.as_ref() {
            Expr::Literal(value, _) => value.arithmetic_negate().map_err(|_| not_constant())?,
            _ => return Err(not_constant()),
        },
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => value.cast_to(cast.field.data_type()).map_err(|_| not_constant())?,
            _ => return Err(not_constant()),
        },
        _ => return Err(not_constant()),
    };
    let too_fine = || (format!("{name} counts in microseconds"), usage(name).to_string());
    let too_large = || (format!("an interval of {name} is too large"), usage(name).to_string());
    let whole = |days: i64, nanoseconds: i64| {
        if nanoseconds % 1000 != 0 {
            return Err(too_fine());
        }
        days.checked_mul(86_400_000_000)
            .and_then(|d| d.checked_add(nanoseconds / 1000))
            .ok_or_else(too_large)
    };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => whole(v.days.into(), v.nanoseconds),
        ScalarValue::IntervalDayTime(Some(v)) => whole(
            v.days.into(),
            i64::from(v.milliseconds).checked_mul(1_000_000).ok_or_else(too_large)?,
        ),
        ScalarValue::IntervalMonthDayNano(Some(_)) | ScalarValue::IntervalYearMonth(Some(_)) => Err((
            format!("{name} cannot count in months or years, whose length varies"),
            "use days, or group by date_trunc('month', ts)".into(),
        )),
        _ => Err(not_constant()),
    }
}

/// Both functions as DataFusion sees them: an instant and constant intervals to an instant.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowStart {
    name: &'static str,
    signature: Signature,
}

impl WindowStart {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for WindowStart {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let sizes = if self.name == HOP { 2 } else { 1 };
        if arg_types.len() != 1 + sizes && arg_types.len() != 2 + sizes {
            return plan_err!(
                "{} takes a timestamp, {sizes} interval(s) and an optional offset; {}",
                self.name,
                usage(self.name)
            );
        }
        let time = match &arg_types[0] {
            DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64 | DataType::Null => timestamp_type(),
            other => {
                return plan_err!(
                    "{} takes a TIMESTAMP first, not {other}; cast it if it holds times",
                    self.name
                );
            }
        };
        let mut coerced = vec![time];
        for size in &arg_types[1..] {
            match size {
                DataType::Interval(_) => coerced.push(DataType::Interval(IntervalUnit::MonthDayNano)),
                other => return plan_err!("{} takes intervals, not {other}; {}", self.name, usage(self.name)),
            }
        }
        Ok(coerced)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.name == HOP {
            return exec_err!("hop gives several windows per row and has no single value");
        }
        let mut sizes = Vec::with_capacity(2);
        for arg in &args.args[1..] {
            let ColumnarValue::Scalar(size) = arg else {
                return exec_err!("tumble takes constant intervals");
            };
            let size = Expr::Literal(size.clone(), None);
            sizes.push(microseconds(TUMBLE, &size).map_err(|(reason, _)| exec_datafusion_err!("{reason}"))?);
        }
        if sizes[0] <= 0 {
            return exec_err!("tumble needs a size greater than zero");
        }
        let grid = Grid::new(sizes[0], sizes[0], sizes.get(1).copied().unwrap_or(0));
        match &args.args[0] {
            ColumnarValue::Array(times) => Ok(ColumnarValue::Array(window_starts(&grid, times))),
            ColumnarValue::Scalar(time) => {
                ScalarValue::try_from_array(&window_starts(&grid, &time.to_array()?), 0).map(ColumnarValue::Scalar)
            }
        }
    }
}

/// The window of each time; NULL for NULL, and for a time whose window would begin before time itself.
fn window_starts(grid: &Grid, times: &ArrayRef) -> ArrayRef {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    // Events come nearly in time order, so most of them fall into the window of the event before.
    let (mut from, mut to) = (i64::MAX, i64::MIN);
    let mut overflowed = false;
    let starts: Vec<i64> = times
        .values()
        .iter()
        .map(|&at| {
            if !(from <= at && at < to) {
                match grid.last_start(at) {
                    Some(start) => (from, to) = (start, start.saturating_add(grid.slide_us)),
                    None => {
                        overflowed = true;
                        return i64::MIN;
                    }
                }
            }
            from
        })
        .collect();
    let nulls = if overflowed {
        let fits: NullBuffer = times
            .values()
            .iter()
            .map(|&at| grid.last_start(at).is_some())
            .collect::<Vec<_>>()
            .into();
        NullBuffer::union(times.nulls(), Some(&fits))
    } else {
        times.nulls().cloned()
    };
    Arc::new(TimestampMicrosecondArray::new(starts.into(), nulls).with_timezone("UTC"))
}

impl Grid {
    /// Expands rows by their windows: for each resulting row its original row, and its window's start. A row without a time
    /// keeps one place, with a NULL window; a time between two windows keeps none.
    pub(crate) fn expand(&self, times: &ArrayRef) -> (arrow::array::UInt32Array, ArrayRef) {
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let expected = times
            .len()
            .saturating_mul(usize::try_from(self.most_windows()).unwrap_or(1));
        let mut rows: Vec<u32> = Vec::with_capacity(expected);
        let mut starts: Vec<i64> = Vec::with_capacity(expected);
        let mut valid: Option<Vec<bool>> = (times.null_count() > 0).then(|| Vec::with_capacity(expected));
        for row in 0..times.len() {
            let index = u32::try_from(row).expect("a batch has fewer than 2^32 rows");
            if times.is_null(row) {
                rows.push(index);
                starts.push(0);
                if let Some(valid) = &mut valid {
                    valid.push(false);
                }
                continue;
            }
            for start in self.starts(times.value(row)) {
                rows.push(index);
                starts.push(start);
                if let Some(valid) = &mut valid {
                    valid.push(true);
                }
            }
        }
        let starts = Int64Array::new(starts.into(), valid.map(NullBuffer::from));
        let starts = starts
            .reinterpret_cast::<TimestampMicrosecondType>()
            .with_timezone("UTC");
        (rows.into(), Arc::new(starts))
    }
}
