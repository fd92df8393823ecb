//! YAML as a JSON value, with anchors, aliases and merge keys (`<<`): as Compose reads its files.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

/// Reads one document. Scalars are text, whatever they look like.
///
/// # Errors
/// What the parser finds wrong, with its place; or that there is not exactly one document.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut events = Parser::new_from_str(text);
    let mut anchors = HashMap::new();
    let mut documents = Vec::new();
    while let Some(event) = events.next() {
        let (event, _) = event.map_err(|error| error.to_string())?;
        if matches!(
            event,
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing
        ) {
            continue;
        }
        documents.push(node(event, &mut events, &mut anchors)?);
    }
    match <[Value; 1]>::try_from(documents) {
        Ok([document]) => Ok(document),
        Err(documents) => Err(format!("{} documents instead of one", documents.len())),
    }
}

type Events<'t> = Parser<'t, saphyr_parser::StrInput<'t>>;

fn next<'t>(events: &mut Events<'t>) -> Result<Event<'t>, String> {
    let event = events.next().ok_or("the document ends too early")?;
    event.map(|(event, _)| event).map_err(|error| error.to_string())
}

fn node<'t>(event: Event<'t>, events: &mut Events<'t>, anchors: &mut HashMap<usize, Value>) -> Result<Value, String> {
    let (anchor, value) = match event {
        Event::Alias(anchor) => {
            let value = anchors.get(&anchor).cloned();
            return value.ok_or_else(|| "an alias before its anchor".into());
        }
        Event::Scalar(text, _, anchor, _) => (anchor, Value::String(text.into_owned())),
        Event::SequenceStart(anchor, _) => {
            let mut items = Vec::new();
            loop {
                match next(events)? {
                    Event::SequenceEnd => break (anchor, Value::Array(items)),
                    event => items.push(node(event, events, anchors)?),
                }
            }
        }
        Event::MappingStart(anchor, _) => {
            let (mut own, mut merged) = (Map::new(), Map::new());
            loop {
                let key = match next(events)? {
                    Event::MappingEnd => break,
                    Event::Scalar(key, ..) => key.into_owned(),
                    other => return Err(format!("a key is no scalar: {other:?}")),
                };
                let event = next(events)?;
                match (key.as_str(), node(event, events, anchors)?) {
                    ("<<", Value::Object(other)) => merged.extend(other),
                    (_, value) => {
                        if own.insert(key.clone(), value).is_some() {
                            return Err(format!("the key `{key}` is there twice"));
                        }
                    }
                }
            }
            // A mapping's own keys win over merged ones.
            merged.extend(own);
            (anchor, Value::Object(merged))
        }
        other => return Err(format!("unexpected {other:?}")),
    };
    if anchor > 0 {
        anchors.insert(anchor, value.clone());
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
