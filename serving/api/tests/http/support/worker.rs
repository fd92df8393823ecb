use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_dataset::Lease;
use anabranch_model::realtime::{Piece, SNAPSHOT_ACTION, SnapshotReply, SnapshotRequest, StateTicket, ViewPieces};
use anabranch_model::{Offset, OffsetRange, PartitionId, RangeSet};
use anabranch_view::View;
use arrow::array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use axum::Router;
use axum::extract::Request as HttpRequest;
use axum::routing::{any, get};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tonic::{Request, Response, Status, Streaming};

use super::{Event, range, serve, state};

/// A speed worker with its logs in memory. Answers truthfully unless told otherwise.
#[derive(Clone)]
pub struct Worker {
    pub id: String,
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    views: Arc<Vec<View>>,
}

#[derive(Default)]
struct Inner {
    /// Source and partition → what is owned.
    owned: BTreeMap<(String, i32), Owned>,
    snapshots: BTreeMap<u64, Frozen>,
    /// Answers a view's partitions with this instead of the truth, so many more times.
    lies: BTreeMap<String, (usize, Piece)>,
    /// Source and partition → what pieces say they leave out.
    excluded: BTreeMap<(String, PartitionId), RangeSet>,
    /// Fails this many DoGets.
    failing_reads: usize,
    /// Lets the view be unknown.
    unknown: Option<String>,
    slow: Option<Duration>,
    pub asked: Vec<SnapshotRequest>,
    pub tickets: Vec<StateTicket>,
}

#[derive(Default)]
struct Owned {
    epoch: i64,
    log: Vec<Event>,
    /// Offset of the first event of `log`.
    start: i64,
}

type Frozen = BTreeMap<String, BTreeMap<PartitionId, RecordBatch>>;

impl Worker {
    pub async fn start(id: &str, views: Arc<Vec<View>>) -> Self {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let mut worker = Self {
            id: id.into(),
            address: ([127, 0, 0, 1], 0).into(),
            inner,
            views,
        };
        let flight = FlightServiceServer::new(worker.clone());
        let status = worker.clone();
        let router = Router::new()
            .route("/v1/status", get(async move || axum::Json(status.status())))
            .route("/v1/ingest/{table}", any(echo))
            .route_service("/arrow.flight.protocol.FlightService/{*method}", flight);
        worker.address = serve(router).await;
        worker
    }

    pub fn own(&self, source: &str, partition: i32, epoch: i64) {
        self.inner
            .lock()
            .unwrap()
            .owned
            .entry((source.into(), partition))
            .or_default()
            .epoch = epoch;
    }

    /// Appends events to a partition: consumed at once.
    pub fn consume(&self, source: &str, partition: i32, events: &[Event]) {
        let mut inner = self.inner.lock().unwrap();
        inner
            .owned
            .get_mut(&(source.into(), partition))
            .unwrap()
            .log
            .extend_from_slice(events);
    }

    pub fn lie(&self, view: &str, times: usize, piece: Piece) {
        self.inner.lock().unwrap().lies.insert(view.into(), (times, piece));
    }

    /// Says from now on that realtime state leaves this out.
    pub fn leave_out(&self, source: &str, partition: i32, range: OffsetRange) {
        let key = (source.to_owned(), PartitionId(partition));
        self.inner
            .lock()
            .unwrap()
            .excluded
            .entry(key)
            .or_default()
            .extend([range]);
    }

    pub fn fail_reads(&self, times: usize) {
        self.inner.lock().unwrap().failing_reads = times;
    }

    pub fn forget_view(&self, view: &str) {
        self.inner.lock().unwrap().unknown = Some(view.into());
    }

    pub fn be_slow(&self, by: Duration) {
        self.inner.lock().unwrap().slow = Some(by);
    }

    pub fn tickets(&self) -> Vec<StateTicket> {
        std::mem::take(&mut self.inner.lock().unwrap().tickets)
    }

    pub fn asked(&self) -> Vec<SnapshotRequest> {
        std::mem::take(&mut self.inner.lock().unwrap().asked)
    }

    /// The lease of this moment. `total`: partitions of each source that has an owner.
    pub fn lease(&self, total: i32) -> Lease {
        let inner = self.inner.lock().unwrap();
        let mut sources = serde_json::Map::new();
        for ((source, partition), owned) in &inner.owned {
            let entry = sources
                .entry(source)
                .or_insert_with(|| json!({"topic": source, "partitions_total": total, "owned": {}}));
            let next = owned.start + owned.log.len() as i64;
            entry["owned"][partition.to_string()] =
                json!({"epoch": owned.epoch, "next_consumed": next, "next_landed": next - 1, "end": next + 3});
        }
        Lease {
            kind: "speed".into(),
            id: self.id.clone(),
            address: format!("http://{}", self.address),
            facts: json!({"sources": sources, "state_bytes": 0}),
            ttl: Duration::from_secs(600),
        }
    }

    fn status(&self) -> Value {
        let inner = self.inner.lock().unwrap();
        let mut sources = serde_json::Map::new();
        for ((source, partition), owned) in &inner.owned {
            let entry = sources.entry(source).or_insert_with(|| {
                json!({"dead_letters": 2, "dead_letter_samples": [{"reason": "bad"}], "columns_never_seen": ["blob"], "partitions": {}})
            });
            let next = owned.start + owned.log.len() as i64;
            entry["partitions"][partition.to_string()] = json!({
                "owned": true, "epoch": owned.epoch, "next_consumed": next, "next_landed": next - 1, "log_end": next + 3,
                "segments": {"open": 1, "sealed": 4, "runs": 9, "bytes": 77},
            });
        }
        json!({"worker": self.id, "sources": sources})
    }

