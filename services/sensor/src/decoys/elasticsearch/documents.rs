//! Searching for documents and putting them in.

use serde_json::Value;

use super::{
    Elastic, Reply,
    json::quoted,
    store::{DOCUMENT, Query, uuid},
};
use crate::{
    decoys::http::wire::Request,
    session::{EventType, Session, escaped},
};

/// Most documents of one answer, as its default `index.max_result_window` has it, and what they may be in all.
const HITS: usize = 10_000;
const ANSWER: usize = 2 * 1024 * 1024;

impl Elastic {
    /// The query of a request; an error for a body that is none, and for scripts, which are told and not run.
    pub(super) fn query(
        &self,
        list: &str,
        request: &Request,
        simple: Option<&str>,
        session: Option<&Session>,
    ) -> Result<(Query, Value), Reply> {
        let text = escaped(&request.body, 4096);
        if let Some(session) = session {
            let shown = if text.is_empty() { simple.unwrap_or("*").to_owned() } else { text.clone() };
            session.emit(EventType::Query, format!("search in {list}"), &[("query", &shown), ("database", list)]);
        }
        if request.body.is_empty() {
            return Ok((simple.map(Query::simple).unwrap_or_default(), Value::Null));
        }
        let body: Value = serde_json::from_slice(
            request.body.get(..request.body.len().min(DOCUMENT)).unwrap_or_default(),
        )
        .map_err(|_| {
            Reply::error(
                400,
                "parsing_exception",
                "Unknown key for a VALUE_STRING in [query].",
                ",\"line\":1,\"col\":1",
            )
        })?;
        if text.contains("script_fields") || text.contains("\"script\"") {
            let lang = if self.seven() { "painless" } else { "groovy" };
            let more = format!(",\"script_stack\":[],\"script\":\"\",\"lang\":\"{lang}\"");
            return Err(Reply::error(400, "script_exception", "compile error", &more));
        }
        let query = match body.get("query") {
            Some(_) => Query::of(&body),
            None => simple.map(Query::simple).unwrap_or_default(),
        };
        Ok((query, body))
    }

    pub(super) fn search(
        &self,
        list: &str,
        request: &Request,
        simple: Option<&str>,
        size: Option<&str>,
        from: Option<&str>,
        session: &Session,
    ) -> Reply {
        let (query, body) = match self.query(list, request, simple, Some(session)) {
            Ok(query) => query,
            Err(reply) => return reply,
        };
        if !list.is_empty() && !list.contains('*') && self.with(|store| store.matching(list).is_empty()) {
            return Reply::no_index(list);
        }
        let number = |name: &str, given: Option<&str>, usual: usize| {
            let inside = body.get(name).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
            inside.or_else(|| given.and_then(|given| given.parse().ok())).unwrap_or(usual)
        };
        let (size, from) = (number("size", size, 10), number("from", from, 0));
        if size.saturating_add(from) > HITS {
            let reason = format!(
                "Result window is too large, from + size must be less than or equal to: [10000] but was [{}]. See the scroll api for a more efficient way to request large data sets. This limit can be set by changing the [index.max_result_window] index level setting.",
                size.saturating_add(from)
            );
            return Reply::error(400, "illegal_argument_exception", &reason, "");
        }
        let took = 1 + rand::random::<u8>() % 9;
        self.with(|store| {
            let found = store.search(list, &query);
            let (total, shards) = (found.len(), store.matching(list).len());
            let mut hits: Vec<String> = Vec::new();
            let mut bytes = 0;
            for (index, document) in found.into_iter().skip(from).take(size) {
                bytes += document.source.len();
                if bytes > ANSWER {
                    break;
                }
                hits.push(format!("{{\"_index\":{},\"_type\":\"_doc\",\"_id\":{},\"_score\":1.0,\"_source\":{}}}", quoted(index), quoted(&document.id), document.source));
            }
            let total_text = if self.seven() { format!("{{\"value\":{total},\"relation\":\"eq\"}}") } else { total.to_string() };
            let score = if total == 0 { "null" } else { "1.0" };
            Reply::json(format!(
                "{{\"took\":{took},\"timed_out\":false,\"_shards\":{{\"total\":{shards},\"successful\":{shards},\"skipped\":0,\"failed\":0}},\"hits\":{{\"total\":{total_text},\"max_score\":{score},\"hits\":[{}]}}}}",
                hits.join(",")
            ))
        })
    }

    pub(super) fn count(&self, list: &str, request: &Request, simple: Option<&str>) -> Reply {
        let (query, _) = match self.query(list, request, simple, None) {
            Ok(query) => query,
            Err(reply) => return reply,
        };
        self.with(|store| {
            let shards = store.matching(list).len();
            if shards == 0 && !list.is_empty() && !list.contains('*') {
                return Reply::no_index(list);
            }
            Reply::json(format!("{{\"count\":{},\"_shards\":{{\"total\":{shards},\"successful\":{shards},\"skipped\":0,\"failed\":0}}}}", store.search(list, &query).len()))
        })
    }

