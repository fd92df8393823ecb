use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anabranch_catalog::{Connector, Source};
use anabranch_dataset::{DefinitionLog, Error, Leases, Store, VersionedLease, text_hash};
use anabranch_log::{KafkaLog, PartitionedLog};
use anabranch_model::{ErrorKind, with_causes};
use anabranch_runtime::Settings;
use anabranch_runtime::tls::{Expiry, Tls, client, expiries};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use reqwest::header::DATE;

use super::{Finding, State};
use crate::client::of_site;
use crate::platform::{Platform, VIEWS_FILE};

/// A broker, a store or a service that takes longer is as good as away.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far clocks may be apart before logs of two machines cannot be read side by side.
const SKEW: Duration = Duration::from_secs(5);
/// How long before a certificate ends that is said; as the alert rule has it.
const CERTIFICATE_NOTICE: Duration = Duration::from_secs(7 * 86_400);
/// Disk room below which a warning is due, and a failure.
const LITTLE_ROOM_BYTES: u64 = 2 << 30;
const NO_ROOM_BYTES: u64 = 200 << 20;

const SERVICES: [(&str, &str); 3] = [
    (
        "speed",
        "events are neither read nor landed; start `anabranch speed` (or `dev`)",
    ),
    (
        "batch",
        "nothing is recomputed, published or compacted; start `anabranch batch` (or `dev`)",
    ),
    ("serve", "nobody answers queries; start `anabranch serve` (or `dev`)"),
];

/// Everything, in the order in which one thing needs the other.
pub(super) async fn all(dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let settings = match Settings::load(dir) {
        Ok(settings) => settings,
        Err(error) => {
            findings.push(Finding::fail(
                "settings",
                error.to_string(),
                "correct anabranch.toml; `anabranch check` says more",
            ));
            return findings;
        }
    };
    findings.push(Finding::ok("settings", "anabranch.toml is in order"));
    let platform = Platform::load(dir);
    match &platform {
        Ok(platform) => {
            let catalog = &platform.definitions.catalog;
            let found = format!("{} tables, {} views", catalog.sources.len(), catalog.views.len());
            findings.push(Finding::ok("views", found));
        }
        Err(error) => findings.push(Finding::fail(
            "views",
            format!("{error:#}"),
            "correct views.sql; `anabranch check` shows the places",
        )),
    }
    findings.extend(certificate(&settings, Utc::now()));
    if let Ok(platform) = &platform {
        let sources = platform.definitions.catalog.sources.values();
        findings.extend(join_all(sources.map(|source| topic(&settings, source))).await);
    }
    findings.extend(rooms(&settings));
    match storage(&settings).await {
        Ok((store, finding)) => {
            findings.push(finding);
            findings.push(clock(&store).await);
            if let Ok(platform) = &platform {
                findings.push(definitions(&store, &platform.definitions.sql).await);
            }
            findings.extend(services(&settings, &store).await);
        }
        Err(finding) => findings.push(finding),
    }
    findings
}

/// The files of `[tls]`, if any are named, and when what is in them ends.
fn certificate(settings: &Settings, now: DateTime<Utc>) -> Vec<Finding> {
    let read = match certificate_files(settings) {
        None => return Vec::new(),
        Some(finding) => finding,
    };
    let is_well = read.state == State::Ok;
    let mut findings = vec![read];
    // What is wrong with a file has been said.
    if let Ok(expiries) = expiries(&settings.tls)
        && is_well
    {
        findings.extend(expiries.iter().filter_map(|expiry| ends_soon(expiry, now)));
    }
    findings
}

/// What ends soon, or has ended.
fn ends_soon(expiry: &Expiry, now: DateTime<Utc>) -> Option<Finding> {
    let check = format!("certificate of {}", expiry.setting);
    let advice = match expiry.setting {
        "ca" => "put the next authority beside it, and restart the services one after the other",
        _ => "renew it; services take up a changed file by themselves",
    };
    let at = expiry.at.format("%Y-%m-%d %H:%M UTC");
    let path = expiry.path.display();
    if expiry.at <= now {
        return Some(Finding::fail(check, format!("{path} has ended on {at}"), advice));
    }
    let left = (expiry.at - now).to_std().ok()?;
    (left < CERTIFICATE_NOTICE).then(|| Finding::warn(check, format!("{path} ends on {at}"), advice))
}

fn certificate_files(settings: &Settings) -> Option<Finding> {
    const CHECK: &str = "certificate";
    let tls = &settings.tls;
    let named = [&tls.cert, &tls.key, &tls.client_ca, &tls.ca].into_iter().flatten();
    if named.count() == 0 {
        return None;
    }
    let read = Tls::load(tls).and_then(|own| client(tls, own.as_ref()));
    Some(match (read, &tls.cert) {
        (Ok(_), Some(cert)) => Finding::ok(CHECK, format!("{} and its key are in order", cert.display())),
        (Ok(_), None) => Finding::ok(
            CHECK,
            "authorities are in order; this service has no certificate of its own",
        ),
        (Err(error), _) => Finding::fail(
            CHECK,
            with_causes(&error),
            "correct the files that [tls] names; they are PEM",
        ),
    })
}

