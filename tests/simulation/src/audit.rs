//! Watches the store as requests are carried out, and notes what must never happen.

use std::collections::{BTreeMap, BTreeSet};

use anabranch_dataset::DefinitionEntry;
use object_store::path::Path;
use serde_json::Value;

use crate::scheduler::{Micros, ProcessId};

/// Who owns what, as the master dataset's log says, and what is against its rules.
#[derive(Debug, Default)]
pub struct Audit {
    /// Partition → who claimed it last, under which epoch.
    owners: BTreeMap<i32, (ProcessId, i64)>,
    /// Partition → recorded next offset.
    next: BTreeMap<i32, i64>,
    /// Partition → next offset by landings, and when each was committed.
    landed: BTreeMap<i32, Vec<(Micros, i64)>>,
    /// Partition → the furthest cut that was published. Nobody rolls back here.
    cuts: BTreeMap<String, i64>,
    /// Data files that the table holds.
    referenced: BTreeSet<String>,
    /// State file → the newest publication that refers to it.
    published: BTreeMap<String, u64>,
    newest_publication: u64,
    /// So many publications keep their state files at least.
    keep: u64,
    /// Data files that were taken out of the table.
    merged: BTreeSet<String>,
    pub claims: u64,
    pub landings: u64,
    pub compactions: u64,
    pub expiries: u64,
    pub vacuumed: u64,
    pub expired_states: u64,
    pub publications: u64,
    /// The definitions log.
    pub definitions: Vec<DefinitionEntry>,
    pub violations: Vec<String>,
}

impl Audit {
    /// For runs in which the newest `keep` publications keep their state files.
    pub fn new(keep: usize) -> Self {
        Self {
            keep: keep as u64,
            ..Self::default()
        }
    }

    fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn written(&mut self, now: Micros, process: ProcessId, path: &Path, bytes: &[u8]) {
        let path = path.as_ref();
        if path.contains("/_delta_log/") && path.ends_with(".json") {
            self.committed(now, process, path, bytes);
        } else if path.starts_with("publications/") {
            self.published(path, bytes);
        } else if path.starts_with("definitions/") {
            self.applied(path, bytes);
        }
    }

    /// Up to where each partition was landed at a moment.
    pub fn landed_by(&self, then: Micros) -> BTreeMap<i32, i64> {
        let landed = |(partition, landings): (&i32, &Vec<(Micros, i64)>)| {
            let before = landings.partition_point(|(at, _)| *at <= then);
            Some((*partition, landings[..before].last()?.1))
        };
        self.landed.iter().filter_map(landed).collect()
    }

    pub fn deleted(&mut self, process: ProcessId, path: &Path) {
        if self.merged.contains(path.as_ref()) {
            self.vacuumed += 1;
        }
        let published = self.published.get(path.as_ref()).copied();
        self.expired_states += u64::from(published.is_some());
        let kept = published.filter(|number| number + self.keep > self.newest_publication);
        if kept.is_some() || self.referenced.contains(path.as_ref()) {
            self.violation(format!(
                "process {} deleted {path}, which the table or publication {kept:?} refers to",
                process.0
            ));
        }
    }

    fn committed(&mut self, now: Micros, process: ProcessId, path: &str, bytes: &[u8]) {
        let table = path.split("/_delta_log/").next().unwrap_or_default().to_owned();
        let lines: Vec<Value> = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        let operation = lines
            .iter()
            .find_map(|line| line.pointer("/commitInfo/operation")?.as_str())
            .unwrap_or_default()
            .to_owned();
        let marks = |mark: &str| -> Vec<(i32, i64)> {
            let prefix = format!("anabranch/{mark}/");
            lines
                .iter()
                .filter_map(|line| {
                    let txn = line.get("txn")?;
                    let partition = txn.get("appId")?.as_str()?.strip_prefix(&prefix)?.rsplit('/').next()?;
                    Some((partition.parse().ok()?, txn.get("version")?.as_i64()?))
                })
                .collect()
        };
        for (partition, epoch) in marks("epoch") {
            self.claims += 1;
            if let Some((_, before)) = self.owners.get(&partition)
                && epoch <= *before
            {
                self.violation(format!(
                    "{path}: epoch of partition {partition} went from {before} to {epoch}"
                ));
            }
            self.owners.insert(partition, (process, epoch));
        }
        match operation.as_str() {
            "STREAMING UPDATE" => self.landings += 1,
            "OPTIMIZE" => self.compactions += 1,
            "DELETE" => self.expiries += 1,
            _ => {}
        }
        for (partition, next) in marks("next") {
            let before = self.next.insert(partition, next);
            if operation == "STREAMING UPDATE" {
                self.landed.entry(partition).or_default().push((now, next));
                let owner = self.owners.get(&partition).map(|(owner, _)| *owner);
                if owner != Some(process) {
                    self.violation(format!(
                        "{path}: process {} landed partition {partition}, which {owner:?} owns",
                        process.0
                    ));
                }
                if before.is_some_and(|before| next <= before) {
                    self.violation(format!(
                        "{path}: next offset of partition {partition} went from {before:?} to {next}"
                    ));
                }
            }
        }
        for line in &lines {
            if let Some(file) = line.pointer("/add/path").and_then(Value::as_str) {
                self.referenced.insert(format!("{table}/{file}"));
            }
            if let Some(file) = line.pointer("/remove/path").and_then(Value::as_str) {
                let path = format!("{table}/{file}");
                self.referenced.remove(&path);
                self.merged.insert(path);
            }
        }
    }

    fn applied(&mut self, path: &str, bytes: &[u8]) {
        let expected = self.definitions.len() as u64 + 1;
        match serde_json::from_slice::<DefinitionEntry>(bytes) {
            Ok(entry) if entry.number == expected => self.definitions.push(entry),
            Ok(entry) => self.violation(format!(
                "{path} is entry {} of the definitions log, not {expected}",
                entry.number
            )),
            Err(error) => self.violation(format!("{path} is no entry of the definitions log: {error}")),
        }
    }

    fn published(&mut self, path: &str, bytes: &[u8]) {
        self.publications += 1;
        let number = path.trim_start_matches("publications/").trim_end_matches(".json");
        let Ok(number) = number.parse() else {
            return self.violation(format!("{path} is no publication"));
        };
        self.newest_publication = self.newest_publication.max(number);
        let Ok(publication) = serde_json::from_slice::<Value>(bytes) else {
            return self.violation(format!("{path} is not JSON"));
        };
        let cuts = publication
            .pointer("/manifest/cuts/clicks/next")
            .and_then(Value::as_object);
        for (partition, cut) in cuts.into_iter().flatten() {
            let cut = cut.as_i64().unwrap_or_default();
            let before = self.cuts.insert(partition.clone(), cut).unwrap_or_default();
            if cut < before {
                self.violation(format!(
                    "{path}: the cut of partition {partition} went from {before} to {cut}"
                ));
            }
        }
        let views = publication.pointer("/manifest/views").and_then(Value::as_object);
        for file in views
            .into_iter()
            .flat_map(|views| views.values())
            .filter_map(|view| view.get("files")?.as_array())
            .flatten()
            .filter_map(|file| file.get("path")?.as_str())
        {
            self.published.insert(file.to_owned(), number);
        }
    }
}
