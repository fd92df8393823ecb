use super::*;

const PLAIN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(parent: &str, state: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(PARENT, HeaderValue::from_str(parent).unwrap());
    if let Some(state) = state {
        headers.insert(STATE, HeaderValue::from_str(state).unwrap());
    }
    headers
}

#[tokio::test]
async fn a_context_survives_its_headers() {
    for state in [None, Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")] {
        let caller = headers(PLAIN, state);
        let context = TraceContext::incoming(&caller).unwrap();
        assert!(context.0.span().span_context().is_sampled());
        let mut next = headers("gone", Some("gone=1"));
        in_scope(Some(context), async { outgoing(&mut next) }).await;
        assert_eq!(next, caller);
        outgoing(&mut next);
        assert!(next.is_empty(), "{next:?}");
    }
    let unsampled = TraceContext::incoming(&headers(&PLAIN.replace("-01", "-00"), None)).unwrap();
    assert!(!unsampled.0.span().span_context().is_sampled());
}

#[test]
fn what_is_no_context_is_none() {
    assert!(TraceContext::incoming(&HeaderMap::new()).is_none());
    for text in [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47é6-00f067aa0ba902b7-01",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-42-1-01",
    ] {
        assert!(TraceContext::incoming(&headers(text, None)).is_none(), "{text}");
    }
    // A version to come may have more to say.
    let to_come = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
    assert!(TraceContext::incoming(&headers(to_come, None)).is_some());
}
