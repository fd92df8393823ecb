//! What kind of statement a client has sent. Queries are not looked into: the query engine parses them.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::PgError;
use crate::error::position_in_message;

/// A statement, as far as this server tells statements apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    Query,
    /// A setting and its new value; `None` means its default.
    Set(String, Option<String>),
    /// The same to the end of the transaction.
    SetLocal(String, Option<String>),
    Show(String),
    /// All settings have their defaults again.
    ResetAll,
    Begin,
    Commit,
    Rollback,
    /// A prepared statement, or all.
    Deallocate(Option<String>),
    /// A cursor, or all.
    Close(Option<String>),
    /// Forgets the session's settings, statements and cursors.
    DiscardAll,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// DECLARE … CURSOR: [`cursor::Declaration`](crate::cursor::Declaration) has the rest.
    Declare,
    /// FETCH or MOVE: [`cursor::Fetch`](crate::cursor::Fetch) has the rest.
    Fetch,
    /// COPY … TO: [`copy::Copy`](crate::copy::Copy) has the rest.
    Copy,
    /// Something that changes nothing here; its command tag.
    Nothing(&'static str),
    /// A statement that would write, by its name.
    Writes(String),
    Unsupported(String),
}

/// One statement of a script, with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'s> {
    pub(crate) text: &'s str,
    pub(crate) kind: Kind,
}

/// Takes a script apart at its semicolons. Empty statements between others are left out; of nothing but empty ones, one
/// is returned.
///
/// # Errors
/// 42601 where not even words can be told apart, or where a statement begins with a word that no statement begins with: then
/// nothing of the script is run.
pub(crate) fn split(sql: &str) -> Result<Vec<Piece<'_>>, PgError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| {
            let message = error.to_string();
            PgError {
                position: position_in_message(sql, &message),
                ..PgError::new("42601", message)
            }
        })?;
    let mut places = Places::new(sql);
    let mut pieces = Vec::new();
    let (mut words, mut start) = (Vec::new(), 0);
    for token in &tokens {
        match &token.token {
            Token::SemiColon => {
                let end = places.byte(token);
                push(&mut pieces, &sql[start..end], &words);
                words.clear();
                start = end + 1;
            }
            Token::Whitespace(_) | Token::EOF => {}
            first if words.is_empty() && !begins_statement(first) => {
                let before = sql[..places.byte(token)].chars().count();
                return Err(PgError {
                    position: Some(before + 1),
                    ..PgError::new("42601", format!("syntax error at or near \"{first}\""))
                });
            }
            other => words.push(other),
        }
    }
    push(&mut pieces, &sql[start..], &words);
    if pieces.is_empty() {
        pieces.push(Piece {
            text: "",
            kind: Kind::Empty,
        });
    }
    Ok(pieces)
}

/// The words of a statement, each with the byte at which it begins.
///
/// # Errors
/// 42601 where words cannot be told apart.
pub(crate) fn words(sql: &str) -> Result<Vec<(Token, usize)>, PgError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| PgError::new("42601", error.to_string()))?;
    let mut places = Places::new(sql);
    let words = tokens.into_iter().filter_map(|token| match &token.token {
        Token::Whitespace(_) | Token::EOF | Token::SemiColon => None,
        _ => {
            let at = places.byte(&token);
            Some((token.token, at))
        }
    });
    Ok(words.collect())
}

fn push<'s>(pieces: &mut Vec<Piece<'s>>, text: &'s str, words: &[&Token]) {
    if !words.is_empty() {
        pieces.push(Piece {
            text,
            kind: classify(words),
        });
    }
}

/// Finds bytes by line and column, in ascending order.
struct Places<'s> {
    rest: std::iter::Peekable<std::str::CharIndices<'s>>,
    line: u64,
    column: u64,
    length: usize,
}

impl<'s> Places<'s> {
    fn new(sql: &'s str) -> Self {
        Self {
            rest: sql.char_indices().peekable(),
            line: 1,
            column: 1,
            length: sql.len(),
        }
    }

