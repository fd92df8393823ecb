mod values;

use std::time::Duration;

use anabranch_model::TopicOffsets;
use datafusion::common::ScalarValue;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::Error;
use crate::openapi::{self, LayerName, Offsets, Patience, Require};
use crate::snapshot::consistency::{Arm, Demand};

/// How long `require` and `at_least` wait unless the request says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Body of `POST /v1/sql`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlRequest {
    /// One SELECT.
    pub(crate) sql: String,
    /// Values of `$1`, `$2`, … in the query.
    #[serde(default)]
    #[schema(schema_with = openapi::parameter_values)]
    parameters: Vec<Value>,
    #[serde(default)]
    #[schema(value_type = Option<Require>)]
    require: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Offsets>)]
    at_least: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Option<Patience>)]
    timeout: Option<Value>,
    #[serde(default)]
    #[schema(value_type = Option<LayerName>)]
    layer: Option<String>,
}

impl SqlRequest {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(body).map_err(|error| Error::Request {
            message: format!("the body is not a query: {error}"),
            hint: Some(
                r#"send {"sql": "SELECT …"}, and if need be "parameters", "require", "at_least", "timeout", "layer""#
                    .into(),
            ),
        })
    }

    /// The values of the query's parameters, as JSON spells them.
    ///
    /// # Errors
    /// For objects, and for lists of different things.
    pub(crate) fn values(&self) -> Result<Vec<ScalarValue>, Error> {
        let values = self.parameters.iter().enumerate();
        values.map(|(index, value)| values::read(index + 1, value)).collect()
    }

    pub(crate) fn demand(&self) -> Result<Demand, Error> {
        let timeout = match &self.timeout {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        let at_least = self.at_least.clone().filter(|value| !value.is_null());
        demand(
            self.require.as_deref(),
            at_least,
            timeout.as_deref(),
            self.layer.as_deref(),
        )
    }
}

/// Reads a query string of which nothing else is expected than what an answer must cover.
pub(crate) fn of_pairs(pairs: &[(String, String)]) -> Result<Demand, Error> {
    let (mut require, mut at_least, mut timeout) = (None, None, None);
    for (key, value) in pairs {
        match key.as_str() {
            "require" => require = Some(value.as_str()),
            "at_least" => at_least = Some(at_least_text(value)?),
            "timeout" => timeout = Some(value.as_str()),
            other => {
                return Err(Error::Request {
                    message: format!("there is no parameter {other}"),
                    hint: Some("parameters are require, at_least and timeout".into()),
                });
            }
        }
    }
    demand(require, at_least, timeout, None)
}

/// Reads the parameters that say what an answer must cover, and which arm of the river it shows.
pub(crate) fn demand(
    require: Option<&str>,
    at_least: Option<Value>,
    timeout: Option<&str>,
    layer: Option<&str>,
) -> Result<Demand, Error> {
    let exact = match require {
        None | Some("") => false,
        Some("exact") => true,
        Some(other) => {
            return Err(Error::Request {
                message: format!("require is {other:?}"),
                hint: Some("the only demand is \"exact\"".into()),
            });
        }
    };
    let at_least = at_least.map(offsets).transpose()?.unwrap_or_default();
    let timeout = timeout.map(duration).transpose()?.unwrap_or(DEFAULT_TIMEOUT);
    let arm = match layer {
        None | Some("" | "merged") => Arm::Merged,
        Some("batch") => Arm::Batch,
        Some("realtime") => Arm::Realtime,
        Some(other) => {
            return Err(Error::Request {
                message: format!("layer is {other:?}"),
                hint: Some("write merged (the default), batch or realtime".into()),
            });
        }
    };
    if arm != Arm::Merged && (exact || !at_least.is_empty()) {
        return Err(Error::Request {
            message: "one layer alone cannot meet require or at_least".into(),
            hint: Some("leave layer out, or leave out require and at_least".into()),
        });
    }
    Ok(Demand {
        exact,
        at_least,
        timeout,
        arm,
    })
}

/// `at_least` as it stands in a query string: JSON text.
pub(crate) fn at_least_text(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|_| bad_at_least(text))
}

fn offsets(value: Value) -> Result<TopicOffsets, Error> {
    let text = value.to_string();
    serde_json::from_value(value).map_err(|_| bad_at_least(&text))
}

fn bad_at_least(text: &str) -> Error {
    Error::Request {
        message: format!("at_least is {text}"),
        hint: Some(r#"give the "through" of an ingest answer: {"topic/partition": next offset}"#.into()),
    }
}

/// `5s`, `250ms`, or seconds as a plain number.
fn duration(text: &str) -> Result<Duration, Error> {
    span("timeout", text, Duration::ZERO, LONGEST_TIMEOUT)
}

/// A parameter that is a time: `5s`, `250ms`, or seconds as a plain number.
///
/// # Errors
/// When it is no time, or not between the two bounds.
pub(crate) fn span(name: &str, text: &str, shortest: Duration, longest: Duration) -> Result<Duration, Error> {
    let bad = || Error::Request {
        message: format!("{name} is {text:?}"),
        hint: Some(match shortest.is_zero() {
            true => format!("write it as 5s, 250ms or a number of seconds, up to {longest:?}"),
            false => format!("write it as 5s, 250ms or a number of seconds, from {shortest:?} to {longest:?}"),
        }),
    };
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let seconds = match unit.trim() {
        "" | "s" | "sec" | "second" | "seconds" => number,
        "ms" => number / 1e3,
        "m" | "min" | "minute" | "minutes" => number * 60.0,
        _ => return Err(bad()),
    };
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
    if duration > longest || duration < shortest {
        Err(bad())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests;
