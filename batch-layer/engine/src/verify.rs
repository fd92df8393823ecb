//! Verification on demand: views are computed in full and compared with what is served at the same version.

use std::collections::BTreeMap;
use std::sync::Arc;

use anabranch_dataset::{Diff, RunMode};
use anabranch_view::View;

use crate::Error;
use crate::diff::{Computed, compare_view, expected};
use crate::input::fold;
use crate::record::LiveRun;
use crate::run::{Outcome, cuts, snapshots, until_stopped};
use crate::service::Shared;

/// Verifies the views named; all of them when none is.
pub(crate) async fn execute(shared: &Shared, run: &Arc<LiveRun>, names: &[String]) -> Result<Outcome, Error> {
    until_stopped(shared, run, verify(shared, run, names)).await?;
    Ok(Outcome::Compared)
}

async fn verify(shared: &Shared, run: &Arc<LiveRun>, names: &[String]) -> Result<(), Error> {
    let environment = shared.store.environment();
    let began = environment.instant();
    let wanted = |view: &&View| names.is_empty() || names.iter().any(|name| name == view.name());
    let definitions = shared.definitions.newest().await?;
    let views: Vec<View> = definitions.views.iter().filter(wanted).cloned().collect();
    let served = shared.publications.latest().await?;
    let sources = snapshots(shared, &views).await?;
    let rows = |name: &String| sources[name].rows(None, None);
    run.update(|record| {
        record.cuts = cuts(&sources);
        record.mode = RunMode::Full;
        record.progress.rows_total = sources.keys().map(|name| rows(name).rows).sum();
        record.progress.bytes_total = sources.keys().map(|name| rows(name).bytes).sum();
    });
    // As for a run: the speed layer keeps segments apart at this version.
    shared.lease.renew(shared).await?;
    run.timed("snapshot", environment.elapsed(began));
    shared.save(run).await;

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
        for state in fold(shared, run, of_source, rows(name)).await? {
            let began = environment.instant();
            let view = state.view().clone();
            run.update(|record| record.groups += state.groups());
            let computed = Computed::State(Box::new(state));
            let compared = compare_view(shared, run, &view, computed, served.as_ref(), source).await;
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
