//! Folds the rows of landed files, by partition, view and range.

use std::collections::HashMap;
use std::sync::Arc;

use anabranch_dataset::{RowFilter, RowGroups};
use anabranch_decode::LandedReader;
use anabranch_model::{OffsetRange, PartitionId, columns};
use anabranch_view::Aggregator;
use arrow::array::{AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef};

use super::Plan;
use crate::Error;
use crate::program::Program;
use crate::state::emit_run;

const BATCH_ROWS: usize = 32 * 1024;

type Key = (PartitionId, usize, OffsetRange);

/// One worker's aggregators.
pub(super) struct Folder {
    program: Arc<Program>,
    plans: Arc<Vec<Plan>>,
    /// What the views read, and the two columns that place a row.
    schema: SchemaRef,
    aggregators: HashMap<Key, Aggregator>,
}

/// State by partition, view and range.
pub(super) struct Folded(HashMap<Key, RecordBatch>);

impl Folder {
    pub(super) fn new(program: Arc<Program>, plans: Arc<Vec<Plan>>) -> Self {
        let wanted = |name: &str| {
            name == columns::PARTITION
                || name == columns::OFFSET
                || program
                    .views
                    .iter()
                    .any(|live| live.view.input_columns().iter().any(|column| column == name))
        };
        let events = program.source.event_schema();
        let fields: Vec<_> = events
            .fields()
            .iter()
            .filter(|field| wanted(field.name()))
            .cloned()
            .collect();
        Self {
            program,
            plans,
            schema: Arc::new(Schema::new(fields)),
            aggregators: HashMap::new(),
        }
    }

    /// What is to be read of a file with the columns `in_file`: those of the views, those that place a row, and the raw bytes
    /// if some of them were declared later.
    pub(super) fn columns(&self) -> impl Fn(&Schema) -> SchemaRef + Clone + Send + 'static + use<> {
        let (source, schema) = (Arc::clone(&self.program.source), SchemaRef::clone(&self.schema));
        move |in_file| {
            let names = LandedReader::columns(&source, &schema, in_file);
            let fields = in_file.fields().iter().filter(|field| names.contains(field.name()));
            Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
        }
    }

    /// Folds some row groups of a file, all rows or those that a filter lets through. `in_file` is what was read of it.
    pub(super) fn fold(mut self, rows: RowGroups, in_file: &Schema, filter: Option<&RowFilter>) -> Result<Self, Error> {
        let mut landed = LandedReader::new(&self.program.source, &self.schema, in_file);
        for batch in rows.decode(BATCH_ROWS)? {
            let batch = landed.read(&batch?);
            let mut batch = batch.map_err(|misfit| self.error(misfit.to_string()))?;
            if let Some(filter) = filter {
                batch = filter.apply(&batch)?;
            }
            self.fold_batch(&batch)?;
        }
        Ok(self)
    }

    fn fold_batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let place = |name: &'static str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| self.error(format!("landed files lack column {name}")))
        };
        let partitions = place(columns::PARTITION)?.as_primitive_opt::<Int32Type>();
        let offsets = place(columns::OFFSET)?.as_primitive_opt::<Int64Type>();
        let (Some(partitions), Some(offsets)) = (partitions, offsets) else {
            return Err(self.error("the columns that place a row have other types".to_owned()));
        };
        let (plans, program) = (Arc::clone(&self.plans), Arc::clone(&self.program));
        for plan in plans.iter() {
            // Views share their ranges nearly always, so the filtered batch is kept from one view to the next.
            let mut last: Option<(OffsetRange, Option<RecordBatch>)> = None;
            for (view, ranges) in &plan.views {
                for range in ranges {
                    if last.as_ref().is_none_or(|(of, _)| of != range) {
                        last = Some((*range, select(batch, (partitions, offsets), plan.partition, *range)?));
                    }
                    if let Some((_, Some(rows))) = &last {
                        let Some(definition) = program.view(*view) else {
                            continue;
                        };
                        let prepared = definition.prepare(rows)?;
                        let aggregator = match self.aggregators.entry((plan.partition, *view, *range)) {
                            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(definition.aggregator()?),
                        };
                        aggregator.fold(&prepared)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn error(&self, message: String) -> Error {
        Error::Rows {
            table: self.program.source.name.clone(),
            message,
        }
    }

    pub(super) fn emit(self) -> Result<Folded, Error> {
        let emit = |(key, mut aggregator): (Key, Aggregator)| Ok((key, emit_run(&mut aggregator)?));
        Ok(Folded(
            self.aggregators.into_iter().map(emit).collect::<Result<_, Error>>()?,
        ))
    }
}

/// The rows of one partition's range; `None` when there are none.
fn select(
    batch: &RecordBatch,
    (partitions, offsets): (&Int32Array, &Int64Array),
    partition: PartitionId,
    range: OffsetRange,
) -> Result<Option<RecordBatch>, Error> {
    let inside =
        |row: usize| partitions.value(row) == partition.0 && (range.start.0..range.end.0).contains(&offsets.value(row));
    let rows = batch.num_rows();
    let Some(first) = (0..rows).find(|row| inside(*row)) else {
        return Ok(None);
    };
    let end = (first..rows).find(|row| !inside(*row)).unwrap_or(rows);
    // Rows of one partition lie together and in order in what was landed at once: a part of the batch, not a copy.
    if !(end..rows).any(inside) {
        return Ok(Some(batch.slice(first, end - first)));
    }
    let mask: BooleanArray = (0..rows).map(|row| Some(inside(row))).collect();
    Ok(Some(filter_record_batch(batch, &mask)?))
}

impl Folded {
    /// Merges what the workers folded.
    pub(super) fn merge(program: &Program, parts: Vec<Self>) -> Result<Self, Error> {
        let mut by_key: HashMap<Key, Vec<RecordBatch>> = HashMap::new();
        for (key, state) in parts.into_iter().flat_map(|part| part.0) {
            by_key.entry(key).or_default().push(state);
        }
        let mut merged = HashMap::with_capacity(by_key.len());
        for (key, mut states) in by_key {
            let state = if states.len() == 1 {
                states.remove(0)
            } else {
                let Some(view) = program.view(key.1) else { continue };
                let mut aggregator = view.aggregator()?;
                states.iter().try_for_each(|state| aggregator.merge(state))?;
                emit_run(&mut aggregator)?
            };
            merged.insert(key, state);
        }
        Ok(Self(merged))
    }

    pub(super) fn take(&mut self, partition: PartitionId, view: usize, range: OffsetRange) -> Option<RecordBatch> {
        self.0.remove(&(partition, view, range))
    }
}
