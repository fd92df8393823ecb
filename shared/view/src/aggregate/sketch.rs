//! HyperLogLog whose size follows from what it has seen: a few registers in place, then a small table, then all 2^14.
//!
//! Registers and estimate are those of DataFusion's `approx_distinct`, so the answer is the same. Its partial state keeps
//! eight bytes a value up to 256 values and 16 KiB beyond; here a register that was hit costs about two bytes, and groups
//! with thousands of values are the first to cost 16 KiB.

use datafusion::common::{Result, exec_err};

const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash below which the first one set is looked for.
const RANK_BITS: u32 = 64 - INDEX_BITS;
/// The largest value of a register: no bit was set.
const LARGEST_RANK: u8 = 51;
/// How many registers of one value each there can be: 0 to the largest.
type Histogram = [u32; LARGEST_RANK as usize + 1];

/// Registers kept in place, without an allocation.
const FEW: usize = 5;
const SMALLEST_TABLE: usize = 16;
/// A larger table would be as large as all registers.
const LARGEST_TABLE: usize = 2048;
/// More registers than these are encoded as they are, all of them.
const SPARSE_REGISTERS: usize = 4096;

/// A register that was hit: its index, then its value in six bits. Never 0, since a value is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(u32);

impl Entry {
    /// The register that a hash falls into, and the value it gives it.
    #[expect(clippy::cast_possible_truncation, reason = "14 bits, and a number up to 51")]
    pub(super) fn of_hash(hash: u64) -> Self {
        let index = (hash & (REGISTERS as u64 - 1)) as u32;
        let rank = ((hash >> INDEX_BITS) | (1 << RANK_BITS)).trailing_zeros() + 1;
        Self(index << 6 | rank)
    }

    fn new(index: usize, rank: u8) -> Self {
        Self(u32::try_from(index).expect("an index has 14 bits") << 6 | u32::from(rank))
    }

    fn index(self) -> usize {
        (self.0 >> 6) as usize
    }

    fn rank(self) -> u8 {
        (self.0 & 63) as u8
    }
}

/// The registers of one group.
#[derive(Debug)]
pub(super) enum Sketch {
    Few {
        len: u8,
        entries: [Entry; FEW],
    },
    /// Open addressing in the order of the registers: an entry's place is its index, scaled to the table.
    Table {
        /// 0 is an empty place.
        slots: Box<[u32]>,
        used: u32,
    },
    Dense(Box<[u8; REGISTERS]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self::Few {
            len: 0,
            entries: [Entry(0); FEW],
        }
    }
}

impl Sketch {
    /// Raises a register to at least this value; returns the heap bytes that were added, less those that were freed.
    pub(super) fn raise(&mut self, entry: Entry) -> isize {
        match self {
            Self::Dense(registers) => {
                let register = &mut registers[entry.index() & (REGISTERS - 1)];
                *register = entry.rank().max(*register);
                0
            }
            Self::Table { slots, used } => {
                if raise_in_table(slots, entry) {
                    *used += 1;
                    if *used as usize * 4 > slots.len() * 3 {
                        return self.grow();
                    }
                }
                0
            }
            Self::Few { len, entries } => {
                let known = &mut entries[..usize::from(*len)];
                if let Some(same) = known.iter_mut().find(|known| known.0 >> 6 == entry.0 >> 6) {
                    *same = entry.max(*same);
                    return 0;
                }
                if usize::from(*len) < FEW {
                    entries[usize::from(*len)] = entry;
                    *len += 1;
                    return 0;
                }
                let mut slots = vec![0; SMALLEST_TABLE].into_boxed_slice();
                for entry in entries.iter().copied().chain([entry]) {
                    raise_in_table(&mut slots, entry);
                }
                *self = Self::Table {
                    slots,
                    used: FEW as u32 + 1,
                };
                self.heap_bytes() as isize
            }
        }
    }

    /// The next larger form; returns the heap bytes that were added.
    #[cold]
    fn grow(&mut self) -> isize {
        let before = self.heap_bytes();
        match self {
            Self::Table { slots, used } if slots.len() < LARGEST_TABLE => {
                let mut larger = vec![0; slots.len() * 2].into_boxed_slice();
                for &slot in slots.iter().filter(|slot| **slot != 0) {
                    raise_in_table(&mut larger, Entry(slot));
                }
                *self = Self::Table {
                    used: *used,
                    slots: larger,
                };
            }
            _ => {
                self.make_dense();
            }
        }
        self.heap_bytes() as isize - before as isize
    }

