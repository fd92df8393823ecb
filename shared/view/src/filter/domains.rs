//! What a predicate says of single keys: values or a range, as far as that follows from it.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};

/// By key column. A key that is not there may be anything.
pub(crate) type Domains = BTreeMap<usize, Domain>;

/// The values that one key may have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Domain {
    Points(Vec<ScalarValue>),
    /// Values and whether they are included; all of them hold.
    Between {
        lower: Vec<(ScalarValue, bool)>,
        upper: Vec<(ScalarValue, bool)>,
    },
}

/// Reads domains out of predicates.
pub(crate) struct Reader<'r> {
    /// Name, column of the state, and type of each key.
    pub keys: &'r [(&'r str, usize, &'r DataType)],
    /// Computes what does not depend on a row.
    pub constant: &'r dyn Fn(&Expr) -> Option<ScalarValue>,
}

impl Reader<'_> {
    pub(crate) fn read(&self, predicate: &Expr) -> Domains {
        match predicate {
            Expr::BinaryExpr(binary) => match binary.op {
                Operator::And => both(self.read(&binary.left), self.read(&binary.right)),
                Operator::Or => either(self.read(&binary.left), self.read(&binary.right)),
                operator => self
                    .comparison(&binary.left, operator, &binary.right)
                    .or_else(|| self.comparison(&binary.right, operator.swap()?, &binary.left))
                    .into_iter()
                    .collect(),
            },
            Expr::Between(between) if !between.negated => {
                let compare = |operator, bound| self.comparison(&between.expr, operator, bound);
                let lower = compare(Operator::GtEq, &between.low).into_iter().collect();
                both(lower, compare(Operator::LtEq, &between.high).into_iter().collect())
            }
            Expr::InList(list) if !list.negated => self.list(&list.expr, &list.list).into_iter().collect(),
            Expr::IsNull(inner) => self.null(inner).into_iter().collect(),
            Expr::Alias(alias) => self.read(&alias.expr),
            _ => Domains::new(),
        }
    }

    fn comparison(&self, key: &Expr, operator: Operator, value: &Expr) -> Option<(usize, Domain)> {
        let (key, data_type) = self.key(key)?;
        let value = exactly(&(self.constant)(value)?, data_type)?;
        let (mut lower, mut upper) = (Vec::new(), Vec::new());
        match operator {
            Operator::Eq => return Some((key, Domain::Points(vec![value]))),
            Operator::Gt => lower.push((value, false)),
            Operator::GtEq => lower.push((value, true)),
            Operator::Lt => upper.push((value, false)),
            Operator::LtEq => upper.push((value, true)),
            _ => return None,
        }
        Some((key, Domain::Between { lower, upper }))
    }

    fn list(&self, key: &Expr, values: &[Expr]) -> Option<(usize, Domain)> {
        let (key, data_type) = self.key(key)?;
        let mut points = Vec::with_capacity(values.len());
        for value in values {
            let value = (self.constant)(value)?;
            // Nothing is equal to null.
            if !value.is_null() {
                points.push(exactly(&value, data_type)?);
            }
        }
        Some((key, Domain::Points(points)))
    }

    fn null(&self, key: &Expr) -> Option<(usize, Domain)> {
        let (key, data_type) = self.key(key)?;
        let null = ScalarValue::try_from(data_type).ok()?;
        Some((key, Domain::Points(vec![null])))
    }

    /// A key column, bare or under casts that keep values apart and in order.
    fn key(&self, expr: &Expr) -> Option<(usize, &DataType)> {
        match expr {
            Expr::Column(column) => {
                let (_, key, data_type) = self.keys.iter().find(|(name, ..)| *name == column.name)?;
                Some((*key, data_type))
            }
            Expr::Cast(cast) => {
                let (key, data_type) = self.key(&cast.expr)?;
                keeps_order(data_type, cast.field.data_type()).then_some((key, data_type))
            }
            _ => None,
        }
    }
}

/// Whether a cast is injective and ascending, wherever it succeeds.
fn keeps_order(from: &DataType, to: &DataType) -> bool {
    let is_utc =
        |zone: &Option<std::sync::Arc<str>>| zone.as_deref().is_none_or(|zone| zone == "UTC" || zone == "+00:00");
    match (from, to) {
        (from, to) if from == to => true,
        (DataType::Timestamp(fine, from), DataType::Timestamp(finer, to)) => {
            finer >= fine && is_utc(from) && is_utc(to)
        }
        (DataType::Date32, DataType::Timestamp(_, zone)) => is_utc(zone),
        (DataType::Utf8, to) => matches!(to, DataType::LargeUtf8 | DataType::Utf8View),
        (from, to) => from.is_integer() && to.is_integer(),
    }
}

/// The value in a key's own type, if it has it there without loss.
fn exactly(value: &ScalarValue, data_type: &DataType) -> Option<ScalarValue> {
    if value.is_null() {
        return None;
    }
    if &value.data_type() == data_type {
        return Some(value.clone());
    }
    let own = value.cast_to(data_type).ok().filter(|own| !own.is_null())?;
    (own.cast_to(&value.data_type()).ok()? == *value).then_some(own)
}

fn both(mut left: Domains, right: Domains) -> Domains {
    for (key, domain) in right {
        let met = match (left.remove(&key), domain) {
            (None, domain) => domain,
            (Some(Domain::Points(left)), Domain::Points(right)) => {
                Domain::Points(left.into_iter().filter(|value| right.contains(value)).collect())
            }
            (Some(points @ Domain::Points(_)), _) | (Some(_), points @ Domain::Points(_)) => points,
            (
                Some(Domain::Between { mut lower, mut upper }),
                Domain::Between {
                    lower: more_lower,
                    upper: more_upper,
                },
            ) => {
                lower.extend(more_lower);
                upper.extend(more_upper);
                Domain::Between { lower, upper }
            }
        };
        left.insert(key, met);
    }
    left
}

fn either(left: Domains, mut right: Domains) -> Domains {
    let mut joined = Domains::new();
    for (key, domain) in left {
        if let (Domain::Points(mut points), Some(Domain::Points(more))) = (domain, right.remove(&key)) {
            points.extend(more);
            joined.insert(key, Domain::Points(points));
        }
    }
    joined
}
