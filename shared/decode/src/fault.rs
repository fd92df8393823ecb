//! Why a record did not decode. Cold: built only for records that become dead letters.

use std::fmt;

/// A fault, boxed so that the hot path returns one word.
pub(crate) type Fault = Box<Reason>;

/// What went wrong, and in which field.
#[derive(Debug)]
pub(crate) struct Reason {
    /// Innermost field last; list items as `[3]`.
    path: Vec<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Byte position in the record, and what is wrong there.
    Malformed {
        at: usize,
        what: &'static str,
    },
    WrongType {
        expected: String,
        found: String,
    },
    Missing {
        found: &'static str,
    },
    Other(String),
}

impl Reason {
    #[cold]
    pub fn malformed(at: usize, what: &'static str) -> Fault {
        Box::new(Self {
            path: Vec::new(),
            kind: Kind::Malformed { at, what },
        })
    }

    #[cold]
    pub fn wrong_type(expected: impl Into<String>, found: impl Into<String>) -> Fault {
        Box::new(Self {
            path: Vec::new(),
            kind: Kind::WrongType {
                expected: expected.into(),
                found: found.into(),
            },
        })
    }

    /// A NOT NULL column without a value.
    #[cold]
    pub fn missing(found: &'static str) -> Fault {
        Box::new(Self {
            path: Vec::new(),
            kind: Kind::Missing { found },
        })
    }

    #[cold]
    pub fn other(message: impl Into<String>) -> Fault {
        Box::new(Self {
            path: Vec::new(),
            kind: Kind::Other(message.into()),
        })
    }

    /// Adds the field that was being read. Malformed JSON is told by its position instead.
    #[cold]
    pub fn in_field(mut self: Box<Self>, name: &str) -> Box<Self> {
        if !matches!(self.kind, Kind::Malformed { .. }) {
            self.path.insert(0, name.to_owned());
        }
        self
    }

    /// Adds the list item that was being read, counted from 0.
    #[cold]
    pub fn in_item(self: Box<Self>, index: usize) -> Box<Self> {
        self.in_field(&format!("[{index}]"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str("field \"")?;
            for (depth, name) in self.path.iter().enumerate() {
                if depth > 0 && !name.starts_with('[') {
                    f.write_str(".")?;
                }
                f.write_str(name)?;
            }
            f.write_str("\": ")?;
        }
        match &self.kind {
            Kind::Malformed { at, what } => write!(f, "malformed JSON at byte {at}: {what}"),
            Kind::WrongType { expected, found } => write!(f, "expected {expected}, found {found}"),
            Kind::Missing { found } => write!(f, "NOT NULL, but {found}"),
            Kind::Other(message) => f.write_str(message),
        }
    }
}

/// `text`, quoted and cut to a length that fits a reason.
pub(crate) fn excerpt(text: &[u8]) -> String {
    const LONGEST: usize = 60;
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.into_owned(),
    }
}
