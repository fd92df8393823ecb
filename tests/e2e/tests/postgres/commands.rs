//! All that psql asks by itself: for its backslash commands, with and without patterns and details, and to complete names.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anabranch_e2e::{clients, python};
use serde_json::json;

use super::Served;

/// The commands that list things, as `\?` of this psql has them: `\dt[S+] [PATTERN]`.
fn listed(help: &str) -> Vec<(String, String)> {
    let informational = help
        .split("Informational")
        .nth(1)
        .expect("there are commands that inform");
    let section = informational.split("\n\n").next().expect("a section has an end");
    let lines = section.lines().filter_map(|line| line.trim_start().strip_prefix('\\'));
    let named = |line: &str| {
        let word = line.split_whitespace().next().expect("a command has a name");
        let (name, modifiers) = word.split_once('[').unwrap_or((word, ""));
        (name.to_owned(), modifiers.trim_end_matches(']').to_owned())
    };
    lines
        .map(named)
        .filter(|(name, _)| !matches!(name.as_str(), "sf" | "sv"))
        .collect()
}

/// A command in all its spellings: each modifier, and all of them; without a pattern, and with some.
fn spellings(name: &str, modifiers: &str) -> BTreeSet<String> {
    // `\df[anptw][S+]`: kinds of functions, then the modifiers that all have.
    let (kinds, modifiers) = modifiers.split_once("][").unwrap_or(match name {
        "dP" => ("itn", "+"),
        _ => ("", modifiers),
    });
    let kinds = kinds.chars().map(|kind| kind.to_string()).chain([String::new()]);
    let suffixes = ["", "S", "+", "S+"]
        .into_iter()
        .filter(|suffix| suffix.chars().all(|c| modifiers.contains(c)));
    let suffixes: Vec<&str> = suffixes.collect();
    let mut all = BTreeSet::new();
    for kind in kinds {
        for suffix in &suffixes {
            for pattern in ["", " t*", " hourly"] {
                all.insert(format!("\\{name}{kind}{suffix}{pattern}"));
            }
        }
    }
    // These take no pattern.
    all.retain(|command| !command.starts_with("\\dl") || !command.contains(' '));
    all
}

/// Lists what it says beside answers.
const MORE: [&str; 30] = [
    "\\d public.*",
    "\\dt+ anabranch.*",
    "\\d anabranch.coverage",
    "\\d+ anabranch.coverage",
    "\\d pg_catalog.pg_class",
    "\\d+ pg_class",
    "\\dfS+ lower",
    "\\df+ lower text",
    "\\do + int4 int4",
    "\\dAc btree int4",
    "\\dAf btree int4",
    "\\dAo btree integer_ops",
    "\\dAp * *",
    "\\dAp+ btree integer_ops",
    "\\dT+ int8",
    "\\drds tester anabranch",
    "\\dconfig *",
    "\\dconfig+ server*",
    "\\z public.*",
    "\\sf lower",
    "\\sf+ lower",
    "\\sf pg_catalog.lower(text)",
    "\\sv hourly",
    "\\sv+ public.hourly",
    "\\lo_list",
    "\\lo_list+",
    "\\conninfo",
    "\\encoding",
    "SELECT channel, edits FROM hourly \\gdesc",
    "\\connect anabranch",
];

