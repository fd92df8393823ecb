//! What docs/ says is what the code does: generated pages, links, examples.

mod examples;
mod generated;
mod links;
