//! The answer to one reader: its connection, and the next event that it is given.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anabranch_access::Principal;
use anabranch_model::ErrorKind;
use anabranch_runtime::Shutdown;
use anabranch_runtime::http::ApiError;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream;

use super::event::{self, End, Start};
use super::feed::{Beat, Key, Reading, begin, due};
use crate::Error;
use crate::openapi::{
    self, AtLeast, Demand, Invalid, Layer, NotFound, OneView, Selection, TimedOut, TooLarge, Unavailable,
};
use crate::params;
use crate::rows::RowsRequest;
use crate::service::Service;
use crate::views;

/// How often changes are sent unless the request says otherwise, and the bounds of what it may say.
const INTERVAL: Duration = Duration::from_millis(250);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// A comment is sent when nothing else was for so long.
const QUIET: Duration = Duration::from_secs(10);
/// How often a request is begun again when the definition of its view changes at the same moment.
const ATTEMPTS: u32 = 5;

type Pairs = Query<Vec<(String, String)>>;

/// Rows of one view, then what changes, as Server-Sent Events.
///
/// Events `snapshot`, `change`, `trouble` and `end`, each with JSON; docs/live.md describes them, and how to come back with
/// `Last-Event-ID`. The answer has no end of its own.
#[utoipa::path(get, path = "/v1/views/{view}/live", operation_id = "followRows", tag = "queries",
    params(OneView, Selection, Demand, AtLeast, Layer, openapi::Interval),
    responses((status = 200, description = "The stream.", content((String = "text/event-stream"))),
        Invalid, NotFound, TooLarge, Unavailable, TimedOut))]
pub(crate) async fn live(
    State(service): State<Arc<Service>>,
    Extension(principal): Extension<Principal>,
    name: Result<Path<String>, PathRejection>,
    pairs: Result<Pairs, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(Error::from)?;
    let Query(mut pairs) = pairs.map_err(Error::from)?;
    let mut interval = INTERVAL;
    for (_, text) in pairs.extract_if(.., |(name, _)| name == "interval") {
        interval = params::span("interval", &text, SHORTEST_INTERVAL, LONGEST_INTERVAL)?;
    }
    // The same query, however its parameters are ordered. Of two equal ones the later counts, so these keep their order.
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    let last_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    for _ in 0..ATTEMPTS {
        let view = views::find(&service.adoption.pin().served, &principal, &name)?.clone();
        let request = RowsRequest::parse(&view, &pairs)?;
        let key = Key {
            view: name.clone(),
            hash: view.hash().clone(),
            pairs: pairs.clone(),
        };
        let reading = service.live.join(key, &view, request, interval)?;
        let who = (principal.clone(), service.live.shutdown.clone());
        let Some(reader) = Reader::start(reading, interval, last_id, who).await? else {
            continue;
        };
        return Ok(respond(reader));
    }
    Err(Error::Superseded.into())
}

fn respond(reader: Reader) -> Response {
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok::<Bytes, Infallible>(event), reader))
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather answers would hold events back (nginx).
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// One connection.
struct Reader {
    reading: Reading,
    interval: Duration,
    principal: Principal,
    shutdown: Shutdown,
    /// What the reader holds; `None` before its first event.
    position: Option<u64>,
    /// It named a position that is not known.
    start: Start,
    sent: Option<Instant>,
    /// Since when nothing at all was sent.
    quiet: Instant,
    /// The last failure it was told of.
    trouble: u64,
    greeted: bool,
    ended: bool,
}

