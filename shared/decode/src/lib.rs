//! JSON records to Arrow, record by record: the DecodeBolt's kernel, and the check that ingest makes.
//!
//! Owns what a payload means for a declared schema, and for columns that are declared after it was landed
//! ([`LandedReader`]). Refuses to own where payloads come from and where rows go. No I/O, no async, no threads: one
//! [`Decoder`] per thread, used again for every micro-batch.
//!
//! ```text
//! RawBatch.payloads ──► Input (SWAR scan over the payload buffer itself)
//!                          │ Object: predicted key ─► slot ─► column
//!                          ▼
//!                       ColumnReader × n (Vec builders) ──► events: RecordBatch
//!                          └─ fault: row rolled back ─────► dead: RecordBatch (`_raw`, `_reason`)
//! ```
//!
//! Invariants:
//! * Every record of a [`RawBatch`](anabranch_model::RawBatch) is in exactly one of `events` and `dead`. A bad record is data,
//!   not an error: decoding cannot fail, and one bad record never changes another's row.
//! * Nothing is allocated per event; buffers are sized by the batch. Memory that is learned from data (keys of
//!   undeclared fields) is bounded.
//! * A record is accepted only if all of it is valid JSON in valid UTF-8, undeclared fields included.
//!
//! How it is fast, in safe Rust: keys are guessed from the order of the previous record, so that finding a column is two
//! masked word compares; strings are searched and copied eight bytes at a time; digits are read eight at a time; dates are
//! remembered; UTF-8 is validated once per batch; the end of a record is checked once, after it, because a record that ends
//! early can only run into text that makes it fail. Whatever fails is read again slowly, to say exactly why.

mod builder;
mod column;
mod decoder;
mod fault;
mod input;
mod landed;
mod nested;
mod number;
mod object;
mod text;
mod time;

pub use decoder::{Decoded, Decoder};
pub use landed::{LandedReader, Misfit};

#[cfg(test)]
mod tests;
