use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Starts a service whose readiness follows `ready`; returns its base address.
async fn service(
    ready: Arc<AtomicBool>,
    shutdown: &Shutdown,
) -> (String, tokio::task::JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let ready = move || {
        if ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("still looking".to_owned())
        }
    };
    let router = base_router("test", ready)
        .route("/panic", get(async || -> &'static str { panic!("as asked") }))
        .route(
            "/slow",
            get(async || tokio::time::sleep(Duration::from_millis(200)).await),
        );
    (base, tokio::spawn(serve(listener, router, shutdown.clone())))
}

async fn fetch(url: String) -> (u16, serde_json::Value) {
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn health_readiness_and_errors_have_one_shape() {
    let (ready, shutdown) = (Arc::new(AtomicBool::new(false)), Shutdown::new());
    let (base, server) = service(Arc::clone(&ready), &shutdown).await;
    assert_eq!(fetch(format!("{base}/healthz")).await.0, 200);
    let (status, body) = fetch(format!("{base}/readyz")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("unavailable")));
    assert!(
        body["error"]["message"].as_str().unwrap().contains("still looking"),
        "{body}"
    );
    ready.store(true, Ordering::Relaxed);
    assert_eq!(fetch(format!("{base}/readyz")).await.0, 200);

    let (status, body) = fetch(format!("{base}/nowhere")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (404, Some("not_found")));
    let response = reqwest::Client::new()
        .post(format!("{base}/healthz"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 405);
    let (status, body) = fetch(format!("{base}/panic")).await;
    assert_eq!((status, body["error"]["code"].as_str()), (500, Some("internal")));

    shutdown.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn open_requests_finish_after_the_shutdown_signal() {
    let shutdown = Shutdown::new();
    let (base, server) = service(Arc::new(AtomicBool::new(true)), &shutdown).await;
    let slow = tokio::spawn(fetch(format!("{base}/slow")));
    // The request is under way once the server has accepted another one after it.
    fetch(format!("{base}/healthz")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    shutdown.cancel();
    assert_eq!(slow.await.unwrap().0, 200);
    server.await.unwrap().unwrap();
}

#[test]
fn an_error_survives_its_own_format() {
    let error = ApiError::new(ErrorKind::Conflict, "taken").with_hint("take another");
    let body = serde_json::to_vec(&Envelope {
        error: Body {
            code: error.code.clone(),
            message: error.message.clone(),
            hint: error.hint.clone(),
        },
    });
    assert_eq!(ApiError::parse(409, &body.unwrap()), Some(error));
    assert_eq!(ApiError::parse(502, b"<html>"), None);
}
