//! Numbers: whole ones and short fractions eight digits at a time, everything else exactly and slowly.

use crate::fault::{Fault, Reason, excerpt};
use crate::input::{HIGH_BITS, Input};

const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
/// Doubles hold whole numbers below this exactly.
const EXACT_DOUBLE: u64 = 1 << 53;

/// The digits that `word` begins with: how many, and their value.
#[inline(always)]
fn digit_run(word: u64) -> (usize, u64) {
    let digits = word ^ 0x3030_3030_3030_3030;
    // A byte is a digit iff it is below 10 now. Carries run into higher bytes only, beyond the first that is none.
    let others = (digits | digits.wrapping_add(0x7676_7676_7676_7676)) & HIGH_BITS;
    let count = others.trailing_zeros() / 8;
    if count == 0 {
        return (0, 0);
    }
    // The digits move to the top; the zeros below them read as leading zeros.
    let digits = digits << (64 - 8 * count);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    const LOW_PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let value = (pairs & LOW_PAIRS)
        .wrapping_mul(100 + (1_000_000 << 32))
        .wrapping_add(((pairs >> 16) & LOW_PAIRS).wrapping_mul(1 + (10_000 << 32)));
    (count as usize, value >> 32)
}

/// Up to 16 digits from `ahead` on: how many, and their value. `None` for more digits, and near the end of the buffer.
#[inline(always)]
fn digits(input: &Input<'_>, ahead: usize) -> Option<(usize, u64)> {
    let (count, value) = digit_run(input.word(ahead)?);
    if count < 8 {
        return Some((count, value));
    }
    let (more, low) = digit_run(input.word(ahead + 8)?);
    if more == 8 && input.peek_at(ahead + 16).is_ascii_digit() {
        return None;
    }
    Some((8 + more, value * POWERS[more] + low))
}

/// Consumes a whole number of at most 16 digits without fraction or exponent. `None`, and nothing consumed, for anything else.
#[inline(always)]
pub(crate) fn short_integer(input: &mut Input<'_>) -> Option<i64> {
    let negative = input.peek() == b'-';
    let sign = usize::from(negative);
    let (count, value) = digits(input, sign)?;
    let next = input.peek_at(sign + count);
    if count == 0 || matches!(next, b'.' | b'e' | b'E') || (count > 1 && input.peek_at(sign) == b'0') {
        return None;
    }
    input.at += sign + count;
    // 16 digits are far from the end of 64 bits.
    let value = value as i64;
    Some(if negative { -value } else { value })
}

/// Consumes a number that is short enough to be computed exactly in one division.
#[inline(always)]
fn short_double(input: &mut Input<'_>) -> Option<f64> {
    let negative = input.peek() == b'-';
    let sign = usize::from(negative);
    let (count, mut mantissa) = digits(input, sign)?;
    if count == 0 || (count > 1 && input.peek_at(sign) == b'0') {
        return None;
    }
    let mut end = sign + count;
    let mut scale = 1.0;
    if input.peek_at(end) == b'.' {
        let (places, fraction) = digit_run(input.word(end + 1)?);
        if places == 0 || places == 8 || count > 9 {
            return None;
        }
        mantissa = mantissa * POWERS[places] + fraction;
        scale = POWERS[places] as f64;
        end += 1 + places;
    }
    if mantissa >= EXACT_DOUBLE || matches!(input.peek_at(end), b'e' | b'E') {
        return None;
    }
    input.at += end;
    // Both sides are exact, so the quotient is rounded once: this is the nearest double (Clinger's fast path).
    let value = mantissa as f64 / scale;
    Some(if negative { -value } else { value })
}

/// Consumes a number, which must be next.
#[inline(always)]
pub(crate) fn double(input: &mut Input<'_>) -> Result<f64, Fault> {
    match short_double(input) {
        Some(value) => Ok(value),
        None => long_double(input),
    }
}

#[inline(never)]
fn long_double(input: &mut Input<'_>) -> Result<f64, Fault> {
    let start = input.at;
    input.skip_number()?;
    let text = input.since(start);
    match fast_float2::parse::<f64, _>(text) {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(Reason::wrong_type(
            "DOUBLE",
            format!("number {}, which is out of range", excerpt(text)),
        )),
    }
}

/// Why a decimal text has no exact value at some scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inexact {
    /// Digits other than 0 below the scale.
    Fraction,
    TooLarge,
    /// Not a number at all.
    NotANumber,
}

/// What happens to digits below the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Refuse,
    Truncate,
}

/// `text × 10^scale`, exactly. `text` is a decimal number: sign, digits, fraction and exponent, all optional but one digit.
/// Never goes through floating point.
pub(crate) fn scaled(text: &[u8], scale: i32, excess: Excess) -> Result<i128, Inexact> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(e) => (&unsigned[..e], exponent(&unsigned[e + 1..]).ok_or(Inexact::NotANumber)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
        Some(dot) => (&mantissa[..dot], &mantissa[dot + 1..]),
        None => (mantissa, &[][..]),
    };
    let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
    if !all_digits || whole.is_empty() || (fraction.is_empty() && whole.len() < mantissa.len()) {
        return Err(Inexact::NotANumber);
    }
    // Digits before this position count, digits behind it are below the scale.
    let whole_len = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let point = whole_len.saturating_add(exponent).saturating_add(i64::from(scale));
    let mut value: i128 = 0;
    let mut position = 0_i64;
    for digit in whole.iter().chain(fraction) {
        let digit = i128::from(digit - b'0');
        if position < point {
            value = value
                .checked_mul(10)
                .and_then(|v| v.checked_add(digit))
                .ok_or(Inexact::TooLarge)?;
        } else if digit != 0 && excess == Excess::Refuse {
            return Err(Inexact::Fraction);
        }
        position += 1;
    }
    if value != 0 {
        for _ in position..point.max(position) {
            // At most 38 rounds before this overflows.
            value = value.checked_mul(10).ok_or(Inexact::TooLarge)?;
        }
    }
    Ok(if negative { -value } else { value })
}

/// An exponent; one too large for 64 bits is as good as the largest.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Half of the range, so that adding a length to it cannot overflow before it saturates.
    const LARGEST: i64 = i64::MAX / 4;
    let value = digits
        .iter()
        .fold(0_i64, |v, d| v.saturating_mul(10).saturating_add(i64::from(d - b'0')))
        .min(LARGEST);
    Some(if negative { -value } else { value })
}

/// Consumes a number, which must be next, as a whole number from `min` to `max`; `5.0` and `1e3` are whole.
#[inline(always)]
pub(crate) fn integer(input: &mut Input<'_>, min: i64, max: i64, expected: &'static str) -> Result<i64, Fault> {
    let start = input.at;
    if let Some(value) = short_integer(input) {
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        input.at = start;
    }
    long_integer(input, min, max, expected)
}

#[inline(never)]
fn long_integer(input: &mut Input<'_>, min: i64, max: i64, expected: &'static str) -> Result<i64, Fault> {
    let start = input.at;
    input.skip_number()?;
    let text = input.since(start);
    let problem = match scaled(text, 0, Excess::Refuse) {
        Ok(value) => match i64::try_from(value) {
            Ok(value) if (min..=max).contains(&value) => return Ok(value),
            _ => "which is out of range",
        },
        Err(Inexact::Fraction) => "which is not whole",
        Err(Inexact::TooLarge | Inexact::NotANumber) => "which is out of range",
    };
    Err(Reason::wrong_type(
        expected,
        format!("number {}, {problem}", excerpt(text)),
    ))
}

#[cfg(test)]
mod tests;
