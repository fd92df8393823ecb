//! Calls of other services' HTTP ports, none of which can wait for ever.

use std::io;
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};
use tokio::time::{sleep, timeout};

use crate::error::Error;

/// How long a caller waits, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To be let in, TLS included.
    pub connect: Duration,
    /// While an answer is waited for, the service is asked at these intervals whether it lives ...
    pub look_every: Duration,
    /// ... and has so long to say so. A process that is frozen or whose machine is gone does not.
    pub alive_within: Duration,
    /// From the request to the beginning of the answer, of a service that lives. Merging the files of a large table takes its time.
    pub longest: Duration,
    /// From one piece of an answer to the next.
    pub piece_within: Duration,
}

impl Patience {
    /// Of services with each other.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(2),
        look_every: Duration::from_secs(5),
        alive_within: Duration::from_secs(10),
        longest: Duration::from_secs(60 * 60),
        piece_within: Duration::from_secs(30),
    };
}

impl Default for Patience {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The service was not reached, so it has done nothing.
    #[error("it cannot be reached: {0}")]
    NotReached(#[source] reqwest::Error),
    /// The service may have the request, and may do what it says, or have done it.
    #[error("it was sent the request and has not answered: {0}")]
    Unclear(String),
}

/// Sends requests to other services, and gives up on those that do not answer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Calls {
    client: Client,
    patience: Patience,
}

impl Calls {
    /// Calls with a client as `builder` makes it.
    ///
    /// # Errors
    /// When the system gives no client.
    pub fn new(builder: ClientBuilder, patience: Patience) -> Result<Self, Error> {
        let client = builder
            .connect_timeout(patience.connect)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Error::Client(error.to_string()))?;
        Ok(Self { client, patience })
    }

    /// Makes requests, for [`send`](Self::send).
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request to the service at `address`, and waits for the head of its answer for as long as the service lives, up to
    /// [`Patience::longest`].
    ///
    /// # Errors
    /// [`Unanswered`], which says whether the request may take effect all the same.
    pub async fn send(&self, address: &str, request: RequestBuilder) -> Result<Response, Unanswered> {
        tokio::select! {
            biased;
            answer = request.send() => answer.map_err(|error| match error.is_connect() {
                true => Unanswered::NotReached(error),
                false => Unanswered::Unclear(error.to_string()),
            }),
            frozen = self.frozen(address) => Err(Unanswered::Unclear(frozen)),
            () = sleep(self.patience.longest) => {
                Err(Unanswered::Unclear(format!("waited for {:?}", self.patience.longest)))
            }
        }
    }

    /// Ends when the service at `address` does not say any more that it lives, and says so.
    async fn frozen(&self, address: &str) -> String {
        let Patience {
            look_every,
            alive_within,
            ..
        } = self.patience;
        let health = format!("{}/healthz", address.trim_end_matches('/'));
        loop {
            sleep(look_every).await;
            let asked = self.client.get(&health).timeout(alive_within).send().await;
            // Refused is no proof: a service that drains takes no more connections, and answers what it has taken. One that has
            // ended breaks off the connection that is waited on.
            if asked.is_err_and(|error| error.is_timeout()) {
                return format!("it does not say within {alive_within:?} that it lives; it may be frozen");
            }
        }
    }

    /// The body of an answer. Ends with an error when no piece of it comes for [`Patience::piece_within`].
    pub fn body(&self, answer: Response) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let limit = self.patience.piece_within;
        let pieces = answer.bytes_stream().boxed();
        futures::stream::try_unfold(pieces, move |mut pieces| async move {
            match timeout(limit, pieces.next()).await {
                Ok(None) => Ok(None),
                Ok(Some(piece)) => Ok(Some((piece.map_err(io::Error::other)?, pieces))),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the answer stopped in the middle, for {limit:?}"),
                )),
            }
        })
    }
}

#[cfg(test)]
mod tests;
