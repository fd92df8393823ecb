use std::sync::LazyLock;

use anabranch_model::ErrorKind;
use anabranch_view::AGGREGATES;
use arrow::array::{BooleanArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use proptest::prelude::*;

use super::*;
use crate::testing::{events, files, fold, kernel, views};
use crate::{Control, Plan, ViewState};

const SELECTS: [&str; 3] = [
    "SELECT page, count(*) AS c, sum(n) AS total, min(price) AS least, avg(price) AS mean FROM events GROUP BY page",
    "SELECT page, tumble(t, INTERVAL '1 minute') AS m, count(DISTINCT n) AS d, approx_distinct(n) AS a, \
     approx_median(price) AS p FROM events GROUP BY page, m HAVING count(*) > 2",
    "SELECT count(*) AS c, stddev(price) AS s FROM events WHERE n > 0",
];

/// Every aggregate that a view may have, over groups of many rows and of one, with nulls; some of them over nothing.
const EVERY_AGGREGATE: [&str; 9] = [
    "SELECT page, count(*) AS c, count(n) AS cn, count(n, price) AS cnp, sum(n) AS sn, sum(CAST(n AS INT) % 100) AS si, \
     sum(CAST(n AS DECIMAL(10, 2)) * 2) AS sd, avg(CAST(n AS DECIMAL(10, 2))) AS ad, min(n) AS mn, max(n) AS xn, \
     min(price) AS mp, max(price) AS xp, min(t) AS mt, max(t) AS xt, bool_and(n > -900) AS ba, bool_or(n > 900) AS bo, \
     bit_and(n) AS band, bit_or(n) AS bor, bit_xor(n) AS bx FROM events GROUP BY page",
    "SELECT page, sum(price) AS s, avg(price) AS ap, avg(n) AS an, stddev(price) AS st, stddev_pop(price) AS sp, \
     var(price) AS v, var_pop(price) AS vp FROM events GROUP BY page",
    "SELECT page, covar_samp(price, CAST(n AS DOUBLE)) AS cs, covar_pop(price, CAST(n AS DOUBLE)) AS cp, \
     corr(price, CAST(n AS DOUBLE)) AS co, regr_count(price, CAST(n AS DOUBLE)) AS rc, \
     regr_avgx(price, CAST(n AS DOUBLE)) AS rx, regr_avgy(price, CAST(n AS DOUBLE)) AS ry, \
     regr_sxx(price, CAST(n AS DOUBLE)) AS rxx, regr_syy(price, CAST(n AS DOUBLE)) AS ryy, \
     regr_sxy(price, CAST(n AS DOUBLE)) AS rxy, regr_slope(price, CAST(n AS DOUBLE)) AS rs, \
     regr_intercept(price, CAST(n AS DOUBLE)) AS ri, regr_r2(price, CAST(n AS DOUBLE)) AS r2 FROM events GROUP BY page",
    "SELECT tumble(t, INTERVAL '10 minutes') AS m, count(DISTINCT n) AS dn, count(DISTINCT page) AS dp, \
     count(DISTINCT price) AS dx, sum(DISTINCT n) AS sn, avg(DISTINCT n) AS an, min(DISTINCT page) AS mp, \
     max(DISTINCT n) AS xn FROM events GROUP BY m",
    "SELECT page, first_value(n) AS fn, last_value(price) AS lp, first_value(t) AS ft, last_value(n ORDER BY price) AS ln, \
     first_value(price ORDER BY n DESC) AS fp, last_value(n) IGNORE NULLS AS li, \
     first_value(n) FILTER (WHERE price > 500) AS ff FROM events GROUP BY page",
    "SELECT page, approx_distinct(n) AS an, approx_distinct(t) AS at, approx_distinct(n > 0) AS ab FROM events GROUP BY page",
    "SELECT n % 7 AS k, approx_median(price) AS m, approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY price) AS p, \
     approx_percentile_cont(price, 0.1, 50) AS q, \
     approx_percentile_cont_with_weight(price, n % 3 + 3, 0.5) AS w FROM events GROUP BY k",
    // Groups of which most of this is empty.
    "SELECT page, sum(n) FILTER (WHERE n > 999) AS s, avg(price) FILTER (WHERE n > 990) AS a, \
     count(DISTINCT n) FILTER (WHERE price < 5) AS d, min(page) FILTER (WHERE false) AS never, \
     sum(price) FILTER (WHERE false) AS nothing, corr(price, CAST(n AS DOUBLE)) FILTER (WHERE n > 950) AS co, \
     last_value(n) FILTER (WHERE false) AS nobody, approx_median(price) FILTER (WHERE n > 995) AS m FROM events GROUP BY page",
    // Without keys, and without rows: one group all the same.
    "SELECT count(*) AS c, sum(n) AS s, avg(price) AS a, min(page) AS m, count(DISTINCT n) AS d, bool_or(n > 0) AS b, \
     first_value(n) AS f, approx_distinct(page) AS ad, var(price) AS v FROM events WHERE n > 998",
];

/// State in batches of `rows` rows.
fn pieces(state: &RecordBatch, rows: usize) -> States {
    let (state, all) = (state.clone(), state.num_rows());
    let starts = (0..all).step_by(rows.max(1));
    Box::new(starts.map(move |start| Ok(state.slice(start, rows.min(all - start)))))
}

fn gathered(state: ViewState) -> RecordBatch {
    let schema = state.view().state_schema();
    let batches: Vec<RecordBatch> = state.states().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// What two states say of the same groups must agree by class.
fn assert_agree(view: &View, left: &RecordBatch, right: &RecordBatch) {
    assert_eq!(left.num_rows(), right.num_rows(), "number of groups");
    let mut pairing = Pairing::new(view, pieces(left, 100), pieces(right, 7)).unwrap();
    while let Some(pairs) = pairing.next_pairs().unwrap() {
        assert!(pairs.only_left.is_none() && pairs.only_right.is_none());
        let (left, right) = pairs.both.unwrap();
        let compared = view.compare(&left, &right).unwrap();
        assert_eq!(compared.differences, []);
    }
}

fn folded(events: &RecordBatch, threads: usize) -> Vec<ViewState> {
    static VIEWS: LazyLock<Vec<View>> = LazyLock::new(|| views(&SELECTS));
    folded_by(&VIEWS, events, threads)
}

fn folded_by(views: &[View], events: &RecordBatch, threads: usize) -> Vec<ViewState> {
    let plan = Plan::new(views.to_vec(), events.num_rows() as u64).unwrap();
    fold(
        &kernel(threads, 64 << 20),
        &plan,
        &files(events, 400, 150),
        &Control::new(),
    )
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However the rows are divided over a chain of runs, the last one's state is that of a single run over all of them.
    #[test]
    fn a_chain_of_folds_says_what_one_fold_says(
        rows in 1usize..1500,
        pages in 1u32..400,
        seed in any::<u64>(),
        mut cuts in prop::collection::vec(0usize..1500, 0..4),
        piece in 1usize..300,
    ) {
        static VIEWS: LazyLock<Vec<View>> = LazyLock::new(|| views(&[&SELECTS[..], &EVERY_AGGREGATE[..]].concat()));
        let all = events(rows, pages, seed);
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(rows));
        cuts.extend([0, rows]);
        cuts.sort_unstable();
        let whole = folded_by(&VIEWS, &all, 2);
        let mut chain: Vec<Option<RecordBatch>> = vec![None; VIEWS.len()];
        let mut before = 0;
        for window in cuts.windows(2) {
            let part = folded_by(&VIEWS, &all.slice(window[0], window[1] - window[0]), 1);
            for (base, state) in chain.iter_mut().zip(part) {
                let state = match base.take() {
                    Some(base) => state.with_base(pieces(&base, piece), before as u64),
                    None => state,
                };
                prop_assert_eq!(state.rows(), window[1] as u64);
                *base = Some(gathered(state));
            }
            before = window[1];
        }
        for (whole, chain) in whole.into_iter().zip(chain) {
            let view = whole.view().clone();
            assert_agree(&view, &gathered(whole), &chain.unwrap());
        }
    }
}

#[test]
fn no_aggregate_is_left_out_of_the_chain() {
    let text = EVERY_AGGREGATE.concat();
    let left_out: Vec<_> = AGGREGATES
        .iter()
        .filter(|name| !text.contains(&format!(" {name}(")))
        .collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}

#[test]
fn the_same_base_and_rows_give_the_same_state() {
    let all = events(3000, 500, 11);
    let once = || {
        let bases: Vec<RecordBatch> = folded(&all.slice(0, 2000), 2).into_iter().map(gathered).collect();
        let news = folded(&all.slice(2000, 1000), 1).into_iter();
        news.zip(&bases)
            .map(|(state, base)| gathered(state.with_base(pieces(base, 64), 2000)))
            .collect::<Vec<_>>()
    };
    assert_eq!(once(), once());
}

#[test]
fn groups_that_nothing_new_touches_pass_as_they_are() {
    let all = events(2000, 2000, 3);
    let view = views(&SELECTS)[0].clone();
    let base = gathered(folded(&all, 1).remove(0));
    let nothing = folded(&all.slice(0, 0), 1).remove(0);
    let merged: Vec<RecordBatch> = nothing
        .with_base(pieces(&base, 100), 2000)
        .states()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(merged.len(), base.num_rows().div_ceil(100), "batch by batch");
    assert_eq!(concat_batches(&view.state_schema(), &merged).unwrap(), base);
}

#[test]
fn state_that_is_not_sorted_is_refused() {
    let base = gathered(folded(&events(500, 50, 5), 1).remove(0));
    let rows = u32::try_from(base.num_rows()).unwrap();
    let reversed = take_record_batch(&base, &UInt32Array::from_iter_values((0..rows).rev())).unwrap();
    let repeated = concat_batches(&base.schema(), [&base, &base]).unwrap();
    for damaged in [reversed, repeated] {
        for piece in [1, 10_000] {
            let state = folded(&events(10, 5, 6), 1)
                .remove(0)
                .with_base(pieces(&damaged, piece), 0);
            let error = state
                .states()
                .and_then(|states| states.collect::<Result<Vec<_>, _>>())
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        }
    }
}

#[test]
fn state_in_any_order_is_merged_within_the_budget() {
    let all = events(4000, 3000, 8);
    let view = views(&SELECTS)[1].clone();
    let whole = gathered(folded(&all, 1).remove(1));
    let parts: Vec<RecordBatch> = (0..8)
        .map(|part| gathered(folded(&all.slice(part * 500, 500), 1).remove(1)))
        .collect();
    for budget in [64 << 20, 256 << 10] {
        let control = Control::new();
        let merged = kernel(2, budget)
            .merge(&view, parts.iter().rev().cloned().map(Ok), &control)
            .unwrap();
        assert_eq!(
            control.progress().snapshot().spilled_bytes > 0,
            budget < 1 << 20,
            "the small budget spills"
        );
        assert_agree(&view, &whole, &gathered(merged));
    }
}

#[test]
fn a_pairing_tells_which_side_lacks_a_group() {
    let view = views(&SELECTS)[0].clone();
    let all = gathered(folded(&events(600, 40, 9), 1).remove(0));
    let without = |skip: usize| {
        let kept = BooleanArray::from_iter((0..all.num_rows()).map(|row| Some(row % 5 != skip)));
        filter_record_batch(&all, &kept).unwrap()
    };
    let (left, right) = (without(1), without(3));
    let mut pairing = Pairing::new(&view, pieces(&left, 4), pieces(&right, 9)).unwrap();
    let (mut both, mut only_left, mut only_right) = (0, 0, 0);
    while let Some(pairs) = pairing.next_pairs().unwrap() {
        if let Some((left, right)) = pairs.both {
            assert_eq!(left, right);
            both += left.num_rows();
        }
        only_left += pairs.only_left.map_or(0, |rows| rows.num_rows());
        only_right += pairs.only_right.map_or(0, |rows| rows.num_rows());
    }
    let lacking = |skip: usize| (0..all.num_rows()).filter(|row| row % 5 == skip).count();
    assert_eq!((only_left, only_right), (lacking(3), lacking(1)));
    assert_eq!(both + only_left + only_right, all.num_rows());
}
