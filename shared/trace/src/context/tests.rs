use super::*;

#[test]
fn a_context_survives_its_header() {
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context: SpanContext = text.parse().unwrap();
    assert_eq!((context.span_id, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
    assert_eq!(context.to_string(), text);
    let unsampled: SpanContext = text.replace("-01", "-00").parse().unwrap();
    assert!(!unsampled.sampled);
}

#[test]
fn what_is_no_context_is_none() {
    for text in [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47é6-00f067aa0ba902b7-01",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert_eq!(text.parse::<SpanContext>(), Err(()), "{text}");
    }
    // A version to come may have more to say.
    assert!(
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"
            .parse::<SpanContext>()
            .is_ok()
    );
}
