use std::sync::Arc;

use anabranch_merge::Selection;
use anabranch_view::View;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as QueryResult};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Volatility};
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
        Self {
            sql: Some(sql),
            selection: Selection::filtered(Arc::new(filter)),
        }
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
