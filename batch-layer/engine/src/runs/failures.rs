use anabranch_dataset::{RunKind, RunRecord, RunState};

use super::record::is_under_way;

/// Runs that failed since one ended well.
const IN_A_ROW: &str = "anabranch_batch_failed_in_a_row";

/// Counts them anew from all records, newest first.
pub(crate) fn count(records: &[RunRecord]) {
    metrics::gauge!(IN_A_ROW).set(in_a_row(records) as f64);
}

/// Counts a run that has ended among the failures, or ends their row.
pub(crate) fn note_end(record: &RunRecord) {
    if record.kind != RunKind::Run {
        return;
    }
    match record.state {
        RunState::Failed => metrics::gauge!(IN_A_ROW).increment(1.0),
        _ => metrics::gauge!(IN_A_ROW).set(0.0),
    }
}

/// Whoever leads instead counts the failures.
pub(crate) fn forget() {
    metrics::gauge!(IN_A_ROW).set(0.0);
}

fn in_a_row(records: &[RunRecord]) -> usize {
    records
        .iter()
        .filter(|record| record.kind == RunKind::Run && !is_under_way(record))
        .take_while(|record| record.state == RunState::Failed)
        .count()
}

#[cfg(test)]
mod tests;
