use anabranch_model::ErrorKind;

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The next `n` moments after `start`.
fn moments(schedule: &Schedule, start: &str, n: usize) -> Vec<String> {
    let mut at = utc(start);
    (0..n)
        .map(|_| {
            at = schedule.next_after(at).unwrap();
            at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        })
        .collect()
}

#[test]
fn five_fields_begin_with_the_minute() {
    let schedule = Schedule::parse("*/15 * * * *", "UTC").unwrap();
    assert_eq!(
        moments(&schedule, "2026-03-01T10:07:31Z", 2),
        ["2026-03-01T10:15:00Z", "2026-03-01T10:30:00Z"]
    );
}

#[test]
fn six_fields_begin_with_the_second() {
    let schedule = Schedule::parse("*/20 * * * * *", "UTC").unwrap();
    assert_eq!(
        moments(&schedule, "2026-03-01T10:00:00Z", 3),
        ["2026-03-01T10:00:20Z", "2026-03-01T10:00:40Z", "2026-03-01T10:01:00Z"]
    );
}

#[test]
fn the_moment_itself_is_past() {
    let schedule = Schedule::parse("0 12 * * *", "UTC").unwrap();
    assert_eq!(moments(&schedule, "2026-03-01T12:00:00Z", 1), ["2026-03-02T12:00:00Z"]);
    assert_eq!(
        moments(&schedule, "2026-03-01T11:59:59.999Z", 1),
        ["2026-03-01T12:00:00Z"]
    );
}

#[test]
fn a_daily_time_follows_the_time_zone_across_both_changes() {
    let schedule = Schedule::parse("30 6 * * *", "Europe/Berlin").unwrap();
    // Clocks go forward on 2026-03-29 and back on 2026-10-25.
    assert_eq!(
        moments(&schedule, "2026-03-27T12:00:00Z", 3),
        ["2026-03-28T05:30:00Z", "2026-03-29T04:30:00Z", "2026-03-30T04:30:00Z"]
    );
    assert_eq!(
        moments(&schedule, "2026-10-23T12:00:00Z", 3),
        ["2026-10-24T04:30:00Z", "2026-10-25T05:30:00Z", "2026-10-26T05:30:00Z"]
    );
}

#[test]
fn a_time_inside_the_gap_fires_once_right_after_it() {
    let schedule = Schedule::parse("30 2 * * *", "Europe/Berlin").unwrap();
    assert_eq!(
        moments(&schedule, "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
}

#[test]
fn a_time_in_the_repeated_hour_fires_once() {
    let schedule = Schedule::parse("30 2 * * *", "Europe/Berlin").unwrap();
    assert_eq!(
        moments(&schedule, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
}

#[test]
fn steps_keep_their_pace_through_the_repeated_hour() {
    let schedule = Schedule::parse("*/30 * * * *", "Europe/Berlin").unwrap();
    let all = moments(&schedule, "2026-10-24T23:30:00Z", 6);
    let expected =
        ["00:00:00", "00:30:00", "01:00:00", "01:30:00", "02:00:00", "02:30:00"].map(|t| format!("2026-10-25T{t}Z"));
    assert_eq!(all, expected);
}

#[test]
fn what_is_wrong_is_named() {
    let error = Schedule::parse("every hour", "UTC").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("batch.schedule"), "{error}");
    let error = Schedule::parse("0 * * * *", "Mars/Olympus").unwrap_err();
    assert!(
        error.to_string().contains("batch.time_zone") && error.to_string().contains("Mars/Olympus"),
        "{error}"
    );
}

#[test]
fn a_pattern_that_never_matches_has_no_next() {
    let schedule = Schedule::parse("0 0 31 2 *", "UTC").unwrap();
    assert_eq!(schedule.next_after(utc("2026-01-01T00:00:00Z")), None);
}
