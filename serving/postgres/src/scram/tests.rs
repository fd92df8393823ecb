use std::num::NonZeroU32;

use ring::pbkdf2;

use super::*;

/// The example of RFC 7677, section 3.
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_LAST: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn verifier(password: &str) -> ScramVerifier {
    let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let iterations = NonZeroU32::new(4096).unwrap();
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    ScramVerifier {
        salt,
        iterations: iterations.get(),
        stored_key: digest(&SHA256, hmac::sign(&key, b"Client Key").as_ref())
            .as_ref()
            .to_vec(),
        server_key: hmac::sign(&key, b"Server Key").as_ref().to_vec(),
    }
}

#[test]
fn the_example_of_the_standard() {
    let (exchange, first) = Exchange::begin(verifier("pencil"), CLIENT_FIRST, SERVER_NONCE).unwrap();
    assert_eq!(
        first,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = exchange.finish(CLIENT_LAST).unwrap();
    assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn another_password_nonce_or_binding_is_refused() {
    let (exchange, _) = Exchange::begin(verifier("pen"), CLIENT_FIRST, SERVER_NONCE).unwrap();
    assert_eq!(exchange.finish(CLIENT_LAST), None);
    let (exchange, _) = Exchange::begin(verifier("pencil"), CLIENT_FIRST, "another").unwrap();
    assert_eq!(exchange.finish(CLIENT_LAST), None);
    let (exchange, _) = Exchange::begin(verifier("pencil"), CLIENT_FIRST, SERVER_NONCE).unwrap();
    assert_eq!(exchange.finish(&CLIENT_LAST.replace("c=biws", "c=eSws")), None);
    for garbage in ["", "c=biws", ",p=", "c=biws,r=x,p=AAAA", "p=,p=,p="] {
        assert_eq!(exchange.finish(garbage), None, "{garbage}");
    }
}

#[test]
fn a_first_message_that_is_none_is_refused() {
    for garbage in [
        "",
        "n",
        "n,,",
        "p=tls-unique,,n=user,r=x",
        "n,,m=ext,n=user,r=x",
        "n,,n=user",
        "n,,n=user,r=",
    ] {
        assert!(
            Exchange::begin(verifier("pencil"), garbage, "nonce").is_none(),
            "{garbage}"
        );
    }
}
