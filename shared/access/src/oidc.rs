//! Tokens of an identity provider (OpenID Connect): JWTs that are checked against its published keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_runtime::OidcSettings;
use arc_swap::ArcSwapOption;
use chrono::Utc;
use parking_lot::Mutex;
use serde_json::Value;

use crate::error::{Denied, Error};
use crate::principal::{Principal, Role, ViewPatterns};
use jwt::{Invalid, Key};

mod jwt;

/// Keys are fetched again after this long, so that a key that was withdrawn stops counting.
const KEYS_LIFETIME: Duration = Duration::from_secs(3600);
/// A key that is not known makes us fetch again, at most this often: strangers can name any key.
const FETCH_AGAIN: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// A document of keys beyond this is none.
const LARGEST_KEYS: usize = 1 << 20;

/// Whom a genuine token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) principal: Principal,
    /// Seconds since 1970.
    pub(crate) expires: i64,
}

/// Checks an identity provider's tokens.
#[derive(Debug)]
pub(crate) struct Oidc {
    settings: OidcSettings,
    keys: ArcSwapOption<Keys>,
    /// When keys were last asked for.
    asked: Mutex<Option<Instant>>,
    fetching: tokio::sync::Mutex<()>,
    client: reqwest::Client,
}

#[derive(Debug)]
struct Keys {
    set: Vec<Key>,
    since: Instant,
}

impl Oidc {
    /// Keys in a file are read at once; those at a URL when they are first needed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn new(settings: &OidcSettings) -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Client(error.to_string()))?;
        let oidc = Self {
            settings: settings.clone(),
            keys: ArcSwapOption::empty(),
            asked: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            client,
        };
        if let Some(path) = &settings.jwks_file {
            oidc.keep(of_file(path).map_err(|reason| Error::Keys {
                path: PathBuf::from(path),
                reason,
            })?);
        }
        Ok(oidc)
    }

    /// Whom the token names, if the provider signed it for us and it is its time.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Known, Denied> {
        let header = jwt::header(token).ok_or(Denied::Unknown)?;
        let key = self.key(header.kid.as_deref(), &header.alg).await?;
        let (issuer, audience) = (&self.settings.issuer, &self.settings.audience);
        let ours = (
            issuer.as_deref().ok_or(Denied::Unknown)?,
            audience.as_deref().ok_or(Denied::Unknown)?,
        );
        let claims = jwt::claims(token, &key, ours, Utc::now()).map_err(|invalid| match invalid {
            Invalid::Unknown => Denied::Unknown,
            Invalid::Expired => Denied::Expired,
        })?;
        let expires = claims["exp"].as_f64().ok_or(Denied::Unknown)? as i64;
        let principal = principal(&self.settings, &claims)?;
        Ok(Known { principal, expires })
    }

    /// The provider's key of this id. One that is not known may be new.
    async fn key(&self, kid: Option<&str>, algorithm: &str) -> Result<Key, Denied> {
        if let Some(keys) = self.keys.load_full()
            && keys.since.elapsed() < KEYS_LIFETIME
            && let Some(key) = find(&keys.set, kid, algorithm)
        {
            return Ok(key.clone());
        }
        self.fetch().await?;
        let keys = self.keys.load_full().ok_or(Denied::Unknown)?;
        find(&keys.set, kid, algorithm).cloned().ok_or(Denied::Unknown)
    }

    /// Reads the keys anew, unless that was done a moment ago. Keys that are held stay when the provider does not answer.
    async fn fetch(&self) -> Result<(), Denied> {
        let _fetching = self.fetching.lock().await;
        {
            let mut asked = self.asked.lock();
            if asked.is_some_and(|asked| asked.elapsed() < FETCH_AGAIN) {
                return Ok(());
            }
            *asked = Some(Instant::now());
        }
        let read = match (&self.settings.jwks_file, &self.settings.jwks_url) {
            (Some(path), _) => of_file(path),
            (None, Some(url)) => self.of_url(url).await,
            (None, None) => return Ok(()),
        };
        match read {
            Ok(set) => {
                self.keep(set);
                Ok(())
            }
            Err(reason) => {
                tracing::warn!(reason, "the keys of the identity provider cannot be read");
                match self.keys.load().is_some() {
                    true => Ok(()),
                    false => Err(Denied::Unavailable {
                        reason: "the identity provider's keys cannot be read".to_owned(),
                    }),
                }
            }
        }
    }

    async fn of_url(&self, url: &str) -> Result<Vec<Key>, String> {
        let answer = self.client.get(url).send().await.map_err(|error| error.to_string())?;
        let mut answer = answer.error_for_status().map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
            if body.len() + chunk.len() > LARGEST_KEYS {
                return Err(format!("more than {LARGEST_KEYS} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Key::parse_set(&body)
    }

    fn keep(&self, set: Vec<Key>) {
        let since = Instant::now();
        self.keys.store(Some(Arc::new(Keys { set, since })));
    }
}

fn of_file(path: &Path) -> Result<Vec<Key>, String> {
    Key::parse_set(&std::fs::read(path).map_err(|error| error.to_string())?)
}

/// The key to check a signature with. A token that names no key is checked only where there is no choice.
fn find<'k>(set: &'k [Key], kid: Option<&str>, algorithm: &str) -> Option<&'k Key> {
    let mut keys = set.iter().filter(|key| key.fits(algorithm));
    match kid {
        Some(kid) => keys.find(|key| key.kid.as_deref() == Some(kid)),
        None => keys.next().filter(|_| keys.next().is_none()),
    }
}

/// Name, role and views, as the claims say. The roles of several values are not added up: the highest counts.
fn principal(settings: &OidcSettings, claims: &Value) -> Result<Principal, Denied> {
    let name = texts(claims, &settings.name_claim)
        .into_iter()
        .next()
        .ok_or_else(|| Denied::NoRole {
            reason: format!("claim {} is missing", settings.name_claim),
        })?;
    let granted = texts(claims, &settings.role_claim);
    let of_value = |value: &String| match settings.roles.get(value) {
        Some(role) => role.parse::<Role>().ok(),
        // Without a table of their own, values are our roles' names.
        None if settings.roles.is_empty() => value.parse::<Role>().ok(),
        None => None,
    };
    let rank = |role: &Role| match role {
        Role::Read => 0,
        Role::Ingest => 1,
        Role::Admin => 2,
    };
    let role = granted
        .iter()
        .filter_map(of_value)
        .max_by_key(rank)
        .ok_or_else(|| Denied::NoRole {
            reason: format!("claim {} names none", settings.role_claim),
        })?;
    let views = ViewPatterns::new(
        texts(claims, &settings.views_claim)
            .iter()
            .flat_map(|text| text.split([',', ' '])),
    );
    Ok(Principal::new(&printable(&name), role, views))
}

/// The texts of a claim: one, or a list. A dot in the name goes into an object, as in `realm_access.roles`; a claim that has
/// the whole name comes first, since names may be URLs.
fn texts(claims: &Value, name: &str) -> Vec<String> {
    let found = claims.get(name).or_else(|| {
        name.split('.')
            .try_fold(claims, |value, part| value.get(part))
            .filter(|_| name.contains('.'))
    });
    match found {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => values
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

/// A name goes into logs: no line breaks, no escape sequences, no end.
fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '_' } else { c })
        .take(128)
        .collect()
}

#[cfg(test)]
mod tests;
