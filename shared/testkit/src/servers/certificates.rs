//! An authority of one test's own, and a certificate of it for the loopback address.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

/// Files in PEM.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    /// The authority's certificate: what clients must trust.
    pub(super) authority: PathBuf,
    /// The server's private key and its certificate, in one file.
    pub(super) server: PathBuf,
}

impl Certificates {
    /// Makes them in `dir`, valid for two days.
    pub(super) fn make(dir: &Path) -> Result<Self, String> {
        let file = |name: &str| dir.join(name);
        let openssl = |args: &[&str]| {
            run(Command::new("openssl").args(args).current_dir(dir))
                .map(drop)
                .map_err(|reason| format!("certificates need openssl: {reason}"))
        };
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=anabranch test authority",
            "-keyout",
            "authority.key",
            "-out",
            "authority.pem",
        ])?;
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=127.0.0.1",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ])?;
        write(&file("server.ext"), "subjectAltName=IP:127.0.0.1\n")?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "authority.pem",
            "-CAkey",
            "authority.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "server.ext",
            "-out",
            "server.crt",
        ])?;
        let read = |name: &str| fs::read_to_string(file(name)).map_err(|error| format!("read {name}: {error}"));
        write(&file("server.pem"), &(read("server.key")? + &read("server.crt")?))?;
        Ok(Self {
            authority: file("authority.pem"),
            server: file("server.pem"),
        })
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
}
