use super::*;

#[test]
fn failures_count_from_the_last_run_that_ended_well() {
    let record = |kind, state| RunRecord {
        kind,
        state,
        ..RunRecord::default()
    };
    let run = |state| record(RunKind::Run, state);
    assert_eq!(in_a_row(&[]), 0);
    // What is under way, and what is no run, says nothing of runs.
    let newest_first = [
        run(RunState::Running),
        run(RunState::Failed),
        record(RunKind::Verify, RunState::Compared),
        run(RunState::Failed),
        run(RunState::Held),
        run(RunState::Failed),
    ];
    assert_eq!(in_a_row(&newest_first), 2);
    assert_eq!(in_a_row(&[run(RunState::Published), run(RunState::Failed)]), 0);
}
