use std::sync::Arc;

use anabranch_model::ErrorKind;
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::testing::{assert_same, events, files, fold, gather, kernel, oracle, parquet, views};
use crate::{FileBytes, RowSelection, projected_ranges, testing};

const BUDGET: u64 = 1 << 30;
/// Small enough that some thousand groups do not fit.
const TIGHT: u64 = 256 << 10;

const PER_PAGE: &str = "SELECT page, count(*) AS events, sum(n) AS total, min(n) AS least, max(price) AS most, \
     avg(price) AS mean FROM events GROUP BY page";
const PER_PAGE_AND_N: &str =
    "SELECT page, n, count(*) AS events, sum(n) AS total, count(DISTINCT price) AS prices FROM events GROUP BY page, n";
const GLOBAL: &str = "SELECT count(*) AS events, sum(n) AS total, max(t) AS latest FROM events";
const FILTERED: &str = "SELECT page, sum(price) AS revenue FROM events WHERE n > 500 GROUP BY page";

fn ordered(select: &str, keys: &str) -> String {
    format!("{select} ORDER BY {keys}")
}

/// A view's finalised columns, in key order.
fn answers(state: ViewState) -> Vec<Vec<String>> {
    let view = state.view().clone();
    testing::answers(&view, &gather(state))
}

fn only(results: Vec<ViewState>) -> ViewState {
    results.into_iter().next().unwrap()
}

