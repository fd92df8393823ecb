//! What a view answers in particular cases.

mod common;

use std::sync::Arc;

use anabranch_view::{Class, View};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use common::{Row, TABLE, answer, catalog, compile, events};

/// One row per group `g`, its answers as text.
fn answers(view: &View, batch: &RecordBatch) -> Vec<Vec<String>> {
    let answer = answer(view, batch);
    let mut rows: Vec<Vec<String>> = (0..answer.num_rows())
        .map(|row| {
            answer
                .columns()
                .iter()
                .map(|c| array_value_to_string(c, row).unwrap())
                .collect()
        })
        .collect();
    rows.sort();
    rows
}

fn ints(values: &[(&str, Option<i64>, Option<i64>)]) -> RecordBatch {
    let rows: Vec<Row> = values
        .iter()
        .map(|(g, h, i)| Row {
            g: Some((*g).into()),
            h: *h,
            i: *i,
            ..Row::default()
        })
        .collect();
    events(&rows)
}

#[test]
fn integer_sums_are_exact_beyond_their_type_and_null_only_in_the_end() {
    let view = compile("SELECT g, sum(h) AS s, avg(h) AS a, sum(i) AS t FROM e GROUP BY g");
    let max = Some(i64::MAX);
    // On the way the first sum leaves BIGINT, and comes back.
    let batch = ints(&[
        ("back", max, Some(1)),
        ("back", max, Some(2)),
        ("back", Some(i64::MIN), None),
        ("back", Some(i64::MIN), None),
        ("out", max, Some(3)),
        ("out", Some(1), None),
    ]);
    assert_eq!(
        answers(&view, &batch),
        [["back", "-2", "-0.5", "3"], ["out", "", "4.611686018427388e18", "3"]]
    );
    assert_eq!(view.nulled_values(), 1);
    assert_eq!(
        view.output_classes(),
        [Class::Exact, Class::Exact, Class::Float, Class::Exact]
    );
}

#[test]
fn decimal_sums_do_not_overflow_silently() {
    let view = compile("SELECT sum(w) AS s, avg(w) AS a, count(w) AS n FROM e");
    let nines = 10_i128.pow(38) - 1;
    let rows = |values: &[i128]| {
        events(
            &values
                .iter()
                .map(|w| Row {
                    w: Some(*w),
                    ..Row::default()
                })
                .collect::<Vec<_>>(),
        )
    };
    let there_and_back = answer(&view, &rows(&[nines, nines, -nines, -nines, 10_000]));
    assert_eq!(
        there_and_back.column(0).as_primitive::<Decimal128Type>().value(0),
        10_000
    );
    let out = answer(&view, &rows(&[nines, 1]));
    assert!(out.column(0).is_null(0) && out.column(1).is_null(0));
    assert_eq!(out.column(2).as_primitive::<Int64Type>().value(0), 2);
    assert_eq!(view.nulled_values(), 2);
}

#[test]
fn what_cannot_be_computed_for_a_row_is_null_there_and_counted() {
    let view = compile(
        "SELECT sum(h / i) AS q, count(h / i) AS nq, sum(h % i) AS r, count(h + 9223372036854775807) AS np,
         count(h * 4611686018427387904) AS nm, count(-h) AS nn, count(CAST(s AS BIGINT)) AS nc,
         count(x / y) AS nf, count(*) FILTER (WHERE 10 / i > 1) AS nw, count(*) AS n FROM e",
    );
    let row = |h: i64, i: i64, s: &str, x: f64, y: f64| Row {
        h: Some(h),
        i: Some(i),
        s: Some(s.into()),
        x: Some(x),
        y: Some(y),
        ..Row::default()
    };
    let batch = events(&[
        row(7, 2, "12", 1.0, 2.0),
        row(7, 0, "x", 1.0, 0.0),
        row(i64::MIN, -1, "", 1.0, -0.0),
        row(-3, 5, "9223372036854775808", 0.0, 1.0),
        Row::default(),
    ]);
    let answer = answers(&view, &batch);
    // h / i: 3, NULL, NULL (overflow), 0. h % i: 1, NULL, 0 or NULL, -3. h + MAX: only the negative ones fit.
    assert_eq!(answer[0][0], "3");
    assert_eq!(answer[0][1], "2");
    assert_eq!(answer[0][2], "-2");
    assert_eq!(answer[0][3], "2", "h + MAX");
    assert_eq!(answer[0][4], "0", "h * 2^62");
    assert_eq!(answer[0][5], "3", "-h");
    assert_eq!(answer[0][6], "1", "CAST");
    assert_eq!(answer[0][7], "2", "x / y");
    assert_eq!(answer[0][8], "2", "FILTER");
    assert_eq!(answer[0][9], "5");
    assert!(view.nulled_values() >= 12, "{}", view.nulled_values());
}

