//! Statements that differ only in the values that they compare with, as those of programs that put values into their text:
//! with parameters in the place of these values they are one statement, which is planned once.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, SetExpr, Statement as SqlStatement, Value};

/// More values than anybody compares with by hand.
const MOST: usize = 32;

/// A statement with parameters, and the values that stood there.
pub(super) struct Lifted {
    pub(super) statement: Statement,
    /// What all statements of this kind have in common.
    pub(super) text: Arc<str>,
    pub(super) values: Vec<ScalarValue>,
}

impl Lifted {
    /// Takes texts and whole numbers out of the comparisons of the outermost WHERE; `None` when there are none, or parameters
    /// beside them.
    pub(super) fn of(sql: &str, statement: &Statement) -> Option<Self> {
        // What is no parameter but looks like one is not worth telling apart.
        if sql.contains(['$', '?']) {
            return None;
        }
        let mut statement = statement.clone();
        let mut values = Vec::new();
        let Statement::Statement(inner) = &mut statement else {
            return None;
        };
        let SqlStatement::Query(query) = inner.as_mut() else {
            return None;
        };
        let SetExpr::Select(select) = query.body.as_mut() else {
            return None;
        };
        lift(select.selection.as_mut()?, &mut values);
        (!values.is_empty()).then(|| Self {
            // No statement begins like this.
            text: format!("\0{statement}").into(),
            statement,
            values,
        })
    }

    /// Whether comparing with parameters of these types is comparing with the values that stood there. What the planner makes
    /// of a text beside a time, or of a number beside a decimal, is its own affair.
    pub(super) fn fits(&self, parameters: &[Option<DataType>]) -> bool {
        let same = |(value, wanted): (&ScalarValue, &Option<DataType>)| {
            matches!(
                (value, wanted),
                (ScalarValue::Utf8(_), Some(DataType::Utf8))
                    | (ScalarValue::Int64(_), Some(DataType::Int64 | DataType::Int32))
            )
        };
        self.values.len() == parameters.len() && self.values.iter().zip(parameters).all(same)
    }
}

fn lift(condition: &mut Expr, values: &mut Vec<ScalarValue>) {
    match condition {
        Expr::Nested(inner) => lift(inner, values),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            lift(left, values);
            lift(right, values);
        }
        Expr::BinaryOp {
            left,
            op:
                BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq,
            right,
        } => match (is_column(left), is_column(right)) {
            (true, false) => take(right, values),
            (false, true) => take(left, values),
            _ => {}
        },
        _ => {}
    }
}

fn is_column(side: &Expr) -> bool {
    matches!(side, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn take(side: &mut Expr, values: &mut Vec<ScalarValue>) {
    let Expr::Value(value) = side else { return };
    let taken = match &value.value {
        Value::SingleQuotedString(text) => ScalarValue::from(text.as_str()),
        // Others are of other types.
        Value::Number(digits, false) => match digits.parse::<i64>() {
            Ok(number) => ScalarValue::from(number),
            Err(_) => return,
        },
        _ => return,
    };
    if values.len() < MOST {
        values.push(taken);
        value.value = Value::Placeholder(format!("${}", values.len()));
    }
}

#[cfg(test)]
mod tests;
