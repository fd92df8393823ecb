use std::sync::Arc;

use crate::BoxError;

type FieldsFn<T> = dyn Fn(&T) -> u64 + Send + Sync;
type SplitFn<T> = dyn Fn(T, usize) -> Result<Vec<T>, BoxError> + Send + Sync;

/// Which task of a subscriber gets a tuple.
pub struct Grouping<T>(pub(crate) Kind<T>);

pub(crate) enum Kind<T> {
    Shuffle,
    Local,
    Fields(Arc<FieldsFn<T>>),
    Split(Arc<SplitFn<T>>),
    All,
    Global,
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Shuffle => Self::Shuffle,
            Self::Local => Self::Local,
            Self::Fields(key) => Self::Fields(Arc::clone(key)),
            Self::Split(split) => Self::Split(Arc::clone(split)),
            Self::All => Self::All,
            Self::Global => Self::Global,
        }
    }
}

/// The tasks a tuple goes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<T> {
    One(usize, T),
    /// A copy for each task.
    All(T),
    /// One part for each task, in task order.
    Parts(Vec<T>),
}

impl<T> Grouping<T> {
    /// Each task in turn.
    pub fn shuffle() -> Self {
        Self(Kind::Shuffle)
    }

    /// The task with the sender's own number (modulo the number of tasks). All tasks share one process, so what is local
    /// here is the lane: a batch stays with as few threads as possible.
    pub fn local_or_shuffle() -> Self {
        Self(Kind::Local)
    }

    /// Tuples with equal keys go to the same task: the key modulo the number of tasks. Keys that are not spread evenly
    /// must be hashed by `key`.
    pub fn fields(key: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        Self(Kind::Fields(Arc::new(key)))
    }

    /// Fields grouping of a tuple that has rows for many keys: `split` gives one part per task, in task order, and each
    /// task gets its part, also if it is empty. Runs on the sender's thread.
    pub fn split(split: impl Fn(T, usize) -> Result<Vec<T>, BoxError> + Send + Sync + 'static) -> Self {
        Self(Kind::Split(Arc::new(split)))
    }

    /// Every task gets a copy.
    pub fn all() -> Self {
        Self(Kind::All)
    }

    /// Task 0 gets everything.
    pub fn global() -> Self {
        Self(Kind::Global)
    }
}

impl<T> Kind<T> {
    /// Routes one tuple. `turn` counts this sender's tuples, starting at `sender`, its task number.
    pub(crate) fn route(&self, value: T, tasks: usize, sender: usize, turn: &mut usize) -> Result<Route<T>, BoxError> {
        Ok(match self {
            Self::Shuffle => {
                let task = *turn % tasks;
                *turn = turn.wrapping_add(1);
                Route::One(task, value)
            }
            Self::Local => Route::One(sender % tasks, value),
            Self::Fields(key) => {
                let task = key(&value) % tasks as u64;
                Route::One(usize::try_from(task).expect("a task number fits in usize"), value)
            }
            Self::Split(split) => Route::Parts(split(value, tasks)?),
            Self::All => Route::All(value),
            Self::Global => Route::One(0, value),
        })
    }
}

#[cfg(test)]
mod tests;
