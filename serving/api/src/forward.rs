use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anabranch_access::{Caller, Calls, Principal, Unanswered, is_safe};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::Response;
use futures::Stream;

use crate::Error;

/// Headers that belong to one connection (RFC 9110, section 7.6.1) or are set anew for the next one.
const NOT_FORWARDED: [HeaderName; 11] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    // Who asked has been found out; the other service is told by whom we speak for.
    header::AUTHORIZATION,
    header::COOKIE,
];

/// Where a request goes.
pub(crate) struct Onward<'a> {
    /// `http://host:port` of the service.
    pub(crate) address: &'a str,
    /// A larger body is cut off and refused.
    pub(crate) limit_bytes: u64,
    /// How to find out whether a command took effect that was not answered.
    pub(crate) look: &'static str,
}

/// Passes requests on to other services. Bodies are streamed both ways.
pub(crate) struct Forwarder {
    calls: Calls,
    caller: Caller,
}

impl Forwarder {
    pub(crate) fn new(caller: Caller) -> Result<Self, Error> {
        let calls = caller.calls()?;
        Ok(Self { calls, caller })
    }

    /// Sends `request` to the same path at another service.
    ///
    /// # Errors
    /// `BodyTooLarge`; `NoService` when the other side does not answer and has changed nothing; `Unclear` when it may have.
    pub(crate) async fn forward(&self, onward: Onward<'_>, request: Request) -> Result<Response, Error> {
        let Onward {
            address,
            limit_bytes,
            look,
        } = onward;
        let (head, body) = request.into_parts();
        let declared = head
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|length| length > limit_bytes) {
            return Err(Error::BodyTooLarge { limit_bytes });
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let outcome = Outcome::default();
        let limited = Limited {
            body: body.into_data_stream(),
            left: limit_bytes,
            outcome: outcome.clone(),
        };
        let mut headers = kept(&head.headers);
        anabranch_trace::outgoing(&mut headers);
        let changes_nothing = is_safe(&head.method);
        let mut outgoing = self
            .calls
            .client()
            .request(head.method, format!("{}{path}", address.trim_end_matches('/')))
            .headers(headers);
        let principal = head.extensions.get::<Principal>();
        if let Some(shown) = principal.and_then(|principal| self.caller.authorization_of(principal)) {
            outgoing = outgoing.header(header::AUTHORIZATION, shown);
        }
        // A request without a body must not become a chunked one.
        if declared.is_some_and(|length| length > 0) || head.headers.contains_key(header::TRANSFER_ENCODING) {
            outgoing = outgoing.body(reqwest::Body::wrap_stream(limited));
        }
        let answer = match self.calls.send(address, outgoing).await {
            Ok(answer) => answer,
            Err(_) if outcome.is_cut_off() => return Err(Error::BodyTooLarge { limit_bytes }),
            Err(Unanswered::Unclear(why)) if !changes_nothing => {
                return Err(Error::Unclear {
                    address: address.to_owned(),
                    why,
                    look,
                });
            }
            Err(error) => {
                return Err(Error::NoService {
                    message: format!("the service at {address} does not answer: {error}"),
                    hint: "it may have just stopped; try again in a few seconds".into(),
                });
            }
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = kept(answer.headers());
        *response.body_mut() = Body::from_stream(self.calls.body(answer));
        Ok(response)
    }

    /// Reads a JSON document of another service.
    ///
    /// # Errors
    /// In words, for a status page.
    pub(crate) async fn json(&self, url: String, timeout: Duration) -> Result<serde_json::Value, String> {
        let mut request = self.calls.client().get(url).timeout(timeout);
        if let Some(shown) = self.caller.authorization() {
            request = request.header(header::AUTHORIZATION, shown);
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let answer = answer.error_for_status().map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| error.to_string())
    }
}

fn kept(headers: &HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| !NOT_FORWARDED.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Remembers whether the body was cut off, which the HTTP client only reports as a broken body.
#[derive(Clone, Default)]
struct Outcome(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Outcome {
    fn cut_off(&self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    fn is_cut_off(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A body that fails once more than `left` bytes came by.
struct Limited {
    body: axum::body::BodyDataStream,
    left: u64,
    outcome: Outcome,
}

impl Stream for Limited {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.body).poll_next(cx);
        polled.map(|next| {
            next.map(|chunk| {
                let chunk = chunk?;
                match self.left.checked_sub(chunk.len() as u64) {
                    Some(left) => self.left = left,
                    None => {
                        self.outcome.cut_off();
                        return Err("the body is too large".into());
                    }
                }
                Ok(chunk)
            })
        })
    }
}

#[cfg(test)]
mod tests;
