//! Cancel requests: another connection names a process and its secret, and the statement that it runs ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The connections that can be named.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    known: Mutex<HashMap<i32, Arc<Entry>>>,
    last: AtomicI32,
}

#[derive(Debug)]
struct Entry {
    secret: Bytes,
    /// Of the statement that runs, if one does.
    running: Mutex<Option<CancellationToken>>,
}

/// A connection that can be named. Dropping it takes its name away.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) process: i32,
    entry: Arc<Entry>,
    connections: Arc<Connections>,
}

impl Connections {
    /// Names a connection; `long` secrets came with version 3.2 of the protocol.
    pub(crate) fn enter(self: &Arc<Self>, long: bool) -> Named {
        let secret: [u8; 32] = rand::random();
        let length = if long { 32 } else { 4 };
        let entry = Arc::new(Entry {
            secret: Bytes::copy_from_slice(&secret[..length]),
            running: Mutex::new(None),
        });
        let mut known = self.known.lock();
        let process = loop {
            let next = self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
            if next != 0 && !known.contains_key(&next) {
                break next;
            }
        };
        known.insert(process, Arc::clone(&entry));
        Named {
            process,
            entry,
            connections: Arc::clone(self),
        }
    }

    /// Ends what the named connection runs. Nobody is told whether there was one.
    pub(crate) fn cancel(&self, process: i32, secret: &[u8]) {
        let entry = self.known.lock().get(&process).cloned();
        let Some(entry) = entry else { return };
        let same = entry.secret.len() == secret.len()
            && entry.secret.iter().zip(secret).fold(0, |all, (a, b)| all | (a ^ b)) == 0;
        if same && let Some(running) = entry.running.lock().as_ref() {
            running.cancel();
        }
    }
}

impl Named {
    pub(crate) fn secret(&self) -> &[u8] {
        &self.entry.secret
    }

    /// What is cancelled from now on.
    pub(crate) fn begin(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.entry.running.lock() = Some(token.clone());
        token
    }

    /// Nothing runs any more.
    pub(crate) fn end(&self) {
        *self.entry.running.lock() = None;
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.connections.known.lock().remove(&self.process);
    }
}

#[cfg(test)]
mod tests;
