//! The whole speed layer on the embedded log and a local store, against a naive count of the same events.

mod broker;
mod disk;
mod end_to_end;
mod faults;
mod gaps;
mod group;
mod harness;
mod http;
mod lost;
mod outage;
mod publications;
mod rebalance;
mod redrive;
