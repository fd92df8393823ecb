use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::{Runs, RunsCommand};
use crate::client::Client;
use crate::output;

/// How often the progress of a run is asked for.
const POLL: Duration = Duration::from_millis(200);

pub async fn run(args: Runs) -> Result<ExitCode> {
    match args.command {
        RunsCommand::Start { detach, remote } => start(&Client::new(&remote)?, detach).await,
        RunsCommand::List { limit, remote } => list(&Client::new(&remote)?, limit).await,
        RunsCommand::Show { id, remote } => show(&Client::new(&remote)?, &id).await,
    }
}

async fn start(client: &Client, detach: bool) -> Result<ExitCode> {
    let answer = client.post("/v1/batch/runs", &json!({})).await?;
    let id = answer["run_id"].as_str().context("the answer names no run")?.to_owned();
    if detach {
        println!("{id}");
        return Ok(ExitCode::SUCCESS);
    }
    let bar = output::progress(None, false);
    bar.set_message(id.clone());
    let path = format!("/v1/batch/runs/{id}");
    let run = loop {
        let run = client.get(&path).await?;
        let progress = &run["progress"];
        if let Some(total) = progress["rows_total"].as_u64().filter(|total| *total > 0) {
            if bar.length().is_none() {
                bar.set_style(output::progress(Some(total), false).style());
            }
            bar.set_length(total);
            bar.set_position(progress["rows_done"].as_u64().unwrap_or_default());
        }
        match run["state"].as_str() {
            Some("published" | "failed") => break run,
            _ => tokio::time::sleep(POLL).await,
        }
    };
    bar.finish_and_clear();
    print_run(&run);
    Ok(if run["state"] == "published" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn list(client: &Client, limit: usize) -> Result<ExitCode> {
    let answer = client.get(&format!("/v1/batch/runs?limit={limit}")).await?;
    let mut table = output::table(["run", "state", "trigger", "started", "rows", "publication", "took"]);
    for run in answer["runs"].as_array().into_iter().flatten() {
        table.add_row(vec![
            output::cell(&run["run_id"]),
            output::cell(&run["state"]),
            output::cell(&run["trigger"]),
            output::cell(&run["started_at"]),
            run["rows"]
                .as_u64()
                .map_or_else(|| output::cell(&Value::Null), output::count_cell),
            output::cell(&run["publication"]),
            output::cell(&took(run)),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &Client, id: &str) -> Result<ExitCode> {
    let run = client.get(&format!("/v1/batch/runs/{id}")).await?;
    print_run(&run);
    Ok(ExitCode::SUCCESS)
}

fn took(run: &Value) -> Value {
    run["timings_ms"]["total"]
        .as_f64()
        .map_or(Value::Null, |ms| format!("{:.2} s", ms / 1000.0).into())
}

fn print_run(run: &Value) {
    let mut table = output::table(["", "run"]);
    for key in [
        "run_id",
        "state",
        "trigger",
        "created_at",
        "started_at",
        "finished_at",
        "rows",
        "groups",
        "publication",
        "error",
    ] {
        if !run[key].is_null() {
            table.add_row(vec![comfy_table::Cell::new(key), output::cell(&run[key])]);
        }
    }
    for (source, cut) in run["cuts"].as_object().into_iter().flatten() {
        let text = format!("version {}, next {}", cut["version"], cut["next"]);
        table.add_row(vec![format!("cut of {source}"), text]);
    }
    for (step, ms) in run["timings_ms"].as_object().into_iter().flatten() {
        table.add_row(vec![format!("{step} (ms)"), ms.to_string()]);
    }
    println!("{table}");
}
