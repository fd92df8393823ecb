use std::collections::BTreeMap;

use anabranch_dataset::Store;
use anabranch_runtime::Settings;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Method;
use axum::routing::{get, post};
use chrono::NaiveDate;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::{NewToken, Role, Tokens, ViewPatterns, audit_records, common_needs};

const ADDRESS: &str = "192.0.2.7:4711";

fn needs(method: &Method, route: Option<&str>) -> Need {
    common_needs(method, route).unwrap_or(match route {
        Some("/v1/login" | "/v1/logout") => Need::Nothing,
        Some("/v1/whoami") => Need::Known,
        Some("/v1/views") => Need::Read,
        Some("/v1/ingest/{table}") => Need::Ingest,
        _ => Need::Admin,
    })
}

struct Site {
    store: Store,
    router: Router,
}

impl Site {
    async fn new(settings: &str) -> Self {
        let store = Store::open("memory://", &BTreeMap::new()).unwrap();
        let settings = Settings::parse(settings, "test", []).unwrap();
        let perimeter = Perimeter::start(&settings, &store, "serve-1").await.unwrap();
        let echo = async |axum::Extension(principal): axum::Extension<Principal>| principal.name.to_string();
        let not_ready = async || ApiError::new(ErrorKind::Unavailable, "table clicks is not open");
        let router = Router::new()
            .route("/v1/views", get(echo))
            .route("/v1/ingest/{table}", post(echo))
            .route("/v1/views/apply", post(echo))
            .route("/v1/secret", get(echo))
            .route("/metrics", get(async || "views"))
            .route("/healthz", get(async || "ok"))
            .route("/readyz", get(not_ready))
            .merge(perimeter.session_routes());
        Self {
            store,
            router: perimeter.protect(router, needs),
        }
    }

    async fn token(&self, name: &str, role: Role, views: &str) -> String {
        let new = NewToken {
            name: Some(name.to_owned()),
            role,
            views: ViewPatterns::new(views.split(',')),
            expires_at: None,
            created_by: "test".to_owned(),
        };
        Tokens::new(&self.store).create(new).await.unwrap().1
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        let peer = Peer {
            address: ADDRESS.parse().unwrap(),
            encrypted: true,
        };
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (
            head.status.as_u16(),
            head.headers,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    async fn status(&self, method: &str, path: &str, bearer: &str) -> u16 {
        let authorization = format!("Bearer {bearer}");
        self.ask(method, path, &[("authorization", &authorization)], "").await.0
    }
}

const GUARDED: &str = "[access]\nmode = 'tokens'\n";

#[tokio::test]
async fn a_stranger_gets_the_same_answer_whatever_they_ask_for() {
    let site = Site::new(GUARDED).await;
    let expected = site.ask("GET", "/v1/views", &[], "").await;
    assert_eq!(expected.0, 401);
    assert_eq!(expected.1["www-authenticate"], "Bearer realm=\"anabranch\"");
    let expired = "abs1.e30.AAAA";
    for (method, path) in [
        ("GET", "/v1/views"),
        ("POST", "/v1/views"),
        ("POST", "/v1/ingest/clicks"),
        ("POST", "/v1/views/apply"),
        ("DELETE", "/v1/views/apply"),
        ("GET", "/v1/secret"),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
        ("OPTIONS", "/v1/views"),
        ("GET", "/v1/whoami"),
    ] {
        for headers in [
            &[][..],
            &[("authorization", "Bearer ab_0123456789ab_x")],
            &[("authorization", "Bearer")],
            &[("authorization", "Basic YW5uOnB3")],
            &[("authorization", "Negotiate abc")],
            &[("authorization", &format!("Bearer {expired}"))],
            &[("cookie", "anabranch_session=abs1.e30.AAAA")],
        ] {
            // Whoever is wrong too often is told to wait.
            let answer = site.ask(method, path, headers, "").await;
            if answer.0 == 429 {
                continue;
            }
            assert_eq!((answer.0, &answer.2), (401, &expected.2), "{method} {path} {headers:?}");
        }
    }
    assert_eq!(site.ask("GET", "/healthz", &[], "").await.0, 200);
    let (status, _, body) = site.ask("GET", "/readyz", &[], "").await;
    assert_eq!(status, 503);
    assert!(!body.contains("clicks"), "{body}");
}

#[tokio::test]
async fn roles_open_their_routes_and_no_others() {
    let site = Site::new(GUARDED).await;
    let read = site.token("read", Role::Read, "pages").await;
    let ingest = site.token("ingest", Role::Ingest, "").await;
    let admin = site.token("admin", Role::Admin, "").await;
    for (method, path, expected) in [
        ("GET", "/v1/views", [200, 403, 200]),
        ("POST", "/v1/ingest/clicks", [403, 200, 200]),
        ("POST", "/v1/views/apply", [403, 403, 200]),
        ("GET", "/v1/secret", [403, 403, 200]),
        ("GET", "/metrics", [403, 403, 200]),
        ("GET", "/v1/whoami", [200, 200, 200]),
        ("GET", "/nowhere", [404, 404, 404]),
        ("GET", "/readyz", [503, 503, 503]),
    ] {
        let found = [
            site.status(method, path, &read).await,
            site.status(method, path, &ingest).await,
            site.status(method, path, &admin).await,
        ];
        assert_eq!(found, expected, "{method} {path}");
    }
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("read:{read}")));
    let (status, _, body) = site.ask("GET", "/v1/views", &[("authorization", &basic)], "").await;
    assert_eq!((status, body.as_str()), (200, "read"));
    let (_, _, reason) = site
        .ask("GET", "/readyz", &[("authorization", &format!("Bearer {admin}"))], "")
        .await;
    assert!(reason.contains("clicks"), "{reason}");
    let both = [
        ("authorization", format!("Bearer {admin}")),
        ("authorization", format!("Bearer {read}")),
    ];
    let both: Vec<_> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(site.ask("GET", "/v1/views", &both, "").await.0, 401);
}

