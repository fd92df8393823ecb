use anabranch_access::Patience;
use anabranch_runtime::http::ApiError;
use axum::http::Method;
use tokio::net::TcpListener;

use super::*;

fn forwarder() -> Forwarder {
    let caller = Caller::plain();
    let patience = Patience {
        look_every: Duration::from_millis(10),
        alive_within: Duration::from_millis(100),
        ..Patience::default()
    };
    let calls = Calls::new(caller.http().no_proxy(), patience).unwrap();
    Forwarder { calls, caller }
}

fn onward(address: &str) -> Onward<'_> {
    Onward {
        address,
        limit_bytes: 100,
        look: "look here",
    }
}

fn request(method: Method) -> Request {
    let request = Request::builder().method(method).uri("/v1/batch/runs");
    request.body(Body::empty()).unwrap()
}

async fn refused(method: Method, address: &str) -> ApiError {
    let answer = forwarder().forward(onward(address), request(method)).await;
    ApiError::from(answer.unwrap_err())
}

/// Takes connections and never answers, as a process that was stopped does. What it was asked last stays unread.
#[tokio::test]
async fn what_a_frozen_service_was_asked_to_do_may_still_be_done_and_the_answer_says_how_to_see() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());

    let command = refused(Method::POST, &address).await;
    assert_eq!(command.status, 504, "{command}");
    assert!(
        command.message.contains(&address) && command.message.contains("may still take effect"),
        "{command}"
    );
    assert_eq!(command.hint.as_deref(), Some("look here"));

    let question = refused(Method::GET, &address).await;
    assert_eq!(question.status, 503, "nothing can have come of it: {question}");
    assert!(question.hint.unwrap().contains("try again"));
    drop(listener);

    let nowhere = refused(Method::POST, &address).await;
    assert_eq!(nowhere.status, 503, "it was not reached: {nowhere}");
    assert!(nowhere.hint.unwrap().contains("try again"));
}
