//! How two computations of the same groups differ, column by column, by [`Class`] (ARCHITECTURE.md, rule 14).

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;

use crate::aggregate::Class;
use crate::error::During;
use crate::plan::Plan;
use crate::{Error, View};

/// What floats may differ by, as a share of the scale of their column.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// The answers of two states of the same groups, and where they differ.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Answers of the left state, row by row, of groups that HAVING leaves out too.
    pub left: RecordBatch,
    /// Answers of the right state, in the same rows.
    pub right: RecordBatch,
    /// By row, then by column.
    pub differences: Vec<Difference>,
}

/// One value that differs by more than its class allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    pub row: usize,
    /// Index of the output column.
    pub column: usize,
    /// By how much, if both are numbers.
    pub by: Option<f64>,
}

impl View {
    /// Compares what two states say of the same groups: row `i` of both is the same group, and each group stands once.
    ///
    /// Exact columns must be equal. Floats may differ by 1e-9 of the largest magnitude in their column of this batch: rounding
    /// follows the scale of the inputs, of which a sum that cancels out shows nothing. Sketches may differ as much as two
    /// t-digests of the same rows can: by the ranks of two centroids.
    ///
    /// # Errors
    /// When a batch is not state of this view, or the two have not the same number of rows.
    pub fn compare(&self, left: &RecordBatch, right: &RecordBatch) -> Result<Comparison, Error> {
        self.plan.compare(left, right)
    }
}

impl Plan {
    fn compare(&self, left: &RecordBatch, right: &RecordBatch) -> Result<Comparison, Error> {
        if left.num_rows() != right.num_rows() {
            return Err(Error::State {
                view: self.name.clone(),
                reason: format!(
                    "{} groups cannot be compared with {}",
                    left.num_rows(),
                    right.num_rows()
                ),
            });
        }
        let answers = (self.finalise_all(left)?, self.finalise_all(right)?);
        let mut differences = Vec::new();
        for (column, class) in self.output_classes.iter().enumerate() {
            let (a, b) = (answers.0.column(column), answers.1.column(column));
            if a == b {
                continue;
            }
            let differing = match (class, as_numbers(a).zip(as_numbers(b))) {
                (Class::Float, Some((a, b))) => differing_floats(&a, &b, slack(answers.0.column(column).data_type())),
                (Class::Sketch, _) => {
                    let mut rows = differing_values(a, b).during(&self.name, "compare")?;
                    if !rows.is_empty() {
                        let (left, right) = (self.state_columns(left)?, self.state_columns(right)?);
                        rows.retain(|row| !self.sketches_agree(&left, &right, *row));
                    }
                    rows
                }
                _ => differing_values(a, b).during(&self.name, "compare")?,
            };
            let sizes = as_numbers(a).zip(as_numbers(b));
            differences.extend(differing.into_iter().map(|row| Difference {
                row,
                column,
                by: sizes.as_ref().and_then(|(a, b)| distance(a, b, row)),
            }));
        }
        differences.sort_by_key(|difference| (difference.row, difference.column));
        Ok(Comparison {
            left: answers.0,
            right: answers.1,
            differences,
        })
    }

    /// Whether all t-digests of a group may come from the same rows.
    fn sketches_agree(&self, left: &[ArrayRef], right: &[ArrayRef], row: usize) -> bool {
        let sketches = self
            .slots
            .iter()
            .zip(&self.slot_columns)
            .filter(|(slot, _)| slot.is_digest());
        let mut sketches = sketches.map(|(_, columns)| {
            (
                Digest::read(&left[columns.clone()], row),
                Digest::read(&right[columns.clone()], row),
            )
        });
        sketches.all(|pair| match pair {
            (Some(left), Some(right)) => left.agrees_with(&right),
            (left, right) => left.is_none() && right.is_none(),
        })
    }
}

/// Numbers as floats; `None` for what is no number.
fn as_numbers(column: &ArrayRef) -> Option<Float64Array> {
    let data_type = column.data_type();
    if !data_type.is_numeric() {
        return None;
    }
    Some(
        cast(column, &DataType::Float64)
            .ok()?
            .as_primitive::<Float64Type>()
            .clone(),
    )
}

