//! Which group a row belongs to.
//!
//! Every key column numbers its own values; the numbers of a group's values, taken two and two, give the number of the
//! group. So a value is hashed and kept once, not once per group that it occurs in; a dictionary's values are looked up once
//! per dictionary; windows, which change rarely from row to row, hardly at all; and groups sort by the ranks of their values.

mod column;
mod dense;
mod pairs;
mod table;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::FieldRef;
use datafusion::common::Result;

use self::column::ColumnIds;
use self::pairs::Pairs;
use crate::keys::sort_order;

/// Groups are put in their places, rather than sorted, up to so many places a group.
const PLACES_PER_GROUP: usize = 16;
/// A place without a group.
const NO_GROUP: u32 = u32::MAX;

/// The groups of an aggregator, numbered in the order in which they were first seen.
pub(crate) enum Groups {
    /// No GROUP BY: one group, as soon as a row has come.
    Global {
        seen: bool,
    },
    Keyed(Keys),
}

/// The values of each key column, and the pairs that make groups of them.
pub(crate) struct Keys {
    columns: Vec<ColumnIds>,
    /// One less than columns: the first joins the first two columns, the next that with the third, and so on.
    pairs: Vec<Pairs>,
    /// Numbers of the values of the column at hand.
    ids: Vec<usize>,
}

/// The keys of every group.
pub(crate) struct EmittedKeys {
    pub columns: Vec<ArrayRef>,
    /// In which order the groups stand in `columns`, if not in that of their numbers.
    pub order: Option<UInt32Array>,
}

impl Groups {
    pub(crate) fn new(keys: &[FieldRef]) -> Result<Self> {
        if keys.is_empty() {
            return Ok(Self::Global { seen: false });
        }
        Ok(Self::Keyed(Keys {
            columns: keys
                .iter()
                .map(|key| ColumnIds::new(key.data_type()))
                .collect::<Result<_>>()?,
            pairs: keys[1..].iter().map(|_| Pairs::default()).collect(),
            ids: vec![],
        }))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Global { seen } => usize::from(*seen),
            Self::Keyed(keys) => keys.len(),
        }
    }

    /// Writes the group of each row to `ids`.
    pub(crate) fn assign(&mut self, columns: &[ArrayRef], rows: usize, ids: &mut Vec<usize>) -> Result<()> {
        match self {
            Self::Global { seen } => {
                *seen = true;
                // Nobody ever writes another number there.
                ids.resize(rows, 0);
                Ok(())
            }
            Self::Keyed(keys) => keys.assign(columns, ids),
        }
    }

    /// The keys of all groups, which are forgotten.
    pub(crate) fn emit(&mut self, sorted: bool) -> Result<EmittedKeys> {
        match self {
            Self::Global { seen } => {
                *seen = false;
                Ok(EmittedKeys {
                    columns: vec![],
                    order: None,
                })
            }
            Self::Keyed(keys) => keys.emit(sorted),
        }
    }

    /// Heap bytes held.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Global { .. } => 0,
            Self::Keyed(keys) => keys.size(),
        }
    }
}

impl Keys {
    fn len(&self) -> usize {
        self.pairs.last().map_or_else(|| self.columns[0].len(), Pairs::len)
    }

    fn assign(&mut self, columns: &[ArrayRef], groups: &mut Vec<usize>) -> Result<()> {
        self.columns[0].assign(&columns[0], groups)?;
        for (number, pairs) in self.pairs.iter_mut().enumerate() {
            let column = &mut self.columns[number + 1];
            column.assign(&columns[number + 1], &mut self.ids)?;
            pairs.assign(groups, &self.ids, column.len())?;
        }
        Ok(())
    }

