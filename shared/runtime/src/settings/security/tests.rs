use crate::Settings;

use super::*;

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(text, "test.toml", []).map_err(|error| error.to_string())
}

#[test]
fn a_secret_is_shown_nowhere() {
    let settings = parse("[access]\nservice_key = 'correct horse battery staple 1234'\n").unwrap();
    let key = settings.access.service_key.as_ref().unwrap();
    assert_eq!(key.expose(), "correct horse battery staple 1234");
    let shown = format!("{settings:?} {key} {}", serde_json::to_string(&settings).unwrap());
    assert!(!shown.contains("horse"), "{shown}");
}

#[test]
fn properties_that_look_like_secrets_are_shown_nowhere_either() {
    let text = "[kafka]\n'sasl.password' = 'hunter22'\n'bootstrap.servers' = 'broker:9092'\n\
                [storage.options]\naws_secret_access_key = 'hunter33'\naws_region = 'eu'\n";
    let settings = parse(text).unwrap();
    let shown = format!("{settings:?} {}", serde_json::to_string(&settings.masked()).unwrap());
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(shown.contains("broker:9092") && shown.contains("\"eu\""), "{shown}");
    assert_eq!(settings.kafka["sasl.password"], "hunter22");
}

#[test]
fn what_does_not_go_together_is_refused_with_what_to_do() {
    for (text, says) in [
        ("[tls]\ncert = 'a.pem'\n", "set both"),
        ("[tls]\nclient_ca = 'a.pem'\n", "`tls.cert`"),
        ("[oidc]\nissuer = 'https://id.example'\n", "`access.mode` is open"),
        (
            "[access]\nmode = 'tokens'\n[oidc]\nissuer = 'https://id.example'\njwks_file = 'k'\n",
            "`oidc.audience`",
        ),
        (
            "[access]\nmode = 'tokens'\n[oidc]\nissuer = 'i'\naudience = 'a'\n",
            "either `oidc.jwks_url`",
        ),
        (
            "[access]\nmode = 'tokens'\n[oidc]\nissuer = 'i'\naudience = 'a'\njwks_url = 'http://id.example/keys'\n",
            "over https://",
        ),
        (
            "[oidc.roles]\nanalysts = 'reader'\n",
            "roles are read, ingest and admin",
        ),
        ("[access]\nmode = 'closed'\n", "unknown variant"),
        ("[access]\nrefresh = '0s'\n", "longer than nothing"),
        ("[access]\ntoken = 'x'\n", "unknown key"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(says), "{text}\n{error}");
    }
}

#[test]
fn keys_may_come_from_this_machine_without_encryption() {
    for host in ["127.0.0.1:9000", "localhost", "localhost:80"] {
        let text = format!(
            "[access]\nmode = 'tokens'\n[oidc]\nissuer = 'i'\naudience = 'a'\njwks_url = 'http://{host}/keys'\n\
             [oidc.roles]\n'team:analysts' = 'read'\n"
        );
        let settings = parse(&text).unwrap();
        assert_eq!(settings.oidc.roles["team:analysts"], "read");
    }
}

#[test]
fn files_are_sought_in_the_configuration_folder() {
    let mut settings = parse("[tls]\ncert = 'tls/cert.pem'\nkey = '/run/key.pem'\n").unwrap();
    settings.resolve(Path::new("/etc/anabranch"));
    assert_eq!(
        settings.tls.cert.as_deref(),
        Some(Path::new("/etc/anabranch/tls/cert.pem"))
    );
    assert_eq!(settings.tls.key.as_deref(), Some(Path::new("/run/key.pem")));
    assert_eq!(settings.tls.scheme(), "https");
}
