//! What functions will make of their arguments: upper bounds, summed over the rows of a batch. What cannot be understood costs
//! nothing: the function says itself what is wrong with it.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;

const DAY_NANOS: i128 = 86_400_000_000_000;
/// The shortest month.
const MONTH_DAYS: i128 = 28;
/// Bytes of a number, or of what says where a text or a list begins.
const WORD: u128 = 8;

/// The arguments of one call.
pub(super) struct Arguments {
    columns: Vec<Column>,
    rows: usize,
}

/// One argument: a value for each row, or one for all.
struct Column {
    values: ArrayRef,
    is_one: bool,
}

impl Arguments {
    /// # Errors
    /// When a constant cannot be made an array.
    pub(super) fn new(values: &[ColumnarValue]) -> Result<Self> {
        let rows = values.iter().find_map(|value| match value {
            ColumnarValue::Array(array) => Some(array.len()),
            ColumnarValue::Scalar(_) => None,
        });
        let columns = values.iter().map(|value| {
            Ok(Column {
                values: value.to_array(1)?,
                is_one: matches!(value, ColumnarValue::Scalar(_)),
            })
        });
        Ok(Self {
            columns: columns.collect::<Result<_>>()?,
            // Of constants a function makes a constant.
            rows: rows.unwrap_or(1),
        })
    }

    /// The sum over all rows.
    fn sum(&self, cost: impl Fn(usize) -> Option<u128>) -> u128 {
        (0..self.rows).filter_map(cost).fold(0, u128::saturating_add)
    }

    fn at(&self, argument: usize, row: usize) -> Option<(&ArrayRef, usize)> {
        let Column { values, is_one } = self.columns.get(argument)?;
        let row = if *is_one { 0 } else { row };
        values.is_valid(row).then_some((values, row))
    }

    /// Bytes of a text.
    fn text(&self, argument: usize, row: usize) -> Option<u128> {
        let (values, row) = self.at(argument, row)?;
        let length = match values.data_type() {
            DataType::Utf8 => values.as_string::<i32>().value(row).len(),
            DataType::LargeUtf8 => values.as_string::<i64>().value(row).len(),
            DataType::Utf8View => values.as_string_view().value(row).len(),
            _ => return None,
        };
        Some(length as u128)
    }

    /// An argument as whole numbers, for all rows: those of a time are its microseconds.
    fn whole(&self, argument: usize) -> Numbers {
        let found = self.columns.get(argument).and_then(|column| {
            let values = match column.values.data_type() {
                data_type if data_type.is_integer() => cast(&column.values, &DataType::Int64).ok()?,
                DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
                    let micros = cast(&column.values, &DataType::Timestamp(TimeUnit::Microsecond, None)).ok()?;
                    cast(&micros, &DataType::Int64).ok()?
                }
                _ => return None,
            };
            Some((values, column.is_one))
        });
        Numbers(found)
    }

    /// Bytes of a value of any type, and of where it stands.
    fn bytes(&self, argument: usize, row: usize) -> u128 {
        let Some((values, row)) = self.at(argument, row) else {
            return WORD;
        };
        let value = match values.data_type() {
            DataType::List(_) => values.as_list::<i32>().value(row),
            DataType::LargeList(_) => values.as_list::<i64>().value(row),
            _ => values.slice(row, 1),
        };
        // A view says more of its buffers than is meant; that errs on the safe side.
        let size = value.to_data().get_slice_memory_size();
        size.map_or(u128::MAX, |size| size as u128 + WORD)
    }

    /// Elements of a list.
    fn elements(&self, argument: usize, row: usize) -> Option<u128> {
        let (values, row) = self.at(argument, row)?;
        let length = match values.data_type() {
            DataType::List(_) => values.as_list::<i32>().value(row).len(),
            DataType::LargeList(_) => values.as_list::<i64>().value(row).len(),
            DataType::FixedSizeList(_, length) => usize::try_from(*length).unwrap_or(0),
            _ => return None,
        };
        Some(length as u128)
    }
}

/// Whole numbers, for each row or for all.
struct Numbers(Option<(ArrayRef, bool)>);

impl Numbers {
    fn at(&self, row: usize) -> Option<i64> {
        let (values, is_one) = self.0.as_ref()?;
        let values = values.as_primitive::<Int64Type>();
        let row = if *is_one { 0 } else { row };
        values.is_valid(row).then(|| values.value(row))
    }

    /// As a count of things, of which there are not fewer than none.
    fn count(&self, row: usize) -> Option<u128> {
        Some(u128::try_from(self.at(row)?).unwrap_or(0))
    }
}

/// `repeat(text, n)`.
pub(super) fn repeat(of: &Arguments) -> u128 {
    let times = of.whole(1);
    of.sum(|row| Some(of.text(0, row)?.saturating_mul(times.count(row)?)))
}

