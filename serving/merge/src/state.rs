use std::sync::{Arc, OnceLock};

use anabranch_view::{KeyFilter, View};
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};

use crate::Error;

/// Rows per chunk of a batch view: what is finalised again when realtime state touches one group of it.
const CHUNK_ROWS: usize = 8192;
/// Up to so many rows of batch state, merging all of them is cheaper than finding out which ones realtime state touches.
const SMALL_ROWS: usize = 1024;

/// One batch view in memory: partial state sorted by key, indexed for look-ups, with finalised rows cached per chunk.
pub struct BatchState {
    chunks: Vec<Chunk>,
    keys: KeyCodec,
    rows: usize,
}

struct Chunk {
    state: RecordBatch,
    keys: Option<Rows>,
    finalised: OnceLock<RecordBatch>,
}

impl BatchState {
    /// Takes the state rows of a batch view, in file order. Rows out of order or split groups are put right here, once, so
    /// that a look-up can rely on order and uniqueness.
    ///
    /// # Errors
    /// When the batches are not of the view's state schema.
    pub fn new(view: &View, batches: Vec<RecordBatch>) -> Result<Self, Error> {
        for batch in &batches {
            check_schema(view, "batch", batch)?;
        }
        let keys = KeyCodec::new(view)?;
        let chunks = cut_chunks(view, &keys, &batches)?;
        if strictly_ascending(&chunks) {
            let rows = chunks.iter().map(|chunk| chunk.state.num_rows()).sum();
            return Ok(Self { chunks, keys, rows });
        }
        let merged = merge_all(view, batches.iter())?;
        let sorted = view.sort_state(&merged).map_err(|source| of_view(view, source))?;
        let chunks = cut_chunks(view, &keys, &[sorted])?;
        let rows = chunks.iter().map(|chunk| chunk.state.num_rows()).sum();
        Ok(Self { chunks, keys, rows })
    }

    /// Groups held.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Heap bytes held, cached rows included.
    pub fn size_bytes(&self) -> usize {
        let chunk_bytes = |chunk: &Chunk| {
            chunk.state.get_array_memory_size()
                + chunk.keys.as_ref().map_or(0, Rows::size)
                + chunk.finalised.get().map_or(0, RecordBatch::get_array_memory_size)
        };
        self.chunks.iter().map(chunk_bytes).sum()
    }

    /// The selected part of each chunk, in key order.
    fn select(&self, view: &View, selection: &Selection) -> Result<Vec<Part<'_>>, Error> {
        let range = self.keys.range(view, &selection.bounds)?;
        let mut parts = Vec::new();
        for chunk in &self.chunks {
            let (start, end) = match (&chunk.keys, &range) {
                (Some(keys), Some(range)) => range.within(keys),
                _ => (0, chunk.state.num_rows()),
            };
            if start >= end {
                continue;
            }
            let whole = end - start == chunk.state.num_rows();
            let state = if whole {
                chunk.state.clone()
            } else {
                chunk.state.slice(start, end - start)
            };
            let kept = match &selection.filter {
                Some(filter) => filter.apply(&state).map_err(|source| of_view(view, source))?,
                None => state.clone(),
            };
            if kept.num_rows() == 0 {
                continue;
            }
            parts.push(if kept.num_rows() == state.num_rows() {
                let keys = chunk.keys.as_ref().map(|keys| PartKeys::Chunk {
                    keys,
                    start,
                    len: end - start,
                });
                Part {
                    state,
                    keys,
                    cache: whole.then_some(&chunk.finalised),
                }
            } else {
                let keys = self.keys.encode(view, &kept)?.map(PartKeys::Own);
                Part {
                    state: kept,
                    keys,
                    cache: None,
                }
            });
        }
        Ok(parts)
    }
}

/// Which groups an answer is about. Without bounds and filter: all.
#[derive(Clone, Default)]
pub struct Selection {
    filter: Option<Arc<KeyFilter>>,
    bounds: Vec<Bound>,
}

/// A comparison that every selected group satisfies: what a binary search can use.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Index of the key column in the state schema.
    pub key: usize,
    pub comparison: Comparison,
    /// One value, not null, of the key column's type.
    pub value: ArrayRef,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Gt,
    GtEq,
    Lt,
    LtEq,
}

impl Selection {
    /// Every group.
    pub fn all() -> Self {
        Self::default()
    }

