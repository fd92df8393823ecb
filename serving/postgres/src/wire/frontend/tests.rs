use bytes::BufMut;
use proptest::prelude::*;

use super::*;

fn message(tag: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(tag);
    out.put_i32(body.len() as i32 + 4);
    out.put_slice(body);
    out
}

#[test]
fn a_bind_is_read_whole() {
    let body = b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0";
    let mut buffer = message(b'B', body);
    let taken = take(&mut buffer).unwrap().unwrap();
    assert_eq!(
        taken,
        Message::Bind {
            portal: "p".into(),
            statement: "s".into(),
            formats: vec![1],
            values: vec![Some(Bytes::from_static(b"ab")), None],
            results: vec![],
        }
    );
    assert!(buffer.is_empty());
}

#[test]
fn counts_and_lengths_that_lie_are_refused() {
    for (tag, body) in [
        (b'B', &b"\0\0\0\0\xff\xff"[..]),
        (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"),
        (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\x00\0\0"),
        (b'P', b"\0SELECT 1\0\0\x02\0\0\0\x17"),
        (b'P', b"no end"),
        (b'Q', b"SELECT 1"),
        (b'Q', b"SELECT 1\0more"),
        (b'Q', b"\xff\xfe\0"),
        (b'D', b""),
        (b'D', b"Xname\0"),
        (b'E', b"\0\0"),
        (b'S', b"x"),
    ] {
        let taken = take(&mut message(tag, body));
        assert!(
            matches!(taken, Err(Error::Protocol(_))),
            "{}{body:?}: {taken:?}",
            tag as char
        );
    }
}

#[test]
fn lengths_out_of_bounds_are_refused_before_anything_is_allocated() {
    for length in [i32::MIN, -1, 0, 3, MAX_MESSAGE_BYTES as i32 + 1, i32::MAX] {
        let mut buffer = BytesMut::new();
        buffer.put_u8(b'Q');
        buffer.put_i32(length);
        assert!(matches!(take(&mut buffer), Err(Error::Protocol(_))), "{length}");
        assert!(buffer.capacity() < 1 << 16);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_messages_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = take(&mut buffer) {}
    }

    #[test]
    fn any_body_is_a_message_or_an_error(
        tag in prop::sample::select(&b"QPBDECHSXdcfF"[..]),
        body in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()], 0..80),
    ) {
        let mut buffer = message(tag, &body);
        let _ = take(&mut buffer);
        prop_assert!(buffer.is_empty(), "a message is taken whole or refused");
    }

    #[test]
    fn any_startup_packet_is_one_or_an_error(bytes in prop::collection::vec(any::<u8>(), 4..200)) {
        let _ = parse_startup(Body(Bytes::from(bytes)));
    }

    #[test]
    fn session_parameters_are_read(pairs in prop::collection::vec(("[a-z_]{1,9}", "[ -~]{0,9}"), 0..5)) {
        let mut body = BytesMut::new();
        body.put_i32(3 << 16);
        for (name, value) in &pairs {
            for text in [name, value] {
                body.put_slice(text.as_bytes());
                body.put_u8(0);
            }
        }
        body.put_u8(0);
        let startup = parse_startup(Body(body.freeze())).unwrap();
        prop_assert_eq!(startup, Startup::Session { major: 3, minor: 0, parameters: pairs });
    }
}
