use super::*;

fn session() -> Session {
    Session::new(Principal::anonymous_admin(), "me")
}

#[test]
fn demands_hold_for_the_session() {
    let mut session = session();
    session.set("anabranch.require", Some("exact")).unwrap();
    session
        .set("anabranch.at_least", Some("wikipedia/0=12, wikipedia/1 = 7"))
        .unwrap();
    session.set("anabranch.timeout", Some("250ms")).unwrap();
    let demand = session.demand();
    assert!(demand.exact);
    assert_eq!(demand.at_least["wikipedia/1"], 7);
    assert_eq!(demand.patience, Duration::from_millis(250));
    session
        .set("anabranch.at_least", Some(r#"{"wikipedia/0": 3}"#))
        .unwrap();
    assert_eq!(session.demand().at_least["wikipedia/0"], 3);
    assert_eq!(session.show("anabranch.require").unwrap(), "exact");
    session.reset();
    assert_eq!(session.demand(), &Demand::default());
}

#[test]
fn what_a_connection_began_with_is_what_reset_goes_back_to() {
    let mut session = session();
    session
        .begin_with(&[
            ("application_name".into(), "psql".into()),
            ("anabranch.require".into(), "exact".into()),
        ])
        .unwrap();
    session.set("application_name", Some("other")).unwrap();
    session.set("anabranch.require", Some("")).unwrap();
    session.reset();
    assert_eq!(session.show("application_name").unwrap(), "psql");
    assert!(session.demand().exact);
}

#[test]
fn changes_that_clients_hear_of_are_reported() {
    let mut session = session();
    let changed = session.set("application_name", Some("x")).unwrap();
    assert_eq!(changed.report, Some(("application_name", "x".into())));
    let changed = session.set("timezone", Some("Europe/Berlin")).unwrap();
    assert_eq!(changed.report, Some(("TimeZone", "UTC".into())));
    assert!(changed.warning.is_some(), "that it changes nothing must be said");
    assert!(session.set("TimeZone", Some("Etc/UTC")).unwrap().warning.is_none());
}

#[test]
fn what_cannot_be_is_refused() {
    let mut session = session();
    for (name, value, code) in [
        ("nonsense", "1", "42704"),
        ("anabranch.nonsense", "1", "42704"),
        ("anabranch.require", "most", "22023"),
        ("anabranch.at_least", "wikipedia/0", "22023"),
        ("client_encoding", "LATIN1", "22023"),
        ("statement_timeout", "soon", "22023"),
        ("server_encoding", "LATIN1", "55P02"),
    ] {
        assert_eq!(session.set(name, Some(value)).unwrap_err().code, code, "{name}");
    }
    assert_eq!(session.show("nonsense").unwrap_err().code, "42704");
    session.set("other.program", Some("1")).unwrap();
    assert_eq!(session.show("other.program").unwrap(), "1");
}

#[test]
fn a_statement_timeout_of_zero_is_none() {
    let mut session = session();
    session.set("statement_timeout", Some("1500")).unwrap();
    assert_eq!(session.statement_timeout(), Some(Duration::from_millis(1500)));
    session.set("statement_timeout", Some("2min")).unwrap();
    assert_eq!(session.statement_timeout(), Some(Duration::from_secs(120)));
    session.set("statement_timeout", Some("0")).unwrap();
    assert_eq!(session.statement_timeout(), None);
}
