use proptest::prelude::*;

use super::*;

fn append(literal: &str, tail: &str) -> Result<String, String> {
    let text = format!("{literal}{tail}");
    let mut input = Input::new(text.as_bytes(), 0);
    let mut out = b"before".to_vec();
    append_text(&mut input, &mut out).map_err(|fault| fault.to_string())?;
    assert_eq!(input.rest(), tail.as_bytes(), "stops behind the quote");
    assert_eq!(&out[..6], b"before", "keeps what was there");
    Ok(String::from_utf8(out.split_off(6)).expect("UTF-8"))
}

proptest! {
    /// At every distance from the end of the buffer.
    #[test]
    fn any_text_survives(text in ".{0,40}", tail in "[,}]{0,20}") {
        let literal = serde_json::Value::String(text.clone()).to_string();
        prop_assert_eq!(append(&literal, &tail), Ok(text));
    }

    #[test]
    fn any_text_survives_in_escapes_alone(text in "\\PC{0,12}", tail in "[,}]{0,20}") {
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        prop_assert_eq!(append(&format!("\"{units}\""), &tail), Ok(text));
    }

    /// Any sequence of 16-bit units is read as UTF-16 would be.
    #[test]
    fn surrogates(units in proptest::collection::vec(prop_oneof![0xd7f0_u16..0xe010, any::<u16>()], 0..6)) {
        let literal: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
        prop_assert_eq!(append(&format!("\"{literal}\""), "").ok(), String::from_utf16(&units).ok());
    }

    #[test]
    fn specials_finds_the_first(bytes: [u8; 8]) {
        let expected = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
        let found = specials(u64::from_le_bytes(bytes));
        prop_assert_eq!((found != 0).then(|| (found.trailing_zeros() / 8) as usize), expected);
    }
}
