use super::*;

fn session() -> Session {
    Session::new(Principal::anonymous_admin(), "me")
}

fn set(session: &mut Session, name: &str, value: Option<&str>) -> Result<Changed, PgError> {
    session.set(name, value, Lasting::Session)
}

#[test]
fn demands_hold_for_the_session() {
    let mut session = session();
    set(&mut session, "anabranch.require", Some("exact")).unwrap();
    set(
        &mut session,
        "anabranch.at_least",
        Some("wikipedia/0=12, wikipedia/1 = 7"),
    )
    .unwrap();
    set(&mut session, "anabranch.timeout", Some("250ms")).unwrap();
    let demand = session.demand();
    assert!(demand.exact);
    assert_eq!(demand.at_least["wikipedia/1"], 7);
    assert_eq!(demand.patience, Duration::from_millis(250));
    set(&mut session, "anabranch.at_least", Some(r#"{"wikipedia/0": 3}"#)).unwrap();
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
    set(&mut session, "application_name", Some("other")).unwrap();
    set(&mut session, "anabranch.require", Some("")).unwrap();
    session.reset();
    assert_eq!(session.show("application_name").unwrap(), "psql");
    assert!(session.demand().exact);
}

#[test]
fn changes_that_clients_hear_of_are_reported() {
    let mut session = session();
    let changed = set(&mut session, "application_name", Some("x")).unwrap();
    assert_eq!(changed.report, Some(("application_name", "x".into())));
    let changed = set(&mut session, "timezone", Some("Europe/Berlin")).unwrap();
    assert_eq!(changed.report, Some(("TimeZone", "UTC".into())));
    assert!(changed.warning.is_some(), "that it changes nothing must be said");
    assert!(
        set(&mut session, "TimeZone", Some("Etc/UTC"))
            .unwrap()
            .warning
            .is_none()
    );
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
        assert_eq!(set(&mut session, name, Some(value)).unwrap_err().code, code, "{name}");
    }
    assert_eq!(session.show("nonsense").unwrap_err().code, "42704");
    set(&mut session, "other.program", Some("1")).unwrap();
    assert_eq!(session.show("other.program").unwrap(), "1");
}

#[test]
fn a_statement_timeout_of_zero_is_none() {
    let mut session = session();
    set(&mut session, "statement_timeout", Some("1500")).unwrap();
    assert_eq!(session.statement_timeout(), Some(Duration::from_millis(1500)));
    set(&mut session, "statement_timeout", Some("2min")).unwrap();
    assert_eq!(session.statement_timeout(), Some(Duration::from_secs(120)));
    set(&mut session, "statement_timeout", Some("0")).unwrap();
    assert_eq!(session.statement_timeout(), None);
}

/// A connection that began with a demand; what RESET goes back to, of one setting as of all.
#[test]
fn one_setting_is_reset_to_what_the_connection_began_with() {
    let mut session = session();
    session
        .begin_with(&[("anabranch.require".into(), "exact".into())])
        .unwrap();
    set(&mut session, "anabranch.require", Some("")).unwrap();
    assert!(!session.demand().exact);
    set(&mut session, "Anabranch.Require", None).unwrap();
    assert!(session.demand().exact);
    assert_eq!(session.show("anabranch.require").unwrap(), "exact");
}

#[test]
fn what_is_set_in_a_transaction_goes_when_it_is_rolled_back() {
    let mut session = session();
    set(&mut session, "application_name", Some("before")).unwrap();
    session.begin();
    set(&mut session, "anabranch.require", Some("exact")).unwrap();
    set(&mut session, "application_name", Some("within")).unwrap();
    assert!(session.demand().exact);
    assert_eq!(session.end(false), [("application_name", "before".to_owned())]);
    assert!(!session.demand().exact);
    session.begin();
    set(&mut session, "anabranch.require", Some("exact")).unwrap();
    assert_eq!(session.end(true), []);
    assert!(session.demand().exact, "what is committed stays");
}

#[test]
fn what_is_set_locally_goes_with_the_transaction() {
    let mut session = session();
    let local = |session: &mut Session, value| session.set("anabranch.require", value, Lasting::Transaction);
    session.begin();
    assert_eq!(local(&mut session, Some("exact")).unwrap(), Changed::default());
    set(&mut session, "anabranch.timeout", Some("1s")).unwrap();
    assert!(session.demand().exact);
    session.end(true);
    assert!(!session.demand().exact);
    assert_eq!(session.demand().patience, Duration::from_secs(1), "what lasts is kept");
    // The other way round: what holds for the session is lifted for one transaction.
    set(&mut session, "anabranch.require", Some("exact")).unwrap();
    session.begin();
    local(&mut session, Some("")).unwrap();
    assert!(!session.demand().exact);
    session.end(true);
    assert!(session.demand().exact);
    set(&mut session, "anabranch.require", None).unwrap();
    // Without a transaction it says that it does nothing.
    let changed = local(&mut session, Some("exact")).unwrap();
    assert_eq!(changed.warning.unwrap().code, "25P01");
    assert!(!session.demand().exact);
    assert_eq!(local(&mut session, Some("most")).unwrap_err().code, "22023");
}

#[test]
fn savepoints_take_back_what_was_set_after_them() {
    let mut session = session();
    assert_eq!(session.save("a").unwrap_err().code, "25P01");
    session.begin();
    set(&mut session, "application_name", Some("one")).unwrap();
    session.save("a").unwrap();
    set(&mut session, "application_name", Some("two")).unwrap();
    session.save("b").unwrap();
    session
        .set("anabranch.require", Some("exact"), Lasting::Transaction)
        .unwrap();
    assert_eq!(session.roll_back_to("b").unwrap(), []);
    assert!(!session.demand().exact);
    assert_eq!(
        session.roll_back_to("a").unwrap(),
        [("application_name", "one".to_owned())]
    );
    assert_eq!(session.roll_back_to("b").unwrap_err().code, "3B001", "it came after");
    set(&mut session, "application_name", Some("three")).unwrap();
    assert_eq!(
        session.roll_back_to("a").unwrap(),
        [("application_name", "one".to_owned())],
        "it is still there"
    );
    session.release("a").unwrap();
    assert_eq!(session.release("a").unwrap_err().code, "3B001");
    session.end(true);
    assert_eq!(session.show("application_name").unwrap(), "one");
    assert_eq!(session.roll_back_to("a").unwrap_err().code, "25P01");
}

#[test]
fn savepoints_of_one_name_are_as_many_as_were_made() {
    let mut session = session();
    session.begin();
    for _ in 0..5_000 {
        session.save("each").unwrap();
    }
    session.save("other").unwrap();
    set(&mut session, "application_name", Some("x")).unwrap();
    session.save("each").unwrap();
    for _ in 0..5_001 {
        session.release("each").unwrap();
    }
    assert_eq!(session.release("each").unwrap_err().code, "3B001");
    assert_eq!(session.show("application_name").unwrap(), "x");
    for number in 0..MAX_SAVEPOINTS {
        session.save(&number.to_string()).unwrap();
    }
    assert_eq!(session.save("one more").unwrap_err().code, "53400");
}
