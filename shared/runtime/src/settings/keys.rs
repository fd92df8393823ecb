//! Which keys there are: unknown ones are refused with the nearest known one; values and overrides come from the environment.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{Error, Settings};

/// Prefix of environment overrides: `ANABRANCH__SECTION__KEY`.
pub(super) const ENV_PREFIX: &str = "ANABRANCH__";

/// The default settings as JSON: every known key, `null` where there is no default.
pub(super) fn known_keys() -> serde_json::Value {
    serde_json::to_value(Settings::default()).expect("settings are plain data")
}

/// Sections whose keys are the user's own.
fn is_open(path: &str) -> bool {
    matches!(path, "kafka" | "storage.options" | "oidc.roles")
}

pub(super) fn check_keys(
    table: &Table,
    known: &serde_json::Value,
    path: &str,
    place: &str,
    text: &str,
) -> Result<(), Error> {
    if is_open(path) {
        return Ok(());
    }
    for (key, value) in table {
        let full = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let Some(inner) = known.get(key) else {
            return Err(unknown_key(known, path, key, &line_of(text, key, place)));
        };
        if let Value::Table(inner_table) = value {
            check_keys(inner_table, inner, &full, place, text)?;
        }
    }
    Ok(())
}

fn unknown_key(known: &serde_json::Value, path: &str, key: &str, place: &str) -> Error {
    let names: Vec<&str> = known
        .as_object()
        .map(|o| o.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let nearest = names
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    let section = if path.is_empty() {
        "at the top level".into()
    } else {
        format!("in [{path}]")
    };
    let hint = match nearest {
        Some(name) if strsim::jaro_winkler(name, key) > 0.7 => format!(" {section}; did you mean `{name}`?"),
        _ => format!(" {section}; known keys are {}", names.join(", ")),
    };
    Error::UnknownKey {
        place: place.into(),
        key: key.into(),
        hint,
    }
}

/// `file:line` of the first line that sets `key` or opens a section of that name.
fn line_of(text: &str, key: &str, place: &str) -> String {
    let line = text.lines().position(|line| {
        let line = line.trim_start();
        let bare = line.trim_start_matches(['[', '"', '\'']);
        bare.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with(['=', ']', '.', '"', '\'']))
    });
    line.map_or_else(|| place.into(), |line| format!("{place}:{}", line + 1))
}

/// Replaces `${NAME}` in all strings below `value`.
pub(super) fn expand(
    value: &mut Value,
    key: &str,
    environment: &BTreeMap<String, String>,
    place: &str,
) -> Result<(), Error> {
    match value {
        Value::String(text) => {
            let mut out = String::with_capacity(text.len());
            let mut rest = text.as_str();
            while let Some(start) = rest.find("${") {
                let Some(length) = rest[start..].find('}') else { break };
                let name = &rest[start + 2..start + length];
                let Some(found) = environment.get(name) else {
                    return Err(Error::MissingVariable {
                        place: place.into(),
                        key: key.into(),
                        name: name.into(),
                    });
                };
                out.push_str(&rest[..start]);
                out.push_str(found);
                rest = &rest[start + length + 1..];
            }
            out.push_str(rest);
            *text = out;
            Ok(())
        }
        Value::Table(table) => table
            .iter_mut()
            .try_for_each(|(inner, value)| expand(value, &format!("{key}.{inner}"), environment, place)),
        Value::Array(values) => values
            .iter_mut()
            .try_for_each(|value| expand(value, key, environment, place)),
        _ => Ok(()),
    }
}

/// Applies `SECTION__KEY=value` of the environment. The value is read as TOML where it is a number or a boolean.
pub(super) fn override_key(
    table: &mut Table,
    known: &serde_json::Value,
    path: &str,
    value: &str,
    variable: &str,
) -> Result<(), Error> {
    let parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    let [sections @ .., key] = parts.as_slice() else {
        return Ok(());
    };
    let mut known = known;
    let mut target = table;
    let mut at = String::new();
    for section in sections {
        known = known
            .get(section)
            .ok_or_else(|| unknown_key(known, &at, section, variable))?;
        at = if at.is_empty() {
            section.clone()
        } else {
            format!("{at}.{section}")
        };
        let entry = target
            .entry(section.clone())
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = entry else {
            return Err(Error::Value {
                place: variable.into(),
                message: format!("`{at}` is not a section"),
            });
        };
        target = inner;
    }
    let key = if at == "kafka" {
        key.replace('_', ".")
    } else {
        key.clone()
    };
    if !is_open(&at) && known.get(&key).is_none() {
        return Err(unknown_key(known, &at, &key, variable));
    }
    let is_text = is_open(&at) || known.get(&key).is_some_and(|k| k.is_string() || k.is_null());
    let parsed = if is_text { None } else { value.parse::<Value>().ok() };
    target.insert(key, parsed.unwrap_or_else(|| Value::String(value.into())));
    Ok(())
}