    fn freeze(&self, request: SnapshotRequest) -> SnapshotReply {
        let mut inner = self.inner.lock().unwrap();
        inner.asked.push(request.clone());
        let id = inner.snapshots.len() as u64 + 1;
        let mut reply = SnapshotReply {
            id,
            worker: self.id.clone(),
            views: BTreeMap::new(),
        };
        let mut frozen = Frozen::new();
        let excluded = inner.excluded.clone();
        for asked in request.views {
            let known = self
                .views
                .iter()
                .find(|view| view.name() == asked.view && view.hash() == &asked.hash);
            let Some(view) = known.filter(|_| inner.unknown.as_ref() != Some(&asked.view)) else {
                continue;
            };
            let lie = match inner.lies.get_mut(&asked.view) {
                Some((times, piece)) if *times > 0 => {
                    *times -= 1;
                    Some(piece.clone())
                }
                _ => None,
            };
            let mut pieces = ViewPieces::default();
            for ((source, partition), owned) in &inner.owned {
                if source != &view.source().name {
                    continue;
                }
                let partition = PartitionId(*partition);
                let end = owned.start + owned.log.len() as i64;
                let from = asked.cut.get(partition).map_or(owned.start, |cut| cut.0);
                let piece = match &lie {
                    Some(lie) => lie.clone(),
                    None if from > end => Piece::CutAhead {
                        epoch: owned.epoch,
                        through: Offset(end),
                    },
                    None => Piece::Ready {
                        epoch: owned.epoch,
                        range: range(from, end),
                    },
                };
                if from <= end {
                    let events = &owned.log[(from - owned.start) as usize..];
                    frozen
                        .entry(asked.view.clone())
                        .or_default()
                        .insert(partition, state(view, events));
                }
                if let (Piece::Ready { range, .. }, Some(left_out)) =
                    (&piece, excluded.get(&(source.clone(), partition)))
                {
                    pieces.excluded.insert(partition, left_out.within(*range));
                }
                pieces.partitions.insert(partition, piece);
            }
            reply.views.insert(asked.view, pieces);
        }
        inner.snapshots.insert(id, frozen);
        reply
    }

    fn read(&self, ticket: &StateTicket) -> Result<(View, Vec<RecordBatch>), Status> {
        let mut inner = self.inner.lock().unwrap();
        inner.tickets.push(ticket.clone());
        if inner.failing_reads > 0 {
            inner.failing_reads -= 1;
            return Err(Status::unavailable("told to fail"));
        }
        let view = self
            .views
            .iter()
            .find(|view| view.name() == ticket.view)
            .unwrap()
            .clone();
        let frozen = inner
            .snapshots
            .get(&ticket.snapshot)
            .ok_or_else(|| Status::not_found("no such snapshot"))?;
        let filter = ticket.filter.as_deref().map(|sql| view.key_filter(sql).unwrap());
        let batches = frozen
            .get(&ticket.view)
            .into_iter()
            .flatten()
            .filter(|(partition, _)| ticket.partitions.is_empty() || ticket.partitions.contains(partition))
            .map(|(_, state)| match &filter {
                Some(filter) => filter.apply(state).unwrap(),
                None => state.clone(),
            })
            .collect();
        Ok((view, batches))
    }
}

/// Answers with what it was sent.
async fn echo(request: HttpRequest) -> axum::Json<Value> {
    let (head, body) = request.into_parts();
    let kept = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let mut chunks = body.into_data_stream();
    let mut bytes = 0;
    let mut start = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { break };
        bytes += chunk.len();
        start.extend(chunk.iter().take(20usize.saturating_sub(start.len())));
    }
    axum::Json(json!({
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "content_type": kept("content-type"),
        "custom": kept("x-custom"),
        "bytes": bytes,
        "start": String::from_utf8_lossy(&start),
    }))
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl FlightService for Worker {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let action = request.into_inner();
        assert_eq!(action.r#type, SNAPSHOT_ACTION);
        let reply = self.freeze(serde_json::from_slice(&action.body).unwrap());
        // After it has frozen: what comes meanwhile is in no answer to those who asked before.
        let slow = self.inner.lock().unwrap().slow;
        if let Some(by) = slow {
            tokio::time::sleep(by).await;
        }
        let body = serde_json::to_vec(&reply).unwrap();
        Ok(Response::new(
            stream::iter([Ok(ActionResult { body: body.into() })]).boxed(),
        ))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let (view, batches) = self.read(&serde_json::from_slice(&request.into_inner().ticket).unwrap())?;
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(view.state_schema())
            .build(stream::iter(batches.into_iter().map(Ok)));
        Ok(Response::new(encoded.map_err(Status::from).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(Status::unimplemented(""))
    }
    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        Err(Status::unimplemented(""))
    }
    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(Status::unimplemented(""))
    }
    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(Status::unimplemented(""))
    }
    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(Status::unimplemented(""))
    }
    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(Status::unimplemented(""))
    }
    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        Err(Status::unimplemented(""))
    }
    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(Status::unimplemented(""))
    }
}
