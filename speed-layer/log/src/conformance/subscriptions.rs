//! The part of the suite that is about subscriptions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anabranch_model::{ErrorKind, Offset, OffsetVector, PartitionId};

use super::{Factory, PATIENCE, append_all, check_batch, plain, record_for, text, wide};
use crate::{LogEvent, PartitionedLog, Subscription};

/// A subscription on its own thread's terms: what the checks below drive.
struct Member {
    subscription: Box<dyn Subscription>,
    owned: BTreeSet<PartitionId>,
    lost: BTreeSet<PartitionId>,
    next: BTreeMap<PartitionId, Offset>,
    records: BTreeMap<PartitionId, Vec<String>>,
}

impl Member {
    async fn join(log: &dyn PartitionedLog, group: &str) -> Self {
        let subscription = log.subscribe(group).await.expect("subscribing");
        let (owned, lost) = Default::default();
        Self {
            subscription,
            owned,
            lost,
            next: BTreeMap::new(),
            records: BTreeMap::new(),
        }
    }

    /// Polls once, releasing what is revoked; starts assigned partitions at `start` if that is given.
    fn step(&mut self, wait: Duration, start: Option<Offset>) {
        match self.subscription.poll(wide(wait)).expect("polling") {
            None => {}
            Some(LogEvent::Assigned(partitions)) => {
                for partition in partitions {
                    assert!(self.owned.insert(partition), "{partition} is assigned twice");
                    if let Some(from) = start {
                        self.start(partition, from);
                    }
                }
            }
            Some(LogEvent::Revoked { partitions, lost }) => {
                if !lost {
                    self.subscription.release(&partitions).expect("releasing");
                }
                for partition in partitions {
                    assert!(
                        self.owned.remove(&partition),
                        "{partition} is revoked without having been assigned"
                    );
                    self.next.remove(&partition);
                    self.lost.insert(partition);
                }
            }
            Some(LogEvent::Batch(batch)) => {
                check_batch(&batch);
                let next = self.next.insert(batch.partition, batch.range.end);
                assert_eq!(
                    next,
                    Some(batch.range.start),
                    "partition {}: ranges meet",
                    batch.partition
                );
                self.records.entry(batch.partition).or_default().extend(text(&batch));
            }
            Some(event @ LogEvent::OutOfRange { .. }) => panic!("everything is held, but: {event:?}"),
        }
    }

    /// What the group says of a partition.
    fn confirmed(&mut self, partition: PartitionId) -> bool {
        let begun = Instant::now();
        loop {
            if let Some(ours) = self.subscription.confirm(partition).expect("asking") {
                return ours;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody says whose {partition} is");
            self.step(Duration::from_millis(20), None);
        }
    }

    fn start(&mut self, partition: PartitionId, from: Offset) {
        self.subscription.start(partition, from).expect("starting");
        self.next.insert(partition, from);
    }

    fn until(&mut self, what: &str, start: Option<Offset>, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain for: {what}; has {:?}",
                self.owned
            );
            self.step(Duration::from_millis(200), start);
        }
    }

    fn count(&self) -> usize {
        self.records.values().map(Vec::len).sum()
    }
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Nothing before `start`, everything from there on, again after another `start`.
pub async fn a_subscription_delivers_from_where_it_is_started(factory: &Factory<'_>) {
    let log = factory(2).await;
    let (zero, one) = (PartitionId(0), PartitionId(1));
    append_all(
        &*log,
        (0..10).map(|n| record_for(zero, 2, format!("zero {n}"))).collect(),
    )
    .await;
    append_all(&*log, (0..10).map(|n| record_for(one, 2, format!("one {n}"))).collect()).await;
    let mut member = Member::join(&*log, "starts").await;
    on_thread(move || {
        member.until("both partitions", None, |member| member.owned.len() == 2);
        for _ in 0..3 {
            member.step(Duration::from_millis(100), None);
        }
        assert_eq!(member.count(), 0, "nothing is delivered before start");
        member.start(zero, Offset(4));
        member.until("partition 0", None, |member| member.count() == 6);
        assert_eq!(
            member.records[&zero],
            (4..10).map(|n| format!("zero {n}")).collect::<Vec<_>>()
        );
        member.start(one, Offset(0));
        member.until("partition 1", None, |member| member.count() == 16);
        member.start(zero, Offset(8));
        member.until("partition 0 again", None, |member| member.count() == 18);
        assert_eq!(member.records[&zero][6..], ["zero 8", "zero 9"]);
        member.step(Duration::from_millis(100), None);
        assert_eq!(member.count(), 18);
        let mut landed = OffsetVector::new();
        landed.set(zero, Offset(10));
        member.subscription.landed(&landed);
        assert!(member.confirmed(zero), "the group says so too");
        assert!(
            member.confirmed(zero) && member.confirmed(one),
            "each time it is asked, of each"
        );
        assert!(!member.confirmed(PartitionId(2)), "there is no such partition");
    })
    .await;
}

