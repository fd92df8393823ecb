//! What the server sends (PostgreSQL documentation, "Message Formats").

use bytes::{BufMut, BytesMut};

use crate::error::Severity;
use crate::{PgError, types::PgType};

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: PgType,
    /// Whether values are sent in the binary format.
    pub(crate) binary: bool,
}

/// Messages that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(pub(crate) BytesMut);

impl Outgoing {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One message: its type, then what `body` writes.
    pub(crate) fn message(&mut self, tag: u8, body: impl FnOnce(&mut BytesMut)) {
        self.0.put_u8(tag);
        let at = self.0.len();
        self.0.put_i32(0);
        body(&mut self.0);
        let length = i32::try_from(self.0.len() - at).unwrap_or(i32::MAX);
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// The answer to a request for encryption.
    pub(crate) fn encryption(&mut self, accepted: bool) {
        self.0.put_u8(if accepted { b'S' } else { b'N' });
    }

    pub(crate) fn authentication(&mut self, code: i32, data: &[u8]) {
        self.message(b'R', |out| {
            out.put_i32(code);
            out.put_slice(data);
        });
    }

    pub(crate) fn parameter(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            text(out, name);
            text(out, value);
        });
    }

    pub(crate) fn key(&mut self, process: i32, secret: &[u8]) {
        self.message(b'K', |out| {
            out.put_i32(process);
            out.put_slice(secret);
        });
    }

    /// Says the newest minor version that is known, and options that are not.
    pub(crate) fn negotiate(&mut self, minor: u16, unknown: &[&str]) {
        self.message(b'v', |out| {
            out.put_i32((3 << 16) | i32::from(minor));
            out.put_i32(i32::try_from(unknown.len()).unwrap_or(i32::MAX));
            unknown.iter().for_each(|name| text(out, name));
        });
    }

    /// `I`dle, in a `T`ransaction, or in a failed one: `E`.
    pub(crate) fn ready(&mut self, transaction: u8) {
        self.message(b'Z', |out| out.put_u8(transaction));
    }

    pub(crate) fn parameters(&mut self, types: &[u32]) {
        self.message(b't', |out| {
            count(out, types.len());
            types.iter().for_each(|oid| out.put_u32(*oid));
        });
    }

    pub(crate) fn rows(&mut self, columns: &[Column]) {
        self.message(b'T', |out| {
            count(out, columns.len());
            for column in columns {
                text(out, &column.name);
                // Of no table: an answer's columns are computed.
                out.put_i32(0);
                out.put_i16(0);
                out.put_u32(column.kind.oid);
                out.put_i16(column.kind.size());
                out.put_i32(column.kind.modifier);
                out.put_i16(i16::from(column.binary));
            }
        });
    }

    /// Rows of COPY follow, all of their columns in one format.
    pub(crate) fn copying(&mut self, binary: bool, columns: usize) {
        self.message(b'H', |out| {
            out.put_u8(u8::from(binary));
            count(out, columns);
            (0..columns).for_each(|_| out.put_u16(u16::from(binary)));
        });
    }

    pub(crate) fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| text(out, tag));
    }

    /// A message without a body.
    pub(crate) fn bare(&mut self, tag: u8) {
        self.message(tag, |_| {});
    }

    pub(crate) fn error(&mut self, error: &PgError) {
        let severity = match error.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        self.report(b'E', severity, error);
    }

    pub(crate) fn warning(&mut self, warning: &PgError) {
        self.report(b'N', "WARNING", warning);
    }

    fn report(&mut self, tag: u8, severity: &str, error: &PgError) {
        self.message(tag, |out| {
            let mut field = |tag: u8, value: &str| {
                out.put_u8(tag);
                text(out, value);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', error.code);
            field(b'M', &error.message);
            if let Some(hint) = &error.hint {
                field(b'H', hint);
            }
            if let Some(position) = error.position {
                field(b'P', &position.to_string());
            }
            out.put_u8(0);
        });
    }
}

pub(crate) const PARSE_COMPLETE: u8 = b'1';
pub(crate) const BIND_COMPLETE: u8 = b'2';
pub(crate) const CLOSE_COMPLETE: u8 = b'3';
pub(crate) const NO_DATA: u8 = b'n';
pub(crate) const PORTAL_SUSPENDED: u8 = b's';
pub(crate) const COPY_DONE: u8 = b'c';
pub(crate) const EMPTY_QUERY: u8 = b'I';

fn count(out: &mut BytesMut, count: usize) {
    // The protocol cannot say more; the query engine has fewer columns.
    out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
}

/// Text up to a zero byte; a zero byte inside would end it early.
fn text(out: &mut BytesMut, text: &str) {
    match text.contains('\0') {
        false => out.put_slice(text.as_bytes()),
        true => out.put_slice(text.replace('\0', " ").as_bytes()),
    }
    out.put_u8(0);
}