/// `lpad(text, n [, fill])`: `n` characters.
pub(super) fn pad(of: &Arguments) -> u128 {
    const LARGEST_CHARACTER: u128 = 4;
    let wanted = of.whole(1);
    of.sum(|row| {
        // With a fill of one byte, characters that are added are of one byte.
        let each = match of.text(2, row) {
            None | Some(0 | 1) => 1,
            Some(_) => LARGEST_CHARACTER,
        };
        Some(of.text(0, row)?.saturating_add(wanted.count(row)?.saturating_mul(each)))
    })
}

/// `replace(text, from, to)`.
pub(super) fn replace(of: &Arguments) -> u128 {
    of.sum(|row| {
        let (text, from, to) = (of.text(0, row)?, of.text(1, row)?, of.text(2, row)?);
        // An empty `from` is found between any two characters.
        let found = text / from.max(1) + 1;
        Some(text.saturating_add(found.saturating_mul(to)))
    })
}

/// `regexp_replace(text, pattern, replacement [, flags])`: without `g` one match is replaced.
pub(super) fn regexp_replace(of: &Arguments) -> u128 {
    of.sum(|row| {
        let (text, to) = (of.text(0, row)?, of.text(2, row)?);
        let found = match of.text(3, row) {
            Some(1..) => text + 1,
            _ => 1,
        };
        // Each two bytes of the replacement may name all that was found; what was found does not overlap.
        let named = text.saturating_mul(to / 2);
        Some(text.saturating_add(found.saturating_mul(to)).saturating_add(named))
    })
}

/// `range([start,] stop [, step])`, of numbers or of times.
pub(super) fn range(of: &Arguments) -> u128 {
    let (first, second, third) = (of.whole(0), of.whole(1), of.whole(2));
    let (start, stop) = match of.columns.len() {
        1 => (None, &first),
        _ => (Some(&first), &second),
    };
    let steps = of.columns.get(2).map(|column| column.values.data_type());
    let by_interval = matches!(steps, Some(DataType::Interval(_)));
    of.sum(|row| {
        let start = match start {
            Some(start) => i128::from(start.at(row)?),
            None => 0,
        };
        let span = i128::from(stop.at(row)?) - start;
        let (span, step) = if by_interval {
            // Of times the span is in microseconds.
            (span * 1_000, step_nanos(of, row)?)
        } else if of.columns.len() > 2 {
            (span, i128::from(third.at(row)?))
        } else {
            (span, 1)
        };
        // The wrong direction gives nothing.
        if step != 0 && span.signum() * step.signum() < 0 {
            return Some(0);
        }
        Some((span.unsigned_abs() / step.unsigned_abs().max(1) + 1).saturating_mul(WORD))
    })
}

/// The least that an interval moves on by, in nanoseconds; 0 where its parts are of opposite directions.
fn step_nanos(of: &Arguments, row: usize) -> Option<i128> {
    let (values, row) = of.at(2, row)?;
    let values = cast(
        values,
        &DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano),
    )
    .ok()?;
    let step = values.as_primitive::<IntervalMonthDayNanoType>().value(row);
    let parts = [
        i128::from(step.months) * MONTH_DAYS * DAY_NANOS,
        i128::from(step.days) * DAY_NANOS,
        i128::from(step.nanoseconds),
    ];
    let (up, down) = (parts.iter().any(|part| *part > 0), parts.iter().any(|part| *part < 0));
    Some(if up && down { 0 } else { parts.iter().sum() })
}

/// `array_repeat(element, n)`.
pub(super) fn array_repeat(of: &Arguments) -> u128 {
    let times = of.whole(1);
    of.sum(|row| Some(of.bytes(0, row).saturating_mul(times.count(row)?)))
}

/// `array_resize(list, n [, element])`.
pub(super) fn array_resize(of: &Arguments) -> u128 {
    let wanted = of.whole(1);
    of.sum(|row| {
        let each = if of.columns.len() > 2 { of.bytes(2, row) } else { WORD };
        Some(wanted.count(row)?.saturating_mul(each))
    })
}

/// `array_replace_all(list, from, to)`.
pub(super) fn array_replace(of: &Arguments) -> u128 {
    of.sum(|row| Some(of.elements(0, row)?.saturating_mul(of.bytes(2, row))))
}

/// `array_to_string(list, delimiter [, instead of NULL])`.
pub(super) fn array_to_string(of: &Arguments) -> u128 {
    /// What the longest number is written with.
    const NUMBER: u128 = 24;
    of.sum(|row| {
        let each = of.text(1, row)?.max(of.text(2, row).unwrap_or(0)) + NUMBER;
        Some(
            of.elements(0, row)?
                .saturating_mul(each)
                .saturating_add(of.bytes(0, row)),
        )
    })
}

/// `levenshtein(text, text)`: each byte with each.
pub(super) fn levenshtein(of: &Arguments) -> u128 {
    of.sum(|row| Some(of.text(0, row)?.saturating_mul(of.text(1, row)?)))
}
