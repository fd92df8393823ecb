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
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
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

/// RSA keys are slow to make, so these were made once, with openssl; the private ones are gone. The tokens count until 2100.
mod rsa {
    pub(super) const LONG: &str = "8ZSnnsbjHx4jZ-G9XlhN3EryF0TmkHJjpLxPPb0kqpPCl1sBstSleDPpxEcVp78w-LxY4ulZS_bo8XUT0jO4SVq3V0Q9MlN9afwRDj0-kI-vzh\
     7vCm0GMXkXLrIOypxgnoLVzSgxAOgERUKPsBhe4Ksh0PkwB_c77DDn2ocjt9PmYLmy9xhaNrAblPHp_sv7mjMwERrucfJKQhjWKzQtWFRg1Wjp\
     432PPNwhzhxEwrWbW_8NkAN-6wE0HCUTPPByHL9OXt5oWo3eondgwtBN4qakFXVxruP2lnqYjfTvgQFzeWBFh6HGMc8iJjtCSrr56b_WtHkLM-\
     _c_73MT1MPeQ";
    pub(super) const SHORT: &str = "ubQDs5EIUZ-z6jvKAakf0KigAMjxPHB5y_TCW960Js-8t_JIqkHnWcBepZWxIj1kayYv3NZokoKxUUdyw40enf3ZKJuIU4UgAGFaWhwUu2VJH7\
     4cV5YhRrC05GKRZa7HL8IvIF-HxHZ7QRGM46vLP_1dHip2n-IhbNSPZm5ouME";
    pub(super) const RS256: &str = "ICBXEug2zsfRhwopoDIBJDs05W6Lx80qAMgvpv97o0yU0QE44NZi1WQntIQ-h1Zl74Nw1255-jCzzf70US-4PNAJ5RO5zzfKxRRHocNyFYCa3X\
     0M-HqY-SA-5E08XGOxDJYIkTFrfNw-1idvvzomwRt2UGU3_N3hPUUQP3oGthMRZMnVln2P6PLQ07LKiWgwi6IquwXlb3c4JN6-UroQZ0rqtLTp\
     YX7PK4sRXzQpRgESiLdl7eTOqawxPxXo1labokqUkJ0i-InY8Hso6f_mbP6eOPG96-sx3uWWW_m02m6q0ZeWoslC4Aog8mKt0TtpCdY1si2Geh\
     m18vfutx3eGw";
    pub(super) const PS256: &str = "OC_7yKvQExbWeqVpRtXHj91dI_UZk_cSIA8DxxvEfwlxRxrcT5XjrMGDCuQ0wudHbBn9FTeT0dCcQB7BKpgcXKO-X_sebj7icAZES-blg_7awq\
     5DjYy-KgYtDyW242g6yEeVapV8PpZsa0CfozENkQaHzmKMLwW3CUlL0BxAMKZBcJusXrTPgX8DyYaOm0AmuZf4kv5soXxCtXTSLwomfZZccqCK\
     sdl6wVUvzM3Faj8tRxQ2mXEIGB2-m8p8itRVwzSWdJSYT7RJCPPQpy5bRT6NPmL8aT3bAwofDonxhGdQRMBoVtdfSeVNz240TJXzymw9kjmlsE\
     doGyjjbYgE4Q";
    pub(super) const RS256_SHORT: &str = "KiJSBZm8ASvALp_5GYuw8G2Ju3DeqEVAN0-n9EkBkCr0ae_OwjeJAkROL-ctbb3XWX-3zYtzZx074OfqP2AjWPqgNrnRTPFXGMZ14bCSK1MvV4\
     T8Men_sqp26snVWqrrKHBbIzs7S2eCiz7qg7tatD3fY_NlS2Jl2vN_ZEM16AA";

    pub(super) const CLAIMS: &str = r#"{"iss":"https://id.example","aud":"anabranch","sub":"ann","exp":4102444800,"anabranch_role":"read","anabranch_views":["pages"]}"#;
}

/// A provider with these keys, as they stand in its document.
fn publishing(keys: &[Value]) -> (tempfile::TempDir, Oidc) {
    let provider = Provider::new(&[]);
    let text = json!({"keys": keys}).to_string();
    std::fs::write(provider.folder.path().join("jwks.json"), text).unwrap();
    let oidc = Oidc::new(&provider.settings()).unwrap();
    (provider.folder, oidc)
}

