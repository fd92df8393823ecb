//! Event batches to Parquet bytes. Synchronous and CPU-heavy: never on an async worker.

use anabranch_dataset::data_file_properties;
use anabranch_runtime::Compression;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic;
use parquet::file::properties::WriterProperties;

use crate::Error;

/// Encodes batches, in their order, as one Parquet file of `schema`.
pub(crate) fn encode(schema: &SchemaRef, batches: &[RecordBatch], compression: Compression) -> Result<Bytes, Error> {
    let mut writer = ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties(compression)))?;
    for batch in batches {
        writer.write(&fit(schema, batch)?)?;
    }
    Ok(writer.into_inner()?.into())
}

fn properties(compression: Compression) -> WriterProperties {
    data_file_properties(match compression {
        Compression::Lz4 => basic::Compression::LZ4_RAW,
        Compression::Zstd => basic::Compression::ZSTD(basic::ZstdLevel::default()),
        Compression::Snappy => basic::Compression::SNAPPY,
    })
}

/// The batch with exactly the columns of `schema`, by name.
fn fit(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, Error> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
        let found = batch.column_by_name(field.name()).cloned();
        found.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    };
    Ok(RecordBatch::try_new(
        SchemaRef::clone(schema),
        schema.fields().iter().map(column).collect(),
    )?)
}
