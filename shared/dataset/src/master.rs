//! The master dataset: per source one Delta table of raw events, and the one clock (ARCHITECTURE.md, "The one clock").
//!
//! The Delta kernel reads a table's state when it is opened, reads old versions, and writes checkpoints. From there on
//! the state is kept up to date commit by commit, and commits are written as exactly the next version, so that the cost
//! of a landing does not grow with history.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anabranch_catalog::Source;
use anabranch_model::crash_point;
use anabranch_model::{Cut, Offset, OffsetRange, OffsetVector, PartitionId};
use arrow::datatypes::SchemaRef;
use object_store::path::Path;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::environment::{Environment, Rule};
use crate::error::{Error, Result};
use crate::store::Store;
use commit::{CHECKPOINT_INTERVAL, Decision, Outcome, now_ms};
use kernel::commit_path;
use log::{Change, Commit, IDENTITY, Mark, Metadata, TableState};

pub use file::{DataFile, TimeSpan};

mod cleaning;
mod commit;
mod compact;
mod file;
mod kernel;
mod log;
mod notes;
mod retention;
mod schema;
mod vacuum;

pub use cleaning::{CleanedLog, LogCleaning};
pub use compact::{Compacted, Compaction, CompactionPlan, plan_compaction};
pub use notes::{Exclusion, Notes};
pub use retention::{Expirable, ExpiringPartition};
pub use vacuum::{Vacuum, Vacuumed};

/// An uploaded file is committed within this time or uploaded again. Vacuum takes files that no version names for left behind
/// only when they are [much older](MasterDataset::vacuum).
pub const UPLOAD_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// One source's Delta table of raw events, below `sources/<name>/`. Cheap to clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct MasterDataset {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    source: Arc<Source>,
    /// Path of the table in the store.
    root: Path,
    /// Held only to read or to apply a commit, never across I/O.
    state: Mutex<TableState>,
    /// When the version that we know was last seen to be the newest.
    confirmed: Mutex<Instant>,
    committing: tokio::sync::Mutex<()>,
}

/// A partition to take over. `start` is used only if the partition has no recorded next offset.
#[derive(Clone, Debug)]
pub struct Claim {
    pub partition: PartitionId,
    pub start: Offset,
}

/// What a claim returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    pub epoch: i64,
    /// Next offset to read: everything before it is landed.
    pub next: Offset,
    /// Where the partition begins.
    pub start: Offset,
}

/// One landing: files already uploaded, and how far each partition gets by them.
#[derive(Clone, Debug)]
pub struct Landing {
    /// Unique; found again after an unclear error.
    pub commit_id: Uuid,
    pub files: Vec<DataFile>,
    pub partitions: BTreeMap<PartitionId, Advance>,
}

/// How far a partition gets, and under which ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    pub range: OffsetRange,
    pub epoch: i64,
}

/// How a landing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LandOutcome {
    /// Committed as this version.
    Landed { version: u64 },
    /// Nothing was committed: these partitions belong to somebody else now, or were landed by somebody else. Take them
    /// out and land the rest.
    Refused { partitions: BTreeMap<PartitionId, Refusal> },
}

/// Why a partition may not be landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another ownership epoch is recorded (0 if none is).
    Epoch { ours: i64, recorded: i64 },
    /// The recorded next offset is not where our range starts.
    Next { ours: Offset, recorded: Offset },
}

/// The master dataset at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub version: u64,
    pub next: OffsetVector,
    pub starts: OffsetVector,
    pub epochs: BTreeMap<PartitionId, i64>,
    /// What is excluded, lost or expired.
    pub notes: Arc<Notes>,
    /// In path order.
    pub files: Vec<DataFile>,
}

/// What a table holds at its newest version, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    pub version: u64,
    pub files: u64,
    pub bytes: u64,
    /// Rows that are events.
    pub events: u64,
    /// Rows that are dead letters.
    pub dead_letters: u64,
}

impl Snapshot {
    /// The cut that this snapshot is.
    pub fn cut(&self) -> Cut {
        Cut {
            version: Some(self.version),
            next: self.next.clone(),
        }
    }

    /// Files of events that may hold rows at or beyond `from`, in path order. Rows before `from` are to be filtered out:
    /// a file may hold both.
    pub fn events_beyond<'s>(&'s self, from: &'s OffsetVector) -> impl Iterator<Item = &'s DataFile> {
        self.files.iter().filter(|file| !file.dead && file.reaches_beyond(from))
    }

