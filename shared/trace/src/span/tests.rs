use http::HeaderValue;

use super::*;
use crate::{in_scope, outgoing};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn without_a_collector_a_trace_is_passed_on_and_none_begins() {
    let name = || unreachable!("nobody wants to know it");
    assert!(Span::server(name, &HeaderMap::new()).is_none());
    assert!(Span::child(Kind::Internal, "x").is_none() && TraceContext::current().is_none());
    assert!(Span::of_own_accord("x", Duration::ZERO).is_none());
    let mut caller = HeaderMap::new();
    caller.insert("traceparent", HeaderValue::from_static(CALLER));
    let span = Span::server(name, &caller).unwrap();
    let mut passed_on = HeaderMap::new();
    in_scope(Some(span.context()), async {
        let mut child = Span::child(Kind::Client, "y").unwrap();
        child.text("nobody", "reads it");
        in_scope(Some(child.context()), async { outgoing(&mut passed_on) }).await;
    })
    .await;
    assert_eq!(passed_on, caller);
    assert!(TraceContext::current().is_none());
}
