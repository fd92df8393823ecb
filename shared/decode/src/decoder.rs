//! From a micro-batch of payloads to a batch of events and a batch of dead letters.

use std::fmt::Write;
use std::sync::Arc;

use anabranch_catalog::Source;
use anabranch_model::{OffsetRange, PartitionId, RawBatch, columns};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int32Array, RecordBatch, StringArray, StringBuilder, new_null_array,
};
use arrow::compute::filter;
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};

use crate::column::ColumnReader;
use crate::fault::{Fault, Reason};
use crate::input::Input;
use crate::object::Object;

/// Word loads at the end of a record may look this far into the next one.
const LOOK_AHEAD_BYTES: usize = 32;

/// Decodes the records of one source, one JSON object per payload.
///
/// Undeclared fields are ignored, but must be JSON; an absent field is null; of a key that comes twice the last value counts,
/// though each must fit its column. Holds what it learned about the order of keys, and buffers; use one per thread.
#[derive(Debug)]
pub struct Decoder {
    schema: SchemaRef,
    row: Row,
    keep_raw: bool,
}

/// A decoded micro-batch: every record of the [`RawBatch`] is in one of the two batches, in order.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub partition: PartitionId,
    /// What the micro-batch covers, as in the [`RawBatch`].
    pub range: OffsetRange,
    /// Events, of [`Source::event_schema`]; `_reason` is null.
    pub events: RecordBatch,
    /// Dead letters, of the same schema: declared columns null, `_raw` the original bytes (null for a tombstone), `_reason`
    /// why. May have no rows.
    pub dead: RecordBatch,
}

impl Decoder {
    /// A decoder for the declared columns of `source`.
    pub fn new(source: &Source) -> Self {
        let columns = source.columns.iter().map(|column| {
            (
                column.json_key.clone(),
                ColumnReader::new(&column.data_type, column.timestamp_format),
            )
        });
        Self {
            schema: source.event_schema(),
            row: Row {
                object: Object::new(columns),
                not_null: source.columns.iter().map(|column| column.not_null).collect(),
                rows: 0,
                seen: vec![false; source.columns.len()],
                all_seen: false,
            },
            keep_raw: source.keep_raw,
        }
    }

    /// Schema of both batches of a [`Decoded`]: the source's [`event_schema`](Source::event_schema).
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// For each declared column, in order, whether any decoded event had its key (with a value or null).
    pub fn seen_columns(&self) -> &[bool] {
        &self.row.seen
    }

    /// Decodes a micro-batch. Cannot fail: what does not decode becomes a dead letter.
    pub fn decode(&mut self, batch: &RawBatch) -> Decoded {
        let payloads = &batch.payloads;
        let ends = payloads.value_offsets();
        let at = |row: usize| usize::try_from(ends[row]).expect("offsets of an array are not negative");
        let bytes = &payloads.value_data()[..at(batch.len())];
        // One pass over the whole buffer is far cheaper than one per record; only if it fails, each record is asked.
        let all_utf8 = simdutf8::basic::from_utf8(&bytes[at(0)..]).is_ok();

        self.row.object.reserve(batch.len(), batch.payload_bytes());
        let mut dead: Vec<(usize, Fault)> = Vec::new();
        for row in 0..batch.len() {
            let decoded = if payloads.is_null(row) {
                Err(Reason::other("null payload (a tombstone)"))
            } else {
                self.row.read_within(bytes, at(row), at(row + 1), all_utf8)
            };
            if let Err(fault) = decoded {
                dead.push((row, fault));
            }
        }
        let (events, dead) = self.assemble(batch, &dead);
        Decoded {
            partition: batch.partition,
            range: batch.range,
            events,
            dead,
        }
    }

    /// Whether `line` would decode, for ingest.
    ///
    /// # Errors
    /// Why it would become a dead letter.
    pub fn check(&mut self, line: &[u8]) -> Result<(), String> {
        let seen = self.row.all_seen;
        self.row.all_seen = true;
        let checked = self.row.read_exact(line).map_err(|fault| fault.to_string());
        self.row.all_seen = seen;
        self.row.clear();
        checked
    }

