use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::proto::{self, KeyValue};
use crate::{SpanContext, export};

tokio::task_local! {
    static CURRENT: SpanContext;
}

/// The part that a span plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal = 1,
    /// Answers a request of somebody else.
    Server = 2,
    /// Asks somebody else.
    Client = 3,
}

/// Work that takes time. It ends when it is dropped, and is sent if its trace is sampled.
#[derive(Debug)]
pub struct Span {
    context: SpanContext,
    /// `None` where nothing is recorded.
    record: Option<Box<Record>>,
}

#[derive(Debug)]
struct Record {
    parent: Option<u64>,
    name: String,
    kind: Kind,
    began: SystemTime,
    attributes: Vec<KeyValue>,
    error: Option<String>,
}

impl Span {
    /// Answers a request: goes on with the trace of its `traceparent` header, or begins one, which is sampled as
    /// [`crate::Options`] says. `None` where there is neither a trace nor anybody to send one to.
    pub fn server(name: impl Into<String>, traceparent: Option<&str>) -> Option<Self> {
        match traceparent.and_then(|text| text.parse().ok()) {
            Some(parent) => Some(Self::below(parent, Kind::Server, name)),
            None => {
                let context = SpanContext {
                    trace_id: rand::random::<u128>().max(1),
                    span_id: new_id(),
                    sampled: export::sample()?,
                };
                Some(Self::begin(context, None, Kind::Server, name))
            }
        }
    }

    /// Work that nobody asked for and that ends now, after `took`: a trace of its own. `None` without anybody to send one to.
    pub fn of_own_accord(name: impl Into<String>, took: Duration) -> Option<Self> {
        let mut span = Self::server(name, None)?;
        if let Some(record) = &mut span.record {
            record.kind = Kind::Internal;
            record.began = record.began.checked_sub(took)?;
        }
        Some(span)
    }

    /// A part of what this task does at the moment; `None` outside of any trace.
    pub fn child(kind: Kind, name: impl Into<String>) -> Option<Self> {
        let parent = CURRENT.try_with(|current| *current).ok()?;
        Some(Self::below(parent, kind, name))
    }

    fn below(parent: SpanContext, kind: Kind, name: impl Into<String>) -> Self {
        let context = SpanContext {
            span_id: new_id(),
            ..parent
        };
        Self::begin(context, Some(parent.span_id), kind, name)
    }

    fn begin(context: SpanContext, parent: Option<u64>, kind: Kind, name: impl Into<String>) -> Self {
        let record = (context.sampled && export::is_installed()).then(|| {
            Box::new(Record {
                parent,
                name: name.into(),
                kind,
                began: SystemTime::now(),
                attributes: Vec::new(),
                error: None,
            })
        });
        Self { context, record }
    }

    pub fn context(&self) -> SpanContext {
        self.context
    }

    /// Says something of the work, by a name of OpenTelemetry's conventions where there is one.
    pub fn text(&mut self, key: &str, value: impl Into<String>) {
        if let Some(record) = &mut self.record {
            record.attributes.push(KeyValue::text(key, value));
        }
    }

    /// As [`Span::text`], with a whole number.
    pub fn whole(&mut self, key: &str, value: i64) {
        if let Some(record) = &mut self.record {
            record.attributes.push(KeyValue::whole(key, value));
        }
    }

    /// Says that the work failed.
    pub fn failed(&mut self, why: impl Into<String>) {
        if let Some(record) = &mut self.record {
            record.error = Some(why.into());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else { return };
        let status = record.error.map(|message| proto::Status { message, code: 2 });
        export::send(proto::Span {
            trace_id: self.context.trace_id.to_be_bytes().to_vec(),
            span_id: self.context.span_id.to_be_bytes().to_vec(),
            parent_span_id: record.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
            name: record.name,
            kind: record.kind as i32,
            start_time_unix_nano: nanoseconds(record.began),
            end_time_unix_nano: nanoseconds(SystemTime::now()),
            attributes: record.attributes,
            status,
        });
    }
}

/// Runs `work` as what `context` names: spans made in it are its children. The context does not follow into tasks that `work`
/// spawns; carry [`outgoing`] into them by hand.
pub async fn in_scope<F: Future>(context: Option<SpanContext>, work: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, work).await,
        None => work.await,
    }
}

/// The context of this task, to carry into another one or to give to another service; `None` outside of any trace.
pub fn outgoing() -> Option<SpanContext> {
    CURRENT.try_with(|current| *current).ok()
}

fn new_id() -> u64 {
    rand::random::<u64>().max(1)
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
