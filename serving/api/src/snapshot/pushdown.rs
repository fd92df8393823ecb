use std::sync::Arc;

use anabranch_merge::Selection;
use anabranch_view::View;
use arrow::array::StringArray;
use arrow::compute::kernels::regexp::regexp_is_match_scalar;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as QueryResult, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, Volatility};
use datafusion::sql::unparser::Unparser;
use datafusion::sql::unparser::dialect::Dialect;

/// The part of a query's filters that only concerns group keys, in the forms it is needed in. Groups outside of it
/// need not be merged; the filters are applied to the answer all the same.
#[derive(Clone, Default)]
pub(crate) struct Pushdown {
    /// SQL over the view's output columns, for the speed workers.
    pub(crate) sql: Option<String>,
    /// The same for batch state.
    pub(crate) selection: Selection,
    /// Of a filter that names one group of a view with one key.
    pub(crate) point: Option<Point>,
}

/// A key column and the value that it must have, as SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) column: String,
    pub(crate) value: String,
}

impl Point {
    fn of(view: &View, filter: &Expr) -> Option<Self> {
        let Expr::BinaryExpr(binary) = filter else {
            return None;
        };
        let (column, value) = match (binary.left.as_ref(), binary.right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
                (column, value)
            }
            _ => return None,
        };
        if view.key_count() != 1 || binary.op != Operator::Eq || value.is_null() {
            return None;
        }
        let sql = |expr: &Expr| Some(Unparser::new(&Quoted).expr_to_sql(expr).ok()?.to_string());
        Some(Self {
            column: sql(&Expr::Column(Column::new_unqualified(&column.name)))?,
            value: sql(&Expr::Literal(value.clone(), None))?,
        })
    }

    /// A filter that keeps the groups of all these points, which are of the same column.
    pub(crate) fn any_of(points: &[Self]) -> Option<String> {
        let values: Vec<&str> = points.iter().map(|point| point.value.as_str()).collect();
        let column = &points.first()?.column;
        Some(format!("({column} IN ({}))", values.join(", ")))
    }
}

impl Pushdown {
    /// Takes what can be pushed down out of `filters` (a conjunction).
    pub(crate) fn new(view: &View, filters: &[Expr]) -> Self {
        let conjuncts: Vec<&Expr> = filters
            .iter()
            .flat_map(split_conjunction)
            .filter(|filter| is_pushable(view, filter))
            .collect();
        let mut texts: Vec<(String, &Expr)> = conjuncts
            .into_iter()
            .filter_map(|filter| Some((to_sql(filter)?, filter)))
            .collect();
        let compile = |texts: &[(String, &Expr)]| {
            let sql = texts
                .iter()
                .map(|(text, _)| format!("({text})"))
                .collect::<Vec<_>>()
                .join(" AND ");
            view.key_filter(&sql).map(|filter| (sql, filter))
        };
        if texts.is_empty() {
            return Self::default();
        }
        // Whatever does not survive the way through SQL text stays with the query engine.
        let compiled = compile(&texts).or_else(|_| {
            texts.retain(|(text, _)| view.key_filter(text).is_ok());
            compile(&texts)
        });
        let Ok((sql, filter)) = compiled else {
            return Self::default();
        };
        let point = match texts.as_slice() {
            [(_, only)] => Point::of(view, only),
            _ => None,
        };
        Self {
            sql: Some(sql),
            selection: Selection::filtered(Arc::new(filter)),
            point,
        }
    }
}

/// Functions that have a value for every value.
const TOTAL: [&str; 17] = [
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "coalesce",
    "concat",
    "contains",
    "ends_with",
    "lower",
    "ltrim",
    "nullif",
    "octet_length",
    "reverse",
    "rtrim",
    "starts_with",
    "strpos",
    "upper",
];

