use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anabranch_model::TopicOffsets;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::http::Http;
use crate::process::{Output, Process};
use crate::runtime::until;
use crate::site::Site;

/// Longest that landing, or a batch run, may take.
const WORK: Duration = Duration::from_secs(180);

/// One `anabranch dev` on a folder of its own.
///
/// Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub struct Dev {
    process: Option<Process>,
    site: Site,
    http: Http,
}

impl Dev {
    /// Starts it and waits until it is ready. `extra_toml` goes over the ports that are chosen for it.
    pub fn start(views_sql: &str, extra_toml: &str) -> Self {
        Self::at(Site::new(views_sql, extra_toml))
    }

    /// Starts it on a folder that is there already.
    pub fn at(site: Site) -> Self {
        let process = Some(site.start("dev"));
        let http = site.http();
        Self { process, site, http }
    }

    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The folder alone, once the process is gone: killed, if it still runs.
    pub fn into_site(self) -> Site {
        drop(self.process);
        self.site
    }

    pub fn http(&self) -> &Http {
        &self.http
    }

    /// # Panics
    /// While it does not run.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("dev is running")
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        self.process().kill9();
        self.process = None;
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        let status = self.process().terminate();
        self.process = None;
        status
    }

    /// Starts it again on the same folder; stops it gracefully before if it runs.
    pub fn restart(&mut self) {
        if self.process.is_some() {
            self.terminate();
        }
        self.process = Some(self.site.start("dev"));
    }

    #[track_caller]
    pub fn query(&self, sql: &str) -> Answer {
        self.http.query(sql)
    }

    #[track_caller]
    pub fn query_at_least(&self, sql: &str, through: &TopicOffsets) -> Answer {
        self.http.query_at_least(sql, through)
    }

    /// Sends lines over HTTP.
    #[track_caller]
    pub fn ingest(&self, table: &str, lines: Vec<u8>) -> TopicOffsets {
        self.http.ingest(table, lines).1
    }

    /// Sends a file with `anabranch ingest`; returns what it says was acknowledged, and up to where.
    #[track_caller]
    pub fn ingest_file(&self, table: &str, file: &Path) -> (u64, TopicOffsets) {
        let file = file.to_str().expect("the file has a plain name");
        acknowledged(
            &self
                .site
                .cli(&["ingest", table, file, "--config", self.site.config()])
                .success(),
        )
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.http.status()
    }

    /// Waits until everything before `through` has landed.
    pub fn wait_landed(&self, table: &str, through: &TopicOffsets) {
        wait_landed(&self.http, table, through);
    }

    /// Runs a batch run to its publication.
    pub fn run_batch(&self) -> Value {
        run_batch(&self.http)
    }

    /// Lands everything before `through`, and publishes a batch run over it.
    pub fn land_and_run(&self, table: &str, through: &TopicOffsets) -> Value {
        self.wait_landed(table, through);
        self.run_batch()
    }
}

/// Waits until everything before `through` of `table` has landed.
///
/// # Panics
/// When it takes too long.
pub fn wait_landed(http: &Http, table: &str, through: &TopicOffsets) {
    until(&format!("{through:?} of `{table}` is landed"), WORK, || {
        let status = http.status();
        let partitions = &status["sources"][table]["partitions"];
        let landed = |(partition, next): (&String, &i64)| {
            partitions[partition]["next_landed"]
                .as_i64()
                .is_some_and(|landed| landed >= *next)
        };
        through.iter().all(landed).then_some(())
    });
}

/// Starts a batch run, waits for its end, and for serving to have taken it up.
///
/// # Panics
/// When it fails or takes too long.
pub fn run_batch(http: &Http) -> Value {
    let id = start_run(http);
    let run = until(&format!("run {id} ends"), WORK, || {
        let run = http.get(&format!("/v1/batch/runs/{id}")).expect(200).json();
        match run["state"].as_str() {
            Some("published") => Some(run),
            Some("failed") => panic!("run {id} failed: {run}"),
            _ => None,
        }
    });
    let publication = run["publication"]
        .as_u64()
        .expect("a published run names its publication");
    until(&format!("publication {publication} is served"), WORK, || {
        http.status()["publication"]["number"]
            .as_u64()
            .filter(|number| *number >= publication)
    });
    run
}

/// Asks for a run, once serving has heard of a batch service; returns its id.
///
/// # Panics
/// When it is refused, or nobody takes it for long.
pub fn start_run(http: &Http) -> String {
    let reply = until("a batch service takes a run", WORK, || {
        Some(http.post("/v1/batch/runs", &json!({}))).filter(|reply| reply.status != 503)
    });
    let run = reply.expect(202).json();
    run["run_id"].as_str().expect("a run has an id").to_owned()
}

/// What `anabranch ingest` printed: how many events were acknowledged, and up to where.
///
/// # Panics
/// When it printed something else.
#[track_caller]
pub fn acknowledged(output: &Output) -> (u64, TopicOffsets) {
    let mut lines = output.stdout.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().expect("ingest prints what was acknowledged");
    let events = first
        .split_once(" events acknowledged")
        .map(|(events, _)| events.replace(',', ""));
    let events = events.and_then(|events| events.trim().parse().ok());
    let through = lines.filter_map(|line| line.trim().split_once(" through offset "));
    let through = through.map(|(partition, next)| {
        (
            partition.to_owned(),
            next.trim().parse().expect("an offset is a number"),
        )
    });
    (
        events.unwrap_or_else(|| panic!("unexpected output: {}", output.stdout)),
        through.collect(),
    )
}
