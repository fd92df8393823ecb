use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use anabranch_access::Principal;
use anabranch_model::ErrorKind;
use anabranch_runtime::Shutdown;
use anabranch_runtime::http::{ApiError, base_router};
use arrow::array::RecordBatch;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{MatchedPath, Path, Query, Request, State};
use axum::http::{HeaderMap, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::any;
use axum::{Extension, Json, Router};
use chrono::Utc;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Error;
use crate::compute::{Compute, LARGE_ROWS, cpu};
use crate::dead_letters;
use crate::exclusions;
use crate::format::{Answer, Document, Encoded, Format, Writer};
use crate::forward::Onward;
use crate::openapi::{
    self, AtLeast, Demand, Invalid, Layer, NotFound, OneView, Selection, TimedOut, TooLarge, Unavailable,
};
use crate::params::{self, SqlRequest};
use crate::query::Rows;
use crate::rows::{RowsRequest, rows};
use crate::server::Service;
use crate::status::{self, Reports};
use crate::views;

/// Largest body of `POST /v1/sql`, in bytes (axum's own default).
const SQL_BODY_BYTES: u64 = 2 << 20;

/// How to see what became of a command to the batch layer that was not answered.
const LOOK_AT_RUNS: &str = "GET /v1/batch/runs (`anabranch runs`) and GET /v1/batch/maintenance show whether it did; if the service has \
     died, another takes over within a quarter of a minute";
/// What to think of events whose ingestion was not answered.
const LOOK_AT_LOG: &str = "all, some or none of the events may be in the log, and those that are there would be counted twice if they were \
     sent again; GET /v1/status shows `log_end` of each partition, and queries show what has arrived";

/// Answers of up to so many bytes are sent whole, with their length.
const STREAM_BYTES: usize = 256 << 10;

/// How long past its time a query may still be on its way to notice.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// How often a request is begun again when the definition of its view changes at the same moment.
const ATTEMPTS: u32 = 5;

type Pairs = Query<Vec<(String, String)>>;

/// The routes that this service answers itself, each with its place in the OpenAPI document.
pub(crate) fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::new()
        .routes(routes!(sql))
        .routes(routes!(list_views))
        .routes(routes!(show_view))
        .routes(routes!(view_rows))
        .routes(routes!(crate::live::live))
        .routes(routes!(crate::definitions::apply_views))
        .routes(routes!(exclusions::list, exclusions::exclude))
        .routes(routes!(exclusions::include))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::redrive))
        .routes(routes!(dead_letters::redrives))
        .routes(routes!(dead_letters::show_redrive))
        .routes(routes!(dead_letters::show))
        .routes(routes!(show_status))
        .routes(routes!(openapi::serve))
}

/// Every route of the serving port.
pub(crate) fn router(service: Arc<Service>, shutdown: Shutdown) -> Router {
    let ready = {
        let service = Arc::clone(&service);
        move || {
            if shutdown.is_cancelled() {
                return Err("it is stopping".to_owned());
            }
            if !service.adoption.is_ready() {
                return Err("the publication log has not been read yet".to_owned());
            }
            if !service.directory.is_ready() {
                return Err("the leases of the other services have not been read yet".to_owned());
            }
            Ok(())
        }
    };
    Router::from(routes())
        .route("/v1/batch/{*rest}", any(forward_batch))
        .route("/v1/ingest/{*rest}", any(forward_ingest))
        .method_not_allowed_fallback(async |uri: Uri| {
            ApiError::new(ErrorKind::Invalid, format!("{} does not take this method", uri.path())).with_status(405)
        })
        .route_layer(from_fn(measure))
        .with_state(service)
        .merge(anabranch_console::router())
        .merge(base_router("serve", ready))
}

async fn measure(request: Request, next: Next) -> Response {
    let endpoint = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("other", MatchedPath::as_str)
        .to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("anabranch_serving_requests_total", "endpoint" => endpoint.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("anabranch_serving_request_seconds", "endpoint" => endpoint)
        .record(started.elapsed().as_secs_f64());
    response
}

/// One SELECT over merged views.
///
/// Any DataFusion SELECT over views, joins included. Read-only: it reaches neither files nor the network.
#[utoipa::path(post, path = "/v1/sql", operation_id = "runSql", tag = "queries",
    request_body(content = SqlRequest, description = "The query, values of its parameters (one for each \
        of `$1`, `$2`, …; a list is an array, as in `page = ANY($1)`), and what its answer must cover.",
        example = json!({"sql": "SELECT page, clicks FROM pages ORDER BY clicks DESC LIMIT 3", "timeout": "2s"})),
    responses((status = 200, description = "The rows, and what they cover.",
            content((Document = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"),
                ("application/vnd.apache.arrow.stream"))),
        Invalid, NotFound, TooLarge, Unavailable, TimedOut))]