/// Whether a filter can be decided by the group key alone, means the same wherever it is evaluated, and fails for no group: that one
/// fails is for the query engine to find and to tell, and a group that was left out would hide it.
pub(crate) fn is_pushable(view: &View, filter: &Expr) -> bool {
    let schema = view.output_schema();
    let mut columns = 0;
    let mut pushable = true;
    let visited = filter.apply(|expr| {
        pushable &= match expr {
            Expr::Column(column) => {
                columns += 1;
                view.output_keys().iter().any(|(name, _)| name == &column.name)
            }
            Expr::ScalarFunction(function) => {
                function.func.signature().volatility == Volatility::Immutable && TOTAL.contains(&function.name())
            }
            Expr::BinaryExpr(binary) => is_total(binary),
            Expr::Cast(cast) => type_of(&cast.expr, &schema).is_some_and(|from| widens(&from, cast.field.data_type())),
            Expr::Literal(..)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Between(_)
            | Expr::Like(_)
            | Expr::InList(_)
            | Expr::Case(_)
            | Expr::TryCast(_) => true,
            _ => false,
        };
        Ok(if pushable {
            TreeNodeRecursion::Continue
        } else {
            TreeNodeRecursion::Stop
        })
    });
    pushable && visited.is_ok() && columns > 0
}

/// Whether an operator has a value for all values. Arithmetic overflows and divides by zero.
fn is_total(binary: &BinaryExpr) -> bool {
    match binary.op {
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::And
        | Operator::Or
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom
        | Operator::LikeMatch
        | Operator::ILikeMatch
        | Operator::NotLikeMatch
        | Operator::NotILikeMatch
        | Operator::StringConcat => true,
        Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => {
            matches!(binary.right.as_ref(), Expr::Literal(pattern, _) if is_regex(pattern))
        }
        _ => false,
    }
}

fn is_regex(pattern: &ScalarValue) -> bool {
    let nothing = StringArray::from_iter_values([""]);
    let matches = |pattern| regexp_is_match_scalar(&nothing, pattern, None);
    pattern
        .try_as_str()
        .flatten()
        .is_some_and(|pattern| matches(pattern).is_ok())
}

fn type_of(expr: &Expr, schema: &Schema) -> Option<DataType> {
    match expr {
        Expr::Column(column) => Some(schema.field_with_name(&column.name).ok()?.data_type().clone()),
        Expr::Cast(cast) => Some(cast.field.data_type().clone()),
        Expr::TryCast(cast) => Some(cast.field.data_type().clone()),
        _ => None,
    }
}

/// Whether each value of one type is one of the other.
fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Float32, Float64, LargeUtf8, Timestamp, Utf8, Utf8View};
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(0);
    let is_text = |data_type: &DataType| matches!(data_type, Utf8 | Utf8View | LargeUtf8);
    match (from, to) {
        _ if from == to || (is_text(from) && is_text(to)) => true,
        (Float32, Float64) => true,
        (Boolean, to) => to.is_integer() || is_text(to),
        (from, to) if from.is_integer() && (to.is_floating() || is_text(to)) => true,
        (from, to) if from.is_signed_integer() && to.is_signed_integer() => width(from) <= width(to),
        (from, to) if from.is_unsigned_integer() && to.is_integer() => {
            width(from) < width(to) || (to.is_unsigned_integer() && width(from) == width(to))
        }
        (Timestamp(from, None), Timestamp(to, None)) => from >= to,
        _ => false,
    }
}

/// SQL text of a filter, over bare column names.
fn to_sql(filter: &Expr) -> Option<String> {
    let bare: QueryResult<Transformed<Expr>> = filter.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(column) if column.relation.is_some() => {
                Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    });
    let written = Unparser::new(&Quoted).expr_to_sql(&bare.ok()?.data);
    written.ok().map(|sql| sql.to_string())
}

/// Every name in quotes. The default dialect asks a regular expression whether a name needs any, and compiles it anew for each
/// name: more work than the rest of a point query's filter.
struct Quoted;

impl Dialect for Quoted {
    fn identifier_quote_style(&self, _: &str) -> Option<char> {
        Some('"')
    }
}

#[cfg(test)]
mod tests;
