use std::sync::Arc;

use super::*;

fn definitions(sql: &str) -> Definitions {
    Definitions::compile(1, sql).unwrap_or_else(|found| panic!("{found:?}\n{sql}"))
}

fn table_sql(columns: &str, options: &str) -> String {
    format!("CREATE TABLE t ({columns})\nWITH (connector = 'log', topic = 't'{options});\n")
}

fn landed(of: &Definitions, has_events: bool) -> BTreeMap<String, Landed> {
    let source = &of.catalog.sources["t"];
    let landed = Landed {
        columns: source.event_schema().as_ref().clone(),
        refusal: None,
        has_events,
    };
    BTreeMap::from([("t".to_owned(), landed)])
}

fn table_item(old: &str, new: &str, has_events: bool) -> Item {
    let (old, new) = (definitions(old), definitions(new));
    Change::between(&old, &new, &landed(&old, has_events)).items.remove(0)
}

#[test]
fn each_table_and_view_is_told_what_becomes_of_it() {
    let table = table_sql("a TEXT, n BIGINT", "");
    let view = |name: &str, select: &str| format!("CREATE MATERIALIZED VIEW {name} AS SELECT {select} FROM t;\n");
    let old = definitions(
        &[
            &*table,
            &view("same", "count(*) AS c"),
            &view("gone", "count(*) AS c"),
            &view("other", "sum(n) AS s"),
        ]
        .concat(),
    );
    let wider = table_sql("a TEXT, n BIGINT, b TEXT", "");
    let new = definitions(
        &[
            &*wider,
            &view("same", "count(*) AS c"),
            &view("other", "max(n) AS s"),
            &view("fresh", "max(b) AS b"),
        ]
        .concat(),
    );
    let change = Change::between(&old, &new, &landed(&old, true));
    let told: Vec<(&str, Action, bool)> = change
        .items
        .iter()
        .map(|item| (item.name.as_str(), item.action, item.rebuild))
        .collect();
    assert_eq!(
        told,
        [
            ("t", Action::Changed, false),
            ("fresh", Action::Added, true),
            ("other", Action::Changed, true),
            ("same", Action::Unchanged, false),
            ("gone", Action::Dropped, false),
        ]
    );
    assert!(
        change.items[0].detail.contains("filled from the raw bytes"),
        "{}",
        change.items[0].detail
    );
    assert!(change.is_change() && !change.refused());
    assert!(!Change::between(&old, &old, &landed(&old, true)).is_change());
}

#[test]
fn what_would_misread_landed_data_is_refused_with_its_place() {
    let old = table_sql(
        "at TIMESTAMP NOT NULL, n BIGINT, s STRUCT<a TEXT>",
        ", event_time = 'at', partitions = 4",
    );
    let cases = [
        (old.replace("n BIGINT", "n DOUBLE"), "type", (1, 40)),
        (old.replace("n BIGINT, ", ""), "`n` cannot be dropped", (1, 14)),
        (
            old.replace("n BIGINT", "N BIGINT"),
            "JSON key `N` instead of `n`",
            (1, 40),
        ),
        (old.replace("s STRUCT<a TEXT>", "s STRUCT<b TEXT>"), "type", (1, 50)),
        (old.replace("topic = 't'", "topic = 'u'"), "topic", (1, 14)),
        (old.replace("'log'", "'kafka'"), "connector", (1, 14)),
        (old.replace(", event_time = 'at'", ""), "event_time", (1, 14)),
        (
            old.replace("partitions = 4", "partitions = 3"),
            "fewer partitions",
            (1, 14),
        ),
        (
            old.replace("partitions = 4", "timestamp_format = 'epoch_millis'"),
            "timestamp_format",
            (1, 17),
        ),
    ];
    for (new, reason, (line, column)) in cases {
        let item = table_item(&old, &new, true);
        assert_eq!(item.action, Action::Refused, "{new}");
        assert!(item.detail.contains(reason), "{} does not say {reason}", item.detail);
        assert_eq!(item.place, Some(Place { line, column }), "{new}");
    }
}

#[test]
fn what_harms_nothing_is_allowed() {
    let old = table_sql("at TIMESTAMP NOT NULL, s STRUCT<a TEXT>, n BIGINT", ", partitions = 4");
    for (new, says) in [
        (old.replace("partitions = 4", "partitions = 6"), "more partitions"),
        (old.replace("s STRUCT<a TEXT>", "s STRUCT<a TEXT, b BIGINT>"), ""),
        (
            old.replace("TIMESTAMP NOT NULL", "TIMESTAMP"),
            "NOT NULL counts for new events",
        ),
        (
            old.replace("partitions = 4", "partitions = 4, keep_raw = 'false'"),
            "keep_raw",
        ),
    ] {
        let item = table_item(&old, &new, true);
        assert_eq!(item.action, Action::Changed, "{new}: {}", item.detail);
        assert!(item.detail.contains(says), "{}", item.detail);
    }
    assert_eq!(
        table_item(&old, &old.replace(", n BIGINT", ""), false).action,
        Action::Changed,
        "nothing was landed, so nothing is lost"
    );
}

#[test]
fn a_table_that_comes_back_must_fit_what_was_landed() {
    let new = definitions(&table_sql("n BIGINT", ""));
    let none = Definitions::fixed(Arc::default(), Arc::default());
    let mut known = landed(&new, true);
    assert_eq!(Change::between(&none, &new, &known).items[0].action, Action::Added);
    known.get_mut("t").unwrap().refusal = Some("column `n` is another".into());
    let change = Change::between(&none, &new, &known);
    assert!(
        change.refused() && change.refusals().contains("table `t`: column `n` is another"),
        "{}",
        change.refusals()
    );
}
