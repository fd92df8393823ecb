use chrono::{DateTime, NaiveDate, SecondsFormat};
use proptest::prelude::*;

use super::*;

#[test]
fn every_day_of_four_centuries_and_the_edges() {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a day");
    let mut dates = Dates::default();
    let edges =
        [NaiveDate::from_ymd_opt(0, 1, 1), NaiveDate::from_ymd_opt(9999, 12, 31)].map(|day| day.expect("a day"));
    let centuries = NaiveDate::from_ymd_opt(1800, 1, 1)
        .expect("a day")
        .iter_days()
        .take(146_097);
    for day in centuries.chain(edges) {
        let expected = i32::try_from((day - epoch).num_days()).expect("small");
        assert_eq!(
            dates.whole(day.format("%Y-%m-%d").to_string().as_bytes()),
            Some(expected),
            "{day}"
        );
    }
}

#[test]
fn a_bad_date_is_not_remembered() {
    let mut dates = Dates::default();
    assert_eq!(dates.whole(b"2026-02-30"), None);
    assert_eq!(dates.whole(b"2026-02-30"), None);
    assert_eq!(dates.whole(b"1970-01-01"), Some(0));
    assert_eq!(Dates::default().whole(&[0; 10]), None);
}

#[test]
fn the_limits_are_what_they_say() {
    let micros = |text: &str| DateTime::parse_from_rfc3339(text).expect("a time").timestamp_micros();
    assert_eq!(MIN_MICROS, micros("0000-01-01T00:00:00Z"));
    assert_eq!(MAX_MICROS, micros("9999-12-31T23:59:59.999999Z"));
}

proptest! {
    #[test]
    fn agrees_with_chrono(seconds in -62_000_000_000_i64..253_000_000_000, nanos in 0_u32..1_000_000_000, offset in -1439_i32..1440) {
        let time = DateTime::from_timestamp(seconds, nanos).expect("in range");
        let zone = chrono::FixedOffset::east_opt(offset * 60).expect("in range");
        let mut dates = Dates::default();
        for format in [SecondsFormat::Secs, SecondsFormat::Millis, SecondsFormat::Micros, SecondsFormat::Nanos] {
            let text = time.with_timezone(&zone).to_rfc3339_opts(format, true);
            let expected = DateTime::parse_from_rfc3339(&text).expect("a time").timestamp_micros();
            prop_assert_eq!(dates.timestamp(text.as_bytes()), Some(expected), "{}", text);
        }
    }

    /// Whatever chrono refuses is refused.
    #[test]
    fn never_more_than_rfc_3339(text in "[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,9})?(Z|[+-][0-2][0-9]:[0-7][0-9])") {
        let ours = Dates::default().timestamp(text.as_bytes());
        let theirs = DateTime::parse_from_rfc3339(&text).ok();
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            // chrono counts the leap second into the second before it.
            let leap = if text.as_bytes().get(17) == Some(&b'6') { 1_000_000 } else { 0 };
            prop_assert!(ours == theirs.timestamp_micros() || ours == theirs.timestamp_micros() + leap, "{}", text);
        }
        if ours.is_some() {
            prop_assert!(theirs.is_some(), "{} is no time", text);
        }
    }

    #[test]
    fn random_text_never_panics(text in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = Dates::default().timestamp(&text);
        let _ = Dates::default().whole(&text);
    }
}