#[test]
fn a_condition_that_cannot_be_computed_is_not_true() {
    let view = compile("SELECT count(*) AS n FROM e WHERE 10 / i > 1");
    let batch = ints(&[
        ("a", None, Some(2)),
        ("a", None, Some(0)),
        ("a", None, None),
        ("a", None, Some(100)),
    ]);
    assert_eq!(answers(&view, &batch), [["1"]]);
    assert_eq!(view.nulled_values(), 1);
}

#[test]
fn a_guarded_branch_counts_only_what_it_computes() {
    let view = compile("SELECT sum(CASE WHEN i <> 0 THEN h / i END) AS q FROM e");
    assert_eq!(
        answers(&view, &ints(&[("a", Some(8), Some(2)), ("a", Some(8), Some(0))])),
        [["4"]]
    );
    assert_eq!(view.nulled_values(), 0);
}

#[test]
fn a_function_that_fails_for_a_row_fails_for_that_row_alone() {
    let view = compile("SELECT count(arrow_cast(s, 'Int64')) AS n, count(to_timestamp(s)) AS t, count(*) AS c FROM e");
    let rows: Vec<Row> = ["1", "nonsense", "2020-01-01T00:00:00Z", ""]
        .iter()
        .map(|s| Row {
            s: Some((*s).into()),
            ..Row::default()
        })
        .collect();
    assert_eq!(answers(&view, &events(&rows)), [["1", "1", "4"]]);
    assert_eq!(view.nulled_values(), 3 + 3);
}

#[test]
fn hop_counts_an_event_in_every_window_and_filters_by_window() {
    let view = compile(
        "SELECT hop(time, INTERVAL '10 seconds', INTERVAL '30 seconds') AS win, count(*) AS n, sum(i) AS s FROM e
         WHERE hop(time, INTERVAL '10 seconds', INTERVAL '30 seconds') >= TIMESTAMP '1969-12-31 23:59:50' GROUP BY win",
    );
    let rows: Vec<Row> = [-1_i64, 0, 15]
        .iter()
        .map(|s| Row {
            time: Some(s * 1_000_000),
            i: Some(*s),
            ..Row::default()
        })
        .collect();
    assert_eq!(
        answers(&view, &events(&rows)),
        [
            ["1969-12-31T23:59:50Z", "3", "14"],
            ["1970-01-01T00:00:00Z", "2", "15"],
            ["1970-01-01T00:00:10Z", "1", "15"],
        ]
    );
}

#[test]
fn a_global_aggregate_of_nothing_is_one_row() {
    let view = compile(
        "SELECT count(*) AS n, sum(i) AS s, count(DISTINCT s) AS d, max(x) AS m, approx_distinct(s) AS a,
        avg(d) AS avg, bool_and(b) AS b, first_value(i) AS f, approx_median(x) AS med, stddev(x) AS sd FROM e",
    );
    assert_eq!(view.key_count(), 0);
    let nothing = events(&[]);
    assert_eq!(answers(&view, &nothing), [["0", "", "0", "", "0", "", "", "", "", ""]]);
    assert_eq!(
        view.finalise(&RecordBatch::new_empty(view.state_schema()))
            .unwrap()
            .num_rows(),
        1
    );
    let having = compile("SELECT count(*) AS n FROM e HAVING count(*) > 0");
    assert_eq!(answer(&having, &nothing).num_rows(), 0);
}

