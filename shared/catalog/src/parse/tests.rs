use std::time::Duration;

use anabranch_model::columns::timestamp_type;
use arrow::datatypes::{DataType, Field};

use crate::{Catalog, Column, Connector, Source, Start, TimestampFormat, json_key};

const DESIGN: &str = r#"
CREATE TABLE wikipedia (
  time TIMESTAMP NOT NULL, channel TEXT, page TEXT, "user" TEXT, added BIGINT, deleted BIGINT, delta BIGINT
) WITH (connector = 'kafka', topic = 'wikipedia', format = 'json', event_time = 'time');

CREATE MATERIALIZED VIEW edits_per_channel AS
SELECT channel, tumble(time, INTERVAL '1 hour') AS hour,
       count(*) AS edits, sum(added) AS added, count(DISTINCT "user") AS editors
FROM wikipedia GROUP BY channel, hour;
"#;

fn good(sql: &str) -> Catalog {
    Catalog::parse(sql).unwrap_or_else(|problems| {
        panic!(
            "{}",
            problems.iter().map(|p| p.render("views.sql", sql)).collect::<String>()
        )
    })
}

/// Every diagnostic on a line of its own.
fn bad(sql: &str) -> Vec<String> {
    Catalog::parse(sql)
        .expect_err("must be refused")
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The one diagnostic of a table with these columns and options; the columns begin at line 2, the options at line 3.
fn bad_table(columns: &str, with: &str) -> String {
    let found = bad(&format!("CREATE TABLE t (\n{columns}\n) {with};"));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().expect("one")
}

/// The one diagnostic of a view with this SELECT, which begins at line 3.
fn bad_view(select: &str) -> String {
    let found = bad(&format!(
        "CREATE TABLE t (ts TIMESTAMP, a TEXT, b BIGINT);CREATE TABLE u (a TEXT);\nCREATE MATERIALIZED VIEW v AS\n{select};"
    ));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().expect("one")
}

fn source(sql: &str) -> Source {
    let catalog = good(sql);
    assert_eq!(catalog.sources.len(), 1);
    Source::clone(catalog.sources.values().next().expect("one source"))
}

#[test]
fn the_design_example() {
    let catalog = good(DESIGN);
    let source = &catalog.sources["wikipedia"];
    assert_eq!(source.connector, Connector::Kafka);
    assert_eq!(source.topic, "wikipedia");
    assert_eq!(source.event_time.as_deref(), Some("time"));
    assert_eq!(source.start, Start::Earliest);
    assert!(source.keep_raw);
    let names: Vec<&str> = source.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["time", "channel", "page", "user", "added", "deleted", "delta"]);
    assert_eq!(
        source.columns[0],
        Column {
            name: "time".into(),
            json_key: "time".into(),
            data_type: timestamp_type(),
            not_null: true,
            timestamp_format: TimestampFormat::Rfc3339,
        }
    );
    assert!(!source.columns[1].not_null);

    let view = &catalog.views["edits_per_channel"];
    assert_eq!(view.source.name, "wikipedia");
    assert_eq!((view.place.line, view.place.column), (6, 1));
    assert!(view.query.starts_with("SELECT channel, tumble("), "{}", view.query);
    assert!(
        view.query.ends_with("FROM wikipedia GROUP BY channel, hour"),
        "{}",
        view.query
    );
    assert_eq!(
        view.ast.to_string(),
        "SELECT channel, tumble(time, INTERVAL '1 hour') AS hour, count(*) AS edits, sum(added) AS added, \
         count(DISTINCT \"user\") AS editors FROM wikipedia GROUP BY channel, hour"
    );
}

#[test]
fn schemas_keep_the_declared_order_and_append_ours() {
    let catalog = good(DESIGN);
    let source = &catalog.sources["wikipedia"];
    let declared = source.declared_schema();
    assert!(declared.fields().iter().all(|field| field.is_nullable()));
    let event = source.event_schema();
    let names: Vec<&str> = event.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        names[7..],
        [
            "_partition",
            "_offset",
            "_timestamp",
            "_key",
            "_headers",
            "_raw",
            "_reason"
        ],
        "after {:?}",
        &names[..7]
    );
    assert_eq!(event.fields()[..7], declared.fields()[..]);
}

