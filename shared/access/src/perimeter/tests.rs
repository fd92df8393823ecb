use std::path::PathBuf;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_that_strangers_reach_must_be_secured_or_meant() {
    let mut access = AccessSettings::default();
    let mut tls = TlsSettings::default();
    let check = |access: &AccessSettings, tls: &TlsSettings, at: &str| {
        check_exposure(access, tls, "serving.listen", address(at)).map_err(|error| error.to_string())
    };
    for loopback in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        check(&access, &tls, loopback).unwrap();
    }
    for reachable in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
        let error = check(&access, &tls, reachable).unwrap_err();
        for part in [
            "`serving.listen`",
            reachable,
            "[tls]",
            "mode = \"tokens\"",
            "127.0.0.1",
            "insecure = true",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
    access.mode = AccessMode::Tokens;
    assert!(check(&access, &tls, "0.0.0.0:1").unwrap_err().contains("unencrypted"));
    tls.cert = Some(PathBuf::from("cert.pem"));
    check(&access, &tls, "0.0.0.0:1").unwrap();
    access.mode = AccessMode::Open;
    assert!(check(&access, &tls, "0.0.0.0:1").is_err());
    access.insecure = true;
    check(&access, &TlsSettings::default(), "0.0.0.0:1").unwrap();
}

#[tokio::test]
async fn a_call_says_on_whose_behalf_it_is_made() {
    let store = Store::open("memory://", &std::collections::BTreeMap::new()).unwrap();
    let settings = Settings::parse("[access]\nmode = 'tokens'\n", "test", []).unwrap();
    let serving = Perimeter::start(&settings, &store, "serve-1").await.unwrap();
    let worker = Perimeter::start(&settings, &store, "speed-1").await.unwrap();
    let shown = async |value: HeaderValue| {
        assert!(value.is_sensitive());
        let bearer = value.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        worker.access().authenticate_bearer(&bearer).await.unwrap()
    };
    let caller = serving.caller();
    assert_eq!(
        shown(caller.authorization().unwrap()).await.name.as_ref(),
        "service:serve-1"
    );
    let ann = Principal::new("ann", crate::Role::Ingest, crate::ViewPatterns::none());
    assert_eq!(shown(caller.authorization_of(&ann).unwrap()).await, ann);
    assert!(Caller::plain().authorization().is_none());
}
