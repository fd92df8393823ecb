//! A token: what its bearer shows, and what is kept of it.
//!
//! The text is `ab_<id>_<secret>`: twelve hexadecimal digits that name it, and 256 random bits. Only the hash of the text is
//! kept. A secret that nobody chose cannot be guessed from a list, so a plain SHA-256 is right where a password would need a
//! slow hash.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{Error, Principal, Role, ViewPatterns};

/// What every token begins with, so that scanners of repositories and logs can recognise one.
pub(crate) const PREFIX: &str = "ab_";
/// Iterations of the SCRAM verifier: what PostgreSQL itself takes.
const SCRAM_ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");

/// Bytes that nobody can foresee.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(bytes)
}

/// What a new token is for.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// For people, and as the user name of SQL clients. `token-<id>` when absent.
    pub name: Option<String>,
    pub role: Role,
    pub views: ViewPatterns,
    pub expires_at: Option<DateTime<Utc>>,
    /// Who asked for it.
    pub created_by: String,
}

/// What is kept of a token; nobody can make the token of it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub id: String,
    pub name: String,
    pub role: Role,
    pub views: ViewPatterns,
    pub created_at: DateTime<Utc>,
    pub created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    #[serde(with = "base64_bytes")]
    sha256: Vec<u8>,
    /// For clients that authenticate with SCRAM-SHA-256, as PostgreSQL's do.
    scram: ScramVerifier,
}

/// What a server needs to check a SCRAM-SHA-256 proof (RFC 5803); the password is not in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramVerifier {
    #[serde(with = "base64_bytes")]
    pub salt: Vec<u8>,
    pub iterations: u32,
    #[serde(with = "base64_bytes")]
    pub stored_key: Vec<u8>,
    #[serde(with = "base64_bytes")]
    pub server_key: Vec<u8>,
}

impl fmt::Debug for TokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("views", &self.views)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl TokenRecord {
    /// Makes a token. Its text is returned beside the record, and is nowhere else.
    ///
    /// # Errors
    /// When the system has no randomness to give, or the name cannot be used.
    pub fn create(new: NewToken, now: DateTime<Utc>) -> Result<(Self, String), Error> {
        let id: String = random::<6>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = new.name.unwrap_or_else(|| format!("token-{id}"));
        check_name(&name)?;
        let text = format!("{PREFIX}{id}_{}", BASE64_URL_SAFE_NO_PAD.encode(random::<32>()?));
        let record = Self {
            sha256: sha256(text.as_bytes()),
            scram: ScramVerifier::of(&text, random::<16>()?),
            id,
            name,
            role: new.role,
            views: new.views,
            created_at: now,
            created_by: new.created_by,
            expires_at: new.expires_at,
        };
        Ok((record, text))
    }

    /// Whether `text` is this token; takes the same time whatever of it is wrong.
    pub fn is(&self, text: &str) -> bool {
        sha256(text.as_bytes()).ct_eq(&self.sha256).into()
    }

    pub fn has_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    pub fn principal(&self) -> Principal {
        Principal::new(&self.name, self.role, self.views.clone())
    }

    pub fn scram(&self) -> &ScramVerifier {
        &self.scram
    }
}

/// A name ends up in logs, in lists and in connection strings.
fn check_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err(Error::Name { name: name.to_owned() });
    }
    Ok(())
}

impl ScramVerifier {
    /// For a password that needs no normalisation (RFC 4013): printable ASCII, as all tokens are.
    fn of(password: &str, salt: [u8; 16]) -> Self {
        let mut salted = [0_u8; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            SCRAM_ITERATIONS,
            &salt,
            password.as_bytes(),
            &mut salted,
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        let client_key = hmac::sign(&key, b"Client Key");
        Self {
            salt: salt.to_vec(),
            iterations: SCRAM_ITERATIONS.get(),
            stored_key: sha256(client_key.as_ref()),
            server_key: hmac::sign(&key, b"Server Key").as_ref().to_vec(),
        }
    }

    /// For a user that does not exist: always the same for the same name, and no password fits. So a client cannot tell an
    /// unknown user from a wrong password.
    pub(crate) fn decoy(key: &hmac::Key, user: &str) -> Self {
        let part = |what: &str| hmac::sign(key, format!("{what}/{user}").as_bytes()).as_ref().to_vec();
        Self {
            salt: part("salt")[..16].to_vec(),
            iterations: SCRAM_ITERATIONS.get(),
            stored_key: part("stored"),
            server_key: part("server"),
        }
    }
}

/// The id in the text of a token; `None` when it is no token of ours.
pub(crate) fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let shaped = id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && !secret.is_empty();
    shaped.then_some(id)
}

pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// Bytes as base64 in JSON.
mod base64_bytes {
    use super::{BASE64_STANDARD, Engine};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
