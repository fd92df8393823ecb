//! Pages of docs/ that are made from the code: what it says of its settings, its metrics and its HTTP API.

mod configuration;
mod http;
mod metrics;

pub use configuration::configuration;
pub use http::http;
pub use metrics::metrics;

/// Says on top of a page where it comes from.
fn made_from(what: &str) -> String {
    format!(
        "<!-- Made from {what}; a test holds it against the code. \
         `ANABRANCH_BLESS=1 cargo test -p anabranch-e2e -- docs::generated` writes it anew. -->\n\n"
    )
}

/// Text as one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