    /// The groups that pass `filter`. `bounds` must follow from the filter; they only make finding its groups faster.
    pub fn filtered(filter: Arc<KeyFilter>, bounds: Vec<Bound>) -> Self {
        Self {
            filter: Some(filter),
            bounds,
        }
    }
}

/// Merges a batch view with realtime state and finalises the selected groups. Order of rows is not defined.
///
/// # Errors
/// When state is not of the view's schema, or the view cannot finalise it.
pub fn answer(
    view: &View,
    batch: Option<&BatchState>,
    realtime: &[RecordBatch],
    selection: &Selection,
) -> Result<Vec<RecordBatch>, Error> {
    let mut live = Vec::with_capacity(realtime.len());
    for state in realtime {
        check_schema(view, "realtime", state)?;
        // A worker may send more than was asked for; a group whose batch part is left out must not slip in.
        let state = match &selection.filter {
            Some(filter) => filter.apply(state).map_err(|source| of_view(view, source))?,
            None => state.clone(),
        };
        if state.num_rows() > 0 {
            live.push(state);
        }
    }
    let live_rows: usize = live.iter().map(RecordBatch::num_rows).sum();
    let parts = match batch {
        Some(batch) => batch.select(view, selection)?,
        None => Vec::new(),
    };
    let batch_rows: usize = parts.iter().map(|part| part.state.num_rows()).sum();

    if view.key_count() > 0 && live_rows == 0 {
        return parts.iter().map(|part| part.finalise(view)).collect();
    }
    let lookup =
        batch.filter(|batch| batch.keys.equality_is_identity && batch_rows > SMALL_ROWS && live_rows < batch_rows / 2);
    let Some(batch) = lookup else {
        let merged = merge_all(view, parts.iter().map(|part| &part.state).chain(&live))?;
        return Ok(vec![finalise(view, &merged)?]);
    };

    let mut touched: Vec<Option<Vec<bool>>> = vec![None; parts.len()];
    for state in &live {
        let Some(keys) = batch.keys.encode(view, state)? else {
            continue;
        };
        for key in &keys {
            let key = key.data();
            let at = parts.partition_point(|part| part.last_key().is_some_and(|last| last < key));
            if let Some(part) = parts.get(at)
                && let Some(row) = part.find(key)
            {
                touched[at].get_or_insert_with(|| vec![false; part.state.num_rows()])[row] = true;
            }
        }
    }
    let mut answer = Vec::with_capacity(parts.len() + 1);
    let mut meeting = live;
    for (part, touched) in parts.iter().zip(touched) {
        let Some(touched) = touched else {
            answer.push(part.finalise(view)?);
            continue;
        };
        let touched = BooleanBuffer::from(touched);
        let untouched = BooleanArray::new(!&touched, None);
        let touched = BooleanArray::new(touched, None);
        meeting.push(filter_record_batch(&part.state, &touched).map_err(|source| of_arrow(view, source))?);
        let rest = filter_record_batch(&part.state, &untouched).map_err(|source| of_arrow(view, source))?;
        if rest.num_rows() > 0 {
            answer.push(finalise(view, &rest)?);
        }
    }
    answer.push(finalise(view, &merge_all(view, meeting.iter())?)?);
    Ok(answer)
}

/// Merges any state of a view, groups repeated or not, and finalises it: the plain meaning of [`answer`].
///
/// # Errors
/// When state is not of the view's schema, or the view cannot finalise it.
pub fn merge_states(view: &View, batch: &[RecordBatch], realtime: &[RecordBatch]) -> Result<RecordBatch, Error> {
    for (what, states) in [("batch", batch), ("realtime", realtime)] {
        for state in states {
            check_schema(view, what, state)?;
        }
    }
    finalise(view, &merge_all(view, batch.iter().chain(realtime))?)
}

/// Selected rows of one chunk.
struct Part<'a> {
    state: RecordBatch,
    keys: Option<PartKeys<'a>>,
    /// Where the chunk keeps its finalised rows, when all of it is selected.
    cache: Option<&'a OnceLock<RecordBatch>>,
}

enum PartKeys<'a> {
    Chunk { keys: &'a Rows, start: usize, len: usize },
    Own(Rows),
}