    pub(super) fn bad_name(&self, name: &str) -> Reply {
        Reply::error(
            400,
            "invalid_index_name_exception",
            &format!("Invalid index name [{name}], must be lowercase"),
            ",\"index_uuid\":\"_na_\"",
        )
    }

    /// A document as it is kept: JSON of one line.
    pub(super) fn source(&self, bytes: &[u8]) -> Result<String, Reply> {
        let refused = || Reply::error(400, "mapper_parsing_exception", "failed to parse", "");
        let text = std::str::from_utf8(bytes).map_err(|_| refused())?;
        if text.len() > DOCUMENT {
            return Err(Reply::error(413, "illegal_argument_exception", "document is too large", ""));
        }
        let _: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|_| refused())?;
        Ok(text.trim().to_owned())
    }

    pub(super) fn put(&self, name: &str, id: &str, request: &Request, session: &Session) -> Reply {
        let shown = escaped(&request.body, 2048);
        session.emit(EventType::Query, format!("document for {name}"), &[("query", &shown), ("database", name)]);
        if !good_name(name) {
            return self.bad_name(name);
        }
        let source = match self.source(&request.body) {
            Ok(source) => source,
            Err(reply) => return reply,
        };
        match self.with(|store| store.put(name, id, source)) {
            Some(version) => {
                let (status, result) = if version == 1 { (201, "created") } else { (200, "updated") };
                Reply::with(
                    status,
                    format!(
                        "{{\"_index\":{},\"_type\":\"_doc\",\"_id\":{},\"_version\":{version},\"result\":\"{result}\",\"_shards\":{{\"total\":2,\"successful\":1,\"failed\":0}},\"_seq_no\":{},\"_primary_term\":1}}",
                        quoted(name),
                        quoted(id),
                        version - 1
                    ),
                )
            }
            None => Reply::full(),
        }
    }

    pub(super) fn document(&self, name: &str, id: &str) -> Reply {
        self.with(|store| {
            let document = store.indices.get(name).and_then(|index| index.documents.iter().find(|document| document.id == id));
            match document {
                Some(document) => Reply::json(format!("{{\"_index\":{},\"_type\":\"_doc\",\"_id\":{},\"_version\":{},\"_seq_no\":0,\"_primary_term\":1,\"found\":true,\"_source\":{}}}", quoted(name), quoted(id), document.version, document.source)),
                None => Reply::with(404, format!("{{\"_index\":{},\"_type\":\"_doc\",\"_id\":{},\"found\":false}}", quoted(name), quoted(id))),
            }
        })
    }

    pub(super) fn bulk(&self, name: &str, request: &Request, session: &Session) -> Reply {
        let shown = escaped(&request.body, 2048);
        session.emit(EventType::Query, "documents in bulk", &[("query", &shown), ("database", name)]);
        let mut lines = request.body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let mut items = Vec::new();
        while let Some(line) = lines.next().filter(|_| items.len() < 1000) {
            let action: Value = serde_json::from_slice(line).unwrap_or(Value::Null);
            let Some((kind, meta)) = action.as_object().and_then(|action| action.iter().next()) else {
                return Reply::error(
                    400,
                    "illegal_argument_exception",
                    "Malformed action/metadata line [1], expected START_OBJECT or END_OBJECT but found [VALUE_STRING]",
                    "",
                );
            };
            let text = |field: &str| meta.get(field).and_then(Value::as_str).map(str::to_owned);
            let index = text("_index").unwrap_or_else(|| name.to_owned());
            let id = text("_id").unwrap_or_else(|| uuid(&rand::random::<[u8; 18]>()).chars().take(20).collect());
            let version = match kind.as_str() {
                "delete" => Some(2),
                _ if !good_name(&index) => None,
                _ => match self.source(lines.next().unwrap_or_default()) {
                    Ok(source) => self.with(|store| store.put(&index, &id, source)),
                    Err(_) => None,
                },
            };
            let (status, result) = match version {
                Some(1) => (201, "created"),
                Some(_) => (200, "updated"),
                None => (400, "noop"),
            };
            items.push(format!("{{{}:{{\"_index\":{},\"_type\":\"_doc\",\"_id\":{},\"_version\":{},\"result\":\"{result}\",\"status\":{status}}}}}", quoted(kind), quoted(&index), quoted(&id), version.unwrap_or(1)));
        }
        Reply::json(format!(
            "{{\"took\":{},\"errors\":{},\"items\":[{}]}}",
            3 + items.len() / 4,
            items.iter().any(|item| item.contains("\"status\":400")),
            items.join(",")
        ))
    }
}

/// As index names may be.
pub(super) fn good_name(name: &str) -> bool {
    let start = name.starts_with(['_', '-', '+']);
    let sign = |sign: char| !sign.is_uppercase() && !sign.is_control() && !" \\/*?\"<>|,#:".contains(sign);
    !name.is_empty() && name.len() <= 255 && !start && name.chars().all(sign)
}
