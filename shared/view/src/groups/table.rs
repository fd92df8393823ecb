//! A hash table from 64-bit numbers to small ones, made for many lookups of few numbers.

use std::hint::select_unpredictable;

/// Marks an empty place: more numbers than a table may hold.
const EMPTY: u32 = u32::MAX;
/// Places of a bucket, as many as fit into a cache line.
const PLACES: usize = 5;
const FEWEST_BUCKETS: usize = 16;
/// Lookups that are begun before the first of them is finished, so that memory works for several at a time.
const ABREAST: usize = 32;

/// The places that a key is looked for in at once, filled from the first on.
#[derive(Clone)]
#[repr(align(64))]
struct Bucket {
    keys: [u64; PLACES],
    ids: [u32; PLACES],
}

const EMPTY_BUCKET: Bucket = Bucket {
    keys: [0; PLACES],
    ids: [EMPTY; PLACES],
};

impl Bucket {
    /// The number of a key, or [`EMPTY`]. Without a branch: which place it is in cannot be foreseen.
    #[inline]
    fn find(&self, key: u64) -> u32 {
        let mut found = EMPTY;
        for place in 0..PLACES {
            // An empty place has key 0 and no number, so it may match.
            let id = self.ids[place];
            found = select_unpredictable(self.keys[place] == key, found & id, found);
        }
        found
    }
}

/// Gives each distinct key a number, from 0 on, in the order in which they come. A key that finds its bucket full goes into
/// the next that is not.
#[derive(Default)]
pub(super) struct Table {
    buckets: Vec<Bucket>,
    len: usize,
}

impl Table {
    /// Calls `visit` with the number of each key and whether it is new, in order.
    pub(super) fn assign(&mut self, keys: impl ExactSizeIterator<Item = u64>, mut visit: impl FnMut(usize, u32, bool)) {
        let mut keys = keys;
        let (mut begun, mut homes, mut ids) = ([0_u64; ABREAST], [0_usize; ABREAST], [EMPTY; ABREAST]);
        let mut row = 0;
        loop {
            let mut count = 0;
            for key in keys.by_ref().take(ABREAST) {
                begun[count] = key;
                count += 1;
            }
            // All keys of a round may be new.
            self.reserve(ABREAST);
            let buckets = &self.buckets[..];
            let mask = buckets.len() - 1;
            // Indices, not zipped iterators: this loop must not be broken by a call.
            for at in 0..ABREAST {
                homes[at] = home(begun[at], mask);
            }
            for at in 0..ABREAST {
                ids[at] = buckets[homes[at]].find(begun[at]);
            }
            for at in 0..count {
                let id = ids[at];
                if id == EMPTY {
                    let (id, new) = self.find_or_add(begun[at], homes[at]);
                    visit(row, id, new);
                } else {
                    visit(row, id, false);
                }
                row += 1;
            }
            if count < ABREAST {
                return;
            }
        }
    }

    /// The number of one key, and whether it is new.
    pub(super) fn assign_one(&mut self, key: u64) -> (u32, bool) {
        self.reserve(1);
        self.find_or_add(key, home(key, self.buckets.len() - 1))
    }

    fn find_or_add(&mut self, key: u64, home: usize) -> (u32, bool) {
        let mask = self.buckets.len() - 1;
        let mut at = home;
        loop {
            let bucket = &mut self.buckets[at & mask];
            let known = bucket.find(key);
            if known != EMPTY {
                return (known, false);
            }
            if let Some(place) = bucket.ids.iter().position(|&id| id == EMPTY) {
                let id = u32::try_from(self.len).expect("the table is never that large");
                bucket.keys[place] = key;
                bucket.ids[place] = id;
                self.len += 1;
                return (id, true);
            }
            at += 1;
        }
    }

    /// Makes room for more keys.
    fn reserve(&mut self, more: usize) {
        // At three quarters nearly every key is in its own bucket.
        if (self.len + more) * 4 <= self.buckets.len() * PLACES * 3 {
            return;
        }
        let count = (self.buckets.len() * 2).max(FEWEST_BUCKETS);
        assert!(count * PLACES < EMPTY as usize, "a table cannot number 2^32 keys");
        let before = std::mem::replace(&mut self.buckets, vec![EMPTY_BUCKET; count]);
        for bucket in before {
            for (key, id) in bucket.keys.into_iter().zip(bucket.ids).filter(|(_, id)| *id != EMPTY) {
                let mut at = home(key, count - 1);
                loop {
                    let bucket = &mut self.buckets[at & (count - 1)];
                    if let Some(place) = bucket.ids.iter().position(|&id| id == EMPTY) {
                        bucket.keys[place] = key;
                        bucket.ids[place] = id;
                        break;
                    }
                    at += 1;
                }
            }
        }
    }

    /// Forgets all keys; a table of at most so many bytes keeps its memory.
    pub(super) fn clear(&mut self, keep_bytes: usize) {
        self.len = 0;
        if self.size() > keep_bytes {
            self.buckets = vec![];
        } else {
            self.buckets.fill(EMPTY_BUCKET);
        }
    }

    pub(super) fn size(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }
}

/// A folded multiplication: every bit of the key reaches the low ones.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low bits choose the bucket")]
fn home(key: u64, mask: usize) -> usize {
    let product = u128::from(key ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
    let folded = (product as u64) ^ ((product >> 64) as u64);
    (folded ^ (folded >> 32)) as usize & mask
}
