//! Text that arrives as numbers into a dictionary, as Parquet stores it: what depends on the value alone is done once per
//! value of the dictionary instead of once per row.

use arrow::array::{Array, ArrayRef, DictionaryArray};
use arrow::datatypes::{DataType, Int32Type};

/// The values of a dictionary, to be recognised when they come again.
#[derive(Debug)]
pub(crate) struct SameValues(ArrayRef);

impl SameValues {
    pub(crate) fn of(dictionary: &DictionaryArray<Int32Type>) -> Self {
        Self(dictionary.values().clone())
    }

    /// Whether a dictionary has these very values: the same memory, which is kept from being used again for others.
    pub(crate) fn are_of(&self, dictionary: &DictionaryArray<Int32Type>) -> bool {
        self.0.to_data().ptr_eq(&dictionary.values().to_data())
    }
}

/// Whether a column is a dictionary of values of this type.
pub(crate) fn is_dictionary_of(column: &DataType, data_type: &DataType) -> bool {
    matches!(column, DataType::Dictionary(keys, values) if **keys == DataType::Int32 && **values == *data_type)
}
