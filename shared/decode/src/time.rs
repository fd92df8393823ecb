//! Dates and times as text: `2026-01-31`, `2026-01-31T12:00:00.5+02:00`, `2026-01-31 12:00:00`.

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// 0000-01-01T00:00:00, in microseconds since the epoch: text cannot say an earlier year.
pub(crate) const MIN_MICROS: i64 = -719_528 * MICROS_PER_DAY;
/// 9999-12-31T23:59:59.999999. A later time is a mistake in the unit of an epoch number.
pub(crate) const MAX_MICROS: i64 = 2_932_897 * MICROS_PER_DAY - 1;

/// Reads dates, and remembers the last: most events are of the same day as the one before.
#[derive(Debug)]
pub(crate) struct Dates {
    /// `YYYY-MM-` and `DD`: compared as words, which is cheaper than a call for ten bytes.
    month: [u8; 8],
    day: [u8; 2],
    days: i32,
}

impl Default for Dates {
    fn default() -> Self {
        Self {
            month: *b"1970-01-",
            day: *b"01",
            days: 0,
        }
    }
}

impl Dates {
    /// `YYYY-MM-DD` as days since the epoch.
    #[inline(always)]
    pub fn read(&mut self, text: &[u8; 10]) -> Option<i32> {
        let [y1, y2, y3, y4, dash, m1, m2, dash2, d1, d2] = *text;
        let (month, day) = ([y1, y2, y3, y4, dash, m1, m2, dash2], [d1, d2]);
        if month != self.month || day != self.day {
            self.days = date(text)?;
            (self.month, self.day) = (month, day);
        }
        Some(self.days)
    }

    /// A date that is all of `text`.
    pub fn whole(&mut self, text: &[u8]) -> Option<i32> {
        self.read(text.try_into().ok()?)
    }

    /// RFC 3339, also with a space for the `T`, and without offset as UTC; in microseconds since the epoch. Digits below the
    /// microsecond are dropped. The leap second reads as the first second of the next minute.
    #[inline]
    pub fn timestamp(&mut self, text: &[u8]) -> Option<i64> {
        let days = self.read(text.first_chunk()?)?;
        let [b'T' | b't' | b' ', rest @ ..] = text.get(10..)? else {
            return None;
        };
        let (clock, rest) = rest.split_first_chunk::<8>()?;
        let seconds = clock_seconds(u64::from_le_bytes(*clock))?;
        let (fraction, rest) = fraction(rest)?;
        let offset = offset_seconds(rest)?;
        let micros =
            i64::from(days) * MICROS_PER_DAY + (i64::from(seconds) - i64::from(offset)) * MICROS_PER_SECOND + fraction;
        (MIN_MICROS..=MAX_MICROS).contains(&micros).then_some(micros)
    }
}

/// `HH:MM:SS`, the first letter in the lowest byte, as seconds of the day.
#[inline(always)]
fn clock_seconds(text: u64) -> Option<u32> {
    // Digits become 0 to 9 and separators 0; what was anything else stands out when the rest of the byte is filled up.
    let digits = text ^ u64::from_le_bytes(*b"00:00:00");
    let fill = u64::from_le_bytes([0x76, 0x76, 0x7f, 0x76, 0x76, 0x7f, 0x76, 0x76]);
    if (digits | digits.wrapping_add(fill)) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8).to_le_bytes();
    let (hours, minutes, seconds) = (u32::from(pairs[0]), u32::from(pairs[3]), u32::from(pairs[6]));
    (hours < 24 && minutes < 60 && (seconds < 60 || seconds == 60 && minutes == 59))
        .then_some(hours * 3600 + minutes * 60 + seconds)
}

/// An optional fraction of a second in microseconds, and what follows it.
#[inline(always)]
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', digits @ ..] = text else {
        return Some((0, text));
    };
    let mut micros = 0;
    let mut count = 0;
    while let Some(digit) = digits.get(count).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10) {
        if count < 6 {
            micros = micros * 10 + i64::from(digit);
        }
        count += 1;
    }
    const MISSING: [i64; 7] = [0, 100_000, 10_000, 1_000, 100, 10, 1];
    (count > 0).then(|| (micros * MISSING[count.min(6)], &digits[count..]))
}

/// `Z`, `+HH:MM`, `-HH:MM` or nothing, in seconds east of UTC.
#[inline(always)]
fn offset_seconds(text: &[u8]) -> Option<i32> {
    match text {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let pair = |tens: u8, ones: u8| {
                let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
                (tens < 10 && ones < 10).then(|| i32::from(tens * 10 + ones))
            };
            let (hours, minutes) = (pair(*h1, *h2)?, pair(*m1, *m2)?);
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// `YYYY-MM-DD` as days since the epoch, in the proleptic Gregorian calendar.
fn date(text: &[u8; 10]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    let number = |digits: &[u8]| {
        digits
            .iter()
            .try_fold(0_i32, |n, b| b.is_ascii_digit().then(|| n * 10 + i32::from(b - b'0')))
    };
    let year = number(&[*y1, *y2, *y3, *y4])?;
    let month = number(&[*m1, *m2])?;
    let day = number(&[*d1, *d2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    (1..=length).contains(&day).then(|| days_from_civil(year, month, day))
}

/// Howard Hinnant's algorithm, <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>.
fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests;
