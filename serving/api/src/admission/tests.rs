use super::*;

fn admission(running: usize, waiting: usize, timeout: Duration) -> Arc<Admission> {
    Admission::new(&Serving {
        max_queries: running,
        max_waiting_queries: waiting,
        query_timeout: timeout.into(),
        ..Serving::default()
    })
}

const LONG: Duration = Duration::from_secs(600);

async fn until(what: &str, done: impl Fn() -> bool) {
    let waited = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}

#[tokio::test]
async fn permits_are_handed_on_in_turn_and_the_rest_is_turned_away() {
    let admission = admission(1, 1, LONG);
    let first = admission.enter(Duration::ZERO).await.unwrap();
    assert_eq!(admission.counts(), (1, 0));
    let second = tokio::spawn({
        let admission = Arc::clone(&admission);
        async move { admission.enter(Duration::ZERO).await }
    });
    until("the second waits", || admission.counts() == (1, 1)).await;
    let third = admission.enter(Duration::ZERO).await;
    assert!(matches!(third, Err(Error::Overloaded { running: 1, waiting: 1 })));
    drop(first);
    let second = second.await.unwrap().unwrap();
    assert_eq!(admission.counts(), (1, 0));
    drop(second);
    assert_eq!(admission.counts(), (0, 0));
}

#[tokio::test]
async fn whoever_gives_up_leaves_the_queue() {
    let admission = admission(1, 1, LONG);
    let first = admission.enter(Duration::ZERO).await.unwrap();
    let second = tokio::spawn({
        let admission = Arc::clone(&admission);
        async move { admission.enter(Duration::ZERO).await.map(drop) }
    });
    until("the second waits", || admission.counts() == (1, 1)).await;
    second.abort();
    until("it is gone", || admission.counts() == (1, 0)).await;
    drop(first);
    assert_eq!(admission.counts(), (0, 0));
}

#[tokio::test]
async fn waiting_counts_into_the_time_that_a_query_has() {
    let admission = admission(1, 8, Duration::from_millis(30));
    let _first = admission.enter(Duration::ZERO).await.unwrap();
    let second = admission.enter(Duration::from_millis(20)).await;
    assert!(matches!(second, Err(Error::Timeout { after }) if after == Duration::from_millis(50)));
    assert_eq!(admission.counts(), (1, 0));
}

#[tokio::test]
async fn a_query_that_pauses_lets_others_compute() {
    let admission = admission(1, 0, LONG);
    let mut first = admission.enter(Duration::ZERO).await.unwrap();
    first.pause();
    let second = admission.enter(Duration::ZERO).await.unwrap();
    assert!(matches!(first.resume().await, Err(Error::Overloaded { .. })));
    drop(second);
    first.resume().await.unwrap();
    assert_eq!(admission.counts(), (1, 0));
}

#[tokio::test]
async fn looks_wait_their_turn_and_leave_half_of_the_permits_to_queries() {
    let admission = admission(4, 0, LONG);
    let mut looking = Vec::new();
    for _ in 0..20 {
        let admission = Arc::clone(&admission);
        looking.push(tokio::spawn(async move { admission.enter_look(Duration::ZERO).await }));
    }
    until("two look and the others wait", || admission.looks() == (2, 18)).await;
    // The queue of queries has no place, and they need none.
    let first = admission.enter(Duration::ZERO).await.unwrap();
    let second = admission.enter(Duration::ZERO).await.unwrap();
    assert!(matches!(
        admission.enter(Duration::ZERO).await,
        Err(Error::Overloaded { .. })
    ));
    assert_eq!((admission.counts(), admission.looks()), ((2, 0), (2, 18)));
    for look in looking {
        let ticket = look.await.unwrap().unwrap();
        assert!(admission.looks().0 <= 2, "{:?}", admission.looks());
        drop(ticket);
    }
    drop((first, second));
    assert_eq!((admission.counts(), admission.looks()), ((0, 0), (0, 0)));
}

#[tokio::test]
async fn one_permit_serves_queries_and_looks_in_turn() {
    let admission = admission(1, 8, LONG);
    let query = admission.enter(Duration::ZERO).await.unwrap();
    let look = tokio::spawn({
        let admission = Arc::clone(&admission);
        async move { admission.enter_look(Duration::ZERO).await }
    });
    until("the look waits", || admission.looks() == (0, 1)).await;
    drop(query);
    let look = look.await.unwrap().unwrap();
    assert_eq!((admission.counts(), admission.looks()), ((0, 0), (1, 0)));
    drop(look);
    assert_eq!(admission.looks(), (0, 0));
}

#[tokio::test]
async fn a_look_does_not_wait_for_ever() {
    let admission = admission(1, 8, Duration::from_millis(30));
    let _query = admission.enter(Duration::ZERO).await.unwrap();
    let look = admission.enter_look(Duration::from_millis(20)).await;
    assert!(matches!(look, Err(Error::Timeout { after }) if after == Duration::from_millis(50)));
    assert_eq!(admission.looks(), (0, 0));
}
