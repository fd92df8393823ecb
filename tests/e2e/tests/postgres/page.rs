//! The commands of `docs/sql-clients.md`, run as they stand there; only ports are others.

use std::path::Path;
use std::process::Command;

use anabranch_e2e::data::workspace;
use anabranch_e2e::{clients, python};

use super::Served;

/// Fenced blocks of the page: what they are, and their text.
fn blocks(served: &Served) -> Vec<(String, String)> {
    let page = std::fs::read_to_string(workspace().join("docs/sql-clients.md")).expect("the page is there");
    let page = page
        .replace("127.0.0.1:5432", &format!("127.0.0.1:{}", served.port))
        .replace("-p 5432", &format!("-p {}", served.port))
        .replace("port=5432", &format!("port={}", served.port))
        .replace("127.0.0.1:32010", &format!("127.0.0.1:{}", served.flight_sql));
    let fenced = page.split("```").skip(1).step_by(2);
    let block = |block: &str| {
        let (kind, text) = block.split_once('\n').expect("a block has a first line");
        (kind.to_owned(), text.to_owned())
    };
    fenced.map(block).collect()
}

pub fn psql_runs_what_stands_there(served: &Served, psql: &Path) {
    let mut ran = 0;
    for (kind, text) in blocks(served) {
        match kind.as_str() {
            "sh" => {
                let folder = psql.parent().filter(|folder| !folder.as_os_str().is_empty());
                let path = std::env::var("PATH").unwrap_or_default();
                let path = folder.map_or(path.clone(), |folder| format!("{}:{path}", folder.display()));
                let output = Command::new("sh").args(["-ec", &text]).env("PATH", path).output();
                let printed = super::printed(&output.expect("there is a shell"));
                assert!(printed.contains("row"), "{text}: {printed}");
            }
            "sql" => {
                super::printed(&clients::ask_psql(
                    psql,
                    served.port,
                    &["-v", "ON_ERROR_STOP=1", "-c", &text],
                ));
            }
            _ => continue,
        }
        ran += 1;
    }
    assert!(ran >= 3, "the page has commands");
}

pub fn python_runs_what_stands_there(served: &Served, python: &Path) {
    let scripts: Vec<String> = blocks(served)
        .into_iter()
        .filter_map(|(kind, text)| (kind == "python").then_some(text))
        .collect();
    assert_eq!(scripts.len(), 3, "psycopg, SQLAlchemy, ADBC");
    for script in scripts {
        let printed = python::script(python, &script, &[]).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert!(!printed.trim().is_empty(), "{script}");
    }
}
