//! Answers written piece by piece, so that a large one is never in memory as a whole.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;

use super::{Format, csv, json};
use crate::Error;

/// Writes the rows of one answer in a format that has a beginning, rows, and an end.
pub(crate) struct Writer {
    schema: SchemaRef,
    kind: Kind,
}

enum Kind {
    Csv,
    Lines,
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Writer {
    /// # Errors
    /// For JSON, which is written as a whole, and for columns that Arrow IPC has no place for.
    pub(crate) fn new(format: Format, schema: &SchemaRef) -> Result<Self, Error> {
        let kind = match format {
            Format::Csv => Kind::Csv,
            Format::NdJson => Kind::Lines,
            Format::Arrow => Kind::Arrow(Box::new(StreamWriter::try_new(Vec::new(), schema)?)),
            Format::Json => return Err(Error::Internal("JSON is written as a whole".into())),
        };
        Ok(Self {
            schema: schema.clone(),
            kind,
        })
    }

    /// What comes before the first row.
    pub(crate) fn begin(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match &mut self.kind {
            Kind::Csv => csv::header(&self.schema, &mut out),
            Kind::Lines => {}
            Kind::Arrow(writer) => out.append(writer.get_mut()),
        }
        out
    }

    /// Some rows. CPU-bound.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        match &mut self.kind {
            Kind::Csv => csv::rows(batch, &mut out)?,
            Kind::Lines => json::lines(&self.schema, batch, &mut out)?,
            Kind::Arrow(writer) => {
                // Operators may sharpen a schema (nullability); the stream has the one that was announced.
                writer.write(&RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec())?)?;
                out.append(writer.get_mut());
            }
        }
        Ok(out)
    }

    /// What comes after the last row.
    pub(crate) fn finish(self) -> Result<Vec<u8>, Error> {
        match self.kind {
            Kind::Csv | Kind::Lines => Ok(Vec::new()),
            Kind::Arrow(mut writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }
}
