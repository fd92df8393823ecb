//! What this service is among its equals: several batch services may stand on one store, and one of them leads.
//!
//! `leader`: who leads · `lease`: what this service tells others of itself · `recovery`: runs whose process has died ·
//! `succession`: how leadership is taken over.

pub(crate) mod leader;
pub(crate) mod lease;
pub(crate) mod recovery;
pub(crate) mod succession;
