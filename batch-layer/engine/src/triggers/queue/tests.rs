use super::*;

#[test]
fn an_idle_service_starts_whatever_is_asked_for() {
    for trigger in [
        Trigger::Request,
        Trigger::Schedule,
        Trigger::Definition,
        Trigger::StateBudget,
        Trigger::Exclusions,
    ] {
        assert_eq!(decide(trigger, None, None), Decision::Queue, "{trigger}");
    }
}

#[test]
fn what_a_running_run_may_have_missed_is_queued_and_the_next_one_joins_it() {
    for trigger in [Trigger::Request, Trigger::Exclusions] {
        assert_eq!(decide(trigger, Some("r1"), None), Decision::Queue, "{trigger}");
        for running in [Some("r1"), None] {
            assert_eq!(
                decide(trigger, running, Some("r2")),
                Decision::Join("r2".into()),
                "{trigger}"
            );
        }
    }
}

#[test]
fn the_schedule_and_the_state_budget_never_overlap_a_run() {
    for trigger in [Trigger::Schedule, Trigger::StateBudget] {
        assert_eq!(
            decide(trigger, Some("r1"), None),
            Decision::Skip { because: "r1".into() },
            "{trigger}"
        );
        assert_eq!(
            decide(trigger, Some("r1"), Some("r2")),
            Decision::Skip { because: "r1".into() },
            "{trigger}"
        );
        assert_eq!(
            decide(trigger, None, Some("r2")),
            Decision::Skip { because: "r2".into() },
            "{trigger}"
        );
    }
}

#[test]
fn a_changed_definition_is_served_by_any_run_of_this_process() {
    assert_eq!(
        decide(Trigger::Definition, Some("r1"), None),
        Decision::Join("r1".into())
    );
    assert_eq!(
        decide(Trigger::Definition, Some("r1"), Some("r2")),
        Decision::Join("r2".into())
    );
}
