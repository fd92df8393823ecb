//! The binary format of `numeric`: digits to the base 10,000 (PostgreSQL's source, `numeric_send`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

const NEGATIVE: u16 = 0x4000;

/// Writes a number that is spelled in decimal digits, such as `-12.50`.
pub(super) fn write_numeric(text: &str, out: &mut BytesMut) {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    // Groups of four digits to both sides of the point.
    let mut groups: Vec<i16> = Vec::with_capacity(whole.len() / 4 + fraction.len() / 4 + 2);
    let first = whole.len() % 4;
    let (head, tail) = whole.split_at(first);
    if first > 0 {
        groups.push(group(head, 0));
    }
    groups.extend(tail.as_bytes().chunks(4).map(|digits| group_of(digits, 0)));
    let mut weight = i16::try_from(groups.len()).unwrap_or(i16::MAX) - 1;
    groups.extend(
        fraction
            .as_bytes()
            .chunks(4)
            .map(|digits| group_of(digits, 4 - digits.len())),
    );
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..zeros);
    weight -= i16::try_from(zeros).unwrap_or(i16::MAX);
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.put_i16(i16::try_from(groups.len()).unwrap_or(i16::MAX));
    out.put_i16(weight);
    out.put_u16(if negative && !groups.is_empty() { NEGATIVE } else { 0 });
    out.put_i16(i16::try_from(fraction.len()).unwrap_or(i16::MAX));
    groups.iter().for_each(|group| out.put_i16(*group));
}

fn group(digits: &str, padding: usize) -> i16 {
    group_of(digits.as_bytes(), padding)
}

/// Up to four digits as a number; `padding` zeros follow.
fn group_of(digits: &[u8], padding: usize) -> i16 {
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + i16::from(digit - b'0'));
    value * 10_i16.pow(padding as u32)
}

/// Reads a number as decimal digits; `None` when it is not finite or not in the format.
pub(crate) fn read_numeric(mut bytes: Bytes) -> Option<String> {
    if bytes.len() < 8 {
        return None;
    }
    let count = usize::try_from(bytes.get_i16()).ok()?;
    let weight = i32::from(bytes.get_i16());
    let sign = bytes.get_u16();
    let scale = usize::try_from(bytes.get_i16()).ok()?;
    // More digits than any decimal of ours can have would only cost memory.
    if !matches!(sign, 0 | NEGATIVE) || bytes.len() != count * 2 || count > 64 || weight.abs() > 64 || scale > 256 {
        return None;
    }
    let groups: Vec<i16> = (0..count).map(|_| bytes.get_i16()).collect();
    if groups.iter().any(|group| !(0..10_000).contains(group)) {
        return None;
    }
    let digits = |place: i32| {
        let index = usize::try_from(weight - place).ok();
        index.and_then(|index| groups.get(index)).copied().unwrap_or(0)
    };
    let mut text = String::new();
    if sign == NEGATIVE {
        text.push('-');
    }
    let whole: String = (0..=weight.max(0))
        .rev()
        .map(|place| format!("{:04}", digits(place)))
        .collect();
    let trimmed = whole.trim_start_matches('0');
    text.push_str(if trimmed.is_empty() { "0" } else { trimmed });
    if scale > 0 {
        let places = i32::try_from(scale.div_ceil(4)).ok()?;
        let mut fraction: String = (1..=places).map(|place| format!("{:04}", digits(-place))).collect();
        fraction.truncate(scale);
        text.push('.');
        text.push_str(&fraction);
    }
    Some(text)
}
