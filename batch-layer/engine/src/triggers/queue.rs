//! Which run is next: decisions only.

use std::fmt;

/// Why a run was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// `POST /v1/batch/runs`.
    Request,
    /// `[batch] schedule`.
    Schedule,
    /// The latest publication lacks a view as it is defined now (ARCHITECTURE.md, rule 13).
    Definition,
    /// A speed worker holds more state than `[speed] state_budget` (ARCHITECTURE.md, rule 6).
    StateBudget,
    /// The latest publication holds events that were excluded since, or lacks some that were included again.
    Exclusions,
    /// The latest publication counts events that have expired since.
    Retention,
}

impl Trigger {
    pub(crate) const ALL: [Self; 6] = [
        Self::Request,
        Self::Schedule,
        Self::Definition,
        Self::StateBudget,
        Self::Exclusions,
        Self::Retention,
    ];

    /// The word in run records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "http",
            Self::Schedule => "schedule",
            Self::Definition => "views",
            Self::StateBudget => "state_budget",
            Self::Exclusions => "exclusions",
            Self::Retention => "retention",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Queue a new run; it starts when none is running.
    Queue,
    /// A run that has not begun serves this trigger too: it will snapshot later than now.
    Join(String),
    /// Overlap: the trigger comes to nothing, and that is counted.
    Skip { because: String },
}

/// Decides about a trigger, given the run ids that are running and queued.
///
/// A request that meets a running run gets a run of its own after it, since the running one may have taken its snapshot
/// before what the caller wants covered; so does a change of exclusions, and what has expired. The others are content with any run that is on its way.
pub(crate) fn decide(trigger: Trigger, running: Option<&str>, queued: Option<&str>) -> Decision {
    match (trigger, running, queued) {
        (_, None, None) => Decision::Queue,
        (Trigger::Request | Trigger::Definition | Trigger::Exclusions | Trigger::Retention, _, Some(queued)) => {
            Decision::Join(queued.to_owned())
        }
        (Trigger::Request | Trigger::Exclusions | Trigger::Retention, Some(_), None) => Decision::Queue,
        // A run of this process computes the views as they are defined here.
        (Trigger::Definition, Some(running), None) => Decision::Join(running.to_owned()),
        (Trigger::Schedule | Trigger::StateBudget, Some(id), _)
        | (Trigger::Schedule | Trigger::StateBudget, None, Some(id)) => Decision::Skip { because: id.to_owned() },
    }
}

#[cfg(test)]
mod tests;