fn bytes_of(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn equals_a_plain_query() {
    let rows = events(30_000, 300, 1);
    let plan = Plan::new(views(&[PER_PAGE, PER_PAGE_AND_N, GLOBAL, FILTERED]), 30_000)
        .unwrap()
        .with_lanes(3);
    let control = Control::new();
    let results = fold(&kernel(2, BUDGET), &plan, &files(&rows, 7000, 1500), &control).unwrap();
    assert!(results.iter().all(|state| state.rows() == 30_000));
    let results: Vec<_> = results.into_iter().map(answers).collect();
    assert_same(&results[0], &oracle(&rows, &ordered(PER_PAGE, "page NULLS FIRST")));
    let by_both = ordered(PER_PAGE_AND_N, "page NULLS FIRST, n NULLS FIRST");
    assert_same(&results[1], &oracle(&rows, &by_both));
    assert_same(&results[2], &oracle(&rows, GLOBAL));
    assert_same(&results[3], &oracle(&rows, &ordered(FILTERED, "page NULLS FIRST")));
    assert_eq!(control.progress().snapshot().rows, 30_000);
    assert!(control.progress().snapshot().bytes > 0);
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let rows = events(60_000, 500, 2);
    let input = files(&rows, 9000, 1000);
    // One lane folds its views side by side; several lanes run side by side.
    for (budget_bytes, lanes) in [(BUDGET, 5), (TIGHT, 5), (BUDGET, 1), (TIGHT, 1)] {
        let plan = Plan::new(views(&[PER_PAGE, PER_PAGE_AND_N, FILTERED]), 60_000)
            .unwrap()
            .with_lanes(lanes);
        let run = |threads| -> Vec<Vec<u8>> {
            let results = fold(&kernel(threads, budget_bytes), &plan, &input, &Control::new()).unwrap();
            results.into_iter().map(|state| bytes_of(&gather(state))).collect()
        };
        let one = run(1);
        assert_eq!(one, run(2), "budget {budget_bytes}, {lanes} lanes");
        assert_eq!(one, run(4), "budget {budget_bytes}, {lanes} lanes");
    }
}

#[test]
fn more_groups_than_one_merge_takes_are_merged_in_parts() {
    let rows = events(120_000, 100_000, 3);
    let input = files(&rows, 50_000, 10_000);
    let plan = Plan::new(views(&[PER_PAGE]), 120_000).unwrap().with_lanes(4);
    let run = |threads| only(fold(&kernel(threads, BUDGET), &plan, &input, &Control::new()).unwrap());
    let one = bytes_of(&gather(run(1)));
    assert_eq!(one, bytes_of(&gather(run(2))), "2 threads");
    assert_eq!(one, bytes_of(&gather(run(3))), "3 threads");
    assert_same(&answers(run(2)), &oracle(&rows, &ordered(PER_PAGE, "page NULLS FIRST")));
}

#[test]
fn spilled_equals_unspilled() {
    let rows = events(60_000, 3000, 4);
    let input = files(&rows, 20_000, 5000);
    // Without float arithmetic, whose last bits may depend on where state was cut.
    let exact = "SELECT page, n, count(*) AS events, sum(n) AS total, min(price) AS least, count(DISTINCT price) AS prices \
         FROM events GROUP BY page, n";
    let plan = Plan::new(views(&[exact, GLOBAL]), 60_000).unwrap().with_lanes(2);
    let control = Control::new();
    let roomy = fold(&kernel(2, BUDGET), &plan, &input, &control).unwrap();
    assert_eq!(control.progress().snapshot().spilled_bytes, 0);
    let tight = fold(&kernel(2, 8 << 20), &plan, &input, &control).unwrap();
    assert!(
        control.progress().snapshot().spilled_bytes > 0,
        "the tight budget makes it spill"
    );
    for (roomy, tight) in roomy.into_iter().zip(tight) {
        assert_eq!(gather(roomy), gather(tight));
    }
}

#[test]
fn spill_files_are_gone_with_the_results_and_the_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let spill_dir = Some(folder.path().to_owned());
    let kernel = Kernel::new(&Options {
        threads: 2,
        memory_budget_bytes: TIGHT,
        spill_dir,
    })
    .unwrap();
    let spill_files = || {
        let area = std::fs::read_dir(folder.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let names = std::fs::read_dir(area)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".arrow")).count()
    };
    let rows = events(60_000, 3000, 5);
    let plan = Plan::new(views(&[PER_PAGE_AND_N]), 60_000).unwrap().with_lanes(2);
    let results = fold(&kernel, &plan, &files(&rows, 20_000, 5000), &Control::new()).unwrap();
    assert!(spill_files() > 0);
    let groups: u64 = results.into_iter().map(|state| gather(state).num_rows() as u64).sum();
    assert!(groups > 10_000);
    assert_eq!(spill_files(), 0);
    drop(kernel);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn cancelling_ends_the_fold_between_batches() {
    let rows = events(50_000, 100, 6);
    let plan = Plan::new(views(&[PER_PAGE]), 50_000).unwrap();
    let control = Control::new();
    let input = files(&rows, 5000, 5000)
        .into_iter()
        .enumerate()
        .map(|(i, (path, bytes))| {
            if i == 3 {
                control.cancel();
            }
            Ok(InputFile::whole(path, bytes))
        });
    let outcome = kernel(1, BUDGET).fold(&plan, input, &control);
    assert!(matches!(outcome, Err(Error::Cancelled)));
    assert!(control.progress().snapshot().rows <= 15_000);
}

