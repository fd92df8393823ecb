//! What a request for the rows of a view asks for, as its query string says.

use std::sync::Arc;

use anabranch_catalog::did_you_mean;
use anabranch_view::View;
use arrow::array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, lit};

use crate::Error;
use crate::format::sql_type;
use crate::params;
use crate::snapshot::consistency::Demand;

/// `GET /v1/views/{view}/rows`: filters, order and columns of one view.
#[derive(Clone, Debug)]
pub(crate) struct RowsRequest {
    pub(super) filters: Vec<Expr>,
    /// Column index, descending.
    pub(super) order: Vec<(usize, bool)>,
    pub(super) limit: Option<usize>,
    pub(super) offset: usize,
    pub(super) columns: Option<Vec<usize>>,
    /// A larger answer is refused as soon as so much of it is read.
    most: Option<usize>,
    pub(super) demand: Demand,
}

impl RowsRequest {
    /// Reads the query string. A column that is called like a parameter is reached with an operator: `limit.eq=5`.
    ///
    /// # Errors
    /// For unknown columns, operators and parameters, and values that are not of the column's type.
    pub(crate) fn parse(view: &View, pairs: &[(String, String)]) -> Result<Self, Error> {
        let schema = view.output_schema();
        let (mut filters, mut order, mut columns) = (Vec::new(), None, None);
        let (mut limit, mut offset) = (None, 0);
        let (mut require, mut at_least, mut timeout, mut layer) = (None, None, None, None);
        for (key, value) in pairs {
            match key.as_str() {
                "order" => order = Some(parse_order(view, &schema, value)?),
                "limit" => limit = Some(parse_count("limit", value)?),
                "offset" => offset = parse_count("offset", value)?,
                "columns" => {
                    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                    columns = Some(
                        names
                            .map(|name| column(view, &schema, name))
                            .collect::<Result<Vec<_>, _>>()?,
                    );
                }
                "require" => require = Some(value.as_str()),
                "at_least" => at_least = Some(params::at_least_text(value)?),
                "timeout" => timeout = Some(value.as_str()),
                "layer" => layer = Some(value.as_str()),
                _ => filters.push(parse_filter(view, &schema, key, value)?),
            }
        }
        if columns.as_ref().is_some_and(Vec::is_empty) {
            columns = None;
        }
        // The keys decide among equals: pages follow each other, and live rows keep their places.
        let mut order: Vec<(usize, bool)> = order.unwrap_or_default();
        for (index, descending) in default_order(view, &schema) {
            if !order.iter().any(|(known, _)| *known == index) {
                order.push((index, descending));
            }
        }
        Ok(Self {
            filters,
            order,
            limit,
            offset,
            columns,
            most: None,
            demand: params::demand(require, at_least, timeout, layer)?,
        })
    }

    /// Takes out which columns are shown, so that all of them are; `None` when all were.
    pub(crate) fn take_columns(&mut self) -> Option<Vec<usize>> {
        self.columns.take()
    }

    /// The same, of which no more than so many rows are read: an answer that has more is `LiveTooLarge`.
    pub(crate) fn at_most(mut self, rows: usize) -> Self {
        self.most = Some(rows);
        self
    }

    /// Rows of the page, when so many rows fit the filters.
    pub(super) fn rows_of_page(&self, rows: usize) -> usize {
        rows.saturating_sub(self.offset).min(self.limit.unwrap_or(usize::MAX))
    }

    /// # Errors
    /// When a page of so many rows is too large.
    pub(super) fn check(&self, found: usize) -> Result<(), Error> {
        match self.most {
            Some(limit) if found > limit => Err(Error::LiveTooLarge {
                found,
                unit: "rows",
                limit,
            }),
            _ => Ok(()),
        }
    }

    /// How long the request may wait for its demands.
    pub(crate) fn wait(&self) -> std::time::Duration {
        self.demand.timeout
    }
}

/// The view's keys, so that pages follow each other.
fn default_order(view: &View, schema: &SchemaRef) -> Vec<(usize, bool)> {
    let keys = view
        .output_keys()
        .iter()
        .filter_map(|(name, _)| schema.index_of(name).ok());
    keys.filter(|index| !schema.field(*index).data_type().is_nested())
        .map(|index| (index, false))
        .collect()
}

fn parse_order(view: &View, schema: &SchemaRef, value: &str) -> Result<Vec<(usize, bool)>, Error> {
    let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let (name, descending) = match entry.strip_prefix('-') {
                // A column may begin with a minus itself.
                Some(rest) if schema.index_of(entry).is_err() => (rest, true),
                _ => (entry, false),
            };
            let index = column(view, schema, name)?;
            if schema.field(index).data_type().is_nested() {
                return Err(Error::Request {
                    message: format!(
                        "{name} is {} and has no order",
                        sql_type(schema.field(index).data_type())
                    ),
                    hint: None,
                });
            }
            Ok((index, descending))
        })
        .collect()
}

