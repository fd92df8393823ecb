mod refusals;

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
    assert_eq!(
        source.retention.age, None,
        "which is of the log, and written retention_ms"
    );
    assert_eq!(source.keep_for, Some(Duration::from_secs(7 * 86_400)));
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
fn sums_may_keep_the_name_of_their_column() {
    good(
        "CREATE TABLE t (a TEXT, b BIGINT);
         CREATE MATERIALIZED VIEW v AS SELECT a AS a, x.a AS A2, sum(b) AS b FROM t AS x GROUP BY a HAVING sum(b) > 1",
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
fn fields_behind_subscripts_may_be_written_with_dots() {
    let view = |commits: &str| {
        let catalog = good(&format!(
            "CREATE TABLE t (commits STRUCT<author STRUCT<name TEXT, \"fullName\" TEXT>>[]);
             CREATE MATERIALIZED VIEW v AS SELECT max({commits}) AS last FROM t"
        ));
        catalog.views["v"].ast.to_string()
    };
    assert_eq!(view("commits[1].author.name"), view("commits[1]['author']['name']"));
    assert_eq!(
        view("commits[1].Author.\"fullName\""),
        view("commits[1]['author']['fullName']")
    );
}
