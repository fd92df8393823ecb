use crate::testing::{events, views};

use super::*;

/// Unsorted state of random events.
fn state(view: &View, rows: usize, pages: u32) -> RecordBatch {
    let mut aggregator = view.aggregator().unwrap();
    aggregator
        .fold(&view.prepare(&events(rows, pages, 11)).unwrap())
        .unwrap();
    aggregator.emit().unwrap()
}

#[test]
fn the_order_is_that_of_the_view() {
    let selects = [
        "SELECT page, count(*) AS c FROM events GROUP BY page",
        "SELECT n, count(*) AS c FROM events GROUP BY n",
        "SELECT price, count(*) AS c FROM events GROUP BY price",
        "SELECT n, page, count(*) AS c FROM events GROUP BY n, page",
        "SELECT page, tumble(t, INTERVAL '1 minute') AS minute, count(*) AS c FROM events GROUP BY page, minute",
        "SELECT n > 0 AS positive, count(*) AS c FROM events GROUP BY n > 0",
        "SELECT count(*) AS c FROM events",
    ];
    for (view, select) in views(&selects).iter().zip(selects) {
        for rows in [0, 1, 2, 4000] {
            let state = state(view, rows, 900);
            assert_eq!(
                sort_state(view, &state).unwrap(),
                view.sort_state(&state).unwrap(),
                "{rows} rows of {select}"
            );
        }
    }
}

#[test]
fn words_compare_like_the_bytes_they_stand_for() {
    let texts: [&[u8]; 6] = [b"", b"a", b"ab", b"abcdefghijklmnop", b"abcdefghijklmnoz", b"b"];
    assert!(texts.windows(2).all(|pair| word(pair[0], 0) < word(pair[1], 0)));
    assert_eq!(word(b"xyz", 1), word(b"yz", 0));
    assert_eq!(word(b"xyz", 9), 0);
}
