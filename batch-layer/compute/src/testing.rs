//! What the tests of this crate share: a source, rows, Parquet files of them, and DataFusion as the oracle.

use std::sync::Arc;

use anabranch_catalog::Catalog;
use anabranch_model::columns;
use anabranch_view::View;
use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::{Control, Error, InputFile, Kernel, Options, Plan, ViewState, batch_view_schema};

pub(crate) const TABLE: &str = "CREATE TABLE events (t TIMESTAMP, page TEXT, n BIGINT, price DOUBLE) \
     WITH (connector = 'log', topic = 'events', format = 'json', event_time = 't');";

/// Compiles `CREATE MATERIALIZED VIEW v<i> AS <select>` for each SELECT.
pub(crate) fn views(selects: &[&str]) -> Vec<View> {
    let mut sql = TABLE.to_owned();
    for (i, select) in selects.iter().enumerate() {
        sql.push_str(&format!("\nCREATE MATERIALIZED VIEW v{i} AS {select};"));
    }
    let catalog = Catalog::parse(&sql).unwrap();
    (0..selects.len())
        .map(|i| View::compile(&catalog.views[&format!("v{i}")]).unwrap())
        .collect()
}

pub(crate) fn event_schema() -> SchemaRef {
    Catalog::parse(TABLE).unwrap().sources["events"].event_schema()
}

/// `rows` random events with `pages` different pages, some nulls among them.
pub(crate) fn events(rows: usize, pages: u32, seed: u64) -> RecordBatch {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut t, mut page, mut n, mut price) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rows {
        t.push(
            random
                .random_bool(0.98)
                .then(|| random.random_range(-7_200_000_000..7_200_000_000i64)),
        );
        page.push(
            random
                .random_bool(0.95)
                .then(|| format!("/page/{}", random.random_range(0..pages))),
        );
        n.push(random.random_bool(0.9).then(|| random.random_range(-1000..1000i64)));
        price.push(random.random_bool(0.9).then(|| random.random_range(0.0..1000.0f64)));
    }
    let schema = event_schema();
    let arrays = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "t" => Arc::new(TimestampMicrosecondArray::from(t.clone()).with_timezone("UTC")),
            "page" => Arc::new(StringArray::from(page.clone())),
            "n" => Arc::new(Int64Array::from(n.clone())),
            "price" => Arc::new(Float64Array::from(price.clone())),
            columns::PARTITION => Arc::new(Int32Array::from_value(0, rows)),
            columns::OFFSET => Arc::new((0..rows as i64).collect::<Int64Array>()),
            _ => new_null_array(field.data_type(), rows),
        }
    });
    RecordBatch::try_new(schema.clone(), arrays.collect()).unwrap()
}

pub(crate) fn parquet(batch: &RecordBatch, row_group_rows: usize) -> Bytes {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(row_group_rows))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap().into()
}

/// The batch as files of `file_rows` rows each, in path order.
pub(crate) fn files(batch: &RecordBatch, file_rows: usize, row_group_rows: usize) -> Vec<(String, Bytes)> {
    let starts = (0..batch.num_rows()).step_by(file_rows.max(1));
    let file = |start: usize| {
        parquet(
            &batch.slice(start, file_rows.min(batch.num_rows() - start)),
            row_group_rows,
        )
    };
    starts
        .enumerate()
        .map(|(i, start)| (format!("{i:05}.parquet"), file(start)))
        .collect()
}

pub(crate) fn kernel(threads: usize, memory_budget_bytes: u64) -> Kernel {
    Kernel::new(&Options {
        threads,
        memory_budget_bytes,
        spill_dir: None,
    })
    .unwrap()
}

pub(crate) fn fold(
    kernel: &Kernel,
    plan: &Plan,
    files: &[(String, Bytes)],
    control: &Control,
) -> Result<Vec<ViewState>, Error> {
    kernel.fold(
        plan,
        files
            .iter()
            .map(|(path, bytes)| Ok(InputFile::whole(path.clone(), bytes.clone()))),
        control,
    )
}

/// A view's whole result as one batch.
pub(crate) fn gather(state: ViewState) -> RecordBatch {
    let schema = batch_view_schema(state.view());
    let groups = state.groups();
    let batches: Vec<RecordBatch> = state.batches().unwrap().map(Result::unwrap).collect();
    let all = concat_batches(&schema, &batches).unwrap();
    assert_eq!(all.num_rows() as u64, groups, "the number of groups is what was said");
    all
}

/// The finalised columns of a result, each value as text.
pub(crate) fn answers(view: &View, result: &RecordBatch) -> Vec<Vec<String>> {
    let columns: Vec<&ArrayRef> = result.columns()[view.state_schema().fields().len()..].iter().collect();
    as_text(&columns, result.num_rows())
}

/// What a plain DataFusion query says.
pub(crate) fn oracle(batch: &RecordBatch, query: &str) -> Vec<Vec<String>> {
    let config = SessionConfig::new().set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
    let context = SessionContext::new_with_config(config);
    let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
    context.register_table("events", Arc::new(table)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let batches = runtime.block_on(async { context.sql(query).await.unwrap().collect().await.unwrap() });
    batches
        .iter()
        .flat_map(|batch| as_text(&batch.columns().iter().collect::<Vec<_>>(), batch.num_rows()))
        .collect()
}

fn as_text(columns: &[&ArrayRef], rows: usize) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters: Vec<_> = columns
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    (0..rows)
        .map(|row| formatters.iter().map(|column| column.value(row).to_string()).collect())
        .collect()
}

/// Equal but for floats, which may differ by 1e-9 of their size.
pub(crate) fn assert_same(ours: &[Vec<String>], theirs: &[Vec<String>]) {
    assert_eq!(ours.len(), theirs.len(), "number of groups");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let same = |(a, b): (&String, &String)| match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(a), Ok(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
            _ => a == b,
        };
        assert!(
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(same),
            "{ours:?} is not {theirs:?}"
        );
    }
}