/// Runs a script of commands, one a line.
fn run(served: &Served, psql: &Path, commands: &[String]) -> Output {
    let mut child = Command::new(psql)
        .args(["-X", "-h", "127.0.0.1", "-U", "tester", "-d", "anabranch", "-f", "-"])
        .args(["-p", &served.port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql can be run");
    let mut input = child.stdin.take().expect("it is piped");
    let script = commands.join("\n");
    let writing = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = child.wait_with_output().expect("psql ends");
    writing.join().expect("the writer ends").expect("psql reads its script");
    output
}

pub fn all_are_answered(served: &Served, psql: &Path) {
    let help = super::printed(&clients::ask_psql(psql, served.port, &["-c", "\\?"]));
    let listed = listed(&help);
    for known in ["d", "dAp", "dX", "dconfig", "dp", "dt", "l", "z"] {
        assert!(
            listed.iter().any(|(name, _)| name == known),
            "\\{known} is not in {listed:?}"
        );
    }
    let commands: Vec<String> = listed
        .iter()
        .flat_map(|(name, modifiers)| spellings(name, modifiers))
        .chain(MORE.map(str::to_owned))
        .collect();
    let output = run(served, psql, &commands);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // psql says by its line which command has failed: psql:<stdin>:12: ERROR:  …
    let failed: Vec<String> = said
        .lines()
        .filter(|line| line.contains("ERROR:") || line.contains("FATAL:") || line.contains("invalid command"))
        .map(|line| {
            let number = line.split(':').nth(2).and_then(|number| number.parse::<usize>().ok());
            let command = number.and_then(|number| commands.get(number - 1));
            format!("{}: {line}", command.map_or("?", String::as_str))
        })
        .collect();
    assert!(
        failed.is_empty(),
        "of {} commands:\n{}",
        commands.len(),
        failed.join("\n")
    );
    assert!(commands.len() > 250, "{} commands", commands.len());

    let shown = |command: &str| super::printed(&clients::ask_psql(psql, served.port, &["-c", command]));
    for (command, parts) in [
        (
            "\\d+ hourly",
            &["View \"public.hourly\"", "GROUP BY channel, hour", "extended"][..],
        ),
        (
            "\\sv hourly",
            &["CREATE OR REPLACE VIEW public.hourly", "GROUP BY channel, hour"],
        ),
        ("\\dt+ anabranch.*", &["coverage", "permanent", "(6 rows)"]),
        ("\\l+", &["anabranch", "UTF"]),
        ("\\dn+", &["anabranch", "public", "(2 rows)"]),
        ("\\dconfig server_version_num", &["160006", "(1 row)"]),
        ("\\dX", &["Ndistinct", "(0 rows)"]),
        ("\\dAp btree integer_ops", &["btint8cmp", "integer_ops"]),
        ("\\dFp+", &["prsd_start"]),
        ("\\df lower", &["pg_catalog", "lower"]),
    ] {
        let printed = shown(command);
        assert!(parts.iter().all(|part| printed.contains(part)), "{command}: {printed}");
    }
}

/// What is typed before Tab; empty where nothing has to come of it but no error either.
const TYPED: [(&str, &str); 34] = [
    ("SELECT * FROM hou", "hourly"),
    ("SELECT * FROM public.hou", "public.hourly"),
    ("SELECT * FROM anabranch.cov", "anabranch.coverage"),
    ("SELECT * FROM information_schema.tabl", "information_schema.table"),
    ("SELECT edits FROM hourly WHERE avera", "average"),
    ("SELECT edits FROM hourly ORDER BY chan", "channel"),
    ("SELECT 1 FROM totals JOIN edits_per", "edits_per_channel"),
    ("TABLE hou", "hourly"),
    ("\\d hou", "hourly"),
    ("\\dv hou", "hourly"),
    ("\\dt anabranch.cov", "anabranch.coverage"),
    ("\\dn anab", "anabranch"),
    ("\\sv hou", "hourly"),
    ("\\sf lowe", "lower"),
    ("\\df lowe", "lower"),
    ("\\dT timestampt", "timestamptz"),
    ("\\connect anab", "anabranch"),
    ("SET application_na", "application_name"),
    ("SHOW server_version_n", "server_version_num"),
    ("RESET statement_time", "statement_timeout"),
    ("SET timezone TO UT", "UTC"),
    ("SET timezone TO 'UT", "'UTC'"),
    ("SET search_path TO pub", "public"),
    ("EXPLAIN SELECT * FROM tot", "totals"),
    ("WITH x AS (SELECT * FROM tot", "totals"),
    ("\\dAo btree integer_o", "integer_ops"),
    ("\\dX ", ""),
    ("\\dew ", ""),
    ("\\dRs ", ""),
    ("\\dF ", ""),
    ("ALTER TABLE hourly DROP CONSTRAINT ", ""),
    ("CREATE INDEX ON hourly (chan", "channel"),
    ("GRANT SELECT ON tot", "totals"),
    ("DROP INDEX ", ""),
];

pub fn names_are_completed(served: &Served, python: &Path, psql: &Path) {
    let script = include_str!("../clients/psql_completion.py");
    let psql = psql.to_str().expect("a plain path");
    let mut session = python::Dialogue::start(python, script, &[psql, &served.port.to_string()]);
    // psql says nothing of queries that fail while it completes; the server counts them.
    let errors = || {
        let metrics = served.dev.http().get("/metrics").text();
        let told = metrics
            .lines()
            .filter(|line| line.starts_with("anabranch_postgres_errors_total"));
        told.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let before = errors();
    for (typed, expected) in TYPED {
        let answer = session.ask(&json!({"typed": typed}));
        let shown = answer["shown"].as_str().expect("a text");
        assert!(shown.contains(expected), "{typed:?} becomes {shown:?}");
        assert_eq!(errors(), before, "{typed:?}");
    }
}
