use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

/// An identity provider's key.
enum Key {
    Ec(String, EcdsaKeyPair),
    Ed(String, Ed25519KeyPair),
}

impl Key {
    fn ec(id: &str) -> Self {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap();
        Self::Ec(id.to_owned(), pair)
    }

    fn ed(id: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(id.to_owned(), Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn published(&self) -> Value {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ec(id, pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id,
                       "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Ed(id, pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": text(pair.public_key().as_ref())})
            }
        }
    }

    fn sign(&self, claims: &Value) -> String {
        let (algorithm, id) = match self {
            Self::Ec(id, _) => ("ES256", id),
            Self::Ed(id, _) => ("EdDSA", id),
        };
        self.sign_as(&json!({"alg": algorithm, "kid": id, "typ": "JWT"}), claims)
    }

    fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = match self {
            Self::Ec(_, pair) => pair
                .sign(&SystemRandom::new(), message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::Ed(_, pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

struct Provider {
    folder: tempfile::TempDir,
}

impl Provider {
    fn new(keys: &[&Key]) -> Self {
        let provider = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        provider.publish(keys);
        provider
    }

    fn publish(&self, keys: &[&Key]) {
        let mut published: Vec<Value> = keys.iter().map(|key| key.published()).collect();
        // A kind of key that nobody knows yet costs the others nothing.
        published.push(json!({"kty": "future", "kid": "f"}));
        published.push(json!({"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}));
        let text = json!({"keys": published}).to_string();
        std::fs::write(self.folder.path().join("jwks.json"), text).unwrap();
    }

    fn settings(&self) -> OidcSettings {
        OidcSettings {
            issuer: Some("https://id.example".to_owned()),
            audience: Some("anabranch".to_owned()),
            jwks_file: Some(self.folder.path().join("jwks.json")),
            ..OidcSettings::default()
        }
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

fn claims() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["other", "anabranch"], "sub": "ann", "exp": now() + 600,
        "anabranch_role": "read", "anabranch_views": ["pages", "shop_*"],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_genuine_token_names_a_principal() {
    let (ec, ed) = (Key::ec("ec"), Key::ed("ed"));
    let oidc = Oidc::new(&Provider::new(&[&ec, &ed]).settings()).unwrap();
    for key in [&ec, &ed] {
        let known = oidc.authenticate(&key.sign(&claims())).await.unwrap();
        let ann = Principal::new("ann", Role::Read, ViewPatterns::new(["pages", "shop_*"]));
        assert_eq!(known.principal, ann);
        assert!(known.expires > now());
    }
}

#[tokio::test]
async fn nothing_but_a_genuine_token_of_its_time_and_place_counts() {
    let (key, other) = (Key::ec("ec"), Key::ec("ec"));
    let oidc = Oidc::new(&Provider::new(&[&key]).settings()).unwrap();
    let good = key.sign(&claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let raised = BASE64_URL_SAFE_NO_PAD.encode(with("anabranch_role", json!("admin")).to_string());
    for (what, token) in [
        ("another key", other.sign(&claims())),
        ("other claims", format!("{header}.{raised}.{signature}")),
        ("no signature", format!("{head}.")),
        ("alg none", key.sign_as(&json!({"alg": "none", "kid": "ec"}), &claims())),
        (
            "a shared secret",
            key.sign_as(&json!({"alg": "HS256", "kid": "shared"}), &claims()),
        ),
        (
            "an algorithm of another kind",
            key.sign_as(&json!({"alg": "RS256", "kid": "ec"}), &claims()),
        ),
        (
            "an unknown key",
            key.sign_as(&json!({"alg": "ES256", "kid": "x"}), &claims()),
        ),
        ("another issuer", key.sign(&with("iss", json!("https://evil.example")))),
        ("no issuer", key.sign(&with("iss", Value::Null))),
        ("another audience", key.sign(&with("aud", json!("other")))),
        ("no audience", key.sign(&with("aud", Value::Null))),
        ("not yet", key.sign(&with("nbf", json!(now() + 600)))),
        ("no end", key.sign(&with("exp", Value::Null))),
        ("an end that is no number", key.sign(&with("exp", json!("never")))),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
    ] {
        assert_eq!(oidc.authenticate(&token).await, Err(Denied::Unknown), "{what}");
    }
    let late = key.sign(&with("exp", json!(now() - 600)));
    assert_eq!(oidc.authenticate(&late).await, Err(Denied::Expired));
    assert!(oidc.authenticate(&good).await.is_ok());
}

#[tokio::test]
async fn keys_rotate_and_strangers_cannot_make_us_ask_all_the_time() {
    let (first, second, third) = (Key::ec("1"), Key::ec("2"), Key::ec("3"));
    let provider = Provider::new(&[&first]);
    let oidc = Oidc::new(&provider.settings()).unwrap();
    assert!(oidc.authenticate(&first.sign(&claims())).await.is_ok());
    provider.publish(&[&first, &second]);
    assert!(
        oidc.authenticate(&second.sign(&claims())).await.is_ok(),
        "a new key is found at once"
    );
    provider.publish(&[&first, &second, &third]);
    // Somebody asked a moment ago, so nobody asks again yet.
    assert_eq!(oidc.authenticate(&third.sign(&claims())).await, Err(Denied::Unknown));
    *oidc.asked.lock() = None;
    assert!(oidc.authenticate(&third.sign(&claims())).await.is_ok());
}

#[tokio::test]
async fn claims_become_roles_as_the_settings_say() {
    let key = Key::ec("ec");
    let provider = Provider::new(&[&key]);
    let mut settings = provider.settings();
    settings.name_claim = "email".to_owned();
    settings.role_claim = "realm_access.roles".to_owned();
    settings.roles = [("analysts", "read"), ("operators", "admin")]
        .map(|(value, role)| (value.to_owned(), role.to_owned()))
        .into();
    let oidc = Oidc::new(&settings).unwrap();
    let mut claims = claims();
    claims["email"] = json!("ann@site.example\n\u{1b}[31m");
    claims["anabranch_views"] = json!("pages, totals");
    claims["realm_access"] = json!({"roles": ["visitors", "analysts"]});
    let ann = oidc.authenticate(&key.sign(&claims)).await.unwrap().principal;
    assert_eq!((ann.name.as_ref(), ann.role), ("ann@site.example__[31m", Role::Read));
    assert!(ann.may_read("pages") && ann.may_read("totals") && !ann.may_read("other"));
    claims["realm_access"] = json!({"roles": ["analysts", "operators"]});
    assert_eq!(
        oidc.authenticate(&key.sign(&claims)).await.unwrap().principal.role,
        Role::Admin
    );
    // A value that is not in the table grants nothing, even if it is called like a role.
    claims["realm_access"] = json!({"roles": ["admin"]});
    let denied = oidc.authenticate(&key.sign(&claims)).await.unwrap_err();
    assert!(matches!(denied, Denied::NoRole { .. }), "{denied}");
}