#[tokio::test]
async fn rsa_signatures_count_from_2048_bits_on() {
    let key = |kid: &str, n: &str| json!({"kty": "RSA", "kid": kid, "n": n, "e": "AQAB"});
    let (_folder, oidc) = publishing(&[key("rsa-2048", rsa::LONG), key("rsa-1024", rsa::SHORT)]);
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let token = |algorithm: &str, kid: &str, signature: &str| {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"JWT"}}"#);
        format!("{}.{}.{signature}", part(&header), part(rsa::CLAIMS))
    };
    for (algorithm, signature) in [("RS256", rsa::RS256), ("PS256", rsa::PS256)] {
        let known = oidc.authenticate(&token(algorithm, "rsa-2048", signature)).await;
        assert_eq!(known.unwrap().principal.name.as_ref(), "ann", "{algorithm}");
    }
    for (what, token) in [
        ("a short key", token("RS256", "rsa-1024", rsa::RS256_SHORT)),
        ("the other padding", token("PS256", "rsa-2048", rsa::RS256)),
        ("another hash", token("RS512", "rsa-2048", rsa::RS256)),
        (
            "the public key as a shared secret",
            token("HS256", "rsa-2048", rsa::RS256),
        ),
    ] {
        assert_eq!(oidc.authenticate(&token).await, Err(Denied::Unknown), "{what}");
    }
}

#[tokio::test]
async fn a_key_is_used_only_for_what_it_was_published_for() {
    let key = Key::ec("ec");
    let with = |name: &str, value: Value| {
        let mut published = key.published();
        published[name] = value;
        published
    };
    for (what, published, counts) in [
        ("for signatures", with("use", json!("sig")), true),
        ("for verifying", with("key_ops", json!(["verify"])), true),
        ("for encryption", with("use", json!("enc")), false),
        ("for deriving", with("key_ops", json!(["deriveKey"])), false),
        ("for another algorithm", with("alg", json!("ES384")), false),
        ("on another curve", with("crv", json!("P-384")), false),
        ("of another kind", with("kty", json!("RSA")), false),
        ("without its half", with("y", Value::Null), false),
    ] {
        let (_folder, oidc) = publishing(&[published]);
        let known = oidc.authenticate(&key.sign(&claims())).await;
        assert_eq!(known.is_ok(), counts, "{what}: {known:?}");
    }
}

#[tokio::test]
async fn a_header_cannot_choose_its_key_or_its_rules() {
    let (key, own) = (Key::ec("ec"), Key::ec("ec"));
    let oidc = Oidc::new(&Provider::new(&[&key]).settings()).unwrap();
    let header = |name: &str, value: Value| {
        let mut header = json!({"alg": "ES256", "kid": "ec"});
        header[name] = value;
        header
    };
    let claims = claims();
    for (what, token) in [
        (
            "a key of its own",
            own.sign_as(&header("jwk", own.published()), &claims),
        ),
        (
            "a set of its own",
            own.sign_as(&header("jku", json!("https://evil.example/keys")), &claims),
        ),
        (
            "a rule that we do not know",
            key.sign_as(&header("crit", json!(["b64"])), &claims),
        ),
        (
            "a token that ends sessions",
            key.sign_as(&header("typ", json!("logout+jwt")), &claims),
        ),
        (
            "a name that is no text",
            key.sign_as(&header("kid", json!(["ec"])), &claims),
        ),
        (
            "two algorithms",
            key.sign_text(r#"{"alg": "ES256", "alg": "none", "kid": "ec"}"#, &claims.to_string()),
        ),
        ("more parts", format!("{}.{}", key.sign(&claims), "AAAA")),
    ] {
        assert_eq!(oidc.authenticate(&token).await, Err(Denied::Unknown), "{what}");
    }
    for typ in ["JWT", "at+jwt", "application/at+JWT"] {
        let known = oidc
            .authenticate(&key.sign_as(&header("typ", json!(typ)), &claims))
            .await;
        assert!(known.is_ok(), "{typ}");
    }
}

#[tokio::test]
async fn claims_that_decide_are_of_their_type_and_there_once() {
    let key = Key::ec("ec");
    let oidc = Oidc::new(&Provider::new(&[&key]).settings()).unwrap();
    for (name, value) in [
        ("iss", json!(["https://id.example"])),
        ("aud", json!({"anabranch": true})),
        ("aud", json!(["anabranch", 1])),
        ("aud", json!([])),
        ("exp", json!("4102444800")),
        ("exp", json!(true)),
        ("nbf", json!("0")),
        ("iat", json!("now")),
    ] {
        let token = key.sign(&with(name, value.clone()));
        assert_eq!(oidc.authenticate(&token).await, Err(Denied::Unknown), "{name}: {value}");
    }
    let good = claims().to_string();
    for twice in [
        r#""exp": 9999999999"#,
        r#""aud": "anabranch""#,
        r#""iss": "https://id.example""#,
    ] {
        let text = format!("{{{twice}, {}", &good[1..]);
        let token = key.sign_text(r#"{"alg": "ES256", "kid": "ec"}"#, &text);
        assert_eq!(oidc.authenticate(&token).await, Err(Denied::Unknown), "{twice}");
    }
    // What is over is over, and what ends in the far future is good.
    let long = key.sign(&with("exp", json!(9e15)));
    assert!(oidc.authenticate(&long).await.is_ok());
    let over = key.sign(&with("exp", json!(-9e15)));
    assert_eq!(oidc.authenticate(&over).await, Err(Denied::Expired));
}
