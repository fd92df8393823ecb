use anabranch_catalog::Catalog;
use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::*;

/// page, bucket, n
type Event = (Option<u8>, Option<i64>, Option<i64>);

fn view(select: &str) -> View {
    let sql = format!(
        "CREATE TABLE clicks (page TEXT, bucket BIGINT, n BIGINT, x DOUBLE) WITH (connector = 'log', topic = 'clicks', format = 'json');
         CREATE MATERIALIZED VIEW v AS {select};"
    );
    let catalog = Catalog::parse(&sql).unwrap();
    View::compile(&catalog.views["v"]).unwrap()
}

fn keyed() -> View {
    view(
        "SELECT page, bucket, count(*) AS hits, sum(n) AS total, count(DISTINCT n) AS kinds, avg(n) AS mean
         FROM clicks GROUP BY page, bucket",
    )
}

fn state(view: &View, events: &[Event]) -> RecordBatch {
    let pages = events.iter().map(|event| event.0.map(|page| format!("page-{page}")));
    let source = view.source().event_schema();
    let columns: Vec<ArrayRef> = source
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "page" => Arc::new(StringArray::from_iter(pages.clone())),
                "bucket" => Arc::new(Int64Array::from_iter(events.iter().map(|event| event.1))),
                "n" => Arc::new(Int64Array::from_iter(events.iter().map(|event| event.2))),
                _ => arrow::array::new_null_array(field.data_type(), events.len()),
            }
        })
        .collect();
    let fields: Vec<Field> = source
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    let events = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mut aggregator = view.aggregator().unwrap();
    aggregator.fold(&view.prepare(&events).unwrap()).unwrap();
    aggregator.emit().unwrap()
}

/// Rows as text, as a multiset.
fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| match column.is_null(row) {
                true => "∅".to_owned(),
                false => array_value_to_string(column, row).unwrap(),
            });
            rows.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    rows.sort();
    rows
}

fn batch_state(view: &View, events: &[Event], files: usize) -> BatchState {
    let sorted = view.sort_state(&state(view, events)).unwrap();
    let per_file = sorted.num_rows().div_ceil(files.max(1)).max(1);
    let files = (0..sorted.num_rows())
        .step_by(per_file)
        .map(|start| sorted.slice(start, per_file.min(sorted.num_rows() - start)))
        .collect();
    BatchState::new(view, files).unwrap()
}

/// Many groups: enough for look-ups instead of a full merge.
fn many(groups: i64) -> Vec<Event> {
    (0..groups)
        .map(|i| (Some((i % 101) as u8), Some(i / 101), Some(i % 7)))
        .collect()
}

#[test]
fn touched_groups_are_merged_and_the_rest_is_taken_from_the_batch_view() {
    let view = keyed();
    let history = many(20_000);
    let live: Vec<Event> = history
        .iter()
        .step_by(997)
        .copied()
        .chain([(None, Some(3), None), (Some(200), None, Some(1))])
        .collect();
    let batch = batch_state(&view, &history, 3);
    assert_eq!(batch.rows(), 20_000);
    let realtime: Vec<RecordBatch> = live.chunks(5).map(|events| state(&view, events)).collect();

    let all: Vec<Event> = history.iter().chain(&live).copied().collect();
    let truth = rows(&[view.finalise(&state(&view, &all)).unwrap()]);
    for _ in 0..2 {
        // The second time from cached chunks.
        let merged = answer(&view, Some(&batch), &realtime, &Selection::all()).unwrap();
        assert_eq!(rows(&merged), truth);
    }
    let by_the_book = merge_states(&view, &[state(&view, &history)], &realtime).unwrap();
    assert_eq!(rows(&[by_the_book]), truth);
    assert!(
        batch.blocks.iter().any(|block| !block.is_finalised()),
        "touched chunks are not cached"
    );
}

#[test]
fn without_realtime_state_finalised_chunks_are_kept() {
    let view = keyed();
    let batch = batch_state(&view, &many(20_000), 1);
    let first = answer(&view, Some(&batch), &[], &Selection::all()).unwrap();
    assert!(batch.blocks.iter().all(|block| block.is_finalised()));
    assert_eq!(
        rows(&first),
        rows(&answer(&view, Some(&batch), &[], &Selection::all()).unwrap())
    );
}

