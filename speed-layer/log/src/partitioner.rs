//! Which partition a record goes to: the same one that Kafka's own producers choose.

use std::sync::atomic::{AtomicU32, Ordering};

use anabranch_model::PartitionId;

#[cfg(test)]
mod tests;

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Kafka's arrays are shorter than 2^31 bytes, and so are our records.
    let mut h = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * place);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of a key: `toPositive(murmur2(key)) % partitions`.
///
/// # Panics
/// When `partitions` is zero.
pub fn partition_of_key(key: &[u8], partitions: u32) -> PartitionId {
    // Below 2^31 after the mask, hence a valid i32.
    PartitionId(((murmur2(key) & 0x7fff_ffff) % partitions) as i32)
}

/// Gives records without a key to the partitions in turn, one batch after the other.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin(AtomicU32);

impl RoundRobin {
    pub(crate) fn next(&self, partitions: u32) -> PartitionId {
        PartitionId((self.0.fetch_add(1, Ordering::Relaxed) % partitions) as i32)
    }
}
