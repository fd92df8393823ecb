//! Verification on demand: views are computed in full and compared with what is served at the same version.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_dataset::{Diff, RunMode};
use anabranch_view::View;

use super::diff::{Computed, compare_view, expected};
use super::input::fold;
use super::{Outcome, Runner, cuts, snapshots, until_stopped};
use crate::Error;
use crate::runs::record::LiveRun;

/// Verifies the views named; all of them when none is.
pub(crate) async fn execute(runner: &Runner, run: &Arc<LiveRun>, names: &[String]) -> Result<Outcome, Error> {
    until_stopped(runner, run, verify(runner, run, names)).await?;
    Ok(Outcome::Compared)
}

async fn verify(runner: &Runner, run: &Arc<LiveRun>, names: &[String]) -> Result<(), Error> {
    let site = runner.site();
    let environment = site.environment();
    let began = environment.instant();
    let wanted = |view: &&View| names.is_empty() || names.iter().any(|name| name == view.name());
    let definitions = site.definitions.newest().await?;
    let views: Vec<View> = definitions.views.iter().filter(wanted).cloned().collect();
    let served = site.publications.latest().await?;
    let sources = snapshots(site, &views).await?;
    let rows = |name: &String| sources[name].rows(None, None);
    run.update(|record| {
        record.cuts = cuts(&sources);
        record.mode = RunMode::Full;
        record.progress.rows_total = sources.keys().map(|name| rows(name).rows).sum();
        record.progress.bytes_total = sources.keys().map(|name| rows(name).bytes).sum();
    });
    // As for a run: the speed layer keeps segments apart at this version.
    runner.lease.renew().await?;
    run.timed("snapshot", environment.elapsed(began));
    run.save(&site.runs).await;

    let mut diff = Diff {
        publication: served.as_ref().map(|publication| publication.number),
        views: BTreeMap::new(),
        expected: expected(served.as_ref(), &sources),
    };
    for (name, source) in &sources {
        let of_source = views
            .iter()
            .filter(|view| view.source().name == *name)
            .cloned()
            .collect();
        for state in fold(&runner.workshop, run, of_source, rows(name)).await? {
            let began = environment.instant();
            let view = state.view().clone();
            run.update(|record| record.groups += state.groups());
            let computed = Computed::State(Box::new(state));
            let compared = compare_view(&runner.workshop, run, &view, computed, served.as_ref(), source).await;
            diff.views.insert(view.name().to_owned(), compared);
            run.timed("compare", environment.elapsed(began));
        }
    }
    run.update(|record| {
        record.rows = record.progress.rows_total;
        record.diff = Some(diff);
    });
    Ok(())
}
