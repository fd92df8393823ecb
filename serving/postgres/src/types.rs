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

pub(crate) const BOOL: u32 = 16;
pub(crate) const BYTEA: u32 = 17;
pub(crate) const NAME: u32 = 19;
pub(crate) const INT8: u32 = 20;
pub(crate) const INT2: u32 = 21;
pub(crate) const INT4: u32 = 23;
pub(crate) const TEXT: u32 = 25;
pub(crate) const OID: u32 = 26;
pub(crate) const JSON: u32 = 114;
pub(crate) const FLOAT4: u32 = 700;
pub(crate) const FLOAT8: u32 = 701;
pub(crate) const UNKNOWN: u32 = 705;
pub(crate) const BPCHAR: u32 = 1042;
pub(crate) const VARCHAR: u32 = 1043;
pub(crate) const DATE: u32 = 1082;
pub(crate) const TIME: u32 = 1083;
pub(crate) const TIMESTAMP: u32 = 1114;
pub(crate) const TIMESTAMPTZ: u32 = 1184;
pub(crate) const INTERVAL: u32 = 1186;
pub(crate) const NUMERIC: u32 = 1700;
pub(crate) const UUID: u32 = 2950;
pub(crate) const JSONB: u32 = 3802;

/// Element type and the type of its arrays.
const ARRAYS: [(u32, u32); 20] = [
    (BOOL, 1000),
    (BYTEA, 1001),
    (NAME, 1003),
    (INT2, 1005),
    (INT4, 1007),
    (TEXT, 1009),
    (BPCHAR, 1014),
    (VARCHAR, 1015),
    (INT8, 1016),
    (FLOAT4, 1021),
    (FLOAT8, 1022),
    (OID, 1028),
    (TIMESTAMP, 1115),
    (DATE, 1182),
    (TIME, 1183),
    (TIMESTAMPTZ, 1185),
    (INTERVAL, 1187),
    (NUMERIC, 1231),
    (UUID, 2951),
    (JSON, 199),
];

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
    ARRAYS
        .iter()
        .find_map(|(item, array)| (*item == element).then_some(*array))
}

/// The type of the elements of `array`.
pub(crate) fn element_of(array: u32) -> Option<u32> {
    ARRAYS
        .iter()
        .find_map(|(item, known)| (*known == array).then_some(*item))
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

/// The name that `information_schema` and SHOW use.
pub(crate) fn sql_name(oid: u32) -> &'static str {
    match oid {
        BOOL => "boolean",
        BYTEA => "bytea",
        NAME => "name",
        INT8 => "bigint",
        INT2 => "smallint",
        INT4 => "integer",
        OID => "oid",
        FLOAT4 => "real",
        FLOAT8 => "double precision",
        DATE => "date",
        TIME => "time without time zone",
        TIMESTAMPTZ => "timestamp with time zone",
        INTERVAL => "interval",
        NUMERIC => "numeric",
        array if element_of(array).is_some() => "ARRAY",
        _ => "text",
    }
}

/// `pg_type.typname`.
pub(crate) fn type_name(oid: u32) -> &'static str {
    match oid {
        BOOL => "bool",
        BYTEA => "bytea",
        NAME => "name",
        INT8 => "int8",
        INT2 => "int2",
        INT4 => "int4",
        OID => "oid",
        FLOAT4 => "float4",
        FLOAT8 => "float8",
        DATE => "date",
        TIME => "time",
        TIMESTAMPTZ => "timestamptz",
        INTERVAL => "interval",
        NUMERIC => "numeric",
        1000 => "_bool",
        1005 => "_int2",
        1007 => "_int4",
        1009 => "_text",
        1016 => "_int8",
        1022 => "_float8",
        1185 => "_timestamptz",
        1231 => "_numeric",
        _ => "text",
    }
}

/// The type of this name, as `pg_type.typname` or as SQL spells it; `None` for types that are not known here.
pub(crate) fn oid_of(name: &str) -> Option<u32> {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
    let known = ARRAYS.iter().flat_map(|(item, array)| [*item, *array]);
    // What has no name of its own is called text there.
    known
        .filter(|oid| *oid == TEXT || type_name(*oid) != "text")
        .find(|oid| type_name(*oid) == name || sql_name(*oid) == name)
}
