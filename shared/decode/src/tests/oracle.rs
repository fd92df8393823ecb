//! Random documents against serde_json, random bytes against panics.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde::de::IgnoredAny;

use super::*;

const COLUMNS: &str =
    "b BOOLEAN, i INT, l BIGINT NOT NULL, d DOUBLE, e DECIMAL(12, 2), t TEXT, n BIGINT[], s STRUCT<x TEXT, y BIGINT>";

/// Raw JSON values, mostly well-formed; some are of the wrong type wherever they come to stand.
fn value() -> impl Strategy<Value = String> {
    let number = (-1_000_000_000_000_i64..1_000_000_000_000, 0_usize..8, -3_i32..4).prop_map(
        |(whole, form, exponent)| match form {
            0 => format!("{whole}"),
            1 => format!("{}", whole % 1000),
            2 => format!("{whole}.0"),
            3 => format!("{}.{}", whole % 10_000, whole.unsigned_abs() % 97),
            4 => format!("{}e{exponent}", whole % 1000),
            5 => format!("{}.5E{exponent}", whole % 1000),
            6 => format!("{whole}{whole}").replace('-', ""),
            _ => "0".to_owned(),
        },
    );
    let text = vec(
        select(vec![
            'a', 'Z', '0', ' ', 'é', '→', '🦀', '"', '\\', '\n', '\u{0}', '/', '{', ']',
        ]),
        0..24,
    )
    .prop_map(|chars| Value::String(chars.into_iter().collect()).to_string());
    let escaped = vec(select(vec!["\\u0041", "\\ud83e\\udd80", "\\/", "x", "\\u00e9"]), 0..6)
        .prop_map(|parts| format!("\"{}\"", parts.concat()));
    let leaf = prop_oneof![
        6 => number,
        6 => text,
        2 => escaped,
        1 => Just("true".to_owned()),
        1 => Just("false".to_owned()),
        2 => Just("null".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            vec((select(vec!["x", "y", "z"]), inner), 0..4).prop_map(|fields| {
                let fields: Vec<String> = fields
                    .into_iter()
                    .map(|(key, value)| format!("\"{key}\" :{value}"))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

/// A value that mostly fits its column.
fn field() -> impl Strategy<Value = (String, String)> {
    let key = select(vec!["b", "i", "l", "d", "e", "t", "n", "s", "other", "l", "t"]);
    (key, value(), any::<i32>(), 0_u8..10).prop_map(|(key, value, number, fit)| {
        let fitting = match key {
            "b" => (number % 2 == 0).to_string(),
            "i" | "l" => number.to_string(),
            "d" | "e" => format!("{}.{:02}", number % 1_000_000, number.unsigned_abs() % 100),
            "t" => format!("\"text {number}\""),
            "n" => format!("[{number},null ,  {}]", number % 7),
            "s" => format!("{{\"y\":{number},\"x\":\"{number}\"}}"),
            _ => value.clone(),
        };
        (key.to_owned(), if fit < 9 { fitting } else { value })
    })
}

fn document() -> impl Strategy<Value = String> {
    (vec(field(), 0..9), select(vec!["", " ", "\n\t "]), 0_u8..8).prop_map(|(mut fields, space, with_l)| {
        if with_l > 0 {
            fields.push(("l".to_owned(), "42".to_owned()));
        }
        let fields: Vec<String> = fields
            .into_iter()
            .map(|(key, value)| format!("{space}\"{key}\"{space}:{space}{value}{space}"))
            .collect();
        format!("{space}{{{}}}{space}", fields.join(","))
    })
}

/// A document with one byte changed, removed, doubled, or the rest cut off.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (document(), any::<prop::sample::Index>(), 0_u8..4, any::<u8>()).prop_map(|(document, at, how, byte)| {
        let mut bytes = document.into_bytes();
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, bytes[at]),
            _ => bytes.truncate(at),
        }
        bytes
    })
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![6 => document().prop_map(String::into_bytes), 2 => damaged(), 1 => vec(any::<u8>(), 0..40)]
}

/// A number's text as a whole number times a power of ten.
fn parts(text: &str) -> (i128, i32) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().expect("small");
    (
        format!("{whole}{fraction}").parse().expect("short"),
        exponent - fraction.len() as i32,
    )
}