/// What rounding to a type that is no float may add: one unit of its last place.
fn slack(data_type: &DataType) -> f64 {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => 10f64.powi(-i32::from(*scale)),
        DataType::Float16 => f64::from(f32::EPSILON) * 8192.0,
        DataType::Float32 => f64::from(f32::EPSILON),
        DataType::Float64 => 0.0,
        _ => 1.0,
    }
}

fn differing_floats(a: &Float64Array, b: &Float64Array, slack: f64) -> Vec<usize> {
    let finite = |column: &Float64Array| {
        column
            .iter()
            .flatten()
            .filter(|x| x.is_finite())
            .fold(0.0, |most: f64, x| most.max(x.abs()))
    };
    let scale = finite(a).max(finite(b));
    let differ = |row: &usize| match (a.is_valid(*row), b.is_valid(*row)) {
        (false, false) => false,
        (true, true) => {
            let (a, b) = (a.value(*row), b.value(*row));
            // Equal infinities, or two NaNs.
            let same = a == b || (a.is_nan() && b.is_nan());
            let near = (a - b).abs() <= FLOAT_TOLERANCE * scale + slack;
            !same && !near
        }
        _ => true,
    };
    (0..a.len()).filter(differ).collect()
}

/// Rows whose values are not the same value, whatever their type.
fn differing_values(a: &ArrayRef, b: &ArrayRef) -> Result<Vec<usize>> {
    let converter = RowConverter::new(vec![SortField::new(a.data_type().clone())])?;
    let (left, right) = (
        converter.convert_columns(std::slice::from_ref(a))?,
        converter.convert_columns(std::slice::from_ref(b))?,
    );
    Ok((0..a.len()).filter(|row| left.row(*row) != right.row(*row)).collect())
}

fn distance(a: &Float64Array, b: &Float64Array, row: usize) -> Option<f64> {
    let by = (a.is_valid(row) && b.is_valid(row)).then(|| (a.value(row) - b.value(row)).abs())?;
    by.is_finite().then_some(by)
}

/// A t-digest as its state columns hold it: max_size, sum, count, max, min, centroids (mean and weight in turn).
struct Digest {
    count: f64,
    bounds: (f64, f64),
    centroids: Vec<(f64, f64)>,
}

impl Digest {
    /// `None` when the columns are not those of a digest, or null.
    fn read(columns: &[ArrayRef], row: usize) -> Option<Self> {
        let [_, _, count, max, min, centroids] = columns else {
            return None;
        };
        let float = |column: &ArrayRef| {
            let column = column.as_primitive_opt::<Float64Type>()?;
            column.is_valid(row).then(|| column.value(row))
        };
        let centroids = centroids.as_list_opt::<i32>()?;
        if centroids.is_null(row) {
            return None;
        }
        let values = centroids.value(row);
        let values = values.as_primitive_opt::<Float64Type>()?.values().to_vec();
        Some(Self {
            count: float(count)?,
            bounds: (float(min)?, float(max)?),
            centroids: values.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
        })
    }

    /// How many of its rows lie before `x`, those at `x` by half.
    fn rank(&self, x: f64) -> f64 {
        let weight = |(mean, weight): &(f64, f64)| match mean.total_cmp(&x) {
            std::cmp::Ordering::Less => *weight,
            std::cmp::Ordering::Equal => weight / 2.0,
            std::cmp::Ordering::Greater => 0.0,
        };
        self.centroids.iter().map(weight).sum()
    }

    /// What its heaviest centroid weighs: ranks that it tells may be off by so much, for where in a centroid its rows lie is
    /// forgotten. One row may weigh as much by itself.
    fn heaviest(&self) -> f64 {
        self.centroids.iter().map(|(_, weight)| *weight).fold(0.0, f64::max)
    }

    fn agrees_with(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        if !same(self.count, other.count)
            || !same(self.bounds.0, other.bounds.0)
            || !same(self.bounds.1, other.bounds.1)
        {
            return false;
        }
        let most = self.heaviest() + other.heaviest();
        let mut probes = self.centroids.iter().chain(&other.centroids);
        probes.all(|(mean, _)| (self.rank(*mean) - other.rank(*mean)).abs() <= most)
    }
}

#[cfg(test)]
mod tests;
