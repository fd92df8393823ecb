//! `anabranch exclude` and `include`: events that are kept out of every answer, and let in again.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::{Exclude, Include};
use crate::client::{Client, encoded};
use crate::commands::tables::{table, who};
use crate::output;

pub async fn exclude(args: Exclude) -> Result<ExitCode> {
    let client = Client::new(&args.table.remote)?;
    let table = table(&client, args.table.table.as_deref()).await?;
    let path = format!("/v1/tables/{table}/exclusions");
    if args.list {
        return list(&client.get(&path).await?, args.table.json);
    }
    let partition = args.partition.context("--partition says which partition is meant")?;
    let offsets = args
        .offsets
        .context("--offsets A..B says which events are meant: from A on, without B")?;
    let reason = args
        .reason
        .context("--reason says why, for those who read the numbers later")?;
    let body = json!({
        "partition": partition,
        "offsets": offsets,
        "reason": reason,
        "by": args.by.unwrap_or_else(who),
    });
    let excluded = client.post(&path, &body).await?;
    if args.table.json {
        println!("{excluded:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "exclusion {}: offsets {} of partition {} are left out of realtime state now, and of batch views from the next run on",
        excluded["id"], offsets, partition
    );
    println!("`anabranch include {}` lets them in again", excluded["id"]);
    Ok(ExitCode::SUCCESS)
}

pub async fn include(args: Include) -> Result<ExitCode> {
    let client = Client::new(&args.table.remote)?;
    let table = table(&client, args.table.table.as_deref()).await?;
    let by = encoded(&args.by.unwrap_or_else(who));
    let included = client
        .delete(&format!("/v1/tables/{table}/exclusions/{}?by={by}", args.id))
        .await?;
    if args.table.json {
        println!("{included:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "exclusion {} is undone: offsets {} of partition {} count in realtime state now, and in batch views from the next run on",
        included["id"],
        included["offsets"].as_str().unwrap_or("?"),
        included["partition"]
    );
    Ok(ExitCode::SUCCESS)
}

fn list(answer: &Value, as_json: bool) -> Result<ExitCode> {
    if as_json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = output::table(["id", "partition", "offsets", "reason", "by", "at", "batch views"]);
    for known in answer["exclusions"].as_array().into_iter().flatten() {
        let published = match known["published"].as_bool() {
            Some(true) => "left out",
            _ => "from the next run on",
        };
        shown.add_row(vec![
            output::cell(&known["id"]),
            output::cell(&known["partition"]),
            output::cell(&known["offsets"]),
            output::cell(&known["reason"]),
            output::cell(&known["by"]),
            output::cell(&known["at"]),
            comfy_table::Cell::new(published),
        ]);
    }
    println!("{shown}");
    Ok(ExitCode::SUCCESS)
}
