use super::*;

const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn without_a_collector_a_trace_is_passed_on_and_none_begins() {
    assert!(Span::server("x", None).is_none());
    assert!(Span::child(Kind::Internal, "x").is_none() && outgoing().is_none());
    let span = Span::server("x", Some(HEADER)).unwrap();
    assert_eq!(span.context().trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_ne!(span.context().span_id, 0x00f0_67aa_0ba9_02b7, "a span of its own");
    let passed_on = in_scope(Some(span.context()), async {
        let child = Span::child(Kind::Client, "y").unwrap();
        assert_eq!(child.context().trace_id, span.context().trace_id);
        in_scope(Some(child.context()), async { outgoing().unwrap() }).await
    });
    assert!(
        passed_on
            .await
            .to_string()
            .starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    );
}