#[tokio::test]
async fn a_session_acts_only_for_pages_of_our_own() {
    let site = Site::new(GUARDED).await;
    let admin = site.token("admin", Role::Admin, "").await;
    let login = format!(r#"{{"token": "{admin}"}}"#);
    let (status, headers, body) = site.ask("POST", "/v1/login", &[], &login).await;
    assert_eq!(status, 200, "{body}");
    let set = headers["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Secure"] {
        assert!(set.contains(attribute), "{set}");
    }
    assert!(!set.contains(&admin) && !body.contains(&admin));
    let cookie = set.split(';').next().unwrap();
    let with = |more: &'static [(&'static str, &'static str)]| {
        let mut headers = vec![("cookie", cookie), ("host", "site.example:8080")];
        headers.extend(more);
        headers
    };
    let (status, _, body) = site.ask("GET", "/v1/whoami", &with(&[]), "").await;
    assert_eq!(status, 200);
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (told["name"].as_str(), told["role"].as_str()),
        (Some("admin"), Some("admin"))
    );

    for (headers, expected) in [
        (with(&[]), 403),
        (with(&[("x-anabranch-csrf", "1")]), 200),
        (with(&[("sec-fetch-site", "same-origin")]), 200),
        (with(&[("sec-fetch-site", "same-site")]), 403),
        (with(&[("sec-fetch-site", "cross-site")]), 403),
        (with(&[("origin", "https://site.example:8080")]), 200),
        (with(&[("origin", "https://evil.example")]), 403),
        (with(&[("origin", "https://site.example:8081")]), 403),
        (with(&[("origin", "null")]), 403),
    ] {
        let status = site.ask("POST", "/v1/views/apply", &headers, "").await.0;
        assert_eq!(status, expected, "{headers:?}");
    }
    let own = with(&[("x-anabranch-csrf", "1")]);
    let (status, headers, _) = site.ask("POST", "/v1/logout", &own, "").await;
    assert_eq!(status, 200);
    assert!(headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    // A copy of the cookie is worth nothing either.
    assert_eq!(site.ask("GET", "/v1/whoami", &with(&[]), "").await.0, 401);
    let foreign = [("origin", "https://evil.example"), ("host", "site.example")];
    assert_eq!(site.ask("POST", "/v1/login", &foreign, &login).await.0, 403);
}