#[test]
fn ties_in_time_are_broken_by_offset() {
    let view = compile("SELECT first_value(i) AS f, last_value(i) AS l, first_value(i ORDER BY h DESC) AS d FROM e");
    let rows: Vec<Row> = (1..=4)
        .map(|i| Row {
            time: Some(5),
            h: Some(1),
            i: Some(i),
            ..Row::default()
        })
        .collect();
    assert_eq!(answers(&view, &events(&rows)), [["1", "4", "1"]]);
    assert!(view.input_columns().contains(&"_offset".to_string()));
    assert!(view.input_columns().contains(&"_partition".to_string()));
}

#[test]
fn sketches_stay_within_their_bounds() {
    let view =
        compile("SELECT approx_median(x) AS m, approx_percentile_cont(x, 0.99) AS p, approx_distinct(i) AS d FROM e");
    let rows: Vec<Row> = (0..20_000_i64)
        .map(|n| Row {
            x: Some((n * 7919 % 20_000) as f64),
            i: Some(n % 5_000),
            ..Row::default()
        })
        .collect();
    let batch = events(&rows);
    let mut merged = view.aggregator().unwrap();
    for from in (0..20_000).step_by(1000) {
        let mut part = view.aggregator().unwrap();
        part.fold(&view.prepare(&batch.slice(from, 1000)).unwrap()).unwrap();
        merged.merge(&part.emit().unwrap()).unwrap();
    }
    let answer = view.finalise(&merged.emit().unwrap()).unwrap();
    let float = |column: usize| answer.column(column).as_primitive::<Float64Type>().value(0);
    assert!((float(0) - 10_000.0).abs() < 200.0, "median {}", float(0));
    assert!((float(1) - 19_800.0).abs() < 100.0, "99th percentile {}", float(1));
    let distinct = arrow::compute::cast(answer.column(2), &DataType::Int64).unwrap();
    let distinct = distinct.as_primitive::<Int64Type>().value(0);
    // A sketch of distinct values does not depend on how it came about.
    assert_eq!(common::answer(&view, &batch).column(2), answer.column(2));
    assert!((distinct - 5_000).abs() < 150, "{distinct} distinct");
}

#[test]
fn an_average_of_nan_and_its_extremes_do_not_depend_on_order() {
    let view = compile("SELECT g, min(x) AS lo, max(x) AS hi FROM e GROUP BY g");
    let values = [1.0, f64::NAN, -3.0];
    let mut seen = vec![];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [1, 2, 0]] {
        let rows: Vec<Row> = order
            .iter()
            .map(|&i| Row {
                g: Some("a".into()),
                x: Some(values[i]),
                ..Row::default()
            })
            .collect();
        seen.push(answers(&view, &events(&rows)));
    }
    assert!(seen.iter().all(|s| *s == [["a", "-3.0", "NaN"]]), "{seen:?}");
}

