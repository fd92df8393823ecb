use super::*;

fn ended(ledger: &Ledger) -> Option<(u64, Outcome)> {
    ledger
        .poll(Duration::ZERO)
        .map(|(message, outcome)| (message.0, outcome))
}

#[test]
fn a_tree_is_complete_when_each_of_its_tuples_is_acked() {
    let ledger = Ledger::new();
    let (root, hold) = ledger.begin(MessageId(7));
    let (a, b) = (ledger.add(root), ledger.add(root));
    ledger.ack(root, hold);
    ledger.ack(root, b);
    let child = ledger.add(root);
    ledger.ack(root, a);
    assert_eq!(ended(&ledger), None, "the child is still out");
    assert_eq!(ledger.open(), 1);
    ledger.ack(root, child);
    assert_eq!(ended(&ledger), Some((7, Outcome::Acked)));
    assert_eq!(ledger.open(), 0);
}

#[test]
fn trees_do_not_mix() {
    let ledger = Ledger::new();
    let (one, one_hold) = ledger.begin(MessageId(1));
    let (two, two_hold) = ledger.begin(MessageId(2));
    ledger.ack(two, two_hold);
    assert_eq!(ended(&ledger), Some((2, Outcome::Acked)));
    ledger.ack(one, one_hold);
    assert_eq!(ended(&ledger), Some((1, Outcome::Acked)));
}

#[test]
fn one_failure_ends_the_tree_once_and_later_acks_are_ignored() {
    let ledger = Ledger::new();
    let (root, hold) = ledger.begin(MessageId(3));
    let a = ledger.add(root);
    ledger.fail(root);
    ledger.fail(root);
    ledger.ack(root, hold);
    ledger.ack(root, a);
    assert_eq!(ended(&ledger), Some((3, Outcome::Failed)));
    assert_eq!(ended(&ledger), None);
}

#[test]
fn ids_do_not_repeat_or_cancel() {
    let ids: std::collections::HashSet<u64> = (1..=100_000).map(mix).collect();
    assert_eq!(ids.len(), 100_000);
    assert!(!ids.contains(&0), "an id of zero would be invisible in the ledger");
}

#[test]
fn drain_waits_for_open_trees_and_ends_when_closed() {
    let ledger = std::sync::Arc::new(Ledger::new());
    let (root, hold) = ledger.begin(MessageId(1));
    ledger.begin(MessageId(2));
    let draining = {
        let ledger = std::sync::Arc::clone(&ledger);
        std::thread::spawn(move || std::iter::from_fn(|| ledger.drain()).collect::<Vec<_>>())
    };
    ledger.ack(root, hold);
    ledger.close();
    assert_eq!(draining.join().unwrap(), vec![(MessageId(1), Outcome::Acked)]);
}
