use proptest::prelude::*;

use super::*;

fn input(text: &str) -> Input<'_> {
    Input::new(text.as_bytes(), 0)
}

#[test]
fn digit_runs() {
    for (text, expected) in [
        ("12345678", (8, 12_345_678)),
        ("1234567,", (7, 1_234_567)),
        ("0007 999", (4, 7)),
        ("9}111111", (1, 9)),
        ("/1234567", (0, 0)),
        (":1234567", (0, 0)),
        ("12\u{e9}4567", (2, 12)),
    ] {
        let word = u64::from_le_bytes(*text.as_bytes().first_chunk().expect("eight bytes"));
        assert_eq!(digit_run(word), expected, "{text}");
    }
}

#[test]
fn scaled_is_exact_or_says_why_not() {
    let exact = |text: &str, scale| scaled(text.as_bytes(), scale, Excess::Refuse);
    assert_eq!(exact("12.5", 1), Ok(125));
    assert_eq!(exact("12.5", 0), Err(Inexact::Fraction));
    assert_eq!(exact("-12.50", 1), Ok(-125));
    assert_eq!(exact("1e38", 0), Ok(10_i128.pow(38)));
    assert_eq!(exact("1e39", 0), Err(Inexact::TooLarge));
    assert_eq!(exact("1e9223372036854775808", 0), Err(Inexact::TooLarge));
    assert_eq!(exact("1e-9223372036854775808", 0), Err(Inexact::Fraction));
    assert_eq!(exact("0e9223372036854775808", 0), Ok(0));
    assert_eq!(
        exact("0.0000000000000000000000000000000000000000000000000001e52", 0),
        Ok(1)
    );
    for bad in [
        "", "-", "+", ".", "1.", ".1", "e1", "1e", "1e+", "1 ", "1.2.3", "1e1e1", "0x10", "--1",
    ] {
        assert_eq!(exact(bad, 2), Err(Inexact::NotANumber), "{bad}");
    }
    assert_eq!(scaled(b"1.999", 2, Excess::Truncate), Ok(199));
    assert_eq!(scaled(b"-1.999", 2, Excess::Truncate), Ok(-199));
    assert_eq!(scaled(b"1e-400", 2, Excess::Truncate), Ok(0));
}

proptest! {
    #[test]
    fn whole_numbers(value: i64, tail in "[,} \\]]{1,12}") {
        let text = format!("{value}{tail}");
        let mut input = input(&text);
        prop_assert_eq!(integer(&mut input, i64::MIN, i64::MAX, "BIGINT").ok(), Some(value));
        prop_assert_eq!(input.rest(), tail.as_bytes());
    }

    #[test]
    fn doubles_of_any_form(whole in 0_u64..1_000_000_000_000, fraction in "[0-9]{0,12}", exponent in "([eE][+-]?[0-9]{1,2})?", negative: bool) {
        let dot = if fraction.is_empty() { "" } else { "." };
        let number = format!("{}{whole}{dot}{fraction}{exponent}", if negative { "-" } else { "" });
        let text = format!("{number}, and more");
        let mut input = input(&text);
        let expected: f64 = number.parse().expect("a number");
        prop_assert_eq!(double(&mut input).ok().map(f64::to_bits), Some(expected.to_bits()), "{}", number);
        prop_assert_eq!(input.rest(), &b", and more"[..]);
    }

    #[test]
    fn doubles_survive_printing(value in any::<f64>().prop_filter("JSON has no infinity", |value| value.is_finite())) {
        let text = format!("{value:e}}}");
        prop_assert_eq!(double(&mut input(&text)).ok().map(f64::to_bits), Some(value.to_bits()));
    }
}
