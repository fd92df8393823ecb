//! `[access]`, `[tls]` and `[oidc]`: who may come in, and how connections are secured.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::HumanDuration;

/// A text that is never shown: `***` wherever it is printed or serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever must use it. It goes into no message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// `[access]`: who may do what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccessSettings {
    /// `open` lets everybody do everything: for a platform that only its own machine can reach. `tokens` asks for a token
    /// (`anabranch token create`), or for one of `[oidc]`, on every route but `/healthz` and `/readyz`. Default `open`.
    pub mode: AccessMode,
    /// Listen on addresses that other machines can reach although access is open or connections are not encrypted: for a
    /// network that something else secures. Default `false`: such an address is refused.
    pub insecure: bool,
    /// How often services look for new tokens and revocations: a revoked token counts no more after this. Default `2s`.
    pub refresh: HumanDuration,
    /// What services sign requests to each other with, the same for all of a site; at least 32 characters. By default the
    /// first service leaves a key in the object store, below `access/`, which then nobody else should be able to read.
    pub service_key: Option<Secret>,
    /// How long a console session lasts at most. Default `12h`.
    pub session: HumanDuration,
    /// Whether `/metrics` answers without a token. Default `false`.
    pub open_metrics: bool,
    /// Requests per second that one principal may make on average, with bursts of ten seconds' worth; 0 sets no limit.
    /// Default 0.
    pub requests_per_second: u32,
    /// Requests with a wrong credential that one address may make per minute before it is told to wait. Default 60.
    pub failures_per_minute: u32,
    /// Where administrators' actions are recorded, besides the log: `store` keeps them in the object store, below
    /// `access/audit/`; `log` keeps them nowhere else. Default `store`; with open access `log`.
    pub audit: AuditTo,
    /// How long records of the audit log are kept in the object store, by whole days: the batch service that leads removes older
    /// ones when it vacuums. Default: for ever.
    pub audit_retention: Option<HumanDuration>,
    /// A local file that every record of the audit log is appended to as well, as a line of JSON.
    pub audit_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    #[default]
    Open,
    Tokens,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditTo {
    #[default]
    Store,
    Log,
}

/// `[tls]`: one certificate for every port of a process. Files are PEM, relative to the configuration folder, and read again
/// when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsSettings {
    /// The certificate, followed by those between it and its authority. TLS is off without it.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The authority of services' certificates: the ports of the speed and the batch layer then take no connection without
    /// one. They show `cert` to each other, so it must be good for clients too.
    pub client_ca: Option<PathBuf>,
    /// The authorities that vouch for other services when this one calls them. Default: `client_ca`, else the machine's.
    pub ca: Option<PathBuf>,
}

impl TlsSettings {
    pub fn is_on(&self) -> bool {
        self.cert.is_some()
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.is_on() { "https" } else { "http" }
    }
}

/// `[oidc]`: tokens of an identity provider (OpenID Connect), beside our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OidcSettings {
    /// What `iss` must be. The identity provider is not asked without it.
    pub issuer: Option<String>,
    /// What `aud` must be, or contain.
    pub audience: Option<String>,
    /// Where the provider publishes its keys (a JWKS).
    pub jwks_url: Option<String>,
    /// A file with its keys instead.
    pub jwks_file: Option<PathBuf>,
    /// The claim that names the principal. Default `sub`.
    pub name_claim: String,
    /// The claim that holds its role, or a list; the highest counts. A dot goes into an object. Default `anabranch_role`.
    pub role_claim: String,
    /// The claim that holds the views it may see, as a list or with commas between. Default `anabranch_views`.
    pub views_claim: String,
    /// Values of the role claim and what they mean: `analysts = "read"`. Without any, values are `read`, `ingest`, `admin`.
    pub roles: BTreeMap<String, String>,
}

impl OidcSettings {
    pub fn is_set(&self) -> bool {
        self.issuer.is_some()
    }
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            mode: AccessMode::default(),
            insecure: false,
            refresh: Duration::from_secs(2).into(),
            service_key: None,
            session: Duration::from_secs(12 * 3600).into(),
            open_metrics: false,
            requests_per_second: 0,
            failures_per_minute: 60,
            audit: AuditTo::default(),
            audit_retention: None,
            audit_file: None,
        }
    }
}

impl Default for OidcSettings {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            jwks_url: None,
            jwks_file: None,
            name_claim: "sub".into(),
            role_claim: "anabranch_role".into(),
            views_claim: "anabranch_views".into(),
            roles: BTreeMap::new(),
        }
    }
}

/// What of the three sections does not go together, as a sentence.
pub(super) fn refusal(access: &AccessSettings, tls: &TlsSettings, oidc: &OidcSettings) -> Option<String> {
    if tls.cert.is_some() != tls.key.is_some() {
        return Some("`tls.cert` and `tls.key` belong together: set both, or neither".into());
    }
    if tls.client_ca.is_some() && tls.cert.is_none() {
        return Some("`tls.client_ca` needs `tls.cert` and `tls.key`".into());
    }
    if access.refresh.is_zero() || access.session.is_zero() {
        return Some("`access.refresh` and `access.session` must be longer than nothing, for example \"2s\"".into());
    }
    if *access.session > Duration::from_secs(366 * 24 * 3600) {
        return Some("`access.session` must be a year at most".into());
    }
    if oidc.is_set() {
        if access.mode == AccessMode::Open {
            return Some("`oidc.issuer` is set, but `access.mode` is open: set it to \"tokens\"".into());
        }
        if oidc.audience.is_none() {
            return Some("`oidc.audience` is missing: without it tokens for other services would count here".into());
        }
        match (&oidc.jwks_url, &oidc.jwks_file) {
            (Some(url), None) if !url.starts_with("https://") && !is_local(url) => {
                return Some(format!("`oidc.jwks_url` is `{url}`, but keys must come over https://"));
            }
            (Some(_), None) | (None, Some(_)) => {}
            _ => return Some("set either `oidc.jwks_url` or `oidc.jwks_file`: where the provider's keys are".into()),
        }
    }
    let wrong = oidc
        .roles
        .iter()
        .find(|(_, role)| !matches!(role.as_str(), "read" | "ingest" | "admin"));
    wrong.map(|(value, role)| format!("`oidc.roles.{value}` is `{role}`; roles are read, ingest and admin"))
}

/// Whether a URL is of this machine, where nobody is between.
fn is_local(url: &str) -> bool {
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    host.and_then(|host| host.rsplit_once(':').map_or(Some(host), |(host, _)| Some(host)))
        .is_some_and(|host| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

/// Makes paths absolute, below `dir` where they are relative.
pub(super) fn resolve(access: &mut AccessSettings, tls: &mut TlsSettings, oidc: &mut OidcSettings, dir: &Path) {
    let paths = [
        &mut access.audit_file,
        &mut tls.cert,
        &mut tls.key,
        &mut tls.client_ca,
        &mut tls.ca,
        &mut oidc.jwks_file,
    ];
    for path in paths.into_iter().flatten() {
        *path = dir.join(&*path);
    }
}

#[cfg(test)]
mod tests;