#[test]
fn empty_files_and_comments() {
    for sql in ["", "  \n", "-- nothing\n/* at ; all */\n;;;"] {
        let catalog = good(sql);
        assert!(catalog.sources.is_empty() && catalog.views.is_empty());
    }
    let catalog = good("-- a; comment\nCREATE TABLE t ( /* inner, */ a TEXT -- last\n)\n-- tail\n");
    assert_eq!(catalog.sources["t"].columns.len(), 1);
}

#[test]
fn every_type() {
    let source = source(
        "CREATE TABLE t (a boolean, b INT, c INTEGER, d BIGINT, e DOUBLE, f double precision, g DECIMAL(10,2), h DECIMAL(5), \
         i DECIMAL, j TEXT, k VARCHAR, l STRING, m BYTES, n BYTEA, o DATE, p TIMESTAMP, q NUMERIC(38, 38), r TEXT NULL)",
    );
    let types: Vec<DataType> = source.columns.iter().map(Column::arrow_type).collect();
    let decimal = DataType::Decimal128;
    let (utf8, binary) = (DataType::Utf8, DataType::Binary);
    assert_eq!(
        types,
        [
            DataType::Boolean,
            DataType::Int32,
            DataType::Int32,
            DataType::Int64,
            DataType::Float64,
            DataType::Float64,
            decimal(10, 2),
            decimal(5, 0),
            decimal(38, 10),
            utf8.clone(),
            utf8.clone(),
            utf8.clone(),
            binary.clone(),
            binary,
            DataType::Date32,
            timestamp_type(),
            decimal(38, 38),
            utf8,
        ]
    );
}

#[test]
fn nested_types_carry_json_keys() {
    let source = source(
        "CREATE TABLE t (tags TEXT[], grid BIGINT[][], Payload STRUCT<userId TEXT, b STRUCT<c BIGINT>>, s STRUCT<x STRUCT<y STRUCT<z INT[]>>>[])",
    );
    let list = |item| DataType::List(Field::new("element", item, true).into());
    let structure = |name: &str, data_type| Field::new(name, data_type, true);
    let of = |fields: Vec<Field>| DataType::Struct(fields.into());
    assert_eq!(source.columns[0].arrow_type(), list(DataType::Utf8));
    assert_eq!(source.columns[1].arrow_type(), list(list(DataType::Int64)));
    let payload = &source.columns[2];
    assert_eq!(
        (payload.name.as_str(), payload.json_key.as_str()),
        ("payload", "Payload")
    );
    let inner = of(vec![structure("c", DataType::Int64)]);
    assert_eq!(
        payload.arrow_type(),
        of(vec![structure("userid", DataType::Utf8), structure("b", inner)])
    );
    let DataType::Struct(fields) = &payload.data_type else {
        panic!("a struct")
    };
    assert_eq!(
        (fields[0].name().as_str(), json_key(&fields[0]), json_key(&fields[1])),
        ("userid", "userId", "b")
    );
    let innermost = of(vec![structure("z", list(DataType::Int32))]);
    let deep = list(of(vec![structure("x", of(vec![structure("y", innermost)]))]));
    assert_eq!(source.columns[3].arrow_type(), deep);
}

#[test]
fn names_fold_like_datafusion_and_json_keys_do_not() {
    let catalog = good(
        "CREATE TABLE Clicks (cityName TEXT, \"regionName\" TEXT, Ts TIMESTAMP) WITH (event_time = 'Ts');
         CREATE MATERIALIZED VIEW Cities AS SELECT CITYNAME, count(*) AS n FROM CLICKS AS c GROUP BY cityname",
    );
    let source = &catalog.sources["clicks"];
    let pairs: Vec<(&str, &str)> = source
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.json_key.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [("cityname", "cityName"), ("regionName", "regionName"), ("ts", "Ts")]
    );
    assert_eq!(source.event_time.as_deref(), Some("ts"));
    assert_eq!(source.topic, "clicks");
    assert_eq!(catalog.views["cities"].source.name, "clicks");
}

