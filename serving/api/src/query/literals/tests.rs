use super::*;
use crate::query::check;

fn lifted(sql: &str) -> Option<Lifted> {
    Lifted::of(sql, &check::parse(sql).unwrap())
}

fn text_of(sql: &str) -> String {
    lifted(sql).unwrap().text.trim_start_matches('\0').to_owned()
}

#[test]
fn statements_that_differ_in_what_they_compare_with_are_one() {
    let one = lifted("SELECT * FROM pages WHERE page = 'home' AND (hits >= 5 OR false) AND 3 < n").unwrap();
    let other =
        lifted("select * from pages where page='o''brien' and (hits >= 5 or false) and 40000000000 < n").unwrap();
    assert_eq!(one.text, other.text);
    assert_eq!(one.values, [ScalarValue::from("home"), ScalarValue::from(3_i64)]);
    assert_eq!(
        other.values,
        [ScalarValue::from("o'brien"), ScalarValue::from(40_000_000_000_i64)]
    );
    assert_eq!(
        text_of("SELECT * FROM pages WHERE (page = 'a') AND p.n <> 1"),
        "SELECT * FROM pages WHERE (page = $1) AND p.n <> $2"
    );
}

#[test]
fn everything_but_texts_and_whole_numbers_beside_columns_stays_where_it_is() {
    for sql in [
        "SELECT 'a', 1 FROM pages LIMIT 3",
        "SELECT * FROM pages WHERE page LIKE 'a%'",
        "SELECT * FROM pages WHERE page IN ('a', 'b')",
        "SELECT * FROM pages WHERE page = 'a' OR page = 'b'",
        "SELECT * FROM pages WHERE hits = 1.5 AND hits = -1 AND hits = 99999999999999999999",
        "SELECT * FROM pages WHERE hour > now() - INTERVAL '1 hour' AND hour = TIMESTAMP '2026-01-01'",
        "SELECT * FROM pages WHERE upper(page) = 'A' AND 'a' = 'b' AND NOT page = 'a'",
        "SELECT * FROM pages WHERE page = $1 AND hits = 2",
        "SELECT * FROM pages WHERE page = 'a?'",
        "SELECT * FROM a UNION SELECT * FROM b WHERE x = 'y'",
        "EXPLAIN SELECT * FROM pages WHERE page = 'a'",
    ] {
        assert!(lifted(sql).is_none(), "{sql}");
    }
    assert_eq!(
        text_of("SELECT 'a', 1 FROM pages WHERE page = 'a' GROUP BY 1 HAVING max(n) = 7 ORDER BY 1 LIMIT 3 OFFSET 2"),
        "SELECT 'a', 1 FROM pages WHERE page = $1 GROUP BY 1 HAVING max(n) = 7 ORDER BY 1 LIMIT 3 OFFSET 2"
    );
    let many: Vec<String> = (0..MOST + 5).map(|n| format!("n <> {n}")).collect();
    let many = lifted(&format!("SELECT * FROM pages WHERE {}", many.join(" AND "))).unwrap();
    assert_eq!(many.values.len(), MOST);
}

#[test]
fn values_fit_where_they_are_compared_without_a_cast() {
    let lifted = lifted("SELECT * FROM pages WHERE page = 'a' AND n = 1").unwrap();
    let fits = |one: DataType, other: DataType| lifted.fits(&[Some(one), Some(other)]);
    assert!(fits(DataType::Utf8, DataType::Int64));
    assert!(fits(DataType::Utf8, DataType::Int32));
    assert!(!fits(DataType::Utf8, DataType::Utf8), "a number beside a text column");
    assert!(
        !fits(DataType::Int64, DataType::Int64),
        "a text beside a column of numbers"
    );
    assert!(!fits(DataType::Date32, DataType::Int64));
    assert!(!fits(DataType::Utf8, DataType::Decimal128(10, 2)));
    assert!(!lifted.fits(&[Some(DataType::Utf8), None]));
    assert!(!lifted.fits(&[Some(DataType::Utf8)]));
}
