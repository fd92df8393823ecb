//! Arrow's own format, from strangers. The reader of it believes lengths that it finds: of a compressed body how large it will
//! be, of a buffer where it ends. The first it reserves, and the process ends where that cannot be had; of the second it panics.

use std::any::Any;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::root_as_message;
use futures::FutureExt;
use tonic::Status;

/// Begins each message of a stream.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Refuses a message that says that its body is compressed: parameters are small.
///
/// # Errors
/// `InvalidArgument` for that, and for what is no message.
pub(crate) fn check(header: &[u8]) -> Result<(), Status> {
    body_length(header).map(drop)
}

/// How long the body is that follows a message.
fn body_length(header: &[u8]) -> Result<usize, Status> {
    let message = root_as_message(header).map_err(|_| bad("a message cannot be read"))?;
    let batch = message.header_as_record_batch();
    let batch = batch.or_else(|| message.header_as_dictionary_batch().and_then(|batch| batch.data()));
    if batch.is_some_and(|batch| batch.compression().is_some()) {
        return Err(bad("they are compressed"));
    }
    usize::try_from(message.bodyLength()).map_err(|_| bad("a length is below zero"))
}

/// The batches of a whole stream.
///
/// # Errors
/// `InvalidArgument` when it is none.
pub(crate) fn read(stream: &[u8]) -> Result<Vec<RecordBatch>, Status> {
    let mut rest = stream;
    while !rest.is_empty() {
        let after = rest.strip_prefix(&CONTINUATION).unwrap_or(rest);
        let (length, after) = after.split_first_chunk().ok_or_else(|| bad("they are cut off"))?;
        let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| bad("a length is below zero"))?;
        if length == 0 {
            break;
        }
        let (header, after) = after.split_at_checked(length).ok_or_else(|| bad("they are cut off"))?;
        rest = after
            .get(body_length(header)?..)
            .ok_or_else(|| bad("they are cut off"))?;
    }
    let batches =
        || -> Result<Vec<RecordBatch>, ArrowError> { StreamReader::try_new(Cursor::new(stream), None)?.collect() };
    match catch_unwind(batches) {
        Ok(batches) => batches.map_err(|error| bad(&error.to_string())),
        Err(panic) => Err(panicked(panic)),
    }
}

/// Decodes what a stranger sent; a panic over it is their mistake.
///
/// # Errors
/// `InvalidArgument` for that.
pub(crate) async fn decoding<T>(work: impl Future<Output = T>) -> Result<T, Status> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(panicked)
}

fn panicked(_: Box<dyn Any + Send>) -> Status {
    bad("buffers do not fit together")
}

pub(crate) fn bad(why: &str) -> Status {
    Status::invalid_argument(format!("the parameters cannot be used: {why}"))
}
