//! What a person can type.

use std::path::PathBuf;

use anabranch_access::Role;
use anabranch_runtime::{ByteSize, HumanDuration, Secret};
use clap::{Parser, Subcommand, ValueEnum};

/// Live numbers and exact numbers from the same events: a speed layer, a batch layer, and one merged answer.
#[derive(Debug, Parser)]
#[command(name = "anabranch", version, propagate_version = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on generated web-shop clicks, and compare the answers with the generator's own truth.
    Demo(Demo),
    /// Run all three layers in one process, on a local folder unless the settings say otherwise.
    Dev(Config),
    /// Run the speed layer: consume, land, keep realtime state.
    Speed(Config),
    /// Run the batch layer: recompute views from the master dataset, and publish them.
    Batch(Config),
    /// Run the serving layer: merge, and answer over HTTP.
    Serve(Config),
    /// Check anabranch.toml and views.sql without running anything.
    Check(Check),
    /// Send events (NDJSON) to a table's log.
    Ingest(Ingest),
    /// Ask a SQL question over merged views.
    Query(Query),
    /// List the views being served, or change them while everything runs.
    Views(Views),
    /// Start, list and inspect batch runs; publish or discard a held one; go back to an earlier one.
    Runs(Runs),
    /// Compute views from all of history and compare them with what is served, group by group; the exit code says whether they agree.
    Verify(Verify),
    /// Show the state of the tables' files, and merge, expire and remove at once what the batch service would in time.
    Maintenance(Maintenance),
    /// Let events expire that are older than the `retention` of their table, or say what would go.
    Retention(Retention),
    /// List, show and produce again what did not decode.
    DeadLetters(DeadLetters),
    /// Keep events out of every answer, from now on; or list what is kept out.
    Exclude(Exclude),
    /// Undo an exclusion.
    Include(Include),
    /// Look at settings, views, broker, object store, clocks, running services and disks, and say what to do about what is wrong.
    Doctor(Doctor),
    /// Pack what helps to find a fault into one archive, without secrets.
    SupportBundle(SupportBundle),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages, one per command.
    Man {
        /// Folder to write them to.
        dir: PathBuf,
    },
    /// Create, list and revoke the tokens that let people and programs in.
    Token(Token),
    /// List what administrators did.
    Audit(AuditLog),
    /// Ask a service whether it is ready; the exit code says so.
    Health(Health),
}

/// Where the configuration lies.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Folder with views.sql and, optionally, anabranch.toml.
    #[arg(long, value_name = "DIR", default_value = ".", env = "ANABRANCH_CONFIG")]
    pub config: PathBuf,
}

/// How to reach a running platform.
#[derive(Clone, Debug, clap::Args)]
pub struct Remote {
    /// Address of the serving layer. Default: `[serving] listen` of --config, else http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", env = "ANABRANCH_URL")]
    pub url: Option<String>,
    /// Configuration folder to read the address from.
    #[arg(long, value_name = "DIR", env = "ANABRANCH_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub credentials: Credentials,
}

