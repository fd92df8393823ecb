//! What a test must not do at the same time as others, and when it may be skipped.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Holds off other heavy tests: few cores serve them all.
pub fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    // A failed test leaves nothing behind that the next one could stumble over.
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says loudly that something cannot be tested here.
///
/// # Panics
/// Where `ANABRANCH_REQUIRE_SERVERS=1` says that nothing may be skipped.
#[track_caller]
pub fn skip(test: &str, reason: &str) {
    let required = std::env::var("ANABRANCH_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "{test} cannot run, but ANABRANCH_REQUIRE_SERVERS=1: {reason}"
    );
    eprintln!("SKIPPED {test}: {reason}");
}