#[test]
fn the_hash_depends_on_what_is_computed_and_on_nothing_else() {
    let hash = |name: &str, query: &str| {
        let sql = format!("{TABLE}CREATE MATERIALIZED VIEW {name} AS {query};");
        let catalog = anabranch_catalog::Catalog::parse(&sql).unwrap();
        View::compile(&catalog.views[name]).unwrap().hash().clone()
    };
    let first = hash("v", "SELECT g, sum(i) AS s FROM e WHERE s = '1' GROUP BY g");
    assert_eq!(first.len(), 64);
    assert_eq!(
        first,
        hash(
            "other",
            "select  g, -- a comment\n SUM(i) as s from e where (s = '1') group by g"
        )
    );
    assert_eq!(
        first,
        hash(
            "v",
            "SELECT a.g, sum(a.i) AS s FROM e AS a WHERE a.s = '1' GROUP BY a.g"
        )
    );
    for other in [
        "SELECT g, sum(i) AS t FROM e WHERE s = '1' GROUP BY g",
        "SELECT g, sum(h) AS s FROM e WHERE s = '1' GROUP BY g",
        "SELECT g, sum(i) AS s FROM e WHERE s = '2' GROUP BY g",
        "SELECT g, sum(i) AS s FROM e WHERE s = '1' GROUP BY g HAVING sum(i) > 0",
        "SELECT g, sum(i) FILTER (WHERE b) AS s FROM e WHERE s = '1' GROUP BY g",
        "SELECT g, sum(DISTINCT i) AS s FROM e WHERE s = '1' GROUP BY g",
        "SELECT s AS g, sum(i) AS s FROM e WHERE s = '1' GROUP BY e.s",
    ] {
        assert_ne!(first, hash("v", other), "{other}");
    }
    assert_ne!(
        hash("v", "SELECT count(*) AS n FROM e WHERE g = '1'"),
        hash("v", "SELECT count(*) AS n FROM e WHERE h = 1")
    );
    assert_ne!(
        hash(
            "v",
            "SELECT tumble(time, INTERVAL '1 minute') AS win, count(*) AS n FROM e GROUP BY win"
        ),
        hash(
            "v",
            "SELECT tumble(time, INTERVAL '2 minutes') AS win, count(*) AS n FROM e GROUP BY win"
        ),
    );
}

/// Publications are named by these hashes, so another process must find the same one. Whoever changes what state means
/// raises the algebra version and this with it; so does another version of DataFusion.
#[test]
fn the_hash_is_the_same_in_every_process() {
    let view = compile(
        "SELECT g, upper(s) AS su, hop(time, INTERVAL '1 minute', INTERVAL '5 minutes') AS win, count(*) AS n, avg(i) AS a,
         sum(DISTINCT d) FILTER (WHERE s IN ('a', 'b', 'c')) AS sd, last_value(x) AS l, approx_median(y) AS m,
         CASE WHEN sum(j) > 3 THEN 'many' ELSE 'few' END AS c
         FROM e WHERE b AND h BETWEEN 1 AND 9 GROUP BY g, su, win HAVING count(*) > 1",
    );
    assert_eq!(
        view.hash(),
        "d14366db9581584afa207867e2b8a6323511aea2da5f20dae58f8ea702090a54"
    );
}

#[test]
fn state_is_shared_between_calls_that_need_the_same() {
    let view = compile(
        "SELECT g, sum(i) AS s, avg(i) AS a, count(i) AS c, sum(i) / count(*) AS r, count(*) AS n FROM e GROUP BY g",
    );
    let names: Vec<String> = view.state_schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["key0", "0_sum", "1_count", "2_count"]);
    assert_eq!(view.input_columns(), ["g", "i"]);
}

#[test]
fn key_filters_select_groups_by_their_names_in_the_output() {
    let view = compile(
        "SELECT g AS grp, upper(s) AS su, tumble(time, INTERVAL '1 minute') AS minute, count(*) AS n FROM e
         GROUP BY g, upper(s), minute",
    );
    assert_eq!(
        view.output_keys(),
        [("grp".into(), 0), ("su".into(), 1), ("minute".into(), 2)]
    );
    let rows: Vec<Row> = [("a", "x", 0), ("b", "y", 61), ("a", "y", 130)]
        .iter()
        .map(|(g, s, t)| Row {
            g: Some((*g).into()),
            s: Some((*s).into()),
            time: Some(t * 1_000_000),
            ..Row::default()
        })
        .collect();
    let mut aggregator = view.aggregator().unwrap();
    aggregator.fold(&view.prepare(&events(&rows)).unwrap()).unwrap();
    let state = aggregator.emit().unwrap();
    let kept = |filter: &str| view.key_filter(filter).unwrap().apply(&state).unwrap().num_rows();
    assert_eq!(kept("grp = 'a'"), 2);
    assert_eq!(kept("grp = 'a' AND su = 'Y'"), 1);
    assert_eq!(kept("minute >= TIMESTAMP '1970-01-01 00:01:00'"), 2);
    assert_eq!(kept("minute >= '1970-01-01T00:02:00Z'"), 1);
    assert_eq!(kept("grp IN ('b', 'c') OR su IS NULL"), 1);
    for refused in [
        "n > 1",
        "nothing = 1",
        "grp =",
        "now() > minute",
        "grp = 'a'; DROP TABLE e",
    ] {
        let error = view.key_filter(refused).unwrap_err();
        assert_eq!(error.kind(), anabranch_model::ErrorKind::Invalid, "{refused}: {error}");
    }
}

