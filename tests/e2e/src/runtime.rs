use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// Between two looks at a condition that nobody reports.
const POLL: Duration = Duration::from_millis(20);

/// Runs a future to its end; one runtime serves all tests of the process.
pub fn block_on<F: Future>(future: F) -> F::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads can be started")
    };
    RUNTIME.get_or_init(build).block_on(future)
}

/// Waits until `look` finds something.
///
/// # Panics
/// After `within`, naming `what` was waited for.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < within, "waited {within:?} in vain: {what}");
        std::thread::sleep(POLL);
    }
}
