use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::{DFSchema, Result, exec_err};
use datafusion::logical_expr::{Expr, col, lit};
use datafusion::physical_expr::expressions::Literal;
use proptest::prelude::*;

use super::guard::isolate;
use super::{ColumnsBy, NullCounter, Scope, canonical};
use crate::sql::session;

/// Fails for a range that holds a negative number.
fn refuse_negative(values: &[i64]) -> impl Fn(&Range<usize>) -> Result<ArrayRef> {
    move |range| {
        if values[range.clone()].iter().any(|v| *v < 0) {
            return exec_err!("negative");
        }
        Ok(Arc::new(Int64Array::from_iter_values(
            values[range.clone()].iter().copied(),
        )))
    }
}

proptest! {
    #[test]
    fn isolation_nulls_exactly_the_rows_that_fail(values in proptest::collection::vec(-2_i64..10, 0..70)) {
        let nulled = NullCounter::default();
        let isolated = isolate(values.len(), &DataType::Int64, &nulled, refuse_negative(&values)).unwrap();
        let expected: Vec<Option<i64>> = values.iter().map(|v| (*v >= 0).then_some(*v)).collect();
        prop_assert_eq!(isolated.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), expected.clone());
        prop_assert_eq!(nulled.get(), expected.iter().filter(|v| v.is_none()).count() as u64);
    }
}

fn numbers() -> (DFSchema, RecordBatch) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(7), None, Some(-8)])),
            Arc::new(Int64Array::from(vec![Some(1), Some(0), Some(0), Some(2)])),
            Arc::new(StringArray::from(vec![Some("1"), Some("one"), None, Some("-2")])),
        ],
    )
    .unwrap();
    (DFSchema::try_from(schema).unwrap(), batch)
}

/// The values of an expression and how many of them were lost.
fn evaluate(expr: Expr) -> (Vec<Option<i64>>, u64) {
    let (schema, batch) = numbers();
    let nulled = NullCounter::default();
    let scope = Scope::new(schema, session(), nulled.clone());
    let expr = scope
        .compile(&crate::sql::coerce(expr, scope.df_schema()).unwrap())
        .unwrap();
    nulled.reset();
    let values = expr.evaluate(&batch).unwrap().into_array(batch.num_rows()).unwrap();
    (values.as_primitive::<Int64Type>().iter().collect(), nulled.get())
}

#[test]
fn arithmetic_gives_null_where_the_result_does_not_fit() {
    assert_eq!(evaluate(col("a") + col("b")), (vec![None, Some(7), None, Some(-6)], 1));
    assert_eq!(
        evaluate(col("a") + lit(0_i64)),
        (vec![Some(i64::MAX), Some(7), None, Some(-8)], 0)
    );
    assert_eq!(
        evaluate(col("a") * lit(2_i64)),
        (vec![None, Some(14), None, Some(-16)], 1)
    );
    assert_eq!(
        evaluate(lit(-2_i64) - col("a")),
        (vec![None, Some(-9), None, Some(6)], 1)
    );
    assert_eq!(
        evaluate(-(lit(i64::MIN) + col("b") - col("b"))),
        (vec![None, None, None, None], 4)
    );
}

#[test]
fn division_by_zero_gives_null_once_per_row_that_had_a_dividend() {
    assert_eq!(
        evaluate(col("a") / col("b")),
        (vec![Some(i64::MAX), None, None, Some(-4)], 1)
    );
    assert_eq!(evaluate(col("a") % col("b")), (vec![Some(0), None, None, Some(0)], 1));
    assert_eq!(evaluate(col("a") / lit(0_i64)), (vec![None; 4], 3));
    assert_eq!(evaluate(lit(6_i64) / col("b")), (vec![Some(6), None, None, Some(3)], 2));
}

#[test]
fn casts_give_null_for_what_does_not_cast() {
    let cast = Expr::Cast(datafusion::logical_expr::Cast::new(Box::new(col("s")), DataType::Int64));
    assert_eq!(evaluate(cast), (vec![Some(1), None, None, Some(-2)], 1));
}

#[test]
fn constants_are_computed_once() {
    let (schema, _) = numbers();
    let scope = Scope::new(schema, session(), NullCounter::default());
    let expr = scope.compile(&(lit(2_i64) * lit(3_i64) + lit(1_i64))).unwrap();
    assert_eq!(expr.downcast_ref::<Literal>().unwrap().value(), &7_i64.into());
}

#[test]
fn canonical_texts_tell_types_of_literals_apart() {
    let (schema, _) = numbers();
    let scope = Scope::new(schema, session(), NullCounter::default());
    let text = |expr: Expr| canonical(&scope.compile(&expr).unwrap(), scope.arrow_schema(), ColumnsBy::Name).unwrap();
    assert_ne!(text(lit("1")), text(lit(1_i64)));
    assert_ne!(text(lit(1_i32)), text(lit(1_i64)));
    assert_ne!(text(col("a")), text(col("b")));
    assert_eq!(text(col("a") + lit(1_i64)), text(col("a") + lit(1_i64)));
}
