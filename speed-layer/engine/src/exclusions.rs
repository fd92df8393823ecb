//! Lets a change of exclusions take effect in realtime state.

use std::sync::Arc;

use anabranch_model::RangeSet;

use crate::rebuild;
use crate::source::SourceLayer;

/// Applies the newest exclusions that this process has read (the keeper of the lease reads the log every second) to what is
/// decoded from now on, and has state that was folded under other ones folded again from landed rows. It goes on answering
/// meanwhile.
pub(crate) fn follow(layer: &Arc<SourceLayer>) {
    let (excluded, nothing) = (layer.dataset.known_notes().excluded(), RangeSet::new());
    let mut outdated = layer.partitions();
    outdated.retain(|state| {
        let excluded = excluded.get(&state.partition).unwrap_or(&nothing);
        state.exclude(excluded) && state.begin_refold()
    });
    if outdated.is_empty() {
        return;
    }
    tracing::info!(
        table = layer.name(),
        partitions = ?outdated.iter().map(|state| state.partition.0).collect::<Vec<_>>(),
        "exclusions have changed; folding realtime state again"
    );
    let refolder = Arc::clone(layer);
    layer.spawn(async move {
        rebuild::run(&refolder, outdated.clone()).await;
        outdated.iter().for_each(|state| state.end_refold());
    });
}
