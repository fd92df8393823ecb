//! Values of a query's parameters, as JSON spells them.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use serde_json::{Number, Value};

use crate::Error;

/// More lists in lists than anybody writes.
const DEEPEST: usize = 16;
/// Holds every integer that JSON's parser tells apart.
const INTEGERS: DataType = DataType::Decimal128(20, 0);

/// Reads the value of `$number`. The query casts it to what it needs: a list, as a whole.
///
/// # Errors
/// For objects, and for lists of lists and other things.
pub(super) fn read(number: usize, value: &Value) -> Result<ScalarValue, Error> {
    let kind = kind(value, 0).map_err(|what| Error::Request {
        message: format!("${number} is {value}, with {what}"),
        hint: Some("parameters are null, booleans, numbers, texts, or lists of one of these, or of such lists".into()),
    })?;
    spelled(value, &kind).ok_or_else(|| Error::Internal(format!("${number} is no {kind}")))
}

/// The type that holds a value; `Null` of nothing but null.
fn kind(value: &Value, depth: usize) -> Result<DataType, &'static str> {
    Ok(match value {
        Value::Null => DataType::Null,
        Value::Bool(_) => DataType::Boolean,
        Value::String(_) => DataType::Utf8,
        Value::Number(number) if number.is_i64() => DataType::Int64,
        Value::Number(number) if number.is_u64() => DataType::UInt64,
        Value::Number(_) => DataType::Float64,
        Value::Array(_) if depth == DEEPEST => return Err("too many lists in each other"),
        Value::Array(items) => {
            let mut common = DataType::Null;
            for item in items {
                common = either(common, kind(item, depth + 1)?)?;
            }
            DataType::new_list(common, true)
        }
        Value::Object(_) => return Err("an object"),
    })
}

/// The type that holds values of both types, such that the query can cast them.
fn either(one: DataType, other: DataType) -> Result<DataType, &'static str> {
    let is_integer = |kind: &DataType| kind.is_integer() || *kind == INTEGERS;
    Ok(match (one, other) {
        (one, other) if one == other => one,
        (DataType::Null, kind) | (kind, DataType::Null) => kind,
        (DataType::List(one), DataType::List(other)) => {
            let item = either(one.data_type().clone(), other.data_type().clone())?;
            DataType::new_list(item, true)
        }
        (DataType::List(_), _) | (_, DataType::List(_)) => return Err("a list beside something else"),
        (one, other) if is_integer(&one) && is_integer(&other) => INTEGERS,
        (one, other) if one.is_numeric() && other.is_numeric() => DataType::Float64,
        // Numbers in quotes beside others: texts are cast to whatever is wanted.
        _ => DataType::Utf8,
    })
}

/// The value in a type that [`kind`] and [`either`] have found for it.
fn spelled(value: &Value, kind: &DataType) -> Option<ScalarValue> {
    if value.is_null() {
        return ScalarValue::try_from(kind).ok();
    }
    Some(match kind {
        DataType::Boolean => ScalarValue::Boolean(Some(value.as_bool()?)),
        DataType::Int64 => ScalarValue::Int64(Some(value.as_i64()?)),
        DataType::UInt64 => ScalarValue::UInt64(Some(value.as_u64()?)),
        DataType::Float64 => ScalarValue::Float64(Some(value.as_f64()?)),
        DataType::Decimal128(precision, scale) => {
            let integer = |number: &Number| number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            ScalarValue::Decimal128(Some(integer(value.as_number()?)?), *precision, *scale)
        }
        DataType::Utf8 => match value {
            Value::String(text) => ScalarValue::from(text.as_str()),
            other => ScalarValue::from(other.to_string()),
        },
        DataType::List(item) => {
            let items = value.as_array()?.iter().map(|value| spelled(value, item.data_type()));
            let items = items.collect::<Option<Vec<_>>>()?;
            ScalarValue::List(ScalarValue::new_list_nullable(&items, item.data_type()))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
