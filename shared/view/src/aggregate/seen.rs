use arrow::buffer::NullBuffer;
use datafusion::logical_expr::EmitTo;

/// Which groups have had a value. As long as no row was left out all have, since a group comes about with a row.
#[derive(Debug, Default)]
pub(super) struct Seen {
    groups: usize,
    /// `None`: all.
    some: Option<Vec<bool>>,
}

impl Seen {
    /// Every row of a batch has a value. Where a filter was given, even if it dropped no row, there may be groups without a row.
    pub(super) fn all_of(&mut self, ids: &[usize], filtered: bool, total_groups: usize) {
        if filtered {
            self.some_of(total_groups);
        }
        self.groups = total_groups;
        if let Some(seen) = &mut self.some {
            seen.resize(total_groups, false);
            ids.iter().for_each(|&group| seen[group] = true);
        }
    }

    /// Only some rows have; the groups of these are to be set.
    pub(super) fn some_of(&mut self, total_groups: usize) -> &mut [bool] {
        let seen = self.some.get_or_insert_with(|| vec![true; self.groups]);
        self.groups = total_groups;
        seen.resize(total_groups, false);
        seen
    }

    /// Emits, as the validity of the groups' values.
    pub(super) fn take(&mut self, emit_to: EmitTo) -> Option<NullBuffer> {
        let emitted = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(n) => n,
        };
        self.groups -= emitted;
        let seen = emit_to.take_needed(self.some.as_mut()?);
        if self.groups == 0 {
            self.some = None;
        }
        (!seen.iter().all(|&seen| seen)).then(|| NullBuffer::from(seen))
    }

    pub(super) fn size(&self) -> usize {
        self.some.as_ref().map_or(0, Vec::capacity)
    }
}
