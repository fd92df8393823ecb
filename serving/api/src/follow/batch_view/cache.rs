use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anabranch_merge::Block;
use parking_lot::Mutex;

/// Blocks of local files that were read lately, up to so many bytes; whoever was not asked for longest goes first.
pub(crate) struct BlockCache {
    limit: usize,
    held: Mutex<Held>,
}

/// File, and number of the block in it.
type Key = (u64, usize);

#[derive(Default)]
struct Held {
    blocks: HashMap<Key, Entry>,
    /// By when they were asked for.
    order: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

struct Entry {
    block: Arc<Block>,
    bytes: usize,
    asked: u64,
}

impl BlockCache {
    /// Holds up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Arc<Block>> {
        let mut held = self.held.lock();
        let held = &mut *held;
        let Some(entry) = held.blocks.get_mut(&key) else {
            metrics::counter!("anabranch_serving_block_cache_misses_total").increment(1);
            return None;
        };
        held.clock += 1;
        held.order.remove(&entry.asked);
        entry.asked = held.clock;
        held.order.insert(held.clock, key);
        metrics::counter!("anabranch_serving_block_cache_hits_total").increment(1);
        Some(Arc::clone(&entry.block))
    }

    pub(crate) fn put(&self, key: Key, block: &Arc<Block>) {
        let bytes = block.size_bytes();
        if bytes > self.limit {
            return;
        }
        let mut held = self.held.lock();
        let held = &mut *held;
        held.remove(key);
        held.clock += 1;
        held.order.insert(held.clock, key);
        held.blocks.insert(
            key,
            Entry {
                block: Arc::clone(block),
                bytes,
                asked: held.clock,
            },
        );
        held.bytes += bytes;
        while held.bytes > self.limit
            && let Some((_, oldest)) = held.order.pop_first()
        {
            held.remove(oldest);
        }
        metrics::gauge!("anabranch_serving_block_cache_bytes").set(held.bytes as f64);
    }

    /// Lets go of all blocks of one file.
    pub(crate) fn forget(&self, file: u64) {
        let mut held = self.held.lock();
        let gone: Vec<Key> = held.blocks.keys().filter(|(of, _)| *of == file).copied().collect();
        for key in gone {
            held.remove(key);
        }
        metrics::gauge!("anabranch_serving_block_cache_bytes").set(held.bytes as f64);
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.held.lock().bytes
    }

    #[cfg(test)]
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }
}

impl Held {
    fn remove(&mut self, key: Key) {
        if let Some(entry) = self.blocks.remove(&key) {
            self.order.remove(&entry.asked);
            self.bytes -= entry.bytes;
        }
    }
}
