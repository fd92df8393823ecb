//! Tables and progress bars for people.

use comfy_table::modifiers::UTF8_ROUND_CORNERS;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

/// An empty table with a header.
pub fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .apply_modifier(UTF8_ROUND_CORNERS)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(
            header
                .into_iter()
                .map(|name| Cell::new(name).add_attribute(Attribute::Bold)),
        );
    table
}

/// A cell of an answer: numbers to the right, null dimmed, text as it is.
pub fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::new("∅").add_attribute(Attribute::Dim),
        Value::Number(number) => Cell::new(number).set_alignment(CellAlignment::Right),
        Value::String(text) => Cell::new(text),
        other => Cell::new(other),
    }
}

/// A cell with a count, grouped by thousands.
pub fn count_cell(count: u64) -> Cell {
    Cell::new(thousands(count)).set_alignment(CellAlignment::Right)
}

/// A cell with a size, in the unit that suits it.
pub fn bytes_cell(bytes: u64) -> Cell {
    Cell::new(indicatif::HumanBytes(bytes)).set_alignment(CellAlignment::Right)
}

/// `1234567` as `1,234,567`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A `/v1/sql` answer as a table, with a line that says what it covers.
pub fn answer(answer: &Value) -> String {
    let names = answer["columns"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str());
    let mut table = table(names);
    for row in answer["rows"].as_array().into_iter().flatten() {
        table.add_row(row.as_array().into_iter().flatten().map(cell));
    }
    let rows = answer["row_count"].as_u64().unwrap_or_default();
    let elapsed = answer["elapsed_ms"].as_f64().unwrap_or_default();
    let mut out = format!(
        "{table}\n{} row{} in {elapsed:.1} ms",
        thousands(rows),
        if rows == 1 { "" } else { "s" }
    );
    for (view, coverage) in answer["coverage"].as_object().into_iter().flatten() {
        out.push_str(&format!("\n{view}: {}", coverage_line(coverage)));
    }
    out
}

/// One line about one view's coverage.
pub fn coverage_line(coverage: &Value) -> String {
    let sum = |key: &str| -> u64 {
        coverage[key]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, next)| next.as_u64())
            .sum()
    };
    let (cut, through) = (sum("batch_cut"), sum("served_through"));
    let publication = match coverage["publication"].as_u64() {
        Some(number) => format!("publication {number} up to offset sum {}", thousands(cut)),
        None => "no batch view yet".into(),
    };
    let exact = if coverage["exact"].as_bool() == Some(true) {
        "exact"
    } else {
        "NOT exact"
    };
    let missing: Vec<&str> = coverage["missing"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let missing = if missing.is_empty() {
        String::new()
    } else {
        format!(", missing {}", missing.join(" "))
    };
    format!(
        "{exact}; {publication}, realtime from there to {}{missing}",
        thousands(through)
    )
}

/// A progress bar on a terminal; hidden elsewhere. `bytes` shows sizes instead of counts.
pub fn progress(total: Option<u64>, bytes: bool) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = match (total.is_some(), bytes) {
        (true, true) => "{msg} {bar:32.cyan/dim} {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left",
        (true, false) => "{msg} {bar:32.cyan/dim} {human_pos}/{human_len} rows {per_sec}, {eta} left",
        (false, true) => "{msg} {spinner} {bytes} {binary_bytes_per_sec}",
        (false, false) => "{msg} {spinner} {human_pos}",
    };
    bar.set_style(ProgressStyle::with_template(template).expect("the templates are constants"));
    bar
}
