//! Everything that is refused: where, why, and what to write instead.

use super::*;

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
fn views_may_stand_before_their_table_and_of_a_broken_table_nothing_more_is_said() {
    good("CREATE MATERIALIZED VIEW v AS SELECT a FROM t GROUP BY a; CREATE TABLE t (a TEXT);");
    assert_eq!(
        bad("CREATE MATERIALIZED VIEW v AS SELECT a FROM t GROUP BY a; CREATE TABLE t (a TEX);"),
        ["line 1, column 77: unknown type `TEX` (did you mean `TEXT`?)"]
    );
}

#[test]
fn a_wrong_option_does_not_hide_a_wrong_event_time() {
    let found = bad("CREATE TABLE t (\na TEXT, ts TIMESTAMP\n) WITH (topik = 'x', event_time = 'tz');");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[1].contains("event_time names no column: 'tz'"), "{found:#?}");
    // A column that was refused may be the one that is meant.
    let found = bad("CREATE TABLE t (\na TEXT, ts TIMESTAM\n) WITH (event_time = 'ts');");
    assert_eq!(found.len(), 1, "{found:#?}");
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
fn deep_nesting_is_refused_without_overflow() {
    let deep = format!("{}INT{}", "STRUCT<a ".repeat(2000), ">".repeat(2000));
    let found = bad_table(&format!("a {deep}"), "");
    assert!(found.contains("nest deeper than 16 levels"), "{found}");
    let nested = format!("SELECT {}1{} AS x FROM t", "(".repeat(3000), ")".repeat(3000));
    assert!(bad_view(&nested).contains("nests too deeply"));
}
