//! Set-up, traces across a boundary, metrics of calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::convert::Infallible;

use aegis_telemetry::{
    CallMetricsLayer, TelemetryConfig, TelemetryError, current_traceparent, init, inject, metrics_text, set_parent,
    set_parent_from,
};
use http::{HeaderMap, Request, Response};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::io::AsyncReadExt;
use tower::{Layer, Service, service_fn};
use tracing_subscriber::layer::SubscriberExt;

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn config() -> TelemetryConfig {
    TelemetryConfig { filter: "info".into(), json: true, otlp_endpoint: None, service: "test".into() }
}

/// The one test that sets up the process; the refusals come first, as a success is for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_refuses_nonsense_exports_spans_and_may_be_repeated() {
    let mut wrong = config();
    wrong.filter = "info,=[".into();
    assert!(matches!(init(&wrong), Err(TelemetryError::Filter(_))));
    for endpoint in ["", "localhost:4317", "https://collector", "http:// x"] {
        let mut wrong = config();
        wrong.otlp_endpoint = Some(endpoint.into());
        assert!(matches!(init(&wrong), Err(TelemetryError::Otlp(_))), "{endpoint}");
    }

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut good = config();
    good.otlp_endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let telemetry = init(&good).unwrap();
    let again = init(&good).unwrap();
    tracing::info_span!("work").in_scope(|| {
        tracing::info!("a line");
        assert!(!current_traceparent().is_empty());
    });
    let meter = opentelemetry::global::meter("test");
    meter.u64_counter("widgets").build().add(3, &[]);
    let text = metrics_text();
    assert!(text.contains("widgets_total"), "{text}");
    assert!(text.contains("service_name=\"test\""), "{text}");

    // The collector: that it is called in HTTP/2 when the process ends is enough here.
    let collector = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preface = [0; 14];
        stream.read_exact(&mut preface).await.unwrap();
        preface
    });
    again.shutdown().await;
    telemetry.shutdown().await;
    assert_eq!(&collector.await.unwrap(), b"PRI * HTTP/2.0");
}

#[test]
fn a_trace_goes_through_headers_and_back() {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        assert_eq!(current_traceparent(), "");

        let mut incoming = HeaderMap::new();
        incoming.insert("traceparent", INCOMING.parse().unwrap());
        let span = tracing::info_span!("server");
        set_parent_from(&span, &incoming);
        let outgoing = span.in_scope(|| {
            let mut headers = HeaderMap::new();
            inject(&mut headers);
            assert_eq!(headers["traceparent"], current_traceparent().as_str());
            current_traceparent()
        });
        assert_eq!(outgoing[..36], INCOMING[..36]);
        assert_ne!(outgoing, INCOMING);

        let span = tracing::info_span!("consumer");
        set_parent(&span, &outgoing);
        let stored = span.in_scope(current_traceparent);
        assert_eq!(stored[..36], INCOMING[..36]);

        for nonsense in ["", "nonsense", "00-00000000000000000000000000000000-x-01"] {
            let span = tracing::info_span!("other");
            set_parent(&span, nonsense);
            let own = span.in_scope(current_traceparent);
            assert!(!own.is_empty() && own[..36] != INCOMING[..36]);
        }
    });
}

#[test]
fn without_a_recorder_there_is_no_trace() {
    tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        let span = tracing::info_span!("server");
        set_parent(&span, INCOMING);
        span.in_scope(|| {
            let mut headers = HeaderMap::new();
            inject(&mut headers);
            assert!(headers.is_empty() && current_traceparent().is_empty());
        });
    });
}

fn assert_call(kind: &str, path: &str, status: &str, count: u64) {
    let labels = format!("{{kind=\"{kind}\",path=\"{path}\",status=\"{status}\"}} {count}\n");
    let text = metrics_text();
    for name in ["aegis_calls_total", "aegis_call_duration_seconds_count"] {
        assert!(text.contains(&format!("{name}{labels}")), "{labels} in\n{text}");
    }
}

#[tokio::test]
async fn calls_are_counted_by_route_and_outcome() {
    let inner = service_fn(|request: Request<&'static str>| async move {
        let response = Response::builder();
        let response = match *request.body() {
            "missing" => response.status(404),
            "denied" => response.header("content-type", "application/grpc+proto").header("grpc-status", "7"),
            "unknown" => response.header("content-type", "application/grpc").header("grpc-status", "12"),
            "stream" => response.header("content-type", "application/grpc"),
            "broken" => return Err("broken"),
            _ => response,
        };
        Ok(response.body(()).unwrap())
    });
    let get = |path: &str, body| Request::builder().uri(path).body(body).unwrap();

    let mut rest = CallMetricsLayer::new("rest")
        .with_route(|uri, _| uri.path().split('/').take(2).collect::<Vec<_>>().join("/"))
        .layer(inner);
    for id in 0..3 {
        let path = format!("/things/{id}?q={id}");
        rest.call(get(&path, "")).await.unwrap();
    }
    rest.call(get("/things/9", "missing")).await.unwrap();
    rest.call(get("/things/9", "broken")).await.unwrap_err();
    drop(rest.call(get("/things/9", "")));
    assert_call("rest", "/things", "200", 3);
    assert_call("rest", "/things", "404", 1);
    assert_call("rest", "/things", "error", 1);
    assert_call("rest", "/things", "cancelled", 1);

    let mut grpc = CallMetricsLayer::new("grpc").layer(inner);
    grpc.call(get("/a.B/C", "stream")).await.unwrap();
    grpc.call(get("/a.B/C", "denied")).await.unwrap();
    grpc.call(get("/made/up", "unknown")).await.unwrap();
    assert_call("grpc", "/a.B/C", "0", 1);
    assert_call("grpc", "/a.B/C", "7", 1);
    assert_call("grpc", "unmatched", "12", 1);
    assert!(!metrics_text().contains("/made/up"));
}

#[tokio::test]
async fn the_process_itself_is_measured() {
    let text = metrics_text();
    for name in ["process_start_time_seconds", "process_resident_memory_bytes"] {
        let start = format!("{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        assert!(line.unwrap().parse::<f64>().unwrap() > 1_000_000.0);
    }
}

/// What measuring costs, to be read by a person: `cargo test --release -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn cost_of_a_measured_call() {
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let mut service = CallMetricsLayer::new("cost").layer(inner);
    let started = std::time::Instant::now();
    const CALLS: u32 = 1_000_000;
    for _ in 0..CALLS {
        let request = Request::builder().uri("/a.B/C").body(()).unwrap();
        service.call(request).await.unwrap();
    }
    println!("{:?} a call", started.elapsed() / CALLS);
}
