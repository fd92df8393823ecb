//! A cursor over the significant tokens of one statement, or of one item in a list.

use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use crate::name::Name;
use crate::{Diagnostic, Place};

/// Walks tokens without white space and comments. Cheap to copy: a copy is a look-ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    tokens: &'a [TokenWithSpan],
    at: usize,
    /// The first half of a `>>` was consumed as the end of a nested `STRUCT<…>`.
    half_shift: bool,
    /// Where the text after the last token is, for "something is missing here".
    end: Place,
}

/// Words and signs of a list, and where it ended.
pub(crate) type Items<'a> = Vec<Cursor<'a>>;

impl<'a> Cursor<'a> {
    /// A cursor over `tokens`; `end` is the place that follows them.
    pub fn new(tokens: &'a [TokenWithSpan], end: Place) -> Self {
        Self {
            tokens,
            at: 0,
            half_shift: false,
            end,
        }
    }

    pub fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at).map(|token| &token.token)
    }

    /// Where the next token begins, or where one is missing.
    pub fn place(&self) -> Place {
        self.tokens.get(self.at).map_or(self.end, |token| token.span.into())
    }

    /// The place that follows the last token.
    pub fn place_after(&self) -> Place {
        self.end
    }

    pub fn span(&self) -> Option<Span> {
        self.tokens.get(self.at).map(|token| token.span)
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn advance(&mut self) {
        self.at += 1;
    }

    /// Tokens not consumed yet.
    pub fn rest(&self) -> &'a [TokenWithSpan] {
        self.tokens.get(self.at..).unwrap_or_default()
    }

    /// The next token, if it is a word.
    pub fn peek_word(&self) -> Option<&'a Word> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// Whether the next token is the unquoted word `keyword`.
    pub fn peek_keyword(&self, keyword: &str) -> bool {
        self.peek_word()
            .is_some_and(|word| word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword))
    }

    /// Consumes the unquoted words `keywords`, all or none.
    pub fn keywords(&mut self, keywords: &[&str]) -> bool {
        let mut ahead = *self;
        for keyword in keywords {
            if !ahead.peek_keyword(keyword) {
                return false;
            }
            ahead.advance();
        }
        *self = ahead;
        true
    }

    pub fn sign(&mut self, sign: &Token) -> bool {
        let found = self.peek() == Some(sign);
        if found {
            self.advance();
        }
        found
    }

    /// Consumes one `>`, which may be half of a `>>`.
    pub fn close_angle(&mut self) -> bool {
        match self.peek() {
            Some(Token::Gt) => self.advance(),
            Some(Token::ShiftRight) if self.half_shift => {
                self.half_shift = false;
                self.advance();
            }
            Some(Token::ShiftRight) => self.half_shift = true,
            _ => return false,
        }
        true
    }

    /// Consumes an identifier.
    pub fn name(&mut self, what: &str) -> Result<Name, Diagnostic> {
        match (self.peek_word(), self.span()) {
            (Some(word), Some(span)) => {
                self.advance();
                Ok(Name {
                    ident: word.clone().into_ident(span),
                    place: span.into(),
                })
            }
            _ => Err(self.expected(what)),
        }
    }

    /// "expected X, found Y" at the next token.
    pub fn expected(&self, what: &str) -> Diagnostic {
        let found = self
            .peek()
            .map_or_else(|| "the end".to_owned(), |token| format!("`{token}`"));
        Diagnostic::new(self.place(), format!("expected {what}, found {found}"))
    }

    /// Requires that everything is consumed.
    pub fn finish(&self, what: &str) -> Result<(), Diagnostic> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    /// Consumes `( a, b, … )` and gives a cursor per item. Commas inside brackets of any kind do not separate. An empty list
    /// has no items; a trailing comma is refused.
    pub fn list(&mut self, what: &str) -> Result<Items<'a>, Diagnostic> {
        let open = self.place();
        if !self.sign(&Token::LParen) {
            return Err(self.expected(&format!("`(` and {what}")));
        }
        let body = self.rest();
        let mut items = Vec::new();
        let (mut parens, mut angles, mut begin) = (0_usize, 0_usize, 0);
        for (index, token) in body.iter().enumerate() {
            let mut ends = false;
            match token.token {
                Token::RParen if parens == 0 => ends = true,
                Token::Comma => ends = parens == 0 && angles == 0,
                Token::LParen | Token::LBracket => parens += 1,
                Token::RParen | Token::RBracket => parens = parens.saturating_sub(1),
                Token::Lt => angles += 1,
                Token::Gt => angles = angles.saturating_sub(1),
                Token::ShiftRight => angles = angles.saturating_sub(2),
                _ => {}
            }
            if !ends {
                continue;
            }
            let last = token.token == Token::RParen;
            if begin < index || !last || !items.is_empty() {
                items.push(Cursor::new(&body[begin..index], token.span.into()));
            }
            begin = index + 1;
            if last {
                self.at += begin;
                return Ok(items);
            }
        }
        Err(Diagnostic::new(open, "this `(` is never closed"))
    }
}
