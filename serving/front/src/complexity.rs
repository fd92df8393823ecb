//! How much of a statement is looked at before it is refused: parsers and planners go down one level of their stack for each
//! operator of a chain.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Operators, keywords and parentheses in one statement: each may be a level of what is planned, and levels cost stack.
/// Names, values and commas do not count, so a list may be as long as a request.
pub const MAX_OPERATORS: usize = 4096;

/// Expressions in each other. The planner looks at all that is below a level for each level: a chain of four thousand takes
/// sixteen times as long as one of a thousand, in one step that no time-out interrupts.
pub const MAX_DEPTH: usize = 1_100;

/// What a thread that parses or plans statements needs as its stack, in bytes.
pub const PLANNING_STACK_BYTES: usize = 64 << 20;

/// Whether a text has more than [`MAX_OPERATORS`]; takes no stack itself.
pub fn has_too_many_operators(sql: &str, dialect: &dyn Dialect) -> bool {
    // A shorter one cannot have more.
    sql.len() > MAX_OPERATORS && operators(sql, dialect) > MAX_OPERATORS
}

/// Whether a statement has more than `most` expressions in each other. Takes stack in proportion to their depth, so only what
/// does not have [too many operators](has_too_many_operators) is to be asked.
pub fn is_deeper(statement: &impl Visit, most: usize) -> bool {
    struct Depth {
        now: usize,
        most: usize,
    }

    impl Visitor for Depth {
        type Break = ();

        fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
            self.now += 1;
            match self.now > self.most {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }

        fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
            self.now -= 1;
            ControlFlow::Continue(())
        }
    }

    statement.visit(&mut Depth { now: 0, most }).is_break()
}

fn operators(sql: &str, dialect: &dyn Dialect) -> usize {
    // What is no SQL is the parser's to explain.
    let tokens = Tokenizer::new(dialect, sql).tokenize().unwrap_or_default();
    let deepens = |token: &&Token| match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Whitespace(_) => false,
        Token::Comma | Token::Period | Token::Placeholder(_) => false,
        _ => true,
    };
    tokens.iter().filter(deepens).count()
}