#[tokio::test]
async fn where_access_is_open_a_foreign_page_changes_nothing() {
    let site = Site::new("").await;
    assert_eq!(site.ask("POST", "/v1/views/apply", &[], "").await.0, 200);
    let page = [("origin", "https://evil.example"), ("host", "127.0.0.1:8080")];
    assert_eq!(site.ask("POST", "/v1/views/apply", &page, "").await.0, 403);
    assert_eq!(
        site.ask("POST", "/v1/ingest/clicks", &[("sec-fetch-site", "cross-site")], "")
            .await
            .0,
        403
    );
    assert_eq!(site.ask("GET", "/v1/views", &page, "").await.0, 200);
}

#[tokio::test]
async fn what_administrators_do_and_others_try_is_recorded() {
    let site = Site::new(GUARDED).await;
    let (admin, read) = (
        site.token("boss", Role::Admin, "").await,
        site.token("guest", Role::Read, "*").await,
    );
    site.status("POST", "/v1/views/apply?dry_run=true", &admin).await;
    site.status("POST", "/v1/views/apply", &read).await;
    site.status("POST", "/v1/views/apply", "ab_0123456789ab_x").await;
    site.status("GET", "/v1/secret", &admin).await;
    site.ask("POST", "/v1/login", &[], &format!(r#"{{"token": "{read}"}}"#))
        .await;
    let records = audit_records(&site.store, NaiveDate::MIN, 100).await.unwrap();
    let told: Vec<_> = records
        .iter()
        .map(|record| (record.who.as_str(), record.action.as_str(), record.outcome.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("boss", "POST /v1/views/apply?dry_run=true", "ok 200"),
            ("guest", "POST /v1/views/apply", "denied 403"),
            ("guest", "POST /v1/login", "ok 200"),
        ]
    );
    assert!(
        records
            .iter()
            .all(|record| record.from == ADDRESS && record.service == "serve-1")
    );
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_wait() {
    let site = Site::new("[access]\nmode = 'tokens'\nrequests_per_second = 1\nfailures_per_minute = 3\n").await;
    let read = site.token("read", Role::Read, "*").await;
    let mut permitted = 0;
    while site.status("GET", "/v1/views", &read).await == 200 {
        permitted += 1;
        assert!(permitted < 10_000, "nobody is told to wait");
    }
    assert!(permitted >= 10, "a burst is permitted");
    let mut refused = 0;
    let told = loop {
        let answer = site.ask("GET", "/v1/views", &[("authorization", "Bearer x")], "").await;
        if answer.0 == 429 {
            break answer;
        }
        assert_eq!(answer.0, 401);
        refused += 1;
        assert!(refused < 10_000, "nobody is told to wait");
    };
    assert!(refused >= 3, "a burst of failures is told no more than others");
    assert!(told.1["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(site.ask("GET", "/healthz", &[], "").await.0, 200);
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let site = Site::new(GUARDED).await;
    for path in ["/v1/views", "/healthz", "/nowhere"] {
        let (_, headers, _) = site.ask("GET", path, &[], "").await;
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert_eq!(headers["x-frame-options"], "DENY", "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'self'"),
            "{policy}"
        );
    }
}

#[test]
fn addresses_of_one_party_count_as_one() {
    let of = |text: &str| network(text.parse().unwrap());
    assert_eq!(of("2001:db8:1:2:3::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
}
