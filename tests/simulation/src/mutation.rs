//! Defects made on purpose: a simulation that finds none of them would prove nothing.

use anabranch_dataset::Rule;
use clap::ValueEnum;

/// One defect, in product code, in the store, or on the way between processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mutation {
    /// Landings are taken from former owners of a partition.
    LandsUnderAnyEpoch,
    /// Landings are taken wherever they begin, from whomever.
    LandsTwice,
    /// A run publishes behind whatever is there by then.
    PublishesOverNewer,
    /// A publication claims one offset more than it holds.
    PublishesTooFar,
    /// A worker claims one offset more than it holds.
    ServesTooFar,
    /// A worker hands out the state of another snapshot than it was asked for.
    ServesOtherSnapshot,
    /// A worker hands out the state of another version of a view than it was asked for.
    ServesOtherVersion,
    /// A worker does not say which excluded events its state leaves out.
    HidesExclusions,
    /// A publication does not say from where on it holds events that have not expired.
    HidesExpiry,
    /// The store replaces what is there when asked to create.
    CreatesOverOthers,
    /// The store says that it wrote a data file, and did not.
    LosesWrites,
}

impl Mutation {
    /// Whether product code is to break `rule`.
    pub fn leaves_out(self, rule: Rule) -> bool {
        match rule {
            Rule::OwnershipEpoch => matches!(self, Self::LandsUnderAnyEpoch | Self::LandsTwice),
            Rule::NextOffset => self == Self::LandsTwice,
            Rule::PublicationNumber => self == Self::PublishesOverNewer,
            _ => false,
        }
    }
}
