//! The Flight service that serving reads realtime state from: action `snapshot`, then `DoGet` per view.

use std::sync::Arc;
use std::time::Instant;

use anabranch_model::ErrorKind;
use anabranch_model::realtime::{SNAPSHOT_ACTION, SnapshotRequest, StateTicket};
use anabranch_view::View;
use arrow::array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::Error;
use crate::snapshots::Snapshots;

/// Messages are cut to about this size, in bytes; well below gRPC's limit of 4 MiB for one message.
const MESSAGE_BYTES: usize = 1 << 20;

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct Flight {
    snapshots: Arc<Snapshots>,
}

impl Flight {
    pub(crate) fn service(snapshots: Arc<Snapshots>) -> FlightServiceServer<Self> {
        FlightServiceServer::new(Self { snapshots })
    }
}

fn status(error: &Error) -> Status {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::Invalid => Status::invalid_argument(message),
        ErrorKind::NotFound => Status::not_found(message),
        ErrorKind::Conflict => Status::aborted(message),
        ErrorKind::Unavailable => Status::unavailable(message),
        ErrorKind::Data => Status::data_loss(message),
        ErrorKind::Internal => Status::internal(message),
    }
}

/// One view's state: read here when that is quick, otherwise where it holds up nobody.
async fn read(snapshots: &Arc<Snapshots>, ticket: StateTicket) -> Result<(View, Vec<RecordBatch>), Status> {
    let opened = Snapshots::opens_quickly(&ticket)
        .then(|| snapshots.open(&ticket))
        .transpose()
        .map_err(|error| status(&error))?;
    if let Some(reading) = opened.as_ref().filter(|reading| reading.is_quick()) {
        let batches = reading.state().map_err(|error| status(&error))?;
        return Ok((reading.view().clone(), batches));
    }
    let snapshots = Arc::clone(snapshots);
    let work = move || {
        let reading = match opened {
            Some(reading) => reading,
            None => snapshots.open(&ticket)?,
        };
        Ok::<_, Error>((reading.view().clone(), reading.state()?))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| status(&error))
}

fn not_offered<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(format!(
        "the speed layer offers no {what}; see action `{SNAPSHOT_ACTION}` and DoGet"
    )))
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let action = request.into_inner();
        if action.r#type != SNAPSHOT_ACTION {
            return Err(Status::invalid_argument(format!(
                "unknown action {:?}; there is `{SNAPSHOT_ACTION}`",
                action.r#type
            )));
        }
        let request: SnapshotRequest = serde_json::from_slice(&action.body)
            .map_err(|error| Status::invalid_argument(format!("not a snapshot request: {error}")))?;
        let reply = self.snapshots.freeze(&request, Instant::now());
        let body = serde_json::to_vec(&reply).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(
            stream::iter([Ok(ActionResult { body: body.into() })]).boxed(),
        ))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let ticket: StateTicket = serde_json::from_slice(&request.into_inner().ticket)
            .map_err(|error| Status::invalid_argument(format!("not a state ticket: {error}")))?;
        let (view, batches) = read(&self.snapshots, ticket).await?;
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(view.state_schema())
            .with_max_flight_data_size(MESSAGE_BYTES)
            .build(stream::iter(batches.into_iter().map(Ok)));
        Ok(Response::new(encoded.map_err(Status::from).boxed()))
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        let description = "freezes one prefix of the log for several views".to_owned();
        let action = ActionType {
            r#type: SNAPSHOT_ACTION.to_owned(),
            description,
        };
        Ok(Response::new(stream::iter([Ok(action)]).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        not_offered("handshake")
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        not_offered("list of flights")
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        not_offered("flight info")
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        not_offered("flight info")
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        not_offered("schema")
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        not_offered("DoPut")
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        not_offered("DoExchange")
    }
}
