//! What the tests of the view algebra share: a table with a column of every type, rows for it, and the oracle, which is
//! one plain DataFusion query over all rows.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_catalog::{Catalog, Source};
use anabranch_view::{Class, View};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    ListBuilder, RecordBatch, RecordBatchOptions, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
    UInt32Array, new_null_array,
};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

pub const TABLE: &str = r"CREATE TABLE e (
  time TIMESTAMP, g TEXT, h BIGINT, i BIGINT, j INT, x DOUBLE, y DOUBLE, d DECIMAL(12, 2), w DECIMAL(38, 4), s TEXT,
  b BOOLEAN, day DATE, bin BYTES, st STRUCT<a TEXT, b STRUCT<c BIGINT>>, tags TEXT[]
) WITH (event_time = 'time');
";

pub fn catalog(query: &str) -> Catalog {
    let sql = format!("{TABLE}CREATE MATERIALIZED VIEW v AS {query};");
    Catalog::parse(&sql).unwrap_or_else(|d| panic!("{query}: {}", d[0]))
}

pub fn compile(query: &str) -> View {
    View::compile(&catalog(query).views["v"]).unwrap_or_else(|d| panic!("{query}: {d}"))
}

pub fn source() -> Arc<Source> {
    Arc::clone(&Catalog::parse(TABLE).unwrap().sources["e"])
}

/// One event; every column may be null.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub time: Option<i64>,
    pub g: Option<String>,
    pub h: Option<i64>,
    pub i: Option<i64>,
    pub j: Option<i32>,
    pub x: Option<f64>,
    pub y: Option<f64>,
    pub d: Option<i128>,
    pub w: Option<i128>,
    pub s: Option<String>,
    pub b: Option<bool>,
    pub day: Option<i32>,
    pub tags: Option<Vec<String>>,
}

/// Rows as a decoded batch of the source; the offset of a row is its index.
pub fn events(rows: &[Row]) -> RecordBatch {
    let schema = source().event_schema();
    let inner = StructArray::from(vec![(
        Arc::new(Field::new("c", DataType::Int64, true)),
        Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.i))) as ArrayRef,
    )]);
    let nested_fields = Fields::from(vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", inner.data_type().clone(), true),
    ]);
    let nested = StructArray::new(
        nested_fields,
        vec![
            Arc::new(StringArray::from_iter(rows.iter().map(|r| r.s.as_deref()))),
            Arc::new(inner),
        ],
        Some(rows.iter().map(|r| r.s.is_some()).collect::<Vec<_>>().into()),
    );
    let DataType::List(item) = schema.field_with_name("tags").unwrap().data_type() else {
        panic!("tags is no list")
    };
    let mut tags = ListBuilder::new(StringBuilder::new()).with_field(Arc::clone(item));
    for row in rows {
        match &row.tags {
            None => tags.append_null(),
            Some(values) => {
                for value in values {
                    tags.values().append_value(value);
                }
                tags.append(true);
            }
        }
    }
    let decimals = |values: Vec<Option<i128>>, precision, scale| -> ArrayRef {
        Arc::new(
            Decimal128Array::from(values)
                .with_precision_and_scale(precision, scale)
                .unwrap(),
        )
    };
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "time" => {
                    Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|r| r.time)).with_timezone("UTC"))
                }
                "g" => Arc::new(StringArray::from_iter(rows.iter().map(|r| r.g.as_deref()))),
                "h" => Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.h))),
                "i" => Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.i))),
                "j" => Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.j))),
                "x" => Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.x))),
                "y" => Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.y))),
                "d" => decimals(rows.iter().map(|r| r.d).collect(), 12, 2),
                "w" => decimals(rows.iter().map(|r| r.w).collect(), 38, 4),
                "s" => Arc::new(StringArray::from_iter(rows.iter().map(|r| r.s.as_deref()))),
                "b" => Arc::new(BooleanArray::from_iter(rows.iter().map(|r| r.b))),
                "day" => Arc::new(Date32Array::from_iter(rows.iter().map(|r| r.day))),
                "bin" => Arc::new(BinaryArray::from_iter(
                    rows.iter().map(|r| r.s.as_deref().map(str::as_bytes)),
                )),
                "st" => Arc::new(nested.clone()),
                "tags" => Arc::new(tags.finish_cloned()),
                "_partition" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|_| 0))),
                "_offset" => Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
                _ => new_null_array(field.data_type(), rows.len()),
            }
        })
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// The rows at `indices`, in that order.
pub fn pick(batch: &RecordBatch, indices: &[u32]) -> RecordBatch {
    take_record_batch(batch, &UInt32Array::from(indices.to_vec())).unwrap()
}

