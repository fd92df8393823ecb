use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use crate::args::Remote;
use crate::client::Client;
use crate::output;

pub async fn run(args: Remote) -> Result<ExitCode> {
    let answer = Client::new(&args)?.get("/v1/views").await?;
    let mut table = output::table(["view", "source", "columns", "hash"]);
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
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}