impl PartKeys<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Chunk { len, .. } => *len,
            Self::Own(keys) => keys.num_rows(),
        }
    }

    fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::Chunk { keys, start, .. } => keys.row(start + row).data(),
            Self::Own(keys) => keys.row(row).data(),
        }
    }
}

impl Part<'_> {
    fn last_key(&self) -> Option<&[u8]> {
        let keys = self.keys.as_ref()?;
        keys.len().checked_sub(1).map(|last| keys.get(last))
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let keys = self.keys.as_ref()?;
        let at = partition_point(keys.len(), |row| keys.get(row) < key);
        (at < keys.len() && keys.get(at) == key).then_some(at)
    }

    fn finalise(&self, view: &View) -> Result<RecordBatch, Error> {
        let Some(cache) = self.cache else {
            return finalise(view, &self.state);
        };
        if let Some(known) = cache.get() {
            return Ok(known.clone());
        }
        let rows = finalise(view, &self.state)?;
        Ok(cache.get_or_init(|| rows).clone())
    }
}

/// Encodes group keys so that comparing bytes compares keys in the order of batch files.
struct KeyCodec {
    whole: Option<RowConverter>,
    /// One per key column: the encoding of the whole key is the concatenation of these.
    columns: Vec<RowConverter>,
    types: Vec<DataType>,
    /// Whether equal groups have equal bytes. Not so for floats (0.0 and -0.0), so those are never looked up.
    equality_is_identity: bool,
}

impl KeyCodec {
    fn new(view: &View) -> Result<Self, Error> {
        let schema = view.state_schema();
        let types: Vec<DataType> = schema
            .fields()
            .iter()
            .take(view.key_count())
            .map(|field| field.data_type().clone())
            .collect();
        let fields: Vec<SortField> = types.iter().cloned().map(SortField::new).collect();
        if fields.is_empty() || !RowConverter::supports_fields(&fields) {
            return Ok(Self {
                whole: None,
                columns: Vec::new(),
                types,
                equality_is_identity: false,
            });
        }
        let columns = fields
            .iter()
            .map(|field| RowConverter::new(vec![field.clone()]))
            .collect::<Result<_, _>>()
            .map_err(|source| of_arrow(view, source))?;
        let whole = RowConverter::new(fields).map_err(|source| of_arrow(view, source))?;
        let equality_is_identity = types
            .iter()
            .all(|data_type| !data_type.is_nested() && !data_type.is_floating());
        Ok(Self {
            whole: Some(whole),
            columns,
            types,
            equality_is_identity,
        })
    }

    fn encode(&self, view: &View, state: &RecordBatch) -> Result<Option<Rows>, Error> {
        let Some(codec) = &self.whole else { return Ok(None) };
        let keys = codec.convert_columns(&state.columns()[..self.types.len()]);
        keys.map(Some).map_err(|source| of_arrow(view, source))
    }

    /// The byte range that the bounds allow: equalities on leading keys, then at most one range on the next key.
    fn range(&self, view: &View, bounds: &[Bound]) -> Result<Option<KeyRange>, Error> {
        if !self.equality_is_identity {
            return Ok(None);
        }
        let encode = |bound: &Bound| -> Result<Option<Vec<u8>>, Error> {
            if bound.value.len() != 1 || bound.value.is_null(0) || bound.value.data_type() != &self.types[bound.key] {
                return Ok(None);
            }
            let rows = self.columns[bound.key]
                .convert_columns(std::slice::from_ref(&bound.value))
                .map_err(|source| of_arrow(view, source))?;
            Ok(Some(rows.row(0).data().to_vec()))
        };
        let mut prefix = Vec::new();
        let (mut lower, mut upper) = (None, None);
        for key in 0..self.types.len() {
            let of_key = |wanted: &'static [Comparison]| {
                bounds
                    .iter()
                    .filter(move |bound| bound.key == key && wanted.contains(&bound.comparison))
            };
            if let Some(equal) = of_key(&[Comparison::Eq]).next() {
                let Some(bytes) = encode(equal)? else { break };
                prefix.extend(bytes);
                continue;
            }
            for bound in of_key(&[Comparison::Gt, Comparison::GtEq]) {
                if let Some(bytes) = encode(bound)? {
                    let bytes = [prefix.as_slice(), &bytes].concat();
                    lower = lower.max(Some((bytes, bound.comparison == Comparison::Gt)));
                }
            }
            for bound in of_key(&[Comparison::Lt, Comparison::LtEq]) {
                if let Some(bytes) = encode(bound)? {
                    let bytes = [prefix.as_slice(), &bytes].concat();
                    let candidate = (bytes, bound.comparison == Comparison::LtEq);
                    upper = Some(upper.map_or(candidate.clone(), |known: (Vec<u8>, bool)| known.min(candidate)));
                }
            }
            break;
        }
        if prefix.is_empty() && lower.is_none() && upper.is_none() {
            return Ok(None);
        }
        let (lower, lower_excluded) = lower.unwrap_or((prefix.clone(), false));
        let (upper, upper_included) = upper.unwrap_or((prefix, true));
        Ok(Some(KeyRange {
            lower,
            lower_excluded,
            upper,
            upper_included,
        }))
    }
}