/// One table's topic, from here.
async fn topic(settings: &Settings, source: &Source) -> Finding {
    let check = format!("table {}", source.name);
    if source.connector == Connector::Log {
        return Finding::ok(check, format!("embedded log in {}", settings.ingest_log.dir.display()));
    }
    let Some(servers) = settings.kafka.get("bootstrap.servers") else {
        return Finding::fail(
            check,
            "[kafka] \"bootstrap.servers\" is not set",
            "name the brokers in anabranch.toml",
        );
    };
    // Without a number of partitions nothing is created.
    let log = match KafkaLog::open(&settings.kafka, &source.topic, None) {
        Ok(log) => log,
        Err(error) => return Finding::fail(check, error.to_string(), "correct the properties under [kafka]"),
    };
    let asked = tokio::time::timeout(PATIENCE, async {
        Ok((log.partitions().await?, log.begins().await?, log.ends().await?))
    });
    let answer: Result<_, anabranch_log::Error> = match asked.await {
        Ok(answer) => answer,
        Err(_) => {
            let found = format!("{servers} does not answer within {} s", PATIENCE.as_secs());
            return Finding::fail(check, found, BROKER);
        }
    };
    match answer {
        Ok((partitions, begins, ends)) => {
            let held: i64 = ends
                .iter()
                .map(|(partition, end)| end.0 - begins.get(partition).map_or(0, |begin| begin.0))
                .sum();
            let found = format!(
                "topic `{}` with {} partitions and {held} records",
                source.topic,
                partitions.len()
            );
            Finding::ok(check, found)
        }
        Err(error) if error.kind() == ErrorKind::Unavailable => Finding::fail(check, error.to_string(), BROKER),
        Err(error) if source.partitions.is_some() => Finding::warn(
            check,
            error.to_string(),
            "the first speed worker creates it; or create it yourself",
        ),
        Err(error) => Finding::fail(
            check,
            error.to_string(),
            "create the topic, or declare `partitions` in its table",
        ),
    }
}

const BROKER: &str = "is the broker up, is the address right from here, are the credentials under [kafka] right?";

/// Room where services write.
fn rooms(settings: &Settings) -> Vec<Finding> {
    let spill = settings.batch.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut folders: Vec<(&str, PathBuf)> = vec![
        ("disk of the embedded log", settings.ingest_log.dir.clone()),
        ("disk for spills", spill),
    ];
    if let Some(path) = settings.storage.url.strip_prefix("file://") {
        folders.push(("disk of the store", path.into()));
    }
    folders
        .into_iter()
        .filter_map(|(check, folder)| room(check, &folder))
        .collect()
}

fn room(check: &str, folder: &Path) -> Option<Finding> {
    // What is not there yet will be made in the nearest folder that is.
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let space = rustix::fs::statvfs(there).ok()?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let found = format!("{} free at {}", indicatif::HumanBytes(free), there.display());
    let advice = "make room, or set another folder in anabranch.toml";
    Some(match free {
        free if free < NO_ROOM_BYTES => Finding::fail(check, found, advice),
        free if free < LITTLE_ROOM_BYTES => Finding::warn(check, found, advice),
        _ => Finding::ok(check, found),
    })
}

/// The object store, and whether it creates objects atomically if they are absent.
async fn storage(settings: &Settings) -> Result<(Store, Finding), Finding> {
    const CHECK: &str = "object store";
    let url = &settings.storage.url;
    let store = Store::open(url, &settings.storage.options)
        .map_err(|error| Finding::fail(CHECK, error.to_string(), "correct [storage] in anabranch.toml"))?;
    match tokio::time::timeout(PATIENCE, store.prove_create_if_absent()).await {
        Ok(Ok(())) => Ok((
            store,
            Finding::ok(CHECK, format!("{url} creates objects atomically if absent")),
        )),
        Ok(Err(error)) => Err(Finding::fail(CHECK, with_causes(&error), advice(url, &error))),
        Err(_) => Err(Finding::fail(
            CHECK,
            format!("{url} does not answer within {} s", PATIENCE.as_secs()),
            STORE,
        )),
    }
}

const STORE: &str = "is it up, are endpoint and region under [storage.options] right, can it be reached from here?";

/// What to do about an error of the store at `url`.
fn advice(url: &str, error: &Error) -> &'static str {
    match error {
        Error::NotAtomic { .. } => {
            "use a store with atomic conditional writes (AWS S3, MinIO, versitygw from 1.8.0 on, a local folder)"
        }
        Error::NoBucket { .. } => "create the bucket, or correct `url` in [storage]",
        Error::Credentials { .. } => {
            "correct the credentials under [storage.options], or what they permit in the bucket"
        }
        _ if url.starts_with("file:") => "is there room on the disk, and may this user write there?",
        _ => STORE,
    }
}

