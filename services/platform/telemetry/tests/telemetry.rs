//! Set-up, traces across a boundary, metrics of calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use std::convert::Infallible;

use aegis_telemetry::{
    CallMetricsLayer, Pool, TelemetryConfig, TelemetryError, current_traceparent, init, inject, is_recorded, job,
    metrics_text, rpc_method, set_parent, set_parent_from, watch_pools,
};
use http::{Extensions, HeaderMap, Request, Response, Uri};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::io::AsyncReadExt;
use tower::{Layer, Service, service_fn};
use tracing_subscriber::layer::SubscriberExt;

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn config() -> TelemetryConfig {
    TelemetryConfig { filter: "info".into(), json: true, otlp_endpoint: None, trace_share: 1.0, service: "test".into() }
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
    tracing::info_span!(target: "aegis_test", "work").in_scope(|| {
        tracing::info!("a line");
        assert!(is_recorded(&current_traceparent()));
    });
    // What runs for as long as the process does is no trace, and what it calls neither.
    tracing::info_span!(target: "aegis_test", "task").in_scope(|| {
        tracing::info_span!(target: "aegis_test", "call").in_scope(|| {
            assert!(!current_traceparent().is_empty() && !is_recorded(&current_traceparent()));
        });
        let own = tracing::info_span!(target: "aegis_test", parent: None, "run");
        assert!(is_recorded(&own.in_scope(current_traceparent)));
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

/// Both of a histogram and the counter beside it; each with its own labels.
fn assert_calls(prefix: &str, seconds: &str, counts: &[(&str, u64)]) {
    let text = metrics_text();
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    for (line, count) in counts.iter().copied().chain([(seconds, all)]) {
        assert!(text.contains(&format!("{prefix}_{line} {count}\n")), "{prefix}_{line} {count} in\n{text}");
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

    let route = |uri: &Uri, _: &Extensions| uri.path().split('/').take(2).collect::<Vec<_>>().join("/");
    let mut rest = CallMetricsLayer::http(route).layer(inner);
    for id in 0..3 {
        let path = format!("/things/{id}?q={id}");
        rest.call(get(&path, "")).await.unwrap();
    }
    rest.call(get("/things/9", "missing")).await.unwrap();
    rest.call(get("/things/9", "broken")).await.unwrap_err();
    drop(rest.call(get("/things/9", "")));
    let strange = Request::builder().method("BREW").uri("/things/9").body("").unwrap();
    rest.call(strange).await.unwrap();
    let requests = |status: &str| {
        let labels = format!(r#"http_request_method="GET",http_response_status_code="{status}",http_route="/things""#);
        format!("requests_total{{{labels}}}")
    };
    let (good, missing, broken, left) = (requests("200"), requests("404"), requests("error"), requests("cancelled"));
    let seconds = r#"request_duration_seconds_count{http_request_method="GET",http_route="/things"}"#;
    assert_calls("http_server", seconds, &[(&good, 3), (&missing, 1), (&broken, 1), (&left, 1)]);
    let text = metrics_text();
    assert!(text.contains(r#"http_request_method="_OTHER""#) && !text.contains("BREW"), "{text}");
    assert!(text.contains("http_server_active_requests 0\n"), "{text}");

    let mut grpc = CallMetricsLayer::rpc(|uri, _| rpc_method(uri.path()).to_owned()).layer(inner);
    grpc.call(get("/a.B/C", "stream")).await.unwrap();
    grpc.call(get("/a.B/C", "denied")).await.unwrap();
    grpc.call(get("/made/up", "unknown")).await.unwrap();
    let calls = |method: &str, status: &str| {
        format!(r#"calls_total{{rpc_method="{method}",rpc_response_status_code="{status}"}}"#)
    };
    let (good, denied) = (calls("a.B/C", "OK"), calls("a.B/C", "PERMISSION_DENIED"));
    assert_calls("rpc_server", r#"call_duration_seconds_count{rpc_method="a.B/C"}"#, &[(&good, 1), (&denied, 1)]);
    let unmatched = r#"call_duration_seconds_count{rpc_method="unmatched"}"#;
    assert_calls("rpc_server", unmatched, &[(&calls("unmatched", "UNIMPLEMENTED"), 1)]);
    assert!(!metrics_text().contains("made/up"));
}

#[tokio::test]
async fn jobs_and_pools_are_measured() {
    job("a_job", async { Ok::<_, ()>(()) }).await.unwrap();
    job("a_job", async { Err::<(), _>(()) }).await.unwrap_err();
    watch_pools(|| vec![Pool { name: "things".into(), used: 2, idle: 1, max: 8 }]);
    let text = metrics_text();
    for line in [
        r#"aegis_job_runs_total{job_name="a_job",outcome="ok"} 1"#,
        r#"aegis_job_runs_total{job_name="a_job",outcome="failed"} 1"#,
        r#"aegis_job_duration_seconds_count{job_name="a_job"} 2"#,
        r#"aegis_jobs_running{job_name="a_job"} 0"#,
        r#"db_client_connection_count{pool="things",state="used"} 2"#,
        r#"db_client_connection_count{pool="things",state="idle"} 1"#,
        r#"db_client_connection_max{pool="things"} 8"#,
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
    assert!(text.contains(r#"aegis_job_last_success_timestamp_seconds{job_name="a_job"}"#), "{text}");
}

#[tokio::test]
async fn the_process_itself_is_measured() {
    let text = metrics_text();
    for (name, least) in [
        ("process_start_time_seconds", 1_000_000.0),
        ("process_resident_memory_bytes", 1_000_000.0),
        ("process_virtual_memory_bytes", 1_000_000.0),
        ("process_cpu_seconds_total", 0.0),
        ("process_open_fds", 3.0),
        ("process_max_fds", 3.0),
        ("process_threads", 1.0),
        ("tokio_alive_tasks", 0.0),
        ("tokio_global_queue_depth", 0.0),
    ] {
        let start = format!("{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        let value: f64 = line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap();
        assert!(value >= least, "{name} {value}");
    }
}

/// What measuring costs, to be read by a person: `cargo test --release -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn cost_of_a_measured_call() {
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) });
    let mut service = CallMetricsLayer::rpc(|uri, _| rpc_method(uri.path()).to_owned()).layer(inner);
    let started = std::time::Instant::now();
    const CALLS: u32 = 1_000_000;
    for _ in 0..CALLS {
        let request = Request::builder().uri("/a.B/C").body(()).unwrap();
        service.call(request).await.unwrap();
    }
    println!("{:?} a call", started.elapsed() / CALLS);
}
