//! A collector of spans, to which products send what they record (OTLP over gRPC).

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError, mpsc},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1 as proto,
};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// What came so far, of all products.
static SPANS: Mutex<Vec<Span>> = Mutex::new(Vec::new());

/// On a thread and a runtime of its own: products live longer than the test that starts them.
static ENDPOINT: LazyLock<String> = LazyLock::new(|| {
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
            say.send(incoming.local_addr().expect("an address")).expect("somebody waits");
            let service = TraceServiceServer::new(Collector);
            Server::builder().add_service(service).serve_with_incoming(incoming).await.expect("a server");
        });
    });
    format!("http://{}", said.recv().expect("an address"))
});

pub type Kind = proto::span::SpanKind;

/// A span as the collector heard of it.
#[derive(Clone, Debug)]
pub struct Span {
    /// The process, as in `aegis-testing`.
    pub service: String,
    pub name: String,
    pub kind: Kind,
    /// Hexadecimal, as all ids.
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub began: u64,
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
    /// Names and attributes of what happened in it.
    pub events: Vec<(String, BTreeMap<String, String>)>,
}

impl Span {
    /// An attribute; nothing where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// Where products send spans.
pub fn endpoint() -> String {
    ENDPOINT.clone()
}

/// All spans so far.
pub fn spans() -> Vec<Span> {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

struct Collector;

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = SPANS.lock().unwrap_or_else(PoisonError::into_inner);
        for of_process in request.into_inner().resource_spans {
            let resource = attributes(of_process.resource.map(|resource| resource.attributes).unwrap_or_default());
            let service = resource.get("service.name").cloned().unwrap_or_default();
            let all = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(all.map(|span| read(&service, span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(service: &str, span: proto::Span) -> Span {
    Span {
        service: service.to_owned(),
        kind: span.kind(),
        trace: hex::encode(&span.trace_id),
        id: hex::encode(&span.span_id),
        parent: hex::encode(&span.parent_span_id),
        began: span.start_time_unix_nano,
        failed: span.status.as_ref().is_some_and(|status| status.code() == proto::status::StatusCode::Error),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| (event.name, attributes(event.attributes))).collect(),
        name: span.name,
    }
}

fn attributes(all: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        Value::DoubleValue(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: KeyValue| (pair.key, pair.value.and_then(|any| any.value).map(text).unwrap_or_default());
    all.into_iter().map(value).collect()
}
