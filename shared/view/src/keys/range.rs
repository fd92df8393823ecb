//! Ranges of keys, as bytes.

use std::ops::Range;

use super::codec::KeyCodec;
use crate::filter::{Domain, Domains};

/// A conjunction of lists on several key columns names as many combinations at most; beyond it, the later lists only count
/// as ranges.
const MAX_RANGES: usize = 1024;

/// The keys that a predicate may be true for: ranges, ascending, apart from each other. Keys outside of them need not be
/// looked at; of those inside, the predicate decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRanges {
    ranges: Vec<KeyRange>,
    /// Where each range is one whole key: the hashes of these.
    hashes: Option<Vec<u32>>,
}

/// Bounds are encodings of leading key columns; a key equals a bound in those columns exactly when it starts with it, because
/// each column's encoding says itself where it ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    lower: Vec<u8>,
    lower_excluded: bool,
    upper: Vec<u8>,
    upper_included: bool,
}

impl KeyRanges {
    /// Values of leading keys, then at most one range of the next; `None` when all keys are possible.
    pub(crate) fn new(codec: &KeyCodec, domains: &Domains) -> Option<Self> {
        let mut prefixes = vec![Vec::new()];
        let mut all_given = true;
        for key in 0..codec.len() {
            let domain = domains.get(&key).filter(|_| codec.is_searchable(key));
            let encoded = domain.and_then(|domain| Encoded::of(codec, key, domain));
            match encoded {
                Some(Encoded::Points(points)) if prefixes.len() * points.len() <= MAX_RANGES => {
                    prefixes = prefixes
                        .iter()
                        .flat_map(|prefix: &Vec<u8>| points.iter().map(|point| [prefix.as_slice(), point].concat()))
                        .collect();
                }
                Some(encoded) => return Some(Self::between(&prefixes, &encoded.bounds())),
                None if key == 0 => return None,
                None => {
                    all_given = false;
                    break;
                }
            }
        }
        let found = Self::between(&prefixes, &Bounds::default());
        Some(if all_given { found.of_whole_keys() } else { found })
    }

    fn of_whole_keys(mut self) -> Self {
        self.hashes = Some(self.ranges.iter().map(|range| KeyCodec::hash(&range.lower)).collect());
        self
    }

    fn between(prefixes: &[Vec<u8>], bounds: &Bounds) -> Self {
        let ranges = prefixes.iter().map(|prefix| {
            let (lower, lower_excluded) = match &bounds.lower {
                Some((bytes, excluded)) => ([prefix.as_slice(), bytes].concat(), *excluded),
                None => (prefix.clone(), false),
            };
            let (upper, upper_included) = match &bounds.upper {
                Some((bytes, included)) => ([prefix.as_slice(), bytes].concat(), *included),
                None => (prefix.clone(), true),
            };
            KeyRange {
                lower,
                lower_excluded,
                upper,
                upper_included,
            }
        });
        let mut ranges: Vec<KeyRange> = ranges.collect();
        ranges.sort_unstable();
        ranges.dedup();
        Self { ranges, hashes: None }
    }

    pub fn iter(&self) -> impl Iterator<Item = &KeyRange> {
        self.ranges.iter()
    }

    /// Hashes of the keys, for [`KeyHashes`](super::KeyHashes), where the predicate names whole keys.
    pub fn hashes(&self) -> Option<&[u32]> {
        self.hashes.as_deref()
    }

    /// Whether no key is possible.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl KeyRange {
    /// Whether a key stands before the range.
    pub fn begins_after(&self, key: &[u8]) -> bool {
        key < self.lower.as_slice() || (self.lower_excluded && key.starts_with(&self.lower))
    }

    /// Whether a key stands behind the range.
    pub fn ends_before(&self, key: &[u8]) -> bool {
        key >= self.upper.as_slice() && !(self.upper_included && key.starts_with(&self.upper))
    }

    /// The rows inside, of `len` ascending keys.
    pub fn within<'k>(&self, len: usize, key: impl Fn(usize) -> &'k [u8]) -> Range<usize> {
        let start = partition_point(0..len, |row| self.begins_after(key(row)));
        let end = partition_point(start..len, |row| !self.ends_before(key(row)));
        start..end
    }
}

/// Slice's `partition_point` for what has indexes but is no slice.
pub fn partition_point(within: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let Range {
        start: mut low,
        end: mut high,
    } = within;
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

enum Encoded {
    /// Ascending.
    Points(Vec<Vec<u8>>),
    Bounds(Bounds),
}

/// Bytes, and whether the lower one is excluded, the upper one included.
#[derive(Default)]
struct Bounds {
    lower: Option<(Vec<u8>, bool)>,
    upper: Option<(Vec<u8>, bool)>,
}

impl Encoded {
    /// `None` when a value has no encoding: then the key may be anything.
    fn of(codec: &KeyCodec, key: usize, domain: &Domain) -> Option<Self> {
        let encode = |value: &datafusion::common::ScalarValue| codec.value(key, &value.to_array().ok()?);
        Some(match domain {
            Domain::Points(points) => {
                let mut points: Vec<Vec<u8>> = points.iter().map(encode).collect::<Option<_>>()?;
                points.sort_unstable();
                points.dedup();
                Self::Points(points)
            }
            Domain::Between { lower, upper } => {
                let mut bounds = Bounds::default();
                for (value, included) in lower {
                    bounds.lower = bounds.lower.max(Some((encode(value)?, !included)));
                }
                for (value, included) in upper {
                    let bound = (encode(value)?, *included);
                    bounds.upper = Some(match bounds.upper {
                        Some(known) => known.min(bound),
                        None => bound,
                    });
                }
                Self::Bounds(bounds)
            }
        })
    }

    fn bounds(self) -> Bounds {
        match self {
            Self::Bounds(bounds) => bounds,
            Self::Points(points) => Bounds {
                lower: points.first().map(|first| (first.clone(), false)),
                upper: points.last().map(|last| (last.clone(), true)),
            },
        }
    }
}