/// What is shown to a platform that does not let everybody in, and how it is recognised.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Credentials {
    /// Token to come in with. Other users of this machine can see arguments: the variable is better.
    #[arg(long, value_name = "TOKEN", env = "ANABRANCH_TOKEN", hide_env_values = true)]
    pub token: Option<Secret>,
    /// Authority that vouches for the platform's certificate, in PEM. Default: `ca` in [tls] of --config, else the machine's.
    #[arg(long, value_name = "FILE", env = "ANABRANCH_CA")]
    pub ca: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Health {
    /// Address of the service.
    #[arg(env = "ANABRANCH_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Configuration folder whose certificate is shown, where the service asks for one.
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub credentials: Credentials,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Token {
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print it; it is shown this once and kept nowhere.
    Create {
        /// What it permits: read (query views), ingest (send events) or admin (everything).
        #[arg(long)]
        role: Role,
        /// Views that it may see, with commas between; `*` stands for any characters. Default: all for read, none for ingest.
        #[arg(long, value_name = "VIEWS", value_delimiter = ',')]
        views: Option<Vec<String>>,
        /// How long it counts, such as 90d. Default: until it is revoked.
        #[arg(long, value_name = "DURATION")]
        expires: Option<HumanDuration>,
        /// What to call it, and the user name of SQL clients. Default: from its id.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        config: Config,
    },
    /// List tokens, without their secrets.
    List {
        #[command(flatten)]
        config: Config,
    },
    /// Let nobody in with a token any more; services know within seconds.
    Revoke {
        /// Name or id.
        token: String,
        #[command(flatten)]
        config: Config,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub struct AuditLog {
    #[command(subcommand)]
    pub command: AuditCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum AuditCommand {
    /// List what administrators did, oldest first, as the object store has it.
    List {
        /// From this day on (UTC). Default: thirty days ago.
        #[arg(long, value_name = "YYYY-MM-DD")]
        since: Option<chrono::NaiveDate>,
        /// Records to show at most: the newest.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Print each record as a line of JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: Config,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub struct Demo {
    /// Stop after this long; the exit code is 0 only if every merged answer equals the truth.
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<HumanDuration>,
    /// Events per second.
    #[arg(long, default_value_t = 2_000)]
    pub rate: u32,
    /// Seed of the generator.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Keep the data in this (new) folder instead of a temporary one.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Address of the HTTP API.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    pub config: Config,
    /// Print each view's plan as JSON: prepare, keys, partial state schema, finalise.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    pub config: Config,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct SupportBundle {
    #[command(flatten)]
    pub config: Config,
    /// The archive to write. Default: `anabranch-support-<time>.tar.gz` here.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Log file whose end is packed too; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub log: Vec<PathBuf>,
}

/// A shell that completions can be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Ingest {
    /// Table to send to.
    pub table: String,
    /// NDJSON file, plain or compressed with gzip or zstd; `-` reads standard input.
    pub file: PathBuf,
    /// Column whose value becomes the record's key (equal keys go to the same partition).
    #[arg(long, value_name = "COLUMN")]
    pub key: Option<String>,
    /// Events per second at most.
    #[arg(long, value_name = "N")]
    pub rate: Option<u32>,
    /// Size of one request.
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    pub chunk: ByteSize,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Query {
    /// A SELECT over views.
    pub sql: String,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Refuse an answer that does not cover everything.
    #[arg(long)]
    pub exact: bool,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Views {
    #[command(subcommand)]
    pub command: Option<ViewsCommand>,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ViewsCommand {
    /// Make the tables and views of a folder's views.sql those that run: what is new or changed is built from history
    /// while the former versions answer.
    Apply {
        #[command(flatten)]
        config: Config,
        /// Address of the serving layer. Default: `[serving] listen` of the folder's anabranch.toml.
        #[arg(long, value_name = "URL", env = "ANABRANCH_URL")]
        url: Option<String>,
        #[command(flatten)]
        credentials: Credentials,
        /// Print what would happen, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Go back to a text that was applied, and replaced, before.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
    Ndjson,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Runs {
    #[command(subcommand)]
    pub command: RunsCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum RunsCommand {
    /// Start a batch run, and show its progress until it has published.
    Start {
        /// Print the run's id and return at once.
        #[arg(long)]
        detach: bool,
        /// Fold all of history, whatever `[batch] mode` says.
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// List recent runs, newest first.
    List {
        /// Runs to show at most.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one run, and how it compares with what was served before it.
    Show {
        /// Run id.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Publish a run that is held because it differs from what was served.
    Publish {
        /// Run id.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Discard a run that is held.
    Discard {
        /// Run id.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Serve an earlier run again, merged with everything that came after it.
    Rollback {
        /// Run id, or number of a publication. Default: the run that was served before the present one.
        id: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub struct Verify {
    /// Views to verify. Default: all.
    #[arg(value_name = "VIEW")]
    pub views: Vec<String>,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Maintenance {
    #[command(subcommand)]
    pub command: Option<MaintenanceCommand>,
    #[command(flatten)]
    pub status: MaintenanceStatus,
}

/// `anabranch maintenance`, without more.
#[derive(Clone, Debug, clap::Args)]
pub struct MaintenanceStatus {
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Clone, Debug, Subcommand)]
pub enum MaintenanceCommand {
    /// Merge small files, let old events expire, and remove what nobody can read any more.
    Run(Upkeep),
}

#[derive(Clone, Debug, clap::Args)]
pub struct Retention {
    #[command(flatten)]
    pub upkeep: Upkeep,
}

/// Work on tables' files.
#[derive(Clone, Debug, clap::Args)]
pub struct Upkeep {
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Only this table.
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub remote: Remote,
}

/// Which table, where, and how to print.
#[derive(Clone, Debug, clap::Args)]
pub struct Table {
    /// Table; may be left out where there is only one.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Clone, Debug, clap::Args)]
pub struct DeadLetters {
    #[command(subcommand)]
    pub command: DeadLettersCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// List dead letters, newest first, and count their reasons.
    List {
        #[command(flatten)]
        filter: LettersFilter,
        /// Letters to show at most.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        #[command(flatten)]
        table: Table,
    },
    /// Show one dead letter with its bytes, key and headers.
    Show {
        /// Partition of the topic.
        partition: i32,
        /// Offset in the partition.
        offset: i64,
        #[command(flatten)]
        table: Table,
    },
    /// Produce dead letters again, each once, for instance after the table's columns were corrected.
    Redrive(Redrive),
    /// List redrives, newest first.
    Redrives {
        #[command(flatten)]
        table: Table,
    },
}

/// Which dead letters are meant; all that fit every condition.
#[derive(Clone, Debug, clap::Args)]
pub struct LettersFilter {
    /// Partition of the topic. Default: all.
    #[arg(long, value_name = "P")]
    pub partition: Option<i32>,
    /// Offsets from A on, without B. Default: all.
    #[arg(long, value_name = "A..B")]
    pub offsets: Option<String>,
    /// What the reason contains.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Redrive {
    #[command(flatten)]
    pub filter: LettersFilter,
    /// Only say what would be produced.
    #[arg(long)]
    pub dry_run: bool,
    /// Also letters that were redriven before.
    #[arg(long)]
    pub again: bool,
    /// Also letters that the present definition of the table does not decode.
    #[arg(long)]
    pub undecodable: bool,
    /// Who asks, for the record. Default: the user's name.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Return as soon as it is asked for.
    #[arg(long)]
    pub detach: bool,
    /// How long to wait for its end.
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: HumanDuration,
    #[command(flatten)]
    pub table: Table,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Exclude {
    /// List what is kept out.
    #[arg(long, conflicts_with_all = ["partition", "offsets", "reason"])]
    pub list: bool,
    /// Partition of the topic that the events are in.
    #[arg(long, value_name = "P", required_unless_present = "list")]
    pub partition: Option<i32>,
    /// Offsets of the events, from A on, without B.
    #[arg(long, value_name = "A..B", required_unless_present = "list")]
    pub offsets: Option<String>,
    /// Why, for those who read the numbers later.
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    pub reason: Option<String>,
    /// Who does it, for the record. Default: the user's name.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    #[command(flatten)]
    pub table: Table,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Include {
    /// Id of the exclusion.
    pub id: u64,
    /// Who does it, for the record. Default: the user's name.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    #[command(flatten)]
    pub table: Table,
}

#[cfg(test)]
mod tests;
