//! The real events beside the workspace, read in place.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::gate;

pub const WIKIPEDIA: &str = "wikipedia-edits-2015-09-12.ndjson.gz";
pub const FLIGHTS: &str = "flights-3m.parquet";
pub const EXAMPLES: &str = "examples.json";

/// A data file; `None`, and a loud word, where it is not there.
#[track_caller]
pub fn file(test: &str, name: &str) -> Option<PathBuf> {
    let path = workspace().join("../shared/data").join(name);
    if path.is_file() {
        return Some(path);
    }
    gate::skip(test, &format!("{} is not there", path.display()));
    None
}

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .expect("this package lies two folders below the workspace")
        .to_owned()
}

/// The lines of a file, plain or gzip.
///
/// # Panics
/// When it cannot be read.
pub fn lines(path: &Path) -> Vec<String> {
    let file = File::open(path).expect("the data file can be opened");
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    let reader: Box<dyn Read> = if zipped {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    BufReader::new(reader)
        .lines()
        .map(|line| line.expect("the data file is text"))
        .collect()
}

/// A file of lines, parsed.
///
/// # Panics
/// When a line is no JSON.
pub fn events(path: &Path) -> Vec<Value> {
    lines(path)
        .iter()
        .map(|line| serde_json::from_str(line).expect("the data file is NDJSON"))
        .collect()
}

/// Lines as the body of a request.
pub fn ndjson<L: AsRef<[u8]>>(lines: impl IntoIterator<Item = L>) -> Vec<u8> {
    lines.into_iter().fold(Vec::new(), |mut body, line| {
        body.extend_from_slice(line.as_ref());
        body.push(b'\n');
        body
    })
}
