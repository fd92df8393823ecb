//! Joins that let go of their thread. DataFusion makes sources give way now and then; a join turns one batch of its source
//! into thousands without asking it again, and until it gives way a query that nobody wants any more cannot be dropped.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// The same plan, whose joins count what they give against the budget of their task.
///
/// # Errors
/// When a node cannot be put above other inputs.
pub(crate) fn cooperative(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        Ok(match node.name().ends_with("JoinExec") {
            true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>),
            false => Transformed::no(node),
        })
    })?;
    Ok(plan.data)
}

#[cfg(test)]
mod tests;
