use std::time::{Duration, Instant};

use crate::{BoxError, Output, SpoutOutput, Tuple};

/// A spout's own name for a message, given back in [`Spout::ack`] and [`Spout::fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Which task of which component this is.
#[derive(Clone, Debug)]
pub struct TaskContext {
    pub topology: String,
    pub component: String,
    /// Counted from 0.
    pub task: usize,
    pub tasks: usize,
}

/// What a spout did when asked for a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Emitted something, or waited inside: ask again at once.
    Busy,
    /// Has nothing now: ask again after this long, or when a message ends.
    Idle(Duration),
    /// Has nothing ever again. The topology drains when every spout is done.
    Done,
}

/// A source of tuples. All calls come from one thread, the task's own.
///
/// An error or a panic kills the topology.
pub trait Spout<T>: Send + 'static {
    /// Called once, before anything else.
    fn open(&mut self, _context: &TaskContext) -> Result<(), BoxError> {
        Ok(())
    }

    /// Emits what there is. May wait, but no longer than it may take to notice a stop. Not called while more messages are
    /// pending than the spout's `max_pending`.
    fn next_tuple(&mut self, out: &mut SpoutOutput<T>) -> Result<Activity, BoxError>;

    /// Everything made from the message is done.
    fn ack(&mut self, _message: MessageId) -> Result<(), BoxError> {
        Ok(())
    }

    /// Something made from the message failed or was lost. Parts of it may have been done.
    fn fail(&mut self, _message: MessageId) -> Result<(), BoxError> {
        Ok(())
    }

    /// Called once, after the last `ack` or `fail` of a drain, or when the topology is killed.
    fn close(&mut self) {}
}

/// A step of the topology. All calls come from one thread, the task's own.
///
/// An error or a panic kills the topology.
pub trait Bolt<T>: Send + 'static {
    /// Called once, before anything else.
    fn prepare(&mut self, _context: &TaskContext) -> Result<(), BoxError> {
        Ok(())
    }

    /// Works on one tuple, and acks or fails it, now or later.
    fn execute(&mut self, tuple: Tuple<T>, out: &mut Output<T>) -> Result<(), BoxError>;

    /// When it wants to be woken although no tuple comes. Asked before each wait.
    fn wake_at(&self) -> Option<Instant> {
        None
    }

    /// The time of `wake_at` has come, or has passed while tuples came.
    fn wake(&mut self, _out: &mut Output<T>) -> Result<(), BoxError> {
        Ok(())
    }

    /// The last tuple has been executed: emits, acks or fails what it still holds. When every bolt has finished, spouts no
    /// longer wait for open trees. Not called when the topology is killed.
    fn finish(&mut self, _out: &mut Output<T>) -> Result<(), BoxError> {
        Ok(())
    }
}
