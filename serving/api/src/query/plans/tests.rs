use std::sync::OnceLock;

use anabranch_access::{Role, ViewPatterns};
use anabranch_catalog::Catalog;
use anabranch_definitions::Definitions;
use anabranch_view::View;
use datafusion::logical_expr::LogicalPlanBuilder;

use super::*;
use crate::query::check;

/// Any plan; `columns` make it larger.
fn planned(views: &[View], columns: usize) -> Arc<Planned> {
    let ones = (0..columns).map(|number| datafusion::logical_expr::lit(1).alias(format!("c{number}")));
    let plan = LogicalPlanBuilder::empty(true).project(ones).unwrap().build().unwrap();
    Arc::new(Planned {
        statement: check::parse("SELECT 1").unwrap(),
        plan,
        views: views.to_vec(),
        parameters: Vec::new(),
        direct: None,
        columns: OnceLock::new(),
    })
}

fn compiled() -> View {
    let sql = "CREATE TABLE clicks (page TEXT) WITH (connector = 'log', topic = 'clicks', format = 'json');
               CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS hits FROM clicks GROUP BY page;";
    View::compile(&Catalog::parse(sql).unwrap().views["pages"]).unwrap()
}

fn serving(views: &[View]) -> Published {
    let views = Arc::new(views.to_vec());
    Published {
        number: 0,
        publication: None,
        definitions: Arc::new(Definitions::fixed(Arc::default(), Arc::clone(&views))),
        served: views,
        views: BTreeMap::new(),
    }
}

fn reader(views: &str) -> Principal {
    Principal::new("somebody", Role::Read, ViewPatterns::new([views]))
}

#[test]
fn a_plan_is_for_who_may_read_its_views_and_as_long_as_these_answer() {
    let (plans, view) = (Plans::default(), compiled());
    let (all, others) = (Principal::anonymous_admin(), reader("shop_*"));
    let now = serving(std::slice::from_ref(&view));
    let plan = planned(std::slice::from_ref(&view), 1);
    plans.put("q", &plan);
    assert!(Arc::ptr_eq(&plans.get("q", &now, &all).unwrap(), &plan));
    assert!(plans.get("Q", &now, &all).is_none(), "another text");
    assert!(plans.get("q", &now, &others).is_none(), "a view that it may not read");
    assert!(plans.get("q", &now, &all).is_some(), "others lose nothing by that");

    // Compiled from the same text, and yet another one: columns may mean something else.
    let changed = serving(&[compiled()]);
    assert!(plans.get("q", &changed, &all).is_none());
    assert!(plans.get("q", &now, &all).is_none(), "it is gone for good");
    plans.put("q", &plan);
    assert!(plans.get("q", &serving(&[]), &all).is_none(), "the view was dropped");
    assert_eq!(plans.held.lock().bytes, 0);
}

#[test]
fn plans_are_bounded_in_number_and_those_not_asked_for_go_first() {
    let plans = Plans::default();
    let (now, all) = (serving(&[]), Principal::anonymous_admin());
    for number in 0..MOST_PLANS {
        plans.put(&number.to_string(), &planned(&[], 1));
    }
    assert!(plans.get("0", &now, &all).is_some());
    plans.put("one more", &planned(&[], 1));
    assert!(plans.get("0", &now, &all).is_some(), "it was asked for");
    assert!(plans.get("1", &now, &all).is_none(), "it was not");
    let held = plans.held.lock();
    assert_eq!((held.plans.len(), held.order.len()), (MOST_PLANS, MOST_PLANS));
}

#[test]
fn plans_are_bounded_in_bytes() {
    let plans = Plans::default();
    let (now, all) = (serving(&[]), Principal::anonymous_admin());
    let columns = MOST_BYTES / COLUMN_BYTES / 10;
    for number in 0..30 {
        plans.put(&number.to_string(), &planned(&[], columns));
        let held = plans.held.lock();
        assert!(held.bytes <= MOST_BYTES, "{}", held.bytes);
        assert_eq!(held.bytes, held.plans.values().map(|entry| entry.bytes).sum::<usize>());
        assert_eq!(held.order.len(), held.plans.len());
    }
    assert!(plans.get("29", &now, &all).is_some());
    assert!(plans.get("0", &now, &all).is_none());
    plans.put("large", &planned(&[], 4 * columns));
    assert!(
        plans.get("large", &now, &all).is_none(),
        "one that is too large is not kept"
    );
    let long = "x".repeat(LONGEST_TEXT + 1);
    plans.put(&long, &planned(&[], 1));
    assert!(plans.get(&long, &now, &all).is_none(), "nor is one of somebody's own");
}

#[test]
fn putting_a_plan_again_counts_it_once() {
    let plans = Plans::default();
    for _ in 0..3 {
        plans.put("q", &planned(&[], 5));
    }
    let held = plans.held.lock();
    assert_eq!((held.plans.len(), held.order.len()), (1, 1));
    assert_eq!(held.bytes, held.plans["q"].bytes);
}
