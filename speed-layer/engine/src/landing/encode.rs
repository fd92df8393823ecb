//! Event batches to Parquet bytes. Synchronous and CPU-heavy: never on an async worker.

use anabranch_model::columns;
use anabranch_runtime::Compression;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::Error;

/// Rows of a row group: what a batch run folds as one piece of work.
const ROW_GROUP_ROWS: usize = 512 * 1024;

/// Encodes batches, in their order, as one Parquet file of `schema`.
pub(crate) fn encode(schema: &SchemaRef, batches: &[RecordBatch], compression: Compression) -> Result<Bytes, Error> {
    let mut writer = ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties(compression)))?;
    for batch in batches {
        writer.write(&fit(schema, batch)?)?;
    }
    Ok(writer.into_inner()?.into())
}

fn properties(compression: Compression) -> WriterProperties {
    let compression = match compression {
        Compression::Lz4 => basic::Compression::LZ4_RAW,
        Compression::Zstd => basic::Compression::ZSTD(basic::ZstdLevel::default()),
        Compression::Snappy => basic::Compression::SNAPPY,
    };
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    // Every value of these is different: a dictionary is built only to be thrown away, and nobody asks for the largest.
    for unique in [columns::RAW, columns::KEY] {
        let path = ColumnPath::from(unique);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    for ordered in [columns::OFFSET, columns::TIMESTAMP] {
        let path = ColumnPath::from(ordered);
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, basic::Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
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
