//! Lines of the log, as text or as JSON, each with the trace, the request, the route and the user that it belongs to.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _};

use chrono::{SecondsFormat, Utc};
use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// What only concerns the recorder of spans.
const NOT_LOGGED: [&str; 3] = ["otel.", "http.response.", "rpc.response."];
/// Fields of spans under shorter names.
const NAMES: [(&str, &str); 7] = [
    ("http.route", "route"),
    ("http.request.method", "method"),
    ("rpc.method", "rpc"),
    ("rpc.system.name", ""),
    ("user.id", "user_id"),
    ("messaging.destination.name", "event"),
    ("messaging.consumer.group.name", "consumer"),
];
/// Fields that an event has when it comes from the `log` crate.
const FROM_LOG: &str = "log.";
/// Characters of a trace's id in text.
const SHORT: usize = 8;

/// Writes the lines to standard error.
pub(crate) struct Lines {
    json: bool,
    colours: bool,
}

/// Fields in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let place = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(place).1)
    }
}

impl Lines {
    pub(crate) fn new(json: bool) -> Self {
        let colours = !json && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Lines { json, colours }
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut Collect { fields: &mut fields, span: true });
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(&mut Collect { fields, span: true });
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut Collect { fields: &mut own, span: false });
        let target = match own.take("log.target") {
            Some(Value::String(target)) => target,
            _ => event.metadata().target().to_owned(),
        };
        own.0.retain(|(name, _)| !name.starts_with(FROM_LOG));
        // From the outermost span to the innermost, whose fields win.
        let (mut around, mut spans) = (Fields::default(), Vec::new());
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            spans.push(span.name());
            if let Some(fields) = span.extensions().get::<Fields>() {
                fields.0.iter().for_each(|(name, value)| around.put(name, value.clone()));
            }
        }
        let trace = opentelemetry::Context::current();
        let trace = trace.span();
        let trace = trace.span_context();
        let ids = trace.is_valid().then(|| (trace.trace_id().to_string(), trace.span_id().to_string()));
        let line = Line { level: *event.metadata().level(), target, own, around, spans, ids };
        let text = if self.json { line.json() } else { line.text(self.colours) };
        // One write a line, so that lines of several threads do not mix. Nobody hears of a log that cannot be written.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

struct Line {
    level: Level,
    target: String,
    /// Of the event.
    own: Fields,
    /// Of the spans around it.
    around: Fields,
    spans: Vec<&'static str>,
    /// Of trace and span.
    ids: Option<(String, String)>,
}

impl Line {
    fn json(mut self) -> String {
        let mut line = Map::new();
        line.insert("timestamp".into(), now().into());
        line.insert("level".into(), self.level.as_str().into());
        line.insert("target".into(), self.target.into());
        line.insert("message".into(), self.own.take("message").unwrap_or_default());
        if let Some((trace, span)) = self.ids {
            line.insert("trace_id".into(), trace.into());
            line.insert("span_id".into(), span.into());
        }
        for (name, value) in self.around.0.into_iter().chain(self.own.0) {
            line.insert(name.to_owned(), value);
        }
        if !self.spans.is_empty() {
            line.insert("spans".into(), self.spans.into());
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        text
    }

    fn text(mut self, colours: bool) -> String {
        let (colour, dim, plain) = match (colours, self.level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
            (true, _) => ("\x1b[34m", "\x1b[2m", "\x1b[0m"),
        };
        let message = self.own.take("message").unwrap_or_default();
        let (time, level, target) = (now(), self.level.as_str(), self.target);
        // Writing to a string does not fail.
        let mut text = format!("{dim}{time}{plain} {colour}{level:>5}{plain} {dim}{target}:{plain} ");
        escape(&mut text, message.as_str().unwrap_or_default());
        for (name, value) in &self.own.0 {
            let _ = write!(text, " {dim}{name}={plain}");
            plainly(&mut text, value);
        }
        if let Some((trace, _)) = &self.ids {
            let _ = write!(text, " {dim}trace={}", &trace[..SHORT.min(trace.len())]);
            for (name, value) in &self.around.0 {
                if !self.own.0.iter().any(|(own, _)| own == name) {
                    let _ = write!(text, " {name}=");
                    plainly(&mut text, value);
                }
            }
            text.push_str(plain);
        }
        text.push('\n');
        text
    }
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A value in text: quoted only where it has to be.
fn plainly(text: &mut String, value: &Value) {
    match value {
        Value::String(value) if !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"') => {
            text.push_str(value);
        }
        // JSON leaves some control characters as they are.
        value => escape(text, &value.to_string()),
    }
}

/// What would move a terminal's cursor, or make a second line, is written as its code.
fn escape(text: &mut String, message: &str) {
    for c in message.chars() {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
}

/// Takes fields in.
struct Collect<'a> {
    fields: &'a mut Fields,
    /// Of a span, not of an event.
    span: bool,
}

impl Collect<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        let mut name = field.name();
        if self.span {
            if NOT_LOGGED.iter().any(|prefix| name.starts_with(prefix)) {
                return;
            }
            if let Some((_, short)) = NAMES.iter().find(|(long, _)| *long == name) {
                name = short;
            }
            if name.is_empty() {
                return;
            }
        }
        self.fields.put(name, value);
    }
}

impl Visit for Collect<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(around: &[(&'static str, Value)], own: &[(&'static str, Value)]) -> Line {
        Line {
            level: Level::WARN,
            target: "aegis_testing".into(),
            own: Fields(own.to_vec()),
            around: Fields(around.to_vec()),
            spans: vec!["request"],
            ids: Some(("0af7651916cd43dd8448eb211c80319c".into(), "b7ad6b7169203331".into())),
        }
    }

    #[test]
    fn text_is_one_line_that_moves_no_cursor() {
        let around = [("request_id", json!("r1")), ("rows", json!(1))];
        let own = [("message", json!("a\nb\u{1b}[2J")), ("rows", json!(2)), ("who", json!("x y\u{9b}2J\u{7f}"))];
        let text = line(&around, &own).text(false);
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        let end =
            "WARN aegis_testing: a\\nb\\u{1b}[2J rows=2 who=\"x y\\u{9b}2J\\u{7f}\" trace=0af76519 request_id=r1\n";
        assert!(text.ends_with(end), "{text:?}");
    }

    #[test]
    fn json_has_the_trace_and_the_event_wins() {
        let around = [("job", json!("outer")), ("route", json!("/a"))];
        let text = line(&around, &[("message", json!("m")), ("job", json!("inner"))]).json();
        let line: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "level": "WARN", "target": "aegis_testing", "message": "m", "route": "/a", "job": "inner",
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "spans": ["request"],
        });
        let mut known = line.as_object().unwrap().clone();
        assert!(known.remove("timestamp").is_some());
        assert_eq!(Value::Object(known), expected);
    }
}
