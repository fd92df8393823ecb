//! What one look at a live query saw.

use std::sync::Arc;

use anabranch_model::CoverageMap;
use axum::body::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::rows::Rows;

/// Changes that are kept encoded for readers at the same position.
const ENCODED: usize = 4;

/// What of the view is shown: the same in all events of a feed.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) view: String,
    pub(crate) columns: Value,
    /// Names of the key columns, in the order of keys in events. `null` when the view does not show all of its keys: then a key
    /// means nothing but the row that it names.
    pub(crate) key: Value,
}

/// The rows of one look at the view.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) shape: Arc<Shape>,
    pub(crate) rows: Rows,
    pub(crate) coverage: CoverageMap,
    pub(crate) coverage_json: String,
    /// Of keys and cells.
    pub(crate) bytes: usize,
    /// Changes up to here as bytes, by the position they begin at: most readers are at the same one.
    encoded: Mutex<Vec<(u64, Bytes)>>,
}

impl State {
    pub(crate) fn new(
        shape: Arc<Shape>,
        rows: Rows,
        coverage: CoverageMap,
        coverage_json: String,
        bytes: usize,
    ) -> Self {
        Self {
            shape,
            rows,
            coverage,
            coverage_json,
            bytes,
            encoded: Mutex::default(),
        }
    }

    /// The changes since `position` as bytes, which `encode` makes unless they are there.
    pub(crate) fn encoded(&self, position: u64, encode: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
        if let Some((_, known)) = self.encoded.lock().iter().find(|(from, _)| *from == position) {
            return Some(known.clone());
        }
        let event = encode()?;
        let mut encoded = self.encoded.lock();
        if encoded.len() < ENCODED {
            encoded.push((position, event.clone()));
        }
        Some(event)
    }
}
