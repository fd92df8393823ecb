use crate::testing::{answers, events, files, fold, gather, kernel, views};
use crate::{Control, Plan};

use super::*;

fn result(select: &str) -> (View, RecordBatch) {
    let rows = events(2000, 20, 1);
    let plan = Plan::new(views(&[select]), 2000).unwrap();
    let mut states = fold(&kernel(1, 1 << 30), &plan, &files(&rows, 2000, 500), &Control::new()).unwrap();
    let state = states.remove(0);
    (state.view().clone(), gather(state))
}

#[test]
fn state_columns_come_first_and_finalise_to_the_columns_beside_them() {
    let (view, result) = result("SELECT count(*) AS events, page FROM events GROUP BY page");
    let state_columns = view.state_schema().fields().len();
    let state = result.project(&(0..state_columns).collect::<Vec<_>>()).unwrap();
    assert_eq!(state.schema(), view.state_schema());
    let finalised = view.finalise(&state).unwrap();
    assert_eq!(result.column_by_name("events").unwrap(), finalised.column(0));
    assert_eq!(result.column_by_name("page").unwrap(), finalised.column(1));
}

#[test]
fn having_keeps_every_group_and_leaves_finalised_columns_null() {
    let (_, all) = result("SELECT page, count(*) AS events FROM events GROUP BY page");
    let (view, some) = result("SELECT page, count(*) AS events FROM events GROUP BY page HAVING count(*) > 100");
    assert_eq!(some.num_rows(), all.num_rows());
    assert!(answers(&view, &some).iter().flatten().all(|value| value == "NULL"));
}

#[test]
fn an_output_named_like_a_state_column_gets_another_name() {
    let (view, result) = result("SELECT page AS key0, count(*) AS events FROM events GROUP BY page");
    let schema = batch_view_schema(&view);
    let mut names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert!(
        names.iter().any(|name| *name == "key0") && names.iter().any(|name| *name == "key0_"),
        "{names:?}"
    );
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), result.num_columns(), "every name once");
}
