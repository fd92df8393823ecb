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
use axum::routing::{any, delete, get, post};
use axum::{Extension, Json, Router};
use chrono::Utc;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::Error;
use crate::compute::{Compute, LARGE_ROWS, cpu};
use crate::dead_letters;
use crate::definitions::apply_views;
use crate::exclusions;
use crate::format::{Answer, Encoded, Format, Writer};
use crate::live::live;
use crate::openapi;
use crate::params::{self, SqlRequest};
use crate::query::{Rows, Session};
use crate::rows::{RowsRequest, rows};
use crate::server::Service;
use crate::status::{self, Reports};
use crate::views;

/// Largest body of `POST /v1/sql`, in bytes (axum's own default).
const SQL_BODY_BYTES: u64 = 2 << 20;

/// Answers of up to so many bytes are sent whole, with their length.
const STREAM_BYTES: usize = 256 << 10;

/// How long past its time a query may still be on its way to notice.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// How often a request is begun again when the definition of its view changes at the same moment.
const ATTEMPTS: u32 = 5;

type Pairs = Query<Vec<(String, String)>>;

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
    Router::new()
        .route("/v1/sql", post(sql))
        .route("/v1/views", get(list_views))
        .route("/v1/views/apply", post(apply_views))
        .route("/v1/views/{view}", get(show_view))
        .route("/v1/views/{view}/rows", get(view_rows))
        .route("/v1/views/{view}/live", get(live))
        .route(
            "/v1/tables/{table}/exclusions",
            get(exclusions::list).post(exclusions::exclude),
        )
        .route("/v1/tables/{table}/exclusions/{id}", delete(exclusions::include))
        .route("/v1/tables/{table}/dead-letters", get(dead_letters::list))
        .route("/v1/tables/{table}/dead-letters/redrive", post(dead_letters::redrive))
        .route("/v1/tables/{table}/dead-letters/redrives", get(dead_letters::redrives))
        .route(
            "/v1/tables/{table}/dead-letters/redrives/{number}",
            get(dead_letters::show_redrive),
        )
        .route(
            "/v1/tables/{table}/dead-letters/{partition}/{offset}",
            get(dead_letters::show),
        )
        .route("/v1/status", get(show_status))
        .route("/openapi.json", get(openapi::serve))
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
    let (engine, session, wait) = (service.engine.clone(), Session::new(principal), demand.timeout);
    if format == Format::Json {
        let query = async move { engine.answer(&request.sql, values, &demand, &session).await };
        return answer(&service, format, started, wait, query).await;
    }
    let open = async move { engine.open(&request.sql, values, &demand, &session).await };
    let (rows, coverage) = within(&service, wait, service.compute.run(open)).await?;
    let head = format.head(&coverage)?;
    let body = streamed(&service.compute, format, rows).await?;
    Ok(Encoded { head, body })
}

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
        let memory = Arc::clone(service.engine.memory());
        let wait = request.wait();
        let work = async move { rows(&consistency, (&admission, &memory), &view, request).await };
        match answer(&service, format, started, wait, work).await {
            Err(Error::Superseded) if attempt < ATTEMPTS => attempt += 1,
            settled => return settled,
        }
    }
}

/// Runs a query on the query runtime, within the time it has, and puts its answer into bytes there.
async fn answer(
    service: &Service,
    format: Format,
    started: Instant,
    wait: std::time::Duration,
    query: impl Future<Output = Result<Answer, Error>> + Send + 'static,
) -> Result<Encoded, Error> {
    let work = service.compute.run(async move {
        let answer = query.await?;
        let rows: usize = answer.batches.iter().map(RecordBatch::num_rows).sum();
        cpu(rows > LARGE_ROWS, move || format.encode(&answer, started.elapsed())).await
    });
    within(service, wait, work).await
}

/// A query minds its own time; this answers for one that does not come round to it.
async fn within<T>(
    service: &Service,
    wait: std::time::Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let after = *service.settings.serving.query_timeout + wait;
    tokio::time::timeout(after + GRACE, work)
        .await
        .map_err(|_| Error::Timeout { after })?
}

/// The rows as a body: whole if they are few, otherwise as they come. What fails before the first bytes are sent is an
/// answer of its own; what fails later breaks the body off.
async fn streamed(compute: &Compute, format: Format, rows: Rows) -> Result<Body, Error> {
    let mut writer = Writer::new(format, rows.schema())?;
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
    let mut pieces = compute.pipe(1, encoded);
    while first.len() < STREAM_BYTES {
        match pieces.next().await {
            Some(piece) => first.append(&mut piece?),
            None => return Ok(Body::from(first)),
        }
    }
    let first = futures::stream::once(async { Ok(first) });
    Ok(Body::from_stream(first.chain(pieces)))
}

async fn list_views(State(service): State<Arc<Service>>, Extension(principal): Extension<Principal>) -> Json<Value> {
    let published = service.adoption.pin();
    let visible = views::visible(&published.served, &principal);
    let views: Vec<Value> = visible.map(|view| views::summary(view, &published)).collect();
    Json(json!({"definitions": published.definitions.number, "views": views}))
}

async fn show_view(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    name: Result<Path<String>, PathRejection>,
    pairs: Result<Pairs, QueryRejection>,
) -> Result<Json<Value>, Error> {
    let Path(name) = name.map_err(bad_path)?;
    let Query(pairs) = pairs.map_err(bad_query)?;
    let demand = params::of_pairs(&pairs)?;
    let mut attempt = 1;
    loop {
        let view = views::find(&service.adoption.pin().served, &principal, &name)?.clone();
        let consistency = Arc::clone(&service.consistency);
        let demand = demand.clone();
        let detail = service.compute.run(async move {
            let frozen = consistency.freeze(std::slice::from_ref(&view), &demand).await?;
            let coverage = frozen.coverage().remove(view.name()).unwrap_or_default();
            Ok(views::detail(&view, frozen.published(), &coverage))
        });
        match detail.await {
            Err(Error::Superseded) if attempt < ATTEMPTS => attempt += 1,
            settled => return Ok(Json(settled?)),
        }
    }
}

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
    Json(status::visible(whole, &principal, &published))
}

async fn forward_batch(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Error> {
    let services = service.directory.services();
    let turn = service.directory.next_turn(services.batch.len());
    let lease = services.batch.get(turn).ok_or_else(|| Error::NoService {
        message: "no batch service is alive".into(),
        hint: "start one with `anabranch batch`".into(),
    })?;
    service.forwarder.forward(&lease.address, request, SQL_BODY_BYTES).await
}

async fn forward_ingest(State(service): State<Arc<Service>>, request: Request) -> Result<Response, Error> {
    let services = service.directory.services();
    let turn = service.directory.next_turn(services.speed.len());
    let worker = services.speed.get(turn).ok_or_else(|| Error::NoService {
        message: "no speed worker is alive".into(),
        hint: "start one with `anabranch speed`".into(),
    })?;
    service
        .forwarder
        .forward(&worker.address, request, service.settings.serving.max_ingest_body.get())
        .await
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
