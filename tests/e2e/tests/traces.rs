//! One trace over the services that one query and one batch of events go through, as a collector receives it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_e2e::dev::run_batch;
use anabranch_e2e::{Cluster, Http, block_on, gate, until};
use axum::Router;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tonic::{Request, Response, Status};

const PATIENCE: Duration = Duration::from_secs(60);
const SQL: &str = "
CREATE TABLE clicks (time TIMESTAMP NOT NULL, page TEXT) WITH (connector = 'log', event_time = 'time', partitions = 1);
CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS clicks FROM clicks GROUP BY page;
";

/// A span as it arrived.
#[derive(Clone, Debug)]
struct Seen {
    service: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    /// Trace and span of what it leads to.
    links: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A collector: a gRPC server that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.0.lock().expect("nobody panics with it");
        for from in request.into_inner().resource_spans {
            let attributes = from.resource.iter().flat_map(|resource| &resource.attributes);
            let mut named = attributes.filter(|attribute| attribute.key == "service.name");
            let service = named
                .next()
                .and_then(|attribute| attribute.value.as_ref()?.value.clone());
            let Some(Value::StringValue(service)) = service else {
                panic!("a resource names its service: {service:?}");
            };
            for span in from.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                assert!(
                    span.start_time_unix_nano > 0 && span.start_time_unix_nano <= span.end_time_unix_nano,
                    "{span:?}"
                );
                seen.push(Seen {
                    service: service.clone(),
                    name: span.name,
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                    links: span
                        .links
                        .into_iter()
                        .map(|link| (link.trace_id, link.span_id))
                        .collect(),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens on a port of its own; returns its address.
    fn start(&self) -> String {
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let router = Router::new().route_service(path, TraceServiceServer::new(self.clone()));
        block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                .await
                .expect("there is a free port");
            let address = listener.local_addr().expect("it is bound");
            tokio::spawn(async { axum::serve(listener, router).await });
            format!("http://{address}")
        })
    }

    /// Waits for a trace that has all of `wanted`: service and name of a span, each below a span of the one before it.
    fn wait_for(&self, what: &str, wanted: &[(&str, &str)]) {
        let chain = || {
            let seen = self.0.lock().expect("nobody panics with it").clone();
            let mut traces: BTreeMap<Vec<u8>, Vec<Seen>> = BTreeMap::new();
            seen.into_iter()
                .for_each(|span| traces.entry(span.trace.clone()).or_default().push(span));
            traces.into_values().find(|trace| {
                let last = trace.iter().filter(|span| is(span, wanted[wanted.len() - 1]));
                last.into_iter().any(|last| {
                    let mut at = Some(last);
                    wanted.iter().rev().all(|wanted| {
                        while at.is_some_and(|span| !is(span, *wanted)) {
                            at = above(trace, at);
                        }
                        let found = at.is_some();
                        at = above(trace, at);
                        found
                    })
                })
            })
        };
        until(what, PATIENCE, chain);
    }
}

/// Of queries that come at the same time some share what another one freezes: their traces lead to its workers.
fn queries_that_share_a_freeze_lead_to_it(collector: &Collector, http: &Http) {
    until("queries that share a freeze", PATIENCE, || {
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| http.query("SELECT * FROM pages"));
            }
        });
        let seen = collector.0.lock().expect("nobody panics with it");
        let mut shared = seen.iter().filter(|span| span.name == "share freeze");
        shared.find_map(|span| {
            let (trace, id) = span.links.first()?;
            assert_ne!(*trace, span.trace, "a freeze of the same trace needs no link");
            let freeze = seen.iter().find(|other| other.id == *id && other.trace == *trace)?;
            assert_eq!(freeze.name, "freeze views");
            // It is part of the trace of a query, too.
            let query = seen
                .iter()
                .find(|other| other.trace == span.trace && other.name == "POST /v1/sql")?;
            let asked = |other: &&Seen| other.trace == *trace && other.service == "anabranch-speed";
            seen.iter().find(asked).map(|_| query.service.clone())
        })
    });
}

fn is(span: &Seen, (service, name): (&str, &str)) -> bool {
    span.service == service && span.name == name
}

fn above<'t>(trace: &'t [Seen], span: Option<&Seen>) -> Option<&'t Seen> {
    let parent = &span?.parent;
    trace.iter().find(|other| other.id == *parent)
}

#[test]
fn a_query_and_a_batch_of_events_are_one_trace_each_over_all_services() {
    let _gate = gate::heavy();
    let collector = Collector::default();
    let endpoint = collector.start();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let settings = format!(
        "[storage]\nurl = 'file://{}'\n[ingest_log]\ndir = '{}'\n[landing]\nmax_age = '200ms'\n\
         [telemetry]\notlp_endpoint = '{endpoint}'\ntrace_ratio = 1.0",
        at("store"),
        at("log")
    );
    let mut cluster = Cluster::new(SQL, &settings, 1, 1);
    cluster.start();
    let http = cluster.http();
    let line = b"{\"time\": \"2026-01-31T12:00:00Z\", \"page\": \"/\"}\n".to_vec();
    let (_, through) = http.ingest("clicks", line);
    http.query_at_least("SELECT * FROM pages", &through);
    run_batch(&http);
    collector.wait_for(
        "the trace of ingesting",
        &[
            ("anabranch-serve", "POST /v1/ingest/{*rest}"),
            ("anabranch-speed", "POST /v1/ingest/{table}"),
            ("anabranch-speed", "append to log"),
        ],
    );
    let flight = "POST /arrow.flight.protocol.FlightService/{*method}";
    collector.wait_for(
        "the trace of a query",
        &[
            ("anabranch-serve", "POST /v1/sql"),
            ("anabranch-serve", "merge view"),
            ("anabranch-serve", "read state"),
            ("anabranch-speed", flight),
        ],
    );
    queries_that_share_a_freeze_lead_to_it(&collector, &http);
    collector.wait_for("the trace of a landing", &[("anabranch-speed", "land")]);
    collector.wait_for("the trace of a batch run", &[("anabranch-batch", "batch run")]);
    collector.wait_for(
        "the trace of a run that is asked for",
        &[
            ("anabranch-serve", "POST /v1/batch/{*rest}"),
            ("anabranch-batch", "POST /v1/batch/runs"),
        ],
    );
}
