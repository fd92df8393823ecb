//! PostgreSQL's SQL in the words of the planner, which reads DataFusion's: operators, types, patterns of times and literals that
//! mean something else there, or nothing. What has no counterpart is refused rather than answered otherwise.

mod literal;
mod names;
mod similar;
mod template;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, BinaryOperator, DataType, ExactNumberInfo, Expr, Fetch, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, Ident, Interval, LimitClause, ObjectName, Query, Select, SelectItem, SetExpr,
    Statement, UnaryOperator, UtilityOption, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

pub(crate) use self::names::told;
use crate::types::{self, sql_name};
use crate::{PgError, encode};

/// Who plans a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planner {
    /// The query engine, which parses text.
    Engine,
    /// The catalog, which knows PostgreSQL's own types already.
    Catalog,
}

/// `TABLE x` as the query that it stands for; other statements as they are.
pub(crate) fn table_command(sql: &str) -> Option<String> {
    let trimmed = sql.trim_start();
    let (word, rest) = trimmed.split_at_checked(5)?;
    let follows = rest.starts_with(|c: char| c.is_whitespace() || c == '"');
    (word.eq_ignore_ascii_case("TABLE") && follows).then(|| format!("SELECT * FROM {rest}"))
}

/// Rewrites a statement in place; whether anything has changed.
///
/// # Errors
/// 0A000 for what the planner would answer otherwise than PostgreSQL.
pub(crate) fn rewrite(statement: &mut Statement, planner: Planner) -> Result<bool, PgError> {
    let mut words = Words {
        planner,
        changed: false,
    };
    match statement {
        Statement::Query(query) => words.changed |= distinct_names(&mut query.body),
        Statement::Explain { analyze, options, .. } => {
            if let Some(known) = options.take_if(|options| options.iter().all(is_plain)) {
                *analyze |= known
                    .iter()
                    .any(|option| option.name.value.eq_ignore_ascii_case("ANALYZE") && is_on(option));
                words.changed = true;
            }
        }
        _ => {}
    }
    match statement.visit(&mut words) {
        ControlFlow::Continue(()) => Ok(words.changed),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Options of EXPLAIN that say how much is told; the planner tells what it has.
fn is_plain(option: &UtilityOption) -> bool {
    let name = option.name.value.to_ascii_uppercase();
    matches!(
        name.as_str(),
        "ANALYZE"
            | "VERBOSE"
            | "COSTS"
            | "SETTINGS"
            | "GENERIC_PLAN"
            | "BUFFERS"
            | "WAL"
            | "TIMING"
            | "SUMMARY"
            | "MEMORY"
    )
}

fn is_on(option: &UtilityOption) -> bool {
    let value = option.arg.as_ref().map(|value| value.to_string().to_ascii_lowercase());
    !matches!(value.as_deref(), Some("false" | "off" | "0"))
}

/// Gives columns that the planner would have under one name names of their own: PostgreSQL minds none. Clients are
/// [`told`] the names as they would be there.
fn distinct_names(body: &mut SetExpr) -> bool {
    let select = match body {
        SetExpr::Select(select) => select,
        SetExpr::Query(query) => return distinct_names(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            let left = distinct_names(left);
            return distinct_names(right) || left;
        }
        _ => return false,
    };
    let (mut taken, mut changed) = (Vec::<String>::new(), false);
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (expr, name) = match &*item {
            SelectItem::UnnamedExpr(expr) => (expr, unconverted(expr).to_string()),
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.value.clone()),
            _ => continue,
        };
        if !taken.contains(&name) {
            taken.push(name);
            continue;
        }
        let own = format!("{name}:{}", at + 1);
        *item = SelectItem::ExprWithAlias {
            expr: expr.clone(),
            alias: Ident::with_quote('"', own.clone()),
        };
        taken.push(own);
        changed = true;
    }
    changed
}

/// What the planner names a column by: a cast changes no name.
fn unconverted(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => unconverted(expr),
        other => other,
    }
}