#[test]
fn no_input_is_no_groups() {
    let plan = Plan::new(views(&[PER_PAGE, GLOBAL]), 0).unwrap();
    let results = fold(&kernel(2, BUDGET), &plan, &[], &Control::new()).unwrap();
    let view = results[1].view().clone();
    let results: Vec<RecordBatch> = results.into_iter().map(gather).collect();
    assert_eq!(results[0].num_rows(), 0);
    // A global aggregate answers one row all the same.
    let state = results[1]
        .project(&(0..view.state_schema().fields().len()).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(view.finalise(&state).unwrap().num_rows(), 1);
}

#[test]
fn files_without_rows_and_without_wanted_columns_count_too() {
    let rows = events(1000, 10, 7);
    let plan = Plan::new(views(&["SELECT count(*) AS events FROM events"]), 1000).unwrap();
    assert!(
        plan.columns().is_empty(),
        "count(*) reads no column: {:?}",
        plan.columns()
    );
    let input = [
        ("a".to_owned(), parquet(&rows.slice(0, 0), 100)),
        ("b".to_owned(), parquet(&rows, 100)),
    ];
    let results = fold(&kernel(2, BUDGET), &plan, &input, &Control::new()).unwrap();
    assert_eq!(answers(only(results)), [["1000"]]);
}

#[test]
fn a_column_that_an_old_file_lacks_is_null() {
    let rows = events(2000, 10, 8);
    let price = rows.schema().index_of("price").unwrap();
    let kept: Vec<usize> = (0..rows.num_columns()).filter(|i| *i != price).collect();
    let old = rows.project(&kept).unwrap();
    let plan = Plan::new(
        views(&["SELECT count(*) AS events, count(price) AS prices FROM events"]),
        2000,
    )
    .unwrap();
    let input = [
        ("a".to_owned(), parquet(&old, 300)),
        ("b".to_owned(), parquet(&rows, 300)),
    ];
    let results = fold(&kernel(2, BUDGET), &plan, &input, &Control::new()).unwrap();
    let prices = rows.num_rows() - rows.column(price).null_count();
    assert_eq!(answers(only(results)), [["4000".to_owned(), prices.to_string()]]);
}

#[test]
fn fetched_ranges_are_enough() {
    let rows = events(5000, 10, 9);
    let whole = parquet(&rows, 1000);
    let plan = Plan::new(views(&[FILTERED]), 5000).unwrap();
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new()
        .parse_and_finish(&whole)
        .unwrap();
    let ranges = projected_ranges(&metadata, plan.columns()).unwrap();
    let part = |range: &std::ops::Range<u64>| (range.start, whole.slice(range.start as usize..range.end as usize));
    let sparse = FileBytes::sparse(whole.len() as u64, ranges.iter().map(part).collect());
    assert!(sparse.held_bytes() < whole.len() as u64);
    let file = InputFile {
        path: "a".into(),
        bytes: sparse,
        metadata: Some(Arc::new(metadata)),
        selection: None,
        guard: None,
    };
    let results = kernel(2, BUDGET).fold(&plan, [Ok(file)], &Control::new()).unwrap();
    assert_same(
        &answers(only(results)),
        &oracle(&rows, &ordered(FILTERED, "page NULLS FIRST")),
    );
}

/// Keeps rows whose `n` is there and not negative.
struct NotNegative;

impl RowSelection for NotNegative {
    fn columns(&self) -> Fields {
        Fields::from(vec![Field::new("n", DataType::Int64, true)])
    }

    fn select(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let n = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
        filter_record_batch(batch, &n.iter().map(|n| Some(n.is_some_and(|n| n >= 0))).collect())
    }
}

#[test]
fn rows_that_do_not_count_are_as_if_they_were_not_there() {
    const PAGES: &str = "SELECT page, count(*) AS events FROM events GROUP BY page";
    const COUNT: &str = "SELECT count(*) AS events FROM events";
    let rows = events(3000, 10, 11);
    // Neither view reads the column that decides; one reads no column at all.
    for (select, keys) in [(PAGES, "page NULLS FIRST"), (COUNT, "1")] {
        let plan = Plan::new(views(&[select]), 3000).unwrap();
        let file = |path: &str, selection: Option<Arc<dyn RowSelection>>| {
            let file = InputFile::whole(path, parquet(&rows, 700));
            Ok(InputFile { selection, ..file })
        };
        let selected = kernel(2, BUDGET).fold(&plan, [file("a", Some(Arc::new(NotNegative)))], &Control::new());
        let kept = NotNegative.select(&rows).unwrap();
        assert_same(
            &answers(only(selected.unwrap())),
            &oracle(&kept, &ordered(select, keys)),
        );
        // Side by side with a file of which every row counts.
        let both = [file("a", None), file("b", Some(Arc::new(NotNegative)))];
        let both = kernel(2, BUDGET).fold(&plan, both, &Control::new());
        let all = concat_batches(&rows.schema(), [&rows, &kept]).unwrap();
        assert_same(&answers(only(both.unwrap())), &oracle(&all, &ordered(select, keys)));
    }
}

#[test]
fn what_goes_wrong_is_told() {
    let rows = events(100, 10, 10);
    let good = parquet(&rows, 100);
    let plan = Plan::new(views(&[PER_PAGE]), 100).unwrap();
    let kernel = kernel(1, BUDGET);
    let fails = |input: Vec<Result<InputFile, InputError>>| kernel.fold(&plan, input, &Control::new()).err().unwrap();

    let unavailable = InputError {
        kind: ErrorKind::Unavailable,
        source: "no route to the store".into(),
    };
    let error = fails(vec![Ok(InputFile::whole("a", good.clone())), Err(unavailable)]);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no route"), "{error}");

    let error = fails(vec![
        Ok(InputFile::whole("b", good.clone())),
        Ok(InputFile::whole("a", good.clone())),
    ]);
    assert!(matches!(error, Error::OutOfOrder { .. }), "{error}");

    let error = fails(vec![Ok(InputFile::whole(
        "a",
        Bytes::from_static(b"not parquet at all"),
    ))]);
    assert_eq!(error.kind(), ErrorKind::Data);

    let mut torn = good.to_vec();
    let middle = torn.len() / 2;
    torn[4..middle].fill(0xff);
    let error = fails(vec![Ok(InputFile::whole("dir/torn.parquet", torn.into()))]);
    assert!(
        error.to_string().contains("dir/torn.parquet") && error.kind() == ErrorKind::Data,
        "{error}"
    );

    let words: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["many"]));
    let odd = RecordBatch::try_from_iter([("n", words)]).unwrap();
    let error = fails(vec![Ok(InputFile::whole("a", parquet(&odd, 10)))]);
    assert!(
        error.kind() == ErrorKind::Data && error.to_string().contains("`n`"),
        "{error}"
    );
}

