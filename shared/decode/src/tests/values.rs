//! What each type reads and refuses.

use super::*;

#[test]
fn integers() {
    let whole = |text: &str| one("a BIGINT", "", &format!("{{\"a\":{text}}}"))["a"].clone();
    for text in [
        "0",
        "-0",
        "7",
        "-1",
        "12345678",
        "123456789",
        "1234567890123456",
        "12345678901234567",
        "9223372036854775807",
        "-9223372036854775808",
    ] {
        let expected: i64 = text.parse().expect("a number");
        assert_eq!(whole(text), json!(expected), "{text}");
    }
    for (text, expected) in [
        ("5.0", 5),
        ("1e3", 1000),
        ("1.5e1", 15),
        ("-20E-1", -2),
        ("0e99999999999999999999", 0),
        ("0.000", 0),
        ("100e-2", 1),
    ] {
        assert_eq!(whole(text), json!(expected), "{text}");
    }
    let source = source("a BIGINT, b INT", "");
    let reason = |text: &str| reason(&source, format!("{{{text}}}"));
    assert_eq!(
        reason(r#""a":1.5"#),
        "field \"a\": expected BIGINT, found number 1.5, which is not whole"
    );
    assert_eq!(
        reason(r#""a":1e-1"#),
        "field \"a\": expected BIGINT, found number 1e-1, which is not whole"
    );
    assert_eq!(
        reason(r#""a":9223372036854775808"#),
        "field \"a\": expected BIGINT, found number 9223372036854775808, which is out of range"
    );
    assert_eq!(
        reason(r#""a":1e400"#),
        "field \"a\": expected BIGINT, found number 1e400, which is out of range"
    );
    assert_eq!(
        reason(r#""b":2147483648"#),
        "field \"b\": expected INT, found number 2147483648, which is out of range"
    );
    assert_eq!(reason(r#""a":"5""#), "field \"a\": expected BIGINT, found text \"5\"");
    assert_eq!(reason(r#""a":true"#), "field \"a\": expected BIGINT, found true");
    assert_eq!(reason(r#""a":[1]"#), "field \"a\": expected BIGINT, found an array");
    assert_eq!(
        reason(r#""a":{"b":1}"#),
        "field \"a\": expected BIGINT, found an object"
    );
    assert_eq!(one("b INT", "", r#"{"b":-2147483648}"#), json!({"b": i32::MIN}));
}

#[test]
fn numbers_have_the_form_of_json() {
    let source = source("a BIGINT, d DOUBLE, s TEXT", "");
    for bad in [
        "01", "+1", "1.", ".5", "-", "1e", "1e+", "--1", "0x1", "1_000", "NaN", "Infinity", "-01.5", "1.e5", "١",
    ] {
        for column in ["a", "d", "undeclared"] {
            let reason = reason(&source, format!("{{\"{column}\":{bad}}}"));
            assert!(
                reason.starts_with("malformed JSON at byte "),
                "{column} {bad}: {reason}"
            );
        }
    }
}

#[test]
fn doubles_are_the_nearest() {
    let texts = [
        "0",
        "-0",
        "0.1",
        "-0.1",
        "1.5",
        "123456.789",
        "1e10",
        "1E-7",
        "3.141592653589793",
        "2.2250738585072014e-308",
        "5e-324",
        "9007199254740993",
        "9007199254740991.5",
        "123456789012345678901234567890",
        "0.3",
        "8.41",
        "4503599627370497.5",
        "99999999.9999999",
        "1.7976931348623157e308",
    ];
    for text in texts {
        let expected: f64 = text.parse().expect("a number");
        let found = one(
            "d DOUBLE",
            "",
            &format!("{{\"d\":{text},\"pad\":\"to read by words\"}}"),
        )["d"]
            .as_f64()
            .expect("a double");
        assert_eq!(found.to_bits(), expected.to_bits(), "{text}");
        let at_the_end = one("d DOUBLE", "", &format!("{{\"d\":{text}}}"))["d"]
            .as_f64()
            .expect("a double");
        assert_eq!(at_the_end.to_bits(), expected.to_bits(), "{text}");
    }
    assert_eq!(
        reason(&source("d DOUBLE", ""), r#"{"d":1e999}"#),
        "field \"d\": expected DOUBLE, found number 1e999, which is out of range"
    );
}

#[test]
fn decimals_are_exact() {
    let read = |text: &str| one("d DECIMAL(10, 3)", "", &format!("{{\"d\":{text}}}"))["d"].clone();
    for (text, expected) in [
        ("1", "1.000"),
        ("-1.5", "-1.500"),
        ("0.001", "0.001"),
        ("\"12.34\"", "12.340"),
        ("\"+7\"", "7.000"),
        ("\"007.5\"", "7.500"),
        ("1.23000000", "1.230"),
        ("9999999.999", "9999999.999"),
        ("1.5e3", "1500.000"),
        ("15e-1", "1.500"),
        ("0e50", "0.000"),
        ("0.1", "0.100"),
        ("\"-0.0\"", "0.000"),
    ] {
        assert_eq!(read(text), json!(expected), "{text}");
    }
    let exact = one(
        "d DECIMAL(38, 0)",
        "",
        r#"{"d":99999999999999999999999999999999999999}"#,
    );
    assert_eq!(exact["d"], json!("99999999999999999999999999999999999999"));
    let source = source("d DECIMAL(10, 3)", "");
    for (text, problem) in [
        ("1.2345", "1.2345, which has more fractional digits"),
        ("10000000", "10000000, which has too many digits"),
        ("1e40", "1e40, which has too many digits"),
        ("\"12,5\"", "\"12,5\", which is no number"),
        ("\"\"", "\"\", which is no number"),
        ("\".\"", "\".\", which is no number"),
        ("true", "true"),
    ] {
        let expected = format!("field \"d\": expected DECIMAL(10, 3), found {problem}");
        assert_eq!(reason(&source, format!("{{\"d\":{text}}}")), expected);
    }
}

#[test]
fn texts_and_escapes() {
    let read = |literal: &str| one("s TEXT", "", &format!("{{\"s\":{literal}}}"))["s"].clone();
    for literal in [
        r#""""#,
        r#""a""#,
        r#""exactly8""#,
        r#""seven77""#,
        r#""ninebytes""#,
        r#""größer → 🦀""#,
        r#""tab\tnewline\n""#,
        r#""\"\\\/\b\f\n\r\t""#,
        r#""\u0041\u00e9\u20ac""#,
        r#""\ud83e\udd80""#,
        r#""a long text without anything special in it at all""#,
        r#""a long text with an escape near its very end \n""#,
        r#""\u0000""#,
    ] {
        let expected: Value = serde_json::from_str(literal).expect("JSON");
        assert_eq!(read(literal), expected, "{literal}");
    }
    let source = source("s TEXT", "");
    assert_eq!(
        reason(&source, r#"{"s":"ab\ud83e"}"#),
        "malformed JSON at byte 8: half of a surrogate pair cannot stand alone in text"
    );
    assert_eq!(
        reason(&source, r#"{"s":"\udd80\ud83e"}"#),
        "malformed JSON at byte 6: half of a surrogate pair cannot stand alone in text"
    );
    assert_eq!(
        reason(&source, r#"{"s":"\x"}"#),
        "malformed JSON at byte 6: unknown escape in a string"
    );
    assert_eq!(
        reason(&source, r#"{"s":"\u12g4"}"#),
        "malformed JSON at byte 6: unknown escape in a string"
    );
    assert_eq!(
        reason(&source, "{\"s\":\"a\nb\"}"),
        "malformed JSON at byte 7: a control character in a string must be escaped"
    );
    assert_eq!(
        reason(&source, r#"{"s":"abc"#),
        "malformed JSON at byte 9: the record ends here"
    );
    assert_eq!(
        reason(&source, r#"{"s":5}"#),
        "field \"s\": expected TEXT, found number 5"
    );
    // Nobody reads an undeclared field, so half a pair does no harm there.
    assert_eq!(one("s TEXT", "", r#"{"x":"\ud83e","s":"a"}"#), json!({"s": "a"}));
}

#[test]
fn timestamps_as_text() {
    let read = |text: &str| {
        one("t TIMESTAMP", "", &format!("{{\"t\":\"{text}\"}}"))["t"]
            .as_i64()
            .expect("a time")
    };
    let second = 1_767_268_800_000_000; // 2026-01-01T12:00:00Z
    for (text, expected) in [
        ("2026-01-01T12:00:00Z", second),
        ("2026-01-01 12:00:00", second),
        ("2026-01-01t12:00:00z", second),
        ("2026-01-01T12:00:00.5Z", second + 500_000),
        ("2026-01-01T12:00:00.123456Z", second + 123_456),
        ("2026-01-01T12:00:00.123456789Z", second + 123_456),
        ("2026-01-01T12:00:00.000001", second + 1),
        ("2026-01-01T14:30:00+02:30", second),
        ("2026-01-01T07:00:00.25-05:00", second + 250_000),
        ("2026-01-02T00:00:00+12:00", second),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
        ("2026-01-01T12:00:00\\u005a", second),
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
    let source = source("t TIMESTAMP", "");
    for bad in [
        "",
        "2026-01-01",
        "2026-01-01T12:00",
        "2026-01-01T12:00:00.Z",
        "2026-01-01T12:00:00+0200",
        "2026-01-01T24:00:00Z",
        "2026-01-01T12:60:00Z",
        "2026-01-01T12:00:61Z",
        "2026-01-01T12:00:60Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-1-01T00:00:00Z",
        "2026-01-01X12:00:00Z",
        "2026-01-01T12:00:00Z ",
        "2026-01-01T12:00:00+24:00",
        "0000-01-01T00:00:00+01:00",
        "2026-01-01T12:00:0/Z",
        "2026-01-01T12-00-00Z",
        "2026/01/01T12:00:00Z",
        "1900-02-29T00:00:00Z",
        "２026-01-01T12:00:00Z",
        "\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000T12:00:00Z",
    ] {
        let reason = reason(&source, format!("{{\"t\":\"{bad}\"}}"));
        assert!(
            reason.starts_with("field \"t\": expected TIMESTAMP (RFC 3339 text), found text"),
            "{bad}: {reason}"
        );
    }
    assert_eq!(
        reason(&source, r#"{"t":1767268800}"#),
        "field \"t\": expected TIMESTAMP (RFC 3339 text), found number 1767268800"
    );
}

#[test]
fn timestamps_as_numbers() {
    let read = |format: &str, text: &str| {
        let with = format!("WITH (timestamp_format = '{format}')");
        one("t TIMESTAMP", &with, &format!("{{\"t\":{text}}}"))["t"]
            .as_i64()
            .expect("a time")
    };
    assert_eq!(read("epoch_seconds", "1767268800"), 1_767_268_800_000_000);
    assert_eq!(read("epoch_seconds", "1767268800.5"), 1_767_268_800_500_000);
    assert_eq!(read("epoch_seconds", "1767268800.1234569"), 1_767_268_800_123_456);
    assert_eq!(read("epoch_seconds", "1.7672688e9"), 1_767_268_800_000_000);
    assert_eq!(read("epoch_millis", "1767268800123"), 1_767_268_800_123_000);
    assert_eq!(read("epoch_millis", "1767268800123.25"), 1_767_268_800_123_250);
    assert_eq!(read("epoch_micros", "1767268800123456"), 1_767_268_800_123_456);
    assert_eq!(read("epoch_micros", "-1"), -1);
    assert_eq!(read("epoch_millis", "\"2026-01-01T12:00:00Z\""), 1_767_268_800_000_000);
    let source = source("t TIMESTAMP", "WITH (timestamp_format = 'epoch_seconds')");
    for text in ["1767268800123", "1e300", "9223372036854775807"] {
        assert_eq!(
            reason(&source, format!("{{\"t\":{text}}}")),
            format!(
                "field \"t\": expected TIMESTAMP (epoch seconds), found number {text}, which is not in the years 0 to 9999"
            )
        );
    }
}

#[test]
fn dates_bytes_and_booleans() {
    let source = source("d DATE, b BYTES, f BOOLEAN", "");
    let decoded = decode(
        &source,
        &[
            r#"{"d":"2026-01-31","b":"aGk=","f":true}"#,
            r#"{"d":"1969-12-31","b":"aGk","f":false}"#,
            r#"{"d":"2000-02-29","b":"","f":null}"#,
        ],
    );
    assert_eq!(
        events(&source, &decoded),
        [
            json!({"d": 20484, "b": b"hi", "f": true}),
            json!({"d": -1, "b": b"hi", "f": false}),
            json!({"d": 11016, "b": b"", "f": null}),
        ]
    );
    let expected = [
        (
            r#"{"d":"2026-02-30"}"#,
            "field \"d\": expected DATE (YYYY-MM-DD), found text \"2026-02-30\"",
        ),
        (
            r#"{"d":20484}"#,
            "field \"d\": expected DATE (YYYY-MM-DD), found number 20484",
        ),
        (
            r#"{"b":"a*"}"#,
            "field \"b\": expected BYTES (base64 text), found text \"a*\"",
        ),
        (
            r#"{"f":"true"}"#,
            "field \"f\": expected BOOLEAN (true or false), found text \"true\"",
        ),
        (
            r#"{"f":1}"#,
            "field \"f\": expected BOOLEAN (true or false), found number 1",
        ),
    ];
    for (payload, expected) in expected {
        assert_eq!(reason(&source, payload), expected);
    }
}

#[test]
fn nested_values_and_nulls_everywhere() {
    let columns = "p STRUCT<userId TEXT, geo STRUCT<lat DOUBLE, tags TEXT[]>>, n BIGINT[][], l STRUCT<k TEXT>[]";
    let source = source(columns, "");
    let payloads = [
        r#"{"p":{"userId":"u","geo":{"lat":1.5,"tags":["a",null,"b"]}},"n":[[1,2],[],null,[3]],"l":[{"k":"x"},null,{}]}"#,
        r#"{"p":null,"n":null,"l":null}"#,
        r#"{"p":{"other":{"deep":[1,{"x":2}]}},"n":[],"l":[]}"#,
        r#"{}"#,
        r#"{"p":{"geo":{"tags":[],"lat":2},"userId":"v","userId":"w"},"n":[[]],"l":[{"k":"y","k":"z"}]}"#,
    ];
    let decoded = decode(&source, &payloads);
    assert_eq!(dead(&decoded), []);
    let absent = json!({"p": null, "n": null, "l": null});
    assert_eq!(
        events(&source, &decoded),
        [
            json!({"p": {"userid": "u", "geo": {"lat": 1.5, "tags": ["a", null, "b"]}}, "n": [[1, 2], [], null, [3]],
                "l": [{"k": "x"}, null, {"k": null}]}),
            absent.clone(),
            json!({"p": {"userid": null, "geo": null}, "n": [], "l": []}),
            absent,
            json!({"p": {"userid": "w", "geo": {"lat": 2.0, "tags": []}}, "n": [[]], "l": [{"k": "z"}]}),
        ]
    );
    let expected = [
        (
            r#"{"p":{"geo":{"lat":"x"}}}"#,
            "field \"p.geo.lat\": expected DOUBLE, found text \"x\"",
        ),
        (
            r#"{"p":{"geo":{"tags":["a",5]}}}"#,
            "field \"p.geo.tags[1]\": expected TEXT, found number 5",
        ),
        (
            r#"{"n":[[1],[2,"x"]]}"#,
            "field \"n[1][1]\": expected BIGINT, found text \"x\"",
        ),
        (r#"{"p":[]}"#, "field \"p\": expected an object, found an array"),
        (r#"{"n":{}}"#, "field \"n\": expected an array, found an object"),
        (r#"{"n":[1]}"#, "field \"n[0]\": expected an array, found number 1"),
        (r#"{"n":[[1,]]}"#, "malformed JSON at byte 9: expected a value"),
        (r#"{"n":[[1 2]]}"#, "malformed JSON at byte 9: expected `,` or `]`"),
    ];
    for (payload, expected) in expected {
        assert_eq!(reason(&source, payload), expected, "{payload}");
    }
}
