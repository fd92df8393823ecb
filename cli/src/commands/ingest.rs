//! `anabranch ingest`: a file of events into a table's log, chunk by chunk, each acknowledged before the next is sent.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_catalog::{Connector, Source};
use anabranch_log::PartitionedLog;
use anabranch_model::{ErrorKind, RawRecord};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use crate::args::{Ingest, Remote};
use crate::client::Client;
use crate::output::{self, thousands};
use crate::platform::Platform;

/// Lines in one chunk at most.
const CHUNK_LINES: usize = 100_000;

pub async fn run(args: Ingest) -> Result<ExitCode> {
    let sink = Sink::open(&args).await?;
    let input = Input::open(&args.file)?;
    let bar = output::progress(input.total_bytes, true);
    bar.set_message(format!("{} → {}", args.file.display(), args.table));
    let began = Instant::now();
    let mut sent = Sent::default();
    let result = send_all(&args, &sink, input, &bar, &mut sent).await;
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64().max(1e-9);
    println!(
        "{} events acknowledged in {seconds:.2} s ({} events/s)",
        thousands(sent.acknowledged),
        thousands((sent.acknowledged as f64 / seconds) as u64)
    );
    for (partition, next) in &sent.through {
        println!("  {partition} through offset {next}");
    }
    result.with_context(|| {
        format!(
            "stopped after {} acknowledged lines of {}; nothing is resumed by itself: to go on, send the file from line {} on",
            thousands(sent.acknowledged), args.file.display(), thousands(sent.lines + 1)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What was acknowledged so far.
#[derive(Default)]
struct Sent {
    acknowledged: u64,
    /// Lines of the file that are dealt with, blank ones included.
    lines: u64,
    through: std::collections::BTreeMap<String, i64>,
}

async fn send_all(args: &Ingest, sink: &Sink, mut input: Input, bar: &ProgressBar, sent: &mut Sent) -> Result<()> {
    let most_lines = args
        .rate
        .map_or(CHUNK_LINES, |rate| (rate as usize / 10).clamp(1, CHUNK_LINES));
    let began = Instant::now();
    loop {
        let (read, chunk) = {
            let most_bytes = args.chunk.get() as usize;
            // Reading a file, or waiting for somebody's standard input, must not hold up the connection.
            tokio::task::spawn_blocking(move || {
                let chunk = input.next_chunk(most_lines, most_bytes);
                (input, chunk)
            })
            .await?
        };
        input = read;
        let chunk = chunk.with_context(|| format!("cannot read {}", args.file.display()))?;
        if chunk.lines == 0 {
            return Ok(());
        }
        let through = sink.send(chunk.bytes, chunk.events).await?;
        sent.lines += chunk.lines;
        sent.acknowledged += chunk.events as u64;
        sent.through.extend(through);
        bar.set_position(input.position());
        if let Some(rate) = args.rate {
            let due = Duration::from_secs_f64(sent.acknowledged as f64 / f64::from(rate.max(1)));
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
}

/// Where events go.
enum Sink {
    /// Through the HTTP API of a running platform.
    Http {
        client: Client,
        table: String,
        key: Option<String>,
    },
    /// Straight into the log.
    Log {
        log: Arc<dyn PartitionedLog>,
        key: Option<String>,
    },
}

impl Sink {
    /// Without `--config`, and wherever another process holds the embedded log, events go over HTTP.
    async fn open(args: &Ingest) -> Result<Self> {
        let over_http = |remote: &Remote| -> Result<Self> {
            Ok(Self::Http {
                client: Client::new(remote)?,
                table: args.table.clone(),
                key: args.key.clone(),
            })
        };
        let (Some(dir), None) = (&args.remote.config, &args.remote.url) else {
            return over_http(&args.remote);
        };
        let platform = Platform::load(dir)?;
        let source = platform.source(&args.table)?;
        let opener = platform.opener();
        let key = args.key.as_deref().map(|name| json_key(source, name)).transpose()?;
        if source.connector == Connector::Log
            && let Err(error) = opener.embedded()
        {
            if error.kind() == ErrorKind::Conflict {
                eprintln!("another process holds the embedded log; sending through its HTTP API");
                return over_http(&args.remote);
            }
            return Err(error.into());
        }
        Ok(Self::Log {
            log: opener.log(source).await?,
            key,
        })
    }

    /// Sends whole lines; returns once they are acknowledged.
    async fn send(&self, lines: Vec<u8>, events: usize) -> Result<Vec<(String, i64)>> {
        if events == 0 {
            return Ok(Vec::new());
        }
        match self {
            Self::Http { client, table, key } => {
                let answer = client.ingest(table, key.as_deref(), lines).await?;
                let accepted = answer["accepted"]
                    .as_u64()
                    .context("the answer does not say how many were accepted")?;
                if accepted != events as u64 {
                    bail!("{events} events were sent, but {accepted} accepted");
                }
                let through = answer["through"].as_object().into_iter().flatten();
                Ok(through
                    .filter_map(|(p, next)| Some((p.clone(), next.as_i64()?)))
                    .collect())
            }
            Self::Log { log, key } => {
                let records = split(&lines)
                    .map(|line| RawRecord {
                        key: key.as_deref().and_then(|key| key_of(line, key)),
                        payload: Some(line.to_vec()),
                        ..RawRecord::default()
                    })
                    .collect();
                let through = log.append(records).await?;
                Ok(through
                    .iter()
                    .map(|(p, next)| (anabranch_model::topic_partition(log.topic(), p), next.0))
                    .collect())
            }
        }
    }
}

/// The JSON key of a column, by its SQL name.
fn json_key(source: &Source, name: &str) -> Result<String> {
    let column = source
        .columns
        .iter()
        .find(|column| column.name == name || column.json_key == name);
    let names = || {
        source
            .columns
            .iter()
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    column.map(|column| column.json_key.clone()).with_context(|| {
        format!(
            "table `{}` has no column `{name}`; its columns are {}",
            source.name,
            names()
        )
    })
}

/// The key of one event: a text's characters, any other value's JSON; `None` for null, absent, or an undecodable line.
fn key_of(line: &[u8], key: &str) -> Option<Vec<u8>> {
    let object: std::collections::HashMap<&str, &serde_json::value::RawValue> = serde_json::from_slice(line).ok()?;
    let value = object.get(key)?.get();
    match serde_json::from_str(value).ok()? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.into_bytes()),
        _ => Some(value.as_bytes().to_vec()),
    }
}

/// Lines that are not blank, without their line ends; `POST /v1/ingest` counts them the same way.
fn split(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.trim_ascii().is_empty())
}

/// A file of lines, decompressed as it is read.
struct Input {
    lines: BufReader<Box<dyn Read + Send>>,
    bar: ProgressBar,
    total_bytes: Option<u64>,
}

/// Some whole lines.
struct Chunk {
    bytes: Vec<u8>,
    /// Lines read, blank ones included.
    lines: u64,
    /// Lines that are not blank.
    events: usize,
}

impl Input {
    fn open(path: &Path) -> Result<Self> {
        let (raw, total_bytes): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(std::io::stdin()), None)
        } else {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            let length = file.metadata().ok().map(|metadata| metadata.len());
            (Box::new(file), length)
        };
        // Counts compressed bytes, so that the progress of the file is known.
        let bar = ProgressBar::hidden();
        let mut counted = BufReader::with_capacity(1 << 20, bar.wrap_read(raw));
        let magic = counted
            .fill_buf()
            .with_context(|| format!("cannot read {}", path.display()))?;
        let lines: Box<dyn Read + Send> = if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::bufread::MultiGzDecoder::new(counted))
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(zstd::stream::read::Decoder::with_buffer(counted)?)
        } else {
            Box::new(counted)
        };
        Ok(Self {
            lines: BufReader::with_capacity(1 << 20, lines),
            bar,
            total_bytes,
        })
    }

    /// Bytes of the file read so far, as they lie on disk.
    fn position(&self) -> u64 {
        self.bar.position()
    }

    /// The next whole lines: at most `most_lines`, and about `most_bytes`.
    fn next_chunk(&mut self, most_lines: usize, most_bytes: usize) -> std::io::Result<Chunk> {
        let mut chunk = Chunk {
            bytes: Vec::with_capacity(most_bytes.min(8 << 20)),
            lines: 0,
            events: 0,
        };
        while (chunk.lines as usize) < most_lines && chunk.bytes.len() < most_bytes {
            let start = chunk.bytes.len();
            if self.lines.read_until(b'\n', &mut chunk.bytes)? == 0 {
                break;
            }
            chunk.lines += 1;
            chunk.events += split(&chunk.bytes[start..]).count();
        }
        Ok(chunk)
    }
}
