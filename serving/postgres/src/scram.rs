//! SCRAM-SHA-256, the server's side (RFC 5802 and RFC 7677; PostgreSQL documentation, "SASL Authentication").

use anabranch_access::ScramVerifier;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA256, digest};
use ring::hmac;

/// The one mechanism that is offered.
pub(crate) const MECHANISM: &str = "SCRAM-SHA-256";

/// An exchange that was begun: the client's proof is awaited.
#[derive(Debug)]
pub(crate) struct Exchange {
    verifier: ScramVerifier,
    /// `gs2-header`, which the client repeats.
    header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl Exchange {
    /// Reads the client's first message; `nonce` is the server's part of the nonce: printable, without commas.
    ///
    /// Returns the exchange and the server's first message; `None` when the message is not one.
    pub(crate) fn begin(verifier: ScramVerifier, first: &str, nonce: &str) -> Option<(Self, String)> {
        // `n`: no channel binding; `y`: the client could, but believes that the server cannot, which is so.
        let rest = first.strip_prefix("n,").or_else(|| first.strip_prefix("y,"))?;
        let (identity, bare) = rest.split_once(',')?;
        if !(identity.is_empty() || identity.starts_with("a=")) {
            return None;
        }
        let header = &first[..first.len() - bare.len()];
        // The user's name in it is ignored: the one of the start-up packet counts.
        let (_, rest) = bare.split_once(',').filter(|(user, _)| user.starts_with("n="))?;
        let client_nonce = rest.split(',').next()?.strip_prefix("r=")?;
        if client_nonce.is_empty() || client_nonce.len() > 256 {
            return None;
        }
        let nonce = format!("{client_nonce}{nonce}");
        let salt = BASE64_STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let exchange = Self {
            verifier,
            header: header.to_owned(),
            client_first_bare: bare.to_owned(),
            server_first: server_first.clone(),
            nonce,
        };
        Some((exchange, server_first))
    }

    /// Checks the client's proof; returns the server's own proof, or `None` when the password is wrong.
    pub(crate) fn finish(&self, last: &str) -> Option<String> {
        let (without_proof, proof) = last.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let binding = BASE64_STANDARD.decode(parts.next()?.strip_prefix("c=")?).ok()?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        if binding != self.header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let proof = BASE64_STANDARD.decode(proof).ok()?;
        let message = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let stored = hmac::Key::new(hmac::HMAC_SHA256, &self.verifier.stored_key);
        let signature = hmac::sign(&stored, message.as_bytes());
        if proof.len() != signature.as_ref().len() {
            return None;
        }
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        // Every byte is looked at, so that the time tells nothing.
        let computed = digest(&SHA256, &client_key);
        let differing = computed
            .as_ref()
            .iter()
            .zip(&self.verifier.stored_key)
            .fold(0, |all, (a, b)| all | (a ^ b));
        if differing != 0 || computed.as_ref().len() != self.verifier.stored_key.len() {
            return None;
        }
        let server = hmac::Key::new(hmac::HMAC_SHA256, &self.verifier.server_key);
        let signature = hmac::sign(&server, message.as_bytes());
        Some(format!("v={}", BASE64_STANDARD.encode(signature)))
    }
}

#[cfg(test)]
mod tests;
