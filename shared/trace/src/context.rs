use std::future::Future;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::context::FutureExt;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// Where one is in a trace: what goes from task to task and from service to service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TraceContext(pub(crate) Context);

impl TraceContext {
    /// What the headers of a request say of its trace; `None` if nothing, or nothing that W3C Trace Context allows.
    pub fn incoming(headers: &HeaderMap) -> Option<Self> {
        let parent = headers.get(PARENT)?.to_str().ok()?;
        if !is_well_formed(parent) {
            return None;
        }
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers));
        context.span().span_context().is_valid().then_some(Self(context))
    }

    /// That of this task, to carry into another one; `None` outside of any trace.
    pub fn current() -> Option<Self> {
        Context::map_current(|current| {
            let in_trace = current.span().span_context().is_valid();
            in_trace.then(|| Self(current.clone()))
        })
    }

    /// Says in the headers of a request, or in the metadata of a call, that it belongs to this trace.
    pub fn outgoing(&self, headers: &mut HeaderMap) {
        TraceContextPropagator::new().inject_context(&self.0, &mut Outgoing(headers));
    }
}

/// Says in the headers of a request which trace this task is in, instead of what they said before.
pub fn outgoing(headers: &mut HeaderMap) {
    headers.remove(PARENT);
    headers.remove(STATE);
    if let Some(context) = TraceContext::current() {
        context.outgoing(headers);
    }
}

/// Runs `work` as what `context` names: spans made in it are its children. The context does not follow into tasks that `work`
/// spawns; carry [`TraceContext::current`] into them by hand.
pub async fn in_scope<F: Future>(context: Option<TraceContext>, work: F) -> F::Output {
    match context {
        Some(context) => work.with_context(context.0).await,
        None => work.await,
    }
}

/// Whether `traceparent` has the form of its version, or may have that of a version to come. The propagator judges versions and values, but
/// takes ids of any length, and with a sign.
fn is_well_formed(traceparent: &str) -> bool {
    const LENGTH: usize = 55;
    let bytes = traceparent.as_bytes();
    let known = bytes.iter().take(LENGTH + 1).enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 | LENGTH => *byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
    });
    known && (bytes.len() == LENGTH || (bytes.len() > LENGTH && !traceparent.starts_with("00")))
}

struct Incoming<'h>(&'h HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'h>(&'h mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        // A state of nothing is better not sent.
        if value.is_empty() {
            return;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
