//! String literals: copied while they are searched, unescaped only where they must be.

use crate::fault::{Fault, Reason};
use crate::input::{Input, Quoted, specials};

/// Appends the string literal whose opening quote is next to `out`. On a fault, `out` keeps what was written.
#[inline(always)]
pub(crate) fn append_text(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let opening = input.at;
    input.at += 1;
    // Eight bytes are stored before it is known how many belong to the string: a fixed-size copy needs no call.
    while let Some(word) = input.word(0) {
        out.extend_from_slice(&word.to_le_bytes());
        let special = specials(word);
        if special == 0 {
            input.at += 8;
            continue;
        }
        let plain = (special.trailing_zeros() / 8) as usize;
        out.truncate(out.len() - 8 + plain);
        input.at += plain;
        if input.peek() == b'"' {
            input.at += 1;
            return Ok(());
        }
        break;
    }
    let written = input.at - opening - 1;
    out.truncate(out.len() - written);
    input.at = opening;
    append_text_slowly(input, out)
}

/// The same for strings with escapes, and near the end of the buffer.
#[inline(never)]
fn append_text_slowly(input: &mut Input<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let opening = input.at;
    let quoted = input.quoted()?;
    if quoted.escaped {
        unescape(quoted.bytes, out).map_err(|at| Reason::malformed(opening + 1 + at, LONE_SURROGATE))
    } else {
        out.extend_from_slice(quoted.bytes);
        Ok(())
    }
}

const LONE_SURROGATE: &str = "half of a surrogate pair cannot stand alone in text";

/// The text of a literal; `scratch` holds it if it had escapes.
#[inline(always)]
pub(crate) fn unescaped<'s>(quoted: Quoted<'s>, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Fault> {
    if quoted.escaped {
        unescaped_into(quoted.bytes, scratch)
    } else {
        Ok(quoted.bytes)
    }
}

#[cold]
fn unescaped_into<'s>(literal: &[u8], scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Fault> {
    scratch.clear();
    unescape(literal, scratch).map_err(|_| Reason::other(LONE_SURROGATE))?;
    Ok(scratch)
}

/// Appends `literal`, whose escapes are well-formed, without its escapes.
///
/// # Errors
/// The position of half a surrogate pair, which UTF-8 cannot say.
fn unescape(literal: &[u8], out: &mut Vec<u8>) -> Result<(), usize> {
    let mut rest = literal;
    while let Some(escape) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..escape]);
        let at = literal.len() - rest.len() + escape;
        let tail = &rest[escape + 1..];
        let (plain, used) = match tail.first() {
            Some(b'b') => (8, 1),
            Some(b'f') => (12, 1),
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(b't') => (b'\t', 1),
            Some(b'u') => {
                let (c, used) = unicode_escape(tail).ok_or(at)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &tail[used..];
                continue;
            }
            Some(same) => (*same, 1),
            None => return Err(at),
        };
        out.push(plain);
        rest = &tail[used..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Reads `uHHHH`, or `uHHHH\uHHHH` for a surrogate pair, and tells how many bytes that took.
fn unicode_escape(tail: &[u8]) -> Option<(char, usize)> {
    let unit = |from: usize| {
        let digits = std::str::from_utf8(tail.get(from..from + 4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let high = unit(1)?;
    if let Some(c) = char::from_u32(high) {
        return Some((c, 5));
    }
    if !(0xd800..0xdc00).contains(&high) || tail.get(5..7)? != b"\\u" {
        return None;
    }
    let low = unit(7).filter(|low| (0xdc00..0xe000).contains(low))?;
    let c = char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))?;
    Some((c, 11))
}

#[cfg(test)]
mod tests;
