//! Random SELECTs, right and wrong: whatever a client writes is its own mistake, never the server's.
//!
//! More of them, and others: [`anabranch_testkit::fuzz`].

use std::time::Duration;

use anabranch_runtime::{HumanDuration, Settings};
use anabranch_testkit::fuzz;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::{Event, World, click};

const CASES: u32 = 150;

fn pick(items: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    prop::sample::select(items).prop_map(str::to_owned)
}

fn leaf() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        6 => pick(&["page", "hits", "total", "hour", "dearest", "score", "day", "blob", "first", "sold", "pages.page", "a.hits", "b.page"]),
        3 => pick(&["0", "1", "-7", "9223372036854775807", "1.5", "1e300", "0.1", "NULL", "TRUE", "''", "'home'", "'cart%'", "'🦀'"]),
        1 => pick(&["TIMESTAMP '1970-01-01 01:00:00'", "DATE '2015-09-12'", "INTERVAL '1 hour'", "now()", "$1", "?", "X'00ff'", "nothing_like_it", "*"]),
    ]
}

fn scalar() -> impl Strategy<Value = String> + Clone {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let binary = pick(&["+", "-", "*", "/", "%", "=", "<>", "<", ">=", "AND", "OR", "||", "LIKE", "IS DISTINCT FROM"]);
        let function = pick(&["upper", "length", "abs", "round", "sqrt", "ln", "coalesce", "nullif", "substr", "date_trunc", "to_timestamp", "concat", "repeat", "no_such"]);
        let cast = pick(&["INT", "BIGINT", "DOUBLE", "TEXT", "DECIMAL(10, 2)", "TIMESTAMP", "DATE", "BOOLEAN", "BYTES", "NOTHING"]);
        prop_oneof![
            4 => (inner.clone(), binary, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            2 => (function, prop::collection::vec(inner.clone(), 0..4)).prop_map(|(f, args)| format!("{f}({})", args.join(", "))),
            2 => (inner.clone(), cast).prop_map(|(a, t)| format!("CAST({a} AS {t})")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("CASE WHEN {a} THEN {b} ELSE {c} END")),
            1 => (inner.clone(), prop::collection::vec(inner.clone(), 1..4)).prop_map(|(a, list)| format!("{a} IN ({})", list.join(", "))),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("{a} BETWEEN {b} AND {c}")),
            1 => inner.clone().prop_map(|a| format!("{a} IS NOT NULL")),
            1 => inner.clone().prop_map(|a| format!("(SELECT max({a}) FROM sales)")),
            1 => inner.clone().prop_map(|a| format!("EXISTS (SELECT 1 FROM pages WHERE {a})")),
        ]
    })
}

fn output() -> impl Strategy<Value = String> + Clone {
    let aggregate = pick(&[
        "count",
        "sum",
        "avg",
        "min",
        "max",
        "stddev",
        "array_agg",
        "approx_distinct",
        "median",
        "count(DISTINCT page), sum",
    ]);
    prop_oneof![
        4 => scalar(),
        2 => (aggregate, scalar()).prop_map(|(f, a)| format!("{f}({a})")),
        1 => Just("count(*)".to_owned()),
        1 => Just("*".to_owned()),
        1 => (scalar(), scalar()).prop_map(|(a, b)| format!("row_number() OVER (PARTITION BY {a} ORDER BY {b})")),
        1 => (scalar(), scalar()).prop_map(|(a, b)| format!("lag({a}) OVER (ORDER BY {b})")),
    ]
}

fn source() -> impl Strategy<Value = String> + Clone {
    let view = pick(&[
        "pages",
        "hours",
        "blobs",
        "totals",
        "sales",
        "pages a",
        "pages b",
        "hours a",
        "clicks",
        "nobody",
        "information_schema.tables",
    ]);
    prop_oneof![
        6 => view.clone(),
        2 => (view.clone(), view.clone(), scalar()).prop_map(|(a, b, on)| format!("{a} JOIN {b} ON {on}")),
        1 => (view.clone(), view.clone()).prop_map(|(a, b)| format!("{a} LEFT JOIN {b} USING (page)")),
        1 => (view.clone(), view.clone()).prop_map(|(a, b)| format!("{a}, {b}")),
        1 => (view, scalar()).prop_map(|(a, filter)| format!("(SELECT * FROM {a} WHERE {filter}) a")),
        1 => Just("generate_series(1, 3) a(page)".to_owned()),
        1 => Just("unnest([1, 2, 3]) a(page)".to_owned()),
    ]
}

