use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::args::{Config, Remote, Views, ViewsCommand};
use crate::client::Client;
use crate::output;
use crate::platform::{self, VIEWS_FILE};

pub async fn run(args: Views) -> Result<ExitCode> {
    match args.command {
        None => list(&args.remote).await,
        Some(ViewsCommand::Apply {
            config,
            url,
            credentials,
            dry_run,
            force,
        }) => {
            let remote = Remote {
                url,
                config: Some(config.config.clone()),
                credentials,
            };
            apply(&config, &remote, dry_run, force).await
        }
    }
}

/// Prints what a folder's views.sql changes, then changes it.
async fn apply(config: &Config, remote: &Remote, dry_run: bool, force: bool) -> Result<ExitCode> {
    let path = config.config.join(VIEWS_FILE);
    let sql = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot read", path.display()))?;
    // What is wrong with the file itself is shown beside its lines, without asking anybody.
    if let Err(found) = anabranch_definitions::compile(&sql) {
        eprintln!("{}", platform::render(&found, &sql, &path.display().to_string()));
        return Ok(ExitCode::FAILURE);
    }
    let client = Client::new(remote)?;
    let planned = client.post_text("/v1/views/apply?dry_run=true", sql.clone()).await?;
    let refused = print_change(&planned["change"], &path.display().to_string());
    if refused {
        eprintln!("refused: nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    if dry_run {
        println!("a dry run: nothing was changed");
        return Ok(ExitCode::SUCCESS);
    }
    let applied = client.post_text(&format!("/v1/views/apply?force={force}"), sql).await?;
    if applied["written"] == true {
        println!(
            "applied as definitions {}; `anabranch views` shows when the new versions answer",
            applied["number"]
        );
    } else {
        println!("these are definitions {}, which run already", applied["number"]);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the table of changes; says whether any is refused.
fn print_change(change: &Value, file: &str) -> bool {
    let mut table = output::table(["", "name", "action", "rebuild", "what follows"]);
    let mut refused = false;
    for item in change["items"].as_array().into_iter().flatten() {
        refused |= item["action"] == "refused";
        let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
        let place = &item["place"];
        let place = if place.is_object() {
            format!("{file}:{}:{}: ", place["line"], place["column"])
        } else {
            String::new()
        };
        table.add_row([
            text("kind"),
            text("name"),
            text("action"),
            if item["rebuild"] == true { "from history" } else { "" }.to_owned(),
            format!("{place}{}", text("detail")),
        ]);
    }
    println!("{table}");
    refused
}

async fn list(remote: &Remote) -> Result<ExitCode> {
    let answer = Client::new(remote)?.get("/v1/views").await?;
    let mut table = output::table(["view", "source", "columns", "hash", ""]);
    for view in answer["views"].as_array().into_iter().flatten() {
        let columns = view["columns"].as_array().into_iter().flatten();
        let columns: Vec<String> = columns
            .map(|c| {
                format!(
                    "{} {}",
                    c["name"].as_str().unwrap_or("?"),
                    c["type"].as_str().unwrap_or("?")
                )
            })
            .collect();
        let hash = view["hash"].as_str().unwrap_or_default();
        table.add_row(vec![
            output::cell(&view["name"]),
            output::cell(&view["source"]),
            output::cell(&Value::String(columns.join("\n"))),
            output::cell(&Value::String(hash.chars().take(12).collect())),
            if view["changing"] == true {
                "a newer version is being built"
            } else {
                ""
            }
            .into(),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}
