use std::task::Poll;

use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::*;
use crate::query::session::template;

/// Joins that multiply: some thousand batches of one batch from each side.
const JOINS: [&str; 2] = [
    "SELECT count(*) FROM generate_series(1, 4000) a(x), generate_series(1, 4000) b(y)",
    "SELECT count(*) FROM generate_series(1, 4000) a(x) JOIN generate_series(1, 4000) b(y) ON x + y > 0",
];

async fn plan(sql: &str) -> (Arc<dyn ExecutionPlan>, Arc<datafusion::execution::TaskContext>) {
    let mut state = template();
    state.config_mut().options_mut().execution.target_partitions = 1;
    let logical = state.create_logical_plan(sql).await.unwrap();
    let physical = state.create_physical_plan(&logical).await.unwrap();
    (physical, state.task_ctx())
}

/// A query is dropped when its task is polled next: one that computes everything within one poll cannot be.
#[tokio::test]
async fn a_join_gives_way_before_it_has_computed_everything() {
    for sql in JOINS {
        let (physical, context) = plan(sql).await;
        let mut whole = execute_stream(Arc::clone(&physical), Arc::clone(&context)).unwrap();
        assert!(
            matches!(futures::poll!(whole.next()), Poll::Ready(_)),
            "DataFusion gives way by itself: {sql}"
        );
        let mut rows = execute_stream(cooperative(physical).unwrap(), context).unwrap();
        assert!(matches!(futures::poll!(rows.next()), Poll::Pending), "{sql}");
        let batch = rows.next().await.unwrap().unwrap();
        assert_eq!(batch.num_rows(), 1, "{sql}");
    }
}
