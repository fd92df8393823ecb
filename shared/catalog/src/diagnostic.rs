//! What is wrong with a `views.sql`, and how it is shown.

use std::fmt::Write;

use anabranch_model::ErrorKind;
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

/// A place in `views.sql`, counted from 1, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        Self {
            line: location.line,
            column: location.column,
        }
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        span.start.into()
    }
}

/// One thing wrong with a `views.sql`: where, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[error("line {}, column {}: {message}{}", place.line, place.column, hint.as_deref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct Diagnostic {
    pub place: Place,
    pub message: String,
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A diagnostic without a hint.
    pub fn new(place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to write instead.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Always [`ErrorKind::Invalid`]: the definition is what has to change.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    /// Shows the diagnostic with its source line, the way rustc does. `path` names the file, `sql` is its whole text.
    ///
    /// ```text
    /// error: unknown type `BIGNIT`
    ///   --> views.sql:3:9
    ///    |
    ///  3 |   added BIGNIT,
    ///    |         ^^^^^^
    ///    = help: did you mean `BIGINT`?
    /// ```
    pub fn render(&self, path: &str, sql: &str) -> String {
        let mut out = format!("error: {}\n", self.message);
        let number = self.place.line.to_string();
        let margin = " ".repeat(number.len());
        // Writing to a String cannot fail, so the results are dropped.
        let _ = writeln!(out, "{margin}--> {path}:{}:{}", self.place.line, self.place.column);
        let line = self
            .place
            .line
            .checked_sub(1)
            .and_then(|index| sql.lines().nth(usize::try_from(index).ok()?));
        if let Some(line) = line {
            let before = usize::try_from(self.place.column.saturating_sub(1)).unwrap_or(usize::MAX);
            // Tabs stay tabs, so that the caret stands under its character whatever the width of a tab.
            let indent: String = line
                .chars()
                .take(before)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let carets = "^".repeat(token_width(&line.chars().skip(before).collect::<String>()));
            let _ = writeln!(out, "{margin} |\n{number} | {line}\n{margin} | {indent}{carets}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{margin} = help: {hint}");
        }
        out
    }
}

/// Characters of the word, quoted text or single sign that `rest` begins with; at least 1.
fn token_width(rest: &str) -> usize {
    let Some(first) = rest.chars().next() else { return 1 };
    let width = if matches!(first, '\'' | '"' | '`') {
        rest.chars().skip(1).position(|c| c == first).map_or(1, |end| end + 2)
    } else {
        rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').count()
    };
    width.max(1)
}

/// sqlparser begins its messages with a capital; ours do not.
pub(crate) fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
