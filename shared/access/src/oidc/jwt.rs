//! JSON Web Tokens (RFC 7519), as far as a relying party needs them: signatures under published keys, checked with `ring`, and
//! the claims that say for whom and when a token counts.
//!
//! Only public-key signatures are known here (RFC 7518, section 3.1): a shared secret would let whoever checks also sign, and
//! `none` is not a signature. Which key is used the provider says, never the token: what a header names beside `kid` (`jku`, `jwk`,
//! `x5c`, …) is not read. Members that matter must be of their type and there once. (RFC 8725 lists what went wrong elsewhere.)

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::Value;

/// By how much the provider's clock may differ from ours.
const LEEWAY: Duration = Duration::from_secs(60);

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// It is no token, not signed under the key, or not for us.
    Unknown,
    Expired,
}

/// The first part of a token.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// What kind of token it is: a provider signs others than those that let somebody in, such as `logout+jwt`.
    typ: Option<String>,
    /// Extensions that a reader must understand, and we do not (RFC 7515, section 4.1.11).
    #[serde(default)]
    crit: Option<Value>,
}

/// A public key (RFC 7517). Members of other kinds of keys are left out.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Key {
    kty: String,
    pub(super) kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Clone, Copy)]
enum Scheme {
    Rsa(&'static RsaParameters),
    /// Curve, and how signatures on it are checked.
    Ec(&'static str, &'static dyn VerificationAlgorithm),
    Ed25519,
}

fn scheme(algorithm: &str) -> Option<Scheme> {
    Some(match algorithm {
        "RS256" => Scheme::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Scheme::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Scheme::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Scheme::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => Scheme::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => Scheme::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
        "ES256" => Scheme::Ec("P-256", &signature::ECDSA_P256_SHA256_FIXED),
        "ES384" => Scheme::Ec("P-384", &signature::ECDSA_P384_SHA384_FIXED),
        "EdDSA" => Scheme::Ed25519,
        _ => return None,
    })
}

impl Key {
    /// Keys of a published set. Those of kinds that we do not know are left out, as RFC 7517, section 5, asks.
    pub(super) fn parse_set(bytes: &[u8]) -> Result<Vec<Self>, String> {
        let document: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let keys = document["keys"].as_array().ok_or("there is no list of keys in it")?;
        Ok(keys.iter().filter_map(|key| Self::deserialize(key).ok()).collect())
    }

    /// Whether signatures of this algorithm may be checked with it.
    pub(super) fn fits(&self, algorithm: &str) -> bool {
        let meant = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self
                .key_ops
                .as_ref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"))
            && self.alg.as_deref().is_none_or(|meant| meant == algorithm);
        meant
            && match scheme(algorithm) {
                Some(Scheme::Rsa(_)) => self.kty == "RSA",
                Some(Scheme::Ec(curve, _)) => self.kty == "EC" && self.crv.as_deref() == Some(curve),
                Some(Scheme::Ed25519) => self.kty == "OKP" && self.crv.as_deref() == Some("Ed25519"),
                None => false,
            }
    }

    fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> Option<()> {
        if !self.fits(algorithm) {
            return None;
        }
        let part = |text: &Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let checked = match scheme(algorithm)? {
            Scheme::Rsa(scheme) => {
                let (n, e) = (part(&self.n)?, part(&self.e)?);
                RsaPublicKeyComponents { n: &n, e: &e }.verify(scheme, message, signature)
            }
            Scheme::Ec(_, scheme) => {
                let point = [vec![4], part(&self.x)?, part(&self.y)?].concat();
                UnparsedPublicKey::new(scheme, point).verify(message, signature)
            }
            Scheme::Ed25519 => UnparsedPublicKey::new(&signature::ED25519, part(&self.x)?).verify(message, signature),
        };
        checked.ok()
    }
}

/// The header of a token that may be one.
pub(super) fn header(token: &str) -> Option<Header> {
    let header: Header = json(token.split('.').next()?)?;
    let lets_in = header.typ.as_deref().is_none_or(|typ| {
        let kinds = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];
        kinds.contains(&typ.to_ascii_lowercase().as_str())
    });
    let known = scheme(&header.alg).is_some() && header.crit.is_none() && lets_in;
    known.then_some(header)
}

/// The claims that decide whether a token counts (RFC 7519, section 4.1).
#[derive(Debug, Deserialize)]
struct Registered {
    iss: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    /// A number, if it is there; how old a token may be is for the provider to say, with `exp`.
    #[serde(rename = "iat")]
    _iat: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Several(several) => several.iter().any(|one| one == wanted),
        }
    }
}

/// The claims of a token that was signed with `key`, by `issuer`, for `audience`, and whose time it is.
pub(super) fn claims(
    token: &str,
    key: &Key,
    (issuer, audience): (&str, &str),
    now: DateTime<Utc>,
) -> Result<Value, Invalid> {
    let read = || {
        let (message, signature) = token.rsplit_once('.')?;
        let (_, payload) = message.split_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        key.verify(&header(token)?.alg, message.as_bytes(), &signature)?;
        Some((json::<Registered>(payload)?, json::<Value>(payload)?))
    };
    let (registered, claims) = read().ok_or(Invalid::Unknown)?;
    if registered.iss != issuer || !registered.aud.names(audience) {
        return Err(Invalid::Unknown);
    }
    let (now, leeway) = (now.timestamp() as f64, LEEWAY.as_secs_f64());
    if registered.nbf.is_some_and(|begins| begins > now + leeway) {
        return Err(Invalid::Unknown);
    }
    if registered.exp + leeway <= now {
        return Err(Invalid::Expired);
    }
    Ok(claims)
}

fn json<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