fn select() -> impl Strategy<Value = String> + Clone {
    let maybe = |word: &'static str, what: BoxedStrategy<String>| {
        prop::option::weighted(0.4, what)
            .prop_map(move |what| what.map_or(String::new(), |what| format!(" {word} {what}")))
    };
    let list = prop::collection::vec(output(), 1..4).prop_map(|list| list.join(", "));
    let group = prop_oneof![
        scalar(),
        Just("1".to_owned()),
        Just("page".to_owned()),
        Just("ROLLUP (page)".to_owned())
    ];
    let order =
        (scalar(), pick(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"])).prop_map(|(a, how)| format!("{a}{how}"));
    let limit = pick(&["0", "3", "1 OFFSET 2", "-1", "18446744073709551615", "1 + 1", "page"]);
    (
        (pick(&["", "", "", "DISTINCT "]), list, source()),
        (
            maybe("WHERE", scalar().boxed()),
            maybe("GROUP BY", group.boxed()),
            maybe("HAVING", scalar().boxed()),
        ),
        (maybe("ORDER BY", order.boxed()), maybe("LIMIT", limit.boxed())),
    )
        .prop_map(|((distinct, list, from), (filter, group, having), (order, limit))| {
            format!("SELECT {distinct}{list} FROM {from}{filter}{group}{having}{order}{limit}")
        })
}

/// A number of `hours`.
fn number_of() -> impl Strategy<Value = String> + Clone {
    let leaf = pick(&[
        "hits",
        "score",
        "dearest",
        "length(page)",
        "0",
        "1",
        "-7",
        "2.5",
        "CAST(hits AS DOUBLE)",
    ]);
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), pick(&["+", "-", "*", "/", "%"]), inner.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (pick(&["abs", "round", "sqrt", "coalesce", "-"]), inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (truth_of(Just("hits > 1".to_owned()).boxed()), inner.clone(), inner)
                .prop_map(|(c, a, b)| format!("CASE WHEN {c} THEN {a} ELSE {b} END")),
        ]
    })
}

