//! `SIMILAR TO`, of which the planner takes the pattern for a regular expression.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, ValueWithSpan};

use super::{text_of, text_value};
use crate::PgError;

/// The test as one of a regular expression.
///
/// # Errors
/// 0A000 when the pattern is not spelled out, or has an escape character of its own.
pub(super) fn matched(
    expr: &Expr,
    pattern: &Expr,
    escape: Option<&ValueWithSpan>,
    negated: bool,
) -> Result<Expr, PgError> {
    let plain = escape.is_none_or(|escape| escape.value.to_string() == "'\\'");
    let Some(text) = text_of(pattern).filter(|_| plain) else {
        let error = PgError::unsupported("SIMILAR TO takes a text here, with no escape character of its own");
        return Err(error.with_hint("write a regular expression: x ~ '…'"));
    };
    Ok(Expr::BinaryOp {
        left: Box::new(expr.clone()),
        op: match negated {
            false => BinaryOperator::PGRegexMatch,
            true => BinaryOperator::PGRegexNotMatch,
        },
        right: Box::new(text_value(&regex(text))),
    })
}

fn regex(pattern: &str) -> String {
    let mut written = String::from("^(?s:");
    let (mut rest, mut bracket) = (pattern.chars(), false);
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                written.push('\\');
                written.extend(rest.next());
            }
            ']' if bracket => {
                bracket = false;
                written.push(c);
            }
            '[' if !bracket => {
                bracket = true;
                written.push(c);
            }
            _ if bracket => written.push(c),
            '%' => written.push_str(".*"),
            '_' => written.push('.'),
            '.' | '^' | '$' => {
                written.push('\\');
                written.push(c);
            }
            _ => written.push(c),
        }
    }
    written.push_str(")$");
    written
}
