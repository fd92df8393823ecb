//! Who may do what, and what stands around every port.
//!
//! ```text
//!  request ─► TLS ─► guard ──────────────────────────────────────────────► handler ─► headers for browsers
//!                    │ who?   token · identity provider · session · service    │
//!                    │ may they?   what the route needs                        └─► audit log, for what administrators do
//!                    └ how often?
//! ```
//!
//! Owns: principals, roles and tokens; what services sign for each other; the middleware in front of every router; the audit
//! log. Refuses to own: what a view is, and which route needs which right; the services that answer requests say that
//! ([`Needs`]).
//!
//! Invariants:
//!
//! * No secret is kept or shown: tokens are kept as hashes, and what is compared is compared in constant time.
//! * A route that nobody spoke of needs an administrator.
//! * A stranger gets the same answer whatever they ask for.
//! * A revoked token, and a session that was ended, count no more after `[access] refresh`, in all services, whichever way they
//!   came in by. What is open for long ends then, too ([`Principal::ended`]).

mod access;
mod audit;
mod calls;
mod error;
mod grant;
mod guard;
mod limit;
mod need;
mod oidc;
mod perimeter;
mod principal;
mod session;
mod signed;
mod token;
mod tokens;

pub use access::{Access, Session};
pub use audit::{Audit, AuditRecord, audit_records, forget_audit};
pub use calls::{Calls, Patience, Unanswered};
pub use error::{Denied, Error};
pub use limit::Failures;
pub use need::{Need, Needs, common_needs, is_safe};
pub use perimeter::{Caller, Perimeter, check_exposure};
pub use principal::{Principal, Role, ViewPatterns};
pub use token::{NewToken, ScramVerifier, TokenRecord};
pub use tokens::{Listed, Revocation, Tokens};
