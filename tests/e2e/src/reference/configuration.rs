use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anabranch_runtime::Settings;
use serde_json::Value;

use super::{cell, made_from};
use crate::data::workspace;

/// A struct of settings, as its source text describes it.
#[derive(Debug, Default)]
struct Section {
    about: String,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    name: String,
    /// Without `Option`.
    kind: String,
    about: String,
}

/// docs/configuration.md: every section and key, with its default and what its doc comment says.
///
/// # Panics
/// When a key has no doc comment.
pub fn configuration() -> String {
    let mut sections = BTreeMap::new();
    let folder = workspace().join("shared/runtime/src");
    read(&folder.join("settings.rs"), &mut sections);
    let files = std::fs::read_dir(folder.join("settings")).expect("the settings have a folder");
    for file in files {
        read(&file.expect("the folder can be read").path(), &mut sections);
    }
    let defaults = serde_json::to_value(Settings::default()).expect("settings are plain data");
    let mut page = made_from("the doc comments in shared/runtime/src/settings/");
    page.push_str(INTRODUCTION);
    let all = &sections["Settings"];
    assert!(all.fields.len() >= 9, "the settings were not read properly: {all:?}");
    for field in &all.fields {
        section(&mut page, &field.name, field, &defaults[&field.name], &sections);
    }
    page
}

const INTRODUCTION: &str = "# Configuration

Settings stand in `anabranch.toml` beside `views.sql`. Every key has a default: an empty file, or none, runs `anabranch dev`.

* Unknown keys are refused, with the line and the nearest known key. `anabranch check --config DIR` says so without running anything.
* `${NAME}` in a value is replaced by an environment variable; a variable that is not set is refused.
* `ANABRANCH__SECTION__KEY` in the environment overrides `key` in `[section]`.
* Durations are written `5s`, `250ms`, `1h 30m`; sizes `64MiB`, `1GB`, or a number of bytes.
* Relative paths are relative to the folder.

";

fn section(page: &mut String, path: &str, field: &Field, defaults: &Value, sections: &BTreeMap<String, Section>) {
    let _ = writeln!(page, "## `[{path}]`\n");
    let Some(section) = sections.get(&field.kind) else {
        // Keys of other software.
        let _ = writeln!(page, "{}\n", field.about);
        return;
    };
    let about = if field.about.is_empty() {
        &section.about
    } else {
        &field.about
    };
    let _ = writeln!(page, "{}\n", about_section(about));
    let (nested, plain): (Vec<&Field>, Vec<&Field>) = section
        .fields
        .iter()
        .partition(|field| sections.contains_key(&field.kind) || field.kind == "Properties");
    if !plain.is_empty() {
        page.push_str("| key | default | |\n|---|---|---|\n");
    }
    for field in plain {
        assert!(!field.about.is_empty(), "`{path}.{}` has no doc comment", field.name);
        let default = default_of(&defaults[&field.name]);
        let _ = writeln!(
            page,
            "| `{}` | {default} | {} |",
            field.name,
            cell(about_key(field, &defaults[&field.name]))
        );
    }
    page.push('\n');
    for field in nested {
        self::section(
            page,
            &format!("{path}.{}", field.name),
            field,
            &defaults[&field.name],
            sections,
        );
    }
}

/// Without the default, where the column beside has it.
fn about_key<'f>(field: &'f Field, default: &Value) -> &'f str {
    match field.about.rsplit_once(" Default ") {
        Some((about, _)) if !default.is_null() => about,
        _ => &field.about,
    }
}

/// Without the name of the section, which the heading has.
fn about_section(about: &str) -> String {
    let bare = match about.split_once("`: ") {
        Some((name, rest)) if name.starts_with("`[") => rest,
        _ => about,
    };
    let mut letters = bare.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

fn default_of(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`\"{}\"`", cell(text)),
        other => format!("`{other}`"),
    }
}

/// Adds the structs of a source file.
fn read(path: &Path, sections: &mut BTreeMap<String, Section>) {
    if path.extension().is_none_or(|extension| extension != "rs") {
        return;
    }
    let text = std::fs::read_to_string(path).expect("a source file is text");
    let (mut about, mut open): (Vec<&str>, Option<(String, Section)>) = (Vec::new(), None);
    for line in text.lines() {
        let bare = line.trim();
        if let Some(comment) = bare.strip_prefix("///") {
            about.push(comment.trim());
        } else if let Some(name) = line
            .strip_prefix("pub struct ")
            .and_then(|rest| rest.strip_suffix(" {"))
        {
            let section = Section {
                about: joined(&mut about),
                fields: Vec::new(),
            };
            open = Some((name.to_owned(), section));
        } else if line == "}" {
            sections.extend(open.take());
            about.clear();
        } else if let Some((_, section)) = &mut open
            && let Some((name, kind)) = bare.strip_prefix("pub ").and_then(|field| field.split_once(": "))
        {
            let kind = kind.trim_end_matches(',');
            let kind = kind
                .strip_prefix("Option<")
                .and_then(|kind| kind.strip_suffix('>'))
                .unwrap_or(kind);
            section.fields.push(Field {
                name: name.to_owned(),
                kind: kind.to_owned(),
                about: joined(&mut about),
            });
        } else if !bare.starts_with("#[") {
            about.clear();
        }
    }
}

/// The lines of a doc comment as one paragraph.
fn joined(lines: &mut Vec<&str>) -> String {
    std::mem::take(lines).join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doc_comments_become_rows() {
        let dir = tempfile::tempdir().expect("a folder can be made");
        let file = dir.path().join("x.rs");
        let text = "/// `[a]`: the first\n/// of all.\n#[derive(Debug)]\npub struct A {\n    /// How much.\n    pub much: Option<u64>,\n    pub bare: B,\n}\n";
        std::fs::write(&file, text).expect("the file can be written");
        let mut sections = BTreeMap::new();
        read(&file, &mut sections);
        let a = &sections["A"];
        assert_eq!(about_section(&a.about), "The first of all.");
        let fields: Vec<_> = a
            .fields
            .iter()
            .map(|field| (field.name.as_str(), field.kind.as_str(), field.about.as_str()))
            .collect();
        assert_eq!(fields, [("much", "u64", "How much."), ("bare", "B", "")]);
    }
}
