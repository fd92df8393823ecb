//! What a view refuses: where it stands, why, and what to write instead.

mod common;

use anabranch_view::View;
use common::TABLE;

/// The error of a view: line and column within the query, message and hint.
fn refused(query: &str) -> (u64, u64, String, String) {
    let sql = format!("{TABLE}CREATE MATERIALIZED VIEW v AS\n{query};");
    let diagnostic = match anabranch_catalog::Catalog::parse(&sql) {
        Err(diagnostics) => diagnostics[0].clone(),
        Ok(catalog) => match View::compile(&catalog.views["v"]) {
            Err(diagnostic) => diagnostic,
            Ok(_) => panic!("{query} is accepted"),
        },
    };
    let before = TABLE.lines().count() as u64 + 1;
    (
        diagnostic.place.line - before,
        diagnostic.place.column,
        diagnostic.message,
        diagnostic.hint.unwrap_or_default(),
    )
}

#[track_caller]
fn assert_refused(query: &str, line: u64, column: u64, message: &str, hint: &str) {
    let (l, c, m, h) = refused(query);
    assert_eq!((l, c), (line, column), "{query}: {m} ({h})");
    assert!(m.contains(message), "{query}: {m} ({h})");
    assert!(h.contains(hint), "{query}: {m} ({h})");
}

#[test]
fn aggregates_that_do_not_merge_are_refused_where_they_stand() {
    assert_refused(
        "SELECT g, median(x) AS m FROM e GROUP BY g",
        1,
        11,
        "`median`",
        "approx_median",
    );
    assert_refused(
        "SELECT g,\n  percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS m\nFROM e GROUP BY g",
        2,
        3,
        "`percentile_cont`",
        "approx_percentile_cont",
    );
    assert_refused(
        "SELECT g, count(*) + 0 * max(i), array_agg(i) FROM e GROUP BY g",
        1,
        34,
        "`array_agg`",
        "count(DISTINCT",
    );
    assert_refused(
        "SELECT g, string_agg(s, ',') AS a FROM e GROUP BY g",
        1,
        11,
        "`string_agg`",
        "first_value",
    );
    assert_refused(
        "SELECT g, nth_value(s, 2) AS a FROM e GROUP BY g",
        1,
        11,
        "`nth_value`",
        "first_value",
    );
    assert_refused(
        "SELECT g, any_value(s) AS a FROM e GROUP BY g",
        1,
        11,
        "`any_value`",
        "first_value",
    );
    assert_refused(
        "SELECT g, sum(i ORDER BY j) AS a FROM e GROUP BY g",
        1,
        11,
        "ORDER BY inside `sum`",
        "first_value",
    );
    assert_refused(
        "SELECT g, stddev(DISTINCT x) AS a FROM e GROUP BY g",
        1,
        11,
        "`stddev(DISTINCT …)`",
        "count, sum",
    );
    assert_refused(
        "SELECT g, sum(count(i)) AS a FROM e GROUP BY g",
        1,
        15,
        "inside another aggregate",
        "nest",
    );
    assert_refused(
        "SELECT g, approx_distinct(x) AS a FROM e GROUP BY g",
        1,
        11,
        "approx_distinct",
        "",
    );
}

#[test]
fn what_changes_with_time_is_refused() {
    assert_refused(
        "SELECT g, count(*) AS n FROM e WHERE time > now() GROUP BY g",
        1,
        45,
        "`now`",
        "event's own time",
    );
    assert_refused(
        "SELECT random() AS r, count(*) AS n FROM e GROUP BY r",
        1,
        8,
        "`random`",
        "event's own time",
    );
    assert_refused(
        "SELECT g, count(*) AS n FROM e WHERE day = current_date GROUP BY g",
        1,
        44,
        "`current_date`",
        "",
    );
}

#[test]
fn several_groupings_and_windows_over_rows_are_refused() {
    assert_refused(
        "SELECT g, count(*) AS n FROM e GROUP BY ROLLUP (g)",
        1,
        41,
        "grouping sets",
        "one view per grouping",
    );
    assert_refused(
        "SELECT g, sum(count(*)) OVER () AS n FROM e GROUP BY g",
        1,
        11,
        "window function",
        "",
    );
    assert_refused(
        "SELECT g, count(*) AS n FROM e WHERE i IN (SELECT 1) GROUP BY g",
        1,
        44,
        "subquer",
        "",
    );
}

#[test]
fn windows_need_constant_sizes_that_do_not_vary() {
    let view = |call: &str| format!("SELECT {call} AS win, count(*) AS n FROM e GROUP BY win");
    assert_refused(&view("tumble(time, INTERVAL '1 month')"), 1, 8, "months", "days");
    assert_refused(
        &view("tumble(time, INTERVAL '0 seconds')"),
        1,
        8,
        "greater than zero",
        "",
    );
    assert_refused(&view("tumble(time, INTERVAL '-1 hour')"), 1, 8, "greater than zero", "");
    assert_refused(&view("tumble(s, INTERVAL '1 hour')"), 1, 8, "TIMESTAMP", "");
    assert_refused(&view("tumble(time)"), 1, 8, "tumble", "");
    assert_refused(&view("hop(time, INTERVAL '1 hour')"), 1, 8, "hop", "");
    assert_refused(
        &view("hop(time, INTERVAL '1 microsecond', INTERVAL '1 hour')"),
        1,
        8,
        "windows",
        "slide",
    );
    assert_refused(
        &view("session(time, INTERVAL '1 hour')"),
        1,
        8,
        "session windows",
        "tumble",
    );
    assert_refused(
        "SELECT hop(time, INTERVAL '1 hour', INTERVAL '2 hours') AS k, hop(time, INTERVAL '1 hour', INTERVAL '3 hours') AS l,
         count(*) AS n FROM e GROUP BY k, l",
        1,
        63,
        "at most one hop",
        "one view per hop",
    );
}

#[test]
fn unknown_names_get_the_nearest_one() {
    assert_refused(
        "SELECT g, sum(dd) AS n FROM e GROUP BY g",
        1,
        15,
        "unknown column `dd`",
        "did you mean `d`",
    );
    assert_refused(
        "SELECT g, count(*) AS n FROM e WHERE timme IS NULL GROUP BY g",
        1,
        38,
        "`timme`",
        "`time`",
    );
    assert_refused("SELECT g, summ(i) AS n FROM e GROUP BY g", 1, 11, "summ", "");
    assert_refused("SELECT g, sum(s) AS n FROM e GROUP BY g", 1, 11, "sum", "");
    assert_refused("SELECT g, i, count(*) AS n FROM e GROUP BY g", 1, 11, "i", "");
    assert_refused("SELECT g FROM e", 0, 1, "groups", "");
}

#[test]
fn unsupported_keys_are_refused() {
    assert_refused(
        "SELECT _headers AS k, count(*) AS n FROM e GROUP BY _headers",
        1,
        53,
        "cannot be grouped by",
        "part",
    );
}
