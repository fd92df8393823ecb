use std::future::{pending, ready};

use tokio::sync::{mpsc, oneshot};

use super::*;

/// What was asked for, and how to end that read.
type Asked = (Vec<u32>, oneshot::Sender<()>);

/// Somebody who reads slowly, and tells what was asked for.
struct Reader {
    pooled: Arc<Pooled<u32, Vec<u32>>>,
    began: mpsc::UnboundedSender<Asked>,
}

impl Reader {
    fn new() -> (Self, mpsc::UnboundedReceiver<Asked>) {
        let (began, reads) = mpsc::unbounded_channel();
        let pooled = Arc::default();
        (Self { pooled, began }, reads)
    }

    /// Asks; the read ends when the test says so.
    fn ask(&self, value: u32) -> Read<Vec<u32>> {
        self.ask_within(value, pending())
    }

    fn ask_within(&self, value: u32, patience: impl Future<Output = ()> + Send + 'static) -> Read<Vec<u32>> {
        let began = self.began.clone();
        self.pooled.join(value, patience, async move |values| {
            let (end, ended) = oneshot::channel();
            began.send((values.clone(), end)).unwrap();
            ended.await.unwrap();
            values
        })
    }
}

#[tokio::test]
async fn whoever_asks_meanwhile_is_served_by_the_next_read() {
    let (reader, mut reads) = Reader::new();
    let first = tokio::spawn(reader.ask(1));
    let (asked, end) = reads.recv().await.unwrap();
    assert_eq!(asked, [1]);
    let others: Vec<_> = (2..5).map(|value| tokio::spawn(reader.ask(value))).collect();
    end.send(()).unwrap();
    assert_eq!(first.await.unwrap(), [1]);
    let (asked, end) = reads.recv().await.unwrap();
    assert_eq!(asked, [2, 3, 4]);
    end.send(()).unwrap();
    for other in others {
        assert_eq!(other.await.unwrap(), [2, 3, 4]);
    }
    // All is over: the next one waits for nobody.
    let last = tokio::spawn(reader.ask(9));
    let (asked, end) = reads.recv().await.unwrap();
    assert_eq!(asked, [9]);
    end.send(()).unwrap();
    assert_eq!(last.await.unwrap(), [9]);
}

#[tokio::test]
async fn a_read_goes_on_without_who_asked_first_and_ends_with_who_asked_last() {
    let (reader, mut reads) = Reader::new();
    let (first, second) = (reader.ask(1), reader.ask(2));
    drop(first);
    let second = tokio::spawn(second);
    let (asked, end) = reads.recv().await.unwrap();
    assert_eq!(asked, [1, 2]);
    end.send(()).unwrap();
    assert_eq!(second.await.unwrap(), [1, 2]);

    let alone = tokio::spawn(reader.ask(3));
    let (_, mut end) = reads.recv().await.unwrap();
    alone.abort();
    end.closed().await;
}

#[tokio::test]
async fn a_slow_read_holds_up_nobody_for_longer_than_their_patience() {
    let (reader, mut reads) = Reader::new();
    let slow = tokio::spawn(reader.ask(1));
    let (_, end_slow) = reads.recv().await.unwrap();
    let quick = tokio::spawn(reader.ask_within(2, ready(())));
    let (asked, end) = reads.recv().await.unwrap();
    assert_eq!(asked, [2]);
    end.send(()).unwrap();
    assert_eq!(quick.await.unwrap(), [2]);
    end_slow.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), [1]);
}

#[tokio::test]
async fn one_read_serves_so_many_and_no_more() {
    let (reader, mut reads) = Reader::new();
    let all: Vec<_> = (0..MOST as u32 + 1)
        .map(|value| tokio::spawn(reader.ask(value)))
        .collect();
    for expected in [MOST, 1] {
        let (asked, end) = reads.recv().await.unwrap();
        assert_eq!(asked.len(), expected);
        end.send(()).unwrap();
    }
    for one in all {
        one.await.unwrap();
    }
}
