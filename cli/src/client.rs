//! A small client of the HTTP API, for the commands that talk to a running platform.

use std::pin::pin;
use std::time::Duration;

use anabranch_access::{Calls, Patience, Perimeter, Unanswered};
use anabranch_dataset::Store;
use anabranch_runtime::http::ApiError;
use anabranch_runtime::tls::{self, Tls};
use anabranch_runtime::{Settings, TlsSettings};
use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::args::{Credentials, Health, Remote};

/// That of services with each other, but for the way to the platform, which may be longer.
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(10),
    ..Patience::DEFAULT
};

/// Talks to one serving layer.
#[derive(Clone, Debug)]
pub struct Client {
    calls: Calls,
    base: String,
}

impl Client {
    /// # Errors
    /// When `--config` names settings that cannot be read, or `--ca` an authority that cannot.
    pub fn new(remote: &Remote) -> Result<Self> {
        let settings = remote.config.as_ref().map(|dir| Settings::load(dir)).transpose();
        let (base, settings) = match (&remote.url, settings) {
            // The folder only adds an authority then; it need not have settings.
            (Some(url), settings) => (url.clone(), settings.ok().flatten()),
            (None, settings) => match settings? {
                Some(settings) => {
                    let at = reachable(&settings.serving.listen);
                    (format!("{}://{at}", settings.tls.scheme()), Some(settings))
                }
                None => ("http://127.0.0.1:8080".into(), None),
            },
        };
        let tls = settings.map(|settings| settings.tls).unwrap_or_default();
        Self::with(&base, &remote.credentials, reqwest::Client::builder(), &tls)
    }

    /// As a service of the same site would ask, with its certificate.
    ///
    /// # Errors
    /// When `--config` names settings, or these files, that cannot be read.
    pub fn as_service(health: &Health) -> Result<Self> {
        let settings = health.config.as_ref().map(|dir| Settings::load(dir)).transpose()?;
        let mut builder = reqwest::Client::builder();
        let tls = settings.map(|settings| settings.tls).unwrap_or_default();
        if let Some(own) = Tls::load(&tls)?
            && health.credentials.ca.is_none()
        {
            builder = builder.use_preconfigured_tls(tls::client(&tls, Some(&own))?);
            return Self::with(&health.url, &health.credentials, builder, &TlsSettings::default());
        }
        Self::with(&health.url, &health.credentials, builder, &tls)
    }

    fn with(
        base: &str,
        credentials: &Credentials,
        mut builder: reqwest::ClientBuilder,
        tls: &TlsSettings,
    ) -> Result<Self> {
        let ca = credentials.ca.as_ref().or(tls.ca.as_ref()).or(tls.client_ca.as_ref());
        if let Some(path) = ca {
            let pem = std::fs::read(path).with_context(|| format!("{}: cannot read", path.display()))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem);
            for authority in authorities.with_context(|| format!("{}: no certificate in PEM", path.display()))? {
                builder = builder.add_root_certificate(authority);
            }
        }
        if let Some(token) = &credentials.token {
            // What cannot stand in a header is no token; it is not repeated.
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim()));
            let mut value = value.ok().context("the token has characters that no token has")?;
            value.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
        }
        let calls = Calls::new(builder, PATIENCE).context("no HTTP client")?;
        Ok(Self {
            calls,
            base: full(base),
        })
    }

    /// A client of the serving layer at `base`, such as `http://127.0.0.1:8080`.
    pub fn at(base: &str) -> Self {
        let calls = Calls::new(reqwest::Client::builder(), PATIENCE);
        Self {
            calls: calls.expect("a client without settings of its own can be made"),
            base: full(base),
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// GETs a path and reads the JSON answer.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.json(self.calls.client().get(format!("{}{path}", self.base))).await
    }

    /// POSTs JSON and reads the JSON answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(self.calls.client().post(format!("{}{path}", self.base)).json(body))
            .await
    }

    /// DELETEs a path and reads the JSON answer.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.json(self.calls.client().delete(format!("{}{path}", self.base)))
            .await
    }

    /// POSTs a text and reads the JSON answer.
    pub async fn post_text(&self, path: &str, body: String) -> Result<Value> {
        self.json(self.calls.client().post(format!("{}{path}", self.base)).body(body))
            .await
    }

    /// Asks a SQL question; `accept` is the media type of the answer.
    pub async fn sql(&self, body: &Value, accept: &str) -> Result<String> {
        let request = self
            .calls
            .client()
            .post(format!("{}/v1/sql", self.base))
            .json(body)
            .header("accept", accept);
        Ok(String::from_utf8_lossy(&self.send(request).await?).into_owned())
    }

    /// Sends one chunk of NDJSON. Lines that do not decode are kept as dead letters.
    pub async fn ingest(&self, table: &str, key: Option<&str>, lines: Vec<u8>) -> Result<Value> {
        let mut url = format!("{}/v1/ingest/{}?on_invalid=dead_letter", self.base, encoded(table));
        if let Some(key) = key {
            url.push_str(&format!("&key={}", encoded(key)));
        }
        let request = self
            .calls
            .client()
            .post(url)
            .header("content-type", "application/x-ndjson")
            .body(lines);
        self.json(request.timeout(Duration::from_secs(300))).await
    }

    async fn json(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let body = self.send(request).await?;
        serde_json::from_slice(&body).with_context(|| format!("{} did not answer JSON", self.base))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>> {
        let response = match self.calls.send(&self.base, request).await {
            Ok(response) => response,
            Err(Unanswered::NotReached(error)) => {
                return Err(error).with_context(|| {
                    format!(
                        "nothing answers at {}; is `anabranch dev` or `anabranch serve` running? (--url names another)",
                        self.base
                    )
                });
            }
            Err(Unanswered::Unclear(why)) => {
                bail!(
                    "{} does not answer, and what it was asked may still take effect: {why}",
                    self.base
                )
            }
        };
        let status = response.status();
        let mut body = Vec::new();
        let mut pieces = pin!(self.calls.body(response));
        while let Some(piece) = pieces.try_next().await? {
            body.extend_from_slice(&piece);
        }
        if !status.is_success() {
            match ApiError::parse(status.as_u16(), &body) {
                Some(error) => bail!("{error}"),
                None => bail!("{} answered {status}: {}", self.base, String::from_utf8_lossy(&body)),
            }
        }
        Ok(body)
    }
}

/// A client that asks as a service of the site would, for whoever holds its settings and its store.
///
/// # Errors
/// When `[tls]` cannot be used, or the store does not answer.
pub async fn of_site(settings: &Settings, store: &Store, timeout: Duration) -> Result<reqwest::Client> {
    let caller = Perimeter::start(settings, store, "cli").await?.caller();
    let mut builder = caller.http().timeout(timeout);
    if let Some(value) = caller.authorization() {
        builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
    }
    builder.build().context("no HTTP client")
}

fn full(base: &str) -> String {
    let base = base.trim_end_matches('/');
    match base.contains("://") {
        true => base.into(),
        false => format!("http://{base}"),
    }
}

/// An address that a client on this machine can reach: a wildcard becomes loopback.
pub fn reachable(listen: &str) -> String {
    listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
}

/// A value as part of a URL.
pub fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
