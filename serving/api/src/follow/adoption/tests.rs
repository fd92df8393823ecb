use anabranch_catalog::Catalog;
use anabranch_dataset::{BatchView, Manifest, StateFile};
use anabranch_model::{Offset, OffsetVector, PartitionId};

use super::*;

fn views() -> Arc<Vec<View>> {
    let sql = "CREATE TABLE clicks (page TEXT) WITH (connector = 'log', topic = 'clicks', format = 'json');
               CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS hits FROM clicks GROUP BY page;";
    let catalog = Catalog::parse(sql).unwrap();
    Arc::new(
        catalog
            .views
            .values()
            .map(|view| View::compile(view).unwrap())
            .collect(),
    )
}

/// A publication of empty batch views through `next`.
async fn publish(store: &Store, views: &[View], next: i64, hash: Option<&str>, files: Vec<StateFile>) {
    let log = Publications::new(store);
    let based_on = log.latest().await.unwrap().map_or(0, |publication| publication.number);
    let vector: OffsetVector = [(PartitionId(0), Offset(next))].into_iter().collect();
    let batch = |view: &View| BatchView {
        hash: hash.unwrap_or(view.hash()).to_owned(),
        source: "clicks".into(),
        files: files.clone(),
        groups: 0,
        rows: 0,
    };
    let manifest = Manifest {
        run_id: format!("run-{}", based_on + 1),
        started_at: "2026-01-01T00:00:00Z".into(),
        finished_at: "2026-01-01T00:00:01Z".into(),
        cuts: [(
            "clicks".to_owned(),
            Cut {
                version: Some(based_on + 1),
                next: vector,
            },
        )]
        .into(),
        views: views.iter().map(|view| (view.name().to_owned(), batch(view))).collect(),
        notes: Default::default(),
        mode: Default::default(),
        base: None,
        chain: 0,
    };
    log.publish(based_on, manifest).await.unwrap();
}

fn adoption(store: &Store, views: &Arc<Vec<View>>) -> Adoption {
    let definitions = Definitions::fixed(Arc::default(), Arc::clone(views));
    Adoption::new(
        store,
        Arc::new(definitions),
        Arc::new(Compute::start().unwrap()),
        Holdings::new(&Default::default()),
    )
}

#[tokio::test]
async fn the_oldest_publication_that_a_request_holds_is_the_one_named() {
    let (store, views) = (Store::open("memory://", &BTreeMap::new()).unwrap(), views());
    let adoption = adoption(&store, &views);
    assert!(!adoption.is_ready());
    adoption.refresh().await.unwrap();
    assert!(adoption.is_ready());
    assert_eq!((adoption.pin().number, adoption.oldest_pinned()), (0, 0));

    publish(&store, &views, 10, None, vec![]).await;
    adoption.refresh().await.unwrap();
    adoption.changed().await;
    let reader = adoption.pin();
    assert_eq!((reader.number, adoption.oldest_pinned()), (1, 1));
    assert_eq!(reader.views["pages"].cut.next.get(PartitionId(0)), Some(Offset(10)));

    publish(&store, &views, 20, None, vec![]).await;
    publish(&store, &views, 30, None, vec![]).await;
    adoption.refresh().await.unwrap();
    assert_eq!(
        (adoption.pin().number, adoption.oldest_pinned()),
        (3, 1),
        "the reader still reads 1"
    );
    drop(reader);
    assert_eq!(adoption.oldest_pinned(), 3);
}

#[tokio::test]
async fn a_publication_that_cannot_be_loaded_changes_nothing() {
    let (store, views) = (Store::open("memory://", &BTreeMap::new()).unwrap(), views());
    let adoption = adoption(&store, &views);
    publish(&store, &views, 10, None, vec![]).await;
    adoption.refresh().await.unwrap();
    let lost = StateFile {
        path: "runs/run-2/pages/part-00000.parquet".into(),
        bytes: 100,
        rows: 1,
    };
    publish(&store, &views, 20, None, vec![lost]).await;
    assert!(adoption.refresh().await.is_err());
    assert_eq!(adoption.pin().number, 1);
    publish(&store, &views, 30, None, vec![]).await;
    adoption.refresh().await.unwrap();
    assert_eq!(adoption.pin().number, 3, "the next one that can be loaded is");
}

#[tokio::test]
async fn a_batch_view_of_another_definition_is_not_adopted() {
    let (store, views) = (Store::open("memory://", &BTreeMap::new()).unwrap(), views());
    let adoption = adoption(&store, &views);
    publish(&store, &views, 10, Some("another"), vec![]).await;
    adoption.refresh().await.unwrap();
    assert_eq!(adoption.pin().number, 1);
    assert!(adoption.pin().views.is_empty(), "the view has the empty cut");
}
