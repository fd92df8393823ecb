use anabranch_model::ErrorKind;
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
    let plan = Plan::new(views(&SELECTS), events.num_rows() as u64).unwrap();
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
        let all = events(rows, pages, seed);
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(rows));
        cuts.extend([0, rows]);
        cuts.sort_unstable();
        let whole = folded(&all, 2);
        let mut chain: Vec<Option<RecordBatch>> = vec![None; SELECTS.len()];
        let mut before = 0;
        for window in cuts.windows(2) {
            let part = folded(&all.slice(window[0], window[1] - window[0]), 1);
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
