use std::collections::BTreeMap;

use super::*;
use crate::{Role, ViewPatterns};

fn claims(kind: Use, now: DateTime<Utc>) -> Claims {
    Claims {
        kind,
        principal: Principal::new("ann", Role::Read, ViewPatterns::new(["pages"])),
        token: None,
        session: None,
        expires: expiry(now, Duration::seconds(60)),
    }
}

#[tokio::test]
async fn services_of_one_store_share_a_key_and_others_do_not() {
    let store = Store::open("memory://", &BTreeMap::new()).unwrap();
    let (first, second) = tokio::join!(SiteKey::of_store(&store), SiteKey::of_store(&store));
    let (first, second) = (first.unwrap(), second.unwrap());
    let now = Utc::now();
    let signed = first.sign(&claims(Use::Service, now));
    assert_eq!(second.verify(&signed, Use::Service, now), Ok(claims(Use::Service, now)));
    let elsewhere = Store::open("memory://", &BTreeMap::new()).unwrap();
    let stranger = SiteKey::of_store(&elsewhere).await.unwrap();
    assert_eq!(stranger.verify(&signed, Use::Service, now), Err(Denied::Unknown));
}

#[test]
fn nothing_of_a_signed_text_can_be_changed() {
    let key = SiteKey::of_setting(&"k".repeat(32)).unwrap();
    let now = Utc::now();
    let signed = key.sign(&claims(Use::Session, now));
    assert!(key.verify(&signed, Use::Session, now).is_ok());
    for at in 0..signed.len() {
        let mut bytes = signed.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        // The last characters of base64 hold bits that stand for nothing; a strict decoder refuses those too.
        assert!(key.verify(&changed, Use::Session, now).is_err(), "byte {at}");
    }
    assert!(key.verify("", Use::Session, now).is_err());
    assert!(key.verify("abs1..", Use::Session, now).is_err());
}

#[test]
fn a_signature_is_good_for_one_use_and_for_its_time() {
    let key = SiteKey::of_setting(&"k".repeat(32)).unwrap();
    let now = Utc::now();
    let session = key.sign(&claims(Use::Session, now));
    assert_eq!(key.verify(&session, Use::Service, now), Err(Denied::Unknown));
    let later = now + Duration::seconds(61);
    assert_eq!(key.verify(&session, Use::Session, later), Err(Denied::Expired));
}

#[test]
fn a_short_key_is_refused_and_no_key_is_shown() {
    assert!(matches!(SiteKey::of_setting("short"), Err(Error::ShortKey { .. })));
    let key = SiteKey::of_setting(&"very secret key of this site 123".repeat(2)).unwrap();
    assert!(!format!("{key:?}").contains("secret"));
}
