use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TOP: i64 = 24;

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

fn ranges() -> impl Strategy<Value = Vec<OffsetRange>> {
    let one = (0..TOP, 0..6i64).prop_map(|(start, len)| range(start, (start + len).min(TOP)));
    prop::collection::vec(one, 0..6)
}

fn positions(ranges: impl IntoIterator<Item = OffsetRange>) -> BTreeSet<i64> {
    ranges
        .into_iter()
        .flat_map(|range| range.start.0..range.end.0)
        .collect()
}

proptest! {
    /// Every operation is that of a plain set of positions.
    #[test]
    fn behaves_as_a_set_of_positions(a in ranges(), b in ranges(), probe in ranges()) {
        let (set_a, set_b): (RangeSet, RangeSet) = (a.iter().copied().collect(), b.iter().copied().collect());
        let (plain_a, plain_b) = (positions(a), positions(b));
        prop_assert_eq!(positions(set_a.iter()), plain_a.clone());
        prop_assert_eq!(positions(set_a.union(&set_b).iter()), &plain_a | &plain_b);
        prop_assert_eq!(positions(set_a.minus(&set_b).iter()), &plain_a - &plain_b);
        for at in 0..TOP {
            prop_assert_eq!(set_a.contains(Offset(at)), plain_a.contains(&at));
            let (stretch, inside) = set_a.stretch(Offset(at));
            prop_assert_eq!(inside, plain_a.contains(&at));
            for other in (0..TOP).filter(|other| stretch.start.0 <= *other && *other < stretch.end.0) {
                prop_assert_eq!(plain_a.contains(&other), inside);
            }
        }
        for range in probe {
            let plain = positions([range]);
            prop_assert_eq!(positions(set_a.within(range).iter()), &plain_a & &plain);
            prop_assert_eq!(set_a.covers(range), plain.is_subset(&plain_a));
            prop_assert_eq!(set_a.intersects(range), !plain.is_disjoint(&plain_a));
        }
    }

    /// Equal sets are equal values, however they were put together, and no two of their ranges could be one.
    #[test]
    fn has_one_form(mut a in ranges()) {
        let set: RangeSet = a.iter().copied().collect();
        a.reverse();
        prop_assert_eq!(&set, &a.into_iter().collect());
        prop_assert!(set.0.windows(2).all(|pair| pair[0].end < pair[1].start));
        let json = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(set, serde_json::from_str(&json).unwrap());
    }
}

#[test]
fn a_range_that_runs_backwards_is_refused() {
    let error = serde_json::from_str::<RangeSet>(r#"[{"start": 4, "end": 2}]"#).unwrap_err();
    assert!(error.to_string().contains("runs backwards"), "{error}");
}
