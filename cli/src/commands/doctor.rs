//! `anabranch doctor`: looks at everything a service needs, from where it would run, and says what to do.

mod checks;

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Attribute, Cell, Color};
use serde::Serialize;

use crate::args::Doctor;
use crate::output;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub check: String,
    pub state: State,
    pub found: String,
    /// What to do; `None` when all is well.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: State::Warn,
            advice: Some(advice.into()),
            ..Self::ok(check, found)
        }
    }

    fn fail(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: State::Fail,
            ..Self::warn(check, found, advice)
        }
    }
}

/// Looks at everything; 1 if anything fails.
pub async fn run(args: Doctor) -> Result<ExitCode> {
    let findings = checks::all(&args.config.config).await;
    let worst = findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok);
    if args.json {
        let document = serde_json::json!({"state": worst, "version": env!("CARGO_PKG_VERSION"), "findings": findings});
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        print(&findings, worst);
    }
    Ok(if worst == State::Fail {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What `doctor --json` finds, for a support bundle.
pub(super) async fn findings(config: &std::path::Path) -> Vec<Finding> {
    checks::all(config).await
}

fn print(findings: &[Finding], worst: State) {
    let mut table = output::table(["", "check", "found", "do"]);
    for finding in findings {
        let (word, color) = match finding.state {
            State::Ok => ("ok", Color::Green),
            State::Warn => ("warn", Color::Yellow),
            State::Fail => ("fail", Color::Red),
        };
        table.add_row([
            Cell::new(word).fg(color).add_attribute(Attribute::Bold),
            Cell::new(&finding.check),
            Cell::new(&finding.found),
            Cell::new(finding.advice.as_deref().unwrap_or_default()),
        ]);
    }
    println!("{table}");
    match worst {
        State::Ok => println!("all is well"),
        State::Warn => println!("it works, but look at the warnings"),
        State::Fail => println!("it does not work like this"),
    }
}
