use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anabranch_dataset::Store;
use anabranch_definitions::Definitions;
use anabranch_log::{IngestLog, Retention};
use anabranch_runtime::{Settings, Shutdown};
use tokio::net::TcpListener;

use super::{SpeedLayer, SpeedOptions};
use crate::Error;

const VIEWS: &str = "
CREATE TABLE clicks (ts TIMESTAMP NOT NULL, url TEXT)
WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 'ts');
CREATE MATERIALIZED VIEW total AS SELECT count(*) AS clicks FROM clicks;
";

async fn options(folder: &std::path::Path) -> SpeedOptions {
    let log = IngestLog::open(folder.join("log")).unwrap();
    let log = log.topic("clicks", 1, Retention::default()).unwrap();
    std::fs::create_dir_all(folder.join("store")).unwrap();
    let url = format!("file://{}", folder.join("store").display());
    SpeedOptions {
        settings: Arc::new(Settings::default()),
        definitions: Arc::new(Definitions::compile(0, VIEWS).unwrap()),
        store: Store::open(&url, &BTreeMap::new()).unwrap(),
        logs: [("clicks".to_owned(), log)].into(),
        open_log: None,
        listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        worker_id: "worker".to_owned(),
        shutdown: Shutdown::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_server_that_ends_ends_the_worker_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let serve = async |_, _, _, _| Err(std::io::Error::other("the listener is gone"));
    let worker = SpeedLayer::start_with(options(folder.path()).await, serve)
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(120), worker.stopped()).await;
    let error = ended.expect("it ends by itself").unwrap_err();
    assert!(matches!(error, Error::ServerEnded(Some(_))), "{error}");
    assert!(error.to_string().contains("the listener is gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_server_that_ends_without_a_reason_does_too() {
    let folder = tempfile::tempdir().unwrap();
    let serve = async |_, _, _, _| Ok(());
    let worker = SpeedLayer::start_with(options(folder.path()).await, serve)
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(120), worker.stopped()).await;
    let error = ended.expect("it ends by itself").unwrap_err();
    assert!(matches!(error, Error::ServerEnded(None)), "{error}");
}
