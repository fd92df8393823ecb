//! How a run compares with what was served, group by group.

use std::collections::BTreeMap;

use anabranch_compute::{Pairing, States};
use anabranch_dataset::{BatchView, Diff, DiffSample, LargestDifference, Notes, Publication, ViewDiff};
use anabranch_view::{Comparison, View};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::Workshop;
use super::input::{SourceInput, stored};
use super::served::{Served, served};
use crate::Error;
use crate::runs::record::LiveRun;

/// Groups shown of each view.
const SAMPLES: usize = 10;

/// What a run computed, and where it is now.
pub(crate) enum Computed<'a> {
    /// In its state files.
    Written(&'a BatchView),
    /// Still in memory or in spill files.
    State(Box<anabranch_compute::ViewState>),
}

/// Compares one view with what is served of it at the same version. Whatever keeps it from that is said in the result: a
/// comparison never fails a run.
pub(crate) async fn compare_view(
    workshop: &Workshop,
    run: &LiveRun,
    view: &View,
    computed: Computed<'_>,
    publication: Option<&Publication>,
    source: &SourceInput,
) -> ViewDiff {
    let diff = match try_compare(workshop, run, view, computed, publication, source).await {
        Ok(diff) => diff,
        Err(error) => {
            tracing::warn!(view = view.name(), %error, "a view cannot be compared with what is served");
            ViewDiff {
                skipped: Some(error.to_string()),
                ..ViewDiff::default()
            }
        }
    };
    report(view.name(), &diff);
    diff
}

async fn try_compare(
    workshop: &Workshop,
    run: &LiveRun,
    view: &View,
    computed: Computed<'_>,
    publication: Option<&Publication>,
    source: &SourceInput,
) -> Result<ViewDiff, Error> {
    let (served, not_compared) = match served(workshop, run, view, publication, source).await? {
        Served::State { state, not_compared } => (state, not_compared),
        Served::Nothing { why, not_compared } => {
            return Ok(ViewDiff {
                skipped: Some(why),
                not_compared,
                ..ViewDiff::default()
            });
        }
    };
    let computed = match computed {
        Computed::Written(written) => stored(&workshop.site.store, view, written).await,
        Computed::State(state) => state.states()?,
    };
    let of = view.clone();
    let compared = workshop
        .site
        .environment()
        .offload(move || compare(&of, computed, served.states()?))
        .await
        .map_err(|error| Error::Task(format!("comparing view `{}`: {error}", view.name())))??;
    Ok(ViewDiff {
        not_compared,
        ..compared
    })
}

/// Compares two states of a view, each sorted by key, with a few batches of both in memory.
pub(crate) fn compare(view: &View, computed: States, served: States) -> Result<ViewDiff, Error> {
    let mut diff = ViewDiff::default();
    let of_view = |source| anabranch_compute::Error::View {
        view: view.name().to_owned(),
        source,
    };
    let mut pairing = Pairing::new(view, computed, served)?;
    while let Some(pairs) = pairing.next_pairs()? {
        if let Some((computed, served)) = &pairs.both {
            diff.compared += computed.num_rows() as u64;
            let compared = view.compare(computed, served).map_err(of_view)?;
            add_differences(view, &mut diff, computed, &compared);
        }
        for (rows, is_computed) in [(&pairs.only_left, true), (&pairs.only_right, false)] {
            let Some(rows) = rows else { continue };
            let count = rows.num_rows();
            match is_computed {
                true => diff.only_computed += count as u64,
                false => diff.only_served += count as u64,
            }
            let shown = rows.slice(0, count.min(SAMPLES - diff.samples.len()));
            if shown.num_rows() > 0 {
                let answers = view.compare(&shown, &shown).map_err(of_view)?.left;
                for row in 0..shown.num_rows() {
                    let values = Some(texts(&answers, row, 0..answers.num_columns()));
                    let (computed, served) = if is_computed { (values, None) } else { (None, values) };
                    diff.samples.push(DiffSample {
                        key: key(view, &shown, row),
                        computed,
                        served,
                    });
                }
            }
        }
    }
    Ok(diff)
}