impl Reader {
    /// Waits for rows, so that what is wrong with the query is answered with a status of its own. `None`: the view changed at
    /// this moment.
    async fn start(
        mut reading: Reading,
        interval: Duration,
        last_id: Option<&str>,
        (principal, shutdown): (Principal, Shutdown),
    ) -> Result<Option<Self>, ApiError> {
        let joined = Instant::now();
        let beat = {
            // Rows are no older than this reader's changes will be.
            let ready = reading.beats.wait_for(|beat| {
                let is_recent = beat.looked.is_some_and(|looked| looked + interval >= joined);
                is_recent || beat.trouble.is_some() || beat.end.is_some()
            });
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    return Err(ApiError::new(ErrorKind::Unavailable, "this service is stopping").with_hint("ask anew"));
                }
                beat = ready => match beat {
                    Ok(beat) => beat.clone(),
                    Err(_) => return Err(ApiError::new(ErrorKind::Internal, "a live query has failed")),
                },
            }
        };
        match beat {
            Beat {
                trouble: Some((_, error)),
                ..
            } => return Err(error.as_ref().clone()),
            Beat { end: Some(_), .. } => return Ok(None),
            Beat { .. } => {}
        }
        let known = last_id.and_then(|id| reading.feed.position(id));
        let known = known.filter(|position| {
            let state = beat.state.as_ref();
            state.is_some_and(|state| state.rows.since(*position).is_some())
        });
        Ok(Some(Self {
            reading,
            interval,
            principal,
            shutdown,
            position: known,
            start: match (last_id, known) {
                (Some(_), None) => Start::Unknown,
                _ => Start::New,
            },
            sent: None,
            quiet: Instant::now(),
            trouble: 0,
            greeted: false,
            ended: false,
        }))
    }

    /// The next bytes to send; waits for them. `None` when there are no more.
    async fn next(&mut self) -> Option<Bytes> {
        let next = self.wait().await;
        self.quiet = Instant::now();
        next
    }

    async fn wait(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if !self.greeted {
            self.greeted = true;
            return Some(Bytes::from_static(event::RETRY));
        }
        loop {
            // However much there is to tell.
            if let Err(denied) = self.principal.standing() {
                return Some(self.end(&End::AccessEnded(denied)));
            }
            let beat = self.reading.beats.borrow_and_update().clone();
            let wait = match due(self.sent, self.interval) {
                // Nothing is made before it may be sent: what comes meanwhile belongs to it.
                Some(due) if due > Instant::now() && self.is_news(&beat) => Some(due),
                _ => match self.event(&beat) {
                    Some(event) => return Some(event),
                    None => None,
                },
            };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Some(self.end(&End::Draining)),
                denied = self.principal.ended() => return Some(self.end(&End::AccessEnded(denied))),
                () = sleep_until(wait) => {}
                changed = self.reading.beats.changed(), if wait.is_none() => {
                    if changed.is_err() && self.reading.beats.borrow().end.is_none() {
                        return Some(self.end(&End::Failed("the live query has failed; ask anew".into())));
                    }
                }
                () = sleep_until(Some(self.quiet + QUIET)) => return Some(Bytes::from_static(event::HEARTBEAT)),
            }
        }
    }

    fn is_news(&self, beat: &Beat) -> bool {
        let position = beat.state.as_ref().map(|state| state.rows.position());
        beat.end.is_some()
            || position != self.position
            || beat.trouble.as_ref().is_some_and(|(n, _)| *n != self.trouble)
    }

    fn event(&mut self, beat: &Beat) -> Option<Bytes> {
        if let Some(end) = &beat.end {
            return Some(self.end(end));
        }
        let state = beat.state.as_ref();
        let state = state.filter(|state| self.sent.is_none() || self.position != Some(state.rows.position()));
        let Some(state) = state else {
            let (number, error) = beat.trouble.as_ref().filter(|(number, _)| *number != self.trouble)?;
            self.trouble = *number;
            return Some(count("trouble", event::trouble(error)));
        };
        let position = state.rows.position();
        let feed = &self.reading.feed;
        let changes = self.position.and_then(|held| feed.change(state, held));
        let event = match changes {
            Some(event) => count("change", event),
            None => {
                // Whoever had a position has one no more.
                let start = if self.position.is_some() {
                    Start::Unknown
                } else {
                    self.start
                };
                count("snapshot", begin(feed, state, self.interval, start))
            }
        };
        self.position = Some(position);
        self.sent = Some(Instant::now());
        Some(event)
    }

    fn end(&mut self, end: &End) -> Bytes {
        self.ended = true;
        count("end", end.encode())
    }
}

fn count(event: &'static str, bytes: Bytes) -> Bytes {
    metrics::counter!("anabranch_serving_live_events_total", "event" => event).increment(1);
    bytes
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