    /// Rows of events and of dead letters.
    pub fn rows(&self) -> (u64, u64) {
        self.files.iter().fold((0, 0), |(events, dead), file| match file.dead {
            false => (events + file.rows, dead),
            true => (events, dead + file.rows),
        })
    }
}

impl MasterDataset {
    /// Opens the table, creating it (and adding columns declared since) if need be. `identity` names the log
    /// (Kafka cluster id + topic id, or the embedded log's UUID).
    ///
    /// # Errors
    /// `Invalid` when another identity is recorded, or a declared column changed its type; the message says what to do.
    pub async fn open(store: &Store, source: &Arc<Source>, identity: &str) -> Result<Self> {
        let root = table_path(source);
        let state = match kernel::load(store, &source.name, &root, None).await? {
            Some(state) => state,
            None => {
                let environment = store.environment();
                let first = creation(source, identity, environment)?;
                let lines = first.encode(now_ms(environment));
                let path = commit_path(&root, 0);
                crash_point!("table.create.before");
                if store.create(&path, lines.into()).await? {
                    tracing::info!(table = %source.name, "master dataset created");
                }
                crash_point!("table.create.after");
                kernel::load(store, &source.name, &root, None)
                    .await?
                    .ok_or_else(|| Error::corrupt(&path, "it was created and is not there"))?
            }
        };
        let dataset = Self::with_table(store, source, root, state);
        dataset.adopt(identity).await?;
        dataset.catch_up_checkpoint().await;
        Ok(dataset)
    }