#[test]
fn every_option() {
    let source = source(
        "CREATE TABLE t (ts TIMESTAMP) WITH ('connector' = 'log', topic = 'a.b-c', format = 'JSON', event_time = 'ts', \
         partitions = 4, start = '2026-01-31T00:00:00Z', keep_raw = FALSE, timestamp_format = 'epoch_millis', \
         retention_bytes = '10 GiB', retention = '7 days')",
    );
    assert_eq!(source.connector, Connector::Log);
    assert_eq!(source.topic, "a.b-c");
    assert_eq!(source.partitions, Some(4));
    assert_eq!(source.start, Start::Timestamp(1_769_817_600_000));
    assert!(!source.keep_raw);
    assert_eq!(source.columns[0].timestamp_format, TimestampFormat::EpochMillis);
    assert_eq!(source.retention.bytes, Some(10 << 30));
    assert_eq!(source.retention.age, Some(Duration::from_secs(7 * 86_400)));
}

#[test]
fn options_as_text_or_bare() {
    let source = source(
        "CREATE TABLE t (a TEXT) WITH (partitions = '12', keep_raw = 'false', start = 'latest', retention_ms = 5000, retention_bytes = 1000)",
    );
    assert_eq!(
        (source.partitions, source.keep_raw, source.start),
        (Some(12), false, Start::Latest)
    );
    assert_eq!(
        (source.retention.bytes, source.retention.age),
        (Some(1000), Some(Duration::from_secs(5)))
    );
    assert_eq!(source.connector, Connector::Log);
}

