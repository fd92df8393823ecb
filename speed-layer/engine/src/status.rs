//! `GET /v1/status`: what a worker says about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anabranch_model::{Offset, PartitionId};
use anabranch_topology::{ComponentStats, Topology};
use serde::Serialize;

use crate::program::LiveView;
use crate::source::{Connection, DeadSample, LastLanding, LastRebuild, Refused, SourceLayer, Stopped, Trouble};
use crate::sources::Waiting;
use crate::state::{PartitionState, SegmentCounts, ViewPhase};

#[derive(Serialize)]
pub(crate) struct Status {
    pub(crate) worker: String,
    pub(crate) state_bytes: usize,
    /// Decoded events that wait to be landed.
    pub(crate) landing_bytes: usize,
    pub(crate) state_budget_bytes: u64,
    /// Reading waits because state and what waits to be landed are at twice the budget.
    pub(crate) paused: bool,
    /// Sources whose log or store has not answered yet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) waiting: BTreeMap<String, Waiting>,
    pub(crate) sources: BTreeMap<String, SourceStatus>,
}

#[derive(Serialize)]
pub(crate) struct SourceStatus {
    topic: String,
    /// Whether the log answers.
    log: Option<Connection>,
    partitions: BTreeMap<i32, PartitionStatus>,
    events_consumed: u64,
    /// In the whole master dataset, whoever landed them; about a second old.
    landed_events: Option<u64>,
    landed_dead_letters: Option<u64>,
    /// Records this process could not decode.
    dead_letters: u64,
    /// The latest of them, newest first.
    dead_letter_samples: Vec<DeadSample>,
    /// Declared columns that no event has had so far in this process.
    columns_never_seen: Vec<String>,
    views: BTreeMap<String, ViewStatus>,
    /// Views that are folded, those included that a change has replaced but somebody still reads.
    versions: usize,
    landings: u64,
    last_landing: Option<LastLanding>,
    /// What keeps the next one from being committed; it is tried again until it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    landing_trouble: Option<Trouble>,
    refused_total: u64,
    refused: Vec<Refused>,
    rebuilds: u64,
    last_rebuild: Option<LastRebuild>,
    topology: Vec<ComponentStats>,
}

#[derive(Serialize)]
struct PartitionStatus {
    /// It is being read here, or is about to be.
    owned: bool,
    /// RFC 3339: since then the log's group has not given it to this worker, which serves it as far as it had read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_since: Option<String>,
    epoch: Option<i64>,
    next_consumed: Option<i64>,
    next_landed: Option<i64>,
    log_end: Option<i64>,
    /// Records not consumed yet.
    lag: Option<i64>,
    segments: Option<SegmentCounts>,
    /// Why it is not read, although it is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
}

#[derive(Serialize)]
struct ViewStatus {
    hash: String,
    /// Values that became NULL: failed casts, divisions by zero, overflows.
    nulled_values: u64,
    /// Partitions whose state is still being folded from landed rows.
    rebuilding: Vec<i32>,
    /// Partition → offset from which realtime state is held.
    held_from: BTreeMap<i32, i64>,
}

pub(crate) fn source_status(layer: &SourceLayer, topology: Vec<ComponentStats>) -> SourceStatus {
    let ends = layer.facts.log_ends.lock().clone();
    let stopped = layer.facts.stopped.lock().clone();
    let states = layer.partitions();
    let mut partitions = BTreeMap::new();
    for (partition, end) in ends.iter() {
        let status = PartitionStatus {
            owned: false,
            lost_since: None,
            epoch: None,
            next_consumed: None,
            next_landed: None,
            log_end: Some(end.0),
            lag: None,
            segments: None,
            stopped: stopped.get(&partition).cloned(),
        };
        partitions.insert(partition.0, status);
    }
    for state in &states {
        let log_end = ends.get(state.partition);
        let lost_since = state.lost_since();
        let status = PartitionStatus {
            owned: lost_since.is_none(),
            lost_since,
            epoch: Some(state.epoch),
            next_consumed: Some(state.consumed().0),
            next_landed: Some(state.landed().0),
            log_end: log_end.map(|end| end.0),
            lag: log_end.map(|Offset(end)| (end - state.consumed().0).max(0)),
            segments: Some(state.segments()),
            stopped: None,
        };
        partitions.insert(state.partition.0, status);
    }
    let by_view: Vec<_> = states.iter().map(|state| (state.partition.0, state.views())).collect();
    let program = layer.program();
    let view_status = |live: &LiveView| {
        let view = &live.view;
        let held = by_view
            .iter()
            .filter_map(|(partition, views)| Some((*partition, *views.get(&live.id)?)));
        let rebuilding = held
            .clone()
            .filter(|(_, (_, phase))| *phase != ViewPhase::Ready)
            .map(|(p, _)| p)
            .collect();
        let status = ViewStatus {
            hash: view.hash().clone(),
            nulled_values: view.nulled_values(),
            rebuilding,
            held_from: held.map(|(partition, (from, _))| (partition, from.0)).collect(),
        };
        (view.name().to_owned(), status)
    };
    let facts = &layer.facts;
    let landed_rows = *facts.landed_rows.lock();
    SourceStatus {
        topic: layer.log.topic().to_owned(),
        log: facts.connection.lock().clone(),
        partitions,
        landed_events: landed_rows.map(|rows| rows.events),
        landed_dead_letters: landed_rows.map(|rows| rows.dead_letters),
        events_consumed: facts.events.load(Ordering::Relaxed),
        dead_letters: facts.dead_letters.load(Ordering::Relaxed),
        dead_letter_samples: facts.dead_samples.lock().iter().cloned().collect(),
        columns_never_seen: match facts.events.load(Ordering::Relaxed) {
            // Nothing has been looked at yet, so nothing can be said.
            0 => Vec::new(),
            _ => facts.unseen_columns.lock().clone(),
        },
        // Of two versions of a name the current one is shown.
        views: program
            .views
            .iter()
            .filter(|live| live.current)
            .map(view_status)
            .collect(),
        versions: program.views.len(),
        landings: facts.landings.load(Ordering::Relaxed),
        last_landing: facts.last_landing.lock().clone(),
        landing_trouble: facts.landing_trouble.lock().clone(),
        refused_total: facts.refusals.load(Ordering::Relaxed),
        refused: facts.refused.lock().iter().cloned().collect(),
        rebuilds: facts.rebuilds.load(Ordering::Relaxed),
        last_rebuild: *facts.last_rebuild.lock(),
        topology,
    }
}

