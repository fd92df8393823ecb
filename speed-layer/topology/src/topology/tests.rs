use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::*;
use crate::{Activity, Bolt, DEFAULT_STREAM, Grouping, MessageId, Output, Spout, SpoutOutput, TopologyBuilder};

/// What a test sees of a spout.
#[derive(Default)]
struct SpoutLog {
    /// Emitted, or about to be.
    begun: AtomicU64,
    emitted: AtomicU64,
    acked: Mutex<Vec<u64>>,
    failed: Mutex<Vec<u64>>,
    closed: AtomicBool,
}

/// Emits 0, 1, 2, … up to `count`, each with its own value as message id.
struct Counter {
    next: u64,
    count: u64,
    log: Arc<SpoutLog>,
}

impl Counter {
    fn new(count: u64, log: &Arc<SpoutLog>) -> Self {
        Self {
            next: 0,
            count,
            log: Arc::clone(log),
        }
    }
}

impl Spout<u64> for Counter {
    fn next_tuple(&mut self, out: &mut SpoutOutput<u64>) -> Result<Activity, BoxError> {
        if self.next == self.count {
            return Ok(Activity::Done);
        }
        self.log.begun.store(self.next + 1, Ordering::SeqCst);
        out.emit(MessageId(self.next), self.next)?;
        self.next += 1;
        self.log.emitted.store(self.next, Ordering::SeqCst);
        Ok(Activity::Busy)
    }
    fn ack(&mut self, message: MessageId) -> Result<(), BoxError> {
        self.log.acked.lock().push(message.0);
        Ok(())
    }
    fn fail(&mut self, message: MessageId) -> Result<(), BoxError> {
        self.log.failed.lock().push(message.0);
        Ok(())
    }
    fn close(&mut self) {
        self.log.closed.store(true, Ordering::SeqCst);
    }
}

/// A bolt from a function.
struct Do<F>(F);

