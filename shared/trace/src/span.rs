use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::trace::{Link, SpanBuilder, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};

use crate::{Kind, TraceContext, export};

/// Work that takes time. It ends when it is dropped, and is sent if its trace is sampled.
///
/// Where nobody sends traces it stands for the span of the caller, so that other services see the trace that goes on.
#[derive(Debug)]
pub struct Span(Context);

impl Span {
    /// Answers a request: goes on with the trace that its headers name, or begins one, which is sampled as [`crate::Options`] says.
    /// `None` where there is neither a trace nor anybody to send one to.
    pub fn server(name: impl FnOnce() -> String, headers: &HeaderMap) -> Option<Self> {
        let caller = TraceContext::incoming(headers).map(|caller| caller.0);
        match export::tracer() {
            Some(tracer) => {
                let parent = caller.unwrap_or_default();
                let builder = SpanBuilder::from_name(name()).with_kind(Kind::Server);
                Some(Self::begin(tracer, builder, &parent))
            }
            None => caller.map(Self),
        }
    }

    /// Work that nobody asked for and that ends now, after `took`: a trace of its own. `None` without anybody to send one to.
    pub fn of_own_accord(name: &'static str, took: Duration) -> Option<Self> {
        let tracer = export::tracer()?;
        let began = SystemTime::now().checked_sub(took)?;
        let builder = SpanBuilder::from_name(name).with_start_time(began);
        Some(Self::begin(tracer, builder, &Context::new()))
    }

    /// A part of what this task does at the moment; `None` outside of any trace.
    pub fn child(kind: Kind, name: impl Into<Cow<'static, str>>) -> Option<Self> {
        let parent = TraceContext::current()?.0;
        Some(match export::tracer() {
            Some(tracer) => Self::begin(tracer, SpanBuilder::from_name(name).with_kind(kind), &parent),
            None => Self(parent),
        })
    }

    /// Time that this task has waited, until now, for work that somebody else asked for: a span of this task's trace, which leads
    /// to that work. `None` where the work is of the same trace, which shows it itself, and outside of any trace.
    pub fn waited(name: &'static str, took: Duration, work: &TraceContext) -> Option<Self> {
        let parent = TraceContext::current()?.0;
        let theirs = work.0.span().span_context().clone();
        if theirs.trace_id() == parent.span().span_context().trace_id() {
            return None;
        }
        let tracer = export::tracer()?;
        let began = SystemTime::now().checked_sub(took)?;
        let builder = SpanBuilder::from_name(name)
            .with_start_time(began)
            .with_links(vec![Link::with_context(theirs)]);
        Some(Self::begin(tracer, builder, &parent))
    }

    fn begin(tracer: &impl Tracer<Span: Send + Sync + 'static>, builder: SpanBuilder, parent: &Context) -> Self {
        Self(parent.with_span(tracer.build_with_context(builder, parent)))
    }

    pub fn context(&self) -> TraceContext {
        TraceContext(self.0.clone())
    }

    /// Says something of the work, by a name of OpenTelemetry's conventions where there is one.
    pub fn text(&mut self, key: &'static str, value: impl Into<String>) {
        let span = self.0.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new(key, value.into()));
        }
    }

    /// As [`Span::text`], with a whole number.
    pub fn whole(&mut self, key: &'static str, value: i64) {
        self.0.span().set_attribute(KeyValue::new(key, value));
    }

    /// Says that the work failed.
    pub fn failed(&mut self, why: impl Into<String>) {
        self.0.span().set_status(Status::error(why.into()));
    }
}

impl Drop for Span {
    /// Now, not when the last task that carries the context has ended.
    fn drop(&mut self) {
        self.0.span().end();
    }
}

#[cfg(test)]
mod tests;
