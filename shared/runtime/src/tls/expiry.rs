//! When certificates end. rustls checks validity at each handshake and tells nobody how long that will go well; this is read
//! from the certificates themselves (RFC 5280, section 4.1).

use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use rustls::pki_types::CertificateDer;

use super::{Error, certificates, read};
use crate::TlsSettings;

const SEQUENCE: u8 = 0x30;
/// `version`, whose tag says where it stands: the oldest certificates have none.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the certificates of one setting end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The key of `[tls]`: `cert`, `client_ca` or `ca`.
    pub setting: &'static str,
    pub path: PathBuf,
    /// Of a chain the first end, since each part of it is needed. Of authorities the last one: a file that holds the former and
    /// the next does for as long as one of them.
    pub at: DateTime<Utc>,
}

/// When the certificates end that `[tls]` names, as the files are now.
///
/// # Errors
/// What is wrong with which file.
pub fn expiries(settings: &TlsSettings) -> Result<Vec<Expiry>, Error> {
    let named = [
        ("cert", &settings.cert),
        ("client_ca", &settings.client_ca),
        ("ca", &settings.ca),
    ];
    let named = named
        .into_iter()
        .filter_map(|(setting, path)| Some((setting, path.as_deref()?)));
    named
        .map(|(setting, path)| of_file(setting, path, &read(path)?))
        .collect()
}

/// When the certificates of a file that was read end.
pub(super) fn of_file(setting: &'static str, path: &Path, pem: &[u8]) -> Result<Expiry, Error> {
    let ends = certificates(path, pem)?;
    let ends: Option<Vec<DateTime<Utc>>> = ends.iter().map(not_after).collect();
    let ends = ends.unwrap_or_default();
    let at = match setting {
        "cert" => ends.iter().min(),
        _ => ends.iter().max(),
    };
    match at {
        Some(at) => Ok(Expiry {
            setting,
            path: path.to_owned(),
            at: *at,
        }),
        None => Err(Error::File {
            path: path.to_owned(),
            reason: "a certificate in it does not say when it ends".to_owned(),
        }),
    }
}

/// Says it to `/metrics`.
pub(super) fn expose(expiry: &Expiry) {
    // Whole seconds of our time are exact in a double.
    metrics::gauge!("anabranch_tls_certificate_expires_timestamp_seconds", "certificate" => expiry.setting)
        .set(expiry.at.timestamp() as f64);
}

/// `notAfter` of a certificate; `None` where there is none to be read.
fn not_after(certificate: &CertificateDer<'_>) -> Option<DateTime<Utc>> {
    let (tag, certificate, _) = element(certificate)?;
    let (inner_tag, mut fields, _) = element(certificate).filter(|_| tag == SEQUENCE)?;
    if inner_tag != SEQUENCE {
        return None;
    }
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // serialNumber, signature, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (tag, validity, _) = element(fields)?;
    let after_begin = element(validity).filter(|_| tag == SEQUENCE)?.2;
    let (tag, text, _) = element(after_begin)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// One element in DER: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // Lengths of up to four bytes; a certificate has no more.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0, |length, digit| length << 8 | u64::from(*digit));
            (usize::try_from(length).ok()?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A time as certificates have it: always in UTC, with seconds.
fn time(tag: u8, text: &str) -> Option<DateTime<Utc>> {
    let digits = text.strip_suffix('Z').filter(|digits| {
        let expected = if tag == GENERALIZED_TIME { 14 } else { 12 };
        digits.len() == expected && digits.bytes().all(|byte| byte.is_ascii_digit())
    })?;
    let (year, rest) = match tag {
        GENERALIZED_TIME => (digits[..4].parse().ok()?, &digits[4..]),
        UTC_TIME => {
            let year: i32 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        _ => return None,
    };
    let two = |at: usize| rest[at..at + 2].parse::<u32>().ok();
    let date = NaiveDate::from_ymd_opt(year, two(0)?, two(2)?)?;
    Some(date.and_hms_opt(two(4)?, two(6)?, two(8)?)?.and_utc())
}

#[cfg(test)]
mod tests;
