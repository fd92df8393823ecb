use std::sync::Arc;

use anabranch_catalog::{Diagnostic, ViewDefinition};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::aggregator::Aggregator;
use crate::error::During;
use crate::filter::KeyFilter;
use crate::keys::KeyCodec;
use crate::plan::{self, Plan};
use crate::{Class, Error, keys};

/// One compiled view. Cheap to clone, immutable, shared by threads.
#[derive(Clone)]
pub struct View {
    pub(crate) plan: Arc<Plan>,
}

/// Identifies plan, state schema and aggregate versions; equal hashes mean mergeable state. Lower-case hex.
pub type ViewHash = String;

/// Rows of one event batch after WHERE and window expansion: group keys, aggregate arguments, filters and ordering columns.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// One array per key, each of `rows` values.
    pub keys: Vec<ArrayRef>,
    /// Everything the aggregates read; opaque outside this crate.
    pub inputs: Vec<ArrayRef>,
    /// Rows in the arrays.
    pub rows: usize,
    /// Which of these passed WHERE, where to leave the others out would cost more than to skip them; `None` if all did.
    pub(crate) selected: Option<BooleanArray>,
}

impl View {
    /// Compiles a definition.
    ///
    /// # Errors
    /// Place, reason, and what to write instead, for whatever is unsupported.
    pub fn compile(definition: &ViewDefinition) -> Result<Self, Diagnostic> {
        Ok(Self {
            plan: Arc::new(plan::compile(definition)?),
        })
    }

    /// Whether this is the very same one, compiled once.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan)
    }

    /// SQL name of the view.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// The table it reads.
    pub fn source(&self) -> &Arc<anabranch_catalog::Source> {
        &self.plan.source
    }

    /// Equal for views whose state can be merged, whatever their names and however they are written.
    pub fn hash(&self) -> &ViewHash {
        &self.plan.hash
    }

    /// Columns of the event schema that `prepare` reads, for projection. Includes `_partition`/`_offset` only if needed.
    pub fn input_columns(&self) -> &[String] {
        &self.plan.input_columns
    }

    /// Whether this column of events may come as `Dictionary(Int32, …)` of its type, as Parquet stores it, which is then
    /// faster. Any other column may too, at the price of a cast.
    pub fn takes_dictionary(&self, column: &str) -> bool {
        let plan = &self.plan.prepare;
        let fields = plan.columns.fields().iter().zip(&plan.dictionary);
        let mut named = fields.filter(|(field, _)| field.name() == column);
        named.any(|(_, takes)| *takes)
    }

    /// Number of leading key columns in the state schema (0 for a global aggregate).
    pub fn key_count(&self) -> usize {
        self.plan.key_count
    }

    /// Key columns, then partial state. What `emit` returns, what batch files and Flight carry.
    pub fn state_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.state_schema)
    }

    /// What `finalise` returns: the SELECT list.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.plan.output_schema)
    }

    /// For each output column, how two computations of it compare.
    pub fn output_classes(&self) -> &[Class] {
        &self.plan.output_classes
    }

    /// For each output column that is exactly a key column: (output column name, key index). Others cannot be pushed down.
    pub fn output_keys(&self) -> &[(String, usize)] {
        &self.plan.output_keys
    }

    /// prepare, keys, partial state schema, finalise, as `check --json` prints them.
    pub fn describe(&self) -> serde_json::Value {
        self.plan.description.clone()
    }

    /// Evaluates WHERE, keys and arguments. `events` may hold any superset of `input_columns`, in any order.
    ///
    /// # Errors
    /// When an input column is not there. No event can make it fail.
    pub fn prepare(&self, events: &RecordBatch) -> Result<Prepared, Error> {
        self.plan.prepare(events)
    }

    /// Splits prepared rows by hash of the group key into `n` parts (fields grouping). A global aggregate goes to part 0.
    /// The same key goes to the same part in every process.
    ///
    /// # Errors
    /// Only when the engine fails.
    pub fn split(&self, prepared: Prepared, n: usize) -> Result<Vec<Prepared>, Error> {
        let n = n.max(1);
        if n == 1 {
            return Ok(vec![prepared]);
        }
        if self.plan.key_count == 0 || prepared.rows == 0 {
            let nothing = Prepared {
                keys: prepared.keys.iter().map(|a| a.slice(0, 0)).collect(),
                inputs: prepared.inputs.iter().map(|a| a.slice(0, 0)).collect(),
                rows: 0,
                selected: None,
            };
            let mut parts = vec![nothing; n];
            parts[0] = prepared;
            return Ok(parts);
        }
        let key_count = prepared.keys.len();
        let columns: Vec<ArrayRef> = prepared.keys.iter().chain(&prepared.inputs).cloned().collect();
        let parts = keys::split_arrays(&prepared.keys, &columns, n).during(&self.plan.name, "split")?;
        Ok(parts
            .into_iter()
            .map(|mut keys| {
                let inputs = keys.split_off(key_count);
                let rows = keys[0].len();
                Prepared {
                    keys,
                    inputs,
                    rows,
                    selected: None,
                }
            })
            .collect())
    }

    /// Splits state rows by the same kind of hash, for spilling.
    ///
    /// # Errors
    /// When the batch is not state of this view.
    pub fn split_state(&self, state: &RecordBatch, n: usize) -> Result<Vec<RecordBatch>, Error> {
        self.plan.state_columns(state)?;
        let n = n.max(1);
        if n == 1 {
            return Ok(vec![state.clone()]);
        }
        if self.plan.key_count == 0 {
            let mut parts = vec![state.slice(0, 0); n];
            parts[0] = state.clone();
            return Ok(parts);
        }
        keys::split_batch(state, self.plan.key_count, n).during(&self.plan.name, "split")
    }

    /// An empty aggregator. It can be used again after each [`Aggregator::emit`], which is cheaper than a new one.
    ///
    /// # Errors
    /// Only when the engine fails.
    pub fn aggregator(&self) -> Result<Aggregator, Error> {
        Aggregator::new(Arc::clone(&self.plan))
    }

    /// Sorts state rows by key (ascending, nulls first): the order of batch view files.
    ///
    /// # Errors
    /// When the batch is not state of this view.
    pub fn sort_state(&self, state: &RecordBatch) -> Result<RecordBatch, Error> {
        self.plan.state_columns(state)?;
        keys::sort_batch(state, self.plan.key_count).during(&self.plan.name, "sort")
    }

    /// The answer of merged state: expressions over aggregates, HAVING. State must hold each group once.
    /// A global aggregate answers one row even for empty state.
    ///
    /// # Errors
    /// When the batch is not state of this view.
    pub fn finalise(&self, state: &RecordBatch) -> Result<RecordBatch, Error> {
        self.plan.finalise(state)
    }

    /// Compiles a SQL predicate over key columns as named in the OUTPUT schema.
    ///
    /// # Errors
    /// When it does not parse, or reads what is not a key.
    pub fn key_filter(&self, sql: &str) -> Result<KeyFilter, Error> {
        self.plan.key_filter(sql)
    }

    /// Encodes its group keys as bytes that compare like them; `None` for a global aggregate.
    pub fn key_codec(&self) -> Option<&KeyCodec> {
        self.plan.codec.as_ref()
    }

    /// Casts that failed, divisions by zero and overflows that became NULL so far in this process. What happens in
    /// `finalise` is counted at every answer.
    pub fn nulled_values(&self) -> u64 {
        self.plan.nulled.get()
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("name", &self.plan.name)
            .field("hash", &self.plan.hash)
            .finish_non_exhaustive()
    }
}
