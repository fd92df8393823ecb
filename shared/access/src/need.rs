use axum::http::Method;

use crate::Principal;

/// What a request needs. Each service says it for its own routes; what it says nothing of needs [`Need::Admin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the answer is the same for every site, or it is how to come in.
    Nothing,
    /// Nothing for the status, but the reason is told to those who may read all.
    Probe,
    /// To be let in.
    Known,
    /// That there may be a view that the principal can see; the handler looks at which.
    Read,
    /// That it may see every view.
    ReadAll,
    /// As [`Need::ReadAll`], or nothing where the settings say so.
    Metrics,
    Ingest,
    /// That it is another service of the site, at its daily work: an administrator, of whom no record is made.
    Service,
    Admin,
}

impl Need {
    /// Whether a principal that was let in has what it needs.
    pub fn is_met_by(self, principal: &Principal) -> bool {
        match self {
            Self::Nothing | Self::Probe | Self::Known => true,
            Self::Read => principal.may_read_any(),
            Self::ReadAll | Self::Metrics => principal.may_read_all(),
            Self::Ingest => principal.may_ingest(),
            Self::Service | Self::Admin => principal.may_administer(),
        }
    }
}

/// Tells what a request needs, by its method and the pattern of the route that it matched; `None` when it matched none.
pub type Needs = fn(&Method, Option<&str>) -> Need;

/// What the routes need that every service has, and requests that match none.
pub fn common_needs(method: &Method, route: Option<&str>) -> Option<Need> {
    let reads = is_safe(method);
    match route {
        // Who was let in learns that there is nothing; a stranger not even that.
        None => Some(Need::Known),
        Some("/healthz") if reads => Some(Need::Nothing),
        Some("/readyz") if reads => Some(Need::Probe),
        Some("/metrics") if reads => Some(Need::Metrics),
        Some(_) => None,
    }
}

/// Whether a method only reads (RFC 9110, section 9.2.1).
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests;