    /// Opens an existing table for reading; `None` when nothing was ever landed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn open_existing(store: &Store, source: &Arc<Source>) -> Result<Option<Self>> {
        let root = table_path(source);
        let state = kernel::load(store, &source.name, &root, None).await?;
        Ok(state.map(|state| Self::with_table(store, source, root, state)))
    }

    fn with_table(store: &Store, source: &Arc<Source>, root: Path, state: TableState) -> Self {
        let (store, source) = (store.clone(), source.clone());
        let confirmed = store.environment().instant();
        let inner = Inner {
            store,
            source,
            root,
            state: Mutex::new(state),
            confirmed: Mutex::new(confirmed),
            committing: tokio::sync::Mutex::new(()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Checks the identity and adds columns declared since.
    async fn adopt(&self, identity: &str) -> Result<()> {
        let id = self.environment().ordered_id();
        let wanted = schema::wanted(&self.inner.source);
        let adopt = |state: &TableState| {
            let metadata = state.metadata.as_ref().ok_or_else(|| self.no_metadata())?;
            let recorded = metadata.configuration.get(IDENTITY);
            if let Some(recorded) = recorded.filter(|recorded| *recorded != identity) {
                let (recorded, found) = (recorded.clone(), identity.to_owned());
                return Err(Error::Identity {
                    table: self.table(),
                    recorded,
                    found,
                });
            }
            let current = schema::decode(&self.inner.source.name, &metadata.schema_string)?;
            let grown = schema::grown(&self.inner.source.name, &current, &wanted)?;
            if grown.is_none() && recorded.is_some() {
                return Ok(Decision::Stop(()));
            }
            let mut metadata = metadata.clone();
            if let Some(grown) = grown {
                metadata.schema_string = schema::encode(&self.inner.source.name, &grown)?;
            }
            metadata.configuration.insert(IDENTITY.to_owned(), identity.to_owned());
            let commit = Commit {
                id,
                operation: "ADD COLUMNS",
                parameters: json!({}),
                actions: vec![json!({"metaData": metadata})],
            };
            crash_point!("table.columns.before");
            Ok(Decision::Commit(commit, ()))
        };
        match self.commit(id, adopt).await? {
            Outcome::Committed { version, .. } => {
                crash_point!("table.columns.after");
                tracing::info!(table = %self.inner.source.name, version, "columns added")
            }
            Outcome::Stopped(()) => {}
        }
        Ok(())
    }

    /// Writes the checkpoint that an earlier process may have died before writing.
    async fn catch_up_checkpoint(&self) {
        let due = self.with_state(|state| state.version) / CHECKPOINT_INTERVAL * CHECKPOINT_INTERVAL;
        match kernel::last_checkpoint(&self.inner.store, &self.inner.root).await {
            Ok(last) if last.unwrap_or(0) < due => self.spawn_checkpoint(due),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(table = %self.inner.source.name, %error, "cannot tell when the last checkpoint was")
            }
        }
    }

    /// The source whose events these are.
    pub fn source(&self) -> &Arc<Source> {
        &self.inner.source
    }

    /// The store the table lies in.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The newest state, or that of `version`.
    ///
    /// # Errors
    /// `NotFound` when there is no such version.
    pub async fn snapshot(&self, version: Option<u64>) -> Result<Snapshot> {
        let known = self.with_state(|state| (version == Some(state.version)).then(|| state.snapshot()));
        if let Some(known) = known {
            return Ok(known);
        }
        self.refresh().await?;
        let newest = self.with_state(|state| state.version);
        match version {
            Some(version) if version > newest => Err(Error::NoVersion {
                table: self.table(),
                version,
            }),
            Some(version) if version < newest => kernel::load(
                &self.inner.store,
                &self.inner.source.name,
                &self.inner.root,
                Some(version),
            )
            .await?
            .map(|state| state.snapshot())
            .ok_or_else(|| Error::NoVersion {
                table: self.table(),
                version,
            }),
            _ => Ok(self.with_state(|state| state.snapshot())),
        }
    }

    /// The columns that were ever landed or declared, as the table has them.
    ///
    /// # Errors
    /// `Data` when the log holds none.
    pub fn columns(&self) -> Result<SchemaRef> {
        let encoded = self.with_state(|state| state.metadata.as_ref().map(|metadata| metadata.schema_string.clone()));
        let encoded = encoded.ok_or_else(|| self.no_metadata())?;
        Ok(Arc::new(schema::decode(&self.inner.source.name, &encoded)?))
    }

    /// Whether the columns of `source` can be kept in this table, beside what was landed.
    ///
    /// # Errors
    /// `ColumnType` when a column has another type than the landed one.
    pub fn check_columns(&self, source: &Source) -> Result<()> {
        let current = self.columns()?;
        schema::grown(&source.name, &current, &schema::wanted(source)).map(drop)
    }

    /// The newest version and offsets, without the files: cheaper than [`Self::snapshot`] where history is long.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn cut(&self) -> Result<Cut> {
        self.refresh().await?;
        Ok(self.with_state(|state| Cut {
            version: Some(state.version),
            next: state.next.clone(),
        }))
    }

    /// How much the table holds. Without a copy of the list of files, so it may be asked for often where history is long.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn size(&self) -> Result<TableSize> {
        self.refresh().await?;
        Ok(self.with_state(|state| state.size()))
    }

    /// The same for a process that never [vacuums](Self::vacuum): it does not remember files that were taken out of the table,
    /// which would only grow in number.
    #[must_use]
    pub fn never_vacuuming(self) -> Self {
        self.with_state(TableState::forget_all_removed);
        self
    }

    /// The recorded ownership epoch of a partition; `None` when nobody has ever claimed it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn epoch(&self, partition: PartitionId) -> Result<Option<i64>> {
        self.refresh().await?;
        Ok(self.with_state(|state| state.epochs.get(&partition).copied()))
    }

    /// The recorded ownership epochs that this process has read last, without I/O.
    pub fn known_epochs(&self) -> BTreeMap<PartitionId, i64> {
        self.with_state(|state| state.epochs.clone())
    }

    /// Takes partitions over: commits an epoch one higher than the recorded one for each, and the start offset for those
    /// never read before. Returns epoch and recorded next offset of each. Of two that race, one gets the higher epoch, and
    /// the other's landings are refused from then on.
    ///
    /// # Errors
    /// `Unavailable` when the store does not answer, or others were always first.
    pub async fn claim(&self, partitions: &[Claim], owner: &str) -> Result<BTreeMap<PartitionId, Owned>> {
        self.claim_from(partitions, &OffsetVector::new(), owner).await
    }

    /// As [`claim`](Self::claim). `first_use` says where every partition of the log begins if this is the first claim of
    /// the table: all of them are recorded then, claimed or not, so that a partition which is not among them later on is
    /// known to have been added since. Such a partition begins at offset 0.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn claim_from(
        &self,
        partitions: &[Claim],
        first_use: &OffsetVector,
        owner: &str,
    ) -> Result<BTreeMap<PartitionId, Owned>> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let id = self.environment().ordered_id();
        self.refresh().await?;
        let claim = |state: &TableState| {
            let now_ms = now_ms(self.environment());
            let source = &self.inner.source.name;
            let is_first = state.next.is_empty();
            let mut owned = BTreeMap::new();
            let mut actions = Vec::new();
            let begin = |actions: &mut Vec<Value>, partition, start: Offset| {
                actions.push(Mark::Next.action(source, partition, start.0, now_ms));
                actions.push(Mark::Start.action(source, partition, start.0, now_ms));
            };
            for Claim { partition, start } in partitions {
                let epoch = state.epochs.get(partition).copied().unwrap_or(0) + 1;
                actions.push(Mark::Epoch.action(source, *partition, epoch, now_ms));
                let added_since = !is_first && !first_use.is_empty();
                let start = if added_since { Offset(0) } else { *start };
                let next = state.next.get(*partition).unwrap_or_else(|| {
                    begin(&mut actions, *partition, start);
                    start
                });
                let start = state.starts.get(*partition).unwrap_or(start);
                owned.insert(*partition, Owned { epoch, next, start });
            }
            if is_first {
                let others = first_use.iter().filter(|(partition, _)| !owned.contains_key(partition));
                others.for_each(|(partition, start)| begin(&mut actions, partition, start));
            }
            let ids: Vec<i32> = owned.keys().map(|partition| partition.0).collect();
            let parameters = json!({"owner": owner, "partitions": json!(ids).to_string()});
            Ok(Decision::Commit(
                Commit {
                    id,
                    operation: "CLAIM",
                    parameters,
                    actions,
                },
                owned,
            ))
        };
        crash_point!("claim.commit.before");
        match self.commit(id, claim).await? {
            Outcome::Committed { version, result } => {
                crash_point!("claim.commit.after");
                tracing::info!(table = %self.inner.source.name, version, owner, partitions = result.len(), "partitions claimed");
                Ok(result)
            }
            Outcome::Stopped(result) => Ok(result),
        }
    }

    /// Lands files and next offsets in one commit (ARCHITECTURE.md, rule 7). Retries conflicts and unclear errors itself. The same
    /// landing may be handed in again after an error: if it was committed after all, its version is found.
    ///
    /// # Errors
    /// `Unavailable` when it stays unclear whether the commit exists. `Invalid` when the landing contradicts itself.
    /// [`Error::StaleUpload`] when its files were uploaded more than [`UPLOAD_LIFETIME`] ago: upload them anew, and leave the
    /// old ones where they are (an attempt that is still under way may name them).
    pub async fn land(&self, landing: &Landing) -> Result<LandOutcome> {
        let files = self.relative_paths(landing)?;
        if landing.partitions.is_empty() {
            let version = self.with_state(|state| state.version);
            return Ok(LandOutcome::Landed { version });
        }
        let land = |state: &TableState| {
            let refused: BTreeMap<_, _> = landing
                .partitions
                .iter()
                .filter_map(|(p, advance)| Some((*p, refusal(self.environment(), state, *p, advance)?)))
                .collect();
            if !refused.is_empty() {
                return Ok(Decision::Stop(refused));
            }
            self.refuse_stale(landing.files.iter().map(|file| &file.path))?;
            let now_ms = now_ms(self.environment());
            let adds = files
                .iter()
                .map(|(relative, file)| log::add_action(relative, file, Change::Rows, now_ms));
            let marks = landing.partitions.iter().map(|(partition, advance)| {
                Mark::Next.action(&self.inner.source.name, *partition, advance.range.end.0, now_ms)
            });
            let actions = marks.chain(adds).collect();
            let parameters = json!({"outputMode": "Append"});
            let commit = Commit {
                id: landing.commit_id,
                operation: "STREAMING UPDATE",
                parameters,
                actions,
            };
            Ok(Decision::Commit(commit, BTreeMap::new()))
        };
        crash_point!("land.commit.before");
        Ok(match self.commit(landing.commit_id, land).await? {
            Outcome::Committed { version, .. } => {
                crash_point!("land.commit.after");
                LandOutcome::Landed { version }
            }
            Outcome::Stopped(partitions) => LandOutcome::Refused { partitions },
        })
    }

    /// Each file with its path below the table.
    fn relative_paths<'l>(&self, landing: &'l Landing) -> Result<Vec<(String, &'l DataFile)>> {
        if landing.partitions.is_empty() && !landing.files.is_empty() {
            return Err(Error::Invalid(format!(
                "a landing of `{}` has files but no partitions",
                self.inner.source.name
            )));
        }
        let relative = |file: &'l DataFile| Ok((self.relative_path(&file.path)?, file));
        landing.files.iter().map(relative).collect()
    }

    /// The path below the table, as the log spells it.
    fn relative_path(&self, path: &Path) -> Result<String> {
        let relative = path
            .prefix_match(&self.inner.root)
            .map(|parts| Path::from_iter(parts).to_string());
        // What new_file_path returns needs no escaping in the log; anything else would.
        let plain = |path: &String| {
            path.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"/=._-".contains(&byte))
        };
        relative
            .filter(plain)
            .ok_or_else(|| Error::Invalid(format!("`{path}` is not from new_file_path")))
    }

    /// Refuses to commit files that were uploaded so long ago that vacuum may take them for left behind.
    fn refuse_stale<'f>(&self, paths: impl IntoIterator<Item = &'f Path>) -> Result<()> {
        for path in paths {
            if let Some(age) = upload_age(path, self.environment()).filter(|age| *age > UPLOAD_LIFETIME) {
                let path = path.to_string();
                return Err(Error::StaleUpload { path, age });
            }
        }
        Ok(())
    }

    /// Path (relative to the store) for a new data file. `dead`: below `_dead=true/`. Later paths sort after earlier ones.
    pub fn new_file_path(&self, dead: bool) -> Path {
        let name = format!("{}.parquet", self.environment().ordered_id());
        self.inner.root.clone().join(format!("_dead={dead}")).join(name)
    }

    /// Parquet schema of landed files (event schema; `_dead` is a partition column and not in the files).
    pub fn file_schema(&self) -> SchemaRef {
        self.inner.source.event_schema()
    }

    pub(super) fn environment(&self) -> &Environment {
        self.inner.store.environment()
    }

    fn table(&self) -> String {
        self.inner.source.name.clone()
    }

    fn no_metadata(&self) -> Error {
        Error::corrupt(&kernel::log_path(&self.inner.root), "the log holds no table metadata")
    }
}

