//! TLS for every listener and every call between services: one certificate per process, read again when its file changes.
//!
//! ```text
//! [tls] cert, key ──► Tls ──► Listener   (HTTP and Flight; `http::serve` takes it)
//!       client_ca      │ └──► acceptor() (other protocols, such as PostgreSQL's; asked for once per connection)
//!       ca             └────► client()   (calls to other services, with our certificate where it is asked for)
//! ```
//!
//! A connection keeps what it was opened with; a changed file counts for those that come later.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anabranch_model::ErrorKind;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use crate::{Shutdown, TlsSettings};

mod expiry;
mod listener;

pub use expiry::{Expiry, expiries};
pub use listener::{Connection, Listener, Peer};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why TLS cannot be used as the settings want it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {reason}", path = path.display())]
    File { path: PathBuf, reason: String },
    #[error("[tls] cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("[tls] client_ca cannot be used: {0}")]
    ClientAuthority(String),
    #[error("no authority is known that could vouch for other services: set `ca` in [tls]")]
    NoAuthority,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Who may connect to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Anybody: what they may do is decided by what they show then.
    Anybody,
    /// Whoever has a certificate of `client_ca`; anybody where that is not set.
    Certified,
}

/// What is spoken inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1 and HTTP/2, Flight among them.
    Http,
    Postgres,
}

impl Protocol {
    /// Names for the negotiation of protocols (RFC 7301).
    fn names(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Postgres => vec![b"postgresql".to_vec()],
        }
    }
}

/// A process's certificate, and whom it trusts. Cheap to clone; clones reload together.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: TlsSettings,
    current: ArcSwap<Material>,
    /// The files that `current` was made of.
    read: Mutex<Files>,
}

/// The files, as they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What connections are made with.
#[derive(Debug)]
struct Material {
    own: Arc<CertifiedKey>,
    http: Arc<ServerConfig>,
    /// For clients that must show a certificate, if there is an authority that could have given them one.
    certified_http: Arc<ServerConfig>,
    postgres: Arc<ServerConfig>,
    /// Until when it lasts.
    expiries: Vec<Expiry>,
}

impl Tls {
    /// Reads the files of `[tls]`; `None` where there are none.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(settings: &TlsSettings) -> Result<Option<Self>, Error> {
        let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
            return Ok(None);
        };
        let files = Files::read(cert, key, settings.client_ca.as_deref())?;
        let material = Material::of(settings, &files)?;
        material.expiries.iter().for_each(expiry::expose);
        Ok(Some(Self(Arc::new(Inner {
            settings: settings.clone(),
            current: ArcSwap::from_pointee(material),
            read: Mutex::new(files),
        }))))
    }

    /// Reads the files again if they have changed. Returns whether they had.
    ///
    /// # Errors
    /// What is wrong with which file; what was read before stays in use.
    pub fn reload(&self) -> Result<bool, Error> {
        let Inner {
            settings,
            current,
            read,
        } = &*self.0;
        let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
            return Ok(false);
        };
        let files = Files::read(cert, key, settings.client_ca.as_deref())?;
        let mut read = read.lock();
        if *read == files {
            return Ok(false);
        }
        let material = Material::of(settings, &files)?;
        material.expiries.iter().for_each(expiry::expose);
        current.store(Arc::new(material));
        *read = files;
        Ok(true)
    }

    /// Looks after the files until shutdown.
    pub async fn follow(&self, shutdown: &Shutdown) {
        let mut failing = false;
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => break,
            }
            match self.reload() {
                Ok(changed) => {
                    failing = false;
                    if changed {
                        metrics::counter!("anabranch_tls_reloads_total").increment(1);
                        tracing::info!("the certificate has changed; new connections get the new one");
                    }
                }
                Err(error) => {
                    // Certificate and key are written one after the other: the next look finds both.
                    if !failing {
                        tracing::warn!(%error, "the changed certificate cannot be used; the former one stays");
                    }
                    failing = true;
                }
            }
        }
    }

    /// Takes TLS connections as the files are now: to be asked for again for each connection.
    pub fn acceptor(&self, protocol: Protocol, clients: Clients) -> TlsAcceptor {
        let material = self.0.current.load();
        let config = match (protocol, clients) {
            (Protocol::Http, Clients::Anybody) => &material.http,
            (Protocol::Http, Clients::Certified) => &material.certified_http,
            (Protocol::Postgres, _) => &material.postgres,
        };
        TlsAcceptor::from(Arc::clone(config))
    }
}

