//! What would be said over and over again is said once in a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same words are not repeated.
const PAUSE: Duration = Duration::from_secs(10);
/// Different words that are remembered; with more of them at once all are forgotten.
const REMEMBERED: usize = 256;

/// Remembers when which words were said.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<HashMap<String, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    kept_back: u64,
}

impl Seldom {
    /// How often `words` were kept back since they were said last, if it is time to say them; `None` if it is not.
    pub(crate) fn due(&self, words: &str, now: Instant) -> Option<u64> {
        // What is remembered is whole at any moment.
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = said.get_mut(words) {
            if now.saturating_duration_since(before.at) < PAUSE {
                before.kept_back += 1;
                return None;
            }
            before.at = now;
            return Some(std::mem::take(&mut before.kept_back));
        }
        if said.len() >= REMEMBERED {
            said.clear();
        }
        let first = Said { at: now, kept_back: 0 };
        said.insert(words.to_owned(), first);
        Some(0)
    }
}

#[cfg(test)]
mod tests;
