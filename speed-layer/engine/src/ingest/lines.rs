//! Lines of an NDJSON body, and the key of a line.

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Lines that are not blank, with their number, counted from 1. A `\r` before the line's end is not part of it.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut rest = body;
    let mut number = 0;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            number += 1;
            let end = memchr::memchr(b'\n', rest);
            let (line, behind) = end.map_or((rest, &rest[rest.len()..]), |at| (&rest[..at], &rest[at + 1..]));
            rest = behind;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some((number, line));
            }
        }
        None
    })
}

/// The value of one key of a JSON object, as a record key: text without its quotes, other values as they are written.
/// `None` when the line is no object, or the value is absent or null.
pub(super) fn key_of(line: &[u8], key: &str) -> Option<Vec<u8>> {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let value = deserializer.deserialize_map(Find(key)).ok()??;
    match value.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str::<String>(text).ok().map(String::into_bytes),
        other => Some(other.as_bytes().to_vec()),
    }
}

struct Find<'k>(&'k str);

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
