use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::{Format, Query};
use crate::client::Client;
use crate::output;

pub async fn run(args: Query) -> Result<ExitCode> {
    let client = Client::new(&args.remote)?;
    let mut body = json!({"sql": args.sql});
    if args.exact {
        body["require"] = "exact".into();
    }
    let accept = match args.format {
        Format::Table | Format::Json => "application/json",
        Format::Csv => "text/csv",
        Format::Ndjson => "application/x-ndjson",
    };
    let answer = client.sql(&body, accept).await?;
    match args.format {
        Format::Table => {
            let answer: Value = serde_json::from_str(&answer).context("the answer is not JSON")?;
            println!("{}", output::answer(&answer));
        }
        Format::Json | Format::Csv | Format::Ndjson => println!("{}", answer.trim_end_matches('\n')),
    }
    Ok(ExitCode::SUCCESS)
}
