//! Whole records: form, keys, NOT NULL, and the columns that come beside the declared ones.

use super::*;

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
