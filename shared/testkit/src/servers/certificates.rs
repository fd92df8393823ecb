//! An authority of one test's own, and certificates of it for the loopback address.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    dir: PathBuf,
    /// The authority's certificate: what clients must trust.
    pub authority: PathBuf,
    /// The server's private key and its certificate, in one file.
    pub server: PathBuf,
}

impl Certificates {
    /// Makes them in `dir`, valid for two days.
    ///
    /// # Errors
    /// Why `openssl` does not make them.
    pub fn make(dir: &Path) -> Result<Self, String> {
        openssl(
            dir,
            &[
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
            ],
        )?;
        let mut made = Self {
            dir: dir.to_owned(),
            authority: dir.join("authority.pem"),
            server: PathBuf::new(),
        };
        made.server = made.issue("server")?;
        Ok(made)
    }

    /// One more key with a certificate, for servers and clients on the loopback address, valid for two days: `<name>.pem`, which
    /// is replaced if it is there.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn issue(&self, name: &str) -> Result<PathBuf, String> {
        self.issue_for(name, 2)
    }

    /// As [`issue`](Self::issue), valid for so many days.
    ///
    /// # Errors
    /// As [`make`](Self::make).
    pub fn issue_for(&self, name: &str, days: u32) -> Result<PathBuf, String> {
        let file = |extension: &str| format!("{name}.{extension}");
        let at = |extension: &str| self.dir.join(file(extension));
        openssl(
            &self.dir,
            &[
                "req",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &file("key"),
                "-out",
                &file("csr"),
            ],
        )?;
        write(&at("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")?;
        openssl(
            &self.dir,
            &[
                "x509",
                "-req",
                "-in",
                &file("csr"),
                "-CA",
                "authority.pem",
                "-CAkey",
                "authority.key",
                "-CAcreateserial",
                "-days",
                &days.to_string(),
                "-extfile",
                &file("ext"),
                "-out",
                &file("crt"),
            ],
        )?;
        let read = |extension: &str| {
            fs::read_to_string(at(extension)).map_err(|error| format!("read {}: {error}", file(extension)))
        };
        // In one step: whoever reads it meanwhile finds a key and the certificate that belongs to it.
        let new = at("new");
        write(&new, &(read("key")? + &read("crt")?))?;
        fs::rename(&new, at("pem")).map_err(|error| format!("rename to {}: {error}", file("pem")))?;
        Ok(at("pem"))
    }
}

fn openssl(dir: &Path, args: &[&str]) -> Result<(), String> {
    run(Command::new("openssl").args(args).current_dir(dir))
        .map(drop)
        .map_err(|reason| format!("certificates need openssl: {reason}"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
}