/// A paused partition is silent, the others go on; it resumes where it stopped.
pub async fn a_subscription_pauses_and_resumes(factory: &Factory<'_>) {
    let log = factory(2).await;
    let (zero, one) = (PartitionId(0), PartitionId(1));
    let mut member = Member::join(&*log, "pauses").await;
    let mut member = on_thread(move || {
        member.until("both partitions", Some(Offset(0)), |member| member.owned.len() == 2);
        member
    })
    .await;
    append_all(&*log, vec![record_for(zero, 2, "zero 0")]).await;
    let mut member = on_thread(move || {
        member.until("the first record", None, |member| member.count() == 1);
        member.subscription.pause(zero).expect("pausing");
        member.subscription.pause(zero).expect("pausing twice is pausing");
        member
    })
    .await;
    append_all(
        &*log,
        (1..4).map(|n| record_for(zero, 2, format!("zero {n}"))).collect(),
    )
    .await;
    append_all(&*log, vec![record_for(one, 2, "one 0")]).await;
    on_thread(move || {
        member.until("the other partition", None, |member| member.records.contains_key(&one));
        member.step(Duration::from_millis(300), None);
        assert_eq!(member.records[&zero], ["zero 0"], "a paused partition is silent");
        member.subscription.resume(zero).expect("resuming");
        member.until("the paused records", None, |member| member.count() == 5);
        assert_eq!(member.records[&zero], ["zero 0", "zero 1", "zero 2", "zero 3"]);
    })
    .await;
}

/// Offsets that are not held and partitions that are not assigned are refused by `start`.
pub async fn a_subscription_refuses_what_it_cannot_deliver(factory: &Factory<'_>) {
    let log = factory(1).await;
    append_all(&*log, vec![plain("only")]).await;
    let mut member = Member::join(&*log, "refusals").await;
    on_thread(move || {
        member.until("the partition", None, |member| member.owned.len() == 1);
        let error = member
            .subscription
            .start(PartitionId(0), Offset(5))
            .expect_err("beyond the end");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        let message = error.to_string();
        assert!(
            message.contains("partition 0") && message.contains("offset 5"),
            "{message}"
        );
        assert!(
            member.subscription.start(PartitionId(3), Offset(0)).is_err(),
            "a partition that is not assigned"
        );
        assert!(member.subscription.pause(PartitionId(3)).is_err());
        member.start(PartitionId(0), Offset(0));
        member.until("the record", None, |member| member.count() == 1);
    })
    .await;
}

/// An event that no timer holds up is there by then.
const SOON: Duration = Duration::from_millis(50);

/// A batch within milliseconds of its append, from every partition. One in time shows that no timer is in the way, whatever
/// else the machine does.
pub async fn a_subscription_delivers_soon_and_fairly(factory: &Factory<'_>) {
    let log = factory(3).await;
    let mut member = Member::join(&*log, "soon").await;
    let mut member = on_thread(move || {
        member.until("all partitions", Some(Offset(0)), |member| member.owned.len() == 3);
        member
    })
    .await;
    let (begun, mut soonest, mut n) = (Instant::now(), Duration::MAX, 0);
    while n < 30 || (soonest >= SOON && begun.elapsed() < PATIENCE) {
        append_all(&*log, vec![record_for(PartitionId(n % 3), 3, n.to_string())]).await;
        let appended = Instant::now();
        member = on_thread(move || {
            member.until("the record", None, |member| member.count() == n as usize + 1);
            member
        })
        .await;
        soonest = soonest.min(appended.elapsed());
        n += 1;
    }
    assert!(soonest < SOON, "no record was there before {soonest:?}");
    let counts: Vec<usize> = member.records.values().map(Vec::len).collect();
    assert!(
        counts.len() == 3 && counts.iter().all(|count| *count >= 10),
        "{counts:?}"
    );
}

/// At each moment each partition has one owner at most; in the end each has one, and the newcomer has some.
pub async fn a_second_member_takes_over_without_overlap(factory: &Factory<'_>) {
    let log = factory(4).await;
    for n in 0..4 {
        append_all(&*log, vec![record_for(PartitionId(n), 4, format!("of {n}"))]).await;
    }
    let mut first = Member::join(&*log, "pair").await;
    let first = on_thread(move || {
        first.until("all partitions", Some(Offset(0)), |member| {
            member.owned.len() == 4 && member.count() == 4
        });
        first
    })
    .await;
    let second = Member::join(&*log, "pair").await;
    on_thread(move || {
        let (mut first, mut second) = (first, second);
        let begun = Instant::now();
        while first.owned.len() + second.owned.len() < 4 || second.owned.is_empty() {
            assert!(
                begun.elapsed() < PATIENCE,
                "first has {:?}, second has {:?}",
                first.owned,
                second.owned
            );
            first.step(Duration::from_millis(50), Some(Offset(0)));
            second.step(Duration::from_millis(50), Some(Offset(0)));
            assert!(
                first.owned.is_disjoint(&second.owned),
                "{:?} and {:?}",
                first.owned,
                second.owned
            );
        }
        assert!(!first.lost.is_empty());
        for (partition, member) in (0..4).map(PartitionId).flat_map(|p| [(p, 0), (p, 1)]) {
            let member = if member == 0 { &mut first } else { &mut second };
            let owned = member.owned.contains(&partition);
            assert_eq!(member.confirmed(partition), owned, "{partition}");
        }
        second.until("its records", Some(Offset(0)), |member| {
            member.count() >= member.owned.len()
        });
    })
    .await;
}