struct Words {
    planner: Planner,
    changed: bool,
}

impl VisitorMut for Words {
    type Break = PgError;

    /// The planner tests for rows only where rows are filtered; a column that tells of some counts them.
    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<PgError> {
        for item in &mut select.projection {
            let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
                continue;
            };
            if let Expr::Exists { subquery, negated } = expr {
                let test = if *negated { "= 0" } else { "> 0" };
                if let Some(counted) = parsed(&format!("(SELECT count(*) {test} FROM ({subquery}) AS found)")) {
                    *expr = counted;
                    self.changed = true;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<PgError> {
        match query.fetch.take() {
            None => ControlFlow::Continue(()),
            Some(Fetch {
                with_ties: false,
                percent: false,
                quantity,
            }) => {
                let offset = match query.limit_clause.take() {
                    Some(LimitClause::LimitOffset { offset, .. }) => offset,
                    _ => None,
                };
                query.limit_clause = Some(LimitClause::LimitOffset {
                    limit: Some(quantity.unwrap_or_else(|| parsed("1").unwrap_or_else(null))),
                    offset,
                    limit_by: Vec::new(),
                });
                self.changed = true;
                ControlFlow::Continue(())
            }
            Some(_) => ControlFlow::Break(PgError::unsupported("FETCH FIRST … WITH TIES is not supported")),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<PgError> {
        match self.replaced(expr) {
            Ok(None) => {}
            Ok(Some(other)) => {
                *expr = other;
                self.changed = true;
            }
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

impl Words {
    /// What an expression is for the planner, where that is another one.
    fn replaced(&self, expr: &Expr) -> Result<Option<Expr>, PgError> {
        Ok(match expr {
            Expr::Value(ValueWithSpan {
                value: Value::UnicodeStringLiteral(text),
                ..
            }) => Some(text_value(text)),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::PGExp,
                right,
            } => parsed(&format!("power(CAST({left} AS DOUBLE PRECISION), {right})")),
            Expr::BinaryOp { left, op, right } => scaled(left, op, right),
            Expr::UnaryOp { op, expr } => match op {
                UnaryOperator::PGSquareRoot => parsed(&format!("sqrt({expr})")),
                UnaryOperator::PGCubeRoot => parsed(&format!("cbrt({expr})")),
                UnaryOperator::PGAbs => parsed(&format!("abs({expr})")),
                _ => None,
            },
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } => elements(right)?.map(|list| in_list(left, list, false)),
            Expr::AllOp {
                left,
                compare_op: BinaryOperator::NotEq,
                right,
            } => elements(right)?.map(|list| in_list(left, list, true)),
            Expr::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => Some(similar::matched(expr, pattern, escape_char.as_ref(), *negated)?),
            Expr::Interval(interval) => plain_interval(interval).and_then(|text| parsed(&format!("INTERVAL '{text}'"))),
            Expr::Cast {
                kind,
                expr,
                data_type,
                array,
                format,
            } => {
                if let Some(list) = array_literal(expr, data_type)? {
                    return Ok(Some(list));
                }
                if let (DataType::Interval { .. }, Some(text)) = (data_type, text_of(expr))
                    && let Some(text) = with_clock(text)
                {
                    return Ok(parsed(&format!("INTERVAL '{text}'")));
                }
                if let (DataType::Bytea, Some(hex)) =
                    (data_type, text_of(expr).and_then(|text| text.strip_prefix("\\x")))
                {
                    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                        return Err(PgError::new("22023", format!("invalid hexadecimal data: \"{hex}\"")));
                    }
                    return Ok(Some(Expr::Value(
                        Value::HexStringLiteral(hex.to_owned()).with_empty_span(),
                    )));
                }
                self.planned_type(data_type).map(|data_type| Expr::Cast {
                    kind: kind.clone(),
                    expr: expr.clone(),
                    data_type,
                    array: *array,
                    format: format.clone(),
                })
            }
            Expr::Substring {
                expr,
                substring_from: Some(pattern),
                substring_for: None,
                ..
            } if text_of(pattern).is_some() => parsed(&format!("(regexp_match({expr}, {pattern}))[1]")),
            Expr::Function(function) => self.function(function)?,
            Expr::Identifier(name)
                if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("localtimestamp") =>
            {
                parsed("now()")
            }
            _ => None,
        })
    }

    fn function(&self, function: &Function) -> Result<Option<Expr>, PgError> {
        let Some(name) = function_name(function) else {
            return Ok(None);
        };
        let arguments = arguments(function);
        Ok(match (name.as_str(), arguments.as_slice()) {
            ("to_char", [value, pattern]) => match text_of(pattern) {
                Some(text) if !text.contains('%') => {
                    let format = text_value(&template::written(text)?);
                    parsed(&format!("to_char({value}, {format})"))
                }
                _ => None,
            },
            ("to_timestamp" | "to_date", [value, pattern]) => match text_of(pattern) {
                Some(text) if !text.contains('%') => {
                    let format = text_value(&template::read(text)?);
                    let function = match name.as_str() {
                        "to_date" => "to_date",
                        _ => "to_timestamp_micros",
                    };
                    parsed(&format!("{function}({value}, {format})"))
                }
                _ => None,
            },
            ("timezone", [zone, instant]) => parsed(&format!("(({instant}) AT TIME ZONE {zone})")),
            ("mod", [value, by]) => parsed(&format!("(({value}) % ({by}))")),
            ("localtimestamp", _) => parsed("now()"),
            ("every", [_]) => Some(Expr::Function(Function {
                name: ObjectName::from(vec![Ident::new("bool_and")]),
                ..function.clone()
            })),
            // The engine has its functions in no schema.
            _ if self.planner == Planner::Engine && function.name.0.len() == 2 => {
                let schema = function.name.0[0]
                    .as_ident()
                    .map(|schema| schema.value.to_ascii_lowercase());
                (schema.as_deref() == Some("pg_catalog")).then(|| {
                    Expr::Function(Function {
                        name: ObjectName::from(vec![Ident::new(name)]),
                        ..function.clone()
                    })
                })
            }
            _ => None,
        })
    }

    /// The type that the planner has for another one.
    fn planned_type(&self, kind: &DataType) -> Option<DataType> {
        match kind {
            // PostgreSQL's FLOAT has double precision.
            DataType::Float(ExactNumberInfo::Precision(bits)) if *bits <= 24 => Some(DataType::Real),
            DataType::Float(ExactNumberInfo::None | ExactNumberInfo::Precision(_)) => Some(DataType::DoublePrecision),
            DataType::Uuid | DataType::JSON | DataType::JSONB => Some(DataType::Text),
            DataType::Array(ArrayElemTypeDef::SquareBracket(item, size)) => {
                let item = self.planned_type(item)?;
                Some(DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), *size)))
            }
            DataType::Custom(name, modifiers) if modifiers.is_empty() && self.planner == Planner::Engine => {
                let name = name.0.last()?.as_ident()?.value.to_ascii_lowercase();
                let oid = types::oid_of(&name).or_else(|| (name == "char").then_some(types::TEXT))?;
                let spelled = match oid {
                    types::NAME | types::BPCHAR | types::VARCHAR | types::JSON | types::JSONB | types::UUID => "text",
                    types::OID => "integer",
                    other => sql_name(other),
                };
                let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(spelled);
                parser.ok()?.parse_data_type().ok()
            }
            _ => None,
        }
    }
}

/// `INTERVAL '5 minutes' * n`, and divided by n: a duration, which the planner can compute. Months have no duration.
fn scaled(left: &Expr, op: &BinaryOperator, right: &Expr) -> Option<Expr> {
    let micros = |expr: &Expr| match literal::interval(&interval_text(expr)?)? {
        (0, days, micros) => i64::from(days).checked_mul(86_400_000_000)?.checked_add(micros),
        _ => None,
    };
    let number = match op {
        BinaryOperator::Multiply => match (micros(left), micros(right)) {
            (Some(micros), None) => format!("({right}) * {micros}"),
            (None, Some(micros)) => format!("({left}) * {micros}"),
            _ => return None,
        },
        BinaryOperator::Divide => format!("{} / CAST({right} AS DOUBLE PRECISION)", micros(left)?),
        _ => return None,
    };
    parsed(&format!(
        "arrow_cast(CAST({number} AS BIGINT), 'Duration(Microsecond)')"
    ))
}

/// The text of an interval that is spelled out.
fn interval_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(expr) => interval_text(expr),
        Expr::Cast {
            expr,
            data_type: DataType::Interval { .. },
            ..
        } => text_of(expr).map(str::to_owned),
        Expr::Interval(Interval {
            value,
            leading_field,
            leading_precision: None,
            last_field: None,
            fractional_seconds_precision: None,
        }) => {
            let text = text_of(value)?;
            Some(match leading_field {
                Some(unit) => format!("{text} {unit}"),
                None => text.to_owned(),
            })
        }
        _ => None,
    }
}

