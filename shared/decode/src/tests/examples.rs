//! Rules, one by one.

use super::*;

fn one(columns: &str, with: &str, payload: &str) -> Value {
    let source = source(columns, with);
    let decoded = decode(&source, &[payload]);
    assert_eq!(dead(&decoded), [], "{payload}");
    events(&source, &decoded).remove(0)
}

#[test]
fn a_click() {
    let source = source(
        "ts TIMESTAMP NOT NULL, \"user\" TEXT, page TEXT, session TEXT, duration_ms BIGINT, bytes BIGINT",
        "WITH (event_time = 'ts')",
    );
    let click = r#"{"ts":"2026-01-01T00:00:00.123Z","user":"u12345","page":"/product/123","session":"s-1","duration_ms":123,"bytes":4567}"#;
    let decoded = decode(&source, &[click, click]);
    let expected = json!({"ts": 1_767_225_600_123_000_i64, "user": "u12345", "page": "/product/123", "session": "s-1",
        "duration_ms": 123, "bytes": 4567});
    assert_eq!(events(&source, &decoded), [expected.clone(), expected]);
    assert_eq!(decoded.events.schema(), source.event_schema());
    assert_eq!(decoded.dead.schema(), source.event_schema());
    assert_eq!(decoded.dead.num_rows(), 0);
    assert_eq!(decoded.partition, PartitionId(3));
    assert_eq!(decoded.range, OffsetRange::new(Offset(100), Offset(102)));
}

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

#[test]
fn malformed_records() {
    let source = source("a BIGINT", "");
    let expected = [
        ("", "empty payload"),
        ("   ", "empty payload"),
        ("5", "expected a JSON object, found number 5"),
        ("[{\"a\":1}]", "expected a JSON object, found an array"),
        ("null", "expected a JSON object, found null"),
        ("hello", "malformed JSON at byte 0: expected a value"),
        ("{", "malformed JSON at byte 1: the record ends here"),
        ("{\"a\"", "malformed JSON at byte 4: the record ends here"),
        ("{\"a\":", "malformed JSON at byte 5: the record ends here"),
        ("{\"a\":1", "malformed JSON at byte 6: the record ends here"),
        ("{\"a\" 1}", "malformed JSON at byte 5: expected `:`"),
        ("{a:1}", "malformed JSON at byte 1: expected a key in double quotes"),
        (
            "{\"a\":1,}",
            "malformed JSON at byte 7: expected a key in double quotes",
        ),
        ("{\"a\":1 \"b\":2}", "malformed JSON at byte 7: expected `,` or `}`"),
        (
            "{\"a\":1}}",
            "malformed JSON at byte 7: expected nothing after the object",
        ),
        (
            "{\"a\":1} {\"a\":2}",
            "malformed JSON at byte 8: expected nothing after the object",
        ),
        ("{\"a\":tru}", "malformed JSON at byte 5: expected a value"),
        ("{\"x\":[1,2}", "malformed JSON at byte 9: expected `,` or `]`"),
        ("{\"x\":{\"y\":1]}", "malformed JSON at byte 11: expected `,` or `}`"),
        (
            "{\"x\":{y:1}}",
            "malformed JSON at byte 6: expected a key in double quotes",
        ),
        ("{\"x\":{\"y\" 1}}", "malformed JSON at byte 10: expected `:`"),
        ("\u{feff}{\"a\":1}", "malformed JSON at byte 0: expected a value"),
    ];
    for (payload, expected) in expected {
        assert_eq!(reason(&source, payload), expected, "{payload}");
    }
    assert_eq!(reason(&source, b"{\"x\":\"\xff\"}"), "invalid UTF-8 at byte 6");
    assert_eq!(reason(&source, b"{\"a\":1}\xc3"), "invalid UTF-8 at byte 7");
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(
        reason(&source, deep),
        "malformed JSON at byte 133: nested deeper than 128 levels"
    );
}

#[test]
fn null_payloads_are_dead_letters_without_bytes() {
    let source = source("a BIGINT", "");
    let decoded = Decoder::new(&source).decode(&raw([Some(&b"{}"[..]), None, Some(&b"{\"a\":1}"[..])]));
    assert_eq!(events(&source, &decoded), [json!({"a": null}), json!({"a": 1})]);
    assert_eq!(dead(&decoded), [(101, "null payload (a tombstone)".to_owned())]);
    assert!(decoded.dead.column_by_name("_raw").expect("ours").is_null(0));
}