/// Why `advance` may not be landed on `state`, if it may not.
fn refusal(
    environment: &Environment,
    state: &TableState,
    partition: PartitionId,
    advance: &Advance,
) -> Option<Refusal> {
    let recorded = state.epochs.get(&partition).copied().unwrap_or(0);
    if recorded != advance.epoch && !environment.leaves_out(Rule::OwnershipEpoch) {
        return Some(Refusal::Epoch {
            ours: advance.epoch,
            recorded,
        });
    }
    let recorded = state.next.get(partition).unwrap_or_default();
    (recorded != advance.range.start && !environment.leaves_out(Rule::NextOffset)).then_some(Refusal::Next {
        ours: advance.range.start,
        recorded,
    })
}

/// The table's version 0.
fn creation(source: &Source, identity: &str, environment: &Environment) -> Result<Commit> {
    let properties = [
        (IDENTITY, identity),
        // History is immutable; rewriting files (which is not deleting rows) stays allowed. Retention lifts this.
        (log::APPEND_ONLY, "true"),
        ("delta.checkpointInterval", "100"),
        // We know which versions somebody still reads; other tools do not.
        ("delta.enableExpiredLogCleanup", "false"),
    ];
    let metadata = Metadata {
        id: environment.random_id().to_string(),
        name: Some(source.name.clone()),
        description: None,
        format: json!({"provider": "parquet", "options": {}}),
        schema_string: schema::encode(&source.name, &schema::wanted(source))?,
        partition_columns: vec![anabranch_model::columns::DEAD.to_owned()],
        created_time: Some(now_ms(environment)),
        configuration: properties
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    };
    let actions: Vec<Value> = vec![log::protocol_action(), json!({"metaData": metadata})];
    Ok(Commit {
        id: environment.ordered_id(),
        operation: "CREATE TABLE",
        parameters: json!({}),
        actions,
    })
}

/// How long ago the path was made by [`MasterDataset::new_file_path`]: before the upload began. Unknown for other paths.
fn upload_age(path: &Path, environment: &Environment) -> Option<Duration> {
    let id: Uuid = path.filename()?.strip_suffix(".parquet")?.parse().ok()?;
    // Version 7 begins with milliseconds since the epoch.
    let made_ms = i64::try_from(id.as_u128() >> 80).ok()?;
    Some(Duration::from_millis(
        u64::try_from(now_ms(environment).saturating_sub(made_ms)).unwrap_or_default(),
    ))
}

fn table_path(source: &Source) -> Path {
    Path::from("sources").join(source.name.as_str())
}

#[cfg(test)]
mod tests;
