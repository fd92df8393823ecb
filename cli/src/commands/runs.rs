use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::{Runs, RunsCommand, Verify};
use crate::client::Client;
use crate::output;

/// Exit code of `runs start` when the run is held.
const HELD: u8 = 2;
/// How often the progress of a run is asked for.
const POLL: Duration = Duration::from_millis(200);

pub async fn run(args: Runs) -> Result<ExitCode> {
    match args.command {
        RunsCommand::Start { detach, full, remote } => start(&Client::new(&remote)?, detach, full).await,
        RunsCommand::List { limit, remote } => list(&Client::new(&remote)?, limit).await,
        RunsCommand::Show { id, remote } => show(&Client::new(&remote)?, &id).await,
        RunsCommand::Publish { id, remote } => publish(&Client::new(&remote)?, &id).await,
        RunsCommand::Discard { id, remote } => discard(&Client::new(&remote)?, &id).await,
        RunsCommand::Rollback { id, remote } => roll_back(&Client::new(&remote)?, id).await,
    }
}

pub async fn verify(args: Verify) -> Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let answer = client.post("/v1/batch/verify", &json!({"views": args.views})).await?;
    let run = follow(&client, &answer).await?;
    print_run(&run);
    Ok(match run["state"] == "compared" && agrees(&run["diff"]) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn start(client: &Client, detach: bool, full: bool) -> Result<ExitCode> {
    let answer = client.post("/v1/batch/runs", &json!({"full": full})).await?;
    if detach {
        println!("{}", id_of(&answer)?);
        return Ok(ExitCode::SUCCESS);
    }
    let run = follow(client, &answer).await?;
    print_run(&run);
    Ok(match run["state"].as_str() {
        Some("published") => ExitCode::SUCCESS,
        Some("held") => ExitCode::from(HELD),
        _ => ExitCode::FAILURE,
    })
}

async fn publish(client: &Client, id: &str) -> Result<ExitCode> {
    let answer = client.post(&format!("/v1/batch/runs/{id}/publish"), &json!({})).await?;
    println!("Run {id} is publication {}.", answer["publication"]);
    Ok(ExitCode::SUCCESS)
}

async fn discard(client: &Client, id: &str) -> Result<ExitCode> {
    client.post(&format!("/v1/batch/runs/{id}/discard"), &json!({})).await?;
    println!("Run {id} is discarded.");
    Ok(ExitCode::SUCCESS)
}

async fn roll_back(client: &Client, to: Option<String>) -> Result<ExitCode> {
    let answer = client.post("/v1/batch/rollback", &json!({"to": to})).await?;
    let run = follow(client, &answer).await?;
    print_run(&run);
    Ok(match run["state"] == "published" {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn id_of(answer: &Value) -> Result<String> {
    Ok(answer["run_id"].as_str().context("the answer names no run")?.to_owned())
}

/// Shows the progress of the run that an answer names until it ends, or waits for a decision.
async fn follow(client: &Client, answer: &Value) -> Result<Value> {
    let id = id_of(answer)?;
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
            Some("queued" | "running") | None => tokio::time::sleep(POLL).await,
            Some(_) => break run,
        }
    };
    bar.finish_and_clear();
    Ok(run)
}

async fn list(client: &Client, limit: usize) -> Result<ExitCode> {
    let answer = client.get(&format!("/v1/batch/runs?limit={limit}")).await?;
    let mut table = output::table([
        "run",
        "kind",
        "state",
        "mode",
        "trigger",
        "started",
        "rows",
        "publication",
        "differs",
        "took",
    ]);
    for run in answer["runs"].as_array().into_iter().flatten() {
        table.add_row(vec![
            output::cell(&run["run_id"]),
            output::cell(&run["kind"]),
            output::cell(&run["state"]),
            output::cell(&run["mode"]),
            output::cell(&run["trigger"]),
            output::cell(&run["started_at"]),
            run["rows"]
                .as_u64()
                .map_or_else(|| output::cell(&Value::Null), output::count_cell),
            output::cell(&run["publication"]),
            output::cell(&differs(&run["diff"])),
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
        "kind",
        "state",
        "trigger",
        "mode",
        "base",
        "reason",
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
    print_diff(&run["diff"]);
    if run["state"] == "held" {
        let id = run["run_id"].as_str().unwrap_or_default();
        println!(
            "It differs from what is served and is held: `anabranch runs publish {id}` publishes it, `anabranch runs discard {id}` drops it."
        );
    }
}

/// The views of a comparison, by name.
fn views_of(diff: &Value) -> impl Iterator<Item = (&String, &Value)> {
    diff["views"].as_object().into_iter().flatten()
}

/// Groups of a view that differ, those that only one side has among them.
fn differing(view: &Value) -> u64 {
    let count = |key: &str| view[key].as_u64().unwrap_or_default();
    count("differing") + count("only_computed") + count("only_served")
}

/// Whether every view was compared, and no group differs.
fn agrees(diff: &Value) -> bool {
    views_of(diff).all(|(_, view)| differing(view) == 0 && view["skipped"].is_null())
}

/// Groups that differ over all views; null where nothing was compared.
fn differs(diff: &Value) -> Value {
    match diff.is_null() {
        true => Value::Null,
        false => views_of(diff).map(|(_, view)| differing(view)).sum::<u64>().into(),
    }
}

/// How a run compares with what was served.
fn print_diff(diff: &Value) {
    if diff.is_null() {
        return;
    }
    match diff["publication"].as_u64() {
        Some(number) => println!("Compared with publication {number} and realtime state, at the same version:"),
        None => println!("Compared with realtime state, at the same version:"),
    }
    let mut table = output::table([
        "view",
        "compared",
        "differing",
        "only computed",
        "only served",
        "largest difference",
    ]);
    let mut notes = Vec::new();
    for (name, view) in views_of(diff) {
        let largest = match view["largest"]["by"].as_f64() {
            Some(by) => format!("{by} in {}", view["largest"]["column"].as_str().unwrap_or_default()).into(),
            None => Value::Null,
        };
        let count = |key: &str| output::count_cell(view[key].as_u64().unwrap_or_default());
        table.add_row(vec![
            comfy_table::Cell::new(name),
            count("compared"),
            count("differing"),
            count("only_computed"),
            count("only_served"),
            output::cell(&largest),
        ]);
        if let Some(why) = view["skipped"].as_str() {
            notes.push(format!("{name} was not compared: {why}"));
        }
        for (partition, why) in view["not_compared"].as_object().into_iter().flatten() {
            let why = why.as_str().unwrap_or_default();
            notes.push(format!(
                "{name}: landed rows stood in for the realtime state of {partition}: {why}"
            ));
        }
    }
    println!("{table}");
    if let Some(why) = diff["expected"].as_str() {
        notes.push(format!("Differences are to be expected: {why}."));
    }
    for note in notes {
        println!("{note}");
    }
    print_samples(diff);
}

/// The first groups that differ.
fn print_samples(diff: &Value) {
    let mut table = output::table(["view", "group", "computed", "served"]);
    for (name, view) in views_of(diff) {
        for sample in view["samples"].as_array().into_iter().flatten() {
            table.add_row(vec![
                name.clone(),
                pairs(&sample["key"]),
                pairs(&sample["computed"]),
                pairs(&sample["served"]),
            ]);
        }
    }
    if !table.is_empty() {
        println!("{table}");
    }
}

/// `name = value` of each column; a dash where that side lacks the group.
fn pairs(columns: &Value) -> String {
    let Some(columns) = columns.as_object() else {
        return "–".to_owned();
    };
    let pair = |(name, value): (&String, &Value)| format!("{name} = {}", value.as_str().unwrap_or("NULL"));
    columns.iter().map(pair).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
