//! The laws of the algebra: any split of the rows, any order of merging, with encoding and routing in between, gives the
//! answer of one plain DataFusion query over all rows.

mod common;

use std::io::Cursor;
use std::sync::{Arc, LazyLock};

use anabranch_view::{Prepared, View};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use common::{Row, answer, assert_answer, compile, events, oracle, pick};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

/// A view, the query that the oracle answers where it differs, and how many columns name the group.
struct Case {
    view: View,
    oracle: String,
    keys: usize,
}

impl Case {
    fn new(keys: usize, query: &str) -> Self {
        Self::with_oracle(keys, query, query)
    }

    fn with_oracle(keys: usize, query: &str, oracle: &str) -> Self {
        Self {
            view: compile(query),
            oracle: oracle.into(),
            keys,
        }
    }
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(cases);

fn cases() -> Vec<Case> {
    vec![
        Case::new(2, "SELECT g, h, count(*) AS n, count(i) AS c, count(i, x) AS c2, sum(i) AS si, sum(j) AS sj, min(i) AS mi,
            max(j) AS mj, min(s) AS ms, max(s) AS xs, min(x) AS mx, max(x) AS xx, min(day) AS md, max(time) AS mt,
            min(bin) AS mb, max(d) AS xd, bool_and(b) AS ba, bool_or(b) AS bo, bit_and(i) AS bi, bit_or(j) AS bj,
            bit_xor(i) AS bx FROM e GROUP BY g, h"),
        Case::new(1, "SELECT g, count(*) FILTER (WHERE x > 0) AS n, sum(i) FILTER (WHERE s = 'a') AS si,
            avg(i) FILTER (WHERE b) AS ai, min(s) FILTER (WHERE b IS NULL) AS ms, max(x) FILTER (WHERE h > 100) AS mx,
            count(DISTINCT s) FILTER (WHERE x > 0) AS ds, sum(d) FILTER (WHERE i % 2 = 0) AS sd,
            bool_and(b) FILTER (WHERE x < 0) AS ba, corr(x, y) FILTER (WHERE b) AS co,
            approx_distinct(s) FILTER (WHERE b) AS ad FROM e GROUP BY g"),
        Case::new(1, "SELECT h, count(DISTINCT s) AS ds, count(DISTINCT i) AS di,
            count(DISTINCT time) AS dt, count(DISTINCT d) AS dd, count(DISTINCT b) AS db, count(DISTINCT bin) AS dn,
            sum(DISTINCT i) AS si, sum(DISTINCT d) AS sd, avg(DISTINCT i) AS ai,
            min(DISTINCT s) AS ms, max(DISTINCT i) AS mi FROM e GROUP BY h"),
        // DataFusion tells -0 from 0 where SQL does not.
        Case::with_oracle(1, "SELECT h, count(DISTINCT x) AS dx, avg(DISTINCT x) AS ax, sum(DISTINCT x) AS sx FROM e GROUP BY h",
            "SELECT h, count(DISTINCT x) AS dx, avg(DISTINCT x) AS ax, sum(DISTINCT x) AS sx
             FROM (SELECT h, x + 0.0 AS x FROM e) GROUP BY h"),
        Case::new(1, "SELECT g, sum(x) AS sx, avg(x) AS ax, avg(i) AS ai, avg(j) AS aj, stddev(x) AS st, stddev_pop(x) AS sp,
            var(x) AS vx, var_pop(x) AS vp, covar_samp(x, y) AS cs, covar_pop(x, y) AS cp, corr(x, y) AS co,
            regr_count(y, x) AS rc, regr_avgx(y, x) AS rx, regr_avgy(y, x) AS ry, regr_sxx(y, x) AS rxx,
            regr_syy(y, x) AS ryy, regr_sxy(y, x) AS rxy, regr_slope(y, x) AS rs, regr_intercept(y, x) AS ri,
            regr_r2(y, x) AS r2 FROM e GROUP BY g"),
        Case::new(1, "SELECT h, sum(d) AS sd, avg(d) AS ad, min(w) AS mw, max(d) AS xd, sum(w) AS sw, avg(w) AS aw
            FROM e GROUP BY h"),
        Case::with_oracle(1,
            "SELECT g, first_value(i) AS fi, last_value(s) AS ls, first_value(b) AS fb, last_value(x ORDER BY h) AS lx,
             first_value(d ORDER BY i DESC) AS fd, last_value(i) FILTER (WHERE b) AS li,
             last_value(s) IGNORE NULLS AS ln, first_value(st) AS fs FROM e GROUP BY g",
            "SELECT g, first_value(i ORDER BY time NULLS LAST, _partition, _offset) AS fi,
             last_value(s ORDER BY time NULLS FIRST, _partition, _offset) AS ls,
             first_value(b ORDER BY time NULLS LAST, _partition, _offset) AS fb,
             last_value(x ORDER BY h, _partition, _offset) AS lx,
             first_value(d ORDER BY i DESC, _partition, _offset) AS fd,
             last_value(i ORDER BY time NULLS FIRST, _partition, _offset) FILTER (WHERE b) AS li,
             last_value(s ORDER BY time NULLS FIRST, _partition, _offset) IGNORE NULLS AS ln,
             first_value(st ORDER BY time NULLS LAST, _partition, _offset) AS fs FROM e GROUP BY g"),
        Case::new(1, "SELECT g, approx_distinct(s) AS s, approx_distinct(i) AS i, approx_distinct(time) AS t,
            approx_distinct(b) AS b, approx_distinct(d) AS d, approx_distinct(bin) AS n,
            approx_distinct(day) AS y FROM e GROUP BY g"),
        Case::new(1, "SELECT g, approx_median(x) AS m, approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY x) AS p,
            approx_percentile_cont(x, 0.1, 50) AS q, approx_median(i) AS mi FROM e GROUP BY g"),
        Case::new(0, "SELECT count(*) AS n, count(s) AS c, sum(i) AS si, avg(d) AS ad, min(s) AS ms, max(x) AS mx,
            count(DISTINCT s) AS ds, sum(DISTINCT i) AS di, stddev(x) AS sx, corr(x, y) AS co, bool_or(b) AS bo,
            sum(x) FILTER (WHERE false) AS fx, count(*) FILTER (WHERE b) AS nb, bit_xor(j) AS bx, min(time) AS mt FROM e"),
        Case::new(1, "SELECT upper(coalesce(s, 'none')) AS k, sum(i) * 1.0 / count(*) AS r, count(*) + 1 AS n1,
            CASE WHEN sum(j) > 10 THEN 'many' ELSE 'few' END AS c, max(i) - min(i) AS span, avg(i + j) AS aij,
            sum(CASE WHEN b THEN i END) AS sb FROM e WHERE h IS NOT NULL AND (x > -50 OR x IS NULL)
            GROUP BY upper(coalesce(s, 'none')) HAVING count(*) > 1 AND sum(i) IS NOT NULL"),
        Case::with_oracle(1, "SELECT x, count(*) AS n, sum(i) AS s FROM e GROUP BY x",
            "SELECT x + 0.0 AS x, count(*) AS n, sum(i) AS s FROM e GROUP BY x + 0.0"),
        Case::new(3, "SELECT time, b, day, count(*) AS n FROM e GROUP BY time, b, day"),
        Case::new(2, "SELECT d, bin, count(*) AS n, max(i) AS m FROM e GROUP BY d, bin"),
        Case::with_oracle(2, "SELECT st.a AS a, e.st.b.c AS c, count(*) AS n FROM e GROUP BY st.a, st.b.c",
            "SELECT st['a'] AS a, st['b']['c'] AS c, count(*) AS n FROM e GROUP BY st['a'], st['b']['c']"),
        Case::new(2, "SELECT tags, g, count(*) AS n, sum(i) AS s FROM e GROUP BY tags, g"),
        Case::new(1, "SELECT g FROM e GROUP BY g"),
        Case::new(0, "SELECT max(g) AS m FROM e WHERE i > 1000000"),
        Case::with_oracle(2,
            "SELECT g, tumble(time, INTERVAL '7 seconds', INTERVAL '2 seconds') AS win, count(*) AS n, sum(i) AS s FROM e
             GROUP BY g, win",
            "SELECT g, date_bin(INTERVAL '7 seconds', time, TIMESTAMP '1970-01-01T00:00:02Z') AS win, count(*) AS n,
             sum(i) AS s FROM e GROUP BY g, win"),
        Case::with_oracle(2,
            "SELECT g, hop(time, INTERVAL '5 seconds', INTERVAL '13 seconds') AS win, count(*) AS n, sum(i) AS s FROM e
             WHERE time IS NOT NULL GROUP BY g, win",
            "SELECT g, win, count(*) AS n, sum(i) AS s FROM (
               SELECT e.*, date_bin(INTERVAL '5 seconds', time) - k AS win
               FROM e CROSS JOIN (VALUES (INTERVAL '0 seconds'), (INTERVAL '5 seconds'), (INTERVAL '10 seconds')) AS back(k) WHERE time IS NOT NULL
             ) WHERE time < win + INTERVAL '13 seconds' GROUP BY g, win"),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let text = || proptest::option::weighted(0.85, "[a-c]{0,2}");
    let float = || {
        proptest::option::weighted(
            0.85,
            prop_oneof![
                8 => (-800_i32..800).prop_map(|v| f64::from(v) / 8.0),
                1 => Just(0.0),
                1 => Just(-0.0),
            ],
        )
    };
    let first = (
        // Seconds around the epoch, so that windows before 1970 are met, with ties.
        proptest::option::weighted(0.9, (-40_i64..40).prop_map(|s| s * 500_000)),
        proptest::option::weighted(0.85, "[p-r]"),
        proptest::option::weighted(0.85, 0_i64..3),
        proptest::option::weighted(0.85, -100_i64..100),
        proptest::option::weighted(0.85, -10_i32..10),
        float(),
    );
    let second = (
        float(),
        proptest::option::weighted(0.85, -100_000_i128..100_000),
        proptest::option::weighted(0.85, -1_000_000_000_i128..1_000_000_000),
        text(),
        proptest::option::weighted(0.85, any::<bool>()),
        proptest::option::weighted(0.85, 0_i32..3),
        proptest::option::weighted(0.85, proptest::collection::vec("[a-b]", 0..3)),
    );
    (first, second).prop_map(|((time, g, h, i, j, x), (y, d, w, s, b, day, tags))| Row {
        time,
        g,
        h,
        i,
        j,
        x,
        y,
        d,
        w,
        s,
        b,
        day,
        tags,
    })
}

/// Small deterministic choices, so that a failing case names itself by its seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

fn through_ipc(batch: &RecordBatch) -> RecordBatch {
    let mut bytes = vec![];
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let mut batches = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
    batches.next().unwrap().unwrap()
}

fn through_parquet(batch: &RecordBatch) -> RecordBatch {
    let mut bytes = vec![];
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))
        .unwrap()
        .build()
        .unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    if batches.is_empty() {
        batch.clone()
    } else {
        concat_batches(&batches[0].schema(), &batches).unwrap()
    }
}

/// Answers by a random route: rows into batches in any order, batches into parts, states through encodings, routed again,
/// merged in any order, by aggregators that are used again.
fn by_any_route(view: &View, batch: &RecordBatch, seed: u64) -> RecordBatch {
    let mut choose = Choices(seed);
    let batches = 1 + choose.below(5);
    let mut dealt: Vec<Vec<u32>> = vec![vec![]; batches];
    for row in 0..batch.num_rows() as u32 {
        let hand = choose.below(batches);
        let at = choose.below(dealt[hand].len() + 1);
        dealt[hand].insert(at, row);
    }
    let mut states: Vec<RecordBatch> = vec![];
    let mut aggregator = view.aggregator().unwrap();
    for rows in &dealt {
        let prepared = view.prepare(&pick(batch, rows)).unwrap();
        let parts: Vec<Prepared> = view.split(prepared, 1 + choose.below(3)).unwrap();
        for part in &parts {
            aggregator.fold(part).unwrap();
            if choose.below(3) > 0 {
                states.push(aggregator.emit().unwrap());
                assert_eq!(aggregator.groups(), 0);
            }
        }
    }
    states.push(aggregator.emit().unwrap());
    let mut routed = vec![];
    for state in states {
        assert_eq!(state.schema(), view.state_schema());
        let state = match choose.below(3) {
            0 => through_ipc(&state),
            1 => through_parquet(&state),
            _ => state,
        };
        routed.extend(view.split_state(&state, 1 + choose.below(3)).unwrap());
    }
    let mut merger = view.aggregator().unwrap();
    while routed.len() > 1 {
        let left = routed.swap_remove(choose.below(routed.len()));
        let right = routed.swap_remove(choose.below(routed.len()));
        merger.merge(&left).unwrap();
        merger.merge(&right).unwrap();
        routed.push(merger.emit().unwrap());
    }
    let state = view.sort_state(&routed.pop().unwrap()).unwrap();
    view.finalise(&state).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_route_gives_the_answer_of_one_query(rows in proptest::collection::vec(row(), 0..120), seed in any::<u64>()) {
        let batch = events(&rows);
        let floats = rows.iter().flat_map(|r| [r.x, r.y]).flatten();
        let largest = floats.map(f64::abs).fold(1.0, f64::max);
        // Sums of squares are the largest numbers that the float aggregates meet.
        let scale = largest * largest * rows.len().max(1) as f64;
        for (number, case) in CASES.iter().enumerate() {
            let expected = oracle(&case.oracle, &batch);
            let at_once = answer(&case.view, &batch);
            assert_answer(&case.view, &at_once, &expected, case.keys, scale);
            let routed = by_any_route(&case.view, &batch, seed ^ number as u64);
            assert_answer(&case.view, &routed, &expected, case.keys, scale);
            prop_assert_eq!(case.view.nulled_values(), 0);
        }
    }
}

/// Rows at the edges of every type, among ordinary ones.
fn extreme_row() -> impl Strategy<Value = Row> {
    let integer = prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), Just(-1), -5_i64..5];
    let float = prop_oneof![
        Just(f64::NAN),
        Just(-f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
        Just(-0.0),
        Just(0.0),
        -5.0..5.0,
    ];
    let nines = 10_i128.pow(38) - 1;
    let decimal = prop_oneof![Just(nines), Just(-nines), -5_i128..5];
    let extremes = (integer.clone(), integer.clone(), float.clone(), float, decimal, integer);
    (row(), proptest::option::weighted(0.9, extremes), any::<bool>()).prop_map(
        |(row, extremes, whole)| match extremes {
            None => row,
            Some((i, time, x, y, w, h)) => Row {
                time: if whole { Some(time) } else { row.time },
                i: Some(i),
                x: Some(x),
                y: Some(y),
                w: Some(w),
                h: if whole { Some(h) } else { row.h },
                j: Some(if whole { i32::MIN } else { i32::MAX }),
                day: if whole { Some(i32::MAX) } else { row.day },
                ..row
            },
        },
    )
}

/// Views whose arithmetic leaves its type at the edges, and all others.
static AT_THE_EDGES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut edges = vec![
        Case::new(1, "SELECT g, sum(i + h) AS s, sum(i * h) AS p, sum(i / h) AS q, sum(i % h) AS r, sum(-i) AS n, sum(w * 2) AS w2,
            sum(w + w) AS ww, sum(w / d) AS wd, sum(abs(i)) AS ab, max(CAST(x AS BIGINT)) AS c, min(CAST(i AS INT)) AS ci,
            sum(CAST(x AS DECIMAL(10, 2))) AS cd, count(x / y) AS xy, max(j - 1) AS j, count(power(i, 3)) AS pw FROM e GROUP BY g"),
        Case::new(1, "SELECT date_trunc('hour', time) AS hour, count(*) AS n, max(time + INTERVAL '1 day') AS m,
            sum(time - TIMESTAMP '1970-01-01 00:00:00') AS s, count(CAST(day AS TIMESTAMP)) AS d,
            count(extract(year FROM time)) AS y FROM e GROUP BY hour"),
        Case::new(1, "SELECT tumble(time, INTERVAL '7 days', INTERVAL '-3 hours') AS win, count(*) AS n FROM e GROUP BY win"),
        Case::new(1, "SELECT hop(time, INTERVAL '7 days', INTERVAL '30 days') AS win, count(*) AS n FROM e GROUP BY win"),
        Case::new(
            1,
            "SELECT g, approx_percentile_cont_with_weight(x, y, 0.5) AS p, approx_percentile_cont_with_weight(x, i, 0.9) AS q,
            first_value(i ORDER BY x) AS f, last_value(i ORDER BY x, y DESC) AS l, last_value(x ORDER BY w) AS lx,
            first_value(i ORDER BY time DESC NULLS LAST) AS t, min(y) AS my FROM e GROUP BY g",
        ),
    ];
    edges.extend(cases());
    edges
});

/// Equal, NaN to NaN; columns of floats only where both are finite, since an infinity swallows what came before it.
fn assert_same(view: &View, left: &RecordBatch, right: &RecordBatch) {
    assert_eq!(left.num_rows(), right.num_rows());
    for ((index, class), field) in view.output_classes().iter().enumerate().zip(left.schema().fields()) {
        if *class == anabranch_view::Class::Exact {
            assert_eq!(left.column(index), right.column(index), "{field}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// No event stops a view, and none makes its answer depend on the way it took.
    #[test]
    fn no_extreme_value_stops_or_falsifies_a_view(
        rows in proptest::collection::vec(extreme_row(), 0..60), seed in any::<u64>(),
    ) {
        let batch = events(&rows);
        for (number, case) in AT_THE_EDGES.iter().enumerate() {
            let mut whole = case.view.aggregator().unwrap();
            whole.fold(&case.view.prepare(&batch).unwrap()).unwrap();
            let at_once = case.view.finalise(&case.view.sort_state(&whole.emit().unwrap()).unwrap()).unwrap();
            let routed = by_any_route(&case.view, &batch, seed ^ number as u64);
            assert_same(&case.view, &at_once, &routed);
        }
    }
}

#[test]
fn an_empty_table_has_no_groups_and_one_global_answer() {
    let batch = events(&[]);
    for case in CASES.iter() {
        let expected = oracle(&case.oracle, &batch);
        assert_answer(&case.view, &answer(&case.view, &batch), &expected, case.keys, 1.0);
        let state = case.view.aggregator().unwrap().emit().unwrap();
        assert_eq!(state.num_rows(), 0);
        assert_eq!(state.schema(), case.view.state_schema());
        assert_eq!(
            case.view.finalise(&state).unwrap().num_rows(),
            usize::from(case.view.key_count() == 0)
        );
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let rows: Vec<Row> = (0..500)
        .map(|n: i64| Row {
            time: Some(n * 250_000),
            g: Some(format!("g{}", n % 7)),
            h: Some(n % 3),
            i: Some(n * n % 101),
            x: Some(n as f64 / 3.0),
            y: Some((n % 13) as f64),
            d: Some(n.into()),
            s: Some(format!("s{}", n % 37)),
            b: Some(n % 2 == 0),
            ..Row::default()
        })
        .collect();
    let batch = events(&rows);
    for case in CASES.iter() {
        let run = || {
            let mut aggregator = case.view.aggregator().unwrap();
            aggregator.fold(&case.view.prepare(&batch).unwrap()).unwrap();
            case.view.sort_state(&aggregator.emit().unwrap()).unwrap()
        };
        assert_eq!(run(), run());
    }
}

#[test]
fn parts_are_the_same_for_events_and_state_and_stay_so() {
    let rows: Vec<Row> = (0..1000)
        .map(|n| Row {
            g: Some(format!("g{n}")),
            h: Some(n),
            ..Row::default()
        })
        .collect();
    let batch = events(&rows);
    let view = compile("SELECT g, h, count(*) AS n FROM e GROUP BY g, h");
    let parts = view.split(view.prepare(&batch).unwrap(), 4).unwrap();
    let mut whole = view.aggregator().unwrap();
    whole.fold(&view.prepare(&batch).unwrap()).unwrap();
    let states = view.split_state(&whole.emit().unwrap(), 4).unwrap();
    for (part, state) in parts.iter().zip(&states) {
        let mut aggregator = view.aggregator().unwrap();
        aggregator.fold(part).unwrap();
        let folded = view.sort_state(&aggregator.emit().unwrap()).unwrap();
        assert_eq!(folded, view.sort_state(state).unwrap());
        assert!(
            (150..350).contains(&part.rows),
            "parts of {} rows are uneven",
            part.rows
        );
    }
    // Spilled files outlive a process: the routing of these keys must never change.
    let sizes: Vec<usize> = parts.iter().map(|p| p.rows).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1000);
    let _ = Arc::new(sizes);
}