/// Sets the gauges that are read rather than counted, and remembers of what.
#[derive(Default)]
pub(crate) struct Gauges {
    tables: BTreeSet<String>,
    partitions: BTreeSet<(String, PartitionId)>,
}

impl Gauges {
    /// Sets those of all sources that are open. What went to another worker, or was dropped, is zero from then on: sums over all
    /// workers would count it twice, or go on with what it was.
    pub(crate) fn record(&mut self, running: &[(Arc<SourceLayer>, Arc<Topology>)], names: &[String]) {
        let mut here = BTreeSet::new();
        for (layer, topology) in running {
            for state in layer.partitions() {
                record_partition(layer, &state);
                here.insert((layer.source.name.clone(), state.partition));
            }
            record_source(layer, &topology.stats());
        }
        self.tables.extend(names.iter().cloned());
        for table in self.tables.iter().filter(|table| !names.contains(table)) {
            // Nobody waits for the log of a table that was dropped.
            metrics::gauge!("anabranch_source_connected", "table" => table.clone()).set(1.0);
            metrics::gauge!("anabranch_stopped_partitions", "table" => table.clone()).set(0.0);
        }
        for (table, partition) in self.gone(here) {
            let labels = [("table", table), ("partition", partition.to_string())];
            for gauge in OF_PARTITIONS {
                metrics::gauge!(gauge, &labels).set(0.0);
            }
        }
    }

    /// Those that were here once and are not now.
    fn gone(&mut self, here: BTreeSet<(String, PartitionId)>) -> Vec<(String, PartitionId)> {
        let gone = self.partitions.difference(&here).cloned().collect();
        self.partitions.extend(here);
        gone
    }
}

/// What [`record_partition`] sets.
const OF_PARTITIONS: [&str; 6] = [
    "anabranch_next_consumed",
    "anabranch_next_landed",
    "anabranch_lag_records",
    "anabranch_state_bytes",
    "anabranch_state_runs",
    "anabranch_sealed_segments",
];

fn record_partition(layer: &SourceLayer, state: &PartitionState) {
    let labels = [
        ("table", layer.source.name.clone()),
        ("partition", state.partition.to_string()),
    ];
    let consumed = state.consumed();
    metrics::gauge!("anabranch_next_consumed", &labels).set(consumed.0 as f64);
    metrics::gauge!("anabranch_next_landed", &labels).set(state.landed().0 as f64);
    if let Some(end) = layer.facts.log_ends.lock().get(state.partition) {
        metrics::gauge!("anabranch_lag_records", &labels).set((end.0 - consumed.0).max(0) as f64);
    }
    let segments = state.segments();
    metrics::gauge!("anabranch_state_bytes", &labels).set(segments.bytes as f64);
    metrics::gauge!("anabranch_state_runs", &labels).set(segments.runs as f64);
    metrics::gauge!("anabranch_sealed_segments", &labels).set(segments.sealed as f64);
}

fn record_source(layer: &SourceLayer, topology: &[ComponentStats]) {
    let stopped = layer.facts.stopped.lock().len();
    metrics::gauge!("anabranch_stopped_partitions", "table" => layer.source.name.clone()).set(stopped as f64);
    for LiveView { view, .. } in layer.program().views.iter().filter(|live| live.current) {
        metrics::counter!("anabranch_nulled_values_total", "view" => view.name().to_owned())
            .absolute(view.nulled_values());
    }
    for stats in topology {
        let labels = [
            ("table", layer.source.name.clone()),
            ("component", stats.component.clone()),
        ];
        metrics::counter!("anabranch_topology_emitted_total", &labels).absolute(stats.emitted);
        metrics::counter!("anabranch_topology_executed_total", &labels).absolute(stats.executed);
        metrics::counter!("anabranch_topology_acked_total", &labels).absolute(stats.acked);
        metrics::counter!("anabranch_topology_failed_total", &labels).absolute(stats.failed);
        metrics::counter!("anabranch_topology_blocked_ms_total", &labels).absolute(stats.blocked_ms);
        metrics::counter!("anabranch_topology_busy_ms_total", &labels).absolute(stats.busy_ms);
        metrics::gauge!("anabranch_topology_queue_fill", &labels).set(stats.queue_fill as f64);
        metrics::gauge!("anabranch_topology_pending", &labels).set(stats.pending as f64);
    }
}

#[cfg(test)]
mod tests;
