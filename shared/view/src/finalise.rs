use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use datafusion::common::Result;

use crate::Error;
use crate::aggregate::evaluate;
use crate::error::During;
use crate::expr::truth;
use crate::plan::Plan;

impl Plan {
    /// The answer of merged state, in which each group stands once.
    pub(crate) fn finalise(&self, state: &RecordBatch) -> Result<RecordBatch, Error> {
        self.finalise_with(state, true)
    }

    /// As [`finalise`](Self::finalise), but of every group, whatever HAVING says: row by row that of the state.
    pub(crate) fn finalise_all(&self, state: &RecordBatch) -> Result<RecordBatch, Error> {
        self.finalise_with(state, false)
    }

    fn finalise_with(&self, state: &RecordBatch, having: bool) -> Result<RecordBatch, Error> {
        if self.key_count == 0 {
            match state.num_rows() {
                0 => return self.finalise_groups(&self.empty_group()?, having),
                1 => {}
                rows => {
                    let reason = format!("{rows} rows of a global aggregate; merge them first");
                    return Err(Error::State {
                        view: Arc::clone(&self.name),
                        reason,
                    });
                }
            }
        }
        if state.num_rows() == 0 {
            self.state_columns(state)?;
            return Ok(RecordBatch::new_empty(Arc::clone(&self.output_schema)));
        }
        self.finalise_groups(state, having)
    }

    fn finalise_groups(&self, state: &RecordBatch, having: bool) -> Result<RecordBatch, Error> {
        let columns = self.state_columns(state)?;
        let rows = state.num_rows();
        let groups: Vec<usize> = (0..rows).collect();
        let results = self
            .slots
            .iter()
            .zip(&self.slot_columns)
            .map(|(slot, range)| evaluate(slot, &columns[range.clone()], &groups))
            .collect::<Result<Vec<_>>>()
            .during(&self.name, "finalise")?;
        self.outputs(&columns[..self.key_count], &results, rows, having)
            .during(&self.name, "finalise")
    }

    fn outputs(&self, keys: &[ArrayRef], results: &[ArrayRef], rows: usize, having: bool) -> Result<RecordBatch> {
        let mut columns = keys.to_vec();
        for answer in &self.answers {
            columns.push(answer.compute(results)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let mut answers = RecordBatch::try_new_with_options(Arc::clone(&self.answer_schema), columns, &options)?;
        for predicate in self.having.iter().filter(|_| having) {
            let mask = predicate.evaluate(&answers)?.into_array(answers.num_rows())?;
            answers = filter_record_batch(&answers, &truth(mask.as_boolean()))?;
        }
        let rows = answers.num_rows();
        let outputs = self
            .outputs
            .iter()
            .map(|e| e.evaluate(&answers)?.into_array(rows))
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.output_schema),
            outputs,
            &options,
        )?)
    }
}
