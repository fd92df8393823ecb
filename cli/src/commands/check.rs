use std::process::ExitCode;

use anabranch_catalog::{Connector, Source};
use anabranch_runtime::Settings;
use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::args::Check;
use crate::output;
use crate::platform::{self, VIEWS_FILE};

/// Reports everything that is wrong with a configuration folder; with `--json`, the plan of each view.
pub fn run(args: &Check) -> Result<ExitCode> {
    let dir = &args.config.config;
    Settings::load(dir)?;
    let path = dir.join(VIEWS_FILE);
    let sql = std::fs::read_to_string(&path).with_context(|| format!("{}: cannot read", path.display()))?;
    match anabranch_definitions::compile(&sql) {
        Ok((catalog, views)) if args.json => {
            let sources: Vec<_> = catalog.sources.values().map(|source| describe(source)).collect();
            let views: Vec<_> = views.iter().map(anabranch_view::View::describe).collect();
            println!(
                "{}",
                serde_json::to_string_pretty(&json!({"sources": sources, "views": views}))?
            );
            Ok(ExitCode::SUCCESS)
        }
        Ok((catalog, views)) => {
            let mut table = output::table(["view", "source", "keys", "columns", "hash"]);
            for view in &views {
                let schema = view.output_schema();
                let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let keys: Vec<&str> = view.output_keys().iter().map(|(name, _)| name.as_str()).collect();
                table.add_row([
                    view.name(),
                    &view.source().name,
                    &keys.join(", "),
                    &columns.join(", "),
                    &view.hash()[..12],
                ]);
            }
            println!("{table}");
            println!(
                "{}: {} tables and {} views are in order",
                path.display(),
                catalog.sources.len(),
                views.len()
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(found) if args.json => {
            println!("{}", serde_json::to_string_pretty(&json!({"errors": found}))?);
            Ok(ExitCode::FAILURE)
        }
        Err(found) => {
            eprintln!("{}", platform::render(&found, &sql, &path.display().to_string()));
            eprintln!(
                "{} problem{} found",
                found.len(),
                if found.len() == 1 { "" } else { "s" }
            );
            Ok(ExitCode::FAILURE)
        }
    }
}

fn describe(source: &Source) -> Value {
    let columns = source.columns.iter().map(|column| {
        json!({
            "name": column.name,
            "json_key": column.json_key,
            "type": column.arrow_type().to_string(),
            "not_null": column.not_null,
        })
    });
    json!({
        "name": source.name,
        "connector": if source.connector == Connector::Kafka { "kafka" } else { "log" },
        "topic": source.topic,
        "partitions": source.partitions,
        "event_time": source.event_time,
        "keep_raw": source.keep_raw,
        "columns": columns.collect::<Vec<_>>(),
    })
}
