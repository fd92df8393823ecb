//! A query that runs: its rows as they come, until it ends, fails, takes too long, or is dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use anabranch_access::Principal;
use anabranch_model::CoverageMap;
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result as QueryResult;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};

use crate::Error;
use crate::admission::{QueryMemory, Ticket, slice_bytes};
use crate::format::{Answer, MAX_ANSWER_BYTES};

/// A running query. Dropping its stream cancels it.
pub struct Running {
    /// Columns of every batch of the stream.
    pub schema: SchemaRef,
    /// Rows. An error ends it; errors are [`Error`]s in DataFusion's `External` where they are ours.
    pub stream: SendableRecordBatchStream,
    /// What the answer covers, by view.
    pub coverage: CoverageMap,
}

/// The rows of a query where they are computed: with its permit and its end.
pub(crate) struct Rows {
    inner: SendableRecordBatchStream,
    schema: SchemaRef,
    ticket: Ticket,
    principal: Principal,
    stop: BoxFuture<'static, Error>,
    ended: bool,
}

/// Ends when the query must, whatever it has got done: its time is up, or whoever asked counts no more.
fn stop(ticket: &Ticket, principal: &Principal) -> BoxFuture<'static, Error> {
    let ((at, after), principal) = (ticket.deadline(), principal.clone());
    async move {
        tokio::select! {
            biased;
            denied = principal.ended() => Error::Ended(denied),
            () = tokio::time::sleep_until(at) => Error::Timeout { after },
        }
    }
    .boxed()
}

impl Rows {
    pub(crate) fn new(
        inner: SendableRecordBatchStream,
        schema: SchemaRef,
        ticket: Ticket,
        principal: Principal,
    ) -> Self {
        Self {
            inner,
            schema,
            stop: stop(&ticket, &principal),
            ticket,
            principal,
            ended: false,
        }
    }

    /// What ends the query while nobody asks for its rows.
    pub(crate) fn stop(&self) -> BoxFuture<'static, Error> {
        stop(&self.ticket, &self.principal)
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// All rows at once.
    ///
    /// # Errors
    /// `AnswerTooLarge`, and whatever the query meets.
    pub(crate) async fn collect(mut self, coverage: CoverageMap) -> Result<Answer, Error> {
        let memory = QueryMemory::new(self.ticket.memory(), "the answer");
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = self.next().await {
            let batch = batch?;
            let size = slice_bytes(&batch);
            bytes += size;
            if bytes > MAX_ANSWER_BYTES {
                return Err(self.ticket.fail(Error::AnswerTooLarge {
                    limit_bytes: MAX_ANSWER_BYTES,
                }));
            }
            memory.take(size).map_err(|error| self.ticket.fail(error))?;
            if batch.num_rows() > 0 {
                batches.push(batch);
            }
        }
        Ok(Answer {
            schema: Arc::clone(&self.schema),
            batches,
            coverage,
        })
    }

    /// The batch as it was announced: operators may sharpen nullability, and planning may have settled on another type.
    fn announced(&self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                cast(column, field.data_type())
            }
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}

impl Stream for Rows {
    type Item = Result<RecordBatch, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match self.stop.poll_unpin(cx) {
            Poll::Ready(error) => Some(Err(error)),
            Poll::Pending => match ready!(self.inner.poll_next_unpin(cx)) {
                None => None,
                Some(Ok(batch)) => Some(self.announced(&batch)),
                Some(Err(error)) => Some(Err(Error::from_query(error))),
            },
        };
        Poll::Ready(match next {
            Some(Ok(batch)) => Some(Ok(batch)),
            Some(Err(error)) => {
                self.ended = true;
                Some(Err(self.ticket.fail(error)))
            }
            None => {
                self.ended = true;
                self.ticket.succeed();
                None
            }
        })
    }
}

/// Rows that are computed elsewhere, as front ends read them.
pub(crate) struct Piped<S> {
    pub(crate) schema: SchemaRef,
    pub(crate) rows: S,
}

impl<S: Stream<Item = Result<RecordBatch, Error>> + Unpin> Stream for Piped<S> {
    type Item = QueryResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows
            .poll_next_unpin(cx)
            .map(|next| next.map(|batch| batch.map_err(Into::into)))
    }
}

impl<S: Stream<Item = Result<RecordBatch, Error>> + Unpin> RecordBatchStream for Piped<S> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
