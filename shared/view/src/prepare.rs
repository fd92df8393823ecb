use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{FilterBuilder, cast, filter_record_batch, take};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result;

use crate::dictionary::is_dictionary_of;
use crate::error::During;
use crate::expr::truth;
use crate::keys::normalise_floats;
use crate::plan::{Plan, PreparePlan};
use crate::{Error, Prepared};

impl Plan {
    /// Evaluates WHERE, windows, keys and arguments over one batch of events.
    pub(crate) fn prepare(&self, events: &RecordBatch) -> Result<Prepared, Error> {
        let plan = &self.prepare;
        let mask = match &plan.filter {
            Some((filter, columns)) => {
                let batch = self.project(events, columns, &[])?;
                let mask = filter
                    .evaluate(&batch)
                    .and_then(|v| v.into_array(batch.num_rows()))
                    .during(&self.name, "WHERE")?;
                Some(truth(mask.as_boolean()))
            }
            None => None,
        };
        let mut rows = self.project(events, &plan.columns, &plan.dictionary)?;
        let mut selected = None;
        if let Some(mask) = mask
            && mask.has_false()
        {
            if !mask.has_true() {
                rows = rows.slice(0, 0);
            } else if plan.selects {
                selected = Some(mask);
            } else {
                rows = filter_record_batch(&rows, &mask).during(&self.name, "WHERE")?;
            }
        }
        let prepared = plan.evaluate(rows).during(&self.name, "prepare")?;
        Ok(Prepared { selected, ..prepared })
    }

    /// The columns of `schema` from `events`, which may hold others too, in any order; those marked may be dictionaries.
    fn project(&self, events: &RecordBatch, schema: &SchemaRef, dictionary: &[bool]) -> Result<RecordBatch, Error> {
        let unusable = |column: &str, reason: String| Error::Events {
            view: Arc::clone(&self.name),
            column: column.to_string(),
            reason,
        };
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (i, field) in schema.fields().iter().enumerate() {
            let name = field.name();
            let column = events
                .column_by_name(name)
                .ok_or_else(|| unusable(name, "it is not there".into()))?;
            let taken = dictionary.get(i) == Some(&true) && is_dictionary_of(column.data_type(), field.data_type());
            if taken || column.data_type() == field.data_type() {
                columns.push(Arc::clone(column));
            } else {
                // Types that differ in the metadata or nullability of nested fields, or in a text encoding.
                columns.push(cast(column, field.data_type()).map_err(|e| unusable(name, e.to_string()))?);
            }
        }
        batch_of(schema, columns, events.num_rows()).during(&self.name, "projection")
    }
}

/// A batch of these columns, some of which may be dictionaries of their type in the schema.
fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let fields = schema.fields().iter().zip(&columns);
    let schema = if fields
        .clone()
        .all(|(field, column)| field.data_type() == column.data_type())
    {
        Arc::clone(schema)
    } else {
        let fields = fields.map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    };
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

impl PreparePlan {
    fn evaluate(&self, rows: RecordBatch) -> Result<Prepared> {
        let Some((time, grid)) = &self.hop else {
            let count = rows.num_rows();
            let mut evaluated = Vec::with_capacity(self.exprs.len());
            for expr in &self.exprs {
                evaluated.push(expr.expr.evaluate(&rows)?.into_array(count)?);
            }
            return self.gather(evaluated, count);
        };
        let times = time.evaluate(&rows)?.into_array(rows.num_rows())?;
        let (origins, windows) = grid.expand(&times);
        let count = origins.len();
        // Only what reads the window besides other columns needs those expanded.
        let only_window = |i: usize| {
            self.exprs[i]
                .expr
                .downcast_ref::<datafusion::physical_expr::expressions::Column>()
                .is_some()
        };
        let expanded =
            if self.hop_filter.is_some() || (0..self.exprs.len()).any(|i| self.exprs[i].expanded && !only_window(i)) {
                let mut columns = rows
                    .columns()
                    .iter()
                    .map(|c| take(c, &origins, None))
                    .collect::<Result<Vec<_>, _>>()?;
                columns.push(Arc::clone(&windows));
                Some(batch_of(&self.expanded, columns, count)?)
            } else {
                None
            };
        let mut evaluated = Vec::with_capacity(self.exprs.len());
        for (i, expr) in self.exprs.iter().enumerate() {
            evaluated.push(match (&expanded, expr.expanded) {
                (_, false) => take(&expr.expr.evaluate(&rows)?.into_array(rows.num_rows())?, &origins, None)?,
                (_, true) if only_window(i) => Arc::clone(&windows),
                (Some(batch), true) => expr.expr.evaluate(batch)?.into_array(count)?,
                (None, true) => unreachable!("the batch is expanded for every such expression"),
            });
        }
        if let (Some(filter), Some(batch)) = (&self.hop_filter, &expanded) {
            let mask = truth(filter.evaluate(batch)?.into_array(count)?.as_boolean());
            if mask.has_false() {
                let filter = FilterBuilder::new(&mask).optimize().build();
                for array in &mut evaluated {
                    *array = filter.filter(array)?;
                }
                return self.gather(evaluated, filter.count());
            }
        }
        self.gather(evaluated, count)
    }

    fn gather(&self, evaluated: Vec<ArrayRef>, rows: usize) -> Result<Prepared> {
        let keys = self.keys.iter().map(|&i| normalise_floats(&evaluated[i])).collect();
        let inputs = self.inputs.iter().map(|&(i, predicate)| {
            if predicate {
                Arc::new(truth(evaluated[i].as_boolean()))
            } else {
                Arc::clone(&evaluated[i])
            }
        });
        Ok(Prepared {
            keys,
            inputs: inputs.collect(),
            rows,
            selected: None,
        })
    }
}
