use std::collections::HashMap;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, TryCast};

/// Types of the parameters of a plan (`$1` and so on), as far as the plan tells: by what they are compared with or cast to,
/// and for arrays by what is looked for in them (`x = ANY($1)`).
///
/// # Errors
/// When one parameter is used as two types.
pub fn parameter_types(plan: &LogicalPlan) -> Result<HashMap<String, Option<DataType>>> {
    let mut types = plan.get_parameter_types()?;
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Some((name, kind)) = told(expr, &schema)
                    && let Some(known @ None) = types.get_mut(name)
                {
                    *known = Some(kind);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(types)
}

/// The parameter that an expression tells the type of, where DataFusion does not look for it.
fn told<'e>(expr: &'e Expr, schema: &DFSchema) -> Option<(&'e str, DataType)> {
    match expr {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            Some((parameter(expr)?, field.data_type().clone()))
        }
        Expr::ScalarFunction(function) if matches!(function.name(), "array_has" | "array_position") => {
            let [array, item, ..] = function.args.as_slice() else {
                return None;
            };
            match (parameter(array), parameter(item)) {
                (Some(array), None) => Some((array, list_of(item, schema)?)),
                (None, Some(item)) => match array.get_type(schema).ok()? {
                    DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
                        Some((item, field.data_type().clone()))
                    }
                    _ => None,
                },
                _ => None,
            }
        }
        // `x > ANY($1)` compares with the least or the greatest of the array.
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => match (bound(left), bound(right)) {
            (Some(array), None) => Some((array, list_of(right, schema)?)),
            (None, Some(array)) => Some((array, list_of(left, schema)?)),
            _ => None,
        },
        _ => None,
    }
}

fn parameter(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Placeholder(placeholder) => Some(&placeholder.id),
        _ => None,
    }
}

/// The parameter of which the least or the greatest element is taken.
fn bound(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::ScalarFunction(function) if matches!(function.name(), "array_min" | "array_max") => {
            parameter(function.args.first()?)
        }
        _ => None,
    }
}

/// Arrays of what `item` is.
fn list_of(item: &Expr, schema: &DFSchema) -> Option<DataType> {
    match item.get_type(schema).ok()? {
        DataType::Null => None,
        kind => Some(DataType::new_list(kind, true)),
    }
}

#[cfg(test)]
mod tests;
