use super::*;

fn rewritten(sql: &str) -> Result<String, PgError> {
    let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
    let before = statement.to_string();
    let changed = rewrite(&mut statement, Planner::Engine)?;
    assert_eq!(changed, statement.to_string() != before, "{sql}");
    Ok(statement.to_string())
}

#[test]
fn what_means_something_else_is_put_in_other_words() {
    for (sql, expected) in [
        (
            "SELECT a ^ 2 FROM t",
            "SELECT power(CAST(a AS DOUBLE PRECISION), 2) FROM t",
        ),
        ("SELECT |/ a, @ b FROM t", "SELECT sqrt(a), abs(b) FROM t"),
        (
            "SELECT a::float, CAST(b AS FLOAT(8)) FROM t",
            "SELECT a::DOUBLE PRECISION, CAST(b AS REAL) FROM t",
        ),
        (
            "SELECT a::bpchar, b::\"char\", c::uuid, d::name FROM t",
            "SELECT a::TEXT, b::TEXT, c::TEXT, d::TEXT FROM t",
        ),
        ("SELECT a::float[] FROM t", "SELECT a::DOUBLE PRECISION[] FROM t"),
        (
            "SELECT to_char(a, 'YYYY-MM-DD HH24:MI:SS.MS \"UTC\"') FROM t",
            "SELECT to_char(a, '%Y-%m-%d %H:%M:%S.%3f UTC') FROM t",
        ),
        (
            "SELECT to_char(a, 'yyyy Mon FMDD, FMMonth') FROM t",
            "SELECT to_char(a, '%Y %b %-d, %B') FROM t",
        ),
        (
            "SELECT 1 FROM t WHERE a >= TO_TIMESTAMP('2015-09-12 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')",
            "SELECT 1 FROM t WHERE a >= to_timestamp_micros('2015-09-12 00:00:00.000000', '%Y-%m-%d %H:%M:%S.%6f')",
        ),
        (
            "SELECT to_date('2015-09-12', 'YYYY-MM-DD') FROM t",
            "SELECT to_date('2015-09-12', '%Y-%m-%d') FROM t",
        ),
        (
            "SELECT 1 FROM t WHERE a = ANY('{x,\"y z\",NULL}')",
            "SELECT 1 FROM t WHERE a IN ('x', 'y z', NULL)",
        ),
        (
            "SELECT 1 FROM t WHERE a <> ALL('{1,2}')",
            "SELECT 1 FROM t WHERE a NOT IN ('1', '2')",
        ),
        (
            "SELECT 1 FROM t WHERE a = ANY('{}') AND b",
            "SELECT 1 FROM t WHERE false AND b",
        ),
        (
            "SELECT 1 FROM t WHERE a = ANY('{1,2}'::int8[])",
            "SELECT 1 FROM t WHERE a = ANY(CAST(ARRAY['1', '2'] AS INT8[]))",
        ),
        (
            "SELECT 1 FROM t WHERE a SIMILAR TO '#(a|b)%.x_'",
            r"SELECT 1 FROM t WHERE a ~ '^(?s:#(a|b).*\.x.)$'",
        ),
        (
            "SELECT a FROM t OFFSET 2 ROWS FETCH NEXT 3 ROWS ONLY",
            "SELECT a FROM t LIMIT 3 OFFSET 2 ROWS",
        ),
        (
            "SELECT INTERVAL '1 year 2 mons 3 days 04:05:06.5' FROM t",
            "SELECT INTERVAL '14 months 3 days 14706.500000 seconds' FROM t",
        ),
        (
            "SELECT '-1:30'::interval FROM t",
            "SELECT INTERVAL '0 months 0 days -5400.000000 seconds' FROM t",
        ),
        (
            "SELECT a + INTERVAL '5 minutes' * FLOOR(b / 5) FROM t",
            "SELECT a + arrow_cast(CAST((FLOOR(b / 5)) * 300000000 AS BIGINT), 'Duration(Microsecond)') FROM t",
        ),
        (
            "SELECT INTERVAL '1' DAY / 2 FROM t",
            "SELECT arrow_cast(CAST(86400000000 / CAST(2 AS DOUBLE PRECISION) AS BIGINT), 'Duration(Microsecond)') FROM t",
        ),
        (
            "SELECT substring(a from 'b.*') FROM t",
            "SELECT (regexp_match(a, 'b.*'))[1] FROM t",
        ),
        (
            "SELECT timezone('UTC', a), every(b) FROM t",
            "SELECT ((a) AT TIME ZONE 'UTC'), bool_and(b) FROM t",
        ),
        ("SELECT pg_catalog.lower(a) FROM t", "SELECT lower(a) FROM t"),
        ("SELECT U&'x', '\\x1f00'::bytea FROM t", "SELECT 'x', X'1f00' FROM t"),
        (
            "SELECT EXISTS (SELECT a FROM t), NOT EXISTS (SELECT 1 FROM u) AS none FROM v WHERE EXISTS (SELECT 1 FROM w)",
            "SELECT (SELECT count(*) > 0 FROM (SELECT a FROM t) AS found), (SELECT count(*) = 0 FROM (SELECT 1 FROM u) AS found) \
             AS none FROM v WHERE EXISTS (SELECT 1 FROM w)",
        ),
        (
            "EXPLAIN (ANALYZE, BUFFERS, VERBOSE false) SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
        ),
        (
            "SELECT a, a, count(*), 1 AS a, b::int, b FROM t",
            "SELECT a, a AS \"a:2\", count(*), 1 AS \"a:4\", b::INT, b AS \"b:6\" FROM t",
        ),
    ] {
        assert_eq!(rewritten(sql).unwrap(), expected);
    }
}