fn parse_count(name: &str, value: &str) -> Result<usize, Error> {
    value.trim().parse().map_err(|_| Error::Request {
        message: format!("{name} is {value:?}"),
        hint: Some("give a number of rows".into()),
    })
}

fn column(view: &View, schema: &Schema, name: &str) -> Result<usize, Error> {
    schema.index_of(name).map_err(|_| Error::UnknownColumn {
        view: view.name().to_owned(),
        column: name.to_owned(),
        hint: did_you_mean(name, schema.fields().iter().map(|field| field.name().as_str())),
    })
}

fn parse_filter(view: &View, schema: &SchemaRef, key: &str, value: &str) -> Result<Expr, Error> {
    let (index, operator) = match (schema.index_of(key), key.rsplit_once('.')) {
        (Ok(index), _) => (index, "eq"),
        (Err(_), Some((name, operator))) => (column(view, schema, name)?, operator),
        (Err(_), None) => {
            // Says what it is not: a column, nor one of the parameters.
            let known = schema.fields().iter().map(|field| field.name().as_str());
            let known = known.chain([
                "order", "limit", "offset", "columns", "require", "at_least", "timeout", "layer",
            ]);
            let hint = did_you_mean(key, known);
            return Err(Error::UnknownColumn {
                view: view.name().to_owned(),
                column: key.to_owned(),
                hint,
            });
        }
    };
    let field = schema.field(index);
    let this = Expr::Column(Column::from_name(field.name()));
    let value_of = |text: &str| literal(field.name(), field.data_type(), text);
    Ok(match operator {
        "eq" => this.eq(value_of(value)?),
        "ne" => this.not_eq(value_of(value)?),
        "gt" => this.gt(value_of(value)?),
        "gte" => this.gt_eq(value_of(value)?),
        "lt" => this.lt(value_of(value)?),
        "lte" => this.lt_eq(value_of(value)?),
        "in" => this.in_list(value.split(',').map(value_of).collect::<Result<_, _>>()?, false),
        "null" => match value.trim() {
            "true" | "1" | "" => this.is_null(),
            "false" | "0" => this.is_not_null(),
            other => {
                return Err(Error::Request {
                    message: format!("{key} is {other:?}"),
                    hint: Some("write true or false".into()),
                });
            }
        },
        other => {
            return Err(Error::Request {
                message: format!("{other} is no comparison"),
                hint: Some("there are eq, ne, gt, gte, lt, lte, in and null".into()),
            });
        }
    })
}

/// Reads a value of a column's type, spelled as answers spell it.
fn literal(name: &str, data_type: &DataType, text: &str) -> Result<Expr, Error> {
    let bad = |hint: Option<String>| Error::Request {
        message: format!("{text:?} is no {} for {name}", sql_type(data_type)),
        hint,
    };
    if data_type.is_nested() {
        return Err(Error::Request {
            message: format!("{name} is {} and cannot be compared here", sql_type(data_type)),
            hint: Some("use POST /v1/sql".into()),
        });
    }
    let array: ArrayRef = match data_type {
        DataType::Utf8 => Arc::new(StringArray::from(vec![text])),
        DataType::Binary => {
            let bytes = BASE64_STANDARD
                .decode(text)
                .map_err(|_| bad(Some("write bytes in base64".into())))?;
            Arc::new(BinaryArray::from_vec(vec![&bytes]))
        }
        _ => {
            let strict = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            let trimmed: ArrayRef = Arc::new(StringArray::from(vec![text.trim()]));
            match cast_with_options(&trimmed, data_type, &strict) {
                Ok(array) if array.is_valid(0) => array,
                _ => return Err(bad(spelling(data_type))),
            }
        }
    };
    ScalarValue::try_from_array(&array, 0)
        .map(lit)
        .map_err(Error::from_query)
}

fn spelling(data_type: &DataType) -> Option<String> {
    let text = match data_type {
        DataType::Timestamp(..) => "write it like 2015-09-12T01:00:00Z",
        DataType::Date32 | DataType::Date64 => "write it like 2015-09-12",
        DataType::Boolean => "write true or false",
        data_type if data_type.is_integer() => "write a whole number in the column's range",
        data_type if data_type.is_numeric() => "write a number",
        _ => return None,
    };
    Some(text.to_owned())
}
