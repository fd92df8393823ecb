//! Values of settings, read from how people write them.

use std::time::Duration;

use anabranch_model::TopicOffsets;

use super::bad_value;
use crate::PgError;

/// `wikipedia/0=1200, wikipedia/1=50`, or the same as JSON: the `through` of an ingest answer.
pub(super) fn offsets(name: &str, text: &str) -> Result<TopicOffsets, PgError> {
    let bad = || {
        bad_value(
            name,
            text,
            "write topic/partition=offset, …, or the \"through\" of an ingest answer",
        )
    };
    let text_trimmed = text.trim();
    if text_trimmed.is_empty() {
        return Ok(TopicOffsets::default());
    }
    if text_trimmed.starts_with('{') {
        return serde_json::from_str(text_trimmed).map_err(|_| bad());
    }
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once('=')?;
        Some((partition.trim().to_owned(), offset.trim().parse().ok()?))
    };
    text_trimmed.split(',').map(|part| pair(part).ok_or_else(bad)).collect()
}

/// A number of milliseconds, or one with a unit; `None` for 0, which means no limit.
pub(super) fn duration(name: &str, text: &str) -> Result<Option<Duration>, PgError> {
    let bad = || bad_value(name, text, "write milliseconds, or a number with us, ms, s, min or h");
    let text_trimmed = text.trim();
    let digits = text_trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text_trimmed.len());
    let (number, unit) = text_trimmed.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let milliseconds = match unit.trim() {
        "" | "ms" => number,
        "us" => number / 1e3,
        "s" => number * 1e3,
        "min" => number * 60e3,
        "h" => number * 3600e3,
        _ => return Err(bad()),
    };
    let duration = Duration::try_from_secs_f64(milliseconds / 1e3).map_err(|_| bad())?;
    Ok((!duration.is_zero()).then_some(duration))
}
