use super::*;
use crate::{Role, ViewPatterns};

#[test]
fn every_need_is_met_by_an_administrator_and_few_by_others() {
    let needs = [
        Need::Nothing,
        Need::Probe,
        Need::Known,
        Need::Read,
        Need::ReadAll,
        Need::Metrics,
        Need::Ingest,
        Need::Admin,
    ];
    let met = |role, views: &str| {
        let principal = Principal::new("p", role, ViewPatterns::new(views.split(',')));
        needs.map(|need| need.is_met_by(&principal))
    };
    assert_eq!(met(Role::Admin, ""), [true; 8]);
    assert_eq!(
        met(Role::Read, ""),
        [true, true, true, false, false, false, false, false]
    );
    assert_eq!(
        met(Role::Read, "a"),
        [true, true, true, true, false, false, false, false]
    );
    assert_eq!(met(Role::Read, "*"), [true, true, true, true, true, true, false, false]);
    assert_eq!(
        met(Role::Ingest, ""),
        [true, true, true, false, false, false, true, false]
    );
    assert_eq!(
        met(Role::Ingest, "*"),
        [true, true, true, true, true, true, true, false]
    );
}

#[test]
fn a_route_that_nobody_spoke_of_is_nothing_common() {
    assert_eq!(common_needs(&Method::GET, None), Some(Need::Known));
    assert_eq!(common_needs(&Method::POST, None), Some(Need::Known));
    assert_eq!(common_needs(&Method::GET, Some("/healthz")), Some(Need::Nothing));
    assert_eq!(common_needs(&Method::POST, Some("/healthz")), None);
    assert_eq!(common_needs(&Method::GET, Some("/v1/new")), None);
}