impl<F> Bolt<u64> for Do<F>
where
    F: FnMut(Tuple<u64>, &mut Output<u64>) -> Result<(), BoxError> + Send + 'static,
{
    fn execute(&mut self, tuple: Tuple<u64>, out: &mut Output<u64>) -> Result<(), BoxError> {
        (self.0)(tuple, out)
    }
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "the condition did not come true within two minutes"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

fn sorted(values: &Mutex<Vec<u64>>) -> Vec<u64> {
    let mut values = values.lock().clone();
    values.sort_unstable();
    values
}

type Seen = Arc<Mutex<Vec<(usize, u64)>>>;

/// A bolt that notes (task, value) and acks.
struct Note(usize, Seen);

impl Bolt<u64> for Note {
    fn execute(&mut self, tuple: Tuple<u64>, _: &mut Output<u64>) -> Result<(), BoxError> {
        self.1.lock().push((self.0, *tuple.value()));
        tuple.ack();
        Ok(())
    }
}

fn note(seen: &Seen) -> impl FnMut(usize) -> Note + use<> {
    let seen = Arc::clone(seen);
    move |task| Note(task, Arc::clone(&seen))
}

#[test]
fn drain_loses_nothing_and_acks_everything() {
    let (log, seen) = (Arc::<SpoutLog>::default(), Seen::default());
    let mut builder = TopologyBuilder::new("t").channel_capacity(2);
    let spout_log = Arc::clone(&log);
    builder.spout("numbers", move || Counter::new(u64::MAX, &spout_log));
    builder
        .bolt("double", 3, |_| {
            Do(|tuple: Tuple<u64>, out: &mut Output<u64>| {
                let (value, anchor) = tuple.into_parts();
                out.emit(&anchor, value * 2)?;
                out.emit(&anchor, value * 2 + 1)?;
                anchor.ack();
                Ok(())
            })
        })
        .subscribe("numbers", Grouping::shuffle());
    builder
        .bolt("note", 2, note(&seen))
        .subscribe("double", Grouping::fields(|v| *v));
    let topology = builder.start().unwrap();
    wait_until(|| log.emitted.load(Ordering::SeqCst) > 500);
    topology.stop();
    topology.wait().unwrap();

    let emitted = log.emitted.load(Ordering::SeqCst);
    assert_eq!(sorted(&log.acked), (0..emitted).collect::<Vec<_>>());
    assert_eq!(*log.failed.lock(), Vec::<u64>::new());
    assert!(log.closed.load(Ordering::SeqCst));
    let mut values: Vec<u64> = seen.lock().iter().map(|(_, value)| *value).collect();
    values.sort_unstable();
    assert_eq!(values, (0..2 * emitted).collect::<Vec<_>>());
    assert!(
        seen.lock().iter().all(|(task, value)| *task as u64 == value % 2),
        "fields grouping by value"
    );

    let stats = topology.stats();
    assert_eq!(
        (stats[0].emitted, stats[0].acked, stats[0].failed, stats[0].pending),
        (emitted, emitted, 0, 0)
    );
    assert_eq!(
        (stats[1].executed, stats[1].emitted, stats[1].acked),
        (emitted, 2 * emitted, emitted)
    );
    assert_eq!((stats[2].executed, stats[2].acked), (2 * emitted, 2 * emitted));
}

#[test]
fn a_blocked_bolt_admits_exactly_what_its_inbox_holds() {
    let log = Arc::<SpoutLog>::default();
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    let mut builder = TopologyBuilder::new("t").channel_capacity(5);
    let spout_log = Arc::clone(&log);
    builder.spout("numbers", move || Counter::new(50, &spout_log));
    let bolt_gate = Arc::clone(&gate);
    builder
        .bolt("slow", 1, move |_| {
            let gate = Arc::clone(&bolt_gate);
            Do(move |tuple: Tuple<u64>, _: &mut Output<u64>| {
                drop(gate.lock());
                tuple.ack();
                Ok(())
            })
        })
        .subscribe("numbers", Grouping::global());
    let topology = builder.start().unwrap();
    // One tuple in the bolt's hands and five in its inbox; the spout waits with the seventh.
    wait_until(|| log.begun.load(Ordering::SeqCst) == 7);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(log.emitted.load(Ordering::SeqCst), 6);
    assert_eq!(
        (topology.stats()[1].queue_fill, topology.stats()[1].queue_capacity),
        (5, 5)
    );
    drop(closed);
    topology.wait().unwrap();
    assert_eq!(log.acked.lock().len(), 50);
    assert!(
        topology.stats()[0].blocked_ms > 0,
        "the time the spout was held back is a metric"
    );
}

/// Holds its tuples where the test can reach them; acks what is left in the end.
struct Hold(Arc<Mutex<Vec<Tuple<u64>>>>);

impl Bolt<u64> for Hold {
    fn execute(&mut self, tuple: Tuple<u64>, _: &mut Output<u64>) -> Result<(), BoxError> {
        self.0.lock().push(tuple);
        Ok(())
    }
    fn finish(&mut self, _: &mut Output<u64>) -> Result<(), BoxError> {
        self.0.lock().drain(..).for_each(Tuple::ack);
        Ok(())
    }
}

#[test]
fn max_pending_holds_the_spout_back() {
    let log = Arc::<SpoutLog>::default();
    let held = Arc::new(Mutex::new(Vec::new()));
    let mut builder = TopologyBuilder::new("t");
    let spout_log = Arc::clone(&log);
    builder
        .spout("numbers", move || Counter::new(6, &spout_log))
        .max_pending(4);
    let bolt_held = Arc::clone(&held);
    builder
        .bolt("hold", 1, move |_| Hold(Arc::clone(&bolt_held)))
        .subscribe("numbers", Grouping::shuffle());
    let topology = builder.start().unwrap();
    wait_until(|| held.lock().len() == 4);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(log.emitted.load(Ordering::SeqCst), 4);
    assert_eq!(topology.stats()[0].pending, 4);
    // All four under one lock: the bolt must not come to its end while one of them is still to be acked here.
    held.lock().drain(..).for_each(Tuple::ack);
    topology.wait().unwrap();
    assert_eq!(log.acked.lock().len(), 6);
}

#[test]
fn each_pair_of_sender_and_receiver_keeps_its_order() {
    let (log, seen) = (Arc::<SpoutLog>::default(), Seen::default());
    let mut builder = TopologyBuilder::new("t").channel_capacity(3);
    let spout_log = Arc::clone(&log);
    builder.spout("numbers", move || Counter::new(3_000, &spout_log));
    builder
        .bolt("pass", 3, |_| {
            Do(|tuple: Tuple<u64>, out: &mut Output<u64>| {
                let (value, anchor) = tuple.into_parts();
                out.emit(&anchor, value)?;
                anchor.ack();
                Ok(())
            })
        })
        .subscribe("numbers", Grouping::fields(|v| v % 3));
    builder
        .bolt("note", 2, note(&seen))
        .subscribe("pass", Grouping::shuffle());
    builder.start().unwrap().wait().unwrap();
    let mut last = BTreeMap::new();
    for (receiver, value) in seen.lock().iter() {
        let before = last.insert((value % 3, *receiver), *value);
        assert!(before.is_none_or(|before| before < *value), "{before:?} before {value}");
    }
    assert_eq!(seen.lock().len(), 3_000);
}

#[test]
fn a_failed_or_dropped_tuple_fails_its_message() {
    let log = Arc::<SpoutLog>::default();
    let mut builder = TopologyBuilder::new("t");
    let spout_log = Arc::clone(&log);
    builder.spout("numbers", move || Counter::new(9, &spout_log));
    builder
        .bolt("choose", 1, |_| {
            Do(|tuple: Tuple<u64>, _: &mut Output<u64>| {
                match tuple.value() % 3 {
                    0 => tuple.ack(),
                    1 => tuple.fail(),
                    _ => drop(tuple),
                }
                Ok(())
            })
        })
        .subscribe("numbers", Grouping::global());
    let topology = builder.start().unwrap();
    topology.wait().unwrap();
    assert_eq!(sorted(&log.acked), [0, 3, 6]);
    assert_eq!(sorted(&log.failed), [1, 2, 4, 5, 7, 8]);
    assert_eq!((topology.stats()[0].failed, topology.stats()[1].failed), (6, 6));
}

#[test]
fn a_joined_tuple_acks_every_message_it_was_made_of() {
    struct Pairs(Vec<crate::Anchor>);
    impl Bolt<u64> for Pairs {
        fn execute(&mut self, tuple: Tuple<u64>, out: &mut Output<u64>) -> Result<(), BoxError> {
            self.0.push(tuple.into_parts().1);
            if self.0.len() == 2 {
                let anchor = crate::Anchor::join(self.0.drain(..));
                out.emit(&anchor, 0)?;
                anchor.ack();
            }
            Ok(())
        }
    }
    let log = Arc::<SpoutLog>::default();
    let count = Arc::new(AtomicU64::new(0));
    let mut builder = TopologyBuilder::new("t");
    let spout_log = Arc::clone(&log);
    builder.spout("numbers", move || Counter::new(6, &spout_log));
    builder
        .bolt("pairs", 1, |_| Pairs(Vec::new()))
        .subscribe("numbers", Grouping::global());
    let counted = Arc::clone(&count);
    builder
        .bolt("end", 1, move |_| {
            let counted = Arc::clone(&counted);
            Do(move |tuple: Tuple<u64>, _: &mut Output<u64>| {
                // The second of three pairs fails, and with it both its messages.
                if counted.fetch_add(1, Ordering::SeqCst) == 1 {
                    tuple.fail()
                } else {
                    tuple.ack()
                }
                Ok(())
            })
        })
        .subscribe("pairs", Grouping::global());
    builder.start().unwrap().wait().unwrap();
    assert_eq!(sorted(&log.acked), [0, 1, 4, 5]);
    assert_eq!(sorted(&log.failed), [2, 3]);
}

#[test]
fn a_named_stream_reaches_only_its_subscribers_and_all_reaches_every_task() {
    let (log, odd, even) = (Arc::<SpoutLog>::default(), Seen::default(), Seen::default());
    let mut builder = TopologyBuilder::new("t");
    let spout_log = Arc::clone(&log);
    builder.spout("numbers", move || Counter::new(10, &spout_log));
    builder
        .bolt("sieve", 1, |_| {
            Do(|tuple: Tuple<u64>, out: &mut Output<u64>| {
                let (value, anchor) = tuple.into_parts();
                let stream = if value % 2 == 1 { "odd" } else { DEFAULT_STREAM };
                out.emit_to(stream, &anchor, value)?;
                anchor.ack();
                Ok(())
            })
        })
        .stream("odd")
        .subscribe("numbers", Grouping::global());
    builder
        .bolt("odds", 3, note(&odd))
        .subscribe_to("sieve", "odd", Grouping::all());
    builder
        .bolt("evens", 2, note(&even))
        .subscribe("sieve", Grouping::split(|value, _| Ok(vec![value, value + 100])));
    builder.start().unwrap().wait().unwrap();
    let odd = odd.lock();
    for task in 0..3 {
        let values: Vec<u64> = odd.iter().filter(|(t, _)| *t == task).map(|(_, v)| *v).collect();
        assert_eq!(values, [1, 3, 5, 7, 9]);
    }
    let mut even = even.lock().clone();
    even.sort_unstable();
    let expected: Vec<_> = [0, 2, 4, 6, 8]
        .map(|v| (0, v))
        .into_iter()
        .chain([0, 2, 4, 6, 8].map(|v| (1, v + 100)))
        .collect();
    assert_eq!(even, expected);
    assert_eq!(log.acked.lock().len(), 10);
}

fn failing(kind: &'static str) -> (Error, Arc<SpoutLog>) {
    let log = Arc::<SpoutLog>::default();
    let mut builder = TopologyBuilder::new("t").channel_capacity(1);
    let spout_log = Arc::clone(&log);
    builder.spout("numbers", move || Counter::new(u64::MAX, &spout_log));
    builder
        .bolt("fragile", 2, move |_| {
            Do(move |tuple: Tuple<u64>, _: &mut Output<u64>| match tuple.value() {
                41 if kind == "panic" => panic!("value {} is too much", tuple.value()),
                41 => Err("forty-one".into()),
                _ => {
                    tuple.ack();
                    Ok(())
                }
            })
        })
        .subscribe("numbers", Grouping::shuffle());
    (builder.start().unwrap().wait().unwrap_err(), log)
}

#[test]
fn an_error_stops_the_topology_and_names_the_component() {
    let (error, log) = failing("error");
    assert_eq!(error.to_string(), "topology t: fragile (task 1) failed: forty-one");
    assert!(log.emitted.load(Ordering::SeqCst) < 60, "the endless spout was stopped");
}

#[test]
fn a_panic_stops_the_topology_and_names_the_component() {
    let (error, _) = failing("panic");
    assert!(matches!(&error, Error::Panicked { component, message, .. }
        if component == "fragile" && message == "value 41 is too much"));
}

#[test]
fn kill_ends_tasks_that_wait() {
    let log = Arc::<SpoutLog>::default();
    let mut builder = TopologyBuilder::new("t").channel_capacity(1);
    let spout_log = Arc::clone(&log);
    builder
        .spout("numbers", move || Counter::new(u64::MAX, &spout_log))
        .max_pending(3);
    let held = Arc::new(Mutex::new(Vec::new()));
    let bolt_held = Arc::clone(&held);
    builder
        .bolt("hold", 1, move |_| Hold(Arc::clone(&bolt_held)))
        .subscribe("numbers", Grouping::shuffle());
    let topology = builder.start().unwrap();
    wait_until(|| held.lock().len() == 3);
    topology.kill();
    assert!(matches!(topology.wait(), Err(Error::Killed { .. })));
    assert_eq!(*log.acked.lock(), Vec::<u64>::new());
}

#[test]
fn a_bolt_is_woken_at_the_time_it_names_also_under_load() {
    struct Ticking(Instant, Arc<AtomicU64>);
    impl Bolt<u64> for Ticking {
        fn execute(&mut self, tuple: Tuple<u64>, _: &mut Output<u64>) -> Result<(), BoxError> {
            thread::sleep(Duration::from_millis(1));
            tuple.ack();
            Ok(())
        }
        fn wake_at(&self) -> Option<Instant> {
            Some(self.0)
        }
        fn wake(&mut self, _: &mut Output<u64>) -> Result<(), BoxError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0 = Instant::now() + Duration::from_millis(20);
            Ok(())
        }
    }
    let (log, wakes) = (Arc::<SpoutLog>::default(), Arc::new(AtomicU64::new(0)));
    let mut builder = TopologyBuilder::new("t");
    let spout_log = Arc::clone(&log);
    builder.spout("numbers", move || Counter::new(u64::MAX, &spout_log));
    let bolt_wakes = Arc::clone(&wakes);
    builder
        .bolt("ticking", 1, move |_| Ticking(Instant::now(), Arc::clone(&bolt_wakes)))
        .subscribe("numbers", Grouping::shuffle());
    let topology = builder.start().unwrap();
    wait_until(|| wakes.load(Ordering::SeqCst) >= 5);
    topology.stop();
    topology.wait().unwrap();
}