fn at_scale(text: &str, scale: i32) -> Option<i128> {
    let (mut value, exponent) = parts(text);
    for _ in 0..(exponent + scale).max(0) {
        value = value.checked_mul(10)?;
    }
    for _ in (exponent + scale).min(0)..0 {
        if value % 10 != 0 {
            return None;
        }
        value /= 10;
    }
    Some(value)
}

/// What a column should hold: the naive reading of a raw value. `Err` for a dead letter.
fn naive(data_type: &DataType, raw: &serde_json::value::RawValue) -> Result<Value, ()> {
    let text = raw.get();
    let value: Value = serde_json::from_str(text).map_err(drop)?;
    match (data_type, &value) {
        (_, Value::Null) => Ok(Value::Null),
        (DataType::Boolean, Value::Bool(_)) | (DataType::Utf8, Value::String(_)) => Ok(value),
        (DataType::Int32, Value::Number(_)) => {
            let whole = at_scale(text, 0).and_then(|whole| i32::try_from(whole).ok());
            whole.map(|whole| json!(whole)).ok_or(())
        }
        (DataType::Int64, Value::Number(_)) => {
            let whole = at_scale(text, 0).and_then(|whole| i64::try_from(whole).ok());
            whole.map(|whole| json!(whole)).ok_or(())
        }
        (DataType::Float64, Value::Number(_)) => Ok(json!(text.parse::<f64>().expect("a number"))),
        (DataType::Decimal128(precision, scale), Value::Number(_)) => {
            let unscaled = at_scale(text, (*scale).into()).ok_or(())?;
            if unscaled.unsigned_abs() >= 10_u128.pow((*precision).into()) {
                return Err(());
            }
            let sign = if unscaled < 0 { "-" } else { "" };
            let (whole, cents) = (unscaled.unsigned_abs() / 100, unscaled.unsigned_abs() % 100);
            Ok(json!(format!("{sign}{whole}.{cents:02}")))
        }
        (DataType::Decimal128(..), Value::String(text)) => {
            // Texts of numbers are not generated, but digits alone may be.
            let digits = !text.is_empty() && text.len() < 12 && text.bytes().all(|b| b.is_ascii_digit());
            let number = digits
                .then(|| text.parse::<u64>().ok())
                .flatten()
                .filter(|n| *n < 10_000_000_000);
            number.map(|number| json!(format!("{number}.00"))).ok_or(())
        }
        (DataType::List(item), Value::Array(_)) => {
            let items: Vec<&serde_json::value::RawValue> = serde_json::from_str(text).map_err(drop)?;
            items.into_iter().map(|raw| naive(item.data_type(), raw)).collect()
        }
        (DataType::Struct(fields), Value::Object(_)) => {
            let given = last_of_each(text)?;
            let cells: Result<_, ()> = fields
                .iter()
                .map(|field| {
                    let value = given
                        .get(field.name())
                        .map_or(Ok(Value::Null), |raws| checked(field.data_type(), raws))?;
                    Ok((field.name().clone(), value))
                })
                .collect();
            cells.map(Value::Object)
        }
        _ => Err(()),
    }
}

type Fields = std::collections::HashMap<String, Vec<Box<serde_json::value::RawValue>>>;