fn add_differences(view: &View, diff: &mut ViewDiff, states: &RecordBatch, compared: &Comparison) {
    let schema = view.output_schema();
    for of_row in compared.differences.chunk_by(|a, b| a.row == b.row) {
        let row = of_row[0].row;
        diff.differing += 1;
        for difference in of_row {
            if let Some(by) = difference.by
                && diff.largest.as_ref().is_none_or(|largest| largest.by < by)
            {
                diff.largest = Some(LargestDifference {
                    column: schema.field(difference.column).name().clone(),
                    by,
                });
            }
        }
        if diff.samples.len() < SAMPLES {
            let columns = || of_row.iter().map(|difference| difference.column);
            diff.samples.push(DiffSample {
                key: key(view, states, row),
                computed: Some(texts(&compared.left, row, columns())),
                served: Some(texts(&compared.right, row, columns())),
            });
        }
    }
}

/// The key of a group, under the names that the view gives its columns.
fn key(view: &View, states: &RecordBatch, row: usize) -> BTreeMap<String, Option<String>> {
    let name = |index: usize| {
        let output = view.output_keys().iter().find(|(_, key)| *key == index);
        output.map_or_else(|| states.schema().field(index).name().clone(), |(name, _)| name.clone())
    };
    (0..view.key_count())
        .map(|index| (name(index), text(states, index, row)))
        .collect()
}

fn texts(answers: &RecordBatch, row: usize, columns: impl Iterator<Item = usize>) -> BTreeMap<String, Option<String>> {
    columns
        .map(|column| {
            (
                answers.schema().field(column).name().clone(),
                text(answers, column, row),
            )
        })
        .collect()
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> Option<String> {
    let column = batch.column(column);
    if column.is_null(row) {
        return None;
    }
    let options = FormatOptions::default();
    match ArrayFormatter::try_new(column.as_ref(), &options) {
        Ok(formatter) => Some(formatter.value(row).to_string()),
        Err(error) => Some(format!("({error})")),
    }
}

/// Why the run may differ from what was served although both are right.
pub(crate) fn expected(publication: Option<&Publication>, sources: &BTreeMap<String, SourceInput>) -> Option<String> {
    let manifest = &publication?.manifest;
    let nothing = Notes::default();
    sources.iter().find_map(|(name, source)| {
        let applied = manifest.notes.get(name).unwrap_or(&nothing);
        // Also those behind the cut: realtime state may not know of them yet.
        let changed = applied.exclusions != source.notes.exclusions || applied.since != source.notes.since;
        changed.then(|| format!("exclusions or retention of {name} changed"))
    })
}

fn report(view: &str, diff: &ViewDiff) {
    let gauge = |name: &'static str, value: f64| metrics::gauge!(name, "view" => view.to_owned()).set(value);
    gauge("anabranch_batch_diff_compared_groups", diff.compared as f64);
    gauge("anabranch_batch_diff_differing_groups", diff.differing as f64);
    gauge(
        "anabranch_batch_diff_one_sided_groups",
        (diff.only_computed + diff.only_served) as f64,
    );
    gauge(
        "anabranch_batch_diff_largest",
        diff.largest.as_ref().map_or(0.0, |largest| largest.by),
    );
    gauge(
        "anabranch_batch_diff_not_compared_partitions",
        diff.not_compared.len() as f64,
    );
    gauge(
        "anabranch_batch_diff_skipped",
        f64::from(u8::from(diff.skipped.is_some())),
    );
    if diff.differs() {
        tracing::warn!(
            view,
            compared = diff.compared,
            differing = diff.differing,
            only_computed = diff.only_computed,
            only_served = diff.only_served,
            "a batch run differs from what was served"
        );
    }
}

/// Whether a difference is a reason to hold a run back.
pub(crate) fn is_alarming(diff: &Diff) -> bool {
    diff.expected.is_none() && diff.differs()
}

#[cfg(test)]
mod tests;
