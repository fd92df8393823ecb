//! `COPY … TO STDOUT`: what it is asked for, and how its rows are written (PostgreSQL documentation, "COPY", "File Formats").

use bytes::{BufMut, BytesMut};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::PgError;
use crate::encode::Cell;
use crate::script::{spelled, text_of, words};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// A query, and the format of its rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) query: String,
    pub(crate) style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Csv,
    Binary,
}

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) format: Format,
    delimiter: u8,
    null: String,
    header: bool,
    quote: u8,
    escape: u8,
    force_quote: Quoted,
}

/// Values that are quoted even where they need not be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Quoted {
    Needed,
    All,
    Columns(Vec<String>),
}

/// What was asked for, before it is known what goes without saying.
#[derive(Default)]
struct Asked {
    format: Option<Format>,
    delimiter: Option<u8>,
    null: Option<String>,
    header: bool,
    quote: Option<u8>,
    escape: Option<u8>,
    force_quote: Option<Quoted>,
}

impl Copy {
    /// # Errors
    /// 42601 for what is no COPY, 0A000 for one that goes elsewhere than to the client, 22023 for options that contradict.
    pub(crate) fn parse(sql: &str) -> Result<Self, PgError> {
        let words = words(sql)?;
        let mut reader = Reader { words: &words, at: 1 };
        let legacy_binary = reader.takes("BINARY");
        let query = match reader.peek() {
            Some(Token::LParen) => {
                let (start, end) = reader.parentheses()?;
                sql[start..end].to_owned()
            }
            _ => reader.relation()?,
        };
        reader.expect("TO")?;
        if !reader.takes("STDOUT") {
            return Err(PgError::unsupported("COPY writes to STDOUT only").with_hint("psql's \\copy writes files"));
        }
        let mut asked = Asked::default();
        if legacy_binary {
            asked.format = Some(Format::Binary);
        }
        reader.takes("WITH");
        match reader.peek() {
            Some(Token::LParen) => reader.options(&mut asked)?,
            _ => reader.legacy_options(&mut asked)?,
        }
        if let Some(token) = reader.peek() {
            return Err(unexpected(&spelled(token)));
        }
        Ok(Self {
            query,
            style: asked.settled()?,
        })
    }
}

struct Reader<'w> {
    words: &'w [(Token, usize)],
    at: usize,
}

