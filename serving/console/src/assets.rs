//! The files of the console, as part of the binary.

use std::io::Write;
use std::sync::LazyLock;

use axum::http::HeaderValue;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// One file, ready to be sent.
pub(crate) struct Asset {
    path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) bytes: &'static [u8],
    pub(crate) gzip: Vec<u8>,
    pub(crate) etag: HeaderValue,
}

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        /// Path below `/console/`, and content.
        const FILES: &[(&str, &[u8])] = &[$(($path, include_bytes!(concat!("../assets/", $path)))),+];
    };
}

files![
    "index.html",
    "app.css",
    "logo.svg",
    "js/api.js",
    "js/axis.js",
    "js/chart.js",
    "js/dom.js",
    "js/format.js",
    "js/live.js",
    "js/main.js",
    "js/status.js",
    "js/ui.js",
    "js/who.js",
    "js/pages/deadletters.js",
    "js/pages/overview.js",
    "js/pages/query.js",
    "js/pages/runs.js",
    "js/pages/topology.js",
    "js/pages/view.js",
    "js/pages/views.js",
    "vendor/LICENSES.txt",
    "vendor/editor.js",
    "vendor/uplot.css",
    "vendor/uplot.js",
];

/// Compressed when the first page is asked for.
static ASSETS: LazyLock<Vec<Asset>> =
    LazyLock::new(|| FILES.iter().map(|(path, bytes)| prepare(path, bytes)).collect());

/// The file at a path below `/console/`.
pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

fn prepare(path: &'static str, bytes: &'static [u8]) -> Asset {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    let gzip = encoder.write_all(bytes).map(|()| encoder).and_then(GzEncoder::finish);
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    Asset {
        path,
        content_type: content_type(path),
        bytes,
        gzip: gzip.expect("writing to a Vec cannot fail"),
        etag: HeaderValue::try_from(format!("\"{hex}\"")).expect("hex digits are ASCII"),
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}