    fn emit(&mut self, sorted: bool) -> Result<EmittedKeys> {
        let groups = self.len();
        let orders: Vec<Option<UInt32Array>> = if sorted {
            self.columns.iter().map(ColumnIds::known_order).collect()
        } else {
            vec![]
        };
        let values = self
            .columns
            .iter_mut()
            .map(ColumnIds::emit)
            .collect::<Result<Vec<_>>>()?;
        let [.., last] = self.pairs.as_mut_slice() else {
            let order = match orders.into_iter().next() {
                None => None,
                Some(Some(known)) => as_order(known),
                Some(None) => sort_order(&values)?,
            };
            return Ok(match order {
                Some(order) => EmittedKeys {
                    columns: vec![take(&values[0], &order, None)?],
                    order: Some(order),
                },
                None => EmittedKeys {
                    columns: values,
                    order: None,
                },
            });
        };
        // From the last pair back: which value each group has in every column.
        let (mut left, right) = last.take();
        let mut ids = vec![right];
        for pairs in self.pairs.iter_mut().rev().skip(1) {
            let (lefts, rights) = pairs.take();
            ids.push(left.iter().map(|&pair| rights[pair as usize]).collect());
            left.iter_mut().for_each(|pair| *pair = lefts[*pair as usize]);
        }
        ids.push(left);
        ids.reverse();
        let order = if sorted {
            order_by_ranks(&values, orders, &ids, groups)?
        } else {
            None
        };
        let columns = values
            .iter()
            .zip(ids)
            .map(|(values, ids)| {
                let ids = match &order {
                    Some(order) => order.values().iter().map(|&group| ids[group as usize]).collect(),
                    None => ids,
                };
                Ok(take(values, &UInt32Array::from(ids), None)?)
            })
            .collect::<Result<_>>()?;
        Ok(EmittedKeys { columns, order })
    }

    fn size(&self) -> usize {
        let columns: usize = self.columns.iter().map(ColumnIds::size).sum();
        let pairs: usize = self.pairs.iter().map(Pairs::size).sum();
        columns + pairs + self.ids.capacity() * size_of::<usize>()
    }
}

/// The order of groups by key, from the ranks of the values in their columns; `None` if they stand in it.
fn order_by_ranks(
    values: &[ArrayRef],
    orders: Vec<Option<UInt32Array>>,
    ids: &[Vec<u32>],
    groups: usize,
) -> Result<Option<UInt32Array>> {
    let mut ranks = Vec::with_capacity(values.len());
    let mut bits = 0;
    for (values, known) in values.iter().zip(orders) {
        let mut rank: Vec<u32> = (0..values.len() as u32).collect();
        let order = match known {
            Some(known) => Some(known),
            None => sort_order(std::slice::from_ref(values))?,
        };
        if let Some(order) = order {
            for (place, &id) in (0_u32..).zip(order.values()) {
                rank[id as usize] = place;
            }
        }
        let width = u32::BITS - (values.len() as u32).leading_zeros();
        bits += width;
        ranks.push((rank, width));
    }
    let places = 0..groups as u32;
    if bits <= u64::BITS {
        let word = |group: u32| {
            ranks.iter().zip(ids).fold(0_u64, |word, ((rank, width), ids)| {
                word << width | u64::from(rank[ids[group as usize] as usize])
            })
        };
        // Where many of all combinations occur, each has its place.
        if bits < u32::BITS && 1_usize << bits <= PLACES_PER_GROUP * groups {
            let mut placed = vec![NO_GROUP; 1 << bits];
            for group in places {
                placed[usize::try_from(word(group)).expect("it has fewer than 32 bits")] = group;
            }
            placed.retain(|group| *group != NO_GROUP);
            return Ok(as_order(placed.into()));
        }
        let mut order: Vec<(u64, u32)> = places.map(|group| (word(group), group)).collect();
        order.sort_unstable();
        let order: Vec<u32> = order.into_iter().map(|(_, group)| group).collect();
        return Ok(as_order(order.into()));
    }
    let key = |group: u32| {
        ranks
            .iter()
            .zip(ids)
            .map(move |((rank, _), ids)| rank[ids[group as usize] as usize])
    };
    let mut order: Vec<u32> = places.collect();
    order.sort_unstable_by(|a, b| key(*a).cmp(key(*b)));
    Ok(as_order(order.into()))
}

/// `None` for an order that changes nothing.
fn as_order(order: UInt32Array) -> Option<UInt32Array> {
    let sorted = (0_u32..).zip(order.values()).all(|(place, &group)| place == group);
    (!sorted).then_some(order)
}

#[cfg(test)]
mod tests;