impl<'w> Reader<'w> {
    fn peek(&self) -> Option<&'w Token> {
        self.words.get(self.at).map(|(token, _)| token)
    }

    fn next(&mut self) -> Result<&'w Token, PgError> {
        let token = self.peek().ok_or_else(|| unexpected(""))?;
        self.at += 1;
        Ok(token)
    }

    fn takes(&mut self, word: &str) -> bool {
        let there = self.peek().is_some_and(|token| spelled(token) == word);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, word: &str) -> Result<(), PgError> {
        match self.takes(word) {
            true => Ok(()),
            false => Err(unexpected(&self.peek().map(spelled).unwrap_or_default())),
        }
    }

    /// What is between this parenthesis and its other half, in bytes.
    fn parentheses(&mut self) -> Result<(usize, usize), PgError> {
        let start = self.words[self.at].1 + 1;
        let mut depth = 0_usize;
        loop {
            let at = self.at;
            match self.next()? {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok((start, self.words[at].1));
            }
        }
    }

    /// `[schema.]name [(columns)]` as a query.
    fn relation(&mut self) -> Result<String, PgError> {
        let mut name = self.next()?.to_string();
        while self.takes(".") {
            name.push('.');
            name.push_str(&self.next()?.to_string());
        }
        let mut columns = String::from("*");
        if self.takes("(") {
            columns.clear();
            loop {
                columns.push_str(&self.next()?.to_string());
                match self.next()? {
                    Token::Comma => columns.push_str(", "),
                    Token::RParen => break,
                    other => return Err(unexpected(&spelled(other))),
                }
            }
        }
        Ok(format!("SELECT {columns} FROM {name}"))
    }

    /// `(FORMAT csv, HEADER, …)`.
    fn options(&mut self, asked: &mut Asked) -> Result<(), PgError> {
        self.expect("(")?;
        loop {
            let option = spelled(self.next()?);
            match option.as_str() {
                "FORMAT" => {
                    asked.format = Some(match text_of(self.next()?).to_ascii_lowercase().as_str() {
                        "text" => Format::Text,
                        "csv" => Format::Csv,
                        "binary" => Format::Binary,
                        other => return Err(bad(format!("COPY format \"{other}\" not recognized"))),
                    });
                }
                "DELIMITER" => asked.delimiter = Some(self.character("delimiter")?),
                "NULL" => asked.null = Some(text_of(self.next()?)),
                "QUOTE" => asked.quote = Some(self.character("quote")?),
                "ESCAPE" => asked.escape = Some(self.character("escape")?),
                "HEADER" => {
                    asked.header = match self.peek() {
                        Some(Token::Comma | Token::RParen) | None => true,
                        Some(_) => match text_of(self.next()?).to_ascii_lowercase().as_str() {
                            "true" | "on" | "1" => true,
                            "false" | "off" | "0" => false,
                            other => return Err(bad(format!("HEADER cannot be \"{other}\" of COPY TO"))),
                        },
                    };
                }
                "FORCE_QUOTE" => asked.force_quote = Some(self.columns()?),
                "ENCODING" => self.encoding()?,
                other => return Err(bad(format!("option \"{}\" not recognized", other.to_ascii_lowercase()))),
            }
            match self.next()? {
                Token::Comma => {}
                Token::RParen => return Ok(()),
                other => return Err(unexpected(&spelled(other))),
            }
        }
    }

    /// `CSV HEADER DELIMITER AS ','`, as it was written before there were options in parentheses.
    fn legacy_options(&mut self, asked: &mut Asked) -> Result<(), PgError> {
        while let Some(token) = self.peek() {
            self.at += 1;
            match spelled(token).as_str() {
                "BINARY" => asked.format = Some(Format::Binary),
                "CSV" => asked.format = Some(Format::Csv),
                "HEADER" => asked.header = true,
                "DELIMITER" => {
                    self.takes("AS");
                    asked.delimiter = Some(self.character("delimiter")?);
                }
                "NULL" => {
                    self.takes("AS");
                    asked.null = Some(text_of(self.next()?));
                }
                "QUOTE" => {
                    self.takes("AS");
                    asked.quote = Some(self.character("quote")?);
                }
                "ESCAPE" => {
                    self.takes("AS");
                    asked.escape = Some(self.character("escape")?);
                }
                "FORCE" => {
                    self.expect("QUOTE")?;
                    asked.force_quote = Some(self.columns()?);
                }
                "ENCODING" => self.encoding()?,
                other => return Err(unexpected(other)),
            }
        }
        Ok(())
    }

    fn character(&mut self, what: &str) -> Result<u8, PgError> {
        let token = self.next()?;
        let text = match token {
            Token::EscapedStringLiteral(text) => text.replace("\\t", "\t"),
            token => text_of(token),
        };
        match text.as_bytes() {
            [byte] if !matches!(byte, b'\n' | b'\r') => Ok(*byte),
            _ => Err(bad(format!("COPY {what} must be a single one-byte character"))),
        }
    }

    fn columns(&mut self) -> Result<Quoted, PgError> {
        if self.takes("*") {
            return Ok(Quoted::All);
        }
        let bracketed = self.takes("(");
        let mut columns = Vec::new();
        loop {
            columns.push(text_of(self.next()?));
            if !self.takes(",") {
                break;
            }
        }
        if bracketed {
            self.expect(")")?;
        }
        Ok(Quoted::Columns(columns))
    }

    fn encoding(&mut self) -> Result<(), PgError> {
        let name = text_of(self.next()?).to_ascii_uppercase();
        match name.as_str() {
            "UTF8" | "UTF-8" | "UNICODE" => Ok(()),
            _ => Err(PgError::unsupported(format!(
                "texts are written in UTF8, not in {name}"
            ))),
        }
    }
}