/// Answers `query` with plain DataFusion over all rows.
pub fn oracle(query: &str, batch: &RecordBatch) -> RecordBatch {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    let context = SessionContext::new_with_config(config);
    let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
    context.register_table("e", Arc::new(table)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let frame = context.sql(query).await.unwrap_or_else(|e| panic!("{query}: {e}"));
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await.unwrap_or_else(|e| panic!("{query}: {e}"));
        if batches.is_empty() {
            RecordBatch::new_empty(schema)
        } else {
            concat_batches(&batches[0].schema(), &batches).unwrap()
        }
    })
}

/// Folds a batch at once and answers.
pub fn answer(view: &View, batch: &RecordBatch) -> RecordBatch {
    let mut aggregator = view.aggregator().unwrap();
    aggregator.fold(&view.prepare(batch).unwrap()).unwrap();
    view.finalise(&aggregator.emit().unwrap()).unwrap()
}

/// A value with one spelling of zero: DataFusion's MIN, MAX and GROUP BY give whichever zero came first.
fn value(column: &ArrayRef, row: usize) -> ScalarValue {
    match ScalarValue::try_from_array(column, row).unwrap() {
        ScalarValue::Float64(Some(v)) => ScalarValue::Float64(Some(v + 0.0)),
        other => other,
    }
}

/// Rows by the text of their exact columns up to the first column that is not a key.
fn by_key(batch: &RecordBatch, keys: usize) -> BTreeMap<String, usize> {
    (0..batch.num_rows())
        .map(|row| {
            let key: Vec<String> = (0..keys).map(|c| value(batch.column(c), row).to_string()).collect();
            (key.join("|"), row)
        })
        .collect()
}

/// Compares an answer with the oracle's: the first `keys` columns name the group, the others compare by their class.
/// `scale` is the largest magnitude that a float column's arithmetic meets.
pub fn assert_answer(view: &View, actual: &RecordBatch, expected: &RecordBatch, keys: usize, scale: f64) {
    // The oracle gives some times in nanoseconds.
    let columns = expected
        .columns()
        .iter()
        .zip(actual.columns())
        .map(|(e, a)| cast(e, a.data_type()).unwrap())
        .collect();
    let expected = &RecordBatch::try_new_with_options(
        actual.schema(),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(expected.num_rows())),
    )
    .unwrap();
    let (actual_rows, expected_rows) = (by_key(actual, keys), by_key(expected, keys));
    assert_eq!(actual.num_rows(), actual_rows.len(), "a group stands twice");
    assert_eq!(
        actual_rows.keys().collect::<Vec<_>>(),
        expected_rows.keys().collect::<Vec<_>>(),
        "the groups differ"
    );
    for (key, &row) in &actual_rows {
        let expected_row = expected_rows[key];
        for (index, class) in view.output_classes().iter().enumerate().skip(keys) {
            let name = actual.schema().field(index).name().clone();
            let (a, e) = (
                value(actual.column(index), row),
                value(expected.column(index), expected_row),
            );
            match class {
                Class::Exact => assert_eq!(a, e, "{name} of group {key}"),
                Class::Float => assert_close(&a, &e, scale, &format!("{name} of group {key}")),
                Class::Sketch => assert_eq!(a.is_null(), e.is_null(), "{name} of group {key}"),
            }
        }
    }
}

fn assert_close(actual: &ScalarValue, expected: &ScalarValue, scale: f64, what: &str) {
    let number = |v: &ScalarValue| match v.cast_to(&DataType::Float64).unwrap() {
        ScalarValue::Float64(v) => v,
        other => panic!("{other} is no number"),
    };
    match (number(actual), number(expected)) {
        (None, None) => {}
        (Some(a), Some(e)) if a.is_nan() && e.is_nan() => {}
        (Some(a), Some(e)) => {
            assert!(
                (a - e).abs() <= 1e-9 * scale.max(e.abs()),
                "{what}: {a} instead of {e} (scale {scale})"
            );
        }
        (a, e) => panic!("{what}: {a:?} instead of {e:?}"),
    }
}