#[test]
fn refused_columns() {
    let cases = [
        (
            "a BIGNIT",
            "line 2, column 3: unknown type `BIGNIT` (did you mean `BIGINT`?)",
        ),
        (
            "a FLOAT",
            "line 2, column 3: unknown type `FLOAT` (did you mean `DOUBLE`?)",
        ),
        (
            "a GEOMETRY",
            "line 2, column 3: unknown type `GEOMETRY` (types: BOOLEAN, INT, BIGINT, DOUBLE, DECIMAL(p, s), TEXT, BYTES, DATE, TIMESTAMP, T[], STRUCT<a T, …>)",
        ),
        (
            "a ARRAY<TEXT>",
            "line 2, column 3: unknown type `ARRAY` (write `TEXT[]`)",
        ),
        (
            "a TEXT[3]",
            "line 2, column 8: expected `]`, found `3` (arrays have no declared length: write `TEXT[]`)",
        ),
        (
            "a VARCHAR(10)",
            "line 2, column 10: VARCHAR has no length here (write `TEXT`)",
        ),
        (
            "a TIMESTAMP(3)",
            "line 2, column 12: TIMESTAMP has no precision and no time zone of its own (write `TIMESTAMP`: microseconds in UTC)",
        ),
        (
            "a STRUCT",
            "line 2, column 3: STRUCT needs its fields spelt out (write `STRUCT<a TEXT, b STRUCT<c BIGINT>>`)",
        ),
        (
            "a STRUCT<b TEXT, B INT>",
            "line 2, column 18: field `b` is already there as `b` (fields that differ only in case cannot be told apart in SQL)",
        ),
        (
            "a STRUCT<b TEXT NOT NULL>",
            "line 2, column 17: NOT NULL is for whole columns, not for fields of a STRUCT (leave it out, or filter in the view)",
        ),
        (
            "a STRUCT<b TEXT",
            "line 3, column 1: expected `,` or `>`, found the end",
        ),
        (
            "a DECIMAL(39, 2)",
            "line 2, column 10: DECIMAL(39, 2) does not exist (write `DECIMAL(precision, scale)` with precision 1 to 38 and scale 0 to precision)",
        ),
        (
            "a DECIMAL(4, 5)",
            "line 2, column 10: DECIMAL(4, 5) does not exist (write `DECIMAL(precision, scale)` with precision 1 to 38 and scale 0 to precision)",
        ),
        (
            "a DECIMAL('x')",
            "line 2, column 10: DECIMAL takes two whole numbers (write `DECIMAL(precision, scale)` with precision 1 to 38 and scale 0 to precision)",
        ),
        (
            "a",
            "line 3, column 1: expected a type, found the end (types: BOOLEAN, INT, BIGINT, DOUBLE, DECIMAL(p, s), TEXT, BYTES, DATE, TIMESTAMP, T[], STRUCT<a T, …>)",
        ),
        ("a TEXT,", "line 3, column 1: expected a column name, found the end"),
        ("'a' TEXT", "line 2, column 1: expected a column name, found `'a'`"),
        (
            "_offset TEXT",
            "line 2, column 1: column name `_offset` begins with `_` (names that begin with `_` are reserved for Anabranch's own columns; choose another name)",
        ),
        (
            "\"a b\" TEXT",
            "line 2, column 1: column name `a b` contains ' ' (Delta tables allow no spaces, control characters or any of `,;{}()=` in column names)",
        ),
        (
            "user TEXT",
            "line 2, column 1: `user` is a reserved word (write \"user\", here and in views)",
        ),
        ("a TEXT, a INT", "line 2, column 9: column `a` is declared twice"),
        (
            "cityName TEXT, cityname INT",
            "line 2, column 16: column `cityname` is declared twice",
        ),
        (
            "cityName TEXT, \"cityName\" INT",
            "line 2, column 16: columns `cityname` and `cityName` differ only in case (they could not be told apart in SQL: declare one of them)",
        ),
        (
            "a TEXT PRIMARY KEY",
            "line 2, column 8: `PRIMARY` is not supported in a table (a source is an append-only stream of events: it has no keys; leave the clause out)",
        ),
        (
            "a TEXT, PRIMARY KEY (a)",
            "line 2, column 9: `PRIMARY` is not supported in a table (a source is an append-only stream of events: it has no keys; leave the clause out)",
        ),
        (
            "a TEXT DEFAULT 'x'",
            "line 2, column 8: `DEFAULT` is not supported in a table (an absent field is null; use coalesce(column, value) in the view)",
        ),
        (
            "ts TIMESTAMP, WATERMARK FOR ts AS ts",
            "line 2, column 15: `WATERMARK` is not supported in a table (late events are always counted, so there is nothing to bound; name the column in WITH (event_time = '…'))",
        ),
        ("", "line 1, column 14: table `t` has no columns"),
    ];
    for (columns, expected) in cases {
        assert_eq!(bad_table(columns, ""), expected, "{columns}");
    }
}

#[test]
fn reserved_words_are_what_the_parser_cannot_read_bare() {
    for fine in [
        "time",
        "page",
        "channel",
        "date",
        "timestamp",
        "hour",
        "key",
        "value",
        "type",
        "name",
        "delta",
        "session",
        "user_id",
    ] {
        good(&format!("CREATE TABLE t ({fine} TEXT)"));
    }
    for reserved in [
        "select",
        "from",
        "user",
        "interval",
        "current_date",
        "group",
        "null",
        "true",
    ] {
        let found = bad_table(&format!("{reserved} TEXT"), "");
        assert!(found.contains("is a reserved word"), "{found}");
        good(&format!("CREATE TABLE t (\"{reserved}\" TEXT)"));
    }
}