async fn sql(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Encoded, Error> {
    let started = Instant::now();
    let format = Format::accepted(&headers)?;
    let request = SqlRequest::parse(&body.map_err(bad_body)?)?;
    let (demand, values) = (request.demand()?, request.values()?);
    let (engine, asks, wait) = (service.engine.clone(), principal.clone(), demand.timeout);
    if format == Format::Json {
        let query = async move { engine.answer(&request.sql, values, &demand, &asks).await };
        return answer(&service, &principal, format, (started, wait), query).await;
    }
    let open = async move { engine.open(&request.sql, values, &demand, &asks).await };
    let (rows, coverage) = within(&service, &principal, wait, service.compute.run(open)).await?;
    let head = format.head(&coverage)?;
    let body = streamed(&service.compute, format, rows).await?;
    Ok(Encoded { head, body })
}

/// Rows of one view: filters, order, columns.
///
/// Filters on group keys read the selected groups only.
#[utoipa::path(get, path = "/v1/views/{view}/rows", operation_id = "viewRows", tag = "queries",
    params(OneView, Selection, Demand, AtLeast, Layer),
    responses((status = 200, description = "The rows, and what they cover.",
            content((Document = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"),
                ("application/vnd.apache.arrow.stream"))),
        Invalid, NotFound, TooLarge, Unavailable, TimedOut))]
async fn view_rows(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    name: Result<Path<String>, PathRejection>,
    pairs: Result<Pairs, QueryRejection>,
    headers: HeaderMap,
) -> Result<Encoded, Error> {
    let started = Instant::now();
    let format = Format::accepted(&headers)?;
    let Path(name) = name.map_err(bad_path)?;
    let Query(pairs) = pairs.map_err(bad_query)?;
    let mut attempt = 1;
    loop {
        // A request is read by the version that answers it: columns may have changed between two attempts.
        let view = views::find(&service.adoption.pin().served, &principal, &name)?.clone();
        let request = RowsRequest::parse(&view, &pairs)?;
        let (consistency, admission) = (Arc::clone(&service.consistency), Arc::clone(&service.admission));
        let wait = request.wait();
        let work = async move { rows(&consistency, &admission, &view, request).await };
        match answer(&service, &principal, format, (started, wait), work).await {
            Err(Error::Superseded) if attempt < ATTEMPTS => attempt += 1,
            settled => return settled,
        }
    }
}

/// Runs a query on the query runtime, within the time it has, and puts its answer into bytes there.
async fn answer(
    service: &Service,
    principal: &Principal,
    format: Format,
    (started, wait): (Instant, std::time::Duration),
    query: impl Future<Output = Result<Answer, Error>> + Send + 'static,
) -> Result<Encoded, Error> {
    let work = service.compute.run(async move {
        let answer = query.await?;
        let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
        cpu(rows > LARGE_ROWS, move || format.encode(&answer, started.elapsed())).await
    });
    within(service, principal, wait, work).await
}

/// A query minds its own time; this answers for one that does not come round to it, and to whoever counts no more.
async fn within<T>(
    service: &Service,
    principal: &Principal,
    wait: std::time::Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let after = *service.settings.serving.query_timeout + wait;
    tokio::select! {
        biased;
        denied = principal.ended() => Err(Error::Ended(denied)),
        done = tokio::time::timeout(after + GRACE, work) => done.map_err(|_| Error::Timeout { after })?,
    }
}

/// The rows as a body: whole if they are few, otherwise as they come. What fails before the first bytes are sent is an
/// answer of its own; what fails later breaks the body off.
async fn streamed(compute: &Compute, format: Format, rows: Rows) -> Result<Body, Error> {
    let mut writer = Writer::new(format, rows.schema())?;
    let stop = rows.stop().map(Err);
    let mut first = writer.begin();
    let encoded = futures::stream::try_unfold(Some((rows, writer)), async |state| {
        let Some((mut rows, mut writer)) = state else {
            return Ok(None);
        };
        Ok::<_, Error>(match rows.next().await {
            Some(batch) => Some((writer.batch(&batch?)?, Some((rows, writer)))),
            None => Some((writer.finish()?, None)),
        })
    });
    let mut pieces = compute.pipe(1, encoded, stop);
    while first.len() < STREAM_BYTES {
        match pieces.next().await {
            Some(piece) => first.append(&mut piece?),
            None => return Ok(Body::from(first)),
        }
    }
    let first = futures::stream::once(async { Ok(first) });
    Ok(Body::from_stream(first.chain(pieces)))
}

