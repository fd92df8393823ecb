//! Numbers of 64-bit integers that lie close together: the integer itself says where its number stands.

/// No integer has this number.
const EMPTY: u32 = u32::MAX;
/// A table of no more cells is worth having for however few integers.
const FEW_CELLS: usize = 1 << 12;
/// Beyond, a table has at most so many cells for each integer that is in it or comes.
const CELLS_PER_INTEGER: usize = 32;

/// Gives each distinct integer a number, from 0 on, in the order in which they come.
#[derive(Default)]
pub(super) struct Dense {
    least: i64,
    cells: Vec<u32>,
    len: u32,
}

impl Dense {
    /// Makes room for some more integers; `false`, and nothing has changed, where they lie too far apart.
    pub(super) fn fit(&mut self, more: &[i64]) -> bool {
        let Some((least, most)) = bounds(more) else {
            return true;
        };
        let held = self.cells.len() as u64;
        if least >= self.least && most.abs_diff(self.least) < held {
            return true;
        }
        let limit = (CELLS_PER_INTEGER * (self.len as usize + more.len())).max(FEW_CELLS) as u64;
        let (mut low, mut high) = (least, most);
        if held > 0 {
            low = low.min(self.least);
            high = high.max(self.least.saturating_add_unsigned(held - 1));
        }
        // One less than the cells that are needed, which could be 2^64.
        let reach = high.abs_diff(low);
        if reach >= limit {
            return false;
        }
        // Half as many again, on the side that it grew to, so that growing bit by bit costs little.
        let spare = (reach / 2).min(limit - reach - 1);
        if held > 0 && low < self.least {
            low = low.saturating_sub_unsigned(spare);
        } else {
            high = high.saturating_add_unsigned(spare);
        }
        let mut cells = vec![EMPTY; as_index(high.abs_diff(low)) + 1];
        let before = as_index(self.least.abs_diff(low));
        if held > 0 {
            cells[before..before + self.cells.len()].copy_from_slice(&self.cells);
        }
        (self.least, self.cells) = (low, cells);
        true
    }

    /// The number of an integer that fits, and whether it is new.
    #[inline]
    pub(super) fn assign(&mut self, integer: i64) -> (u32, bool) {
        let cell = &mut self.cells[as_index(integer.abs_diff(self.least))];
        let new = *cell == EMPTY;
        if new {
            *cell = self.len;
            self.len += 1;
        }
        (*cell, new)
    }

    /// Numbers in the order of their integers.
    pub(super) fn sorted(&self) -> impl Iterator<Item = u32> {
        self.cells.iter().copied().filter(|number| *number != EMPTY)
    }

    /// All integers, each at its number.
    pub(super) fn in_order_of_number(&self) -> Vec<i64> {
        let mut integers = vec![0; self.len as usize];
        for (cell, &number) in self.cells.iter().enumerate().filter(|(_, number)| **number != EMPTY) {
            integers[number as usize] = self.least.wrapping_add_unsigned(cell as u64);
        }
        integers
    }

    /// Forgets all integers; a table of at most so many bytes keeps its memory.
    pub(super) fn clear(&mut self, keep_bytes: usize) {
        if self.size() > keep_bytes {
            *self = Self::default();
        } else {
            self.cells.clear();
            self.len = 0;
        }
    }

    /// Heap bytes held.
    pub(super) fn size(&self) -> usize {
        self.cells.capacity() * size_of::<u32>()
    }
}

fn bounds(integers: &[i64]) -> Option<(i64, i64)> {
    let first = *integers.first()?;
    Some(
        integers
            .iter()
            .fold((first, first), |(least, most), &i| (least.min(i), most.max(i))),
    )
}

fn as_index(cells: u64) -> usize {
    usize::try_from(cells).expect("cells are in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(dense: &mut Dense, integers: &[i64]) -> Vec<u32> {
        assert!(dense.fit(integers));
        integers.iter().map(|&integer| dense.assign(integer).0).collect()
    }

    #[test]
    fn it_grows_both_ways_and_keeps_its_numbers() {
        let mut dense = Dense::default();
        assert_eq!(numbers(&mut dense, &[5, 7, 5, 6]), [0, 1, 0, 2]);
        assert_eq!(numbers(&mut dense, &[-2_000, 7, 2_000]), [3, 1, 4]);
        assert_eq!(numbers(&mut dense, &[5, -2_000, 2_000, 6]), [0, 3, 4, 2]);
        assert_eq!(dense.in_order_of_number(), [5, 7, 6, -2_000, 2_000]);
        assert_eq!(dense.sorted().collect::<Vec<_>>(), [3, 0, 2, 1, 4]);
        dense.clear(usize::MAX);
        assert_eq!(numbers(&mut dense, &[9]), [0]);
    }

    #[test]
    fn the_ends_of_the_range_have_their_cells() {
        for end in [i64::MIN, i64::MAX] {
            let mut dense = Dense::default();
            let inner = if end < 0 { end + 3_000 } else { end - 3_000 };
            assert_eq!(numbers(&mut dense, &[inner, end]), [0, 1]);
            assert_eq!(numbers(&mut dense, &[end, inner]), [1, 0]);
        }
    }

    #[test]
    fn what_lies_far_apart_is_refused_and_harms_nothing() {
        let mut dense = Dense::default();
        assert_eq!(numbers(&mut dense, &[1, 2]), [0, 1]);
        assert!(!dense.fit(&[i64::MIN, i64::MAX]));
        assert!(!dense.fit(&[1_000_000]));
        assert_eq!(numbers(&mut dense, &[2, 3]), [1, 2]);
        assert!(dense.size() <= 2 * FEW_CELLS * size_of::<u32>());
    }
}
