//! Turns raw records into event batches, and prepares them for each view.

use std::sync::Arc;

use anabranch_catalog::Source;
use anabranch_dataset::RowFilter;
use anabranch_decode::Decoder;
use anabranch_model::columns;
use anabranch_topology::{Bolt, BoxError, Output, Tuple};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};

use crate::message::{DecodedRange, LAND_STREAM, Message, PreparedRange, Raw};
use crate::source::{DeadSample, SourceLayer};

/// Bytes of a dead letter that the status shows.
const SAMPLE_BYTES: usize = 200;

pub(crate) struct DecodeBolt {
    layer: Arc<SourceLayer>,
    /// What is decoded now; partitions may be told of a new program one after the other, so both are kept for a while.
    source: Arc<Source>,
    decoder: Decoder,
    former: Option<(Arc<Source>, Decoder)>,
    decoded: metrics::Counter,
    dead: metrics::Counter,
    excluded: metrics::Counter,
    bytes: metrics::Counter,
    /// Declared columns this decoder has met so far.
    seen: usize,
}

impl DecodeBolt {
    pub(crate) fn new(layer: Arc<SourceLayer>) -> Self {
        let table = layer.source.name.clone();
        let source = Arc::clone(&layer.program().source);
        Self {
            decoder: Decoder::new(&source),
            source,
            former: None,
            decoded: metrics::counter!("anabranch_events_decoded_total", "table" => table.clone()),
            dead: metrics::counter!("anabranch_dead_letters_total", "table" => table.clone()),
            excluded: metrics::counter!("anabranch_events_excluded_total", "table" => table.clone()),
            bytes: metrics::counter!("anabranch_consumed_bytes_total", "table" => table),
            layer,
            seen: 0,
        }
    }

    /// Makes `self.decoder` the one for `source`.
    fn turn_to(&mut self, source: &Arc<Source>) {
        if Arc::ptr_eq(&self.source, source) {
            return;
        }
        let (known, decoder) = match self.former.take() {
            Some(former) if Arc::ptr_eq(&former.0, source) => former,
            _ => (Arc::clone(source), Decoder::new(source)),
        };
        let former_source = std::mem::replace(&mut self.source, known);
        let former_decoder = std::mem::replace(&mut self.decoder, decoder);
        self.former = Some((former_source, former_decoder));
        self.seen = 0;
    }

    /// The events that views count. All of them are landed.
    fn counted(&self, raw: &Raw, events: &RecordBatch) -> Result<RecordBatch, BoxError> {
        let excluded = raw.state.excluded_within(raw.batch.range);
        if excluded.is_empty() {
            return Ok(events.clone());
        }
        let filter = RowFilter::dropping([(raw.state.partition, excluded)]);
        let counted = filter.apply(events)?;
        self.excluded.increment((events.num_rows() - counted.num_rows()) as u64);
        Ok(counted)
    }

    fn note_seen_columns(&mut self) {
        let seen = self.decoder.seen_columns();
        let count = seen.iter().filter(|seen| **seen).count();
        if count > self.seen {
            self.seen = count;
            let columns = self.source.columns.iter().zip(seen);
            let seen: Vec<_> = columns
                .filter(|(_, seen)| **seen)
                .map(|(column, _)| &column.name)
                .collect();
            self.layer
                .facts
                .unseen_columns
                .lock()
                .retain(|column| !seen.contains(&column));
        }
    }
}

impl Bolt<Message> for DecodeBolt {
    fn execute(&mut self, tuple: Tuple<Message>, out: &mut Output<Message>) -> Result<(), BoxError> {
        let (message, anchor) = tuple.into_parts();
        let raw = match message {
            Message::Raw(raw) => raw,
            Message::Flush(partition) => {
                out.emit_to(LAND_STREAM, &anchor, Message::Flush(partition))?;
                anchor.ack();
                return Ok(());
            }
            Message::Adopt(adopt) => {
                let partition = adopt.state.partition;
                out.emit(&anchor, Message::Adopt(adopt))?;
                // New views wait for the rows before this place to be landed.
                out.emit_to(LAND_STREAM, &anchor, Message::Flush(partition))?;
                anchor.ack();
                return Ok(());
            }
            other => return Err(format!("a {} tuple cannot be decoded", other.kind()).into()),
        };
        if !raw.state.is_live() {
            anchor.fail();
            return Ok(());
        }
        let range = raw.batch.range;
        self.bytes.increment(raw.batch.payload_bytes() as u64);
        self.turn_to(&raw.program.source);
        let decoded = self.decoder.decode(&raw.batch);
        self.decoded.increment(decoded.events.num_rows() as u64);
        if decoded.dead.num_rows() > 0 {
            self.dead.increment(decoded.dead.num_rows() as u64);
            self.layer
                .note_dead(samples(&decoded.dead), decoded.dead.num_rows() as u64);
        }
        self.note_seen_columns();
        if !raw.program.views.is_empty() {
            let events = self.counted(&raw, &decoded.events)?;
            let views = raw
                .program
                .views
                .iter()
                .map(|live| live.view.prepare(&events).map(Arc::new));
            let views = views.collect::<Result<Vec<_>, _>>()?;
            let state = Arc::clone(&raw.state);
            let prepared = PreparedRange {
                state,
                range,
                program: Arc::clone(&raw.program),
                views,
                consumed_at: raw.consumed_at,
            };
            out.emit(&anchor, Message::Prepared(prepared))?;
        }
        let bytes = decoded.events.get_array_memory_size() + decoded.dead.get_array_memory_size();
        let (events, dead) = (decoded.events, decoded.dead);
        out.emit_to(
            LAND_STREAM,
            &anchor,
            Message::Decoded(DecodedRange {
                state: raw.state,
                range,
                events,
                dead,
                bytes,
            }),
        )?;
        anchor.ack();
        Ok(())
    }
}

/// The newest dead letters of a batch, newest first.
fn samples(dead: &RecordBatch) -> impl Iterator<Item = DeadSample> + '_ {
    let column = |name| dead.column_by_name(name);
    let partition = column(columns::PARTITION).and_then(|a| a.as_primitive_opt::<Int32Type>());
    let offset = column(columns::OFFSET).and_then(|a| a.as_primitive_opt::<Int64Type>());
    let reason = column(columns::REASON).and_then(|a| a.as_string_opt::<i32>());
    let raw = column(columns::RAW).and_then(|a| a.as_binary_opt::<i32>());
    (0..dead.num_rows()).rev().map(move |row| DeadSample {
        partition: partition.map_or(-1, |a| a.value(row)),
        offset: offset.map_or(-1, |a| a.value(row)),
        reason: reason.map_or_else(String::new, |a| a.value(row).to_owned()),
        raw: raw.filter(|a| a.is_valid(row)).map_or_else(String::new, |a| {
            let bytes = a.value(row);
            String::from_utf8_lossy(&bytes[..bytes.len().min(SAMPLE_BYTES)]).into_owned()
        }),
    })
}
