//! `anabranch dead-letters`: what did not decode, and producing it again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::args::{DeadLetters, DeadLettersCommand, LettersFilter, Redrive};
use crate::client::{Client, encoded};
use crate::commands::tables::{table, who};
use crate::output::{self, thousands};

/// How often is asked whether a redrive is through.
const POLL: Duration = Duration::from_millis(300);
/// Bytes of a letter in a table.
const PREVIEW_CHARS: usize = 60;

pub async fn run(args: DeadLetters) -> Result<ExitCode> {
    match args.command {
        DeadLettersCommand::List {
            filter,
            limit,
            table: of,
        } => {
            let client = Client::new(&of.remote)?;
            let table = table(&client, of.table.as_deref()).await?;
            list(&client, &table, &filter, limit, of.json).await
        }
        DeadLettersCommand::Show {
            partition,
            offset,
            table: of,
        } => {
            let client = Client::new(&of.remote)?;
            let table = table(&client, of.table.as_deref()).await?;
            show(&client, &table, partition, offset, of.json).await
        }
        DeadLettersCommand::Redrive(args) => redrive(args).await,
        DeadLettersCommand::Redrives { table: of } => {
            let client = Client::new(&of.remote)?;
            let table = table(&client, of.table.as_deref()).await?;
            redrives(&client, &table, of.json).await
        }
    }
}

async fn list(client: &Client, table: &str, filter: &LettersFilter, limit: usize, as_json: bool) -> Result<ExitCode> {
    let mut path = format!("/v1/tables/{table}/dead-letters?limit={limit}");
    let given = [
        ("partition", filter.partition.map(|partition| partition.to_string())),
        ("offsets", filter.offsets.clone()),
        ("reason", filter.reason.clone()),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(&value)));
        }
    }
    let answer = client.get(&path).await?;
    if as_json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut letters = output::table([
        "partition",
        "offset",
        "time",
        "reason",
        "bytes",
        "redriven",
        "begins with",
    ]);
    for letter in answer["dead_letters"].as_array().into_iter().flatten() {
        letters.add_row(vec![
            output::cell(&letter["partition"]),
            output::cell(&letter["offset"]),
            output::cell(&letter["timestamp"]),
            output::cell(&letter["reason"]),
            output::cell(&letter["bytes"]),
            output::cell(&numbers(&letter["redriven"])),
            output::cell(&preview(&letter["preview"])),
        ]);
    }
    println!("{letters}");
    let mut reasons = output::table(["dead letters", "reason"]);
    for reason in answer["reasons"].as_array().into_iter().flatten() {
        let count = reason["count"].as_u64().unwrap_or_default();
        reasons.add_row(vec![output::count_cell(count), output::cell(&reason["reason"])]);
    }
    let others = answer["other_reasons"].as_u64().unwrap_or_default();
    if others > 0 {
        reasons.add_row(vec![
            output::count_cell(others),
            comfy_table::Cell::new("other reasons"),
        ]);
    }
    println!("{reasons}");
    let matched = answer["matched"].as_u64().unwrap_or_default();
    println!("{} dead letters of {table}", thousands(matched));
    Ok(ExitCode::SUCCESS)
}

/// `1, 4`, or null for none.
fn numbers(of: &Value) -> Value {
    let numbers: Vec<String> = of.as_array().into_iter().flatten().map(Value::to_string).collect();
    if numbers.is_empty() {
        Value::Null
    } else {
        numbers.join(", ").into()
    }
}

/// One line of printable characters.
fn preview(of: &Value) -> Value {
    let Some(text) = of.as_str() else { return Value::Null };
    let mut line: String = text.chars().take(PREVIEW_CHARS).map(printable).collect();
    if text.chars().nth(PREVIEW_CHARS).is_some() {
        line.push('…');
    }
    line.into()
}

/// What a terminal would obey is not printed.
fn printable(character: char) -> char {
    if character.is_control() { '·' } else { character }
}

