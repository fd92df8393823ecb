use std::collections::BTreeMap;

use anabranch_catalog::Catalog;
use anabranch_merge::{Live, Merging, Order, Selection, merge_states};
use anabranch_runtime::{ByteSize, Settings};
use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, new_null_array};
use arrow::datatypes::{Field, Int64Type, Schema};

use super::*;

const GROUPS: i64 = 20_000;

fn view() -> View {
    let sql = "CREATE TABLE clicks (page TEXT, n BIGINT) WITH (connector = 'log', topic = 'clicks', format = 'json');
               CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS hits, sum(n) AS total FROM clicks GROUP BY page;";
    let catalog = Catalog::parse(sql).unwrap();
    View::compile(&catalog.views["pages"]).unwrap()
}

/// Partial state of one event a page.
fn state(view: &View, pages: impl Iterator<Item = i64>) -> RecordBatch {
    let pages: Vec<i64> = pages.collect();
    let source = view.source().event_schema();
    let columns: Vec<ArrayRef> = source
        .fields()
        .iter()
        .map(|field| -> ArrayRef {
            match field.name().as_str() {
                "page" => Arc::new(StringArray::from_iter_values(pages.iter().map(|page| name(*page)))),
                "n" => Arc::new(Int64Array::from_iter_values(pages.iter().copied())),
                _ => new_null_array(field.data_type(), pages.len()),
            }
        })
        .collect();
    let nullable = source
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(nullable.collect::<Vec<Field>>()));
    let events = RecordBatch::try_new(schema, columns).unwrap();
    let mut aggregator = view.aggregator().unwrap();
    aggregator.fold(&view.prepare(&events).unwrap()).unwrap();
    aggregator.emit_sorted().unwrap()
}

fn name(page: i64) -> String {
    format!("/page/{page:07}")
}

fn holdings(memory: u64, folder: &std::path::Path) -> Holdings {
    Holdings::new(&Serving {
        state_memory: ByteSize(memory),
        state_dir: Some(folder.to_owned()),
        ..Settings::default().serving
    })
}

async fn written(store: &Store, view: &View, files: Vec<Vec<RecordBatch>>) -> BatchView {
    let mut written = Vec::new();
    for (index, batches) in files.into_iter().enumerate() {
        let path = format!("runs/run-1/pages/part-{index:05}.parquet").into();
        written.push(StateFiles::write(store, &path, batches).await.unwrap());
    }
    BatchView {
        hash: view.hash().clone(),
        source: "clicks".into(),
        groups: written.iter().map(|file| file.rows).sum(),
        rows: GROUPS as u64,
        files: written,
    }
}

/// Every group, in order, merged with `live`.
async fn all(
    view: &View,
    state: &BatchViewState,
    live: &[RecordBatch],
    filter: Option<&str>,
) -> Vec<(String, i64, i64)> {
    let selection = match filter {
        Some(sql) => Selection::filtered(Arc::new(view.key_filter(sql).unwrap())),
        None => Selection::all(),
    };
    let mut merging = Merging::new(
        view,
        Live::new(view, live, &selection).unwrap(),
        &selection,
        Order::Ascending,
    );
    let mut batches = Vec::new();
    for number in state.select(&selection) {
        batches.extend(merging.block(&state.block(view, number).await.unwrap()).unwrap());
    }
    batches.extend(merging.rest().unwrap());
    batches.iter().flat_map(rows).collect()
}

fn rows(batch: &RecordBatch) -> Vec<(String, i64, i64)> {
    let (pages, hits, totals) = (
        batch.column(0).as_string::<i32>(),
        batch.column(1).as_primitive::<Int64Type>(),
        batch.column(2).as_primitive::<Int64Type>(),
    );
    (0..batch.num_rows())
        .map(|row| (pages.value(row).to_owned(), hits.value(row), totals.value(row)))
        .collect()
}

fn local_files(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| entries.count())
}

