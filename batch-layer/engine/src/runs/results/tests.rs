use super::*;
use crate::testing::{Gate, publication};

#[test]
fn only_publications_from_before_the_run_end_the_search() {
    let run_id = "20260601T120000Z-abcdef";
    assert!(is_older(&publication("x", "2026-06-01T10:59:59.900Z"), run_id));
    // Another machine's clock may be behind.
    assert!(!is_older(&publication("x", "2026-06-01T11:00:00.100Z"), run_id));
    assert!(!is_older(&publication("x", "2026-06-01T12:00:01Z"), run_id));
    assert!(!is_older(&publication("x", "not a time"), run_id));
}

#[tokio::test]
async fn a_listing_that_lags_behind_hides_no_publication() {
    let (gate, store) = Gate::store();
    let publications = Publications::new(&store);
    let first = publications
        .publish(0, publication("20260601T120000Z-a", "").manifest)
        .await
        .unwrap();
    let second = publications
        .publish(1, publication("20260601T120001Z-b", "").manifest)
        .await
        .unwrap();
    gate.lag();
    let elsewhere = Publications::new(&store);
    for published in [first, second] {
        let found = publication_of(&elsewhere, &published.manifest.run_id).await.unwrap();
        assert_eq!(found.map(|found| found.number), Some(published.number));
    }
    assert!(
        publication_of(&elsewhere, "20260601T120002Z-c")
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_publication_is_found_behind_one_of_a_clock_that_is_late() {
    let (_gate, store) = Gate::store();
    let publications = Publications::new(&store);
    // Its clock is half an hour ahead of the one that the publications are timed by.
    let ahead = Utc::now() + TimeDelta::minutes(30);
    let run_id = format!("{}-abcdef", ahead.format("%Y%m%dT%H%M%SZ"));
    publications
        .publish(0, publication(&run_id, "").manifest)
        .await
        .unwrap();
    publications
        .publish(1, publication("another", "").manifest)
        .await
        .unwrap();
    let found = publication_of(&publications, &run_id).await.unwrap();
    assert_eq!(found.map(|found| found.number), Some(1));
}
