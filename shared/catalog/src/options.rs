//! `WITH (key = 'value', …)`: every option of a table, checked.

use std::collections::HashMap;
use std::time::Duration;

use chrono::DateTime;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::cursor::Cursor;
use crate::{Connector, Diagnostic, OnGap, Place, Retention, Start, TimestampFormat, did_you_mean, nearest};

const NAMES: [&str; 12] = [
    "connector",
    "topic",
    "format",
    "event_time",
    "partitions",
    "start",
    "keep_raw",
    "on_gap",
    "timestamp_format",
    "retention_bytes",
    "retention_ms",
    "retention",
];

/// The options of one table, with defaults filled in where they do not depend on the table.
#[derive(Debug)]
pub(crate) struct Options {
    pub connector: Connector,
    pub topic: Option<String>,
    /// As written, with its place: only the table knows its columns.
    pub event_time: Option<(String, Place)>,
    pub partitions: Option<u32>,
    pub start: Start,
    pub keep_raw: bool,
    pub on_gap: OnGap,
    pub timestamp_format: TimestampFormat,
    pub retention: Retention,
    pub keep_for: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connector: Connector::Log,
            topic: None,
            event_time: None,
            partitions: None,
            start: Start::Earliest,
            keep_raw: true,
            on_gap: OnGap::default(),
            timestamp_format: TimestampFormat::default(),
            retention: Retention::default(),
            keep_for: None,
        }
    }
}

