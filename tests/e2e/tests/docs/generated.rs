//! Pages that are made from the code are up to date.

use anabranch_e2e::data::workspace;
use anabranch_e2e::reference;

/// Holds a page against what the code says now; writes it where `ANABRANCH_BLESS` is set.
#[track_caller]
fn up_to_date(page: &str, now: &str) {
    let path = workspace().join("docs").join(page);
    if std::env::var_os("ANABRANCH_BLESS").is_some() {
        std::fs::write(&path, now).expect("the page can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(now.lines()).position(|(there, now)| there != now);
    let line = differs.unwrap_or_else(|| there.lines().count().min(now.lines().count()));
    assert!(
        there == now,
        "docs/{page} is not what the code says from line {} on:\n  {:?}\ninstead of\n  {:?}\n\
         `ANABRANCH_BLESS=1 cargo test -p anabranch-e2e -- docs::generated` writes it anew",
        line + 1,
        there.lines().nth(line),
        now.lines().nth(line)
    );
}

#[test]
fn the_configuration_reference_is_what_the_settings_say() {
    up_to_date("configuration.md", &reference::configuration());
}

#[test]
fn the_list_of_metrics_is_what_the_code_says() {
    up_to_date("metrics.md", &reference::metrics());
}

#[test]
fn the_http_reference_is_what_the_openapi_document_says() {
    up_to_date("http.md", &reference::http());
}
