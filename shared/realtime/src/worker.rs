use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anabranch_access::Caller;
use anabranch_model::realtime::{SNAPSHOT_ACTION, SnapshotReply, SnapshotRequest, StateTicket};
use anabranch_trace::{Kind, Span};
use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Ticket};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::secure::secure_connector;
use crate::{Error, SpeedWorker};

/// How long a speed worker may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// While something is read from a worker it is asked at these intervals whether it is still there, and has so long to say so:
/// one that is frozen, or whose machine is gone, ends the read instead of holding up its reader for ever.
const ALIVE: Alive = Alive {
    every: Duration::from_secs(5),
    timeout: Duration::from_secs(10),
};
/// A worker that takes longer to freeze a snapshot counts as not answering.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(2);
/// A worker that lives, and sends nothing of what is read from it for so long, counts as lost.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest Flight message taken from a speed worker, in bytes. Workers send record batches of a few thousand rows.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// A connection to one speed worker. Cheap to clone; connects when first used, and again after a loss.
#[derive(Clone, Debug)]
pub struct Worker {
    id: String,
    calls: Calls,
    caller: Caller,
}

/// How a worker is called.
#[derive(Clone, Debug)]
enum Calls {
    Flight(FlightServiceClient<Channel>),
    Simulated(Arc<dyn Peer>),
}

/// A worker as a simulation reaches it, in place of Flight.
#[doc(hidden)]
pub trait Peer: fmt::Debug + Send + Sync {
    /// As [`Worker::snapshot`]; the error is what a caller would see.
    fn snapshot(&self, request: &SnapshotRequest) -> BoxFuture<'static, Result<SnapshotReply, String>>;

    /// As [`Worker::state`].
    fn state(&self, ticket: &StateTicket) -> BoxFuture<'static, Result<Vec<RecordBatch>, String>>;
}

/// Finds the workers of a simulation, by the address in their lease.
#[doc(hidden)]
pub trait Peers: fmt::Debug + Send + Sync {
    fn at(&self, address: &str) -> Arc<dyn Peer>;
}

