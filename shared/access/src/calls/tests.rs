use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use super::*;

/// Gives up soon, but never on a service that lives.
fn quick() -> Patience {
    Patience {
        look_every: Duration::from_millis(10),
        alive_within: Duration::from_millis(100),
        piece_within: Duration::from_millis(100),
        ..Patience::default()
    }
}

fn calls(patience: Patience) -> Calls {
    Calls::new(Client::builder().no_proxy(), patience).unwrap()
}

async fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    (listener, address)
}

async fn serve(router: Router) -> String {
    let (listener, address) = listening().await;
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn command(calls: &Calls, address: &str) -> Result<Response, Unanswered> {
    let request = calls.client().post(format!("{address}/command")).body("do it");
    calls.send(address, request).await
}

/// What a stopped process looks like: its kernel takes connections and what is sent on them.
#[tokio::test]
async fn a_service_that_takes_a_command_and_never_answers_is_given_up_and_may_have_done_it() {
    let (listener, address) = listening().await;
    let (taken, mut commands) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut connections = Vec::new();
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4];
            connection.read_exact(&mut bytes).await.unwrap();
            if &bytes == b"POST" {
                taken.send(()).await.unwrap();
            }
            connections.push(connection);
        }
    });
    let error = command(&calls(quick()), &address).await.unwrap_err();
    assert!(
        matches!(&error, Unanswered::Unclear(why) if why.contains("frozen")),
        "{error}"
    );
    commands.recv().await.expect("the command had arrived");
}

#[tokio::test]
async fn a_service_that_lives_may_take_longer_than_it_may_be_silent() {
    let (looks, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let health = {
        let (looks, done) = (Arc::clone(&looks), Arc::clone(&done));
        async move || {
            if looks.fetch_add(1, Ordering::SeqCst) == 5 {
                done.notify_one();
            }
        }
    };
    let work = async move || {
        done.notified().await;
        "done"
    };
    let patience = Patience {
        // A machine under load is no frozen service.
        alive_within: Duration::from_secs(60),
        ..quick()
    };
    let address = serve(
        Router::new()
            .route("/healthz", get(health))
            .route("/command", post(work)),
    )
    .await;
    let answer = command(&calls(patience), &address).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    assert!(looks.load(Ordering::SeqCst) > 5);
}

#[tokio::test]
async fn even_a_service_that_lives_is_not_waited_for_without_end() {
    let never = async || std::future::pending::<()>().await;
    let address = serve(
        Router::new()
            .route("/healthz", get(async || ()))
            .route("/command", post(never)),
    )
    .await;
    let patience = Patience {
        longest: Duration::from_millis(200),
        alive_within: Duration::from_secs(60),
        ..quick()
    };
    let error = command(&calls(patience), &address).await.unwrap_err();
    assert!(
        matches!(&error, Unanswered::Unclear(why) if why.contains("200ms")),
        "{error}"
    );
}

#[tokio::test]
async fn a_service_that_is_not_there_has_done_nothing() {
    let (listener, address) = listening().await;
    drop(listener);
    let error = command(&calls(quick()), &address).await.unwrap_err();
    assert!(matches!(error, Unanswered::NotReached(_)), "{error}");
}

/// It ended, or lost its machine, with the command in hand.
#[tokio::test]
async fn a_connection_that_breaks_leaves_it_open_what_was_done() {
    let (listener, address) = listening().await;
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.read_exact(&mut [0; 4]).await.unwrap();
    });
    let error = command(&calls(quick()), &address).await.unwrap_err();
    assert!(matches!(error, Unanswered::Unclear(_)), "{error}");
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_ends() {
    let half = async || {
        let first = futures::stream::once(async { io::Result::Ok("half") });
        Body::from_stream(first.chain(futures::stream::pending()))
    };
    let address = serve(Router::new().route("/command", post(half))).await;
    let calls = calls(quick());
    let answer = command(&calls, &address).await.unwrap();
    let mut pieces = Box::pin(calls.body(answer));
    assert_eq!(pieces.next().await.unwrap().unwrap(), "half");
    let error = pieces.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
