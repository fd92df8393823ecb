//! How files of the master dataset are encoded: the same for those that are landed and those that are merged.

use anabranch_model::columns;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

/// Rows of a row group: what a batch run folds as one piece of work.
const ROW_GROUP_ROWS: usize = 512 * 1024;

/// Parquet properties of a data file.
pub fn data_file_properties(compression: Compression) -> WriterProperties {
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
            .set_column_encoding(path, parquet::basic::Encoding::DELTA_BINARY_PACKED);
    }
    properties.build()
}