#[test]
fn wrong_graphs_are_refused() {
    let log = Arc::<SpoutLog>::default();
    let refused = |build: &dyn Fn(&mut TopologyBuilder<u64>)| {
        let mut builder = TopologyBuilder::new("t");
        let log = Arc::clone(&log);
        builder.spout("numbers", move || Counter::new(1, &log));
        build(&mut builder);
        builder.start().err().expect("the graph is refused").to_string()
    };
    let nothing = || {
        Do(|tuple: Tuple<u64>, _: &mut Output<u64>| {
            tuple.ack();
            Ok(())
        })
    };
    let unconnected = refused(&|b| {
        b.bolt("a", 1, move |_| nothing());
    });
    assert!(unconnected.contains("subscribes to nothing"), "{unconnected}");
    for (name, tasks, upstream, stream, reason) in [
        ("a", 1, "b", DEFAULT_STREAM, "not declared before it"),
        ("a", 1, "a", DEFAULT_STREAM, "not declared before it"),
        ("a", 1, "numbers", "x", "does not declare"),
        ("numbers", 1, "numbers", DEFAULT_STREAM, "two components"),
        ("a", 0, "numbers", DEFAULT_STREAM, "at least 1"),
    ] {
        let error = refused(&|b| {
            b.bolt(name, tasks, move |_| nothing())
                .subscribe_to(upstream, stream, Grouping::shuffle());
        });
        assert!(error.contains(reason), "{error}");
    }
}
