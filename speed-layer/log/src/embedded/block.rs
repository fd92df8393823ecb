//! One block: the records of one partition that were written together, laid out so that reading it copies no payload.
//!
//! ```text
//! magic "AB" · version u8 · flags u8 · records u32 · bytes of headers, keys, payloads: 3 × u32      little endian
//! timestamps      i64 × records          milliseconds since the epoch
//! payload ends    u32 × records
//! payload present bitmap, one byte per 8 records      when flag NULL_PAYLOADS
//! key ends        u32 × records                       when flag KEYS
//! key present     bitmap                              when flag KEYS
//! header ends     u32 × records (bytes)               when flag HEADERS
//! headers         (name length u32, name, value length u32, value)*
//! keys
//! payloads
//! ```
//! Offsets are not stored: a block's records have consecutive offsets, and its key in the store ends with the last one.
//! The store keeps checksums of its own.

use arrow::array::{ArrayRef, BinaryArray, Int64Array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use bytes::Bytes;

use anabranch_model::{Offset, OffsetRange, PartitionId, RawBatch, RawBatchBuilder, RawRecord};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 2] = *b"AB";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = 20;

const NULL_PAYLOADS: u8 = 1;
const KEYS: u8 = 2;
const HEADERS: u8 = 4;

/// An encoded block and what the index keeps of it.
#[derive(Clone, Debug)]
pub(crate) struct EncodedBlock {
    pub bytes: Bytes,
    pub records: u32,
    pub max_timestamp_ms: i64,
}

/// Gathers records into a block.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    timestamps: Vec<i64>,
    payload_ends: Vec<u32>,
    payloads: Vec<u8>,
    payload_present: Presence,
    key_ends: Vec<u32>,
    keys: Vec<u8>,
    key_present: Presence,
    header_ends: Vec<u32>,
    headers: Vec<u8>,
}

/// Which records have a value. `some` and `none` save the bitmap when all records agree.
#[derive(Debug, Default)]
struct Presence {
    bits: Vec<bool>,
    some: bool,
    none: bool,
}

impl Presence {
    fn push(&mut self, present: bool) {
        self.bits.push(present);
        self.some |= present;
        self.none |= !present;
    }

    fn append(&mut self, other: Self) {
        self.bits.extend(other.bits);
        self.some |= other.some;
        self.none |= other.none;
    }

    fn encode(&self, into: &mut Vec<u8>) {
        for chunk in self.bits.chunks(8) {
            into.push(
                chunk
                    .iter()
                    .enumerate()
                    .fold(0, |byte, (bit, present)| byte | (u8::from(*present) << bit)),
            );
        }
    }
}

