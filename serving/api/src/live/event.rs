//! Events of a live query as bytes (Server-Sent Events, HTML standard section 9.2).

use anabranch_access::Denied;
use anabranch_runtime::http::ApiError;
use axum::body::Bytes;
use serde_json::{Value, json};

use super::rows::Changes;
use super::state::State;

/// Why a stream has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The view is not defined any more.
    ViewDropped,
    /// Another definition answers under the view's name: begin anew.
    ViewChanged,
    /// This process is stopping: begin anew, elsewhere.
    Draining,
    /// The reader counts no more.
    AccessEnded(Denied),
    /// The rows cannot be followed any more, and why.
    Failed(String),
}

impl End {
    pub(crate) fn encode(&self) -> Bytes {
        let denied;
        let (reason, message) = match self {
            Self::ViewDropped => ("view_dropped", "the view is not defined any more"),
            Self::ViewChanged => ("view_changed", "the view has another definition now; ask anew"),
            Self::Draining => ("draining", "this service is stopping; ask anew"),
            Self::AccessEnded(why) => {
                denied = format!("{why}; come in anew");
                ("access_ended", denied.as_str())
            }
            Self::Failed(message) => ("failed", message.as_str()),
        };
        encode("end", None, &json!({"reason": reason, "message": message}).to_string())
    }
}

/// How a reader came to its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// It asked without an id.
    New,
    /// With one that is not known, or not any more.
    Unknown,
}

/// A comment, so that nobody in between takes the connection for dead.
pub(crate) const HEARTBEAT: &[u8] = b": alive\n\n";

/// What a browser waits before it comes back, in milliseconds.
pub(crate) const RETRY: &[u8] = b"retry: 1000\n\n";

/// All rows.
pub(crate) fn snapshot(id: &str, interval_ms: u128, state: &State, start: Start) -> Bytes {
    let mut data = Vec::with_capacity(1024 + state.bytes);
    data.extend_from_slice(b"{\"view\":");
    data.extend_from_slice(json!(state.shape.view).to_string().as_bytes());
    data.extend_from_slice(b",\"columns\":");
    data.extend_from_slice(state.shape.columns.to_string().as_bytes());
    data.extend_from_slice(b",\"key\":");
    data.extend_from_slice(state.shape.key.to_string().as_bytes());
    data.extend_from_slice(b",\"keys\":[");
    join(&mut data, state.rows.list().iter().map(|row| &*row.key));
    data.extend_from_slice(b"],\"rows\":[");
    join(&mut data, state.rows.list().iter().map(|row| &*row.cells));
    let rest = json!({
        "row_count": state.rows.list().len(),
        "interval_ms": interval_ms,
        "restarted": start == Start::Unknown,
    });
    data.extend_from_slice(b"],");
    data.extend_from_slice(&rest.to_string().as_bytes()[1..]);
    data.pop();
    finish(&mut data, state);
    encode_bytes("snapshot", Some(id), &data)
}

/// What came since the reader's position.
pub(crate) fn change(id: &str, state: &State, changes: &Changes<'_>) -> Bytes {
    let mut data = Vec::with_capacity(1024);
    data.extend_from_slice(b"{\"changed\":[");
    for (index, (place, row)) in changes.changed.iter().enumerate() {
        if index > 0 {
            data.push(b',');
        }
        data.extend_from_slice(b"{\"at\":");
        data.extend_from_slice(place.to_string().as_bytes());
        data.extend_from_slice(b",\"key\":");
        data.extend_from_slice(&row.key);
        data.extend_from_slice(b",\"row\":");
        data.extend_from_slice(&row.cells);
        data.push(b'}');
    }
    data.extend_from_slice(b"],\"gone\":[");
    join(&mut data, changes.gone.iter().copied());
    data.extend_from_slice(format!("],\"row_count\":{}", state.rows.list().len()).as_bytes());
    finish(&mut data, state);
    encode_bytes("change", Some(id), &data)
}

/// The view cannot be read at the moment. What was sent before holds on, with its coverage; it is tried again.
pub(crate) fn trouble(error: &ApiError) -> Bytes {
    let data: Value = json!({"error": {"code": error.code, "message": error.message, "hint": error.hint}});
    encode("trouble", None, &data.to_string())
}

fn finish(data: &mut Vec<u8>, state: &State) {
    data.extend_from_slice(b",\"coverage\":");
    data.extend_from_slice(state.coverage_json.as_bytes());
    data.push(b'}');
}

fn join<'a>(data: &mut Vec<u8>, parts: impl Iterator<Item = &'a [u8]>) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            data.push(b',');
        }
        data.extend_from_slice(part);
    }
}

fn encode(event: &str, id: Option<&str>, data: &str) -> Bytes {
    encode_bytes(event, id, data.as_bytes())
}

/// JSON as it is written here has no line breaks, so data is one line.
fn encode_bytes(event: &str, id: Option<&str>, data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(data.len() + 80);
    out.extend_from_slice(format!("event: {event}\n").as_bytes());
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
    out.into()
}