/// A condition over `hours`.
fn truth_of(numbers: BoxedStrategy<String>) -> impl Strategy<Value = String> + Clone {
    let compare = pick(&["=", "<>", "<", "<=", ">", ">="]);
    let page = pick(&["'home'", "'cart'", "''", "upper('home')", "'h' || 'ome'"]);
    let hour = pick(&[
        "'1970-01-01T01:00:00Z'",
        "TIMESTAMP '1970-01-01 02:00:00'",
        "CAST('1969-01-01' AS DATE)",
        "NULL",
    ]);
    let leaf = prop_oneof![
        numbers,
        (Just("page"), compare.clone(), page.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (Just("hour"), compare, hour.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (page.clone(), page.clone()).prop_map(|(a, b)| format!("page IN ({a}, {b})")),
        (hour.clone(), hour).prop_map(|(a, b)| format!("hour BETWEEN {a} AND {b}")),
        page.prop_map(|a| format!("page LIKE {a} || '%'")),
        pick(&[
            "page IS NULL",
            "hour IS NOT NULL",
            "TRUE",
            "page IN (SELECT page FROM sales)"
        ]),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), pick(&["AND", "OR"]), inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

/// A query whose names and types are right.
fn valid() -> impl Strategy<Value = String> + Clone {
    let truth = || truth_of(number_of().prop_map(|a| format!("{a} < 3")).boxed());
    let limit = pick(&["", " LIMIT 3", " LIMIT 2 OFFSET 1", " LIMIT 0"]);
    let order = pick(&[
        "",
        " ORDER BY hour, page",
        " ORDER BY hour DESC",
        " ORDER BY page DESC NULLS LAST, hour",
        " ORDER BY hits",
    ]);
    prop_oneof![
        (number_of(), truth(), order, limit.clone()).prop_map(|(a, filter, order, limit)| format!("SELECT page, hour, {a} AS x FROM hours WHERE {filter}{order}{limit}")),
        (number_of(), truth(), limit).prop_map(|(a, filter, limit)| format!("SELECT page, count(*), max({a}), avg(hits) FROM hours WHERE {filter} GROUP BY page ORDER BY 1, 2{limit}")),
        (truth(), number_of()).prop_map(|(filter, a)| format!("SELECT h.page, s.sold, row_number() OVER (ORDER BY h.hour) FROM (SELECT *, {a} FROM hours WHERE {filter}) h LEFT JOIN sales s ON h.page = s.page")),
    ]
}

fn query() -> impl Strategy<Value = String> + Clone {
    let whole = prop_oneof![
        8 => valid(),
        6 => select(),
        1 => (select(), pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]), select()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        1 => (select(), select()).prop_map(|(a, b)| format!("WITH a AS ({a}) {b}")),
        1 => select().prop_map(|a| format!("EXPLAIN {a}")),
        1 => select().prop_map(|a| format!("{a};")),
    ];
    // Most are sent as they are; the others are broken somewhere.
    (
        whole,
        prop::option::weighted(0.25, (any::<prop::sample::Index>(), broken())),
    )
        .prop_map(|(sql, broken)| {
            let Some((at, (cut, put))) = broken else { return sql };
            let mut chars: Vec<char> = sql.chars().collect();
            let at = at.index(chars.len().max(1));
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, put.chars());
            chars.into_iter().collect()
        })
}

/// So many characters taken out, and what is put in their place.
fn broken() -> impl Strategy<Value = (usize, String)> + Clone {
    (
        0..6usize,
        pick(&[
            "", "(", ")", "'", "\"", ";", ",", "--", "/*", "\0", "\u{202e}", "$$", " FROM ", " SELECT ", "\\",
        ]),
    )
}

fn rng() -> TestRng {
    let Some(seed) = fuzz::seed() else {
        return TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

async fn world() -> (World, crate::support::Worker) {
    let mut settings = Settings::default();
    // Far beyond what any of these queries takes: whoever gets there hangs.
    settings.serving.query_timeout = HumanDuration(Duration::from_secs(120));
    let world = World::with_settings(settings).await;
    let worker = world.worker("w1", 1, &[0, 1]).await;
    worker.own("orders", 0, 1);
    world.announce(&worker).await;
    let history: Vec<Event> = ["home", "cart", "o'brien", "", "🦀"]
        .into_iter()
        .enumerate()
        .map(|(n, page)| Event {
            at: n as i64 * 3_600_000_000,
            price: Some(n as i128 * 101),
            score: [None, Some(0.5), Some(f64::NAN), Some(f64::INFINITY), Some(-0.0)][n],
            blob: Some(&[0, 255]),
            ..click(page, n as i64 - 2)
        })
        .collect();
    worker.consume("clicks", 0, &history);
    worker.consume("clicks", 1, &history);
    worker.consume("orders", 0, &[click("home", i64::MAX)]);
    world.publish_and_adopt(1, &[(0, &history)]).await;
    (world, worker)
}

#[test]
fn whatever_is_asked_is_answered_or_refused_as_the_clients_own_mistake() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (world, _worker) = runtime.block_on(world());
    let config = Config {
        cases: fuzz::cases(CASES),
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let (mut answered, mut refused) = (0, 0);
    let mut runner = TestRunner::new_with_rng(config, rng());
    let counts = std::cell::RefCell::new((&mut answered, &mut refused));
    let found = runner.run(&query(), |sql| {
        let (status, answer) = runtime.block_on(world.sql(&sql));
        let mut counts = counts.borrow_mut();
        match status {
            200 => *counts.0 += 1,
            400 | 404 | 413 => *counts.1 += 1,
            _ => return Err(TestCaseError::fail(format!("{sql}\n{status}: {answer}"))),
        }
        Ok(())
    });
    if let Err(error) = found {
        panic!("{error}");
    }
    assert!(
        answered > 10 && refused > 10,
        "{answered} answered, {refused} refused: they say little"
    );
    let running = runtime.block_on(world.get("/v1/status")).1["queries"].clone();
    assert_eq!(running, serde_json::json!({"running": 0, "waiting": 0}));
    runtime.block_on(world.stop());
}

/// What the generator found.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_once_answered_as_a_defect_is_the_clients_mistake() {
    let (world, _worker) = world().await;
    for (sql, said) in [
        (
            "SELECT substr(0, 0) IS NOT NULL FROM sales LEFT JOIN pages USING (page)",
            "failed to match any signature",
        ),
        ("SELECT length(repeat('x', 2000000000))", "one call may take"),
        (
            "SELECT array_length(range(1, 1000000000)) FROM pages",
            "one call may take",
        ),
    ] {
        let (status, answer) = world.sql(sql).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{sql}: {answer}");
        assert!(message.contains(said) && !message.contains("bug"), "{sql}: {message}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_chains_and_deep_nesting_are_answered_or_refused() {
    let (world, _worker) = world().await;
    let chain = |item: &str, by: &str, length: usize| vec![item; length].join(by);
    let values: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    for (sql, expected) in [
        (format!("SELECT {}", chain("1", "+", 1_000)), &[200_u16] as &[u16]),
        // Planning takes the square of a chain's length.
        (format!("SELECT {}", chain("1", "+", 4_000)), &[400]),
        (format!("SELECT {}", chain("1", "+", 500_000)), &[400]),
        (
            format!("SELECT 1 FROM pages WHERE {}", chain("hits = 1", " OR ", 1_000)),
            &[200],
        ),
        (
            format!("SELECT 1 FROM pages WHERE {}", chain("page = 'x'", " AND ", 1_000)),
            &[200],
        ),
        (
            format!("SELECT count(*) FROM pages WHERE hits IN ({})", values.join(",")),
            &[200],
        ),
        (
            format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
            &[400],
        ),
        (
            format!("SELECT {}1{}", "(".repeat(1_000), ")".repeat(1_000)),
            &[200, 400],
        ),
        (format!("SELECT {}1", "- ".repeat(1_999)), &[200, 400]),
        (format!("SELECT {} TRUE", "NOT ".repeat(2_000)), &[200, 400]),
        (chain("SELECT 1", " UNION ALL ", 400), &[200]),
        (
            format!("SELECT * FROM {}pages{}", "(SELECT * FROM ".repeat(20), ")".repeat(20)),
            &[200, 400],
        ),
    ] {
        let (status, answer) = world.sql(&sql).await;
        let start: String = sql.chars().take(60).collect();
        assert!(expected.contains(&status), "{start}…: {status} {answer}");
    }
    assert_eq!(world.get("/healthz").await.0, 200);
    world.stop().await;
}