/// Reads the items of a `WITH (…)`; problems go to `problems`, and the options that were right still count.
pub(crate) fn options(items: &[Cursor<'_>], problems: &mut Vec<Diagnostic>) -> Options {
    let mut options = Options::default();
    let mut seen: HashMap<&'static str, Place> = HashMap::new();
    for item in items {
        let set = pair(*item).and_then(|pair| {
            if seen.insert(pair.key, pair.key_place).is_some() {
                return Err(Diagnostic::new(
                    pair.key_place,
                    format!("option `{}` is given twice", pair.key),
                ));
            }
            options.set(&pair)
        });
        problems.extend(set.err());
    }
    for key in ["retention_bytes", "retention_ms"] {
        if let (Some(place), Connector::Kafka) = (seen.get(key), options.connector) {
            problems.push(
                Diagnostic::new(*place, format!("option `{key}` is for connector = 'log'"))
                    .with_hint("Kafka's own topic configuration rules there; leave the option out"),
            );
        }
    }
    options
}

/// One `key = value`.
struct Pair {
    key: &'static str,
    key_place: Place,
    value: String,
    place: Place,
}

fn pair(mut item: Cursor<'_>) -> Result<Pair, Diagnostic> {
    let key_place = item.place();
    let written = match item.peek() {
        Some(Token::Word(word)) => word.value.clone(),
        // Flink writes its option names as text.
        Some(Token::SingleQuotedString(text)) => text.clone(),
        _ => return Err(item.expected("an option such as `connector = 'kafka'`")),
    };
    item.advance();
    let folded = written.to_ascii_lowercase();
    let Some(key) = NAMES.into_iter().find(|name| *name == folded) else {
        let hint = match folded.as_str() {
            "connector.topic" | "kafka.topic" => Some("did you mean `topic`?".to_owned()),
            _ => did_you_mean(&folded, NAMES),
        };
        return Err(Diagnostic {
            place: key_place,
            message: format!("unknown option `{written}`"),
            hint,
        });
    };
    if !item.sign(&Token::Eq) {
        return Err(item.expected("`=`"));
    }
    let place = item.place();
    let value = match item.peek() {
        Some(Token::SingleQuotedString(text) | Token::Number(text, false)) => text.clone(),
        Some(Token::Word(word)) if ["true", "false"].contains(&word.value.to_ascii_lowercase().as_str()) => {
            word.value.to_ascii_lowercase()
        }
        Some(Token::Word(word)) => {
            return Err(item
                .expected("a value")
                .with_hint(format!("put it in single quotes: '{}'", word.value)));
        }
        _ => return Err(item.expected("a value in single quotes, a number, or true or false")),
    };
    item.advance();
    item.finish("`,` or `)`")?;
    Ok(Pair {
        key,
        key_place,
        value,
        place,
    })
}

impl Options {
    fn set(&mut self, pair: &Pair) -> Result<(), Diagnostic> {
        match pair.key {
            "connector" => self.connector = pair.choose(&[("kafka", Connector::Kafka), ("log", Connector::Log)])?,
            "topic" => self.topic = Some(pair.topic()?),
            "format" => pair.choose(&[("json", ())])?,
            "event_time" => self.event_time = Some((pair.value.clone(), pair.place)),
            "partitions" => {
                self.partitions = Some(pair.number("a number of partitions from 1 to 10000", |n: &u32| {
                    (1..=10_000).contains(n)
                })?);
            }
            "start" => self.start = pair.start()?,
            "keep_raw" => self.keep_raw = pair.choose(&[("true", true), ("false", false)])?,
            "on_gap" => self.on_gap = pair.choose(&[("stop", OnGap::Stop), ("record", OnGap::Record)])?,
            "timestamp_format" => {
                self.timestamp_format = pair.choose(&[
                    ("rfc3339", TimestampFormat::Rfc3339),
                    ("epoch_seconds", TimestampFormat::EpochSeconds),
                    ("epoch_millis", TimestampFormat::EpochMillis),
                    ("epoch_micros", TimestampFormat::EpochMicros),
                ])?;
            }
            "retention_bytes" => self.retention.bytes = Some(pair.bytes()?),
            "retention_ms" => {
                let millis = pair.number("milliseconds, at least 1", |n: &u64| *n > 0)?;
                self.retention.age = Some(Duration::from_millis(millis));
            }
            "retention" => self.keep_for = Some(pair.duration()?),
            other => unreachable!("`{other}` is in NAMES but has no meaning"),
        }
        Ok(())
    }
}

impl Pair {
    fn wrong(&self, expected: &str) -> Diagnostic {
        Diagnostic::new(self.place, format!("`{}` cannot be '{}'", self.key, self.value))
            .with_hint(format!("write {expected}"))
    }

    fn choose<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Diagnostic> {
        let folded = self.value.to_ascii_lowercase();
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == folded) {
            return Ok(*choice);
        }
        let names = choices.iter().map(|(name, _)| *name);
        Err(match nearest(&folded, names.clone()) {
            Some(near) => {
                let diagnostic = Diagnostic::new(self.place, format!("`{}` cannot be '{}'", self.key, self.value));
                diagnostic.with_hint(format!("did you mean '{near}'?"))
            }
            None => self.wrong(&names.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" or ")),
        })
    }

    fn number<T: std::str::FromStr>(&self, expected: &str, allowed: impl Fn(&T) -> bool) -> Result<T, Diagnostic> {
        self.value
            .parse()
            .ok()
            .filter(allowed)
            .ok_or_else(|| self.wrong(expected))
    }

    /// What Kafka allows as a topic name; the embedded log follows suit, so that changing the connector stays one line.
    fn topic(&self) -> Result<String, Diagnostic> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name = &self.value;
        if (1..=249).contains(&name.len()) && name.chars().all(legal) && name != "." && name != ".." {
            Ok(name.clone())
        } else {
            Err(self.wrong("a Kafka topic name: 1 to 249 ASCII letters, digits, `.`, `_` or `-`"))
        }
    }

    fn start(&self) -> Result<Start, Diagnostic> {
        match self.value.to_ascii_lowercase().as_str() {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => DateTime::parse_from_rfc3339(&self.value)
                .map(|time| Start::Timestamp(time.timestamp_millis()))
                .map_err(|_| self.wrong("'earliest', 'latest', or a time such as '2026-01-31T00:00:00Z'")),
        }
    }

    fn duration(&self) -> Result<Duration, Diagnostic> {
        humantime::parse_duration(&self.value)
            .ok()
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| self.wrong("a duration such as '7 days' or '36h'"))
    }

    /// A plain number, or one with a unit: `'10 GiB'`.
    fn bytes(&self) -> Result<u64, Diagnostic> {
        let text = self.value.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor: Option<u64> = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => Some(1),
            "kib" => Some(1 << 10),
            "mib" => Some(1 << 20),
            "gib" => Some(1 << 30),
            "tib" => Some(1 << 40),
            "kb" => Some(1_000),
            "mb" => Some(1_000_000),
            "gb" => Some(1_000_000_000),
            "tb" => Some(1_000_000_000_000),
            _ => None,
        };
        number
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| self.wrong("a number of bytes, or a size such as '10 GiB'"))
    }
}
