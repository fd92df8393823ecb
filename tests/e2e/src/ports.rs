//! Loopback ports that nobody else takes between choosing and binding them.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that the system hands out by itself, so that no outgoing connection can take one.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A free port that no other test of this process gets.
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two test processes begin at different places.
    let begin = (std::process::id() % 200) as u16 * 100;
    for _ in 0..COUNT {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on loopback");
}