    fn byte(&mut self, token: &TokenWithSpan) -> usize {
        let wanted = (token.span.start.line, token.span.start.column);
        while (self.line, self.column) < wanted {
            match self.rest.next() {
                Some((_, '\n')) => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => return self.length,
            }
        }
        self.rest.peek().map_or(self.length, |(byte, _)| *byte)
    }
}

/// Words that statements of PostgreSQL begin with.
const BEGINNINGS: [&str; 53] = [
    "ABORT",
    "ALTER",
    "ANALYSE",
    "ANALYZE",
    "BEGIN",
    "CALL",
    "CHECKPOINT",
    "CLOSE",
    "CLUSTER",
    "COMMENT",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DISCARD",
    "DO",
    "DROP",
    "END",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "IMPORT",
    "INSERT",
    "LISTEN",
    "LOAD",
    "LOCK",
    "MERGE",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "REASSIGN",
    "REFRESH",
    "REINDEX",
    "RELEASE",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SECURITY",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "TABLE",
    "TRUNCATE",
    "UNLISTEN",
    "UPDATE",
    "VACUUM",
    "VALUES",
    "WITH",
];

fn begins_statement(token: &Token) -> bool {
    match token {
        Token::LParen => true,
        token => BEGINNINGS.contains(&spelled(token).as_str()),
    }
}

/// A word in capitals; other tokens as they are.
pub(crate) fn spelled(token: &Token) -> String {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        other => other.to_string(),
    }
}

fn classify(tokens: &[&Token]) -> Kind {
    let words: Vec<String> = tokens.iter().take(6).map(|token| spelled(token)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let name = || tokens.get(1).map(|token| text_of(token));
    let at = |at: usize| tokens.get(at).map(|token| text_of(token)).unwrap_or_default();
    match words.as_slice() {
        ["SELECT" | "WITH" | "VALUES" | "TABLE" | "EXPLAIN" | "(", ..] => Kind::Query,
        ["SET", rest @ ..] => set(rest, &tokens[1..]),
        ["RESET", "ALL", ..] => Kind::ResetAll,
        ["RESET", "SESSION", "AUTHORIZATION"] => Kind::Nothing("RESET"),
        ["RESET", _, ..] => Kind::Set(dotted(&tokens[1..]).0, None),
        ["SHOW", "TRANSACTION", "ISOLATION", "LEVEL"] => Kind::Show("transaction_isolation".into()),
        ["SHOW", "TIME", "ZONE"] => Kind::Show("timezone".into()),
        ["SHOW", "SESSION", "AUTHORIZATION"] => Kind::Show("session_authorization".into()),
        ["SHOW", _, ..] => Kind::Show(dotted(&tokens[1..]).0),
        ["BEGIN" | "START", ..] => Kind::Begin,
        ["COMMIT" | "END", ..] => Kind::Commit,
        ["ROLLBACK", "WORK" | "TRANSACTION", "TO", "SAVEPOINT", _] => Kind::RollbackTo(at(4)),
        ["ROLLBACK", "WORK" | "TRANSACTION", "TO", _] | ["ROLLBACK", "TO", "SAVEPOINT", _] => Kind::RollbackTo(at(3)),
        ["ROLLBACK", "TO", _] => Kind::RollbackTo(at(2)),
        ["ROLLBACK" | "ABORT", ..] => Kind::Rollback,
        ["SAVEPOINT", _] => Kind::Savepoint(at(1)),
        ["RELEASE", "SAVEPOINT", _] => Kind::Release(at(2)),
        ["RELEASE", _] => Kind::Release(at(1)),
        ["DECLARE", _, ..] => Kind::Declare,
        ["FETCH" | "MOVE", _, ..] => Kind::Fetch,
        ["DEALLOCATE", "PREPARE", _, ..] => match words[2] {
            "ALL" => Kind::Deallocate(None),
            _ => Kind::Deallocate(tokens.get(2).map(|token| text_of(token))),
        },
        ["DEALLOCATE", "ALL", ..] => Kind::Deallocate(None),
        ["DEALLOCATE", _, ..] => Kind::Deallocate(name()),
        ["CLOSE", "ALL", ..] => Kind::Close(None),
        ["CLOSE", _, ..] => Kind::Close(name()),
        ["DISCARD", "ALL", ..] => Kind::DiscardAll,
        ["DISCARD", "PLANS" | "SEQUENCES" | "TEMP" | "TEMPORARY", ..] => Kind::Nothing("DISCARD"),
        ["UNLISTEN", ..] => Kind::Nothing("UNLISTEN"),
        [
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "CREATE" | "DROP" | "ALTER" | "TRUNCATE" | "GRANT" | "REVOKE"
            | "COMMENT" | "REINDEX" | "VACUUM" | "ANALYZE" | "ANALYSE" | "CLUSTER" | "REFRESH" | "LOCK" | "IMPORT"
            | "NOTIFY" | "SECURITY" | "REASSIGN" | "CALL" | "DO",
            ..,
        ] => Kind::Writes(writes(&words)),
        ["COPY", ..] if !tokens.iter().any(|token| spelled(token) == "TO") => Kind::Writes("COPY FROM".into()),
        ["COPY", _, ..] => Kind::Copy,
        [other, ..] => Kind::Unsupported((*other).to_owned()),
        [] => Kind::Empty,
    }
}

/// The name of a command that writes, as PostgreSQL says it.
fn writes(words: &[&str]) -> String {
    match words {
        ["CREATE" | "DROP" | "ALTER" | "REFRESH", what, ..] => format!("{} {what}", words[0]),
        [word, ..] => (*word).to_owned(),
        [] => String::new(),
    }
}

/// A name of one or more parts, in lower case unless it is quoted, and how many tokens it has.
fn dotted(tokens: &[&Token]) -> (String, usize) {
    let mut name = tokens.first().map(|token| text_of(token)).unwrap_or_default();
    let mut used = 1;
    while let [Token::Period, part, ..] = &tokens[used.min(tokens.len())..] {
        name.push('.');
        name.push_str(&text_of(part));
        used += 2;
    }
    (name, used)
}

/// What a token stands for: a word without its quotes and in lower case if it had none, the content of a string.
pub(crate) fn text_of(token: &Token) -> String {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_lowercase(),
        Token::Word(word) => word.value.clone(),
        Token::SingleQuotedString(text) => text.replace("''", "'"),
        other => other.to_string(),
    }
}

