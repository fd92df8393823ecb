use std::sync::Arc;

use anabranch_merge::{Bound, Comparison, Selection};
use anabranch_view::View;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as QueryResult, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator, Volatility};
use datafusion::sql::unparser::expr_to_sql;

/// The part of a query's filters that only concerns group keys, in the three forms it is needed in. Groups outside of it
/// need not be merged; the filters are applied to the answer all the same.
#[derive(Clone, Default)]
pub(crate) struct Pushdown {
    /// SQL over the view's output columns, for the speed workers.
    pub(crate) sql: Option<String>,
    /// The same for batch state.
    pub(crate) selection: Selection,
    /// Whether the first key column is fixed.
    narrow: bool,
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
        let bounds: Vec<Bound> = texts.iter().filter_map(|(_, filter)| bound(view, filter)).collect();
        let narrow = bounds
            .iter()
            .any(|bound| bound.key == 0 && bound.comparison == Comparison::Eq);
        Self {
            sql: Some(sql),
            narrow,
            selection: Selection::filtered(Arc::new(filter), bounds),
        }
    }

    /// Whether a binary search narrows the batch state down to a small part.
    pub(crate) fn is_narrow(&self) -> bool {
        self.narrow
    }
}

/// Whether a filter can be decided by the group key alone, and means the same wherever it is evaluated.
pub(crate) fn is_pushable(view: &View, filter: &Expr) -> bool {
    let mut columns = 0;
    let mut pushable = true;
    let visited = filter.apply(|expr| {
        pushable &= match expr {
            Expr::Column(column) => {
                columns += 1;
                view.output_keys().iter().any(|(name, _)| name == &column.name)
            }
            Expr::ScalarFunction(function) => function.func.signature().volatility == Volatility::Immutable,
            Expr::Literal(..)
            | Expr::BinaryExpr(_)
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
            | Expr::SimilarTo(_)
            | Expr::InList(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::Negative(_) => true,
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
    expr_to_sql(&bare.ok()?.data).ok().map(|sql| sql.to_string())
}

/// Reads `key = literal` and the like, either way around.
fn bound(view: &View, filter: &Expr) -> Option<Bound> {
    let Expr::BinaryExpr(binary) = filter else { return None };
    let (column, operator, literal) = match (binary.left.as_ref(), binary.right.as_ref()) {
        (Expr::Column(column), Expr::Literal(literal, _)) => (column, binary.op, literal),
        (Expr::Literal(literal, _), Expr::Column(column)) => (column, binary.op.swap()?, literal),
        _ => return None,
    };
    let comparison = match operator {
        Operator::Eq => Comparison::Eq,
        Operator::Gt => Comparison::Gt,
        Operator::GtEq => Comparison::GtEq,
        Operator::Lt => Comparison::Lt,
        Operator::LtEq => Comparison::LtEq,
        _ => return None,
    };
    let (_, key) = view.output_keys().iter().find(|(name, _)| name == &column.name)?;
    value(literal, view.state_schema().field(*key).data_type()).map(|value| Bound {
        key: *key,
        comparison,
        value,
    })
}

fn value(literal: &ScalarValue, data_type: &arrow::datatypes::DataType) -> Option<arrow::array::ArrayRef> {
    if literal.is_null() || &literal.data_type() != data_type {
        return None;
    }
    literal.to_array().ok()
}
