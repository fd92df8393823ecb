//! `anabranch audit`: what administrators did, as the object store has it.

use std::process::ExitCode;

use anabranch_access::audit_records;
use anyhow::Result;
use chrono::{Days, SecondsFormat, Utc};

use crate::args::{AuditCommand, AuditLog};
use crate::commands::token::store;
use crate::output;

/// How far back is looked by default.
const DAYS: Days = Days::new(30);

pub async fn run(args: AuditLog) -> Result<ExitCode> {
    let AuditCommand::List {
        since,
        limit,
        json,
        config,
    } = args.command;
    let (_, store) = store(&config)?;
    let since = since.unwrap_or_else(|| (Utc::now() - DAYS).date_naive());
    let records = audit_records(&store, since, limit).await?;
    if json {
        for record in &records {
            println!("{}", serde_json::to_string(record)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = output::table(["at", "who", "role", "from", "service", "action", "outcome"]);
    for record in records {
        table.add_row([
            record.at.to_rfc3339_opts(SecondsFormat::Secs, true),
            record.who,
            record.role,
            record.from,
            record.service,
            record.action,
            record.outcome,
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}
