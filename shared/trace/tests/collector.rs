//! Spans on their way to a collector, in a process of its own: there is one exporter per process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anabranch_trace::{Kind, Options, Span, TraceContext, in_scope, install};
use axum::Router;
use http::{HeaderMap, HeaderValue};
use metrics_exporter_prometheus::PrometheusBuilder;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tonic::{Request, Response, Status};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Keeps what it is sent, or refuses it.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    refuses: Arc<Mutex<bool>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if *self.refuses.lock().unwrap() {
            return Err(Status::permission_denied("not yours"));
        }
        self.requests.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let router = Router::new().route_service(path, TraceServiceServer::new(self.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        endpoint
    }

    fn spans(&self) -> Vec<Sent> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

/// Waits for it: a flush gives up after a few seconds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), met).await.expect(what);
}

fn called_with(parent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_str(parent).unwrap());
    headers
}

fn attribute<'s>(span: &'s Sent, key: &str) -> Option<&'s Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_reach_a_collector_and_those_that_do_not_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    let dropped = || -> u64 {
        let text = rendered.render();
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix("anabranch_trace_dropped_spans_total "));
        values.next().map_or(0, |value| value.parse().unwrap())
    };
    let collector = Collector::default();
    let options = Options {
        endpoint: collector.start().await,
        ratio: 0.0,
        service: "anabranch-test".into(),
        version: "1.2.3".into(),
    };
    for wrong in ["collector:4317", "https://collector:4317", "http://"] {
        let endpoint = wrong.into();
        let refused = install(Options {
            endpoint,
            ..options.clone()
        })
        .unwrap_err();
        assert!(
            refused.to_string().contains("write it like http://collector:4317"),
            "{refused}"
        );
    }
    let exporter = install(options.clone()).unwrap();
    assert!(install(options).is_err());

    // A caller that samples decides, though no trace that begins here would be sampled.
    let mut passed_on = HeaderMap::new();
    let mut span = Span::server(|| "GET /a".into(), &called_with(CALLER)).unwrap();
    span.whole("http.response.status_code", 500);
    span.failed("500 Internal Server Error");
    in_scope(Some(span.context()), async {
        let mut child = Span::child(Kind::Client, "ask").unwrap();
        child.text("anabranch.worker", "w-1");
        child.context().outgoing(&mut passed_on);
        // A task that outlives the span does not keep it open.
        tokio::spawn(in_scope(Some(child.context()), std::future::pending::<()>()));
    })
    .await;
    drop(span);
    // A caller that does not sample is followed too, and so are those who begin a trace here.
    for headers in [called_with(&CALLER.replace("-01", "-00")), HeaderMap::new()] {
        let span = Span::server(|| "GET /b".into(), &headers).unwrap();
        in_scope(Some(span.context()), async {
            let child = Span::child(Kind::Client, "ask").unwrap();
            let mut unsampled = HeaderMap::new();
            child.context().outgoing(&mut unsampled);
            assert!(
                unsampled["traceparent"].to_str().unwrap().ends_with("-00"),
                "{unsampled:?}"
            );
        })
        .await;
    }
    drop(Span::of_own_accord("unsampled", Duration::from_secs(1)).unwrap());
    assert!(TraceContext::current().is_none());
    exporter.flush().await;
    until("two spans", || collector.spans().len() >= 2).await;

    let spans = collector.spans();
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (server, child) = (named("GET /a"), named("ask"));
    assert_eq!(spans.len(), 2, "{spans:?}");
    assert_eq!(server.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(child.parent_span_id, server.span_id);
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    assert!(server.trace_id == trace && child.trace_id == trace);
    assert_eq!((server.kind(), child.kind()), {
        use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
        (SpanKind::Server, SpanKind::Client)
    });
    let status = server.status.clone().unwrap();
    assert_eq!(
        (status.code(), &*status.message),
        (StatusCode::Error, "500 Internal Server Error")
    );
    assert_eq!(
        attribute(server, "http.response.status_code"),
        Some(&Value::IntValue(500))
    );
    assert_eq!(
        attribute(child, "anabranch.worker"),
        Some(&Value::StringValue("w-1".into()))
    );
    let id: String = child.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        passed_on["traceparent"],
        format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{id}-01")
    );
    let resource = collector.requests.lock().unwrap()[0].resource_spans[0]
        .resource
        .clone()
        .unwrap();
    let service = resource
        .attributes
        .iter()
        .find(|attribute| attribute.key == "service.name")
        .unwrap();
    assert_eq!(
        service.value.clone().unwrap().value,
        Some(Value::StringValue("anabranch-test".into()))
    );
    assert_eq!(dropped(), 0);

    // What the collector does not take is counted; nobody fails for it.
    *collector.refuses.lock().unwrap() = true;
    for _ in 0..3 {
        drop(Span::server(|| "GET /c".into(), &called_with(CALLER)));
    }
    exporter.flush().await;
    until("three dropped spans", || dropped() >= 3).await;
    assert_eq!((dropped(), collector.spans().len()), (3, 2));
    *collector.refuses.lock().unwrap() = false;
    drop(Span::server(|| "GET /d".into(), &called_with(CALLER)));
    exporter.flush().await;
    until("the next span", || collector.spans().len() >= 3).await;
    assert_eq!((dropped(), collector.spans().len()), (3, 3));
}
