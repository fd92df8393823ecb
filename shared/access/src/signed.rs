//! What services sign for each other, and for a browser that has logged in: short-lived, and checked without a look-up.
//!
//! The text is `abs1.<claims>.<signature>`, both parts in base64, signed with HMAC-SHA-256 under a key that all services of a
//! site share. The key is `[access] service_key`, or one that the first service leaves in the object store.

use anabranch_dataset::Store;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Duration, Utc};
use object_store::path::Path;
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::error::{Denied, Error};
use crate::principal::Principal;
use crate::token::random;

/// What every signed text begins with.
pub(crate) const PREFIX: &str = "abs1.";
const KEY: &str = "access/site-key.json";
/// Bytes that a configured key must have at least.
const SHORTEST_KEY: usize = 32;

/// What a signature is good for; one kind is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Use {
    /// One service asks another, for itself or for somebody whose right it has checked.
    Service,
    /// The cookie of a console.
    Session,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) kind: Use,
    pub(crate) principal: Principal,
    /// The token that a session began with: it ends when the token counts no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Names a session, so that it can be ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    /// Seconds since 1970.
    pub(crate) expires: i64,
}

/// The key that the services of a site share.
#[derive(Clone)]
pub(crate) struct SiteKey(hmac::Key);

impl std::fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SiteKey(***)")
    }
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    key: String,
    created_at: DateTime<Utc>,
}

impl SiteKey {
    /// From a setting.
    ///
    /// # Errors
    /// When it is too short to be a key.
    pub(crate) fn of_setting(text: &str) -> Result<Self, Error> {
        if text.len() < SHORTEST_KEY {
            return Err(Error::ShortKey { least: SHORTEST_KEY });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    /// The key in the store; the first service of a site makes it.
    ///
    /// # Errors
    /// When the store does not answer, or what is there is no key.
    pub(crate) async fn of_store(store: &Store) -> Result<Self, Error> {
        let path = Path::from(KEY);
        let bytes = match store.read(&path).await? {
            Some(bytes) => bytes,
            None => {
                let file = KeyFile {
                    key: BASE64_STANDARD.encode(random::<32>()?),
                    created_at: store.environment().now(),
                };
                let bytes = serde_json::to_vec(&file).expect("a key file is plain data");
                // Whoever came first, theirs counts.
                store.create(&path, bytes.into()).await?;
                store.read(&path).await?.ok_or(Error::NoKey)?
            }
        };
        let file: KeyFile = serde_json::from_slice(&bytes).map_err(|_| Error::NoKey)?;
        let key = BASE64_STANDARD.decode(file.key).map_err(|_| Error::NoKey)?;
        if key.len() < SHORTEST_KEY {
            return Err(Error::NoKey);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    pub(crate) fn hmac(&self) -> &hmac::Key {
        &self.0
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let claims = serde_json::to_vec(claims).expect("claims are plain data");
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
        let signature = hmac::sign(&self.0, claims.as_bytes());
        format!("{PREFIX}{claims}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// The claims of a text that was signed with this key, for this use, and has not expired.
    pub(crate) fn verify(&self, text: &str, kind: Use, now: DateTime<Utc>) -> Result<Claims, Denied> {
        let unknown = || Denied::Unknown;
        let (claims, signature) = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('.'))
            .ok_or_else(unknown)?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| unknown())?;
        // Compares in constant time.
        hmac::verify(&self.0, claims.as_bytes(), &signature).map_err(|_| unknown())?;
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).map_err(|_| unknown())?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| unknown())?;
        if claims.kind != kind {
            return Err(unknown());
        }
        if claims.expires <= now.timestamp() {
            return Err(Denied::Expired);
        }
        Ok(claims)
    }
}

/// The end of what is signed now for so long, in seconds since 1970.
pub(crate) fn expiry(now: DateTime<Utc>, lifetime: Duration) -> i64 {
    (now + lifetime).timestamp()
}

#[cfg(test)]
mod tests;
