//! Gathers decoded ranges of all owned partitions and closes landings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_model::crash_point;
use anabranch_topology::{Anchor, Bolt, BoxError, Output, Tuple};
use tokio::sync::mpsc::error::TrySendError;

use super::close::{Close, Limits, Open, decide};
use super::pipeline::{Entry, Job, Pipeline};
use crate::message::Message;
use crate::source::SourceLayer;

/// How soon to look again when the pipeline has no room for a landing that could be closed.
const NO_ROOM_WAIT: Duration = Duration::from_millis(20);

pub(crate) struct LandBolt {
    layer: Arc<SourceLayer>,
    limits: Limits,
    open: Vec<Entry>,
    open_bytes: usize,
    open_since: Option<Instant>,
    flush: bool,
    retry_at: Option<Instant>,
    pipeline: Option<Pipeline>,
}

impl LandBolt {
    pub(crate) fn new(layer: Arc<SourceLayer>) -> Self {
        let landing = &layer.settings.landing;
        let limits = Limits {
            max_age: *landing.max_age,
            max_bytes: usize::try_from(landing.max_bytes.get()).unwrap_or(usize::MAX),
        };
        let pipeline = Some(Pipeline::start(Arc::clone(&layer)));
        Self {
            layer,
            limits,
            open: Vec::new(),
            open_bytes: 0,
            open_since: None,
            flush: false,
            retry_at: None,
            pipeline,
        }
    }

    fn gather(&mut self, entry: Entry, now: Instant) {
        entry.state.gather(entry.range.end);
        self.open_bytes += entry.bytes;
        self.open_since.get_or_insert(now);
        self.open.push(entry);
    }

    fn close_if_due(&mut self, now: Instant) -> Result<(), BoxError> {
        let age = self.open_since.map(|since| now.saturating_duration_since(since));
        let close = decide(
            Open {
                age,
                bytes: self.open_bytes,
                flush: self.flush,
            },
            self.limits,
        );
        self.retry_at = None;
        match close {
            Close::No => {
                // Whatever was to be flushed has been landed or is on its way.
                self.flush &= age.is_some();
                Ok(())
            }
            Close::IfRoom => self.close(false, now),
            Close::Now => self.close(true, now),
        }
    }

    fn close(&mut self, wait: bool, now: Instant) -> Result<(), BoxError> {
        let jobs = self
            .pipeline
            .as_ref()
            .map(Pipeline::jobs)
            .ok_or("the landing pipeline has ended")?;
        let permit = if wait {
            self.layer
                .runtime
                .block_on(jobs.reserve())
                .map_err(|_| "the landing pipeline has ended")?
        } else {
            match jobs.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => {
                    self.retry_at = Some(now + NO_ROOM_WAIT);
                    return Ok(());
                }
                Err(TrySendError::Closed(())) => return Err("the landing pipeline has ended".into()),
            }
        };
        let entries = std::mem::take(&mut self.open);
        // The boundary comes before the landing starts: no run may ever reach across it.
        crash_point!("seal.before");
        for entry in last_of_each(&entries) {
            entry.state.seal(entry.range.end, now);
        }
        crash_point!("seal.after");
        permit.send(Job {
            entries,
            closed_at: now,
        });
        self.open_bytes = 0;
        self.open_since = None;
        self.flush = false;
        Ok(())
    }
}

/// The last entry of each partition state.
fn last_of_each(entries: &[Entry]) -> Vec<&Entry> {
    let mut last: Vec<&Entry> = Vec::new();
    for entry in entries.iter().rev() {
        if !last.iter().any(|seen| Arc::ptr_eq(&seen.state, &entry.state)) {
            last.push(entry);
        }
    }
    last
}

impl Bolt<Message> for LandBolt {
    fn execute(&mut self, tuple: Tuple<Message>, _out: &mut Output<Message>) -> Result<(), BoxError> {
        let (message, anchor) = tuple.into_parts();
        let now = self.layer.environment().instant();
        match message {
            Message::Decoded(decoded) if !decoded.state.is_live() => anchor.fail(),
            Message::Decoded(decoded) => {
                let entry = Entry::new(decoded, anchor, &self.layer.facts.landing_bytes);
                self.gather(entry, now);
            }
            Message::Flush(_) => {
                self.flush = true;
                Anchor::ack(anchor);
            }
            other => return Err(format!("a {} tuple cannot be landed", other.kind()).into()),
        }
        self.close_if_due(now)
    }

    fn wake_at(&self) -> Option<Instant> {
        self.retry_at
            .or_else(|| self.open_since.map(|since| since + self.limits.max_age))
    }

    fn wake(&mut self, _out: &mut Output<Message>) -> Result<(), BoxError> {
        self.close_if_due(self.layer.environment().instant())
    }

    /// Lands what is open, and waits until everything is landed or given up.
    fn finish(&mut self, _out: &mut Output<Message>) -> Result<(), BoxError> {
        if !self.open.is_empty() {
            self.close(true, self.layer.environment().instant())?;
        }
        if let Some(pipeline) = self.pipeline.take() {
            self.layer.runtime.block_on(pipeline.finish());
        }
        Ok(())
    }
}
