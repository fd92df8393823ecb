//! `anabranch maintenance` and `anabranch retention`.

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::Cell;
use serde_json::{Value, json};

use crate::args::{Maintenance, MaintenanceCommand, MaintenanceStatus, Retention, Upkeep};
use crate::client::{Client, encoded};
use crate::output;

pub async fn run(args: Maintenance) -> Result<ExitCode> {
    match args.command {
        None => status(args.status).await,
        Some(MaintenanceCommand::Run(upkeep)) => {
            let report = ask(&upkeep, "run").await?;
            print(&upkeep, &report, || {
                let mut parts = vec![compaction(&report["compaction"])];
                parts.extend(expired(&report["retention"]));
                parts.push(vacuumed(&report["vacuum"]));
                parts.join("\n")
            });
            Ok(ExitCode::SUCCESS)
        }
    }
}

pub async fn retention(args: Retention) -> Result<ExitCode> {
    let report = ask(&args.upkeep, "retention").await?;
    print(&args.upkeep, &report, || {
        expired(&report["tables"]).unwrap_or_else(|| "no table has a `retention`: all events are kept".to_owned())
    });
    Ok(ExitCode::SUCCESS)
}

/// Has the work done, or foretold.
async fn ask(upkeep: &Upkeep, what: &str) -> Result<Value> {
    let mut path = format!("/v1/batch/maintenance/{what}?dry_run={}", upkeep.dry_run);
    if let Some(table) = &upkeep.table {
        path.push_str(&format!("&table={}", encoded(table)));
    }
    Client::new(&upkeep.remote)?.post(&path, &json!({})).await
}

fn print(upkeep: &Upkeep, report: &Value, tables: impl FnOnce() -> String) {
    if upkeep.json {
        println!("{report:#}");
        return;
    }
    println!("{}", tables());
    if upkeep.dry_run {
        println!("Nothing was changed: this is what would be done.");
    }
}

async fn status(args: MaintenanceStatus) -> Result<ExitCode> {
    let status = Client::new(&args.remote)?.get("/v1/batch/maintenance").await?;
    if args.json {
        println!("{status:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table([
        "table",
        "version",
        "files",
        "small",
        "size",
        "events",
        "dead letters",
        "retention",
        "since",
    ]);
    for (name, state) in entries(&status["tables"]) {
        let mut row = vec![Cell::new(name)];
        row.extend(counts(state, &["version", "files", "small_files"]));
        row.push(output::bytes_cell(count(&state["bytes"])));
        row.extend(counts(state, &["rows", "dead_letters"]));
        row.push(output::cell(&state["retention"]));
        row.push(Cell::new(offsets(&state["since"])));
        table.add_row(row);
    }
    println!("{table}");
    println!(
        "in the background: {}",
        match (&status["enabled"], status["done_by"].as_str()) {
            (Value::Bool(true), Some(service)) => format!("done by {service}"),
            (Value::Bool(true), None) => "on; no batch service leads at the moment".to_owned(),
            _ => "off (`[maintenance] enabled`)".to_owned(),
        }
    );
    let last = &status["last"];
    for (name, done) in entries(&last["compactions"]) {
        let report = &done["report"];
        println!(
            "last merged in {name}: {} files, {} events, at {}",
            output::thousands(count(&report["files"])),
            output::thousands(count(&report["rows"])),
            text(&done["at"]),
        );
    }
    for (name, done) in entries(&last["retention"]) {
        let rows = output::thousands(count(&done["report"]["rows"]));
        println!("last expired from {name}: {rows} rows, at {}", text(&done["at"]));
    }
    for (what, done) in [("last vacuum", &last["vacuum"]), ("last error", &last["error"])] {
        if let Some(at) = done["at"].as_str() {
            let message = done["report"].as_str().map(|error| format!(": {error}"));
            println!("{what} at {at}{}", message.unwrap_or_default());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn compaction(tables: &Value) -> String {
    let mut table = output::table([
        "merged",
        "merges",
        "files",
        "events",
        "size",
        "files before",
        "files after",
    ]);
    for (name, report) in entries(tables) {
        let mut row = vec![Cell::new(name)];
        row.extend(counts(report, &["merges", "files", "rows"]));
        row.push(output::bytes_cell(count(&report["bytes"])));
        row.extend(counts(report, &["files_before", "files_after"]));
        table.add_row(row);
    }
    table.to_string()
}

/// `None` when no table has a retention.
fn expired(tables: &Value) -> Option<String> {
    let mut table = output::table(["expired", "offsets", "rows", "oldest", "newest", "files", "size"]);
    let (mut any, mut notes) = (false, Vec::new());
    for (name, report) in entries(tables) {
        any = true;
        let mut row = vec![
            Cell::new(format!("{name} (before {})", text(&report["before"]))),
            Cell::new(""),
        ];
        row.extend(counts(report, &["rows"]));
        row.extend([Cell::new(""), Cell::new("")]);
        row.extend(counts(report, &["files"]));
        row.push(output::bytes_cell(count(&report["bytes"])));
        table.add_row(row);
        for (partition, part) in entries(&report["partitions"]) {
            let mut row = vec![
                Cell::new(format!("  {partition}")),
                Cell::new(format!("[{}, {})", part["from"], part["since"])),
            ];
            row.extend(counts(part, &["rows"]));
            row.extend([output::cell(&part["oldest"]), output::cell(&part["newest"])]);
            table.add_row(row);
        }
        let straddling = count(&report["straddling_files"]);
        if straddling > 0 {
            notes.push(format!(
                "\n{name}: {straddling} more files hold both rows that expire and rows that stay; they stay, and readers leave out \
                 what has expired"
            ));
        }
    }
    any.then(|| format!("{table}{}", notes.concat()))
}

fn vacuumed(report: &Value) -> String {
    let mut table = output::table([
        "removed",
        "files",
        "size",
        "left behind",
        "pinned",
        "too young",
        "commits",
    ]);
    for (name, removed) in entries(&report["tables"]) {
        let mut row = vec![Cell::new(name)];
        row.extend(counts(removed, &["files"]));
        row.push(output::bytes_cell(count(&removed["bytes"])));
        row.extend(counts(removed, &["left_behind", "pinned", "waiting", "commits"]));
        table.add_row(row);
    }
    let runs = &report["runs"];
    let mut row = vec![Cell::new("batch runs")];
    row.extend(counts(runs, &["state_files"]));
    row.push(output::bytes_cell(count(&runs["bytes"])));
    table.add_row(row);
    table.to_string()
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn counts<'v>(report: &'v Value, keys: &'v [&str]) -> impl Iterator<Item = Cell> + 'v {
    keys.iter().map(|key| output::count_cell(count(&report[*key])))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Partition → offset, as `0: 17, 1: 4`.
fn offsets(value: &Value) -> String {
    let of = |(partition, offset): (&String, &Value)| format!("{partition}: {offset}");
    entries(value).map(of).collect::<Vec<_>>().join(", ")
}