#[test]
fn views_of_two_sources_are_refused() {
    let ours = views(&[PER_PAGE]);
    let other = anabranch_catalog::Catalog::parse(
        "CREATE TABLE other (n BIGINT) WITH (connector = 'log', topic = 'other', format = 'json');
         CREATE MATERIALIZED VIEW o AS SELECT count(*) AS c FROM other;",
    )
    .unwrap();
    let other = anabranch_view::View::compile(&other.views["o"]).unwrap();
    assert!(matches!(
        Plan::new(vec![ours[0].clone(), other], 1),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(Plan::new(Vec::new(), 1), Err(Error::Invalid(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However rows lie in files and row groups, over however many lanes, threads and bytes of budget: one answer.
    #[test]
    fn any_chunking_gives_one_answer(
        rows in 0usize..3000,
        pages in 1u32..400,
        seed in any::<u64>(),
        file_rows in 1usize..2000,
        row_group_rows in 1usize..500,
        lanes in 1usize..6,
        threads in 1usize..4,
        tight in any::<bool>(),
    ) {
        let batch = events(rows, pages, seed);
        let plan = Plan::new(views(&[PER_PAGE_AND_N]), rows as u64).unwrap().with_lanes(lanes);
        // Tiny: every look at the memory held finds too much.
        let kernel = kernel(threads, if tight { 1 } else { BUDGET });
        let results = fold(&kernel, &plan, &files(&batch, file_rows.max(rows / 20), row_group_rows.max(rows / 100)), &Control::new()).unwrap();
        let query = ordered(PER_PAGE_AND_N, "page NULLS FIRST, n NULLS FIRST");
        prop_assert_eq!(answers(only(results)), oracle(&batch, &query));
    }
}