    fn make_dense(&mut self) -> &mut [u8; REGISTERS] {
        if !matches!(self, Self::Dense(_)) {
            let mut registers: Box<[u8; REGISTERS]> = vec![0; REGISTERS]
                .into_boxed_slice()
                .try_into()
                .expect("it was made with as many registers");
            self.for_each(|entry| registers[entry.index()] = entry.rank());
            *self = Self::Dense(registers);
        }
        match self {
            Self::Dense(registers) => registers,
            _ => unreachable!("it was made dense"),
        }
    }

    /// Every register that was hit, in no particular order.
    fn for_each(&self, mut visit: impl FnMut(Entry)) {
        match self {
            Self::Few { len, entries } => entries[..usize::from(*len)].iter().copied().for_each(visit),
            Self::Table { slots, .. } => slots
                .iter()
                .filter(|slot| **slot != 0)
                .for_each(|slot| visit(Entry(*slot))),
            Self::Dense(registers) => {
                for (index, &rank) in registers.iter().enumerate().filter(|(_, rank)| **rank != 0) {
                    visit(Entry::new(index, rank));
                }
            }
        }
    }

    /// Heap bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Table { slots, .. } => slots.len() * size_of::<u32>(),
            Self::Dense(_) => REGISTERS,
        }
    }

    /// The estimate of how many distinct values there were.
    pub(super) fn count(&self) -> u64 {
        let mut histogram: Histogram = [0; _];
        let mut hit = 0;
        self.for_each(|entry| {
            histogram[usize::from(entry.rank())] += 1;
            hit += 1;
        });
        histogram[0] = REGISTERS as u32 - hit;
        estimate(&histogram)
    }

    /// Appends the encoding, which depends on the registers alone, not on how they came about: nothing for no register; every
    /// register, one byte each, if more than [`SPARSE_REGISTERS`] were hit; else those that were hit, in ascending order,
    /// as described at [`decode`].
    pub(super) fn encode(&self, scratch: &mut Vec<Entry>, bytes: &mut Vec<u8>) {
        scratch.clear();
        match self {
            Self::Few { .. } => {
                self.for_each(|entry| scratch.push(entry));
                scratch.sort_unstable();
            }
            Self::Table { slots, .. } => in_order(slots, scratch),
            Self::Dense(registers) => {
                if registers.iter().filter(|rank| **rank != 0).count() > SPARSE_REGISTERS {
                    bytes.extend_from_slice(registers.as_slice());
                    return;
                }
                self.for_each(|entry| scratch.push(entry));
            }
        }
        let mut next = 0;
        for entry in scratch.iter() {
            let mut number = ((entry.index() - next) << 2) | usize::from((entry.rank() - 1).min(3));
            while number >= 0x80 {
                bytes.push((number & 0x7f) as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
            if entry.rank() > 3 {
                bytes.push(entry.rank());
            }
            next = entry.index() + 1;
        }
    }

    /// Merges an encoded sketch into this one; returns the heap bytes that were added.
    pub(super) fn merge(&mut self, bytes: &[u8]) -> Result<isize> {
        if let Some(other) = dense(bytes)? {
            let before = self.heap_bytes();
            for (mine, other) in self.make_dense().iter_mut().zip(other) {
                *mine = (*mine).max(*other);
            }
            return Ok(self.heap_bytes() as isize - before as isize);
        }
        let mut added = 0;
        decode(bytes, |entry| added += self.raise(entry))?;
        Ok(added)
    }
}

/// The estimate of an encoded sketch, without building it.
pub(super) fn count_encoded(bytes: &[u8]) -> Result<u64> {
    let mut histogram: Histogram = [0; _];
    if let Some(registers) = dense(bytes)? {
        for &rank in registers {
            histogram[usize::from(rank)] += 1;
        }
    } else {
        let mut hit = 0;
        decode(bytes, |entry| {
            histogram[usize::from(entry.rank())] += 1;
            hit += 1;
        })?;
        histogram[0] = REGISTERS as u32 - hit;
    }
    Ok(estimate(&histogram))
}

/// Raises a register in a table that has room; says whether it is new there.
#[inline]
fn raise_in_table(slots: &mut [u32], entry: Entry) -> bool {
    let mask = slots.len() - 1;
    let mut at = home(entry, slots.len());
    loop {
        let slot = &mut slots[at & mask];
        if *slot == 0 {
            *slot = entry.0;
            return true;
        }
        if *slot >> 6 == entry.0 >> 6 {
            *slot = entry.0.max(*slot);
            return false;
        }
        at += 1;
    }
}

/// Where an entry is put if the place is free.
fn home(entry: Entry, places: usize) -> usize {
    entry.index() >> (INDEX_BITS - places.trailing_zeros())
}

/// The entries of a table in ascending order. They nearly stand in it: only neighbours are out of place, and those that came
/// around from the table's end.
fn in_order(slots: &[u32], sorted: &mut Vec<Entry>) {
    let mut around = vec![];
    for (at, &slot) in slots.iter().enumerate().filter(|(_, slot)| **slot != 0) {
        if home(Entry(slot), slots.len()) > at {
            around.push(Entry(slot));
        } else {
            sorted.push(Entry(slot));
        }
    }
    sorted.append(&mut around);
    for at in 1..sorted.len() {
        let entry = sorted[at];
        let mut to = at;
        while to > 0 && sorted[to - 1] > entry {
            sorted[to] = sorted[to - 1];
            to -= 1;
        }
        sorted[to] = entry;
    }
}

/// All registers, if these bytes are all of them: no sparse encoding is as long.
fn dense(bytes: &[u8]) -> Result<Option<&[u8; REGISTERS]>> {
    let Ok(registers) = <&[u8; REGISTERS]>::try_from(bytes) else {
        return Ok(None);
    };
    // Branches would keep this from being done many at a time.
    if registers.iter().fold(0, |largest, rank| largest.max(*rank)) > LARGEST_RANK {
        return exec_err!("state of approx_distinct has a register beyond {LARGEST_RANK}");
    }
    Ok(Some(registers))
}

/// Reads the sparse encoding: for each register that was hit a number, seven bits a byte and the lowest first, of the
/// registers left out before it, shifted by two bits, and in these the register's value less one. If they are both set, the
/// value follows as a byte.
fn decode(bytes: &[u8], mut visit: impl FnMut(Entry)) -> Result<()> {
    let mut next = 0_usize;
    let mut rest = bytes.iter();
    while let Some(&first) = rest.next() {
        let mut number = usize::from(first & 0x7f);
        let mut last = first;
        let mut shift = 7;
        while last >= 0x80 {
            last = match rest.next() {
                Some(&byte) if shift < 21 => byte,
                _ => return malformed(),
            };
            number |= usize::from(last & 0x7f) << shift;
            shift += 7;
        }
        let index = next + (number >> 2);
        let rank = match number & 3 {
            3 => *rest.next().unwrap_or(&0),
            low => low as u8 + 1,
        };
        if index >= REGISTERS || !(1..=LARGEST_RANK).contains(&rank) {
            return malformed();
        }
        visit(Entry::new(index, rank));
        next = index + 1;
    }
    Ok(())
}

#[cold]
fn malformed() -> Result<()> {
    exec_err!("state of approx_distinct is malformed")
}

/// Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (arXiv:1702.01284), in DataFusion's order of
/// operations, so that the last bit is the same.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is rounded, not negative, and far below 2^64"
)]
fn estimate(histogram: &Histogram) -> u64 {
    let registers = REGISTERS as f64;
    let (last, middle) = (
        histogram[usize::from(LARGEST_RANK)],
        &histogram[1..usize::from(LARGEST_RANK)],
    );
    let mut z = registers * tau((registers - f64::from(last)) / registers);
    for &count in middle.iter().rev() {
        z += f64::from(count);
        z *= 0.5;
    }
    z += registers * sigma(f64::from(histogram[0]) / registers);
    (0.5 / 2_f64.ln() * registers * registers / z).round() as u64
}

fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests;
