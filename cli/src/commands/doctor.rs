//! `anabranch doctor`: looks at everything a service needs, from where it would run, and says what to do.

mod checks;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::args::Doctor;

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
    let width = findings
        .iter()
        .map(|finding| finding.check.chars().count())
        .max()
        .unwrap_or(0);
    for finding in findings {
        let (word, color) = match finding.state {
            State::Ok => ("ok  ", "32"),
            State::Warn => ("warn", "33"),
            State::Fail => ("fail", "31"),
        };
        let word = match std::io::stdout().is_terminal() {
            true => format!("\u{1b}[1;{color}m{word}\u{1b}[0m"),
            false => word.to_owned(),
        };
        // Pictures of places in views.sql have lines of their own.
        let mut lines = finding.found.trim_end().lines();
        println!("{word}  {:width$}  {}", finding.check, lines.next().unwrap_or_default());
        let margin = " ".repeat(width + 8);
        lines.for_each(|line| println!("{margin}{line}"));
        if let Some(advice) = &finding.advice {
            println!("{margin}→ {advice}");
        }
    }
    println!();
    match worst {
        State::Ok => println!("all is well"),
        State::Warn => println!("it works, but look at the warnings"),
        State::Fail => println!("it does not work like this"),
    }
}
