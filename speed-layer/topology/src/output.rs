use std::sync::Arc;

use crate::channel::Sender;
use crate::grouping::{Kind, Route};
use crate::ledger::Ledger;
use crate::stats::Counters;
use crate::{Anchor, EmitError, MessageId, Tuple};

/// The stream every component has.
pub const DEFAULT_STREAM: &str = "default";

/// Where a bolt's task emits to.
pub struct Output<T> {
    pub(crate) component: Arc<str>,
    pub(crate) task: usize,
    pub(crate) counters: Arc<Counters>,
    pub(crate) streams: Vec<Stream<T>>,
}

/// One declared stream of a task, and who subscribes to it.
pub(crate) struct Stream<T> {
    pub(crate) name: Arc<str>,
    pub(crate) subscribers: Vec<Subscriber<T>>,
}

pub(crate) struct Subscriber<T> {
    pub(crate) component: Arc<str>,
    pub(crate) grouping: Kind<T>,
    pub(crate) turn: usize,
    /// One inbox per task.
    pub(crate) inboxes: Vec<Sender<Tuple<T>>>,
    pub(crate) counters: Arc<Counters>,
}

impl<T: Clone> Output<T> {
    /// Emits to the default stream, in the trees of `anchor`. Waits while a receiver's inbox is full.
    ///
    /// # Errors
    /// When the topology is being killed, or the subscriber's grouping fails.
    pub fn emit(&mut self, anchor: &Anchor, value: T) -> Result<(), EmitError> {
        self.emit_to(DEFAULT_STREAM, anchor, value)
    }

    /// Emits to a stream this component has declared. A stream without subscribers swallows its tuples.
    ///
    /// # Errors
    /// As [`emit`](Self::emit), and when the stream is not declared.
    pub fn emit_to(&mut self, stream: &str, anchor: &Anchor, value: T) -> Result<(), EmitError> {
        let Some(stream) = self.streams.iter_mut().find(|s| *s.name == *stream) else {
            return Err(EmitError::UnknownStream(stream.to_owned()));
        };
        let Some((last, others)) = stream.subscribers.split_last_mut() else {
            return Ok(());
        };
        let from = Origin {
            component: &self.component,
            task: self.task,
            stream: &stream.name,
            counters: &self.counters,
        };
        for subscriber in others {
            subscriber.deliver(&from, anchor, value.clone())?;
        }
        last.deliver(&from, anchor, value)
    }

    pub(crate) fn has_room(&self) -> bool {
        let mut inboxes = self
            .streams
            .iter()
            .flat_map(|s| &s.subscribers)
            .flat_map(|s| &s.inboxes);
        inboxes.all(Sender::has_room)
    }
}

struct Origin<'a> {
    component: &'a Arc<str>,
    task: usize,
    stream: &'a Arc<str>,
    counters: &'a Counters,
}

impl<T: Clone> Subscriber<T> {
    fn deliver(&mut self, from: &Origin<'_>, anchor: &Anchor, value: T) -> Result<(), EmitError> {
        let tasks = self.inboxes.len();
        let route = self
            .grouping
            .route(value, tasks, from.task, &mut self.turn)
            .map_err(|source| EmitError::Grouping {
                subscriber: self.component.to_string(),
                source,
            })?;
        match route {
            Route::One(task, value) => self.send(from, anchor, task, value),
            Route::All(value) => {
                for task in 1..tasks {
                    self.send(from, anchor, task, value.clone())?;
                }
                self.send(from, anchor, 0, value)
            }
            Route::Parts(parts) => {
                if parts.len() != tasks {
                    return Err(EmitError::Parts {
                        subscriber: self.component.to_string(),
                        parts: parts.len(),
                        tasks,
                    });
                }
                parts
                    .into_iter()
                    .enumerate()
                    .try_for_each(|(task, part)| self.send(from, anchor, task, part))
            }
        }
    }

    fn send(&self, from: &Origin<'_>, anchor: &Anchor, task: usize, value: T) -> Result<(), EmitError> {
        let anchor = anchor.child(&self.counters);
        let tuple = Tuple::new(value, anchor, Arc::clone(from.component), Arc::clone(from.stream));
        let blocked = self.inboxes[task].send(tuple).map_err(|_killed| EmitError::Stopped)?;
        from.counters.add_blocked(blocked);
        from.counters.add_emitted();
        Ok(())
    }
}

/// Where a spout's task emits to.
pub struct SpoutOutput<T> {
    pub(crate) output: Output<T>,
    pub(crate) ledger: Arc<Ledger>,
}

impl<T: Clone> SpoutOutput<T> {
    /// Emits to the default stream; the spout hears of `message` when its tree has ended.
    ///
    /// # Errors
    /// As [`Output::emit`].
    pub fn emit(&mut self, message: MessageId, value: T) -> Result<(), EmitError> {
        self.emit_to(DEFAULT_STREAM, message, value)
    }

    /// Emits to a stream this spout has declared.
    ///
    /// # Errors
    /// As [`Output::emit_to`].
    pub fn emit_to(&mut self, stream: &str, message: MessageId, value: T) -> Result<(), EmitError> {
        let anchor = Anchor::root(&self.ledger, message);
        self.output.emit_to(stream, &anchor, value)?;
        anchor.ack();
        Ok(())
    }

    /// Emits a tuple nobody waits for.
    ///
    /// # Errors
    /// As [`Output::emit`].
    pub fn emit_unanchored(&mut self, value: T) -> Result<(), EmitError> {
        self.output.emit(&Anchor::none(), value)
    }

    /// Whether every receiver has room now, so that a tuple for each could be emitted without waiting. For a spout that
    /// must not block, because it has a group membership to keep alive.
    pub fn has_room(&self) -> bool {
        self.output.has_room()
    }

    /// Messages that have not ended yet.
    pub fn pending(&self) -> usize {
        self.ledger.open()
    }
}