impl Worker {
    /// # Errors
    /// When its address is none.
    pub(crate) fn new(worker: &SpeedWorker, caller: Caller) -> Result<Self, Error> {
        let failed = |error: tonic::transport::Error| Error::WorkerFailed {
            worker: worker.id.clone(),
            message: format!("its address {} cannot be used: {error}", worker.address),
        };
        let endpoint = tuned(Endpoint::from_shared(worker.address.clone()).map_err(failed)?, ALIVE);
        let channel = match caller.tls() {
            Some(tls) if worker.address.starts_with("https://") => {
                endpoint.connect_with_connector_lazy(secure_connector(Arc::clone(tls)))
            }
            _ => endpoint.connect_lazy(),
        };
        Ok(Self {
            id: worker.id.clone(),
            calls: Calls::Flight(FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)),
            caller,
        })
    }

    pub(crate) fn simulated(worker: &SpeedWorker, peers: &dyn Peers) -> Self {
        Self {
            id: worker.id.clone(),
            calls: Calls::Simulated(peers.at(&worker.address)),
            caller: Caller::plain(),
        }
    }

    /// Worker id, as in its lease.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Freezes one snapshot of the views asked for.
    ///
    /// # Errors
    /// When the worker does not answer in time, or another process answers at its address.
    pub async fn snapshot(&self, request: &SnapshotRequest) -> Result<SnapshotReply, Error> {
        let reply = match &self.calls {
            Calls::Flight(client) => self.call_snapshot(client.clone(), request).await?,
            Calls::Simulated(peer) => peer.snapshot(request).await.map_err(|message| self.failed(message))?,
        };
        if reply.worker != self.id {
            // Another process has taken over the address; its own lease names it properly.
            return Err(self.failed(format!("{} answers at its address", reply.worker)));
        }
        Ok(reply)
    }

    async fn call_snapshot(
        &self,
        mut client: FlightServiceClient<Channel>,
        request: &SnapshotRequest,
    ) -> Result<SnapshotReply, Error> {
        let body = serde_json::to_vec(request).expect("a snapshot request has only string and integer keys");
        let action = Action {
            r#type: SNAPSHOT_ACTION.to_owned(),
            body: body.into(),
        };
        let span = self.span("snapshot");
        let call = async {
            let mut results = client.do_action(self.request(action, &span)).await?.into_inner();
            let first = results.message().await?;
            // Read to its end: a stream that is dropped before is a reset, of which HTTP/2 allows so many.
            while results.message().await?.is_some() {}
            Ok::<_, tonic::Status>(first)
        };
        let result = timeout(SNAPSHOT_TIMEOUT, call)
            .await
            .map_err(|_| self.failed(format!("no snapshot within {SNAPSHOT_TIMEOUT:?}")))?
            .map_err(|status| self.failed(status.to_string()))?
            .ok_or_else(|| self.failed("an empty answer to a snapshot request".into()))?;
        serde_json::from_slice(&result.body).map_err(|error| self.failed(error.to_string()))
    }

    /// Reads one view's partial state out of a snapshot of this worker.
    ///
    /// # Errors
    /// When the worker is lost on the way, or has forgotten the snapshot.
    pub async fn state(&self, ticket: &StateTicket) -> Result<Vec<RecordBatch>, Error> {
        self.state_stream(ticket).await?.try_collect().await
    }

    /// As [`state`](Self::state), batch by batch.
    ///
    /// # Errors
    /// As [`state`](Self::state), from the call or from the stream.
    pub async fn state_stream(
        &self,
        ticket: &StateTicket,
    ) -> Result<BoxStream<'static, Result<RecordBatch, Error>>, Error> {
        let mut client = match &self.calls {
            Calls::Flight(client) => client.clone(),
            Calls::Simulated(peer) => {
                let batches = peer.state(ticket).await.map_err(|message| self.failed(message))?;
                return Ok(futures::stream::iter(batches.into_iter().map(Ok)).boxed());
            }
        };
        let ticket = serde_json::to_vec(ticket).expect("a state ticket is plain data");
        let request = self.request(Ticket { ticket: ticket.into() }, &self.span("read state"));
        let stream = timeout(MESSAGE_TIMEOUT, client.do_get(request))
            .await
            .map_err(|_| self.failed(silent(MESSAGE_TIMEOUT)))?
            .map_err(|status| self.failed(status.to_string()))?
            .into_inner();
        let worker = self.id.clone();
        Ok(
            FlightRecordBatchStream::new_from_flight_data(within(MESSAGE_TIMEOUT, stream).map_err(Into::into).boxed())
                .map_err(move |error| Error::WorkerFailed {
                    worker: worker.clone(),
                    message: error.to_string(),
                })
                .boxed(),
        )
    }

    /// A span of asking this worker.
    fn span(&self, name: &'static str) -> Option<Span> {
        let mut span = Span::child(Kind::Client, name)?;
        span.text("anabranch.worker", self.id.as_str());
        Some(span)
    }

    /// A call that says who makes it, and in which trace.
    fn request<T>(&self, message: T, span: &Option<Span>) -> Request<T> {
        let mut request = with_context(message, span);
        let shown = self.caller.authorization();
        if let Some(value) = shown.and_then(|value| MetadataValue::try_from(value.as_bytes()).ok()) {
            request.metadata_mut().insert("authorization", value);
        }
        request
    }

    fn failed(&self, message: String) -> Error {
        Error::WorkerFailed {
            worker: self.id.clone(),
            message,
        }
    }
}

fn silent(limit: Duration) -> String {
    format!("it has sent nothing for {limit:?}")
}

/// A stream that fails when its next message takes longer than `limit`. Time that its reader takes does not count.
fn within<T>(
    limit: Duration,
    messages: impl Stream<Item = Result<T, Status>> + Unpin + Send,
) -> impl Stream<Item = Result<T, Status>> + Send {
    futures::stream::try_unfold(messages, move |mut messages| async move {
        let next = timeout(limit, messages.next()).await;
        let next = next.map_err(|_| Status::deadline_exceeded(silent(limit)))?;
        Ok(next.transpose()?.map(|message| (message, messages)))
    })
}

/// How often a worker is asked whether it is still there, and how long it may take to say so.
#[derive(Clone, Copy, Debug)]
struct Alive {
    every: Duration,
    timeout: Duration,
}

/// How connections to workers are kept.
fn tuned(endpoint: Endpoint, alive: Alive) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(alive.every)
        .keep_alive_timeout(alive.timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
}

/// A request that tells the worker which trace it belongs to.
fn with_context<T>(message: T, span: &Option<Span>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(span) = span {
        span.context().outgoing(request.metadata_mut().as_mut());
    }
    request
}

#[cfg(test)]
mod tests;