/// How calls to other services are secured: the authorities that vouch for them, and our certificate where they ask for one.
///
/// # Errors
/// When the authority's file cannot be read, or there is none at all.
pub fn client(settings: &TlsSettings, own: Option<&Tls>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    match settings.ca.as_deref().or(settings.client_ca.as_deref()) {
        Some(path) => {
            let pem = read(path)?;
            roots = authorities(path, &pem)?;
            if settings.ca.is_some() {
                expiry::expose(&expiry::of_file("ca", path, &pem)?);
            }
        }
        None => {
            // What the machine trusts; some of it may be unreadable, which is nothing new to anybody.
            for certificate in rustls_native_certs::load_native_certs().certs {
                let _ = roots.add(certificate);
            }
        }
    }
    if roots.is_empty() && own.is_some() {
        return Err(Error::NoAuthority);
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match own {
        Some(tls) => builder.with_client_cert_resolver(Arc::new(OwnCertificate(tls.clone()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = Protocol::Http.names();
    Ok(config)
}

/// Shows our certificate, as it is now.
#[derive(Debug)]
struct OwnCertificate(Tls);

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let own = Arc::clone(&self.0.0.current.load().own);
        own.key.choose_scheme(schemes).is_some().then_some(own)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Files {
    fn read(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, Error> {
        Ok(Self {
            cert: read(cert)?,
            key: read(key)?,
            client_ca: client_ca.map(read).transpose()?,
        })
    }
}

impl Material {
    fn of(settings: &TlsSettings, files: &Files) -> Result<Self, Error> {
        let (cert, key) = (
            settings.cert.clone().unwrap_or_default(),
            settings.key.clone().unwrap_or_default(),
        );
        let chain = certificates(&cert, &files.cert)?;
        // The reason is not repeated: it must not quote a private key.
        let private = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| Error::File {
            path: key.clone(),
            reason: "there is no private key in it, in PEM".to_owned(),
        })?;
        let own = CertifiedKey::from_der(chain, private, &provider()).map_err(|error| Error::File {
            path: key,
            reason: format!("this key does not go with {}: {error}", cert.display()),
        })?;
        let own = Arc::new(own);
        let mut expiries = vec![expiry::of_file("cert", &cert, &files.cert)?];
        let authority = match (&settings.client_ca, &files.client_ca) {
            (Some(path), Some(bytes)) => {
                expiries.push(expiry::of_file("client_ca", path, bytes)?);
                Some(Arc::new(authorities(path, bytes)?))
            }
            _ => None,
        };
        Ok(Self {
            http: server(&own, Protocol::Http, None)?,
            certified_http: server(&own, Protocol::Http, authority)?,
            postgres: server(&own, Protocol::Postgres, None)?,
            own,
            expiries,
        })
    }
}

/// How connections are taken; only from clients that `authority` knows, where it is given.
fn server(
    own: &Arc<CertifiedKey>,
    protocol: Protocol,
    authority: Option<Arc<RootCertStore>>,
) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match authority {
        Some(authority) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authority, provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| Error::ClientAuthority(error.to_string()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own))));
    config.alpn_protocols = protocol.names();
    Ok(Arc::new(config))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let refuse = |reason: String| Error::File {
        path: path.to_owned(),
        reason,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| refuse(error.to_string()))?;
    if found.is_empty() {
        return Err(refuse("there is no certificate in it, in PEM".to_owned()));
    }
    Ok(found)
}

fn authorities(path: &Path, pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| Error::File {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
