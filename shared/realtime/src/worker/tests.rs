use anabranch_model::realtime::StateTicket;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;

/// A worker behind `stream`, reached as any other.
fn behind(stream: DuplexStream) -> Worker {
    let stream = std::sync::Mutex::new(Some(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.lock().unwrap().take();
        async move { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("gone")) }
    });
    let alive = Alive {
        every: Duration::from_millis(20),
        timeout: Duration::from_millis(20),
    };
    let channel = tuned(Endpoint::from_static("http://worker.invalid"), alive).connect_with_connector_lazy(connector);
    Worker {
        id: "w1".to_owned(),
        calls: Calls::Flight(FlightServiceClient::new(channel)),
        caller: Caller::plain(),
    }
}

#[tokio::test]
async fn a_worker_that_is_frozen_in_the_middle_of_a_read_ends_the_read() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    // What a stopped process does: its kernel takes what comes, and nobody answers.
    let frozen = tokio::spawn(async move {
        let mut taken = Vec::new();
        theirs.read_to_end(&mut taken).await
    });
    let ticket = StateTicket {
        snapshot: 1,
        view: "v".to_owned(),
        partitions: Vec::new(),
        filter: None,
    };
    let error = behind(ours).state(&ticket).await.unwrap_err();
    assert!(matches!(error, Error::WorkerFailed { .. }), "{error}");
    assert!(frozen.await.unwrap().is_ok(), "the connection was closed");
}

/// One that lives, and is stuck.
#[tokio::test]
async fn a_worker_that_sends_nothing_more_ends_the_read() {
    let first = futures::stream::iter([Ok::<_, Status>(1)]);
    let stuck = first.chain(futures::stream::pending());
    let mut messages = Box::pin(within(Duration::from_millis(50), stuck));
    assert_eq!(messages.next().await.unwrap().unwrap(), 1);
    let error = messages.next().await.unwrap().unwrap_err();
    assert!(error.message().contains("nothing for 50ms"), "{error}");

    let whole = futures::stream::iter([Ok::<_, Status>(1), Ok(2)]);
    let all: Vec<i32> = within(Duration::from_secs(60), whole).try_collect().await.unwrap();
    assert_eq!(all, [1, 2], "an end is no silence");
}