impl BlockBuilder {
    pub(crate) fn records(&self) -> usize {
        self.timestamps.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Bytes of payloads, keys and headers.
    pub(crate) fn content_bytes(&self) -> usize {
        self.payloads.len() + self.keys.len() + self.headers.len()
    }

    /// Adds a record; `now_ms` stamps one that has no timestamp.
    ///
    /// The caller keeps a block's content below 4 GiB; [`crate::MAX_RECORD_BYTES`] and the block target see to that.
    pub(crate) fn push(&mut self, record: &RawRecord, now_ms: i64) {
        self.timestamps.push(record.timestamp_ms.unwrap_or(now_ms));
        self.payloads
            .extend_from_slice(record.payload.as_deref().unwrap_or_default());
        self.payload_ends.push(self.payloads.len() as u32);
        self.payload_present.push(record.payload.is_some());
        self.keys.extend_from_slice(record.key.as_deref().unwrap_or_default());
        self.key_ends.push(self.keys.len() as u32);
        self.key_present.push(record.key.is_some());
        for (name, value) in &record.headers {
            for part in [name.as_bytes(), value] {
                self.headers.extend_from_slice(&(part.len() as u32).to_le_bytes());
                self.headers.extend_from_slice(part);
            }
        }
        self.header_ends.push(self.headers.len() as u32);
    }

    /// Adds the records of `other` after those of `self`.
    pub(crate) fn append(&mut self, other: Self) {
        fn append_ends(ends: &mut Vec<u32>, base: usize, other: &[u32]) {
            ends.extend(other.iter().map(|end| base as u32 + end));
        }
        append_ends(&mut self.payload_ends, self.payloads.len(), &other.payload_ends);
        append_ends(&mut self.key_ends, self.keys.len(), &other.key_ends);
        append_ends(&mut self.header_ends, self.headers.len(), &other.header_ends);
        self.timestamps.extend_from_slice(&other.timestamps);
        self.payloads.extend_from_slice(&other.payloads);
        self.keys.extend_from_slice(&other.keys);
        self.headers.extend_from_slice(&other.headers);
        self.payload_present.append(other.payload_present);
        self.key_present.append(other.key_present);
    }

    pub(crate) fn encode(&self) -> EncodedBlock {
        let records = self.records();
        let mut flags = 0;
        if self.payload_present.none {
            flags |= NULL_PAYLOADS;
        }
        if self.key_present.some {
            flags |= KEYS;
        }
        if !self.headers.is_empty() {
            flags |= HEADERS;
        }
        let mut bytes = Vec::with_capacity(HEAD_BYTES + records * 21 + self.content_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.push(flags);
        for number in [records, self.headers.len(), self.keys.len(), self.payloads.len()] {
            bytes.extend_from_slice(&(number as u32).to_le_bytes());
        }
        for timestamp in &self.timestamps {
            bytes.extend_from_slice(&timestamp.to_le_bytes());
        }
        extend_u32(&mut bytes, &self.payload_ends);
        if flags & NULL_PAYLOADS != 0 {
            self.payload_present.encode(&mut bytes);
        }
        if flags & KEYS != 0 {
            extend_u32(&mut bytes, &self.key_ends);
            self.key_present.encode(&mut bytes);
        }
        if flags & HEADERS != 0 {
            extend_u32(&mut bytes, &self.header_ends);
        }
        bytes.extend_from_slice(&self.headers);
        bytes.extend_from_slice(&self.keys);
        bytes.extend_from_slice(&self.payloads);
        EncodedBlock {
            bytes: Bytes::from(bytes),
            records: records as u32,
            max_timestamp_ms: self.timestamps.iter().copied().max().unwrap_or(i64::MIN),
        }
    }
}

fn extend_u32(bytes: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

/// A block as read: the small columns are decoded, keys and payloads share the block's bytes.
#[derive(Debug)]
pub(crate) struct Block {
    base: i64,
    timestamps_ms: Vec<i64>,
    payloads: BinaryArray,
    keys: BinaryArray,
    header_ends: Option<Vec<u32>>,
    headers: Bytes,
}

impl Block {
    /// Reads the number of records of an encoded block from its head alone.
    pub(crate) fn records_of(bytes: &[u8]) -> Result<u32, String> {
        let head: &[u8; HEAD_BYTES] = bytes
            .first_chunk()
            .ok_or_else(|| format!("{} bytes are no block head", bytes.len()))?;
        if head[..2] != MAGIC {
            return Err("it does not begin with a block's magic bytes".into());
        }
        if head[2] != VERSION {
            return Err(format!("its version {} is not known to this release", head[2]));
        }
        Ok(u32::from_le_bytes([head[4], head[5], head[6], head[7]]))
    }

    /// Decodes a block whose last record has offset `last`.
    pub(crate) fn decode(bytes: Bytes, last: i64) -> Result<Self, String> {
        let records = Self::records_of(&bytes)? as usize;
        let mut rest = bytes.slice(4..);
        let flags = bytes[3];
        let [_, headers_len, keys_len, payloads_len] = take_u32(&mut rest, 4)?[..] else {
            return Err("its head is cut off".into());
        };
        let timestamps_ms = take(&mut rest, records * 8)?
            .chunks_exact(8)
            .map(|chunk| i64::from_le_bytes(chunk.try_into().expect("chunks of eight bytes")))
            .collect();
        let payload_ends = take_u32(&mut rest, records)?;
        let payload_nulls = if flags & NULL_PAYLOADS != 0 {
            Some(take_nulls(&mut rest, records)?)
        } else {
            None
        };
        let key_columns = if flags & KEYS != 0 {
            Some((take_u32(&mut rest, records)?, take_nulls(&mut rest, records)?))
        } else {
            None
        };
        let header_ends = if flags & HEADERS != 0 {
            Some(take_u32(&mut rest, records)?)
        } else {
            None
        };
        let headers = take(&mut rest, headers_len as usize)?;
        let keys = take(&mut rest, keys_len as usize)?;
        let payloads = take(&mut rest, payloads_len as usize)?;
        Ok(Self {
            base: last + 1 - records as i64,
            timestamps_ms,
            payloads: binary(&payload_ends, payloads, payload_nulls)?,
            keys: match key_columns {
                Some((ends, nulls)) => binary(&ends, keys, Some(nulls))?,
                None => BinaryArray::new_null(records),
            },
            header_ends,
            headers,
        })
    }

    pub(crate) fn base(&self) -> i64 {
        self.base
    }

    pub(crate) fn end(&self) -> i64 {
        self.base + self.timestamps_ms.len() as i64
    }

    /// Records from offset `from` on that fit the limits, at least one: their end and their payload bytes.
    pub(crate) fn fit(&self, from: i64, max_records: usize, max_bytes: usize) -> (i64, usize) {
        let first = (from - self.base) as usize;
        let ends = self.payloads.value_offsets();
        let begin = ends[first] as usize;
        let most = max_records.clamp(1, self.timestamps_ms.len() - first);
        // The ends ascend, so the records that fit are found by bisection.
        let fitting = ends[first + 1..first + 1 + most]
            .partition_point(|end| *end as usize - begin <= max_bytes)
            .max(1);
        (from + fitting as i64, ends[first + fitting] as usize - begin)
    }

    /// The first offset at or after `from` whose record is at or after the time.
    pub(crate) fn first_at(&self, from: i64, timestamp_ms: i64) -> Option<i64> {
        let first = (from - self.base).max(0) as usize;
        let place = self
            .timestamps_ms
            .get(first..)?
            .iter()
            .position(|stamp| *stamp >= timestamp_ms)?;
        Some(self.base + (first + place) as i64)
    }

    /// Records `[from, to)` of the block. Payloads and keys share the block's memory.
    pub(crate) fn slice(&self, partition: PartitionId, from: i64, to: i64) -> Result<RawBatch, String> {
        let first = (from - self.base) as usize;
        let len = (to - from) as usize;
        Ok(RawBatch {
            partition,
            range: OffsetRange::new(Offset(from), Offset(to)),
            offsets: Int64Array::from_iter_values(from..to),
            timestamps: Int64Array::from_iter_values(
                self.timestamps_ms[first..first + len]
                    .iter()
                    .map(|ms| ms.saturating_mul(1_000)),
            ),
            keys: self.keys.slice(first, len),
            headers: self.header_column(first, len)?,
            payloads: self.payloads.slice(first, len),
        })
    }

    /// Headers are rare, and go through the builder that every log uses.
    fn header_column(&self, first: usize, len: usize) -> Result<Option<ArrayRef>, String> {
        let Some(ends) = &self.header_ends else { return Ok(None) };
        let mut begin = if first == 0 { 0 } else { ends[first - 1] as usize };
        let mut builder = RawBatchBuilder::new();
        for end in &ends[first..first + len] {
            let end = *end as usize;
            let mut bytes = self.headers.get(begin..end).ok_or("its headers are cut off")?;
            let mut pairs = Vec::new();
            while !bytes.is_empty() {
                let name = take_part(&mut bytes)?;
                let name = std::str::from_utf8(name).map_err(|_| "a header's name is not UTF-8")?;
                pairs.push((name, Some(take_part(&mut bytes)?)));
            }
            builder.push(0, None, None, None, pairs);
            begin = end;
        }
        Ok(builder
            .finish(PartitionId(0), OffsetRange::new(Offset(0), Offset(0)))
            .headers)
    }
}

/// Joins slices of one partition, whose ranges meet, into one batch.
pub(crate) fn join(mut slices: Vec<RawBatch>) -> Option<RawBatch> {
    use arrow::array::{Array, AsArray};
    use arrow::compute::concat;
    use arrow::datatypes::Int64Type;

    if slices.len() <= 1 {
        return slices.pop();
    }
    let range = OffsetRange::new(slices[0].range.start, slices[slices.len() - 1].range.end);
    let column = |of: fn(&RawBatch) -> &dyn Array| -> ArrayRef {
        let arrays: Vec<&dyn Array> = slices.iter().map(of).collect();
        concat(&arrays).expect("arrays of one type, bounded by the read limits, always concatenate")
    };
    let headers = slices.iter().any(|slice| slice.headers.is_some()).then(|| {
        let arrays: Vec<ArrayRef> = slices
            .iter()
            .map(|slice| slice.headers.clone().unwrap_or_else(|| empty_headers(slice.len())))
            .collect();
        let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        concat(&arrays).expect("header columns are all of one type")
    });
    Some(RawBatch {
        partition: slices[0].partition,
        range,
        offsets: column(|slice| &slice.offsets).as_primitive::<Int64Type>().clone(),
        timestamps: column(|slice| &slice.timestamps).as_primitive::<Int64Type>().clone(),
        keys: column(|slice| &slice.keys).as_binary::<i32>().clone(),
        headers,
        payloads: column(|slice| &slice.payloads).as_binary::<i32>().clone(),
    })
}

/// A header column whose records have none.
fn empty_headers(records: usize) -> ArrayRef {
    let mut builder = RawBatchBuilder::new();
    // The builder makes the column with the first header it meets, so meet one and cut it off.
    for _ in 0..records {
        builder.push(0, None, None, None, []);
    }
    builder.push(0, None, None, None, [("", None)]);
    let whole = builder.finish(PartitionId(0), OffsetRange::new(Offset(0), Offset(0)));
    whole.headers.expect("the last record has a header").slice(0, records)
}

fn take(rest: &mut Bytes, len: usize) -> Result<Bytes, String> {
    if rest.len() < len {
        return Err(format!("{len} bytes are expected where {} are left", rest.len()));
    }
    Ok(rest.split_to(len))
}

fn take_u32(rest: &mut Bytes, count: usize) -> Result<Vec<u32>, String> {
    Ok(take(rest, count * 4)?
        .chunks_exact(4)
        .map(|chunk| u32::from_le_bytes(chunk.try_into().expect("chunks of four bytes")))
        .collect())
}

fn take_nulls(rest: &mut Bytes, records: usize) -> Result<NullBuffer, String> {
    let bits = take(rest, records.div_ceil(8))?;
    Ok(NullBuffer::new(BooleanBuffer::new(Buffer::from(bits), 0, records)))
}

fn take_part<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], String> {
    let cut_off = || "its headers are cut off".to_string();
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut_off)?;
    let (part, rest) = rest
        .split_at_checked(u32::from_le_bytes(*len) as usize)
        .ok_or_else(cut_off)?;
    *bytes = rest;
    Ok(part)
}

fn binary(ends: &[u32], values: Bytes, nulls: Option<NullBuffer>) -> Result<BinaryArray, String> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0_i32);
    let mut before = 0;
    for end in ends {
        if *end < before || *end as usize > values.len() {
            return Err("its value ends do not ascend".into());
        }
        before = *end;
        offsets.push(i32::try_from(*end).map_err(|_| "its values exceed 2 GiB")?);
    }
    BinaryArray::try_new(
        OffsetBuffer::new(ScalarBuffer::from(offsets)),
        Buffer::from(values),
        nulls,
    )
    .map_err(|error| error.to_string())
}
