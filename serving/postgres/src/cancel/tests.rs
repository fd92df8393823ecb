use super::*;

#[test]
fn only_who_knows_the_secret_cancels() {
    let connections = Arc::new(Connections::default());
    let named = connections.enter(false);
    let running = named.begin();
    connections.cancel(named.process, b"four");
    connections.cancel(named.process + 1, named.secret());
    connections.cancel(named.process, &named.secret()[..3]);
    assert!(!running.is_cancelled());
    let secret = named.secret().to_vec();
    connections.cancel(named.process, &secret);
    assert!(running.is_cancelled());
    named.end();
    let next = named.begin();
    assert!(!next.is_cancelled(), "a request ends one statement, not the next");
    let process = named.process;
    drop(named);
    connections.cancel(process, &secret);
}
