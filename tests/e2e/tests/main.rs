//! End-to-end tests of the whole platform: one module per promise.

mod api;
mod bad_input;
mod broker_away;
mod console;
mod crash;
mod definitions;
mod delta;
mod demo;
mod deploy;
mod docs;
mod edits;
mod evolution;
mod examples;
mod exclusive;
mod flights;
mod guarantees;
mod human_faults;
mod kafka;
mod layers;
mod maintenance;
mod many_workers;
mod matrix;
mod monitoring;
mod nested;
mod openapi;
mod operations;
mod postgres;
mod runs;
mod security;
mod soak;
mod store_away;
mod tls;
mod traces;
mod transactions;
mod verified;
mod wikipedia;

/// Plays the `anabranch` command in a child process; by itself it tests nothing.
#[test]
fn child() {
    anabranch_e2e::child::run_if_asked();
}