#[tokio::test]
async fn a_view_that_does_not_fit_is_served_from_a_local_file() {
    let (view, folder) = (view(), tempfile::tempdir().unwrap());
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let half = GROUPS / 2;
    let files = vec![vec![state(&view, 0..half)], vec![state(&view, half..GROUPS)]];
    let batch = written(&store, &view, files).await;

    let large = holdings(1 << 30, folder.path());
    let resident = load(&store, &view, &batch, &large, &large.budget(0)).await.unwrap();
    assert!(resident.is_resident() && resident.stored_bytes() == 0);
    assert!(resident.size_bytes() > 1 << 20, "{}", resident.size_bytes());

    let small = holdings(1 << 20, folder.path());
    let budget = small.budget(0);
    let stored = load(&store, &view, &batch, &small, &budget).await.unwrap();
    assert!(!stored.is_resident() && stored.stored_bytes() > 0);
    assert!(stored.size_bytes() < 64 << 10, "{}", stored.size_bytes());
    assert_eq!(
        budget.0.load(Ordering::Relaxed),
        small.resident,
        "what it took at first was given back"
    );
    assert_eq!(local_files(folder.path()), 0, "the file has no name");
    assert_eq!((stored.rows(), resident.rows()), (GROUPS as usize, GROUPS as usize));

    // Touches some groups, and adds some before, between and behind.
    let live = [
        state(&view, (0..GROUPS + 100).step_by(777)),
        state(&view, [-5, GROUPS + 3].into_iter()),
    ];
    let truth = merge_states(&view, &[state(&view, 0..GROUPS)], &live).unwrap();
    let mut truth = rows(&truth);
    truth.sort();
    assert_eq!(all(&view, &resident, &live, None).await, truth);
    assert_eq!(all(&view, &stored, &live, None).await, truth);
    assert!(small.cache.bytes() <= small.cache.limit(), "{}", small.cache.bytes());

    for filter in [
        "page = '/page/0012345'".to_owned(),
        "page = 'nobody'".to_owned(),
        "page IN ('/page/0000000', '/page/0000777', '/page/0019999', '/page/0020003')".to_owned(),
        "page >= '/page/0009990' AND page < '/page/0010010'".to_owned(),
        "page LIKE '%99'".to_owned(),
    ] {
        let of_stored = all(&view, &stored, &live, Some(&filter)).await;
        assert_eq!(of_stored, all(&view, &resident, &live, Some(&filter)).await, "{filter}");
        let predicate = view.key_filter(&filter).unwrap();
        if let Some(ranges) = predicate.ranges() {
            let points = ranges.iter().count();
            let blocks = stored.select(&Selection::filtered(Arc::new(predicate))).len();
            assert!(blocks <= points * 2, "{filter}: {blocks} blocks");
        }
    }
    drop(stored);
    assert_eq!(small.cache.bytes(), 0, "its blocks went with it");
}

#[tokio::test]
async fn files_out_of_order_are_put_right_in_memory_and_beyond_it() {
    let (view, folder) = (view(), tempfile::tempdir().unwrap());
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let files = vec![vec![state(&view, 5_000..GROUPS)], vec![state(&view, 0..6_000)]];
    let batch = written(&store, &view, files).await;
    let truth = {
        let states = [state(&view, 0..6_000), state(&view, 5_000..GROUPS)];
        let mut truth = rows(&merge_states(&view, &states, &[]).unwrap());
        truth.sort();
        truth
    };
    for memory in [1 << 20, 1 << 30] {
        let holdings = holdings(memory, folder.path());
        let state = load(&store, &view, &batch, &holdings, &holdings.budget(0))
            .await
            .unwrap();
        assert_eq!(state.is_resident(), memory > 1 << 20);
        assert_eq!(state.rows(), GROUPS as usize);
        assert_eq!(all(&view, &state, &[], None).await, truth);
    }
}

#[tokio::test]
async fn a_file_that_is_not_what_the_manifest_says_is_refused() {
    let (view, folder) = (view(), tempfile::tempdir().unwrap());
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let mut batch = written(&store, &view, vec![vec![state(&view, 0..100)]]).await;
    batch.files[0].rows += 1;
    let holdings = holdings(1 << 30, folder.path());
    let budget = holdings.budget(0);
    let refused = load(&store, &view, &batch, &holdings, &budget).await;
    assert!(matches!(refused, Err(Error::Dataset(_))));
    assert_eq!(budget.0.load(Ordering::Relaxed), holdings.resident);
}
