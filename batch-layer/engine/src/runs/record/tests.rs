use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn run_ids_sort_by_time_and_are_recognised() {
    let earlier = new_run_id(at("2026-01-31T23:59:59Z"), &Environment::default());
    let later = new_run_id(at("2026-02-01T00:00:00Z"), &Environment::default());
    assert!(earlier.starts_with("20260131T235959Z-"), "{earlier}");
    assert!(earlier < later);
    assert_ne!(new_run_id(at("2026-02-01T00:00:00Z"), &Environment::default()), later);
    assert!(later < new_run_id(at("2026-02-01T00:00:00.001Z"), &Environment::default()));
    assert!(
        new_run_id(at("2026-02-01T00:00:00.099Z"), &Environment::default())
            < new_run_id(at("2026-02-01T00:00:00.101Z"), &Environment::default())
    );
    assert!(is_run_id(&earlier));
    for bad in ["", "..", "a/b", "run.json", "ä", &"x".repeat(65)] {
        assert!(!is_run_id(bad), "{bad}");
    }
}

#[test]
fn eta_follows_the_pace_so_far() {
    let run = LiveRun::new(
        Trigger::Request,
        Task::Run,
        at("2026-01-01T00:00:00Z"),
        &Environment::default(),
    );
    let mut record = run.record();
    let now = at("2026-01-01T00:00:20Z");
    assert_eq!(eta_seconds(&record, now), None, "queued");
    record.state = RunState::Running;
    record.started_at = Some("2026-01-01T00:00:10Z".into());
    record.progress.rows_total = 1000;
    assert_eq!(eta_seconds(&record, now), None, "nothing folded yet");
    record.progress.rows_done = 250;
    assert_eq!(eta_seconds(&record, now), Some(30.0));
    record.progress.rows_done = 1000;
    assert_eq!(eta_seconds(&record, now), Some(0.0));
    assert_eq!(to_json(&record, now)["progress"]["eta_seconds"], 0.0);
    record.state = RunState::Published;
    assert!(to_json(&record, now)["progress"]["eta_seconds"].is_null());
}

#[test]
fn progress_comes_from_the_counters() {
    let run = LiveRun::new(
        Trigger::Schedule,
        Task::Run,
        at("2026-01-01T00:00:00Z"),
        &Environment::default(),
    );
    run.folded_bytes.fetch_add(77, Ordering::Relaxed);
    run.timed("fold", Duration::from_millis(3));
    run.timed("fold", Duration::from_millis(4));
    let record = run.update(|record| record.progress.bytes_total = 100);
    assert_eq!((record.progress.bytes_done, record.progress.bytes_total), (77, 100));
    assert_eq!(record.timings_ms["fold"], 7);
    assert_eq!(record.trigger, "schedule");
}