/// Every value of each key, in order.
fn last_of_each(text: &str) -> Result<Fields, ()> {
    struct Pairs(Fields);
    impl<'de> serde::Deserialize<'de> for Pairs {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Pairs;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                    let mut fields = Fields::new();
                    while let Some((key, value)) = map.next_entry::<String, _>()? {
                        fields.entry(key).or_default().push(value);
                    }
                    Ok(Pairs(fields))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_str::<Pairs>(text).map(|pairs| pairs.0).map_err(drop)
}

/// The last value counts, but the others must fit too.
fn checked(data_type: &DataType, raws: &[Box<serde_json::value::RawValue>]) -> Result<Value, ()> {
    raws.iter()
        .map(|raw| naive(data_type, raw))
        .collect::<Result<Vec<_>, ()>>()
        .map(|mut all| all.pop().expect("one"))
}

/// The row of a whole record, or `Err` for a dead letter.
fn naive_row(source: &Source, record: &[u8]) -> Result<Value, ()> {
    let text = std::str::from_utf8(record).map_err(drop)?;
    let given = last_of_each(text)?;
    let cells: Result<_, ()> = source
        .columns
        .iter()
        .map(|column| {
            let raws = given.get(&column.json_key);
            let value = raws.map_or(Ok(Value::Null), |raws| checked(&column.data_type, raws))?;
            if column.not_null && value.is_null() {
                return Err(());
            }
            Ok((column.name.clone(), value))
        })
        .collect();
    cells.map(Value::Object)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Every record is in exactly one batch, with the value that serde_json reads; bad records change nothing of good ones.
    #[test]
    fn agrees_with_serde_json(records in vec(document(), 0..12)) {
        let source = source(COLUMNS, "");
        let decoded = decode(&source, &records);
        let expected: Vec<Result<Value, ()>> = records.iter().map(|record| naive_row(&source, record.as_bytes())).collect();
        let good: Vec<Value> = expected.iter().filter_map(|row| row.as_ref().ok().cloned()).collect();
        prop_assert_eq!(events(&source, &decoded), good);
        let died: Vec<i64> = (100..).zip(&expected).filter(|(_, row)| row.is_err()).map(|(offset, _)| offset).collect();
        prop_assert_eq!(dead(&decoded).into_iter().map(|(offset, _)| offset).collect::<Vec<_>>(), died);
    }

    /// Neighbours, batch boundaries and what the decoder has learned do not matter.
    #[test]
    fn any_split_decodes_the_same(records in vec(record(), 1..16), at in any::<prop::sample::Index>()) {
        let source = source(COLUMNS, "");
        let mut decoder = Decoder::new(&source);
        let (left, right) = records.split_at(at.index(records.len()));
        let mut parts = Vec::new();
        let mut reasons = Vec::new();
        for part in [left, right] {
            let decoded = decoder.decode(&raw_text(part));
            prop_assert_eq!(decoded.events.num_rows() + decoded.dead.num_rows(), part.len());
            parts.extend(events(&source, &decoded));
            reasons.extend(dead(&decoded).into_iter().map(|(_, reason)| reason));
        }
        let mut alone = Vec::new();
        let mut alone_reasons = Vec::new();
        for record in &records {
            let decoded = decode(&source, &[record]);
            let checked = decoder.check(record);
            prop_assert_eq!(checked.is_ok(), decoded.events.num_rows() == 1);
            alone.extend(events(&source, &decoded));
            alone_reasons.extend(dead(&decoded).into_iter().map(|(_, reason)| reason));
        }
        prop_assert_eq!(parts, alone);
        prop_assert_eq!(reasons, alone_reasons);
    }

    /// Without a declared column in the way, what is accepted is exactly the JSON objects in UTF-8.
    #[test]
    fn accepts_exactly_json_objects(records in vec(record(), 1..8)) {
        let source = source("never_there TEXT", "");
        let decoded = decode(&source, &records);
        let is_object = |record: &Vec<u8>| {
            let Ok(text) = std::str::from_utf8(record) else { return false };
            text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
        };
        let expected: Vec<i64> = (100..).zip(&records).filter(|(_, record)| !is_object(record)).map(|(offset, _)| offset).collect();
        prop_assert_eq!(dead(&decoded).into_iter().map(|(offset, _)| offset).collect::<Vec<_>>(), expected);
    }

    /// Bytes that are cut into records at random places never panic, and none is lost.
    #[test]
    fn random_cuts_never_panic(records in vec(record(), 1..8), cuts in vec(any::<prop::sample::Index>(), 0..12)) {
        let all = records.concat();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
        ends.extend([0, all.len()]);
        ends.sort_unstable();
        let pieces: Vec<&[u8]> = ends.windows(2).map(|pair| &all[pair[0]..pair[1]]).collect();
        let source = source(COLUMNS, "");
        let decoded = decode(&source, &pieces);
        prop_assert_eq!(decoded.events.num_rows() + decoded.dead.num_rows(), pieces.len());
        for piece in &pieces {
            let fits = naive_row(&source, piece).is_ok();
            prop_assert_eq!(Decoder::new(&source).check(piece).is_ok(), fits, "{}", String::from_utf8_lossy(piece));
        }
    }
}
