use std::collections::BTreeMap;

use super::skip;

/// An S3-compatible store with atomic conditional puts.
#[derive(Debug)]
pub struct S3Server {
    /// `s3://bucket`.
    pub url: String,
    /// What `[storage.options]` needs to reach it.
    pub options: BTreeMap<String, String>,
}

/// The store that this test binary shares; `None`, with the reason printed, where none can run.
pub fn s3() -> Option<&'static S3Server> {
    skip("no S3-compatible store with conditional puts is at hand");
    None
}
