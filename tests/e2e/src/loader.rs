//! A producer at a steady rate, in a thread of the test's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anabranch_log::{KafkaLog, PartitionedLog};
use anabranch_model::RawRecord;

use crate::orders::Orders;
use crate::runtime::block_on;

/// Between two sends.
const TICK: Duration = Duration::from_millis(50);

/// Produces orders to a Kafka topic until it is told to stop. What Kafka does not acknowledge may be in the log or not: the log
/// is the truth.
pub struct Loader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Loader {
    /// The topic must exist.
    ///
    /// # Panics
    /// When Kafka does not answer.
    pub fn start(properties: &BTreeMap<String, String>, topic: &str, mut orders: Orders, per_second: u32) -> Self {
        let log = block_on(KafkaLog::connect(properties, topic, None)).expect("the topic is there");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let produce = move || {
            let (began, mut sent, mut acknowledged) = (Instant::now(), 0, 0);
            while !stopped.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
                // After an outage the rate goes on; what was missed is not made up for.
                let count = due.saturating_sub(sent).min(u64::from(per_second));
                sent = due;
                let records: Vec<RawRecord> = (0..count)
                    .map(|_| {
                        let order = orders.make();
                        RawRecord {
                            key: Some(order.customer.into_bytes()),
                            payload: Some(order.line.into_bytes()),
                            ..RawRecord::default()
                        }
                    })
                    .collect();
                if block_on(log.append(records)).is_ok() {
                    acknowledged += count;
                }
                std::thread::sleep(TICK);
            }
            acknowledged
        };
        Self {
            stop,
            thread: std::thread::spawn(produce),
        }
    }

    /// Stops; returns how many events were acknowledged.
    ///
    /// # Panics
    /// When the thread did.
    pub fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("producing does not panic")
    }
}
