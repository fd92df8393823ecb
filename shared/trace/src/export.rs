use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::Error;
use crate::proto::{EXPORT, ExportRequest, ExportResponse, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span};

/// Spans that wait to be sent; more are dropped.
const CAPACITY: usize = 8_192;
/// Spans of one request, and how long the first of them waits for others.
const BATCH: usize = 512;
const LINGER: Duration = Duration::from_millis(500);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

static INSTALLED: OnceLock<Installed> = OnceLock::new();

struct Installed {
    messages: mpsc::Sender<Message>,
    ratio: f64,
}

enum Message {
    Span(Box<Span>),
    /// Everything before has to be sent now.
    Flush(oneshot::Sender<()>),
}

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:4317`.
    pub endpoint: String,
    /// Share of the traces that begin here and are sampled, from 0 to 1.
    pub ratio: f64,
    /// `service.name`, such as `anabranch-serve`.
    pub service: String,
    pub version: String,
}

/// Sends spans until the process ends.
#[derive(Debug)]
pub struct Exporter(());

/// Starts to send spans, for the whole process. Must be called on a tokio runtime.
///
/// # Errors
/// When the endpoint is no address, or an exporter is there already.
pub fn install(options: Options) -> Result<Exporter, Error> {
    let endpoint = Endpoint::from_shared(options.endpoint.clone()).map_err(|source| Error::Endpoint {
        endpoint: options.endpoint.clone(),
        source,
    })?;
    let channel = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect_lazy();
    let (messages, received) = mpsc::channel(CAPACITY);
    let installed = Installed {
        messages,
        ratio: options.ratio,
    };
    INSTALLED.set(installed).map_err(|_| Error::Installed)?;
    tokio::spawn(run(channel, options, received));
    Ok(Exporter(()))
}

impl Exporter {
    /// Sends what waits, for [`PATIENCE`] at most: for the end of the process.
    pub async fn flush(&self) {
        let Some(installed) = INSTALLED.get() else { return };
        let (done, ended) = oneshot::channel();
        let flushed = async {
            if installed.messages.send(Message::Flush(done)).await.is_ok() {
                let _ = ended.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, flushed).await;
    }
}

pub(crate) fn is_installed() -> bool {
    INSTALLED.get().is_some()
}

/// Whether a trace that begins now is sampled; `None` without an exporter.
pub(crate) fn sample() -> Option<bool> {
    INSTALLED.get().map(|installed| rand::random::<f64>() < installed.ratio)
}

/// Hands a span over; one that finds no room is dropped.
pub(crate) fn send(span: Span) {
    if let Some(installed) = INSTALLED.get()
        && installed.messages.try_send(Message::Span(Box::new(span))).is_err()
    {
        metrics::counter!("anabranch_trace_dropped_spans_total").increment(1);
    }
}

async fn run(channel: Channel, options: Options, mut messages: mpsc::Receiver<Message>) {
    let mut client = Grpc::new(channel);
    let mut failing = false;
    while let Some(first) = messages.recv().await {
        let (mut spans, mut flushed) = (Vec::new(), Vec::new());
        let mut take = |message: Message, spans: &mut Vec<Span>| match message {
            Message::Span(span) => spans.push(*span),
            Message::Flush(done) => flushed.push(done),
        };
        take(first, &mut spans);
        let full = async {
            while spans.len() < BATCH
                && let Some(message) = messages.recv().await
            {
                let flush = matches!(message, Message::Flush(_));
                take(message, &mut spans);
                if flush {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, full).await;
        let count = spans.len() as u64;
        if count > 0 {
            match export(&mut client, &options, spans).await {
                Ok(()) => failing = false,
                Err(status) => {
                    metrics::counter!("anabranch_trace_dropped_spans_total").increment(count);
                    // Once, not with every batch.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(endpoint = options.endpoint, %status, "traces cannot be sent; they are dropped");
                    }
                }
            }
        }
        flushed.into_iter().for_each(|done| {
            let _ = done.send(());
        });
    }
}

async fn export(client: &mut Grpc<Channel>, options: &Options, spans: Vec<Span>) -> Result<(), tonic::Status> {
    let request = ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource {
                attributes: vec![
                    KeyValue::text("service.name", &options.service),
                    KeyValue::text("service.version", &options.version),
                    KeyValue::whole("process.pid", std::process::id().into()),
                ],
            }),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope {
                    name: "anabranch".into(),
                    version: options.version.clone(),
                }),
                spans,
            }],
        }],
    };
    client
        .ready()
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let codec: ProstCodec<ExportRequest, ExportResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static(EXPORT);
    client.unary(tonic::Request::new(request), path, codec).await?;
    Ok(())
}