#[test]
fn not_null() {
    let source = source(
        "t TIMESTAMP NOT NULL, a TEXT, s STRUCT<b TEXT> NOT NULL",
        "WITH (event_time = 't')",
    );
    let time = r#""t":"2026-01-01T00:00:00Z""#;
    assert_eq!(reason(&source, "{}"), "field \"t\": NOT NULL, but it is missing");
    assert_eq!(
        reason(&source, r#"{"t":null,"s":{}}"#),
        "field \"t\": NOT NULL, but it is null"
    );
    assert_eq!(
        reason(&source, format!("{{{time}}}")),
        "field \"s\": NOT NULL, but it is missing"
    );
    assert_eq!(
        reason(&source, format!("{{{time},\"s\":{{}},\"t\":null}}")),
        "field \"t\": NOT NULL, but it is null"
    );
    let payload = format!("{{\"t\":null,{time},\"s\":{{}}}}");
    assert_eq!(
        events(&source, &decode(&source, &[payload])).len(),
        1,
        "the last of two keys counts"
    );
    // A nullable event time is a legal event without one.
    assert_eq!(
        one("t TIMESTAMP, a TEXT", "WITH (event_time = 't')", "{\"a\":\"x\"}"),
        json!({"t": null, "a": "x"})
    );
}

#[test]
fn keys_in_any_order_spelling_and_number() {
    let columns =
        "a BIGINT, cityName TEXT, \"z\"\"q\" TEXT, a_key_longer_than_sixteen_bytes BIGINT, ключ BIGINT, \"\\\" TEXT";
    let source = source(columns, "");
    let payloads = [
        r#"{"a":1,"cityName":"x","z\"q":"q","a_key_longer_than_sixteen_bytes":2,"ключ":3,"\\":"b"}"#,
        r#"{ "ключ" : 3 , "a_key_longer_than_sixteen_bytes" : 2 , "cityName" : "x" , "a" : 1, "\\":"b", "z\u0022q":"q" }"#,
        "\t{\r\n\"unknown\": {\"a\": 9}, \"a\": 1, \"cityname\": 5, \"a_key_longer_than_sixteen_bytes_\": 7,\n\"cityName\":\"x\",\"a_key_longer_than_sixteen_bytes\":2,\"\\u043a\\u043b\\u044e\\u0447\":3,\"\\\\\":\"b\",\"z\\\"q\":\"q\"}\n",
        r#"{"a":0,"a":1,"cityName":"y","ключ":4,"cityName":"x","z\"q":"q","a_key_longer_than_sixteen_bytes":2,"ключ":3,"\\":"b"}"#,
    ];
    let row = json!({"a": 1, "cityname": "x", "z\"q": "q", "a_key_longer_than_sixteen_bytes": 2, "ключ": 3, "\\": "b"});
    let mut decoder = Decoder::new(&source);
    for round in 0..3 {
        let decoded = decoder.decode(&raw_text(&payloads));
        assert_eq!(dead(&decoded), [], "round {round}");
        assert_eq!(
            events(&source, &decoded),
            vec![row.clone(); payloads.len()],
            "round {round}"
        );
    }
}

#[test]
fn more_undeclared_keys_than_are_remembered() {
    let source = source("a BIGINT", "");
    let mut decoder = Decoder::new(&source);
    for batch in 0..4 {
        let payloads: Vec<String> = (0..1000)
            .map(|n| {
                format!(
                    "{{\"k{}\":[{{}}],\"a\":{n},\"{}\":1}}",
                    batch * 1000 + n,
                    "long".repeat(n)
                )
            })
            .collect();
        let decoded = decoder.decode(&raw_text(&payloads));
        let expected: Vec<Value> = (0..1000).map(|n| json!({"a": n})).collect();
        assert_eq!(events(&source, &decoded), expected);
    }
}

#[test]
fn raw_is_the_payload_buffer_itself_when_nothing_died() {
    let source = source("a BIGINT", "");
    let batch = raw_text(&["{\"a\":1}", "{\"a\":2}"]);
    let decoded = Decoder::new(&source).decode(&batch);
    let raw = decoded.events.column_by_name("_raw").expect("ours").as_binary::<i32>();
    assert_eq!(
        raw.value_data().as_ptr(),
        batch.payloads.value_data().as_ptr(),
        "no copy"
    );
    assert_eq!(raw.value(1), b"{\"a\":2}");
}

#[test]
fn our_columns_stay_with_their_records() {
    let source = source("a BIGINT", "");
    let payloads = ["{\"a\":1}", "x", "{\"a\":3}", "{\"a\":\"\"}"];
    let decoded = decode(&source, &payloads);
    let check = |batch: &RecordBatch, rows: [usize; 2]| {
        let column = |name: &str| batch.column_by_name(name).expect("ours").clone();
        for (row, record) in rows.into_iter().enumerate() {
            let offset = 100 + record as i64;
            assert_eq!(column("_partition").as_primitive::<Int32Type>().value(row), 3);
            assert_eq!(column("_offset").as_primitive::<Int64Type>().value(row), offset);
            assert_eq!(
                column("_timestamp")
                    .as_primitive::<TimestampMicrosecondType>()
                    .value(row),
                offset * 1000
            );
            assert_eq!(column("_key").as_binary::<i32>().value(row), b"key");
            assert!(column("_headers").is_null(row));
            assert_eq!(
                column("_raw").as_binary::<i32>().value(row),
                payloads[record].as_bytes()
            );
        }
    };
    check(&decoded.events, [0, 2]);
    check(&decoded.dead, [1, 3]);
    assert_eq!(decoded.events.column_by_name("_reason").expect("ours").null_count(), 2);
    assert_eq!(decoded.dead.column(0).null_count(), 2);
}

#[test]
fn without_keep_raw_only_dead_letters_keep_their_bytes() {
    let source = source("a BIGINT", "WITH (keep_raw = 'false')");
    for payloads in [&["{}", "{}"][..], &["{}", "{}", "x"][..]] {
        let decoded = decode(&source, payloads);
        assert_eq!(decoded.events.column_by_name("_raw").expect("ours").null_count(), 2);
    }
    let decoded = decode(&source, &["x"]);
    assert_eq!(
        decoded
            .dead
            .column_by_name("_raw")
            .expect("ours")
            .as_binary::<i32>()
            .value(0),
        b"x"
    );
}

#[test]
fn headers_pass_through() {
    let source = source("a BIGINT", "");
    let mut builder = RawBatchBuilder::new();
    builder.push(7, None, None, Some(b"{}"), [("h", Some(&b"v"[..]))]);
    builder.push(9, None, None, Some(b"?"), [("h", None)]);
    let batch = builder.finish(PartitionId(0), OffsetRange::new(Offset(5), Offset(12)));
    let decoded = Decoder::new(&source).decode(&batch);
    assert_eq!(decoded.range, OffsetRange::new(Offset(5), Offset(12)));
    let headers = decoded.events.column_by_name("_headers").expect("ours").as_map();
    assert_eq!(headers.keys().as_string::<i32>().value(0), "h");
    assert!(decoded.events.column_by_name("_timestamp").expect("ours").is_null(0));
    assert_eq!(
        dead(&decoded),
        [(9, "malformed JSON at byte 0: expected a value".to_owned())]
    );
}

#[test]
fn sliced_and_empty_batches() {
    let source = source("a BIGINT", "");
    let mut batch = raw_text(&["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
    batch.offsets = batch.offsets.slice(1, 2);
    batch.timestamps = batch.timestamps.slice(1, 2);
    batch.keys = batch.keys.slice(1, 2);
    batch.payloads = batch.payloads.slice(1, 2);
    let decoded = Decoder::new(&source).decode(&batch);
    assert_eq!(events(&source, &decoded), [json!({"a": 2}), json!({"a": 3})]);
    let none: [&str; 0] = [];
    let decoded = decode(&source, &none);
    assert_eq!((decoded.events.num_rows(), decoded.dead.num_rows()), (0, 0));
}

#[test]
fn seen_columns_are_those_of_events() {
    let source = source("a BIGINT, b BIGINT, c BIGINT", "");
    let mut decoder = Decoder::new(&source);
    assert_eq!(decoder.seen_columns(), [false, false, false]);
    decoder.check(b"{\"c\":1}").expect("fine");
    decoder.decode(&raw_text(&["{\"a\":1,\"c\":\"dead\"}"]));
    assert_eq!(
        decoder.seen_columns(),
        [false, false, false],
        "neither a check nor a dead letter counts"
    );
    decoder.decode(&raw_text(&["{\"b\":null}"]));
    assert_eq!(decoder.seen_columns(), [false, true, false]);
    decoder.decode(&raw_text(&["{\"a\":1}", "{\"c\":1}"]));
    assert_eq!(decoder.seen_columns(), [true, true, true]);
}

#[test]
fn checks_leave_nothing_behind() {
    let source = source("a BIGINT, s TEXT[]", "");
    let mut decoder = Decoder::new(&source);
    decoder.check(b"{\"a\":1,\"s\":[\"x\"]}").expect("fine");
    assert!(decoder.check(b"{\"a\":1,\"s\":[\"x\",5]}").is_err());
    let decoded = decoder.decode(&raw_text(&["{\"a\":2,\"s\":[]}"]));
    assert_eq!(events(&source, &decoded), [json!({"a": 2, "s": []})]);
}

#[test]
fn a_large_record() {
    let source = source("a TEXT, b BIGINT", "");
    let text = "lorem ipsum \\n ".repeat(70_000);
    let payload = format!("{{\"x\":\"{text}\",\"a\":\"{text}\",\"b\":1}}");
    let decoded = decode(&source, &[payload.as_str(), "{\"b\":2}"]);
    assert_eq!(
        events(&source, &decoded),
        [
            json!({"a": text.replace("\\n", "\n"), "b": 1}),
            json!({"a": null, "b": 2})
        ]
    );
}