#[test]
fn what_means_the_same_stays() {
    for sql in [
        "SELECT to_char(a, '%Y-%m') FROM t",
        "SELECT to_char(a, b) FROM t",
        "SELECT SUBSTRING(a FROM 2 FOR 3) FROM t",
        "SELECT a + INTERVAL '5 minutes', INTERVAL '1' DAY FROM t",
        "SELECT a FROM t WHERE b = ANY(ARRAY[1, 2]) AND c = ANY($1) LIMIT 3",
        "SELECT a::TEXT, b::BIGINT, c::TIMESTAMPTZ FROM t",
        "SELECT a, b, count(*) AS c FROM t GROUP BY a, b",
    ] {
        assert_eq!(rewritten(sql).unwrap(), sql);
    }
}

#[test]
fn what_would_be_answered_otherwise_is_refused() {
    for (sql, code) in [
        ("SELECT to_char(a, 'Day') FROM t", "0A000"),
        ("SELECT to_char(a, 'MONTH') FROM t", "0A000"),
        ("SELECT to_char(a, '999.99') FROM t", "0A000"),
        ("SELECT to_char(a, 'FM9990D00') FROM t", "0A000"),
        ("SELECT to_char(a, 'YYYY-MM-DDTHH24') FROM t", "0A000"),
        ("SELECT to_char(a, 'J') FROM t", "0A000"),
        ("SELECT a FROM t WHERE b SIMILAR TO c", "0A000"),
        ("SELECT a FROM t WHERE b = ANY('{{1,2}}')", "22P02"),
        ("SELECT '{1'::int[] FROM t", "22P02"),
        ("SELECT '\\x1'::bytea FROM t", "22023"),
        ("SELECT a FROM t FETCH FIRST 3 ROWS WITH TIES", "0A000"),
    ] {
        assert_eq!(rewritten(sql).unwrap_err().code, code, "{sql}");
    }
}

#[test]
fn tables_are_queries() {
    assert_eq!(table_command(" table totals").as_deref(), Some("SELECT * FROM  totals"));
    assert_eq!(table_command("SELECT 1"), None);
    assert_eq!(table_command("tables"), None);
    assert_eq!(table_command("tablé"), None);
}

#[test]
fn columns_are_called_as_postgresql_calls_them() {
    let names = |sql: &str| told(&Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap()[0]);
    let called = names(
        "SELECT count(*), sum(a), t.b, 1, 'x', a + 1, a::text, 1::int8, CASE WHEN a THEN 1 END, coalesce(a), \
         EXTRACT(hour FROM c), DATE '2026-11-22', c AT TIME ZONE 'UTC', true, ARRAY[1], (SELECT max(x) FROM y), \
         a AS Alias, a AS \"Alias\", substring(a FROM 1), date_trunc('day', c)::date FROM t",
    );
    let expected = [
        "count",
        "sum",
        "b",
        "?column?",
        "?column?",
        "?column?",
        "a",
        "int8",
        "case",
        "coalesce",
        "extract",
        "date",
        "timezone",
        "bool",
        "array",
        "max",
        "alias",
        "Alias",
        "substring",
        "date_trunc",
    ];
    assert_eq!(called.unwrap(), expected);
    assert_eq!(
        names("SELECT lower(a) FROM t UNION SELECT b FROM u").unwrap(),
        ["lower"]
    );
    assert_eq!(names("SELECT *, 1 FROM t"), None);
}

#[test]
fn intervals_are_read() {
    for (text, expected) in [
        ("5 minutes", Some((0, 0, 300_000_000))),
        ("1 year 2 mons -3 days 04:05:06.5", Some((14, -3, 14_706_500_000))),
        ("-00:00:00.25", Some((0, 0, -250_000))),
        ("1.5 hours", Some((0, 0, 5_400_000_000))),
        ("2 weeks", Some((0, 14, 0))),
        ("3days 10ms", Some((0, 3, 10_000))),
        ("-0.5 s", Some((0, 0, -500_000))),
        ("99999999999999999999 hours", None),
        ("1", None),
        ("", None),
        ("5 moons", None),
        ("1:2:3:4", None),
        ("1:-2", None),
        ("é days", None),
    ] {
        assert_eq!(literal::interval(text), expected, "{text}");
    }
}
