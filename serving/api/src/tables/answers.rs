//! What is answered about dead letters and redrives.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// The newest letters, and how many there are for which reason.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetters {
    pub(super) table: String,
    pub(super) matched: u64,
    /// The most frequent first.
    #[schema(inline)]
    pub(super) reasons: Vec<Reason>,
    /// Letters whose reason is not among those.
    pub(super) other_reasons: u64,
    #[schema(inline)]
    pub(super) dead_letters: Vec<ListedLetter>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reason {
    pub(super) reason: String,
    pub(super) count: u64,
}

/// Which letter it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Place {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// The log's time of it.
    #[schema(required, format = DateTime)]
    pub(super) timestamp: Option<String>,
    pub(super) reason: String,
    /// Numbers of the redrives that took it.
    pub(super) redriven: Vec<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedLetter {
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) place: Place,
    /// Size of its value.
    #[schema(required)]
    pub(super) bytes: Option<usize>,
    /// How its value begins.
    #[schema(required)]
    pub(super) preview: Option<String>,
}

/// A letter in full.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(crate) struct ShownLetter {
    pub(super) table: String,
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) place: Place,
    /// Whether the present definition of the table decodes it.
    pub(super) decodes_now: bool,
    #[schema(required)]
    pub(super) key: Option<Bits>,
    pub(super) headers: BTreeMap<String, Bits>,
    #[schema(required)]
    pub(super) payload: Option<Bits>,
}

/// Bytes as text where they are text, and always in base64.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bytes)]
pub(crate) struct Bits {
    #[schema(required)]
    pub(super) text: Option<String>,
    pub(super) base64: String,
}

/// What a redrive produces.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RedriveAnswer {
    pub(super) matched: u64,
    /// To be produced.
    pub(super) letters: u64,
    pub(super) redriven_before: u64,
    pub(super) undecodable: u64,
    /// Left for the next redrive.
    pub(super) left: u64,
    /// Of the redrive; null when none was asked for.
    #[schema(required)]
    pub(super) number: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Redrives)]
pub(crate) struct RedriveList {
    pub(super) table: String,
    pub(super) redrives: Vec<RedriveEntry>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Redrive)]
pub(crate) struct RedriveEntry {
    pub(super) number: u64,
    #[schema(format = DateTime)]
    pub(super) at: String,
    pub(super) by: String,
    pub(super) letters: u64,
    #[schema(inline)]
    pub(super) state: RedriveState,
    #[schema(required, inline)]
    pub(super) done: Option<Outcome>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RedriveState {
    Asked,
    Done,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Outcome {
    pub(super) number: u64,
    #[schema(format = DateTime)]
    pub(super) at: String,
    /// The worker that finished it.
    pub(super) worker: String,
    /// Produced in the last attempt.
    pub(super) produced: u64,
    /// Produced by an attempt before.
    pub(super) found: u64,
    /// Letters that had expired meanwhile.
    pub(super) gone: u64,
}