impl Asked {
    fn settled(self) -> Result<Style, PgError> {
        let format = self.format.unwrap_or(Format::Text);
        let refused = |what: &str| Err(bad(format!("cannot specify {what} in this format of COPY")));
        if format == Format::Binary && (self.delimiter.is_some() || self.null.is_some() || self.header) {
            return refused("DELIMITER, NULL or HEADER");
        }
        if format != Format::Csv && (self.quote.is_some() || self.escape.is_some() || self.force_quote.is_some()) {
            return refused("QUOTE, ESCAPE or FORCE QUOTE");
        }
        let csv = format == Format::Csv;
        let delimiter = self.delimiter.unwrap_or(if csv { b',' } else { b'\t' });
        let quote = self.quote.unwrap_or(b'"');
        if csv && delimiter == quote {
            return Err(bad("COPY delimiter and quote must be different"));
        }
        if !csv && (delimiter.is_ascii_alphanumeric() || matches!(delimiter, b'\\' | b'.')) {
            return Err(bad(format!("COPY delimiter cannot be \"{}\"", char::from(delimiter))));
        }
        let null = self
            .null
            .unwrap_or_else(|| if csv { String::new() } else { "\\N".to_owned() });
        if null.contains(['\n', '\r']) || null.as_bytes().contains(&delimiter) {
            return Err(bad(
                "COPY null cannot contain the delimiter, newline or carriage return",
            ));
        }
        Ok(Style {
            format,
            delimiter,
            null,
            header: self.header,
            quote,
            escape: self.escape.unwrap_or(quote),
            force_quote: self.force_quote.unwrap_or(Quoted::Needed),
        })
    }
}

impl Style {
    pub(crate) fn is_binary(&self) -> bool {
        self.format == Format::Binary
    }

    /// What stands before the first row, if anything.
    pub(crate) fn begin(&self, names: &[&str], out: &mut BytesMut) {
        match self.format {
            Format::Binary => {
                out.put_slice(SIGNATURE);
                out.put_i32(0);
                out.put_i32(0);
            }
            _ if self.header => {
                for (at, name) in names.iter().enumerate() {
                    self.separate(at, out);
                    match self.format {
                        Format::Csv => self.csv(name.as_bytes(), false, names.len() == 1, out),
                        _ => self.text(name.as_bytes(), out),
                    }
                }
                out.put_u8(b'\n');
            }
            _ => {}
        }
    }

    /// What stands behind the last row, if anything.
    pub(crate) fn end(&self, out: &mut BytesMut) {
        if self.is_binary() {
            out.put_i16(-1);
        }
    }

    /// Which columns have quotes around each value.
    pub(crate) fn quoted(&self, names: &[&str]) -> Vec<bool> {
        let quoted = |name: &&str| match &self.force_quote {
            Quoted::Needed => false,
            Quoted::All => true,
            Quoted::Columns(columns) => columns.iter().any(|column| column == name),
        };
        names.iter().map(quoted).collect()
    }

    /// One row; `scratch` is empty before and after.
    pub(crate) fn row(
        &self,
        (row, cells): (usize, &[Cell]),
        quoted: &[bool],
        scratch: &mut BytesMut,
        out: &mut BytesMut,
    ) {
        if self.is_binary() {
            out.put_u16(u16::try_from(cells.len()).unwrap_or(u16::MAX));
            cells.iter().for_each(|cell| cell.put(row, out));
            return;
        }
        for (at, cell) in cells.iter().enumerate() {
            self.separate(at, out);
            if !cell.value(row, scratch) {
                out.put_slice(self.null.as_bytes());
                continue;
            }
            match self.format {
                Format::Csv => self.csv(scratch, quoted.get(at) == Some(&true), cells.len() == 1, out),
                _ => self.text(scratch, out),
            }
            scratch.clear();
        }
        out.put_u8(b'\n');
    }

    fn separate(&self, at: usize, out: &mut BytesMut) {
        if at > 0 {
            out.put_u8(self.delimiter);
        }
    }

    fn text(&self, value: &[u8], out: &mut BytesMut) {
        for byte in value {
            let escaped = match byte {
                b'\\' => b'\\',
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                byte if *byte == self.delimiter => *byte,
                byte => {
                    out.put_u8(*byte);
                    continue;
                }
            };
            out.put_u8(b'\\');
            out.put_u8(escaped);
        }
    }

    fn csv(&self, value: &[u8], forced: bool, alone: bool, out: &mut BytesMut) {
        let special = |byte: &u8| *byte == self.delimiter || *byte == self.quote || matches!(byte, b'\n' | b'\r');
        let needed = value == self.null.as_bytes() || value.iter().any(special) || (alone && value == b"\\.");
        if !(forced || needed) {
            return out.put_slice(value);
        }
        out.put_u8(self.quote);
        for byte in value {
            if *byte == self.quote || *byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(self.quote);
    }
}

fn unexpected(word: &str) -> PgError {
    match word {
        "" => PgError::new("42601", "syntax error at end of input"),
        word => PgError::new("42601", format!("syntax error at or near \"{word}\"")),
    }
}

fn bad(message: impl Into<String>) -> PgError {
    PgError::new("22023", message)
}

#[cfg(test)]
mod tests;
