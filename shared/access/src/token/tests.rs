use super::*;

fn new(role: Role) -> NewToken {
    NewToken {
        name: None,
        role,
        views: ViewPatterns::all(),
        expires_at: None,
        created_by: "test".to_owned(),
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn a_token_is_known_by_its_hash_alone() {
    let now = Utc::now();
    let (record, text) = TokenRecord::create(new(Role::Read), now).unwrap();
    let (other, other_text) = TokenRecord::create(new(Role::Read), now).unwrap();
    assert_eq!(id_of(&text), Some(record.id.as_str()));
    assert!(record.is(&text) && other.is(&other_text));
    assert!(!record.is(&other_text) && !record.is("") && !record.is(&text[..text.len() - 1]));
    assert!(!record.is(&format!("{text}x")));

    let kept = serde_json::to_string(&record).unwrap();
    let secret = text.rsplit_once(&record.id).unwrap().1.trim_start_matches('_');
    assert!(secret.len() >= 43, "256 bits");
    assert!(!kept.contains(secret) && !format!("{record:?}").contains(secret));
    let read: TokenRecord = serde_json::from_str(&kept).unwrap();
    assert!(read == record && read.is(&text));
}

#[test]
fn a_token_expires_at_its_moment() {
    let now = Utc::now();
    let mut wanted = new(Role::Admin);
    wanted.expires_at = Some(now + chrono::Duration::hours(1));
    let (record, _) = TokenRecord::create(wanted, now).unwrap();
    assert!(!record.has_expired(now));
    assert!(record.has_expired(now + chrono::Duration::hours(1)));
}

#[test]
fn names_are_plain() {
    for name in ["", "two words", "line\nbreak", "a/b", "<b>", &"x".repeat(65)] {
        let mut wanted = new(Role::Read);
        wanted.name = Some(name.to_owned());
        let error = TokenRecord::create(wanted, Utc::now()).unwrap_err();
        assert!(matches!(error, Error::Name { .. }), "{name:?}");
    }
    let mut wanted = new(Role::Read);
    wanted.name = Some("ann.lee@example-site_1".to_owned());
    TokenRecord::create(wanted, Utc::now()).unwrap();
}

#[test]
fn only_the_shape_of_a_token_is_taken_for_one() {
    for text in [
        "",
        "ab_",
        "ab_0123456789ab",
        "ab_0123456789ab_",
        "ab_xyz_secret",
        "0123456789ab_secret",
    ] {
        assert_eq!(id_of(text), None, "{text}");
    }
    assert_eq!(id_of("ab_0123456789ab_a_b-c"), Some("0123456789ab"));
}

/// The example of RFC 7677, section 3: user `user`, password `pencil`.
#[test]
fn the_scram_verifier_is_that_of_the_rfc() {
    let salt: [u8; 16] = BASE64_STANDARD
        .decode("W22ZaJ0SNY7soEsUEjb6gQ==")
        .unwrap()
        .try_into()
        .unwrap();
    let verifier = ScramVerifier::of("pencil", salt);
    let auth_message = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
        r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
        c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let server = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &verifier.server_key),
        auth_message.as_bytes(),
    );
    assert_eq!(
        BASE64_STANDARD.encode(server.as_ref()),
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
    // The client's proof, with the client signature taken off, must hash to the stored key.
    let proof = BASE64_STANDARD
        .decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
        .unwrap();
    let signature = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &verifier.stored_key),
        auth_message.as_bytes(),
    );
    let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    assert_eq!(sha256(&client_key), verifier.stored_key);
}

#[test]
fn a_decoy_is_stable_and_differs_by_user() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &hex("00ff"));
    assert!(ScramVerifier::decoy(&key, "ann") == ScramVerifier::decoy(&key, "ann"));
    assert!(ScramVerifier::decoy(&key, "ann").salt != ScramVerifier::decoy(&key, "bob").salt);
    assert_eq!(ScramVerifier::decoy(&key, "ann").salt.len(), 16);
}