#[test]
fn the_description_names_every_part() {
    let view =
        compile("SELECT g, avg(i) AS a, approx_median(x) AS m FROM e WHERE h > 1 GROUP BY g HAVING count(*) > 2");
    let description = view.describe();
    assert_eq!(description["view"], "v");
    assert_eq!(description["prepare"]["where"][0], "h > 1");
    assert_eq!(description["keys"][0]["expression"], "g");
    assert_eq!(description["state"][0]["name"], "key0");
    assert_eq!(description["finalise"]["columns"][1]["class"], "float");
    assert_eq!(description["finalise"]["columns"][2]["class"], "sketch");
    assert_eq!(description["hash"], view.hash().as_str());
}

#[test]
fn events_may_hold_more_columns_in_any_order_but_not_fewer() {
    let view = compile("SELECT g, sum(i) AS s FROM e WHERE x > 0 GROUP BY g");
    let g: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "b"]));
    let i: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let x: ArrayRef = Arc::new(Float64Array::from(vec![1.0, -1.0, 1.0]));
    let batch =
        RecordBatch::try_from_iter([("x", Arc::clone(&x)), ("more", Arc::clone(&x)), ("i", i), ("g", g)]).unwrap();
    assert_eq!(answers(&view, &batch), [["a", "1"], ["b", "3"]]);
    let error = view.prepare(&batch.project(&[0, 1, 3]).unwrap()).unwrap_err();
    assert!(error.to_string().contains('i'), "{error}");
    assert_eq!(error.kind(), anabranch_model::ErrorKind::Data);
}

#[test]
fn spans_of_time_are_summed_and_averaged_exactly() {
    let view = compile(
        "SELECT sum(time - TIMESTAMP '1970-01-01 00:00:00') AS s, avg(time - TIMESTAMP '1970-01-01 00:00:00') AS a FROM e",
    );
    let rows: Vec<Row> = [1_i64, 2, i64::MAX, -i64::MAX]
        .iter()
        .map(|t| Row {
            time: Some(*t),
            ..Row::default()
        })
        .collect();
    let answer = answer(&view, &events(&rows));
    assert_eq!(
        answer.column(0).data_type(),
        &DataType::Duration(arrow::datatypes::TimeUnit::Microsecond)
    );
    let micros = |column: usize| {
        let whole = arrow::compute::cast(answer.column(column), &DataType::Int64).unwrap();
        whole.as_primitive::<Int64Type>().value(0)
    };
    assert_eq!((micros(0), micros(1)), (3, 0));
    assert_eq!(view.nulled_values(), 0);
}

#[test]
fn a_percentile_reads_its_argument_once() {
    let view = compile("SELECT approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY i) AS p FROM e");
    let prepared = view.prepare(&ints(&[("a", None, Some(3))])).unwrap();
    assert_eq!(prepared.inputs.len(), 1);
    let weighted = compile(
        "SELECT approx_percentile_cont_with_weight(x, h, 0.5) AS w, approx_percentile_cont(1, 0.5) AS c,
         approx_percentile_cont_with_weight(1, 2, 0.5) AS d FROM e",
    );
    let rows = [1, 100].map(|h| Row {
        x: Some(h as f64),
        h: Some(h),
        ..Row::default()
    });
    assert_eq!(answers(&weighted, &events(&rows)), [["99.505", "1.0", "1.0"]]);
}

