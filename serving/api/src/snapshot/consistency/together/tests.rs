use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::*;

/// Work that waits to be let through, and says which of all it is.
struct Counted {
    begun: AtomicU64,
    gate: Semaphore,
}

impl Counted {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: AtomicU64::new(0),
            gate: Semaphore::new(0),
        })
    }

    fn work(self: &Arc<Self>) -> impl Future<Output = u64> + Send + 'static {
        let this = Arc::clone(self);
        async move {
            let number = this.begun.fetch_add(1, Ordering::SeqCst) + 1;
            this.gate.acquire().await.unwrap().forget();
            number
        }
    }

    fn ask(self: &Arc<Self>, together: &Together<&'static str, u64>, key: &'static str) -> Shared<Work<u64>> {
        together.join(key, pending(), self.work())
    }
}

#[tokio::test]
async fn whoever_asks_while_work_goes_on_gets_what_begins_afterwards() {
    let (together, counted) = (Together::default(), Counted::new());
    let mut first = counted.ask(&together, "views");
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(counted.begun.load(Ordering::SeqCst), 1, "it waits for nobody");
    let late: Vec<_> = (0..50).map(|_| counted.ask(&together, "views")).collect();
    for ask in &late {
        assert!(ask.clone().now_or_never().is_none());
    }
    assert_eq!(counted.begun.load(Ordering::SeqCst), 1);
    counted.gate.add_permits(2);
    assert_eq!(first.await, 1);
    for ask in late {
        assert_eq!(ask.await, 2, "one piece of work answers all of them");
    }
    assert_eq!(counted.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn work_that_has_begun_is_never_joined_and_other_keys_wait_for_nobody() {
    let (together, counted) = (Together::default(), Counted::new());
    counted.gate.add_permits(10);
    for turn in 1..=5 {
        assert_eq!(
            counted.ask(&together, "views").await,
            turn,
            "what has ended answers nobody else"
        );
    }
    counted.gate.forget_permits(10);
    let mut busy = counted.ask(&together, "views");
    assert!((&mut busy).now_or_never().is_none());
    let mut other = counted.ask(&together, "other views");
    assert!((&mut other).now_or_never().is_none());
    assert_eq!(counted.begun.load(Ordering::SeqCst), 7);
}

#[tokio::test]
async fn work_goes_on_when_whoever_began_it_leaves() {
    let (together, counted) = (Together::default(), Counted::new());
    let mut first = counted.ask(&together, "views");
    assert!((&mut first).now_or_never().is_none());
    let (mut second, third) = (counted.ask(&together, "views"), counted.ask(&together, "views"));
    assert!((&mut second).now_or_never().is_none());
    let waits = tokio::spawn(third);
    drop((first, second));
    counted.gate.add_permits(2);
    assert_eq!(waits.await.unwrap(), 2);
}

#[tokio::test]
async fn work_that_everybody_has_left_is_dropped() {
    let (together, counted) = (Together::default(), Counted::new());
    let mut first = counted.ask(&together, "views");
    assert!((&mut first).now_or_never().is_none());
    let mut second = counted.ask(&together, "views");
    assert!((&mut second).now_or_never().is_none());
    drop((first, second));
    assert_eq!(Arc::strong_count(&counted), 1, "nobody holds the work");
    counted.gate.add_permits(1);
    assert_eq!(counted.ask(&together, "views").await, 2);
}

#[tokio::test]
async fn patience_with_the_work_before_has_an_end() {
    let (together, counted) = (Together::default(), Counted::new());
    let mut hangs = counted.ask(&together, "views");
    assert!((&mut hangs).now_or_never().is_none());
    let patience = Arc::new(Semaphore::new(0));
    let over = Arc::clone(&patience);
    let over = async move { drop(over.acquire().await) };
    let mut next = together.join("views", over, counted.work());
    assert!((&mut next).now_or_never().is_none());
    assert_eq!(counted.begun.load(Ordering::SeqCst), 1);
    patience.add_permits(1);
    assert!((&mut next).now_or_never().is_none());
    assert_eq!(
        counted.begun.load(Ordering::SeqCst),
        2,
        "it begins beside the work that hangs"
    );
    drop(hangs);
    counted.gate.add_permits(1);
    assert_eq!(next.await, 2);
}

#[tokio::test]
async fn keys_that_nobody_waits_for_are_forgotten() {
    let together: Together<usize, usize> = Together::default();
    for key in 0..10 * SWEEP {
        assert_eq!(together.share(key, pending(), async move { key }).await, key);
    }
    assert!(together.latest.lock().len() <= SWEEP);
}
