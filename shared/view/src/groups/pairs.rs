//! Two numbers to one.

use datafusion::common::{Result, exec_err};

use super::table::Table;

const EMPTY: u32 = u32::MAX;
/// A matrix of no more cells is worth having however empty it is.
const SMALL_MATRIX: usize = 1 << 16;
/// Beyond, a matrix has at most so many cells for each pair in it; a hash table takes about as much memory as six.
const CELLS_PER_PAIR: usize = 6;
/// Places that an emptied table keeps.
const KEPT_PLACES: usize = 1 << 16;

/// Numbers the pairs of two numbers, from 0 on, in the order in which they come.
///
/// Numbers of values are dense, so as long as a good part of all pairs occurs, a matrix is their hash table.
pub(super) struct Pairs {
    index: Index,
    left: Vec<u32>,
    right: Vec<u32>,
}

enum Index {
    Matrix {
        cells: Vec<u32>,
        /// Cells of a row, of which there is one for each left number.
        width: usize,
    },
    Hashed(Table),
}

impl Default for Pairs {
    fn default() -> Self {
        Self {
            index: Index::Matrix {
                cells: vec![],
                width: 1,
            },
            left: vec![],
            right: vec![],
        }
    }
}

impl Pairs {
    pub(super) fn len(&self) -> usize {
        self.left.len()
    }

    /// Replaces each left number by that of its pair; right numbers are less than `rights`.
    pub(super) fn assign(&mut self, lefts: &mut [usize], right: &[usize], rights: usize) -> Result<()> {
        let height = lefts.iter().max().map_or(0, |most| most + 1);
        self.fit(height, rights);
        let (known_left, known_right) = (&mut self.left, &mut self.right);
        match &mut self.index {
            Index::Matrix { cells, width } => {
                for (left, &right) in lefts.iter_mut().zip(right) {
                    let cell = &mut cells[*left * *width + right];
                    if *cell == EMPTY {
                        *cell = known_left.len() as u32;
                        known_left.push(*left as u32);
                        known_right.push(right as u32);
                    }
                    *left = *cell as usize;
                }
            }
            Index::Hashed(table) => {
                let mut ids = Vec::with_capacity(lefts.len());
                let keys = lefts
                    .iter()
                    .zip(right)
                    .map(|(&left, &right)| key(left as u32, right as u32));
                table.assign(keys, |row, id, new| {
                    if new {
                        known_left.push(lefts[row] as u32);
                        known_right.push(right[row] as u32);
                    }
                    ids.push(id as usize);
                });
                lefts.copy_from_slice(&ids);
            }
        }
        if self.len() >= EMPTY as usize {
            return exec_err!("more than 2^32 groups at once");
        }
        Ok(())
    }

    /// Makes the matrix large enough, or a hash table of it where that would be a waste.
    fn fit(&mut self, height: usize, rights: usize) {
        let Index::Matrix { cells, width } = &mut self.index else {
            return;
        };
        let wider = if rights > *width {
            rights.next_power_of_two()
        } else {
            *width
        };
        let higher = height.max(cells.len() / *width);
        let wanted = higher * wider;
        if wanted > SMALL_MATRIX.max(CELLS_PER_PAIR * self.left.len()) {
            let mut table = Table::default();
            let keys = self
                .left
                .iter()
                .zip(&self.right)
                .map(|(&left, &right)| key(left, right));
            table.assign(keys, |_, _, _| {});
            self.index = Index::Hashed(table);
        } else if wider > *width {
            let mut matrix = vec![EMPTY; wanted];
            for (pair, (&left, &right)) in (0_u32..).zip(self.left.iter().zip(&self.right)) {
                matrix[left as usize * wider + right as usize] = pair;
            }
            (*cells, *width) = (matrix, wider);
        } else {
            cells.resize(wanted, EMPTY);
        }
    }

    /// The left and right numbers of every pair, which are forgotten.
    pub(super) fn take(&mut self) -> (Vec<u32>, Vec<u32>) {
        match &mut self.index {
            Index::Matrix { cells, .. } if cells.capacity() <= KEPT_PLACES => cells.clear(),
            index => {
                *index = Index::Matrix {
                    cells: vec![],
                    width: 1,
                }
            }
        }
        (std::mem::take(&mut self.left), std::mem::take(&mut self.right))
    }

    pub(super) fn size(&self) -> usize {
        let index = match &self.index {
            Index::Matrix { cells, .. } => cells.capacity() * size_of::<u32>(),
            Index::Hashed(table) => table.size(),
        };
        index + (self.left.capacity() + self.right.capacity()) * size_of::<u32>()
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}