/// The text of an interval with a clock in it, without one.
fn plain_interval(interval: &Interval) -> Option<String> {
    match interval.leading_field {
        None => with_clock(text_of(&interval.value)?),
        Some(_) => None,
    }
}

fn with_clock(text: &str) -> Option<String> {
    let (months, days, micros) = text.contains(':').then(|| literal::interval(text)).flatten()?;
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    Some(format!(
        "{months} months {days} days {sign}{}.{:06} seconds",
        micros / 1_000_000,
        micros % 1_000_000
    ))
}

/// The elements of an array that is spelled as a text; `None` for anything but a text.
///
/// # Errors
/// 22P02 for a text that spells none.
fn elements(expr: &Expr) -> Result<Option<Vec<Expr>>, PgError> {
    let Some(text) = text_of(expr) else {
        return Ok(None);
    };
    let items =
        encode::unescaped(text).ok_or_else(|| PgError::new("22P02", format!("malformed array literal: \"{text}\"")))?;
    let item = |item: Option<String>| item.map_or_else(null, |text| text_value(&text));
    Ok(Some(items.into_iter().map(item).collect()))
}

fn in_list(expr: &Expr, list: Vec<Expr>, negated: bool) -> Expr {
    if list.is_empty() {
        return Expr::Value(Value::Boolean(negated).with_empty_span());
    }
    Expr::InList {
        expr: Box::new(expr.clone()),
        list,
        negated,
    }
}