#[test]
fn bounds_find_exactly_the_groups_of_the_filter() {
    let view = keyed();
    let history = many(12_000);
    let live: Vec<Event> = vec![
        (Some(17), Some(40), Some(5)),
        (Some(17), Some(999), None),
        (Some(18), Some(40), Some(1)),
    ];
    let batch = batch_state(&view, &history, 2);
    let realtime = [state(&view, &live)];
    let everything = answer(&view, Some(&batch), &realtime, &Selection::all()).unwrap();
    let cell = |row: &str, index: usize| row.split('|').nth(index).unwrap().to_owned();
    let bucket = |row: &str| cell(row, 1).parse::<i64>().unwrap();

    type Keep<'k> = Box<dyn Fn(&str) -> bool + 'k>;
    let cases: Vec<(&str, Keep)> = vec![
        ("page = 'page-17'", Box::new(|row| cell(row, 0) == "page-17")),
        (
            "page = 'page-17' AND bucket = 40",
            Box::new(|row| cell(row, 0) == "page-17" && bucket(row) == 40),
        ),
        (
            "page = 'page-17' AND bucket > 40 AND bucket <= 60",
            Box::new(|row| cell(row, 0) == "page-17" && bucket(row) > 40 && bucket(row) <= 60),
        ),
        (
            "page >= 'page-9' AND page < 'page-95'",
            Box::new(|row| cell(row, 0).as_str() >= "page-9" && cell(row, 0).as_str() < "page-95"),
        ),
        ("page > 'page-9'", Box::new(|row| cell(row, 0).as_str() > "page-9")),
        // No use for a binary search, and no harm.
        ("bucket < 3", Box::new(|row| bucket(row) < 3)),
        ("page = 'nobody'", Box::new(|_| false)),
    ];
    for (sql, keep) in cases {
        let wanted: Vec<String> = rows(&everything).into_iter().filter(|row| keep(row)).collect();
        let selection = Selection::filtered(Arc::new(view.key_filter(sql).unwrap()));
        let found = answer(&view, Some(&batch), &realtime, &selection).unwrap();
        assert_eq!(rows(&found), wanted, "{sql}");
    }
}

#[test]
fn batch_files_out_of_order_or_with_split_groups_are_put_right() {
    let view = keyed();
    let (first, second) = (many(3_000), many(4_000));
    let all: Vec<Event> = first.iter().chain(&second).copied().collect();
    let batch = BatchState::new(&view, vec![state(&view, &second), state(&view, &first)]).unwrap();
    assert_eq!(batch.rows(), 4_000);
    let merged = answer(&view, Some(&batch), &[], &Selection::all()).unwrap();
    assert_eq!(rows(&merged), rows(&[view.finalise(&state(&view, &all)).unwrap()]));
}

#[test]
fn a_global_aggregate_answers_one_row_whatever_there_is() {
    let view = view("SELECT count(*) AS hits, sum(n) AS total FROM clicks");
    let history = [(Some(1), None, Some(4)), (None, None, Some(6))];
    let realtime = [state(&view, &[(Some(2), None, Some(5))])];
    let batch = batch_state(&view, &history, 1);
    let all = Selection::all();
    assert_eq!(rows(&answer(&view, Some(&batch), &realtime, &all).unwrap()), ["3|15"]);
    assert_eq!(rows(&answer(&view, Some(&batch), &[], &all).unwrap()), ["2|10"]);
    assert_eq!(rows(&answer(&view, None, &realtime, &all).unwrap()), ["1|5"]);
    assert_eq!(rows(&answer(&view, None, &[], &all).unwrap()), ["0|∅"]);
}

#[test]
fn state_of_another_view_is_refused() {
    let (mine, other) = (
        keyed(),
        view("SELECT bucket, count(*) AS hits FROM clicks GROUP BY bucket"),
    );
    let foreign = state(&other, &[(Some(1), Some(1), Some(1))]);
    assert!(matches!(
        BatchState::new(&mine, vec![foreign.clone()]),
        Err(Error::Schema { what: "batch", .. })
    ));
    let refused = answer(&mine, None, &[foreign], &Selection::all());
    assert!(matches!(refused, Err(Error::Schema { what: "realtime", .. })));
}

