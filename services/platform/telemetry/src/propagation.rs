//! The trace that a call or an event belongs to, from one process to the next (W3C Trace Context).

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TraceContextExt;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

struct Traceparent<'a>(&'a str);

impl Extractor for Traceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

fn extract(from: &dyn Extractor) -> Option<Context> {
    let context = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), from)
    });
    context.span().span_context().is_valid().then_some(context)
}

fn adopt(span: &Span, from: &dyn Extractor) {
    if let Some(context) = extract(from) {
        // Fails where no traces are recorded; there is nothing to link then.
        let _ = span.set_parent(context);
    }
}

/// The current span as a `traceparent` value; empty where there is none.
pub fn current_traceparent() -> String {
    traceparent(&Span::current())
}

/// A span as a `traceparent` value; empty where it is none.
pub fn traceparent(span: &Span) -> String {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8())
}

/// Adds the current trace to the headers of an outgoing call.
pub fn inject(headers: &mut HeaderMap) {
    let context = Span::current().context();
    if context.span().span_context().is_valid() {
        opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut HeadersMut(headers));
        });
    }
}

/// Makes a span, not yet entered, part of the trace in the headers of an incoming call.
pub fn set_parent_from(span: &Span, headers: &HeaderMap) {
    if headers.contains_key(TRACEPARENT) {
        adopt(span, &Headers(headers));
    }
}

/// Whether the spans of a stored `traceparent` value's trace are recorded.
pub fn is_recorded(traceparent: &str) -> bool {
    // The last of the flags: https://www.w3.org/TR/trace-context/#sampled-flag
    let flags = traceparent.rsplit_once('-').and_then(|(_, flags)| u8::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 1 == 1)
}

/// Makes a span, not yet entered, part of the trace of a stored `traceparent` value.
pub fn set_parent(span: &Span, traceparent: &str) {
    if !traceparent.is_empty() {
        adopt(span, &Traceparent(traceparent));
    }
}
