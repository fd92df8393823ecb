//! When to close a landing.

use std::time::Duration;

/// What the decision rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Since the first range of the landing was gathered; `None` when it is empty.
    pub(crate) age: Option<Duration>,
    pub(crate) bytes: usize,
    /// A partition is about to move and waits for its landing.
    pub(crate) flush: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_age: Duration,
    pub(crate) max_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Keep gathering.
    No,
    /// Close if the landings before have left room; else go on gathering, a larger landing is a better one.
    IfRoom,
    /// Close, and wait for room: memory is bounded.
    Now,
}

pub(crate) fn decide(open: Open, limits: Limits) -> Close {
    match open.age {
        None => Close::No,
        Some(_) if open.bytes >= limits.max_bytes => Close::Now,
        Some(age) if open.flush || age >= limits.max_age => Close::IfRoom,
        Some(_) => Close::No,
    }
}

#[cfg(test)]
mod tests;
