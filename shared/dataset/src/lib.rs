//! Master dataset, batch views, publications and leases: everything durable, in one object store.
//!
//! ```text
//! <storage url>/
//!   sources/<source>/_delta_log/…          one Delta table per source: the master dataset, and the one clock
//!   sources/<source>/_dead=false/….parquet   events
//!   sources/<source>/_dead=true/….parquet    dead letters
//!   runs/<run id>/run.json                 status of a batch run
//!   runs/<run id>/manifest.json            what it publishes, kept before it does
//!   runs/<run id>/<view>/….parquet         its batch views
//!   publications/<20 digits>.json          which run is served
//!   definitions/<20 digits>.json           which views.sql the services run
//!   redrives/<source>/<20 digits>.json     dead letters that are to be produced again; ….done.json: they have been
//!   services/<kind>/<id>.json              who is there
//! ```
//!
//! Owns how these objects are written, read and contended for. Refuses to own what is in them: rows come from
//! `anabranch-decode`, partial state from `anabranch-view`.
//!
//! Invariants:
//! * A commit of the master dataset is exactly the version after the one it was decided on; files and next offsets are in
//!   one commit ([`MasterDataset::land`]).
//! * An ownership epoch never falls, and a landing under another epoch than the recorded one is refused.
//! * A publication is exactly the number after the one its run was based on, and never lowers a cut
//!   ([`Publications::publish`]).
//! * What was answered as created is durable ([`DurableLocal`] for local folders).
//! * Compaction changes which files rows lie in, never which rows there are; it commits only what it has read back
//!   ([`MasterDataset::compact`]).
//! * Rows are deleted by retention alone, per partition a whole prefix of offsets that the table's notes name
//!   ([`MasterDataset::expire`]).
//! * A file is removed from the store only when neither the newest version nor a pinned one names it and no landing can still
//!   commit it ([`MasterDataset::vacuum`]). What a cut means follows from its offsets; old versions may be cleaned away.

mod data_files;
mod dead_letters;
mod definitions;
mod environment;
mod error;
mod leases;
mod letters;
mod master;
mod publications;
mod read;
mod redrives;
mod row_filter;
mod runs;
mod state_files;
mod store;
#[cfg(test)]
mod testing;

pub use data_files::data_file_properties;
pub use dead_letters::{DeadLetter, REDRIVE_HEADER, WhichLetters, dead_letters, redriven_since};
pub use definitions::{DefinitionEntry, DefinitionLog, text_hash};
pub use environment::{Environment, Rule, Simulated, Spawned};
pub use error::Error;
pub use leases::{Lease, Leases, VersionedLease};
pub use letters::Letters;
pub use master::{
    Advance, Claim, CleanedLog, Compacted, Compaction, CompactionPlan, DataFile, Exclusion, Expirable,
    ExpiringPartition, LandOutcome, Landing, LogCleaning, MasterDataset, Notes, Owned, Refusal, Snapshot, TableSize,
    TimeSpan, UPLOAD_LIFETIME, Vacuum, Vacuumed, plan_compaction,
};
pub use publications::{BatchView, Manifest, Publication, Publications, StateFile};
pub use read::{Batches, DataReader, RowGroups, adapt, read_columns};
pub use redrives::{Finished, Redrive, RedriveDone, RedriveLog};
pub use row_filter::RowFilter;
pub use runs::{
    Diff, DiffSample, LargestDifference, RunKind, RunManifest, RunMode, RunProgress, RunRecord, RunState, Runs,
    ViewDiff,
};
pub use state_files::{StateFileWriter, StateFiles};
pub use store::{DurableLocal, Store};
