use super::*;

#[test]
fn what_changes_something_needs_an_administrator() {
    for route in [
        "/v1/views/apply",
        "/v1/batch/{*rest}",
        "/v1/tables/{table}/exclusions",
        "/v1/tables/{table}/dead-letters/redrive",
        "/v1/status",
        "/v1/views",
        "/v1/views/{view}/rows",
        "/something/new",
    ] {
        for method in [
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
        ] {
            assert_eq!(needs(&method, Some(route)), Need::Admin, "{method} {route}");
        }
    }
}

#[test]
fn events_themselves_are_for_administrators_and_views_for_readers() {
    for (route, need) in [
        ("/v1/tables/{table}/dead-letters", Need::Admin),
        ("/v1/tables/{table}/dead-letters/{partition}/{offset}", Need::Admin),
        ("/v1/batch/{*rest}", Need::ReadAll),
        ("/v1/views", Need::Read),
        ("/v1/views/{view}", Need::Read),
        ("/v1/views/{view}/rows", Need::Read),
        ("/v1/views/{view}/live", Need::Read),
        ("/v1/views/apply", Need::Admin),
        ("/something/new", Need::Admin),
        ("/metrics", Need::Metrics),
        ("/", Need::Nothing),
    ] {
        assert_eq!(needs(&Method::GET, Some(route)), need, "{route}");
    }
    assert_eq!(needs(&Method::POST, Some("/v1/sql")), Need::Read);
    assert_eq!(needs(&Method::POST, Some("/v1/ingest/{*rest}")), Need::Ingest);
    assert_eq!(needs(&Method::GET, None), Need::Known);
}
