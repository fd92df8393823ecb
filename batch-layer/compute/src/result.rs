use std::sync::Arc;

use anabranch_view::View;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::Error;
use crate::base::{BaseMerge, States};
use crate::merge::{Run, SortedMerge};

/// Schema of a batch view's files: the view's state schema, then its finalised columns, each nullable, under the names of the
/// view's output columns (with `_` appended where a state column has that name already).
///
/// The finalised columns are for readers that are not Anabranch; serving merges the partial state and finalises it itself.
pub fn batch_view_schema(view: &View) -> SchemaRef {
    let mut fields = view.state_schema().fields().to_vec();
    for output in view.output_schema().fields() {
        let mut name = output.name().clone();
        while fields.iter().any(|field| *field.name() == name) {
            name.push('_');
        }
        fields.push(Arc::new(Field::new(name, output.data_type().clone(), true)));
    }
    Arc::new(Schema::new(fields))
}

/// One view's result of a fold: each group once, sorted by key (ascending, nulls first).
pub struct ViewState {
    view: View,
    rows: u64,
    groups: u64,
    runs: Vec<Run>,
    base: Option<States>,
}

impl ViewState {
    pub(crate) fn new(view: View, rows: u64, runs: Vec<Run>) -> Self {
        let groups = runs.iter().map(Run::groups).sum();
        Self {
            view,
            rows,
            groups,
            runs,
            base: None,
        }
    }

    /// Puts the state of `rows` other events under what was folded: the result is of both. The base is read when the result
    /// is, in key order.
    #[must_use]
    pub fn with_base(mut self, base: States, rows: u64) -> Self {
        self.rows += rows;
        self.base = Some(base);
        self
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    /// Events folded, before the view's WHERE.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Groups that were folded. With a base there may be more in the result.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// The result in batches of the view's state schema.
    ///
    /// # Errors
    /// When spilled state or the base cannot be read; later errors come out of the iterator.
    pub fn states(self) -> Result<States, Error> {
        let merged: States = Box::new(SortedMerge::new(&self.view, self.runs)?);
        Ok(match self.base {
            Some(base) => Box::new(BaseMerge::new(&self.view, base, merged)?),
            None => merged,
        })
    }

    /// The result in batches of [`batch_view_schema`].
    ///
    /// # Errors
    /// As [`states`](Self::states).
    pub fn batches(self) -> Result<impl Iterator<Item = Result<RecordBatch, Error>> + Send, Error> {
        let schema = batch_view_schema(&self.view);
        let view = self.view.clone();
        let states = self.states()?;
        let filtered = has_having(&view);
        Ok(states.map(move |state| with_finalised(&view, &schema, &state?, filtered)))
    }
}

/// Whether HAVING takes groups out of the view's answer.
fn has_having(view: &View) -> bool {
    let description = view.describe();
    let having = description
        .pointer("/finalise/having")
        .and_then(|having| having.as_array());
    having.is_some_and(|predicates| !predicates.is_empty())
}

/// Appends the finalised columns. A view with HAVING has them null: state must keep every group, of which the answer has only
/// some.
fn with_finalised(view: &View, schema: &SchemaRef, state: &RecordBatch, filtered: bool) -> Result<RecordBatch, Error> {
    let mut columns: Vec<ArrayRef> = state.columns().to_vec();
    if filtered {
        let fields = schema.fields()[state.num_columns()..].iter();
        columns.extend(fields.map(|field| new_null_array(field.data_type(), state.num_rows())));
    } else {
        let answer = view.finalise(state).map_err(Error::view(view))?;
        columns.extend(answer.columns().iter().cloned());
    }
    RecordBatch::try_new(schema.clone(), columns).map_err(Error::arrow(view))
}

#[cfg(test)]
mod tests;
