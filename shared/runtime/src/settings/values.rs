//! Values of settings: sizes, durations, and properties that other software defines.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};
use toml::{Table, Value};

/// Free-form properties. Values that look like secrets are not shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, String>);

impl Deref for Properties {
    type Target = BTreeMap<String, String>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Properties {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// Whether the value of such a key is not for everybody's eyes.
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["password", "secret", "token", "key", "credential", "jaas"]
        .iter()
        .any(|word| key.contains(word))
}

impl Properties {
    /// With `***` in place of every value that looks like a secret.
    pub fn masked(&self) -> Self {
        let entries = self.0.iter();
        Self(
            entries
                .map(|(key, value)| {
                    let shown = if is_secret(key) { "***" } else { value.as_str() };
                    (key.clone(), shown.to_owned())
                })
                .collect(),
        )
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked().0).finish()
    }
}

impl<'de> Deserialize<'de> for Properties {
    /// Takes text, numbers and booleans; `[kafka] bootstrap.servers = "…"` (which TOML reads as a nested table) too.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn flatten<E: de::Error>(prefix: &str, value: Value, out: &mut BTreeMap<String, String>) -> Result<(), E> {
            let text = match value {
                Value::String(text) => text,
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Boolean(flag) => flag.to_string(),
                Value::Table(table) => {
                    return table.into_iter().try_for_each(|(key, value)| {
                        flatten(
                            &if prefix.is_empty() {
                                key
                            } else {
                                format!("{prefix}.{key}")
                            },
                            value,
                            out,
                        )
                    });
                }
                Value::Array(_) | Value::Datetime(_) => {
                    return Err(E::custom(format!("`{prefix}` must be text, a number or a boolean")));
                }
            };
            out.insert(prefix.into(), text);
            Ok(())
        }
        let mut out = BTreeMap::new();
        flatten("", Value::Table(Table::deserialize(deserializer)?), &mut out)?;
        Ok(Self(out))
    }
}

/// A size in bytes: a number, or text such as `"64MiB"` or `"1GB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    pub fn mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// Bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

const UNITS: &[(&str, u64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_lowercase();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|number| (number.trim_end(), *factor)))
            .unwrap_or((lower.as_str(), 1));
        let number: f64 = number
            .parse()
            .map_err(|_| format!("`{text}` is not a size; write for example \"64MiB\""))?;
        if !number.is_finite() || number < 0.0 {
            return Err(format!("`{text}` is not a size; write for example \"64MiB\""));
        }
        Ok(Self((number * unit as f64) as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS[..4]
            .iter()
            .rev()
            .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => {
                let unit = format!("{}iB", unit[..1].to_uppercase());
                write!(f, "{}{unit}", self.0 / factor)
            }
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)
            .map_err(|_| de::Error::custom("a size is a number of bytes or text such as \"64MiB\""))?
        {
            Raw::Number(bytes) => Ok(Self(bytes)),
            Raw::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// A duration written as people do: `"5s"`, `"250ms"`, `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl Deref for HumanDuration {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl From<Duration> for HumanDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |_| format!("`{text}` is not a duration; write for example \"5s\" or \"250ms\"");
        humantime::parse_duration(text).map(Self).map_err(error)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