#[test]
fn refused_options() {
    let cases = [
        (
            "conector = 'log'",
            "line 3, column 9: unknown option `conector` (did you mean `connector`?)",
        ),
        (
            "connector = 'kafak'",
            "line 3, column 21: `connector` cannot be 'kafak' (did you mean 'kafka'?)",
        ),
        (
            "connector = 'pulsar'",
            "line 3, column 21: `connector` cannot be 'pulsar' (write 'kafka' or 'log')",
        ),
        (
            "connector = kafka",
            "line 3, column 21: expected a value, found `kafka` (put it in single quotes: 'kafka')",
        ),
        ("connector 'kafka'", "line 3, column 19: expected `=`, found `'kafka'`"),
        (
            "format = 'avro'",
            "line 3, column 18: `format` cannot be 'avro' (write 'json')",
        ),
        (
            "topic = 'a/b'",
            "line 3, column 17: `topic` cannot be 'a/b' (write a Kafka topic name: 1 to 249 ASCII letters, digits, `.`, `_` or `-`)",
        ),
        (
            "partitions = 0",
            "line 3, column 22: `partitions` cannot be '0' (write a number of partitions from 1 to 10000)",
        ),
        (
            "start = 'yesterday'",
            "line 3, column 17: `start` cannot be 'yesterday' (write 'earliest', 'latest', or a time such as '2026-01-31T00:00:00Z')",
        ),
        (
            "keep_raw = 'no'",
            "line 3, column 20: `keep_raw` cannot be 'no' (write 'true' or 'false')",
        ),
        (
            "timestamp_format = 'epoch_milis'",
            "line 3, column 28: `timestamp_format` cannot be 'epoch_milis' (did you mean 'epoch_millis'?)",
        ),
        (
            "retention = 'a while'",
            "line 3, column 21: `retention` cannot be 'a while' (write a duration such as '7 days' or '36h')",
        ),
        (
            "retention_bytes = '10 potatoes'",
            "line 3, column 27: `retention_bytes` cannot be '10 potatoes' (write a number of bytes, or a size such as '10 GiB')",
        ),
        (
            "retention_bytes = '99999999 TiB'",
            "line 3, column 27: `retention_bytes` cannot be '99999999 TiB' (write a number of bytes, or a size such as '10 GiB')",
        ),
        (
            "retention_ms = 1, retention = '1s'",
            "line 3, column 27: `retention` and `retention_ms` say the same thing (keep one of them)",
        ),
        (
            "connector = 'kafka', retention_ms = 1",
            "line 3, column 30: option `retention_ms` is for connector = 'log' (Kafka's own topic configuration rules there; leave the option out)",
        ),
        (
            "topic = 'a', topic = 'b'",
            "line 3, column 22: option `topic` is given twice",
        ),
        ("topic = 'a' 'b'", "line 3, column 21: expected `,` or `)`, found `'b'`"),
        (
            "event_time = 'tz'",
            "line 3, column 22: event_time names no column: 'tz' (did you mean 'ts'?)",
        ),
        (
            "event_time = 'when'",
            "line 3, column 22: event_time names no column: 'when' (TIMESTAMP columns: ts)",
        ),
        (
            "event_time = 'a'",
            "line 3, column 22: event_time names `a`, which is not a TIMESTAMP (declare the column as TIMESTAMP; timestamp_format reads epoch numbers)",
        ),
    ];
    for (option, expected) in cases {
        assert_eq!(
            bad_table("a TEXT, ts TIMESTAMP", &format!("WITH ({option})")),
            expected,
            "{option}"
        );
    }
    assert_eq!(
        bad_table("a TEXT", "STORED AS PARQUET"),
        "line 3, column 3: expected `WITH (…)` or `;`, found `STORED`"
    );
    assert_eq!(
        bad_table("a TEXT", "WITH (topic = 'a'"),
        "line 3, column 8: this `(` is never closed"
    );
}

