//! What reads views: SQL, the rows of one view, and what views there are.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_access::Principal;
use arrow::array::RecordBatch;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use futures::{FutureExt, StreamExt};

use crate::Error;
use crate::compute::{Compute, LARGE_ROWS, cpu};
use crate::format::{Answer, Document, Encoded, Format, Writer};
use crate::openapi::{AtLeast, Demand, Invalid, Layer, NotFound, OneView, Selection, TimedOut, TooLarge, Unavailable};
use crate::params::{self, SqlRequest};
use crate::query::Rows;
use crate::rows::{RowsRequest, rows};
use crate::service::Service;
use crate::views;

/// Answers of up to so many bytes are sent whole, with their length.
const STREAM_BYTES: usize = 256 << 10;

/// How long past its time a query may still be on its way to notice.
const GRACE: Duration = Duration::from_secs(1);

/// How often a request is begun again when the definition of its view changes at the same moment.
const ATTEMPTS: u32 = 5;

type Pairs = Query<Vec<(String, String)>>;

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
pub(super) async fn sql(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Encoded, Error> {
    let started = Instant::now();
    let format = Format::accepted(&headers)?;
    let request = SqlRequest::parse(&body?)?;
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
pub(super) async fn view_rows(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    name: Result<Path<String>, PathRejection>,
    pairs: Result<Pairs, QueryRejection>,
    headers: HeaderMap,
) -> Result<Encoded, Error> {
    let started = Instant::now();
    let format = Format::accepted(&headers)?;
    let Path(name) = name?;
    let Query(pairs) = pairs?;
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
    (started, wait): (Instant, Duration),
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
    wait: Duration,
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
pub(super) async fn list_views(
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
pub(super) async fn show_view(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    name: Result<Path<String>, PathRejection>,
    pairs: Result<Pairs, QueryRejection>,
) -> Result<Json<views::Detail>, Error> {
    let Path(name) = name?;
    let Query(pairs) = pairs?;
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
