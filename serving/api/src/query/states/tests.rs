use super::*;
use crate::query::session::template;

/// Something that a query keeps in its session.
struct Held;

#[test]
fn the_next_query_finds_nothing_of_the_one_before() {
    let states = States::new(&template(), 4);
    let held = Arc::new(Held);
    let first = {
        let mut state = states.lend(true);
        state.config_mut().set_extension(Arc::clone(&held));
        state.config_mut().options_mut().optimizer.skip_failed_rules = true;
        state.register_catalog_list(Arc::new(MemoryCatalogProviderList::new()));
        assert_eq!(state.config().target_partitions(), 4);
        state.execution_props().query_execution_start_time
    };
    assert_eq!(Arc::strong_count(&held), 1, "nothing is kept longer than its query");
    let state = states.lend(true);
    assert!(states.parallel.spare.lock().is_empty(), "it is the same session");
    assert!(state.config().get_extension::<Held>().is_none());
    assert!(!state.config().options().optimizer.skip_failed_rules);
    assert_eq!(state.config().target_partitions(), 4);
    assert!(Arc::ptr_eq(state.catalog_list(), &states.parallel.nothing));
    assert!(
        state.execution_props().query_execution_start_time > first,
        "it is later now"
    );
    assert_eq!(states.lend(false).config().target_partitions(), 1);
    assert!(state.scalar_functions().contains_key("upper"));
}

#[test]
fn queries_at_the_same_time_have_sessions_of_their_own() {
    let states = States::new(&template(), 2);
    let many: Vec<_> = (0..2 * MOST_SPARE).map(|_| states.lend(false)).collect();
    assert!(states.serial.spare.lock().is_empty());
    drop(many);
    assert_eq!(states.serial.spare.lock().len(), MOST_SPARE, "some are kept, not all");
}