#[test]
fn timestamps_in_text_and_casts_are_microseconds_utc() {
    let view = compile(
        "SELECT max(CAST(s AS TIMESTAMP)) AS t, count(*) FILTER (WHERE time >= '1970-01-01T00:00:01Z') AS n,
         count(*) FILTER (WHERE time < TIMESTAMP '1970-01-01 00:00:01') AS m, max(date_trunc('minute', time)) AS d FROM e",
    );
    let utc = anabranch_model::columns::timestamp_type();
    assert_eq!(view.output_schema().field(0).data_type(), &utc);
    assert_eq!(view.output_schema().field(3).data_type(), &utc);
    let rows: Vec<Row> = [(0, "2015-09-12 00:46:58.771"), (61_000_000, "soon")]
        .iter()
        .map(|(t, s)| Row {
            time: Some(*t),
            s: Some((*s).into()),
            ..Row::default()
        })
        .collect();
    assert_eq!(
        answers(&view, &events(&rows)),
        [["2015-09-12T00:46:58.771Z", "1", "1", "1970-01-01T00:01:00Z"]]
    );
    assert_eq!(view.nulled_values(), 1);
}

#[test]
fn a_cast_makes_another_aggregate_and_another_key() {
    let view = compile(
        "SELECT h, CAST(h AS TEXT) AS t, sum(i) AS wide, sum(CAST(i AS INT)) AS narrow, sum(CAST(i AS SMALLINT)) + 1 AS small,
         count(CAST(h AS INT)) AS n, count(h) AS m FROM e GROUP BY h, CAST(h AS TEXT) HAVING sum(CAST(i AS INT)) > 0",
    );
    let rows: Vec<Row> = [(7, 1), (7, 40_000), (7, 5_000_000_000), (8, -1)]
        .iter()
        .map(|(h, i)| Row {
            h: Some(*h),
            i: Some(*i),
            ..Row::default()
        })
        .collect();
    assert_eq!(
        answers(&view, &events(&rows)),
        [["7", "7", "5000040001", "40001", "2", "3", "3"]]
    );
    assert_eq!(
        view.nulled_values(),
        3,
        "one value does not fit INT, and two do not fit SMALLINT"
    );
    let unnamed = compile("SELECT sum(i), sum(CAST(i AS INT)) FROM e");
    let schema = unnamed.output_schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["sum(e.i)", "sum(CAST(e.i AS INT))"]);
    // Where the planner can tell them apart nothing is named otherwise than it was.
    let alone = compile("SELECT sum(CAST(i AS INT)) FROM e");
    assert_eq!(alone.output_schema().field(0).name(), "sum(e.i)");
}

#[test]
fn text_functions_answer_in_plain_text() {
    let view = compile(
        "SELECT substr(s, 1, 2) AS a, split_part(s, '-', 2) AS b, regexp_replace(s, '[0-9]', '#') AS c, lower(s) || '!' AS d,
         count(*) AS n, max(left(s, 1)) AS m FROM e GROUP BY 1, 2, 3, 4",
    );
    for field in &view.output_schema().fields()[..4] {
        assert_eq!(field.data_type(), &DataType::Utf8, "{field}");
    }
    assert_eq!(view.output_schema().field(5).data_type(), &DataType::Utf8);
    let rows = [Row {
        s: Some("Ab-7".into()),
        ..Row::default()
    }];
    assert_eq!(answers(&view, &events(&rows)), [["Ab", "7", "Ab-#", "ab-7!", "1", "A"]]);
}

#[test]
fn another_views_state_is_refused() {
    let view = compile("SELECT g, sum(i) AS s FROM e GROUP BY g");
    let other = compile("SELECT g FROM e GROUP BY g");
    let error = view
        .aggregator()
        .unwrap()
        .merge(&RecordBatch::new_empty(other.state_schema()))
        .unwrap_err();
    assert_eq!(error.kind(), anabranch_model::ErrorKind::Data);
    assert!(catalog("SELECT g FROM e GROUP BY g").views.contains_key("v"));
}