    fn assemble(&mut self, batch: &RawBatch, dead: &[(usize, Fault)]) -> (RecordBatch, RecordBatch) {
        let declared = self.row.finish();
        if dead.is_empty() {
            let raw = if self.keep_raw {
                Some(batch.payloads.clone())
            } else {
                None
            };
            let events = self.batch(declared, &Meta::of(batch), raw, None);
            return (events, RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let mut keep = vec![true; batch.len()];
        let mut reasons = StringBuilder::with_capacity(dead.len(), dead.len() * 64);
        for (row, fault) in dead {
            keep[*row] = false;
            write!(reasons, "{fault}").expect("writing to memory does not fail");
            reasons.append_value("");
        }
        let keep = BooleanArray::from(keep);
        let drop = arrow::compute::not(&keep).expect("negating booleans does not fail");
        let raw = self.keep_raw.then(|| filtered(&batch.payloads, &keep));
        let events = self.batch(declared, &Meta::of(batch).filtered(&keep), raw, None);

        let fields = self.schema.fields().iter().take(self.row.not_null.len());
        let nulls = fields
            .map(|field| new_null_array(field.data_type(), dead.len()))
            .collect();
        let raw = filtered(&batch.payloads, &drop);
        let dead = self.batch(
            nulls,
            &Meta::of(batch).filtered(&drop),
            Some(raw),
            Some(reasons.finish()),
        );
        (events, dead)
    }

    fn batch(
        &self,
        mut columns: Vec<ArrayRef>,
        meta: &Meta,
        raw: Option<BinaryArray>,
        reason: Option<StringArray>,
    ) -> RecordBatch {
        let rows = meta.offsets.len();
        columns.extend([
            Arc::new(Int32Array::from(vec![meta.partition; rows])) as ArrayRef,
            Arc::clone(&meta.offsets),
            Arc::clone(&meta.timestamps),
            Arc::clone(&meta.keys),
            Arc::clone(&meta.headers),
            Arc::new(raw.unwrap_or_else(|| BinaryArray::new_null(rows))),
            Arc::new(reason.unwrap_or_else(|| StringArray::new_null(rows))),
        ]);
        RecordBatch::try_new(Arc::clone(&self.schema), columns).expect("columns are built by the schema")
    }
}

/// The declared columns under construction, and what was learned on the way.
#[derive(Debug)]
pub(crate) struct Row {
    object: Object,
    not_null: Vec<bool>,
    /// Rows that are complete.
    rows: usize,
    seen: Vec<bool>,
    all_seen: bool,
}

impl Row {
    /// Of columns none of which must have a value.
    pub(crate) fn lenient(columns: impl IntoIterator<Item = (String, ColumnReader)>) -> Self {
        let object = Object::new(columns);
        Self {
            not_null: vec![false; object.columns().len()],
            object,
            rows: 0,
            seen: Vec::new(),
            all_seen: true,
        }
    }

    /// Makes room for `rows` more rows out of `bytes` bytes of JSON.
    pub(crate) fn reserve(&mut self, rows: usize, bytes: usize) {
        self.object.reserve(rows, bytes);
    }

    /// Reads the record at `start..end` of `bytes`, as a row of nulls when it does not fit; says whether it did.
    pub(crate) fn read_or_null(&mut self, bytes: &[u8], start: usize, end: usize, utf8: bool) -> bool {
        let fits = self.read_within(bytes, start, end, utf8).is_ok();
        if !fits {
            self.push_nulls();
        }
        fits
    }

    pub(crate) fn push_nulls(&mut self) {
        self.object.columns_mut().iter_mut().for_each(ColumnReader::push_null);
        self.rows += 1;
    }

    /// Reads the record at `start..end` of `bytes`. After a fault, the row is taken back.
    #[inline(always)]
    fn read_within(&mut self, bytes: &[u8], start: usize, end: usize, utf8: bool) -> Result<(), Fault> {
        if utf8 && start < end {
            // The reader may look and even run beyond the record, but it is then not at the end where it should be: no
            // position needs to be compared on the way. A bound on how far it can run keeps hostile batches linear.
            let window = &bytes[..bytes.len().min(end + LOOK_AHEAD_BYTES)];
            if self.read(&mut Input::new(window, start), end).is_ok() {
                return Ok(());
            }
            self.object.truncate(self.rows);
        }
        self.read_exact(&bytes[start..end])
    }

    /// Reads a record that is all of `record`; this is the one whose faults are reported.
    #[cold]
    #[inline(never)]
    fn read_exact(&mut self, record: &[u8]) -> Result<(), Fault> {
        if record.is_empty() {
            return Err(Reason::other("empty payload"));
        }
        if let Err(error) = simdutf8::compat::from_utf8(record) {
            return Err(Reason::other(format!("invalid UTF-8 at byte {}", error.valid_up_to())));
        }
        let result = self.read(&mut Input::new(record, 0), record.len());
        if result.is_err() {
            self.object.truncate(self.rows);
        }
        result
    }

    #[inline(always)]
    fn read(&mut self, input: &mut Input<'_>, end: usize) -> Result<(), Fault> {
        input.skip_space();
        if input.peek() != b'{' {
            return Err(not_an_object(input));
        }
        let present = self.object.read(input, self.rows)?;
        if input.at < end {
            input.skip_space();
        }
        if input.at != end {
            return Err(input.malformed("expected nothing after the object"));
        }
        self.complete(present)
    }

    /// Makes null what is absent, and checks NOT NULL.
    #[inline(always)]
    fn complete(&mut self, present: usize) -> Result<(), Fault> {
        let row = self.rows;
        let all_present = present == self.not_null.len();
        if !all_present {
            for (index, column) in self.object.columns().iter().enumerate() {
                if column.len() == row && self.not_null[index] {
                    return Err(self.object.missing(index, "it is missing"));
                }
            }
        }
        for (index, column) in self.object.columns().iter().enumerate() {
            if self.not_null[index] && column.is_null(row) {
                return Err(self.object.missing(index, "it is null"));
            }
        }
        if !self.all_seen {
            self.see(row);
        }
        if !all_present {
            for column in self.object.columns_mut() {
                if column.len() == row {
                    column.push_null();
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    #[inline(never)]
    fn see(&mut self, row: usize) {
        for (seen, column) in self.seen.iter_mut().zip(self.object.columns()) {
            *seen |= column.len() > row;
        }
        self.all_seen = self.seen.iter().all(|seen| *seen);
    }

    pub(crate) fn finish(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        self.object.finish()
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.object.truncate(0);
    }
}

#[cold]
fn not_an_object(input: &mut Input<'_>) -> Fault {
    match input.peek() {
        0 if input.rest().is_empty() => Reason::other("empty payload"),
        _ => input.wrong_type("a JSON object"),
    }
}

/// The columns that come with a record rather than out of it.
struct Meta {
    partition: i32,
    offsets: ArrayRef,
    timestamps: ArrayRef,
    keys: ArrayRef,
    headers: ArrayRef,
}

impl Meta {
    fn of(batch: &RawBatch) -> Self {
        let timestamps = batch.timestamps.reinterpret_cast::<TimestampMicrosecondType>();
        Self {
            partition: batch.partition.0,
            offsets: Arc::new(batch.offsets.clone()),
            timestamps: Arc::new(timestamps.with_data_type(columns::timestamp_type())),
            keys: Arc::new(batch.keys.clone()),
            headers: match &batch.headers {
                Some(headers) => Arc::clone(headers),
                None => new_null_array(&columns::headers_type(), batch.len()),
            },
        }
    }

    fn filtered(&self, keep: &BooleanArray) -> Self {
        let apply = |array: &ArrayRef| filter(array, keep).expect("the mask is as long as the batch");
        Self {
            partition: self.partition,
            offsets: apply(&self.offsets),
            timestamps: apply(&self.timestamps),
            keys: apply(&self.keys),
            headers: apply(&self.headers),
        }
    }
}

fn filtered(payloads: &BinaryArray, keep: &BooleanArray) -> BinaryArray {
    debug_assert_eq!(payloads.data_type(), &DataType::Binary);
    let kept = filter(payloads, keep).expect("the mask is as long as the batch");
    kept.as_any()
        .downcast_ref::<BinaryArray>()
        .expect("filtering keeps the type")
        .clone()
}
