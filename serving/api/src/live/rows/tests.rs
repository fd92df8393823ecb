use proptest::prelude::*;

use super::*;

type Plain = Vec<(Vec<u8>, Vec<u8>)>;

/// What a reader does.
fn apply(held: &mut Plain, changes: &Changes<'_>) {
    let dropped: HashSet<&[u8]> = changes
        .changed
        .iter()
        .map(|(_, row)| &*row.key)
        .chain(changes.gone.iter().copied())
        .collect();
    held.retain(|(key, _)| !dropped.contains(key.as_slice()));
    for (place, row) in &changes.changed {
        held.insert(*place, (row.key.to_vec(), row.cells.to_vec()));
    }
}

fn plain(rows: &Rows) -> Plain {
    rows.list
        .iter()
        .map(|row| (row.key.to_vec(), row.cells.to_vec()))
        .collect()
}

/// A list with different keys, in any order.
fn lists() -> impl Strategy<Value = Vec<Plain>> {
    let list = prop::collection::btree_map(0_u8..12, 0_u8..3, 0..12).prop_flat_map(|rows| {
        let rows: Plain = rows.into_iter().map(|(key, cells)| (vec![key], vec![cells])).collect();
        Just(rows).prop_shuffle()
    });
    prop::collection::vec(list, 1..10)
}

proptest! {
    /// From whichever position a reader comes, what it lacks makes it hold the newest list, in its order.
    #[test]
    fn changes_lead_from_every_position_to_the_newest(lists in lists()) {
        let mut rows = Rows::new(7, lists[0].clone());
        let mut readers = vec![(rows.position(), plain(&rows))];
        for list in &lists[1..] {
            rows = rows.next(list.clone());
            prop_assert_eq!(&plain(&rows), list);
            for (position, held) in &readers {
                let mut held = held.clone();
                apply(&mut held, &rows.since(*position).unwrap());
                prop_assert_eq!(&held, list);
            }
            readers.push((rows.position(), list.clone()));
        }
        prop_assert!(rows.since(rows.position()).unwrap().changed.is_empty());
        prop_assert!(rows.since(6).is_none() && rows.since(rows.position() + 1).is_none());
    }
}

#[test]
fn only_what_changed_is_told() {
    let row = |key: u8, cells: u8| (vec![key], vec![cells]);
    let first = Rows::new(1, vec![row(1, 1), row(2, 1), row(3, 1)]);
    let second = first.next(vec![row(1, 1), row(3, 2), row(4, 1)]);
    let changes = second.since(1).unwrap();
    assert_eq!(
        changes
            .changed
            .iter()
            .map(|(place, row)| (*place, row.key[0]))
            .collect::<Vec<_>>(),
        [(1, 3), (2, 4)]
    );
    assert_eq!(changes.gone, [&[2_u8][..]]);
    let third = second.next(plain(&second));
    assert_eq!(third.position(), 3);
    assert!(third.since(2).unwrap().changed.is_empty());
    assert_eq!(third.since(1).unwrap().gone.len(), 1);
}

/// Whoever is further behind than keys are remembered is told so, and nobody else.
#[test]
fn what_is_remembered_of_the_past_is_bounded() {
    let row = |key: usize| (key.to_le_bytes().to_vec(), Vec::new());
    let mut rows = Rows::new(1, (0..MOST_GONE).map(row).collect());
    rows = rows.next(vec![row(MOST_GONE)]);
    assert_eq!(rows.since(1).unwrap().gone.len(), MOST_GONE);
    rows = rows.next(Vec::new());
    assert_eq!(rows.gone.len(), MOST_GONE);
    assert!(rows.since(1).is_none());
    assert_eq!(rows.since(2).unwrap().gone.len(), 1);
}