/// All views, with columns and size.
#[utoipa::path(get, path = "/v1/views", operation_id = "listViews", tag = "queries",
    responses((status = 200, description = "The views that are served.", body = views::List)))]
async fn list_views(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
) -> Json<views::List> {
    let published = service.adoption.pin();
    let visible = views::visible(&published.served, &principal);
    Json(views::List {
        definitions: published.definitions.number,
        views: visible.map(|view| views::summary(view, &published)).collect(),
    })
}

/// Definition, plan and coverage of a view.
#[utoipa::path(get, path = "/v1/views/{view}", operation_id = "showView", tag = "queries",
    params(OneView, Demand, AtLeast),
    responses((status = 200, description = "The view.", body = views::Detail), Invalid, NotFound, Unavailable, TimedOut))]
async fn show_view(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    name: Result<Path<String>, PathRejection>,
    pairs: Result<Pairs, QueryRejection>,
) -> Result<Json<views::Detail>, Error> {
    let Path(name) = name.map_err(bad_path)?;
    let Query(pairs) = pairs.map_err(bad_query)?;
    let demand = params::of_pairs(&pairs)?;
    let mut attempt = 1;
    loop {
        let view = views::find(&service.adoption.pin().served, &principal, &name)?.clone();
        let consistency = Arc::clone(&service.consistency);
        let (demand, wait) = (demand.clone(), demand.timeout);
        let detail = service.compute.run(async move {
            let frozen = consistency.freeze(std::slice::from_ref(&view), &demand).await?;
            let coverage = frozen.coverage().remove(view.name()).unwrap_or_default();
            Ok(views::detail(&view, frozen.published(), coverage))
        });
        match within(&service, &principal, wait, detail).await {
            Err(Error::Superseded) if attempt < ATTEMPTS => attempt += 1,
            settled => return Ok(Json(settled?)),
        }
    }
}

/// Lag, segments, publication and services.
#[utoipa::path(get, path = "/v1/status", operation_id = "status", tag = "platform",
    responses((status = 200, description = "The platform as this service sees it.", body = openapi::Status)))]
async fn show_status(State(service): State<Arc<Service>>, Extension(principal): Extension<Principal>) -> Json<Value> {
    let services = service.directory.services();
    let published = service.adoption.pin();
    let reports = Reports::gather(&service.forwarder, &services, published.catalog(), &service.masters).await;
    let mut whole = status::document(
        &service.id,
        published.catalog(),
        &published,
        &services,
        &reports,
        Utc::now(),
    );
    let (running, waiting) = service.admission.counts();
    whole["queries"] = json!({"running": running, "waiting": waiting});
    let (running, waiting) = service.admission.looks();
    whole["live_looks"] = json!({"running": running, "waiting": waiting});
    Json(status::visible(whole, &principal, &published))
}

async fn forward_batch(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Error> {
    let services = service.directory.services();
    let turn = service.directory.next_turn(services.batch.len());
    let lease = services.batch.get(turn).ok_or_else(|| Error::NoService {
        message: "no batch service is alive".into(),
        hint: "start one with `anabranch batch`".into(),
    })?;
    let onward = Onward {
        address: &lease.address,
        limit_bytes: SQL_BODY_BYTES,
        look: LOOK_AT_RUNS,
    };
    service.forwarder.forward(onward, request).await
}

async fn forward_ingest(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Error> {
    let services = service.directory.services();
    let turn = service.directory.next_turn(services.speed.len());
    let worker = services.speed.get(turn).ok_or_else(|| Error::NoService {
        message: "no speed worker is alive".into(),
        hint: "start one with `anabranch speed`".into(),
    })?;
    let onward = Onward {
        address: &worker.address,
        limit_bytes: service.settings.serving.max_ingest_body.get(),
        look: LOOK_AT_LOG,
    };
    service.forwarder.forward(onward, request).await
}

pub(crate) fn bad_body(rejection: BytesRejection) -> Error {
    if rejection.status().as_u16() == 413 {
        return Error::BodyTooLarge {
            limit_bytes: SQL_BODY_BYTES,
        };
    }
    Error::Request {
        message: rejection.body_text(),
        hint: None,
    }
}

pub(crate) fn bad_path(rejection: PathRejection) -> Error {
    Error::Request {
        message: rejection.body_text(),
        hint: None,
    }
}

pub(crate) fn bad_query(rejection: QueryRejection) -> Error {
    Error::Request {
        message: rejection.body_text(),
        hint: Some("write name=value pairs, percent-encoded".into()),
    }
}
