use super::*;

#[tokio::test]
async fn a_task_that_must_not_fail_stops_the_service() {
    let tasks = Tasks::new(Shutdown::new());
    let heard = tasks.shutdown().clone();
    tasks.spawn("listener", OnError::Log, async move {
        heard.cancelled().await;
        Ok::<_, String>(())
    });
    tasks.spawn("writer", OnError::Shutdown, async { Err("disk full") });
    assert_eq!(tasks.join().await, Err("writer: disk full".into()));
}

#[tokio::test]
async fn a_task_that_may_fail_does_not() {
    let tasks = Tasks::new(Shutdown::new());
    tasks.spawn("prober", OnError::Log, async { Err("no answer") });
    tasks.spawn("prober", OnError::Log, async {
        if true { panic!("no answer") } else { Ok::<_, String>(()) }
    });
    assert_eq!(tasks.join().await, Ok(()));
    assert!(!tasks.shutdown().is_cancelled());
}

#[tokio::test]
async fn a_child_hears_its_parent_and_not_the_other_way_round() {
    let parent = Shutdown::new();
    let (first, second) = (parent.child(), parent.child());
    first.cancel();
    assert!(!parent.is_cancelled() && !second.is_cancelled());
    parent.cancel();
    second.cancelled().await;
}
