//! The record being read: bytes, a position, and the parts of JSON that need no schema.

use crate::fault::{Fault, Reason, excerpt};

/// Containers may nest this deep in undeclared fields, as deep as serde_json reads them.
const MAX_DEPTH: usize = 128;

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
pub(crate) const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// A position in `buf`. The bytes may reach beyond the record that is read (so that word loads need no special case at its
/// end); whoever starts a read checks afterwards that it did not leave the record.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    buf: &'a [u8],
    pub at: usize,
}

/// The text of a string literal, between its quotes, not unescaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a> {
    pub bytes: &'a [u8],
    pub escaped: bool,
}

impl<'a> Input<'a> {
    pub fn new(buf: &'a [u8], at: usize) -> Self {
        Self { buf, at }
    }

    /// The next byte; 0, which no JSON syntax begins with, at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.buf.get(self.at).copied().unwrap_or(0)
    }

    /// The byte `ahead` positions on; 0 beyond the end.
    #[inline(always)]
    pub fn peek_at(&self, ahead: usize) -> u8 {
        self.buf.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Everything from here on.
    #[inline(always)]
    pub fn rest(&self) -> &'a [u8] {
        self.buf.get(self.at..).unwrap_or_default()
    }

    /// The bytes since `start`, which must be a former position.
    #[inline(always)]
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.buf.get(start..self.at).unwrap_or_default()
    }

    /// Eight bytes at `self.at + ahead`, the first in the lowest bits.
    #[inline(always)]
    pub fn word(&self, ahead: usize) -> Option<u64> {
        self.buf
            .get(self.at + ahead..)?
            .first_chunk()
            .map(|bytes| u64::from_le_bytes(*bytes))
    }

    #[inline(always)]
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    #[inline(always)]
    pub fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    #[cold]
    pub fn malformed(&self, what: &'static str) -> Fault {
        Reason::malformed(
            self.at,
            if self.at >= self.buf.len() {
                "the record ends here"
            } else {
                what
            },
        )
    }

    /// Consumes `null`, if it is next.
    #[inline(always)]
    pub fn null(&mut self) -> bool {
        self.literal(b"null")
    }

    /// Consumes `literal`, if it is next.
    #[inline(always)]
    pub fn literal(&mut self, literal: &'static [u8]) -> bool {
        let found = self.rest().starts_with(literal);
        if found {
            self.at += literal.len();
        }
        found
    }

    /// Consumes a string literal whose opening quote is next. Its escapes are checked for their form.
    #[inline]
    pub fn quoted(&mut self) -> Result<Quoted<'a>, Fault> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.find_special();
            match self.peek() {
                b'"' => {
                    let bytes = self.since(start);
                    self.at += 1;
                    return Ok(Quoted { bytes, escaped });
                }
                b'\\' => {
                    escaped = true;
                    self.skip_escape()?;
                }
                _ => return Err(self.malformed("a control character in a string must be escaped")),
            }
        }
    }

    /// Moves to the next `"`, `\` or control character, or to the end.
    #[inline(always)]
    pub fn find_special(&mut self) {
        while let Some(word) = self.word(0) {
            let special = specials(word);
            if special != 0 {
                self.at += (special.trailing_zeros() / 8) as usize;
                return;
            }
            self.at += 8;
        }
        while let Some(byte) = self.buf.get(self.at)
            && !matches!(byte, b'"' | b'\\' | 0..=0x1f)
        {
            self.at += 1;
        }
    }

    fn skip_escape(&mut self) -> Result<(), Fault> {
        match self.peek_at(1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' if (2..6).all(|ahead| self.peek_at(ahead).is_ascii_hexdigit()) => self.at += 6,
            _ => return Err(self.malformed("unknown escape in a string")),
        }
        Ok(())
    }

    /// Consumes one value of any type, checking its form.
    pub fn skip_value(&mut self) -> Result<(), Fault> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), Fault> {
        match self.peek() {
            b'"' => self.quoted().map(drop),
            b'-' | b'0'..=b'9' => self.skip_number(),
            b'{' | b'[' if depth == MAX_DEPTH => Err(self.malformed("nested deeper than 128 levels")),
            b'{' => self.skip_object(depth + 1),
            b'[' => self.skip_array(depth + 1),
            b't' if self.literal(b"true") => Ok(()),
            b'f' if self.literal(b"false") => Ok(()),
            b'n' if self.literal(b"null") => Ok(()),
            _ => Err(self.malformed("expected a value")),
        }
    }

    fn skip_object(&mut self, depth: usize) -> Result<(), Fault> {
        self.at += 1;
        self.skip_space();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != b'"' {
                return Err(self.malformed("expected a key in double quotes"));
            }
            self.quoted()?;
            self.skip_space();
            if !self.eat(b':') {
                return Err(self.malformed("expected `:`"));
            }
            self.skip_space();
            self.skip_nested(depth)?;
            self.skip_space();
            if self.eat(b'}') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.malformed("expected `,` or `}`"));
            }
            self.skip_space();
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), Fault> {
        self.at += 1;
        self.skip_space();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.skip_nested(depth)?;
            self.skip_space();
            if self.eat(b']') {
                return Ok(());
            }
            if !self.eat(b',') {
                return Err(self.malformed("expected `,` or `]`"));
            }
            self.skip_space();
        }
    }

    /// Consumes a number, checking its form.
    pub fn skip_number(&mut self) -> Result<(), Fault> {
        self.eat(b'-');
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.skip_digits(),
            _ => return Err(self.malformed("expected a digit")),
        }
        if self.eat(b'.') {
            self.require_digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.require_digits()?;
        }
        Ok(())
    }

    fn require_digits(&mut self) -> Result<(), Fault> {
        if !self.peek().is_ascii_digit() {
            return Err(self.malformed("expected a digit"));
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
    }

    /// The fault of a value that is not of the `expected` type: malformed, if it is not even JSON.
    #[cold]
    #[inline(never)]
    pub fn wrong_type(&mut self, expected: impl Into<String>) -> Fault {
        let start = self.at;
        let first = self.peek();
        if let Err(fault) = self.skip_value() {
            return fault;
        }
        let text = excerpt(self.since(start));
        let found = match first {
            b'"' => format!("text {text}"),
            b'{' => "an object".to_owned(),
            b'[' => "an array".to_owned(),
            b'-' | b'0'..=b'9' => format!("number {text}"),
            _ => text,
        };
        Reason::wrong_type(expected, found)
    }
}

/// The high bit of the first byte that is `"`, `\` or a control character; 0 if none is. Higher bits may be wrong, because
/// the borrow of a match runs into them, but only beyond a true match.
#[inline(always)]
pub(crate) fn specials(word: u64) -> u64 {
    let quote = word ^ (LOW_BITS * b'"' as u64);
    let escape = word ^ (LOW_BITS * b'\\' as u64);
    let quote = quote.wrapping_sub(LOW_BITS) & !quote;
    let escape = escape.wrapping_sub(LOW_BITS) & !escape;
    let control = word.wrapping_sub(LOW_BITS * 0x20) & !word;
    (quote | escape | control) & HIGH_BITS
}
