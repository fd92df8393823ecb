//! Column types: `BIGINT`, `DECIMAL(10, 2)`, `TEXT[]`, `STRUCT<a TEXT, b STRUCT<c BIGINT>>`.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_model::columns::timestamp_type;
use arrow::datatypes::{DECIMAL_DEFAULT_SCALE, DECIMAL128_MAX_PRECISION, DataType, Field, Fields};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::{Diagnostic, JSON_KEY, Place, nearest};

/// Deepest nesting of STRUCT and arrays; JSON that deep is a mistake, and every level costs stack in all three layers.
const MAX_DEPTH: usize = 16;

/// Name of a list's item field, as Parquet and Delta spell it.
const LIST_ITEM: &str = "element";

const NAMES: [&str; 15] = [
    "BOOLEAN",
    "INT",
    "INTEGER",
    "BIGINT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "TEXT",
    "VARCHAR",
    "STRING",
    "BYTES",
    "BYTEA",
    "DATE",
    "TIMESTAMP",
    "STRUCT",
];

/// What other systems call our types, where letters alone do not show it.
const ELSEWHERE: [(&str, &str); 17] = [
    ("BOOL", "BOOLEAN"),
    ("SMALLINT", "INT"),
    ("TINYINT", "INT"),
    ("INT4", "INT"),
    ("INT8", "BIGINT"),
    ("INT64", "BIGINT"),
    ("LONG", "BIGINT"),
    ("FLOAT", "DOUBLE"),
    ("FLOAT8", "DOUBLE"),
    ("REAL", "DOUBLE"),
    ("CHAR", "TEXT"),
    ("UUID", "TEXT"),
    ("JSON", "TEXT` or `STRUCT<…>"),
    ("BLOB", "BYTES"),
    ("BINARY", "BYTES"),
    ("VARBINARY", "BYTES"),
    ("TIMESTAMPTZ", "TIMESTAMP"),
];

/// Reads one type.
pub(crate) fn data_type(cursor: &mut Cursor<'_>) -> Result<DataType, Diagnostic> {
    nested_type(cursor, 0)
}