/// A range of encoded keys. Bounds are encodings of leading columns; a key equals a bound in those columns exactly when it
/// starts with it, because each column's encoding is self-delimiting.
struct KeyRange {
    lower: Vec<u8>,
    lower_excluded: bool,
    upper: Vec<u8>,
    upper_included: bool,
}

impl KeyRange {
    /// First row inside, and first row after.
    fn within(&self, keys: &Rows) -> (usize, usize) {
        let start = partition_point(keys.num_rows(), |row| {
            let key = keys.row(row).data();
            key < self.lower.as_slice() || (self.lower_excluded && key.starts_with(&self.lower))
        });
        let end = partition_point(keys.num_rows(), |row| {
            let key = keys.row(row).data();
            key < self.upper.as_slice() || (self.upper_included && key.starts_with(&self.upper))
        });
        (start, end)
    }
}

/// Slice's `partition_point` for what has indexes but is no slice.
fn partition_point(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn cut_chunks(view: &View, keys: &KeyCodec, batches: &[RecordBatch]) -> Result<Vec<Chunk>, Error> {
    let mut chunks = Vec::new();
    for batch in batches {
        let mut start = 0;
        while start < batch.num_rows() {
            let rows = CHUNK_ROWS.min(batch.num_rows() - start);
            let state = batch.slice(start, rows);
            let keys = keys.encode(view, &state)?;
            chunks.push(Chunk {
                state,
                keys,
                finalised: OnceLock::new(),
            });
            start += rows;
        }
    }
    Ok(chunks)
}

fn strictly_ascending(chunks: &[Chunk]) -> bool {
    let mut last: Option<&[u8]> = None;
    for key in chunks.iter().filter_map(|chunk| chunk.keys.as_ref()).flatten() {
        let key = key.data();
        if last.is_some_and(|last| last >= key) {
            return false;
        }
        last = Some(key);
    }
    true
}

fn merge_all<'b>(view: &View, states: impl Iterator<Item = &'b RecordBatch>) -> Result<RecordBatch, Error> {
    let mut aggregator = view.aggregator().map_err(|source| of_view(view, source))?;
    for state in states {
        aggregator.merge(state).map_err(|source| of_view(view, source))?;
    }
    aggregator.emit().map_err(|source| of_view(view, source))
}

fn finalise(view: &View, state: &RecordBatch) -> Result<RecordBatch, Error> {
    view.finalise(state).map_err(|source| of_view(view, source))
}

/// State travels through Parquet and Flight, which keep types but not all metadata: types are what counts.
fn check_schema(view: &View, what: &'static str, state: &RecordBatch) -> Result<(), Error> {
    let expected = view.state_schema();
    let found = state.schema();
    let types = |schema: &SchemaRef| -> Vec<DataType> {
        schema.fields().iter().map(|field| field.data_type().clone()).collect()
    };
    let same = expected.fields().len() == found.fields().len()
        && expected
            .fields()
            .iter()
            .zip(found.fields())
            .all(|(mine, theirs)| mine.data_type().equals_datatype(theirs.data_type()));
    if same {
        return Ok(());
    }
    Err(Error::Schema {
        view: view.name().to_owned(),
        what,
        found: format!("{:?}", types(&found)),
        expected: format!("{:?}", types(&expected)),
    })
}

fn of_view(view: &View, source: anabranch_view::Error) -> Error {
    Error::View {
        view: view.name().to_owned(),
        source,
    }
}

fn of_arrow(view: &View, source: ArrowError) -> Error {
    Error::Arrow {
        view: view.name().to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
