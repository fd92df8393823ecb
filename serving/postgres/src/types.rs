//! Arrow types as PostgreSQL types (`pg_type.dat` of its source tree has the numbers).

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use datafusion_pg_catalog::pg_catalog::oid_field::OID_ALIAS_KEY;

/// A type as clients are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PgType {
    pub(crate) oid: u32,
    /// Precision and scale of a numeric; -1 for all others.
    pub(crate) modifier: i32,
}

/// A type: its number, its name in `pg_type`, the name that SQL and `information_schema` use, and the type of its arrays.
struct Known {
    oid: u32,
    name: &'static str,
    sql: &'static str,
    array: u32,
    array_name: &'static str,
}

/// Declares the types that are known here.
macro_rules! types {
    ($($constant:ident = $oid:literal $name:literal $sql:literal, array $array:literal;)*) => {
        $(pub(crate) const $constant: u32 = $oid;)*

        const KNOWN: &[Known] = &[$(Known {
            oid: $oid,
            name: $name,
            sql: $sql,
            array: $array,
            array_name: concat!("_", $name),
        }),*];
    };
}

types! {
    BOOL = 16 "bool" "boolean", array 1000;
    BYTEA = 17 "bytea" "bytea", array 1001;
    NAME = 19 "name" "name", array 1003;
    INT8 = 20 "int8" "bigint", array 1016;
    INT2 = 21 "int2" "smallint", array 1005;
    INT4 = 23 "int4" "integer", array 1007;
    TEXT = 25 "text" "text", array 1009;
    OID = 26 "oid" "oid", array 1028;
    JSON = 114 "json" "json", array 199;
    FLOAT4 = 700 "float4" "real", array 1021;
    FLOAT8 = 701 "float8" "double precision", array 1022;
    BPCHAR = 1042 "bpchar" "character", array 1014;
    VARCHAR = 1043 "varchar" "character varying", array 1015;
    DATE = 1082 "date" "date", array 1182;
    TIME = 1083 "time" "time without time zone", array 1183;
    TIMESTAMP = 1114 "timestamp" "timestamp without time zone", array 1115;
    TIMESTAMPTZ = 1184 "timestamptz" "timestamp with time zone", array 1185;
    INTERVAL = 1186 "interval" "interval", array 1187;
    NUMERIC = 1700 "numeric" "numeric", array 1231;
    UUID = 2950 "uuid" "uuid", array 2951;
    JSONB = 3802 "jsonb" "jsonb", array 3807;
}

/// What a client that does not say a type calls it.
pub(crate) const UNKNOWN: u32 = 705;

impl PgType {
    pub(crate) fn plain(oid: u32) -> Self {
        Self { oid, modifier: -1 }
    }

    /// The type of a column. Timestamps are instants in UTC everywhere, so they are `timestamptz`; what PostgreSQL has no
    /// type for is JSON in a `text`.
    pub(crate) fn of(field: &Field) -> Self {
        if field.data_type() == &DataType::Int32 && field.metadata().contains_key(OID_ALIAS_KEY) {
            return Self::plain(OID);
        }
        Self::of_type(field.data_type())
    }

    pub(crate) fn of_type(data_type: &DataType) -> Self {
        match data_type {
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => Self {
                oid: NUMERIC,
                modifier: ((i32::from(*precision) << 16) | i32::from((*scale).max(0))) + 4,
            },
            other => Self::plain(oid(other)),
        }
    }

    /// Bytes of a value; -1 when they vary.
    pub(crate) fn size(self) -> i16 {
        match self.oid {
            BOOL => 1,
            INT2 => 2,
            INT4 | OID | FLOAT4 | DATE => 4,
            INT8 | FLOAT8 | TIME | TIMESTAMP | TIMESTAMPTZ => 8,
            INTERVAL | UUID => 16,
            NAME => 64,
            _ => -1,
        }
    }
}

fn oid(data_type: &DataType) -> u32 {
    match data_type {
        DataType::Boolean => BOOL,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => INT2,
        DataType::UInt16 | DataType::Int32 => INT4,
        DataType::UInt32 | DataType::Int64 => INT8,
        DataType::UInt64 => NUMERIC,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            NUMERIC
        }
        DataType::Float16 | DataType::Float32 => FLOAT4,
        DataType::Float64 => FLOAT8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => BYTEA,
        DataType::Date32 | DataType::Date64 => DATE,
        DataType::Time32(_) | DataType::Time64(_) => TIME,
        DataType::Timestamp(..) => TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => INTERVAL,
        DataType::Dictionary(_, value) => oid(value),
        DataType::RunEndEncoded(_, value) => oid(value.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            // Lists of lists may be ragged, which PostgreSQL's arrays are not.
            match item.data_type().is_nested() {
                true => TEXT,
                false => array_of(oid(item.data_type())).unwrap_or(TEXT),
            }
        }
        _ => TEXT,
    }
}

/// The type of arrays of `element`.
pub(crate) fn array_of(element: u32) -> Option<u32> {
    KNOWN.iter().find(|known| known.oid == element).map(|known| known.array)
}

/// The type of the elements of `array`.
pub(crate) fn element_of(array: u32) -> Option<u32> {
    KNOWN.iter().find(|known| known.array == array).map(|known| known.oid)
}

/// The Arrow type that values of a PostgreSQL type are read into; `None` for types that are not known here.
pub(crate) fn arrow_type(oid: u32) -> Option<DataType> {
    Some(match oid {
        BOOL => DataType::Boolean,
        BYTEA => DataType::Binary,
        INT2 => DataType::Int16,
        // Object identifiers are what the catalog stores them as.
        INT4 | OID => DataType::Int32,
        INT8 => DataType::Int64,
        FLOAT4 => DataType::Float32,
        FLOAT8 => DataType::Float64,
        TEXT | NAME | BPCHAR | VARCHAR | JSON | JSONB | UUID => DataType::Utf8,
        DATE => DataType::Date32,
        TIME => DataType::Time64(TimeUnit::Microsecond),
        TIMESTAMP | TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        NUMERIC => DataType::Decimal128(38, 10),
        array => {
            let item = arrow_type(element_of(array)?)?;
            DataType::new_list(item, true)
        }
    })
}

/// The name that `information_schema` uses.
pub(crate) fn sql_name(oid: u32) -> &'static str {
    let known = |known: &&Known| known.oid == oid || known.array == oid;
    match KNOWN.iter().find(known) {
        Some(known) if known.oid == oid => known.sql,
        Some(_) => "ARRAY",
        None => "text",
    }
}

/// `pg_type.typname`.
pub(crate) fn type_name(oid: u32) -> &'static str {
    let known = |known: &&Known| known.oid == oid || known.array == oid;
    match KNOWN.iter().find(known) {
        Some(known) if known.oid == oid => known.name,
        Some(known) => known.array_name,
        None => "text",
    }
}

/// The type of this name, as `pg_type.typname` or as SQL spells it; `None` for types that are not known here.
pub(crate) fn oid_of(name: &str) -> Option<u32> {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    let element = |name: &str| KNOWN.iter().find(|known| known.name == name || known.sql == name);
    match name.strip_suffix("[]") {
        Some(item) => element(item).map(|known| known.array),
        None => element(name).map(|known| known.oid).or_else(|| {
            KNOWN
                .iter()
                .find(|known| known.array_name == name)
                .map(|known| known.array)
        }),
    }
}

#[cfg(test)]
mod tests;