fn set(words: &[&str], tokens: &[&Token]) -> Kind {
    match words {
        ["SESSION", "CHARACTERISTICS", ..] | ["TRANSACTION" | "CONSTRAINTS", ..] => Kind::Nothing("SET"),
        ["SESSION", "AUTHORIZATION", ..] | ["ROLE", ..] => Kind::Unsupported("SET ROLE".into()),
        ["SESSION", _, ..] => set(&words[1..], &tokens[1..]),
        ["LOCAL", _, ..] => match set(&words[1..], &tokens[1..]) {
            Kind::Set(name, value) => Kind::SetLocal(name, value),
            other => other,
        },
        ["TIME", "ZONE", ..] => Kind::Set("timezone".into(), value(&tokens[2..])),
        ["NAMES", ..] => Kind::Set("client_encoding".into(), value(&tokens[1..])),
        [] => Kind::Unsupported("SET".into()),
        _ => {
            let (name, used) = dotted(tokens);
            match tokens.get(used) {
                Some(Token::Eq) => Kind::Set(name, value(&tokens[used + 1..])),
                Some(token) if spelled(token) == "TO" => Kind::Set(name, value(&tokens[used + 1..])),
                _ => Kind::Unsupported("SET".into()),
            }
        }
    }
}

/// The value behind `=`; `None` for DEFAULT.
fn value(tokens: &[&Token]) -> Option<String> {
    if let [only] = tokens
        && matches!(spelled(only).as_str(), "DEFAULT" | "LOCAL")
    {
        return None;
    }
    let mut value = String::new();
    for token in tokens {
        match token {
            Token::Comma => value.push_str(", "),
            other => {
                let text = match other {
                    // The case of a word may matter to whoever reads the setting.
                    Token::Word(word) => word.value.clone(),
                    other => text_of(other),
                };
                value.push_str(&text);
            }
        }
    }
    Some(value)
}

#[cfg(test)]
mod tests;