#[test]
fn float_keys_are_merged_as_the_aggregation_sees_them() {
    let view =
        view("SELECT CAST(n AS DOUBLE) / 2 AS half, count(*) AS hits FROM clicks GROUP BY CAST(n AS DOUBLE) / 2");
    let history: Vec<Event> = (0..5_000).map(|i| (None, None, Some(i))).collect();
    let live: Vec<Event> = vec![(None, None, Some(0)), (None, None, Some(4_999)), (None, None, None)];
    let batch = batch_state(&view, &history, 2);
    let merged = answer(&view, Some(&batch), &[state(&view, &live)], &Selection::all()).unwrap();
    let all: Vec<Event> = history.iter().chain(&live).copied().collect();
    assert_eq!(rows(&merged), rows(&[view.finalise(&state(&view, &all)).unwrap()]));
}

fn events(max: usize) -> impl Strategy<Value = Vec<Event>> {
    let event = (
        prop::option::weighted(0.9, 0..12u8),
        prop::option::weighted(0.9, 0..4i64),
        prop::option::weighted(0.9, -5..5i64),
    );
    prop::collection::vec(event, 0..max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a log is divided between the batch view and realtime pieces, the answer is that of the whole log; and a
    /// filter on keys only leaves groups out.
    #[test]
    fn any_division_of_the_log_gives_one_answer(
        log in events(200),
        cut in 0.0..=1.0f64,
        pieces in 1..5usize,
        files in 1..4usize,
        wanted in 0..12u8,
    ) {
        for having in ["", " HAVING count(*) > 1"] {
            let view = view(&format!(
                "SELECT page, bucket, count(*) AS hits, sum(n) AS total, min(n) AS low, count(DISTINCT n) AS kinds
                 FROM clicks GROUP BY page, bucket{having}"
            ));
            let cut = (log.len() as f64 * cut) as usize;
            let (history, live) = log.split_at(cut);
            let batch = batch_state(&view, history, files);
            let per_piece = live.len().div_ceil(pieces).max(1);
            let realtime: Vec<RecordBatch> = live.chunks(per_piece).map(|events| state(&view, events)).collect();
            let truth = rows(&[view.finalise(&state(&view, &log)).unwrap()]);
            let merged = rows(&answer(&view, Some(&batch), &realtime, &Selection::all()).unwrap());
            prop_assert_eq!(&merged, &truth);
            prop_assert_eq!(&rows(&[merge_states(&view, &[state(&view, history)], &realtime).unwrap()]), &truth);

            let page = format!("page-{wanted}");
            let selection = Selection::filtered(Arc::new(view.key_filter(&format!("page = '{page}'")).unwrap()));
            prop_assert!(selection.ranges().is_some());
            let found = rows(&answer(&view, Some(&batch), &realtime, &selection).unwrap());
            let prefix = format!("{page}|");
            let expected: Vec<String> = truth.into_iter().filter(|row| row.starts_with(&prefix)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// Where the rows of a predicate are is never understated, whatever the predicate says of keys.
    #[test]
    fn a_binary_search_never_loses_a_group(log in events(120), low in -7..7i64, high in -7..7i64, page in 0..12u8) {
        let view = view("SELECT n, page, count(*) AS hits FROM clicks GROUP BY n, page");
        let batch = batch_state(&view, &log, 2);
        let everything = answer(&view, Some(&batch), &[], &Selection::all()).unwrap();
        for sql in [
            format!("n > {low} AND n >= {high}"),
            format!("n < {low} AND n <= {high}"),
            format!("n = {low} AND page > 'page-{page}'"),
            format!("n = {low} AND page <> 'page-{page}'"),
            format!("n IN ({low}, {high}, 3) AND page IN ('page-{page}', 'page-1')"),
            format!("n IN ({low}, {high}) AND page >= 'page-{page}' AND page < 'page-9'"),
            format!("n = {low} OR n = {high}"),
            format!("n = {low} OR page = 'page-{page}'"),
            format!("n BETWEEN {low} AND {high}"),
            format!("NOT (n BETWEEN {low} AND {high})"),
            format!("n IS NULL AND page = 'page-{page}'"),
            "n IS NULL OR n = 0".to_owned(),
            "n IN (1, NULL)".to_owned(),
            "n = 1 AND n = 2".to_owned(),
            format!("n = {low} AND page IS NULL"),
            format!("{low} <= n AND n < {low} + 3"),
            format!("CAST(n AS INT) = {low}"),
            format!("n = {low}.5"),
            format!("n > {low}.5"),
            format!("n + 1 = {low}"),
        ] {
            let filter = view.key_filter(&sql).unwrap();
            // As the predicate alone sees it.
            let whole = state(&view, &log);
            let expected = rows(&[view.finalise(&filter.apply(&whole).unwrap()).unwrap()]);
            let found = answer(&view, Some(&batch), &[], &Selection::filtered(Arc::new(filter))).unwrap();
            prop_assert_eq!(rows(&found), expected, "{}", sql);
        }
        prop_assert_eq!(rows(&everything), rows(&[view.finalise(&state(&view, &log)).unwrap()]));
    }

    /// In order means in order, from either end, block by block, however the work is divided; and it is the same answer.
    #[test]
    fn order_is_kept_from_both_ends(log in events(200), cut in 0.0..=1.0f64, rows_per_block in 1..9usize, parts in 1..4usize) {
        let view = keyed();
        let (history, live) = log.split_at((log.len() as f64 * cut) as usize);
        let sorted = view.sort_state(&state(&view, history)).unwrap();
        let mut index = BlockIndex::new(&view);
        let blocks: Vec<Block> = cut_blocks(&view, &sorted, rows_per_block).map(Result::unwrap).collect();
        blocks.iter().for_each(|block| index.push(block).unwrap());
        let realtime = [state(&view, live)];
        let selection = Selection::all();
        let truth = rows(&[view.finalise(&state(&view, &log)).unwrap()]);
        let ascending = view.finalise(&view.sort_state(&state(&view, &log)).unwrap()).unwrap();
        let lines = |batches: &[RecordBatch]| -> Vec<String> {
            batches.iter().flat_map(|batch| (0..batch.num_rows()).flat_map(|row| rows(&[batch.slice(row, 1)]))).collect()
        };
        let live = Arc::new(Live::new(&view, &realtime, &selection).unwrap());
        for order in [Order::Any, Order::Ascending, Order::Descending] {
            let mut merging = Merging::new(&view, Arc::clone(&live), &selection, order);
            let mut found = Vec::new();
            let numbers: Vec<usize> = if order == Order::Descending { (0..blocks.len()).rev().collect() } else { (0..blocks.len()).collect() };
            for number in numbers {
                found.extend(merging.block(&blocks[number]).unwrap());
            }
            found.extend(merging.rest().unwrap());
            match order {
                Order::Any => prop_assert_eq!(rows(&found), truth.clone()),
                Order::Ascending => prop_assert_eq!(lines(&found), lines(std::slice::from_ref(&ascending))),
                Order::Descending => {
                    let mut backwards = lines(std::slice::from_ref(&ascending));
                    backwards.reverse();
                    prop_assert_eq!(lines(&found), backwards);
                }
            }
        }
        // Divided among several, each of which has its own blocks and its own part of realtime state.
        if !blocks.is_empty() {
            let per_part = blocks.len().div_ceil(parts);
            let runs: Vec<&[Block]> = blocks.chunks(per_part).collect();
            let ends: Vec<usize> = runs.iter().scan(0, |end, run| { *end += run.len(); Some(*end - 1) }).collect();
            let divided = index.divide(&live, &ends);
            let mut found = Vec::new();
            for (run, part) in runs.iter().zip(divided) {
                let mut merging = Merging::of_part(&view, Arc::clone(&live), part, &selection, Order::Ascending);
                for block in *run {
                    found.extend(merging.block(block).unwrap());
                }
                found.extend(merging.rest().unwrap());
            }
            prop_assert_eq!(lines(&found), lines(&[ascending]));
        }
    }
}
