//! Intervals as PostgreSQL spells them.

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Months, days and microseconds of an interval: `1 year 2 mons -3 days 04:05:06.5`. `None` where it is spelled otherwise.
pub(super) fn interval(text: &str) -> Option<(i32, i32, i64)> {
    let (mut months, mut days, mut micros) = (0_i32, 0_i32, 0_i64);
    let mut words = text.split_ascii_whitespace().peekable();
    words.peek()?;
    while let Some(word) = words.next() {
        if word.contains(':') {
            micros = micros.checked_add(clock(word)?)?;
            continue;
        }
        // `3days` is three days too.
        let end = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (count, unit) = match word.split_at(end) {
            (count, "") => (count, words.next()?),
            parts => parts,
        };
        let unit = unit.to_ascii_lowercase();
        let singular = match unit.as_str() {
            "ms" | "us" => unit.as_str(),
            unit => unit.strip_suffix('s').filter(|unit| !unit.is_empty()).unwrap_or(unit),
        };
        let per = match singular {
            "microsecond" | "us" | "usec" => 1,
            "millisecond" | "ms" | "msec" => 1_000,
            "second" | "sec" | "s" => MICROS_PER_SECOND,
            "minute" | "min" | "m" => 60 * MICROS_PER_SECOND,
            "hour" | "hr" | "h" => 3_600 * MICROS_PER_SECOND,
            "day" | "d" => {
                days = days.checked_add(count.parse().ok()?)?;
                continue;
            }
            "week" | "w" => {
                days = days.checked_add(count.parse::<i32>().ok()?.checked_mul(7)?)?;
                continue;
            }
            "month" | "mon" => {
                months = months.checked_add(count.parse().ok()?)?;
                continue;
            }
            "year" | "yr" | "y" => {
                months = months.checked_add(count.parse::<i32>().ok()?.checked_mul(12)?)?;
                continue;
            }
            _ => return None,
        };
        micros = micros.checked_add(scaled(count, per)?)?;
    }
    Some((months, days, micros))
}

/// `[-]hours:minutes[:seconds[.fraction]]` in microseconds.
fn clock(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.split(':');
    let hours = scaled(digits(parts.next()?)?, 3_600 * MICROS_PER_SECOND)?;
    let minutes = scaled(digits(parts.next()?)?, 60 * MICROS_PER_SECOND)?;
    let seconds = match parts.next() {
        Some(seconds) if !seconds.starts_with(['-', '+']) => scaled(seconds, MICROS_PER_SECOND)?,
        Some(_) => return None,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    hours.checked_add(minutes)?.checked_add(seconds)?.checked_mul(sign)
}

fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)
}

/// A number with up to six digits behind its point, times `per`.
fn scaled(count: &str, per: i64) -> Option<i64> {
    let (whole, fraction) = count.split_once('.').unwrap_or((count, ""));
    let negative = whole.starts_with('-');
    let whole: i64 = match whole {
        "" | "-" | "+" => 0,
        digits => digits.parse().ok()?,
    };
    digits(fraction)?;
    let fraction = format!("{:0<6.6}", fraction).parse::<i64>().ok()?;
    let part = i64::try_from(i128::from(fraction) * i128::from(per) / 1_000_000).ok()?;
    let part = if negative { -part } else { part };
    whole.checked_mul(per)?.checked_add(part)
}
