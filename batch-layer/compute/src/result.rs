use std::sync::Arc;

use anabranch_view::View;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::Error;
use crate::merge::{Run, SortedMerge};

/// What the names of finalised columns begin with in batch view files: output column `edits` is stored as `answer_edits`.
/// They are for readers that are not Anabranch; serving merges the partial state and finalises it itself.
pub const FINALISED_PREFIX: &str = "answer_";

/// Schema of a batch view's files: the view's state schema, then its finalised columns, each nullable.
pub fn batch_view_schema(view: &View) -> SchemaRef {
    let state = view.state_schema();
    let output = view.output_schema();
    let finalised = output
        .fields()
        .iter()
        .map(|field| Field::new(format!("{FINALISED_PREFIX}{}", field.name()), field.data_type().clone(), true));
    let fields = state.fields().iter().cloned().chain(finalised.map(Arc::new));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// One view's result of a fold: each group once, sorted by key (ascending, nulls first).
pub struct ViewState {
    view: View,
    rows: u64,
    groups: u64,
    runs: Vec<Run>,
}

impl ViewState {
    pub(crate) fn new(view: View, rows: u64, runs: Vec<Run>) -> Self {
        let groups = runs.iter().map(Run::groups).sum();
        Self { view, rows, groups, runs }
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    /// Events folded, before the view's WHERE.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Groups in the result.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// The result in batches of [`batch_view_schema`].
    ///
    /// # Errors
    /// When spilled state cannot be read back; later errors come out of the iterator.
    pub fn batches(self) -> Result<impl Iterator<Item = Result<RecordBatch, Error>> + Send, Error> {
        let schema = batch_view_schema(&self.view);
        let merged = SortedMerge::new(&self.view, self.runs)?;
        let view = self.view;
        Ok(merged.map(move |state| with_finalised(&view, &schema, &state?)))
    }
}

/// Appends the finalised columns. Where HAVING takes groups out, the answer's rows no longer match the state's; the
/// finalised columns of that batch are null then, since the state of every group must stay.
fn with_finalised(view: &View, schema: &SchemaRef, state: &RecordBatch) -> Result<RecordBatch, Error> {
    let answer = view.finalise(state).map_err(Error::view(view))?;
    let mut columns: Vec<ArrayRef> = state.columns().to_vec();
    if answer.num_rows() == state.num_rows() {
        columns.extend(answer.columns().iter().cloned());
    } else {
        let fields = schema.fields()[state.num_columns()..].iter();
        columns.extend(fields.map(|field| new_null_array(field.data_type(), state.num_rows())));
    }
    RecordBatch::try_new(schema.clone(), columns).map_err(Error::arrow(view))
}
