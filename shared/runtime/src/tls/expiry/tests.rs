use std::time::Duration;

use anabranch_testkit::servers::Certificates;
use anabranch_testkit::skip;
use rustls::pki_types::pem::PemObject;

use super::*;

#[test]
fn times_of_certificates_are_read() {
    let of = |tag, text| time(tag, text).map(|time| time.to_rfc3339());
    assert_eq!(
        of(UTC_TIME, "491231235959Z").as_deref(),
        Some("2049-12-31T23:59:59+00:00")
    );
    assert_eq!(
        of(UTC_TIME, "500101000000Z").as_deref(),
        Some("1950-01-01T00:00:00+00:00")
    );
    // "No end is known", RFC 5280, section 4.1.2.5.
    assert_eq!(
        of(GENERALIZED_TIME, "99991231235959Z").as_deref(),
        Some("9999-12-31T23:59:59+00:00")
    );
    for (tag, text) in [
        (UTC_TIME, "4912312359Z"),
        (UTC_TIME, "491231235959+0100"),
        (UTC_TIME, "20491231235959Z"),
        (UTC_TIME, "491331235959Z"),
        (GENERALIZED_TIME, "491231235959Z"),
        (GENERALIZED_TIME, "+0491231235959Z"),
        (GENERALIZED_TIME, ""),
        (SEQUENCE, "491231235959Z"),
    ] {
        assert_eq!(time(tag, text), None, "{tag:#x} {text}");
    }
}

#[test]
fn each_setting_has_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let made = match Certificates::make(folder.path()) {
        Ok(made) => made,
        Err(reason) => return skip(&reason),
    };
    let settings = TlsSettings {
        cert: Some(made.server.clone()),
        key: Some(made.server.clone()),
        client_ca: Some(made.authority.clone()),
        ca: None,
    };
    let found = expiries(&settings).unwrap();
    assert_eq!(
        found.iter().map(|expiry| expiry.setting).collect::<Vec<_>>(),
        ["cert", "client_ca"]
    );
    let in_two_days = Utc::now() + Duration::from_secs(2 * 86_400);
    for expiry in &found {
        let apart = (expiry.at - in_two_days).abs();
        assert!(apart < chrono::Duration::minutes(30), "{expiry:?}");
    }

    // A chain ends with its first part, a file of authorities with its last.
    let later = made.issue_for("later", 30).unwrap();
    let both = folder.path().join("both.pem");
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&both, text(&later) + &text(&made.server)).unwrap();
    let days = |setting| {
        let pem = std::fs::read(&both).unwrap();
        (of_file(setting, &both, &pem).unwrap().at - Utc::now()).num_hours()
    };
    assert!((47..=48).contains(&days("cert")), "{}", days("cert"));
    assert!((719..=720).contains(&days("ca")), "{}", days("ca"));

    // Whatever is cut off or put in somewhere is an end or none, and never more than that.
    let pem = std::fs::read(&made.authority).unwrap();
    let whole = CertificateDer::from_pem_slice(&pem).unwrap();
    assert_eq!(not_after(&whole), Some(found[1].at));
    for at in 0..whole.len() {
        let cut = CertificateDer::from(whole[..at].to_vec());
        assert_eq!(not_after(&cut), None, "cut at {at}");
        for byte in [0, 0x7f, 0x80, 0x84, 0x85, 0xff] {
            let mut changed = whole.to_vec();
            changed[at] = byte;
            let _ = not_after(&CertificateDer::from(changed));
        }
    }
}