#[test]
fn refused_statements() {
    let cases = [
        (
            "CRAETE TABLE t (a TEXT)",
            "line 1, column 1: `CRAETE` statements are not supported here (did you mean `CREATE`?)",
        ),
        (
            "SELECT 1",
            "line 1, column 1: `SELECT` statements are not supported here (a file holds CREATE TABLE … WITH (…) and CREATE MATERIALIZED VIEW … AS SELECT … only)",
        ),
        (
            "CREATE VIEW v AS SELECT 1",
            "line 1, column 8: expected TABLE or MATERIALIZED VIEW, found `VIEW` (write CREATE MATERIALIZED VIEW: every view is kept fresh)",
        ),
        (
            "CREATE TABEL t (a TEXT)",
            "line 1, column 8: expected TABLE or MATERIALIZED VIEW, found `TABEL` (did you mean `TABLE`?)",
        ),
        (
            "CREATE OR REPLACE TABLE t (a TEXT)",
            "line 1, column 8: `OR REPLACE` is not supported (the file is the whole truth at every start: nothing is created twice; leave it out)",
        ),
        (
            "CREATE TABLE IF NOT EXISTS t (a TEXT)",
            "line 1, column 14: `IF NOT EXISTS` is not supported (the file is the whole truth at every start: nothing is created twice; leave it out)",
        ),
        (
            "CREATE TABLE s.t (a TEXT)",
            "line 1, column 14: the name of a table has one part (there are no schemas: leave out what comes before the dot)",
        ),
        (
            "CREATE TABLE _t (a TEXT)",
            "line 1, column 14: table name `_t` begins with `_` (names that begin with `_` are reserved for Anabranch's own columns; choose another name)",
        ),
        (
            "CREATE TABLE \"a/b\" (a TEXT)",
            "line 1, column 14: `a/b` cannot name a table (use at most 128 ASCII letters, digits and `_`, beginning with a letter: the name becomes part of paths and URLs)",
        ),
        (
            "CREATE TABLE t",
            "line 1, column 15: expected `(` and columns such as `channel TEXT`, found the end",
        ),
        (
            "CREATE TABLE t (a TEXT);\nCREATE TABLE T (b TEXT)",
            "line 2, column 14: `t` is already a table, declared at line 1 (tables and views share one set of names; rename one)",
        ),
        (
            "CREATE TABLE t (a TEXT);\nCREATE TABLE \"T\" (b TEXT)",
            "line 2, column 14: `T` differs only in case from table `t` (tables and views share one set of names; rename one)",
        ),
        (
            "CREATE TABLE t (a TEXT);\nCREATE MATERIALIZED VIEW t AS SELECT a FROM t",
            "line 2, column 26: `t` is already a table, declared at line 1 (tables and views share one set of names; rename one)",
        ),
        (
            "CREATE TABLE t (a TEXT 'unclosed)",
            "line 1, column 24: unterminated string literal",
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(bad(sql), [expected], "{sql}");
    }
}

#[test]
fn refused_views() {
    let cases = [
        (
            "SELECT count(*) AS n FROM tt",
            "line 3, column 27: unknown source `tt` (did you mean `t`?)",
        ),
        (
            "SELECT count(*) AS n FROM clicks",
            "line 3, column 27: unknown source `clicks` (known: `t`, `u`)",
        ),
        (
            "SELECT count(*) AS n FROM v",
            "line 3, column 27: `v` is a view; a view reads a source (read its table instead; views over views are not supported)",
        ),
        (
            "SELECT count(*) AS n FROM s.t",
            "line 3, column 27: unknown source `s.t`: a name has one part (there are no schemas: leave out what comes before the dot)",
        ),
        (
            "SELECT count(*) AS n",
            "line 3, column 1: the SELECT has no FROM (a view reads one table)",
        ),
        (
            "SELECT count(*) AS n FROM t, u",
            "line 3, column 30: a view reads exactly one table (write one view per table and combine them when you query)",
        ),
        (
            "SELECT count(*) AS n FROM t JOIN u ON t.a = u.a",
            "line 3, column 29: JOIN is not supported in a view (write one view per table and combine them when you query)",
        ),
        (
            "SELECT count(*) AS n FROM t UNION ALL SELECT 1",
            "line 3, column 29: UNION is not supported in a view (write one view per table and combine them when you query)",
        ),
        (
            "SELECT count(*) AS n FROM t WHERE a IN (SELECT a FROM u)",
            "line 3, column 41: subqueries are not supported in a view (filter with WHERE, or make a second view and combine the two when you query)",
        ),
        (
            "SELECT count(*) AS n FROM t WHERE EXISTS (SELECT 1 FROM u)",
            "line 3, column 43: subqueries are not supported in a view (filter with WHERE, or make a second view and combine the two when you query)",
        ),
        (
            "SELECT count(*) AS n FROM (SELECT a FROM t) x",
            "line 3, column 28: subqueries are not supported in a view (filter with WHERE, or make a second view and combine the two when you query)",
        ),
        (
            "WITH x AS (SELECT a FROM t) SELECT count(*) FROM x",
            "line 3, column 1: WITH queries are not supported in a view (write the SELECT directly over the table)",
        ),
        (
            "SELECT DISTINCT a FROM t",
            "line 3, column 8: DISTINCT is not supported in a view (GROUP BY the columns instead)",
        ),
        (
            "SELECT a, count(*) AS n FROM t GROUP BY a ORDER BY n",
            "line 3, column 43: ORDER BY is not supported in a view: its rows have no order (do it when you query the view)",
        ),
        (
            "SELECT a, count(*) AS n FROM t GROUP BY a LIMIT 5",
            "line 3, column 43: LIMIT is not supported in a view: a view keeps every group (do it when you query the view)",
        ),
        (
            "SELECT a, count(*) AS n FROM t GROUP BY a OFFSET 5",
            "line 3, column 43: OFFSET is not supported in a view: a view keeps every group (do it when you query the view)",
        ),
        (
            "SELECT a, count(*) AS n FROM t GROUP BY ROLLUP (a)",
            "line 3, column 41: grouping sets are not supported in a view (write one view per grouping, or add up the finer view when you query)",
        ),
        (
            "SELECT a, row_number() OVER (ORDER BY ts) AS n FROM t",
            "line 3, column 11: window function `row_number` is not supported in a view (GROUP BY tumble(…) or hop(…), and use OVER when you query the view)",
        ),
        (
            "SELECT session(ts, INTERVAL '1 minute') AS w, count(*) AS n FROM t GROUP BY w",
            "line 3, column 8: session windows are not supported yet (use tumble(time, size) or hop(time, slide, size))",
        ),
        (
            "SELECT count(*) AS n FROM generate_series(1, 3)",
            "line 3, column 27: a view reads one table, by its name and an alias only (tumble(…) and hop(…) are written in SELECT or GROUP BY, samples as a WHERE)",
        ),
        (
            "VALUES (1)",
            "line 3, column 1: a view is one SELECT over one table (write SELECT … FROM table GROUP BY …)",
        ),
        (
            "(SELECT a FROM t)",
            "line 3, column 1: expected SELECT, found `(` (leave out the parentheses around the SELECT)",
        ),
        (
            "SELECT a, FROM t GROUP BY",
            "line 3, column 26: expected: an expression, found the end",
        ),
        (
            "SELECT a a a FROM t",
            "line 3, column 12: expected the end of the statement, found `a` (statements are separated by `;`)",
        ),
        (
            "SELECT date_trunc('hour', ts) AS ts, count(*) AS n FROM t GROUP BY ts",
            "line 3, column 68: `ts` is both a column of `t` and the alias of `date_trunc('hour', ts)` (give the alias another name, such as `ts_window`)",
        ),
        (
            "SELECT lower(a) AS A, count(*) AS n FROM t GROUP BY a",
            "line 3, column 53: `a` is both a column of `t` and the alias of `lower(a)` (give the alias another name, such as `a_key`)",
        ),
    ];
    for (select, expected) in cases {
        assert_eq!(bad_view(select), expected, "{select}");
    }
}

#[test]
fn view_headers() {
    let table = "CREATE TABLE t (a TEXT);\n";
    let cases = [
        (
            "CREATE MATERIALIZED VIEW v (n) AS SELECT count(*) FROM t",
            "line 2, column 28: a view takes no list of column names (name the columns in the SELECT: `count(*) AS edits`)",
        ),
        (
            "CREATE MATERIALIZED VIEW v WITH (x = 1) AS SELECT a FROM t",
            "line 2, column 28: view `v` takes no options (options belong to the table: CREATE TABLE … WITH (…))",
        ),
        (
            "CREATE MATERIALIZED VIEW v SELECT a FROM t",
            "line 2, column 28: expected `AS SELECT …`, found `SELECT`",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS",
            "line 2, column 30: expected SELECT, found the end",
        ),
    ];
    for (view, expected) in cases {
        assert_eq!(bad(&format!("{table}{view}")), [expected], "{view}");
    }
}

#[test]
fn sums_may_keep_the_name_of_their_column() {
    good(
        "CREATE TABLE t (a TEXT, b BIGINT);
         CREATE MATERIALIZED VIEW v AS SELECT a AS a, x.a AS A2, sum(b) AS b FROM t AS x GROUP BY a HAVING sum(b) > 1",
    );
}

#[test]
fn views_may_stand_before_their_table_and_of_a_broken_table_nothing_more_is_said() {
    good("CREATE MATERIALIZED VIEW v AS SELECT a FROM t GROUP BY a; CREATE TABLE t (a TEXT);");
    assert_eq!(
        bad("CREATE MATERIALIZED VIEW v AS SELECT a FROM t GROUP BY a; CREATE TABLE t (a TEX);"),
        ["line 1, column 77: unknown type `TEX` (did you mean `TEXT`?)"]
    );
}

#[test]
fn everything_wrong_is_said_in_file_order() {
    let sql = "CREATE MATERIALIZED VIEW v AS SELECT a FROM nowhere ORDER BY a;
CREATE TABLE t (a TEX, b TEXT, b INT, _c INT)
WITH (topik = 'x', partitions = 'many');
DROP TABLE t;
CREATE MATERIALIZED VIEW w AS SELECT a FROM t LIMIT 1;";
    let places: Vec<(u64, u64)> = Catalog::parse(sql)
        .expect_err("all of it")
        .iter()
        .map(|problem| (problem.place.line, problem.place.column))
        .collect();
    assert_eq!(
        places,
        [(1, 53), (2, 19), (2, 32), (2, 39), (3, 7), (3, 33), (4, 1), (5, 47)]
    );
}

#[test]
fn a_rendered_report() {
    let sql = "CREATE TABLE clicks (\n\tpage TEXT,\n\tadded BIGNIT\n) WITH (conector = 'log');\n";
    let report: String = Catalog::parse(sql)
        .expect_err("two problems")
        .iter()
        .map(|problem| problem.render("views.sql", sql))
        .collect();
    assert_eq!(
        report,
        "\
error: unknown type `BIGNIT`
 --> views.sql:3:8
  |
3 | \tadded BIGNIT
  | \t      ^^^^^^
  = help: did you mean `BIGINT`?
error: unknown option `conector`
 --> views.sql:4:9
  |
4 | ) WITH (conector = 'log');
  |         ^^^^^^^^
  = help: did you mean `connector`?
"
    );
}

#[test]
fn query_text_is_cut_by_characters() {
    let catalog = good(
        "CREATE TABLE t (a TEXT); -- größer\nCREATE MATERIALIZED VIEW v AS\n  SELECT 'ü→' AS x, count(*) AS n\n  FROM t -- end\n;",
    );
    assert_eq!(catalog.views["v"].query, "SELECT 'ü→' AS x, count(*) AS n\n  FROM t");
}

#[test]
fn deep_nesting_is_refused_without_overflow() {
    let deep = format!("{}INT{}", "STRUCT<a ".repeat(2000), ">".repeat(2000));
    let found = bad_table(&format!("a {deep}"), "");
    assert!(found.contains("nest deeper than 16 levels"), "{found}");
    let nested = format!("SELECT {}1{} AS x FROM t", "(".repeat(3000), ")".repeat(3000));
    assert!(bad_view(&nested).contains("nests too deeply"));
}
