use std::collections::BTreeSet;
use std::sync::Arc;

use anabranch_catalog::Source;
use anabranch_decode::LandedReader;
use anabranch_view::View;
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;

use crate::Error;

/// Rows per lane: fewer lanes merge less, more lanes use more cores. What fits into one lane takes well under a second.
const LANE_ROWS: u64 = 4 << 20;
/// Upper bound of lanes, and so of cores that one source's fold can use.
const MAX_LANES: u64 = 32;

/// What one fold does: views of one source, the union of the columns they read, and how the work is divided.
#[derive(Clone)]
pub struct Plan {
    views: Vec<View>,
    columns: Vec<String>,
    schema: SchemaRef,
    /// For each column, whether it is worth reading as a dictionary.
    dictionary: Vec<bool>,
    lanes: usize,
}

impl Plan {
    /// Plans a fold of `views`, all of one source, over a snapshot of `rows_total` rows.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `views` is empty or names several sources.
    pub fn new(views: Vec<View>, rows_total: u64) -> Result<Self, Error> {
        let Some(first) = views.first() else {
            return Err(Error::Invalid("a fold needs at least one view".to_owned()));
        };
        let source = first.source();
        if let Some(other) = views.iter().find(|view| view.source().name != source.name) {
            return Err(Error::Invalid(format!(
                "views of one fold must share their source: `{}` reads `{}`, `{}` reads `{}`",
                first.name(),
                source.name,
                other.name(),
                other.source().name
            )));
        }
        let wanted: BTreeSet<&str> = views
            .iter()
            .flat_map(|view| view.input_columns())
            .map(String::as_str)
            .collect();
        let event_schema = source.event_schema();
        let fields: Vec<_> = event_schema
            .fields()
            .iter()
            .filter(|field| wanted.contains(field.name().as_str()))
            .cloned()
            .collect();
        let columns: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let dictionary = columns
            .iter()
            .map(|column| worth_a_dictionary(&views, column))
            .collect();
        let lanes = rows_total.div_ceil(LANE_ROWS).clamp(1, MAX_LANES);
        let lanes = usize::try_from(lanes).expect("at most MAX_LANES, which fits");
        Ok(Self {
            views,
            columns,
            schema: Arc::new(Schema::new(fields)),
            dictionary,
            lanes,
        })
    }

    /// Spreads the work over exactly `lanes` lanes instead of what the row count suggests. The number of lanes is part of
    /// what makes results reproducible: it may follow from the snapshot, never from the machine.
    #[must_use]
    pub fn with_lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Top-level columns to read, in the order of the event schema.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The source of all views.
    pub(crate) fn source(&self) -> &Arc<Source> {
        self.views[0].source()
    }

    /// Top-level columns to read of a file with this footer: [`columns`](Self::columns), and the raw bytes of its events if
    /// some of those were declared later than the file was landed.
    ///
    /// # Errors
    /// When the footer has no schema that can be read.
    pub fn columns_in(&self, footer: &ParquetMetaData) -> Result<Vec<String>, ParquetError> {
        let file = footer.file_metadata();
        let in_file = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
        Ok(LandedReader::columns(self.source(), &self.schema, &in_file))
    }

    /// Schema of the batches that views fold: [`columns`](Self::columns) with their declared types.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// For each of [`columns`](Self::columns), whether it is worth reading as a dictionary where a file has it as one.
    pub(crate) fn dictionary(&self) -> &[bool] {
        &self.dictionary
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.lanes
    }
}

/// Whether at least half of the views that read a column take it as a dictionary; the others make it plain for themselves.
fn worth_a_dictionary(views: &[View], column: &str) -> bool {
    let reads = |view: &&View| view.input_columns().iter().any(|name| name == column);
    let (take, cast): (Vec<&View>, Vec<&View>) = views
        .iter()
        .filter(reads)
        .partition(|view| view.takes_dictionary(column));
    !take.is_empty() && take.len() >= cast.len()
}

/// Selects the leaves below the top-level columns named.
pub(crate) fn wanted_roots(schema: &SchemaDescriptor, columns: &[String]) -> ProjectionMask {
    let roots = schema.root_schema().get_fields().iter().enumerate();
    let wanted = roots
        .filter(|(_, field)| columns.iter().any(|name| name == field.name()))
        .map(|(index, _)| index);
    ProjectionMask::roots(schema, wanted)
}
