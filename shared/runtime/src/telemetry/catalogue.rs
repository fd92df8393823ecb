//! Every metric there is, in one list: what `/metrics` says of each, and what docs/metrics.md is made of. A test holds the
//! list against the code, in both directions. Names are stable: dashboards and alert rules of others stand on them.

use metrics::Unit;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, and begins anew when the process does.
    Counter,
    Gauge,
    /// Buckets of seconds.
    Histogram,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// `None` where it counts things that have no unit, or says yes (1) or no (0).
    pub unit: Option<Unit>,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    unit: Option<Unit>,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        unit,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, unit: Option<Unit>, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        unit,
        labels,
        help,
    }
}

const fn seconds(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        unit: Some(Unit::Seconds),
        labels,
        help,
    }
}

const COUNT: Option<Unit> = Some(Unit::Count);
const BYTES: Option<Unit> = Some(Unit::Bytes);
const MILLISECONDS: Option<Unit> = Some(Unit::Milliseconds);
const TABLE: &[&str] = &["table"];
const PARTITION: &[&str] = &["table", "partition"];
const COMPONENT: &[&str] = &["table", "component"];
const VIEW: &[&str] = &["view"];

/// All metrics, by layer: the part of the name after `anabranch_` says which.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    // Speed layer: what came in.
    counter("anabranch_ingested_total", COUNT, TABLE, "Events that /v1/ingest produced and the log acknowledged."),
    counter("anabranch_consumed_bytes_total", BYTES, TABLE, "Payload bytes read from the log."),
    counter("anabranch_events_decoded_total", COUNT, TABLE, "Events that decoded."),
    counter("anabranch_dead_letters_total", COUNT, TABLE, "Records that did not decode."),
    counter("anabranch_events_excluded_total", COUNT, TABLE, "Events left out of realtime state because they are excluded."),
    counter("anabranch_redriven_total", COUNT, TABLE, "Dead letters produced again."),
    counter("anabranch_lost_offsets_total", COUNT, TABLE, "Offsets that the log no longer had when they were to be read."),
    counter("anabranch_nulled_values_total", COUNT, VIEW, "Values that became NULL: failed casts, overflows, divisions by zero."),
    seconds("anabranch_visible_seconds", TABLE, "From reading a micro-batch to its being part of realtime answers."),
    // Speed layer: landing.
    counter("anabranch_landed_events_total", COUNT, TABLE, "Events committed to the master dataset."),
    counter("anabranch_landed_dead_letters_total", COUNT, TABLE, "Dead letters committed to the master dataset."),
    counter("anabranch_landed_bytes_total", BYTES, TABLE, "Bytes of committed Parquet files."),
    counter("anabranch_landing_refused_total", COUNT, TABLE, "Landings refused because a partition belongs to somebody else by now."),
    seconds("anabranch_landing_seconds", TABLE, "From closing a landing to its commit."),
    counter("anabranch_dataset_lost_races_total", COUNT, TABLE, "Commits that somebody else was faster with; they were tried again."),
    counter("anabranch_dataset_unclear_commits_total", COUNT, TABLE, "Commits whose outcome had to be looked up after an error."),
    counter("anabranch_speed_retries_total", COUNT, TABLE, "Attempts of the speed layer that failed and were repeated."),
    // Speed layer: where it stands. Set when the speed layer's own port is scraped.
    gauge("anabranch_source_connected", None, TABLE, "1 while the log answers."),
    gauge("anabranch_stopped_partitions", COUNT, TABLE, "Partitions that stand since their log had lost events: `on_gap = 'stop'`."),
    gauge("anabranch_next_consumed", None, PARTITION, "Next position to be read."),
    gauge("anabranch_next_landed", None, PARTITION, "Next position to be landed."),
    gauge("anabranch_lag_records", COUNT, PARTITION, "Positions between the log's end and what was read."),
    gauge("anabranch_state_bytes", BYTES, PARTITION, "Realtime state held."),
    gauge("anabranch_state_runs", COUNT, PARTITION, "Sorted runs that realtime state is made of."),
    gauge("anabranch_sealed_segments", COUNT, PARTITION, "Segments closed for landing and still needed."),
    gauge("anabranch_speed_state_bytes", BYTES, &[], "Realtime state of all partitions."),
    gauge("anabranch_speed_landing_bytes", BYTES, &[], "Events held for landing."),
    gauge("anabranch_speed_paused", None, &[], "1 while reading pauses because state is at twice its budget."),
    // Speed layer: topology.
    counter("anabranch_topology_emitted_total", COUNT, COMPONENT, "Tuples sent on."),
    counter("anabranch_topology_executed_total", COUNT, COMPONENT, "Tuples worked on."),
    counter("anabranch_topology_acked_total", COUNT, COMPONENT, "Tuples acknowledged."),
    counter("anabranch_topology_failed_total", COUNT, COMPONENT, "Tuples failed; their partition's state is rebuilt."),
    counter("anabranch_topology_blocked_ms_total", MILLISECONDS, COMPONENT, "Time spent waiting for room in a channel."),
    counter("anabranch_topology_busy_ms_total", MILLISECONDS, COMPONENT, "Time spent working."),
    gauge("anabranch_topology_queue_fill", COUNT, COMPONENT, "Tuples waiting in front of the component."),
    gauge("anabranch_topology_pending", COUNT, COMPONENT, "Tuples emitted by a spout and not yet acknowledged."),
    // Batch layer.
    counter("anabranch_batch_runs_total", COUNT, &["state", "trigger"], "Batch runs that ended, by how and by what started them."),
    seconds("anabranch_batch_run_seconds", &["state"], "Batch runs from start to end."),
    counter("anabranch_batch_rows_total", COUNT, &[], "Events folded by batch runs."),
    counter("anabranch_batch_skipped_total", COUNT, &["trigger"], "Runs not started because one was on its way already."),
    gauge("anabranch_batch_failed_in_a_row", COUNT, &[], "Runs that have failed since one ended well; 0 where another service leads."),
    gauge("anabranch_batch_leader", None, &[], "1 while this batch service leads."),
    gauge("anabranch_batch_diff_compared_groups", COUNT, VIEW, "Groups of the last run that were compared with what was served."),
    gauge("anabranch_batch_diff_differing_groups", COUNT, VIEW, "Those of them with a value that differs."),
    gauge("anabranch_batch_diff_one_sided_groups", COUNT, VIEW, "Groups that only one side has."),
    gauge("anabranch_batch_diff_largest", None, VIEW, "Largest difference of two numbers, in the column's own unit."),
    gauge("anabranch_batch_diff_not_compared_partitions", COUNT, VIEW, "Partitions whose realtime state could not be asked for the comparison."),
    gauge("anabranch_batch_diff_skipped", None, VIEW, "1 when the view could not be compared at all."),
    // Batch layer: maintenance of files.
    gauge("anabranch_table_files", COUNT, TABLE, "Files of the master dataset."),
    counter("anabranch_compactions_total", COUNT, TABLE, "Merges of small files."),
    counter("anabranch_compacted_files_total", COUNT, TABLE, "Files merged away."),
    counter("anabranch_compacted_bytes_total", BYTES, TABLE, "Bytes of files merged away."),
    seconds("anabranch_compaction_seconds", TABLE, "Merges of small files, from reading to commit."),
    counter("anabranch_vacuumed_files_total", COUNT, TABLE, "Files removed that nobody could read any more."),
    counter("anabranch_vacuumed_bytes_total", BYTES, TABLE, "Bytes of those files."),
    counter("anabranch_expired_rows_total", COUNT, TABLE, "Events expired by retention."),
    counter("anabranch_maintenance_errors_total", COUNT, &[], "Rounds of maintenance that failed."),
    // Access, on every service.
    counter("anabranch_access_denied_total", COUNT, &["reason"], "Requests that were not let through."),
    counter("anabranch_audit_records_total", COUNT, &[], "Records of the audit log."),
    counter("anabranch_audit_failures_total", COUNT, &[], "Records of the audit log that are in the log only, since they could not be kept elsewhere."),
    counter("anabranch_tls_reloads_total", COUNT, &[], "Times that a changed certificate was taken up."),
    gauge("anabranch_tls_certificate_expires_timestamp_seconds", Some(Unit::Seconds), &["certificate"], "When a certificate of [tls] ends, in seconds since 1970, by its key there: cert (of the chain the first end), client_ca and ca (of the authorities the last)."),
    // Serving layer.
    counter("anabranch_serving_requests_total", COUNT, &["endpoint", "status"], "HTTP requests answered."),
    seconds("anabranch_serving_request_seconds", &["endpoint"], "HTTP requests, from arrival to answer."),
    seconds("anabranch_serving_merge_seconds", &[], "Reading, merging and finalising one view for a query."),
    counter("anabranch_serving_snapshot_retries_total", COUNT, &[], "Snapshots taken again because state moved meanwhile."),
    counter("anabranch_serving_snapshot_failures_total", COUNT, &[], "Speed workers that did not answer a snapshot request."),
    gauge("anabranch_serving_live_readers", COUNT, &[], "Readers of live queries."),
    gauge("anabranch_serving_live_queries", COUNT, &[], "Live queries that are followed, each for all of its readers."),
    counter("anabranch_serving_live_looks_total", COUNT, &[], "Looks at the views of live queries."),
    gauge("anabranch_serving_live_looks_running", COUNT, &[], "Looks that compute; they take permits of queries, half of them at most."),
    gauge("anabranch_serving_live_looks_waiting", COUNT, &[], "Looks that wait for their turn."),
    counter("anabranch_serving_live_events_total", COUNT, &["event"], "Events sent to readers of live queries."),
    gauge("anabranch_serving_publication", None, &[], "Number of the publication that is served."),
    gauge("anabranch_serving_definitions", None, &[], "Number of the view definitions that are followed."),
    gauge("anabranch_serving_views_changing", COUNT, &[], "Views whose newer definition is still being built."),
    gauge("anabranch_serving_batch_view_bytes", BYTES, &[], "Batch state held in memory."),
    gauge("anabranch_serving_stored_bytes", BYTES, &[], "Batch state held in local files, since it does not fit state_memory."),
    gauge("anabranch_serving_block_cache_bytes", BYTES, &[], "Parts of these files that are held in memory."),
    counter("anabranch_serving_block_cache_hits_total", COUNT, &[], "Parts of these files that were in memory when they were asked for."),
    counter("anabranch_serving_block_cache_misses_total", COUNT, &[], "Parts of these files that had to be read."),
    gauge("anabranch_serving_queries_running", COUNT, &[], "Queries that compute."),
    gauge("anabranch_serving_queries_waiting", COUNT, &[], "Queries that wait for their turn."),
    counter("anabranch_serving_queries_total", COUNT, &["outcome"], "Queries by outcome: ok, failed, timeout, refused, cancelled."),
    seconds("anabranch_serving_query_seconds", &[], "Queries, from arrival to their last row, waiting included."),
    counter("anabranch_serving_plans_total", COUNT, &["outcome"], "Statements by how their plan was come by: found among those kept, or made."),
    gauge("anabranch_serving_plans_held", COUNT, &[], "Plans of statements that are kept."),
    gauge("anabranch_serving_plans_bytes", BYTES, &[], "Memory that these plans take, about."),
    gauge("anabranch_serving_query_memory_bytes", BYTES, &[], "Memory that queries use for joins, sorts, aggregation and answers."),
    gauge("anabranch_postgres_connections", COUNT, &[], "PostgreSQL connections that are open."),
    counter("anabranch_postgres_refused_total", COUNT, &[], "PostgreSQL connections that were not let in."),
    counter("anabranch_postgres_statements_total", COUNT, &["source"], "Statements answered to PostgreSQL clients, by who answered: engine or catalog."),
    counter("anabranch_postgres_errors_total", COUNT, &["code"], "Errors told to PostgreSQL clients, by SQLSTATE."),
    seconds("anabranch_postgres_start_seconds", &[], "Statements of PostgreSQL clients, from their arrival to their first rows being computed."),
    counter("anabranch_flight_sql_queries_total", COUNT, &[], "Queries begun for Flight SQL clients."),
    gauge("anabranch_serving_speed_workers", COUNT, &[], "Live speed workers, by their leases."),
    // Every service.
    counter("anabranch_trace_dropped_spans_total", COUNT, &[], "Spans that could not be sent to the collector."),
];

/// Tells the recorder what each metric is, so that `/metrics` says it.
pub(super) fn describe() {
    for metric in METRICS {
        let unit = metric.unit.unwrap_or(Unit::Count);
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, unit, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, unit, metric.help),
        }
    }
}
