//! Who asks: `authorization: Bearer <token>`, or Basic with a token's name and the token.

use std::time::Duration;

use anabranch_access::{Access, Principal};
use anabranch_front::Demand;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tonic::Status;
use tonic::metadata::MetadataMap;

const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// What a client has shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    Bearer(String),
    Basic { user: String, password: String },
    None,
}

/// # Errors
/// `Unauthenticated` for what is neither.
pub(crate) fn credential(metadata: &MetadataMap) -> Result<Credential, Status> {
    let Some(header) = metadata.get("authorization") else {
        return Ok(Credential::None);
    };
    let header = header.to_str().map_err(|_| unauthenticated())?;
    let (scheme, rest) = header.split_once(' ').ok_or_else(unauthenticated)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credential::Bearer(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(unauthenticated());
    }
    let pair = BASE64_STANDARD.decode(rest.trim()).map_err(|_| unauthenticated())?;
    let pair = String::from_utf8(pair).map_err(|_| unauthenticated())?;
    let (user, password) = pair.split_once(':').ok_or_else(unauthenticated)?;
    Ok(Credential::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

fn unauthenticated() -> Status {
    Status::unauthenticated("authorization: Bearer and a token, or Basic with its name and the token")
}

/// # Errors
/// `Unauthenticated` when it is nobody known.
pub(crate) async fn principal(access: &Access, metadata: &MetadataMap) -> Result<Principal, Status> {
    if access.is_open() {
        return Ok(Principal::anonymous_admin());
    }
    let known = match credential(metadata)? {
        Credential::Bearer(token) => access.authenticate_bearer(&token).await,
        Credential::Basic { user, password } => access.authenticate_password(&user, &password).await,
        Credential::None => return Err(unauthenticated()),
    };
    known.map_err(|_| unauthenticated())
}

/// What the answer must cover: `anabranch-require`, `anabranch-at-least` and `anabranch-timeout` beside the call.
///
/// # Errors
/// `InvalidArgument` for values that cannot be used.
pub(crate) fn demand(metadata: &MetadataMap) -> Result<Demand, Status> {
    let mut demand = Demand::default();
    let text = |name: &'static str| metadata.get(name).and_then(|value| value.to_str().ok());
    match text("anabranch-require") {
        None | Some("") => {}
        Some("exact") => demand.exact = true,
        Some(_) => {
            return Err(Status::invalid_argument(
                "anabranch-require: the only demand is \"exact\"",
            ));
        }
    }
    if let Some(offsets) = text("anabranch-at-least") {
        demand.at_least = serde_json::from_str(offsets).map_err(|_| {
            Status::invalid_argument("anabranch-at-least: give the \"through\" of an ingest answer, as JSON")
        })?;
    }
    if let Some(seconds) = text("anabranch-timeout") {
        let seconds = seconds.trim_end_matches('s').parse().ok();
        let patience = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        demand.patience = patience
            .ok_or_else(|| Status::invalid_argument("anabranch-timeout: write seconds, such as 5s"))?
            .min(LONGEST_PATIENCE);
    }
    Ok(demand)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(name, value.parse().unwrap());
        metadata
    }

    #[test]
    fn credentials_are_read() {
        let read = |value: &str| credential(&with("authorization", value));
        assert_eq!(read("Bearer abc").unwrap(), Credential::Bearer("abc".into()));
        let basic = format!("Basic {}", BASE64_STANDARD.encode("me:a:b"));
        let (user, password) = ("me".to_owned(), "a:b".to_owned());
        assert_eq!(read(&basic).unwrap(), Credential::Basic { user, password });
        for bad in ["Digest x", "Basic ???", "Bearer", "Basic bm9jb2xvbg=="] {
            assert_eq!(read(bad).unwrap_err().code(), tonic::Code::Unauthenticated, "{bad}");
        }
        assert_eq!(credential(&MetadataMap::new()).unwrap(), Credential::None);
    }

    #[test]
    fn demands_are_read() {
        assert!(demand(&with("anabranch-require", "exact")).unwrap().exact);
        assert!(demand(&with("anabranch-require", "most")).is_err());
        let demanded = demand(&with("anabranch-at-least", r#"{"wikipedia/0": 5}"#)).unwrap();
        assert_eq!(demanded.at_least["wikipedia/0"], 5);
        assert!(demand(&with("anabranch-at-least", "5")).is_err());
        assert_eq!(
            demand(&with("anabranch-timeout", "0.5s")).unwrap().patience,
            Duration::from_millis(500)
        );
        assert!(demand(&with("anabranch-timeout", "-1")).is_err());
    }
}