async fn show(client: &Client, table: &str, partition: i32, offset: i64, as_json: bool) -> Result<ExitCode> {
    let letter = client
        .get(&format!("/v1/tables/{table}/dead-letters/{partition}/{offset}"))
        .await?;
    if as_json {
        println!("{letter:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = output::table(["", "dead letter"]);
    for key in ["table", "partition", "offset", "timestamp", "reason", "decodes_now"] {
        shown.add_row(vec![comfy_table::Cell::new(key), output::cell(&letter[key])]);
    }
    shown.add_row(vec![
        comfy_table::Cell::new("redriven"),
        output::cell(&numbers(&letter["redriven"])),
    ]);
    shown.add_row(vec!["key".to_owned(), text(&letter["key"])]);
    for (name, value) in letter["headers"].as_object().into_iter().flatten() {
        shown.add_row(vec![format!("header {name}"), text(value)]);
    }
    println!("{shown}");
    println!("{}", text(&letter["payload"]));
    Ok(ExitCode::SUCCESS)
}

/// Bytes as text where they are, in base64 where not.
fn text(bytes: &Value) -> String {
    match (bytes["text"].as_str(), bytes["base64"].as_str()) {
        (Some(text), _) => text
            .chars()
            .map(|c| if c == '\n' || c == '\t' { c } else { printable(c) })
            .collect(),
        (None, Some(base64)) => format!("(base64) {base64}"),
        (None, None) => "∅".into(),
    }
}

async fn redrive(args: Redrive) -> Result<ExitCode> {
    let client = Client::new(&args.table.remote)?;
    let table = table(&client, args.table.table.as_deref()).await?;
    let body = json!({
        "partition": args.filter.partition,
        "offsets": args.filter.offsets,
        "reason": args.filter.reason,
        "again": args.again,
        "undecodable": args.undecodable,
        "dry_run": args.dry_run,
        "by": args.by.clone().unwrap_or_else(who),
    });
    let asked = client
        .post(&format!("/v1/tables/{table}/dead-letters/redrive"), &body)
        .await?;
    let number = asked["number"].as_u64();
    let ended = match number {
        Some(number) if !args.detach => Some(wait(&client, &table, number, &args).await?),
        _ => None,
    };
    if args.table.json {
        println!("{:#}", ended.unwrap_or(asked));
        return Ok(ExitCode::SUCCESS);
    }
    let count = |name: &str| thousands(asked[name].as_u64().unwrap_or_default());
    println!(
        "{} dead letters of {table} match: {} {}, {} were redriven before, {} still do not decode",
        count("matched"),
        count("letters"),
        if args.dry_run {
            "would be redriven"
        } else {
            "are redriven"
        },
        count("redriven_before"),
        count("undecodable"),
    );
    if asked["left"].as_u64().unwrap_or_default() > 0 {
        println!("{} are left for another redrive", count("left"));
    }
    match (number, ended) {
        (Some(number), Some(ended)) => {
            let done = |name: &str| thousands(ended["done"][name].as_u64().unwrap_or_default());
            println!(
                "redrive {number} is done: {} produced, {} had been, {} were gone",
                done("produced"),
                done("found"),
                done("gone")
            );
        }
        (Some(number), None) => println!("redrive {number} was asked for"),
        (None, _) => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait(client: &Client, table: &str, number: u64, args: &Redrive) -> Result<Value> {
    let (began, limit) = (Instant::now(), *args.timeout);
    let path = format!("/v1/tables/{table}/dead-letters/redrives/{number}");
    loop {
        let redrive = client.get(&path).await?;
        if redrive["state"] == "done" {
            return Ok(redrive);
        }
        if began.elapsed() >= limit {
            bail!(
                "redrive {number} is not done after {limit:?}; it goes on when the owner of partition 0 can land and produce: \
                 see `anabranch dead-letters redrives`"
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn redrives(client: &Client, table: &str, as_json: bool) -> Result<ExitCode> {
    let answer = client.get(&format!("/v1/tables/{table}/dead-letters/redrives")).await?;
    if as_json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = output::table(["redrive", "at", "by", "letters", "state", "produced", "found", "gone"]);
    let all = answer["redrives"].as_array().context("the answer lists no redrives")?;
    for redrive in all.iter().rev() {
        let done = &redrive["done"];
        shown.add_row(vec![
            output::cell(&redrive["number"]),
            output::cell(&redrive["at"]),
            output::cell(&redrive["by"]),
            output::cell(&redrive["letters"]),
            output::cell(&redrive["state"]),
            output::cell(&done["produced"]),
            output::cell(&done["found"]),
            output::cell(&done["gone"]),
        ]);
    }
    println!("{shown}");
    Ok(ExitCode::SUCCESS)
}
