//! What operations answer when they fail: all of them in the same format.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

/// A status, and what it means whichever operation answers it.
type Failure = (u16, &'static str);

/// Of every operation.
pub(super) const OF_ALL: [Failure; 1] = [(500, "A defect of Anabranch; the log has more.")];

/// What those are answered who may not ask, or ask too often.
pub(super) const OF_GUARDED: [Failure; 3] = [
    (401, "A valid credential is needed."),
    (
        403,
        "The credential does not permit it, or a page of another origin asked.",
    ),
    (429, "Too many requests; `Retry-After` says how long to wait."),
];

/// Adds failures that an operation does not name itself.
pub(super) fn add(operation: &mut Operation, failures: &[Failure]) {
    for (status, meaning) in failures {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_string()).or_insert_with(|| failure(meaning));
    }
}

fn failure(meaning: &str) -> RefOr<Response> {
    let error = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Error")))
        .build();
    let response = ResponseBuilder::new()
        .description(meaning)
        .content("application/json", error);
    response.build().into()
}

/// Names a failure, for `responses(…)` of an operation.
macro_rules! failures {
    ($($name:ident: $status:literal, $meaning:literal;)*) => {$(
        #[doc = $meaning]
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([($status.to_string(), failure($meaning))])
            }
        }
    )*};
}

failures! {
    Invalid: 400, "The request is wrong; the message says what to change.";
    NotFound: 404, "There is no such thing; the hint names the nearest one.";
    Conflict: 409, "Somebody else changed what this was based on, or it contradicts what is there.";
    TooLarge: 413, "The body, or the answer, is too large.";
    UnknownType: 415, "The body's type or encoding is not known.";
    Unavailable: 503, "A service that is needed does not answer, or no exact answer could be given in time; try again.";
    TimedOut: 504, "The query took too long, or the answer did not reach what `at_least` asks for in time.";
    Unclear: 504, "The service that it was passed on to has it and does not answer: it may still take effect; the hint says how to see.";
    DiskFull: 507, "The disk of the log is full; nothing more was ingested.";
}
