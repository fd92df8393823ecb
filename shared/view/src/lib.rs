//! The view algebra: `prepare → group → partial state → finalise`, compiled once and used by all three layers.

use std::sync::Arc;

use anabranch_catalog::{Diagnostic, ViewDefinition};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;

/// One compiled view. Cheap to clone, immutable, shared by threads.
#[derive(Clone)]
pub struct View {
    _inner: Arc<()>,
}

/// Identifies plan, state schema and aggregate versions; equal hashes mean mergeable state. Lower-case hex.
pub type ViewHash = String;

/// Rows of one event batch after WHERE and window expansion: group keys, aggregate arguments, filters and ordering columns.
pub struct Prepared {
    pub keys: Vec<ArrayRef>,
    /// Everything the aggregates read; opaque outside this crate.
    pub inputs: Vec<ArrayRef>,
    pub rows: usize,
}

impl View {
    /// Compiles a definition.
    ///
    /// # Errors
    /// Place, reason, and what to write instead, for whatever is unsupported.
    pub fn compile(_definition: &ViewDefinition) -> Result<Self, Diagnostic> {
        todo!()
    }
    pub fn name(&self) -> &str {
        todo!()
    }
    pub fn source(&self) -> &Arc<anabranch_catalog::Source> {
        todo!()
    }
    pub fn hash(&self) -> &ViewHash {
        todo!()
    }
    /// Columns of the event schema that `prepare` reads, for projection. Includes `_partition`/`_offset` only if needed.
    pub fn input_columns(&self) -> &[String] {
        todo!()
    }
    /// Number of leading key columns in the state schema (0 for a global aggregate).
    pub fn key_count(&self) -> usize {
        todo!()
    }
    /// Key columns, then partial state. What `emit` returns, what batch files and Flight carry.
    pub fn state_schema(&self) -> SchemaRef {
        todo!()
    }
    /// What `finalise` returns: the SELECT list.
    pub fn output_schema(&self) -> SchemaRef {
        todo!()
    }
    /// For each output column that is exactly a key column: (output column name, key index). Others cannot be pushed down.
    pub fn output_keys(&self) -> &[(String, usize)] {
        todo!()
    }
    /// prepare, keys, partial state schema, finalise, as `check --json` prints them.
    pub fn describe(&self) -> serde_json::Value {
        todo!()
    }
    /// Evaluates WHERE, keys and arguments. `events` may hold any superset of `input_columns`, in any order.
    pub fn prepare(&self, _events: &RecordBatch) -> Result<Prepared, Error> {
        todo!()
    }
    /// Splits prepared rows by hash of the group key into `n` parts (fields grouping). A global aggregate goes to part 0.
    pub fn split(&self, _prepared: Prepared, _n: usize) -> Result<Vec<Prepared>, Error> {
        todo!()
    }
    /// Splits state rows by the same kind of hash, for spilling.
    pub fn split_state(&self, _state: &RecordBatch, _n: usize) -> Result<Vec<RecordBatch>, Error> {
        todo!()
    }
    /// An empty aggregator.
    pub fn aggregator(&self) -> Result<Aggregator, Error> {
        todo!()
    }
    /// Sorts state rows by key (ascending, nulls first): the order of batch view files.
    pub fn sort_state(&self, _state: &RecordBatch) -> Result<RecordBatch, Error> {
        todo!()
    }
    /// The answer of merged state: expressions over aggregates, HAVING. State must hold each group once.
    /// A global aggregate answers one row even for empty state.
    pub fn finalise(&self, _state: &RecordBatch) -> Result<RecordBatch, Error> {
        todo!()
    }
    /// Compiles a SQL predicate over key columns as named in the OUTPUT schema.
    pub fn key_filter(&self, _sql: &str) -> Result<KeyFilter, Error> {
        todo!()
    }
    /// Casts that failed, divisions by zero and overflows that became NULL so far in this process.
    pub fn nulled_values(&self) -> u64 {
        todo!()
    }
}

/// Groups and their accumulators.
pub struct Aggregator {
    _p: (),
}

impl Aggregator {
    pub fn fold(&mut self, _prepared: &Prepared) -> Result<(), Error> {
        todo!()
    }
    /// Merges partial state (any batch of the view's state schema, groups may repeat).
    pub fn merge(&mut self, _state: &RecordBatch) -> Result<(), Error> {
        todo!()
    }
    /// Emits everything as one batch of the state schema and is empty afterwards.
    pub fn emit(&mut self) -> Result<RecordBatch, Error> {
        todo!()
    }
    pub fn groups(&self) -> usize {
        todo!()
    }
    /// Heap bytes held.
    pub fn size_bytes(&self) -> usize {
        todo!()
    }
}

/// A predicate over group keys, applicable to state batches.
pub struct KeyFilter {
    _p: (),
}

impl KeyFilter {
    pub fn apply(&self, _state: &RecordBatch) -> Result<RecordBatch, Error> {
        todo!()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);
