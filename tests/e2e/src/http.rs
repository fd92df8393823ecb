use std::time::Duration;

use anabranch_model::TopicOffsets;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::runtime::block_on;

/// How long answers may wait for what they must cover.
pub(crate) const TIMEOUT: &str = "180s";
const REQUEST: Duration = Duration::from_secs(300);

/// The HTTP API at one port of loopback.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    base: String,
    port: u16,
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// # Panics
    /// When the body is no JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// Unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The three parts of an error answer, which must have this status.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn error(self, status: u16) -> (String, String, String) {
        let error = self.expect(status).json()["error"].clone();
        let part = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        let (code, message, hint) = (part("code"), part("message"), part("hint"));
        assert!(
            !code.is_empty() && !message.is_empty(),
            "an error without code or message: {error}"
        );
        (code, message, hint)
    }
}

impl Http {
    pub fn new(port: u16) -> Self {
        Self::with_timeout(port, REQUEST)
    }

    /// Gives up on a request after `timeout`.
    pub fn with_timeout(port: u16, timeout: Duration) -> Self {
        // A kept connection may belong to a process that was killed since.
        let client = Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(timeout)
            .build()
            .expect("a client can be built");
        Self {
            client,
            base: format!("http://127.0.0.1:{port}"),
            port,
        }
    }

    /// The same API, with another limit to a request's time.
    pub fn within(&self, timeout: Duration) -> Self {
        Self::with_timeout(self.port, timeout)
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// `None` when nobody answers.
    pub fn try_get(&self, path: &str) -> Option<Reply> {
        self.send(self.client.get(self.url(path))).ok()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.must(self.client.get(self.url(path)))
    }

    /// The status of an empty request by any method.
    ///
    /// # Panics
    /// When nobody answers, or there is no such method.
    #[track_caller]
    pub fn status_of(&self, method: &str, path: &str) -> u16 {
        let method = method.to_uppercase().parse().expect("a method is a word");
        self.must(self.client.request(method, self.url(path))).status
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.must(self.client.delete(self.url(path)))
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.must(self.client.post(self.url(path)).json(body))
    }

    /// `None` when nobody answers.
    pub fn try_post(&self, path: &str, body: &Value) -> Option<Reply> {
        self.send(self.client.post(self.url(path)).json(body)).ok()
    }

    /// `None` when nobody takes the connection.
    ///
    /// # Errors
    /// When it breaks before the answer is there.
    pub fn post_unless_refused(&self, path: &str, body: &Value) -> Result<Option<Reply>, reqwest::Error> {
        match self.send(self.client.post(self.url(path)).json(body)) {
            Ok(reply) => Ok(Some(reply)),
            Err(error) if error.is_connect() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `None` when nobody answers.
    pub fn try_post_bytes(&self, path: &str, body: Vec<u8>) -> Option<Reply> {
        self.send(self.client.post(self.url(path)).body(body)).ok()
    }

    #[track_caller]
    pub fn post_bytes(&self, path: &str, body: Vec<u8>) -> Reply {
        self.must(self.client.post(self.url(path)).body(body))
    }

    /// `POST /v1/sql`, with the answer in another format.
    #[track_caller]
    pub fn sql_as(&self, body: &Value, accept: &str) -> Reply {
        self.must(
            self.client
                .post(self.url("/v1/sql"))
                .json(body)
                .header("accept", accept),
        )
    }

    /// Asks, and takes whatever coverage the answer has.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Answer {
        self.answer(&json!({"sql": sql}))
    }

    /// Asks for an exact answer that covers `through`.
    #[track_caller]
    pub fn query_at_least(&self, sql: &str, through: &TopicOffsets) -> Answer {
        let answer = self.answer(&json!({"sql": sql, "require": "exact", "at_least": through, "timeout": TIMEOUT}));
        for (view, coverage) in &answer.coverage {
            assert!(
                coverage.exact && coverage.missing.is_empty(),
                "`{view}` is not exact: {coverage:?}"
            );
            for (partition, next) in through {
                if let Some(served) = coverage.served_through.get(partition) {
                    assert!(
                        served >= next,
                        "`{view}` is served through {served} of {partition}, not {next}"
                    );
                }
            }
        }
        answer
    }

    #[track_caller]
    fn answer(&self, body: &Value) -> Answer {
        let reply = self.post("/v1/sql", body);
        assert_eq!(reply.status, 200, "{body}\n{}", reply.text());
        Answer::parse(&reply.json())
    }

    /// Sends NDJSON; lines that do not decode become dead letters. Returns what was accepted, and up to where.
    #[track_caller]
    pub fn ingest(&self, table: &str, lines: Vec<u8>) -> (u64, TopicOffsets) {
        let reply = self
            .post_bytes(&format!("/v1/ingest/{table}?on_invalid=dead_letter"), lines)
            .expect(200)
            .json();
        let accepted = reply["accepted"].as_u64().expect("`accepted` is a number");
        (
            accepted,
            serde_json::from_value(reply["through"].clone()).expect("`through` maps partitions to offsets"),
        )
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.get("/v1/status").expect(200).json()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    #[track_caller]
    fn must(&self, request: RequestBuilder) -> Reply {
        self.send(request)
            .unwrap_or_else(|error| panic!("{} does not answer: {error:?}", self.base))
    }

    fn send(&self, request: RequestBuilder) -> Result<Reply, reqwest::Error> {
        block_on(async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let content_type = response
                .headers()
                .get("content-type")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned();
            Ok(Reply {
                status,
                content_type,
                body: response.bytes().await?.to_vec(),
            })
        })
    }
}
