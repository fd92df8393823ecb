//! `DECLARE … CURSOR` and `FETCH`: portals by their names in SQL. They go forward only, as rows are not kept.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::PgError;
use crate::script::{spelled, text_of, words};

/// `DECLARE name [BINARY] [INSENSITIVE] [NO SCROLL] CURSOR [WITH HOLD] FOR query`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declaration<'s> {
    pub(crate) name: String,
    pub(crate) binary: bool,
    pub(crate) holds: bool,
    pub(crate) query: &'s str,
}

/// `FETCH [count] FROM name`, or `MOVE`, which writes no rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) name: String,
    /// `None`: all that are left.
    pub(crate) count: Option<usize>,
    pub(crate) moves: bool,
}

impl<'s> Declaration<'s> {
    /// # Errors
    /// 42601 for anything else, 0A000 for a cursor that goes back.
    pub(crate) fn parse(sql: &'s str) -> Result<Self, PgError> {
        let words = words(sql)?;
        let (mut binary, mut holds) = (false, false);
        let mut at = 2;
        let word = |at: usize| words.get(at).map(|(token, _)| spelled(token)).unwrap_or_default();
        loop {
            match word(at).as_str() {
                "BINARY" => binary = true,
                "INSENSITIVE" | "ASENSITIVE" => {}
                "NO" if word(at + 1) == "SCROLL" => at += 1,
                "SCROLL" => {
                    let error = PgError::unsupported("cursors cannot go back: SCROLL is not supported");
                    return Err(error.with_hint("declare the cursor NO SCROLL"));
                }
                "CURSOR" => break,
                other => return Err(unexpected(other)),
            }
            at += 1;
        }
        at += 1;
        match (word(at).as_str(), word(at + 1).as_str()) {
            ("WITH", "HOLD") => (holds, at) = (true, at + 2),
            ("WITHOUT", "HOLD") => at += 2,
            _ => {}
        }
        if word(at) != "FOR" {
            return Err(unexpected(&word(at)));
        }
        let query = words.get(at + 1).ok_or_else(|| unexpected(""))?.1;
        let name = words.get(1).map(|(name, _)| text_of(name)).unwrap_or_default();
        Ok(Self {
            name,
            binary,
            holds,
            query: &sql[query..],
        })
    }
}

impl Fetch {
    /// # Errors
    /// 42601 for anything else, 55000 for a direction other than forward.
    pub(crate) fn parse(sql: &str) -> Result<Self, PgError> {
        let words = words(sql)?;
        let word = |at: usize| words.get(at).map(|(token, _)| spelled(token)).unwrap_or_default();
        let number = |at: usize| match words.get(at) {
            Some((Token::Number(digits, _), _)) => digits.parse::<usize>().ok(),
            _ => None,
        };
        let mut at = 1;
        // What comes before the name of the cursor may be left out.
        let directed = words.len() > 2;
        let mut count = Some(1);
        match word(at).as_str() {
            "NEXT" if directed => at += 1,
            "ALL" if directed => (count, at) = (None, at + 1),
            "FORWARD" if directed => {
                at += 1;
                if word(at) == "ALL" {
                    (count, at) = (None, at + 1);
                } else if let Some(number) = number(at) {
                    (count, at) = (Some(number), at + 1);
                }
            }
            "PRIOR" | "FIRST" | "LAST" | "ABSOLUTE" | "RELATIVE" | "BACKWARD" | "-" if directed => {
                let error = PgError::new("55000", "cursor can only scan forward");
                return Err(error.with_hint("rows are not kept: declare the cursor anew to begin again"));
            }
            _ => {
                if let Some(number) = number(at) {
                    (count, at) = (Some(number), at + 1);
                }
            }
        }
        if matches!(word(at).as_str(), "FROM" | "IN") {
            at += 1;
        }
        match (words.get(at), words.get(at + 1)) {
            (Some((name @ Token::Word(_), _)), None) => Ok(Self {
                name: text_of(name),
                count,
                moves: word(0) == "MOVE",
            }),
            (_, Some((token, _))) => Err(unexpected(&spelled(token))),
            _ => Err(unexpected("")),
        }
    }
}

fn unexpected(word: &str) -> PgError {
    match word {
        "" => PgError::new("42601", "syntax error at end of input"),
        word => PgError::new("42601", format!("syntax error at or near \"{word}\"")),
    }
}

#[cfg(test)]
mod tests;
