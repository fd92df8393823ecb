//! Values of parameters in the types that a query needs.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use crate::Error;
use crate::format::sql_type;

/// The value of `$number` as the type that the query needs.
///
/// # Errors
/// When it is not one without loss; of a list the first element that is none is named.
pub(super) fn parameter(number: usize, value: &ScalarValue, wanted: &DataType) -> Result<ScalarValue, Error> {
    converted(value, wanted).ok_or_else(|| {
        let (place, value, wanted) = match (value, item(wanted)) {
            (ScalarValue::List(_), Some(item)) => match unfit(value, item) {
                Some((index, element)) => (format!("element {} of ${number}", index + 1), element, item),
                None => (format!("${number}"), value.clone(), wanted),
            },
            _ => (format!("${number}"), value.clone(), wanted),
        };
        Error::Sql {
            message: format!("{place} is {}, which is no {}", shown(&value), sql_type(wanted)),
            hint: None,
        }
    })
}

/// The value, or as much of it as helps.
fn shown(value: &ScalarValue) -> String {
    const LONGEST: usize = 100;
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The value as another type, if it is one without loss.
fn converted(value: &ScalarValue, wanted: &DataType) -> Option<ScalarValue> {
    let from = value.data_type();
    if !value.is_null() && item(&from).is_some() != item(wanted).is_some() {
        return None;
    }
    let converted = value.cast_to(wanted).ok()?;
    let exact = !(leaf(&from).is_numeric() && leaf(wanted).is_integer())
        || converted.cast_to(&from).is_ok_and(|back| back == *value);
    exact.then_some(converted)
}

/// The first element of a list that is no `wanted`, and its place.
fn unfit(list: &ScalarValue, wanted: &DataType) -> Option<(usize, ScalarValue)> {
    let ScalarValue::List(list) = list else {
        return None;
    };
    let values = list.values();
    let elements = (0..values.len()).map(|index| ScalarValue::try_from_array(values, index));
    let mut elements = elements.filter_map(Result::ok).enumerate();
    elements.find(|(_, element)| converted(element, wanted).is_none())
}

/// The type of a list's elements.
fn item(kind: &DataType) -> Option<&DataType> {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        _ => None,
    }
}

/// The type of what is in a list that is in no other one.
fn leaf(kind: &DataType) -> &DataType {
    match item(kind) {
        Some(item) => leaf(item),
        None => kind,
    }
}