fn nested_type(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType, Diagnostic> {
    let place = cursor.place();
    if depth > MAX_DEPTH {
        return Err(Diagnostic::new(
            place,
            format!("types nest deeper than {MAX_DEPTH} levels"),
        ));
    }
    let Some(word) = cursor.peek_word().filter(|word| word.quote_style.is_none()) else {
        return Err(cursor.expected("a type").with_hint(known_types()));
    };
    let upper = word.value.to_ascii_uppercase();
    cursor.advance();
    let mut data_type = match upper.as_str() {
        "BOOLEAN" => DataType::Boolean,
        "INT" | "INTEGER" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "DOUBLE" => {
            cursor.keywords(&["PRECISION"]);
            DataType::Float64
        }
        "DECIMAL" | "NUMERIC" => decimal(cursor)?,
        "TEXT" | "STRING" => DataType::Utf8,
        "VARCHAR" if cursor.peek() == Some(&Token::LParen) => {
            return Err(Diagnostic::new(cursor.place(), "VARCHAR has no length here").with_hint("write `TEXT`"));
        }
        "VARCHAR" => DataType::Utf8,
        "BYTES" | "BYTEA" => DataType::Binary,
        "DATE" => DataType::Date32,
        "TIMESTAMP" => {
            if cursor.peek() == Some(&Token::LParen) || cursor.peek_keyword("WITH") || cursor.peek_keyword("WITHOUT") {
                return Err(
                    Diagnostic::new(cursor.place(), "TIMESTAMP has no precision and no time zone of its own")
                        .with_hint("write `TIMESTAMP`: microseconds in UTC"),
                );
            }
            timestamp_type()
        }
        "STRUCT" if cursor.peek() == Some(&Token::Lt) => structure(cursor, depth)?,
        "STRUCT" | "ROW" | "MAP" => {
            return Err(Diagnostic::new(place, format!("{upper} needs its fields spelt out"))
                .with_hint("write `STRUCT<a TEXT, b STRUCT<c BIGINT>>`"));
        }
        "ARRAY" => return Err(Diagnostic::new(place, "unknown type `ARRAY`").with_hint("write `TEXT[]`")),
        _ => return Err(unknown(&word.value, place)),
    };
    while cursor.sign(&Token::LBracket) {
        if !cursor.sign(&Token::RBracket) {
            return Err(cursor
                .expected("`]`")
                .with_hint("arrays have no declared length: write `TEXT[]`"));
        }
        data_type = DataType::List(Arc::new(Field::new(LIST_ITEM, data_type, true)));
    }
    Ok(data_type)
}

fn decimal(cursor: &mut Cursor<'_>) -> Result<DataType, Diagnostic> {
    let place = cursor.place();
    let wrong = |message: String| {
        Err(Diagnostic::new(place, message)
            .with_hint("write `DECIMAL(precision, scale)` with precision 1 to 38 and scale 0 to precision"))
    };
    if cursor.peek() != Some(&Token::LParen) {
        // What DataFusion reads a bare DECIMAL as.
        return Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, DECIMAL_DEFAULT_SCALE));
    }
    let mut numbers = Vec::new();
    for mut item in cursor.list("precision and scale")? {
        let number = match item.peek() {
            Some(Token::Number(text, false)) => text.parse::<u8>().ok(),
            _ => None,
        };
        item.advance();
        match number {
            Some(number) if item.at_end() => numbers.push(number),
            _ => return wrong("DECIMAL takes two whole numbers".into()),
        }
    }
    let (precision, scale) = match numbers.as_slice() {
        [precision] => (*precision, 0),
        [precision, scale] => (*precision, *scale),
        _ => return wrong("DECIMAL takes precision and scale".into()),
    };
    if !(1..=DECIMAL128_MAX_PRECISION).contains(&precision) || scale > precision {
        return wrong(format!("DECIMAL({precision}, {scale}) does not exist"));
    }
    let scale = i8::try_from(scale).expect("a scale is at most 38");
    Ok(DataType::Decimal128(precision, scale))
}

fn structure(cursor: &mut Cursor<'_>, depth: usize) -> Result<DataType, Diagnostic> {
    cursor.advance();
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let name = cursor.name("a field name")?;
        name.check_field()?;
        let data_type = nested_type(cursor, depth + 1)?;
        if cursor.peek_keyword("NOT") {
            return Err(Diagnostic::new(
                cursor.place(),
                "NOT NULL is for whole columns, not for fields of a STRUCT",
            )
            .with_hint("leave it out, or filter in the view"));
        }
        let sql = name.sql();
        if let Some(twin) = fields
            .iter()
            .find(|field| field.name().to_lowercase() == sql.to_lowercase())
        {
            return Err(Diagnostic::new(
                name.place,
                format!("field `{sql}` is already there as `{}`", twin.name()),
            )
            .with_hint("fields that differ only in case cannot be told apart in SQL"));
        }
        let mut field = Field::new(&sql, data_type, true);
        if name.written() != sql {
            field = field.with_metadata(HashMap::from([(JSON_KEY.to_owned(), name.written().to_owned())]));
        }
        fields.push(field);
        if cursor.close_angle() {
            return Ok(DataType::Struct(Fields::from(fields)));
        }
        if !cursor.sign(&Token::Comma) {
            return Err(cursor.expected("`,` or `>`"));
        }
    }
}

fn known_types() -> String {
    "types: BOOLEAN, INT, BIGINT, DOUBLE, DECIMAL(p, s), TEXT, BYTES, DATE, TIMESTAMP, T[], STRUCT<a T, …>".into()
}

fn unknown(written: &str, place: Place) -> Diagnostic {
    let upper = written.to_ascii_uppercase();
    let meant = ELSEWHERE
        .iter()
        .find(|(other, _)| *other == upper.as_str())
        .map(|(_, ours)| *ours);
    let hint = match meant.or_else(|| nearest(&upper, NAMES)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => known_types(),
    };
    Diagnostic::new(place, format!("unknown type `{written}`")).with_hint(hint)
}
