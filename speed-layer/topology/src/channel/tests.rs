use std::thread;

use super::*;

#[test]
fn keeps_order_and_closes_with_the_last_sender() {
    let inbox = Inbox::new(4);
    let (first, second) = (inbox.sender(), inbox.sender());
    first.send(1).unwrap();
    second.send(2).unwrap();
    drop(first);
    assert_eq!(inbox.receive(None), Received::Message(1));
    drop(second);
    assert_eq!(
        inbox.receive(None),
        Received::Message(2),
        "what was sent is received before the inbox closes"
    );
    assert_eq!(inbox.receive(None), Received::Closed);
}

#[test]
fn a_full_inbox_blocks_its_sender_and_says_for_how_long() {
    let begun = Instant::now();
    // Again while the machine is so busy that the sender comes too late to be blocked for long.
    loop {
        let inbox = Inbox::new(1);
        let sender = inbox.sender();
        assert_eq!(sender.send(1), Ok(Duration::ZERO));
        assert!(!sender.has_room());
        let blocked = thread::spawn(move || sender.send(2));
        thread::sleep(Duration::from_millis(30));
        assert_eq!(inbox.len(), 1, "the second message waits outside");
        assert_eq!(inbox.receive(None), Received::Message(1));
        let blocked = blocked.join().unwrap().unwrap();
        assert_eq!(inbox.receive(None), Received::Message(2));
        if blocked >= Duration::from_millis(20) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "blocked for {blocked:?}");
    }
}

#[test]
fn a_deadline_ends_the_wait() {
    let inbox = Inbox::<u8>::new(1);
    let _sender = inbox.sender();
    let start = Instant::now();
    assert_eq!(
        inbox.receive(Some(start + Duration::from_millis(20))),
        Received::TimedOut
    );
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[test]
fn killing_releases_blocked_senders_and_drops_the_queue() {
    let inbox = Inbox::new(1);
    let sender = inbox.sender();
    sender.send(1).unwrap();
    let blocked = thread::spawn(move || sender.send(2));
    thread::sleep(Duration::from_millis(10));
    inbox.kill();
    assert_eq!(blocked.join().unwrap(), Err(Killed));
    assert_eq!(inbox.receive(None), Received::Killed);
    assert_eq!(inbox.len(), 0);
}