/// Our clock against the store's. No result depends on it, but logs and ages are hard to read when they differ.
async fn clock(store: &Store) -> Finding {
    const CHECK: &str = "clock";
    let before = Utc::now();
    let theirs = match Leases::new(store).now().await {
        Ok(theirs) => theirs,
        Err(error) => return Finding::fail(CHECK, with_causes(&error), advice(store.url(), &error)),
    };
    let apart = apart(theirs, before, Utc::now());
    let found = format!("{:.1} s from the store's", apart.as_secs_f64());
    if apart > SKEW {
        Finding::warn(CHECK, found, "synchronise the clocks (NTP)")
    } else {
        Finding::ok(CHECK, found)
    }
}

/// How far a clock is off that was read between two moments of ours; seconds are all that HTTP tells.
fn apart(theirs: DateTime<Utc>, before: DateTime<Utc>, after: DateTime<Utc>) -> Duration {
    let apart = if theirs < before {
        before - theirs
    } else {
        theirs - after
    };
    apart.to_std().unwrap_or_default()
}

/// Whether the text here is the one that runs.
async fn definitions(store: &Store, sql: &str) -> Finding {
    const CHECK: &str = "definitions";
    match DefinitionLog::new(store).newest().await {
        Err(error) => Finding::fail(CHECK, with_causes(&error), advice(store.url(), &error)),
        Ok(None) => Finding::ok(CHECK, "none are applied yet; the first service applies them"),
        Ok(Some(newest)) if newest.hash == text_hash(sql) => {
            Finding::ok(CHECK, format!("{VIEWS_FILE} is number {}, which runs", newest.number))
        }
        Ok(Some(newest)) => Finding::warn(
            CHECK,
            format!(
                "{VIEWS_FILE} is not number {}, which runs since {}",
                newest.number, newest.applied_at
            ),
            "`anabranch views apply --dry-run` says what would change",
        ),
    }
}

/// Who is there, whether they answer, and whether all are of one version.
async fn services(settings: &Settings, store: &Store) -> Vec<Finding> {
    let leases = Leases::new(store);
    let http = match of_site(settings, store, Duration::from_secs(5)).await {
        Ok(http) => http,
        Err(error) => {
            return vec![Finding::fail(
                "services",
                format!("{error:#}"),
                "services cannot be asked with these settings; look at [tls] and [access]",
            )];
        }
    };
    let mut findings = Vec::new();
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (kind, start) in SERVICES {
        let live = match leases.list_versioned(kind).await {
            Ok(live) => live,
            Err(error) => {
                return vec![Finding::fail(
                    "services",
                    with_causes(&error),
                    advice(store.url(), &error),
                )];
            }
        };
        if live.is_empty() {
            findings.push(Finding::warn(kind, "none is running", start));
        }
        findings.extend(join_all(live.iter().map(|found| service(&http, kind, found))).await);
        for VersionedLease { version, lease, .. } in live {
            // Versions before this was written say none.
            if let Some(version) = version {
                versions.entry(version).or_default().push(lease.id);
            }
        }
    }
    findings.extend(compared(&versions));
    findings
}

/// Versions of services, with who has them, against each other and against this command's.
fn compared(versions: &BTreeMap<String, Vec<String>>) -> Option<Finding> {
    const CHECK: &str = "versions";
    let own = env!("CARGO_PKG_VERSION");
    let known: Vec<&String> = versions.keys().collect();
    match known.as_slice() {
        [] => None,
        [one] if *one == own => Some(Finding::ok(CHECK, format!("all are {one}"))),
        [one] => Some(Finding::warn(
            CHECK,
            format!("all are {one}, and this command is {own}"),
            "use the command of the same version",
        )),
        _ => {
            let who = versions
                .iter()
                .map(|(version, ids)| format!("{version}: {}", ids.join(", ")));
            let who: Vec<String> = who.collect();
            Some(Finding::warn(
                CHECK,
                who.join("; "),
                "finish the upgrade: restart the older ones",
            ))
        }
    }
}

async fn service(http: &reqwest::Client, kind: &str, found: &VersionedLease) -> Finding {
    let check = format!("{kind} {}", found.lease.id);
    let address = found.lease.address.trim_end_matches('/');
    let before = Utc::now();
    match http.get(format!("{address}/readyz")).send().await {
        Ok(answer) if answer.status().is_success() => {
            let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
            let theirs = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
            let apart = theirs.map_or(Duration::ZERO, |theirs| apart(theirs.to_utc(), before, Utc::now()));
            if apart > SKEW {
                let found = format!(
                    "ready at {address}, with a clock {:.0} s from the one here",
                    apart.as_secs_f64()
                );
                return Finding::warn(check, found, "synchronise the clocks (NTP)");
            }
            Finding::ok(check, format!("ready at {address}"))
        }
        Ok(answer) => {
            let status = answer.status();
            let said: serde_json::Value = answer.json().await.unwrap_or_default();
            let said = said["error"]["message"].as_str().unwrap_or(status.as_str()).to_owned();
            Finding::warn(check, said, "wait, or look at its log")
        }
        Err(_) => Finding::warn(
            check,
            format!("{address} does not answer from here"),
            "is `advertise` the address that others reach it by? If it has just ended, its lease expires by itself",
        ),
    }
}

#[cfg(test)]
mod tests;
