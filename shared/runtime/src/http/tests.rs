use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;

/// A request that waits until it is let go on.
#[derive(Clone, Default)]
struct Slow {
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
}

/// Starts a service whose readiness follows `ready`; returns its base address.
async fn service(
    ready: Arc<AtomicBool>,
    slow: &Slow,
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
    let slow = slow.clone();
    let router = base_router("test", ready)
        .route("/panic", get(async || -> &'static str { panic!("as asked") }))
        .route(
            "/slow",
            get(async move || {
                slow.begun.notify_one();
                slow.go_on.notified().await;
            }),
        );
    (base, tokio::spawn(serve(listener, router, shutdown.clone())))
}

async fn fetch(url: String) -> (u16, serde_json::Value) {
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn who_waits_to_start_says_so_to_whatever_is_asked() {
    let shutdown = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = waiting_router("test", || "the store sleeps".to_owned());
    let server = tokio::spawn(serve(listener, router, shutdown.clone()));
    assert_eq!(fetch(format!("{base}/healthz")).await.0, 200);
    for path in ["readyz", "v1/views", "nothing"] {
        let (status, body) = fetch(format!("{base}/{path}")).await;
        assert_eq!(
            (status, body["error"]["code"].as_str()),
            (503, Some("unavailable")),
            "{path}"
        );
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("the store sleeps"), "{path}: {message}");
    }
    shutdown.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn health_readiness_and_errors_have_one_shape() {
    let (ready, shutdown) = (Arc::new(AtomicBool::new(false)), Shutdown::new());
    let (base, server) = service(Arc::clone(&ready), &Slow::default(), &shutdown).await;
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
    let (slow, shutdown) = (Slow::default(), Shutdown::new());
    let (base, server) = service(Arc::new(AtomicBool::new(true)), &slow, &shutdown).await;
    let answer = tokio::spawn(fetch(format!("{base}/slow")));
    slow.begun.notified().await;
    shutdown.cancel();
    slow.go_on.notify_one();
    assert_eq!(answer.await.unwrap().0, 200);
    server.await.unwrap().unwrap();
}

/// A service whose readiness ends with its shutdown, and whose `/slow` answers once `open` is notified.
struct Draining {
    base: String,
    shutdown: Shutdown,
    entered: Arc<tokio::sync::Notify>,
    open: Arc<tokio::sync::Notify>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Draining {
    async fn start(drain: Drain) -> Self {
        let (shutdown, entered, open) = (Shutdown::new(), Arc::default(), Arc::<tokio::sync::Notify>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stopping = shutdown.clone();
        let ready = move || {
            if stopping.is_cancelled() {
                Err("it is stopping".to_owned())
            } else {
                Ok(())
            }
        };
        let (notify, wait): (Arc<tokio::sync::Notify>, _) = (Arc::clone(&entered), Arc::clone(&open));
        let slow = get(async move || {
            notify.notify_one();
            wait.notified().await;
            "done"
        });
        let router = base_router("test", ready).route("/slow", slow);
        let server = tokio::spawn(serve_draining(listener, router, shutdown.clone(), drain));
        Self {
            base,
            shutdown,
            entered,
            open,
            server,
        }
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn while_it_says_that_it_goes_away_everything_else_is_answered() {
    let service = Draining::start(Drain {
        announce: LONG,
        grace: LONG,
    })
    .await;
    service.shutdown.cancel();
    let (status, body) = fetch(format!("{}/readyz", service.base)).await;
    assert_eq!((status, body["error"]["code"].as_str()), (503, Some("unavailable")));
    assert_eq!(fetch(format!("{}/healthz", service.base)).await.0, 200);
    service.server.abort();
}

#[tokio::test]
async fn what_was_asked_before_the_door_closed_is_answered() {
    let service = Draining::start(Drain {
        announce: Duration::ZERO,
        grace: LONG,
    })
    .await;
    let slow = tokio::spawn(reqwest::get(format!("{}/slow", service.base)));
    service.entered.notified().await;
    service.shutdown.cancel();
    while reqwest::get(format!("{}/healthz", service.base)).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service.open.notify_one();
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap()),
        (200, "done".to_owned())
    );
    service.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn refusals_of_libraries_have_the_error_format_too() {
    let shutdown = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route(
        "/number/{n}",
        get(async |axum::extract::Path(n): axum::extract::Path<u32>| n.to_string()),
    );
    let server = tokio::spawn(serve(listener, router, shutdown.clone()));
    let (status, body) = fetch(format!("{base}/number/seven")).await;
    assert_eq!(
        (status, body["error"]["code"].as_str()),
        (400, Some("invalid")),
        "{body}"
    );
    let answer = reqwest::Client::new()
        .post(format!("{base}/number/7"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 405);
    assert!(answer.headers().contains_key("allow"), "what is allowed is still said");
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], "invalid");
    shutdown.cancel();
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

#[test]
fn others_are_told_an_address_that_can_be_reached() {
    let at = |listener: &str| listener.parse().unwrap();
    assert_eq!(
        advertised("speed", None, "http", at("10.0.0.7:8081")),
        "http://10.0.0.7:8081"
    );
    for all in ["0.0.0.0:8081", "[::]:8081"] {
        assert_eq!(advertised("speed", None, "https", at(all)), "https://127.0.0.1:8081");
        assert_eq!(
            advertised("speed", Some("https://speed:8081"), "https", at(all)),
            "https://speed:8081"
        );
    }
}
