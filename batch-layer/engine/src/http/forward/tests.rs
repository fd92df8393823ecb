use anabranch_access::Patience;
use tokio::net::TcpListener;

use super::*;

/// A leader that was stopped still leads while its lease lasts. Its kernel takes connections for it.
#[tokio::test]
async fn a_command_to_a_frozen_leader_ends_and_may_still_take_effect() {
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let leader = format!("http://{}", frozen.local_addr().unwrap());
    let patience = Patience {
        look_every: Duration::from_millis(10),
        alive_within: Duration::from_millis(100),
        ..Patience::default()
    };
    let calls = Calls::new(Caller::plain().http().no_proxy(), patience).unwrap();
    let command = async || {
        let (request, _) = Request::post("/v1/batch/runs").body(()).unwrap().into_parts();
        pass_on(&calls, &leader, &request, (Bytes::new(), None))
            .await
            .unwrap_err()
    };
    let error = command().await;
    assert!(matches!(error, Unanswered::Unclear(_)), "{error}");
    drop(frozen);
    let error = command().await;
    assert!(matches!(error, Unanswered::NotReached(_)), "{error}");
}