/// `'{a,b}'::text[]`.
fn array_literal(expr: &Expr, kind: &DataType) -> Result<Option<Expr>, PgError> {
    let DataType::Array(ArrayElemTypeDef::SquareBracket(..)) = kind else {
        return Ok(None);
    };
    let elem = elements(expr)?;
    Ok(elem.map(|elem| {
        let list = Expr::Array(Array { elem, named: true });
        Expr::Cast {
            kind: datafusion::sql::sqlparser::ast::CastKind::Cast,
            expr: Box::new(list),
            data_type: kind.clone(),
            array: false,
            format: None,
        }
    }))
}

/// The name of a function that is one of PostgreSQL's, in lower case.
fn function_name(function: &Function) -> Option<String> {
    let name = function.name.0.last()?.as_ident()?;
    Some(match name.quote_style {
        None => name.value.to_ascii_lowercase(),
        Some(_) => name.value.clone(),
    })
}

fn arguments(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return Vec::new();
    };
    let plain = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    plain.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// The text of a literal.
fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(expr) => text_of(expr),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) | Value::UnicodeStringLiteral(text) => {
                Some(text)
            }
            Value::DollarQuotedString(text) => Some(&text.value),
            _ => None,
        },
        _ => None,
    }
}

fn text_value(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).with_empty_span())
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

fn parsed(expr: &str) -> Option<Expr> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(expr).ok()?;
    parser.parse_expr().ok()
}

#[cfg(test)]
mod tests;
