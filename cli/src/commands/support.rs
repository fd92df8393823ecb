//! `anabranch support-bundle`: one archive with what helps to find a fault, and no secrets.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anabranch_dataset::{DefinitionLog, Leases, Store};
use anabranch_runtime::Settings;
use anyhow::{Context, Result};
use chrono::Utc;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::args::SupportBundle;
use crate::client::of_site;
use crate::commands::doctor;
use crate::platform::VIEWS_FILE;

/// Bytes of the end of each log file.
const LOG_BYTES: u64 = 2 << 20;
/// Run records and publications.
const RECORDS: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(15);

/// Files of the bundle: name and text.
#[derive(Default)]
struct Bundle {
    files: Vec<(String, String)>,
    /// Values that must not be in it, wherever they turn up.
    secrets: BTreeSet<String>,
}

impl Bundle {
    fn add(&mut self, name: impl Into<String>, text: impl Into<String>) {
        let mut text = without_credentials(&text.into());
        for secret in &self.secrets {
            text = text.replace(secret, "***");
        }
        self.files.push((name.into(), text));
    }

    /// What cannot be had is told in its place.
    fn add_json(&mut self, name: &str, value: Result<Value>) {
        let value = value.unwrap_or_else(|error| json!({"not_available": format!("{error:#}")}));
        self.add(name, format!("{value:#}"));
    }

    fn write(&self, path: &Path, folder: &str) -> Result<()> {
        let file = std::fs::File::create(path)?;
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        for (name, text) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(u64::try_from(Utc::now().timestamp()).unwrap_or_default());
            archive.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.sync_all()?;
        Ok(())
    }
}

/// Gathers what can be had; what cannot is told in its place.
pub async fn run(args: SupportBundle) -> Result<ExitCode> {
    let dir = &args.config.config;
    let name = format!("anabranch-support-{}", Utc::now().format("%Y%m%dT%H%M%SZ"));
    let output = args.output.unwrap_or_else(|| format!("{name}.tar.gz").into());
    let settings = Settings::load(dir)?;
    let mut bundle = Bundle {
        secrets: secrets(&settings),
        ..Bundle::default()
    };
    bundle.add(
        "version.txt",
        format!(
            "anabranch {}\n{} {}\n",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
    );
    bundle.add("anabranch.toml", toml::to_string(&settings.masked())?);
    let views = std::fs::read_to_string(dir.join(VIEWS_FILE)).unwrap_or_else(|error| format!("-- {error}\n"));
    bundle.add(VIEWS_FILE, views);
    bundle.add_json("doctor.json", Ok(serde_json::to_value(doctor::findings(dir).await)?));
    match Store::open(&settings.storage.url, &settings.storage.options) {
        Ok(store) => from_store(&mut bundle, &settings, &store).await,
        Err(error) => bundle.add("store.txt", error.to_string()),
    }
    for file in &args.log {
        let name = file
            .file_name()
            .map_or_else(|| "log".into(), |name| name.to_string_lossy().into_owned());
        let text = tail(file).unwrap_or_else(|error| format!("{}: {error}", file.display()));
        bundle.add(format!("logs/{name}"), text);
    }
    bundle
        .write(&output, &name)
        .with_context(|| format!("{}: cannot be written", output.display()))?;
    println!(
        "{} with {} files; look through it before you send it",
        output.display(),
        bundle.files.len()
    );
    Ok(ExitCode::SUCCESS)
}

/// A text without tokens, ours and those of identity providers: whoever wrote the log files knew none of our rules.
fn without_credentials(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        clean.push_str(before);
        match word.strip_prefix("ab_").and_then(|token| token.split_once('_')) {
            // What remains is the id, by which a lost token can be revoked.
            Some((id, secret)) if secret.len() > 20 => clean.extend(["ab_", id, "_***"]),
            _ if word.starts_with("eyJ") && word.matches('.').count() == 2 => clean.push_str("***"),
            _ => clean.push_str(word),
        }
        rest = after;
    }
    clean + rest
}

/// Values of settings that are masked when they are shown. Short ones would turn up by chance.
fn secrets(settings: &Settings) -> BTreeSet<String> {
    let properties = [
        (&settings.kafka, settings.kafka.masked()),
        (&settings.storage.options, settings.storage.options.masked()),
    ];
    let mut secrets: BTreeSet<String> = settings
        .access
        .service_key
        .iter()
        .map(|key| key.expose().to_owned())
        .collect();
    for (plain, masked) in properties {
        for (key, value) in plain.iter() {
            if masked.get(key) != Some(value) && value.len() >= 4 {
                secrets.insert(value.clone());
            }
        }
    }
    secrets
}

/// Definitions, leases, and what live services say of themselves.
async fn from_store(bundle: &mut Bundle, settings: &Settings, store: &Store) {
    let newest = tokio::time::timeout(PATIENCE, DefinitionLog::new(store).newest()).await;
    if let Ok(Ok(Some(entry))) = newest {
        let head = format!(
            "-- number {}, applied at {} by {}\n",
            entry.number, entry.applied_at, entry.by
        );
        bundle.add("definitions.sql", head + &entry.sql);
    }
    let leases = Leases::new(store);
    let mut all = Vec::new();
    for kind in ["speed", "batch", "serve"] {
        match tokio::time::timeout(PATIENCE, leases.list_versioned(kind)).await {
            Ok(Ok(live)) => all.extend(live),
            Ok(Err(error)) => bundle.add(format!("leases-{kind}.txt"), error.to_string()),
            Err(_) => bundle.add(format!("leases-{kind}.txt"), "the store does not answer"),
        }
    }
    let shown: Vec<Value> = all
        .iter()
        .map(|found| json!({"version": found.version, "lease": found.lease}))
        .collect();
    bundle.add_json("leases.json", Ok(Value::Array(shown)));
    let http = match of_site(settings, store, PATIENCE).await {
        Ok(http) => http,
        Err(error) => {
            bundle.add("services.txt", format!("{error:#}"));
            return;
        }
    };
    for found in &all {
        let lease = &found.lease;
        let metrics = text(&http, &format!("{}/metrics", lease.address)).await;
        bundle.add(
            format!("metrics/{}.txt", lease.id),
            metrics.unwrap_or_else(|error| format!("# {error:#}\n")),
        );
    }
    if let Some(serve) = all.iter().find(|found| found.lease.kind == "serve") {
        for (name, path) in [
            ("status.json", "/v1/status".to_owned()),
            ("views.json", "/v1/views".to_owned()),
            ("runs.json", format!("/v1/batch/runs?limit={RECORDS}")),
            ("publications.json", format!("/v1/batch/publications?limit={RECORDS}")),
            ("maintenance.json", "/v1/batch/maintenance".to_owned()),
        ] {
            let answer = text(&http, &format!("{}{path}", serve.lease.address)).await;
            bundle.add_json(name, answer.and_then(|text| Ok(serde_json::from_str(&text)?)));
        }
    }
}

async fn text(http: &reqwest::Client, url: &str) -> Result<String> {
    Ok(http.get(url).send().await?.error_for_status()?.text().await?)
}

/// The end of a file, from the beginning of a line on.
fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        Some((_, whole)) if length > LOG_BYTES => whole.to_owned(),
        _ => text,
    })
}

#[cfg(test)]
mod tests;
