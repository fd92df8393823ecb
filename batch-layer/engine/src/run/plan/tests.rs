use anabranch_dataset::{BatchView, Exclusion};
use anabranch_model::PartitionId;

use super::*;
use crate::testing::{offsets, range};

fn cut(version: u64, next: &[(i32, i64)]) -> Cut {
    Cut {
        version: Some(version),
        next: offsets(next),
    }
}

fn excluding(start: i64, end: i64) -> Notes {
    Notes {
        exclusions: vec![Exclusion {
            id: 1,
            partition: PartitionId(0),
            range: range(start, end),
            reason: String::new(),
            by: String::new(),
            at: String::new(),
        }],
        ..Notes::default()
    }
}

/// What is served: views `a` and `b` of `clicks`, up to 100.
fn base() -> Manifest {
    let view = |hash: &str| BatchView {
        hash: hash.to_owned(),
        source: "clicks".to_owned(),
        files: Vec::new(),
        groups: 1,
        rows: 100,
    };
    Manifest {
        run_id: "before".to_owned(),
        started_at: String::new(),
        finished_at: String::new(),
        cuts: [("clicks".to_owned(), cut(7, &[(0, 100)]))].into(),
        views: [("a".to_owned(), view("1")), ("b".to_owned(), view("2"))].into(),
        notes: BTreeMap::new(),
        mode: RunMode::Incremental,
        base: None,
        chain: 3,
    }
}

fn views<'a>(hashes: &[(&'a str, &'a str)]) -> Vec<ViewFact<'a>> {
    hashes
        .iter()
        .map(|(name, hash)| ViewFact {
            name,
            hash,
            source: "clicks",
        })
        .collect()
}

const KNOWN: [(&str, &str); 2] = [("a", "1"), ("b", "2")];

/// What is decided when `change` is made to facts that allow an incremental run.
fn decided(base: &Manifest, now: (&Cut, &Notes), change: impl FnOnce(&mut Facts<'_>)) -> RunPlan {
    let mut facts = Facts {
        mode: BatchMode::Incremental,
        full_every: 0,
        full_requested: false,
        base: Some(base),
        base_lacks: None,
        sources: [("clicks", now)].into(),
        views: views(&KNOWN),
    };
    change(&mut facts);
    plan(&facts)
}

#[test]
fn a_run_builds_on_the_one_that_is_served() {
    let (now, notes) = (cut(9, &[(0, 140), (1, 3)]), Notes::default());
    let decided = decided(&base(), (&now, &notes), |_| {});
    assert_eq!(
        decided,
        RunPlan {
            mode: RunMode::Incremental,
            reason: None,
            base: Some("before".to_owned()),
            chain: 4,
            on_base: ["a".to_owned(), "b".to_owned()].into(),
        }
    );
}

#[test]
fn a_run_is_full_for_each_of_these_reasons_and_says_which() {
    let (now, none) = (cut(9, &[(0, 140)]), Notes::default());
    let reason = |notes: &Notes, change: &dyn Fn(&mut Facts<'_>)| {
        let plan = decided(&base(), (&now, notes), change);
        assert_eq!((plan.mode, plan.chain), (RunMode::Full, 0), "{plan:?}");
        assert!(plan.base.is_none() && plan.on_base.is_empty(), "{plan:?}");
        plan.reason.unwrap_or_default()
    };
    assert_eq!(reason(&none, &|facts| facts.mode = BatchMode::Full), "");
    assert_eq!(reason(&none, &|facts| facts.full_requested = true), "asked for");
    assert_eq!(reason(&none, &|facts| facts.base = None), "nothing is published yet");
    assert_eq!(reason(&none, &|facts| facts.full_every = 4), "full_every");
    assert_eq!(
        reason(&none, &|facts| facts.base_lacks =
            Some("runs/before/a/part-00000.parquet".to_owned())),
        "state files of run before are gone: runs/before/a/part-00000.parquet"
    );
    assert_eq!(
        reason(&none, &|facts| facts.views = views(&[("a", "9"), ("c", "2")])),
        "no view is in the publication as it is defined now"
    );
    assert_eq!(reason(&excluding(90, 110), &|_| {}), "exclusions of clicks");
    let expired = Notes {
        since: offsets(&[(0, 10)]),
        ..Notes::default()
    };
    assert_eq!(reason(&expired, &|_| {}), "retention of clicks");
    let lost = Notes {
        gaps: [(PartitionId(0), [range(20, 30)].into_iter().collect())].into(),
        ..Notes::default()
    };
    assert_eq!(reason(&lost, &|_| {}), "gaps of clicks");
    let behind = cut(2, &[(0, 60)]);
    assert_eq!(
        reason(&none, &|facts| {
            facts.sources.insert(
                "clicks",
                (Box::leak(Box::new(behind.clone())), Box::leak(Box::default())),
            );
        }),
        "the master dataset of clicks is behind what is published"
    );
}

#[test]
fn what_lies_behind_the_cut_or_was_applied_already_asks_for_no_full_run() {
    let now = cut(9, &[(0, 140)]);
    let plan = decided(&base(), (&now, &excluding(100, 110)), |_| {});
    assert_eq!(plan.mode, RunMode::Incremental, "the base has none of it");
    let mut applied = base();
    applied.notes = [("clicks".to_owned(), excluding(10, 20))].into();
    let plan = decided(&applied, (&now, &excluding(10, 20)), |_| {});
    assert_eq!(plan.mode, RunMode::Incremental, "the base left it out too");
    let plan = decided(&applied, (&now, &Notes::default()), |_| {});
    assert_eq!(plan.mode, RunMode::Full, "it was included again");
}

#[test]
fn every_nth_run_is_full() {
    let now = cut(9, &[(0, 140)]);
    let none = Notes::default();
    let mode = |full_every| decided(&base(), (&now, &none), |facts| facts.full_every = full_every).mode;
    assert_eq!(mode(3), RunMode::Full);
    assert_eq!(
        mode(5),
        RunMode::Incremental,
        "three came after the full one, and this is the fourth"
    );
    assert_eq!(mode(0), RunMode::Incremental, "never");
}

#[test]
fn only_views_that_the_base_lacks_are_folded_in_full() {
    let now = cut(9, &[(0, 140)]);
    let plan = decided(&base(), (&now, &Notes::default()), |facts| {
        facts.views = views(&[("a", "1"), ("b", "3"), ("c", "4")]);
    });
    assert_eq!(plan.mode, RunMode::Incremental);
    assert_eq!(plan.reason.as_deref(), Some("in full: b, c"));
    assert_eq!(plan.on_base, ["a".to_owned()].into());
}
