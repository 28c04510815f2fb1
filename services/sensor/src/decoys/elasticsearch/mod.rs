//! Elasticsearch without a password: indices that can be searched, filled and deleted, in memory; all of it told.

mod cluster;
mod documents;
mod json;
mod store;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use self::{
    documents::good_name,
    json::{pretty, quoted},
    store::{Store, uuid},
};
use super::{
    Options, http,
    http::{
        build::Answer,
        wire::{Incoming, Problem, Request, Rules, body, head},
    },
    lines::Buffered,
};
use crate::{
    persona::{Os, Persona},
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream, escaped},
};

/// Requests of one connection.
const REQUESTS: u32 = 10_000;
struct Elastic {
    persona: Arc<Persona>,
    version: &'static str,
    lucene: &'static str,
    hash: &'static str,
    built: &'static str,
    node: String,
    cluster: String,
    store: Mutex<Option<Store>>,
}

/// An answer.
struct Reply {
    status: u16,
    text: bool,
    body: String,
}

impl Reply {
    fn json(body: impl Into<String>) -> Reply {
        Reply { status: 200, text: false, body: body.into() }
    }

    fn text(body: impl Into<String>) -> Reply {
        Reply { status: 200, text: true, body: body.into() }
    }

    fn with(status: u16, body: impl Into<String>) -> Reply {
        Reply { status, text: false, body: body.into() }
    }

    /// An error as the engine writes it.
    fn error(status: u16, kind: &str, reason: &str, more: &str) -> Reply {
        let inside = format!("\"type\":{},\"reason\":{}{more}", quoted(kind), quoted(reason));
        Reply::with(status, format!("{{\"error\":{{\"root_cause\":[{{{inside}}}],{inside}}},\"status\":{status}}}"))
    }

    fn no_index(name: &str) -> Reply {
        let quoted = quoted(name);
        let more = format!(
            ",\"resource.type\":\"index_or_alias\",\"resource.id\":{quoted},\"index_uuid\":\"_na_\",\"index\":{quoted}"
        );
        Reply::error(404, "index_not_found_exception", &format!("no such index [{name}]"), &more)
    }

    fn full() -> Reply {
        Reply::error(
            403,
            "cluster_block_exception",
            "index [*] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];",
            "",
        )
    }
}

/// Elasticsearch.
pub(crate) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let (version, lucene, hash, built) = match persona.os {
        Os::CentOs7 | Os::BusyBox => ("6.8.23", "7.7.3", "4f67856", "2022-01-06T21:30:50.087716Z"),
        Os::Ubuntu2004 | Os::Debian11 | Os::Rocky9 | Os::FreeBsd13 => {
            ("7.10.2", "8.7.0", "747e1cc71def077253878a59143c1f785afa92b9", "2021-01-13T00:42:12.435326Z")
        }
        _ => ("7.13.4", "8.8.2", "c5f60e894ca0c61cdbae4f5a686d9f08bcefc942", "2021-07-14T18:33:36.673943207Z"),
    };
    let node = match persona.number("elastic node", 3) {
        0 => "node-1".to_owned(),
        _ => persona.hostname.clone(),
    };
    let clusters = ["elasticsearch", "elasticsearch", "prod-search", "logging", "es-prod", "search-cluster"];
    let cluster = options.get("cluster_name").cloned();
    let cluster = cluster
        .unwrap_or_else(|| persona.pick("elastic cluster", &clusters).copied().unwrap_or("elasticsearch").to_owned());
    Ok(Server::Connections(Arc::new(Elastic {
        persona: persona.clone(),
        version,
        lucene,
        hash,
        built,
        node,
        cluster,
        store: Mutex::new(None),
    })))
}

#[async_trait]
impl Protocol for Elastic {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()> {
        stream.limit_idle(Duration::from_secs(120));
        let rules = Rules { eager: false, simple: false, body: 100 << 20 };
        let mut conn = Buffered::new(stream);
        for _ in 0..REQUESTS {
            match head(&mut conn, rules).await? {
                Incoming::Request(mut request) => {
                    let whole = body(&mut conn, &mut request, rules).await?;
                    let reply = match whole {
                        true => self.answer(&request, &session),
                        false => {
                            Reply::error(400, "illegal_argument_exception", "text is empty (possibly HTTP/0.9)", "")
                        }
                    };
                    http::tell(&session, &request, &reply.status.to_string());
                    conn.write(&self.bytes(reply, &request)).await?;
                    if !request.keeps() || !whole {
                        break;
                    }
                }
                Incoming::Bad(problem, request, seen) => {
                    if request.target.is_empty() || problem == Problem::Malformed {
                        session.emit(EventType::Scan, "no HTTP request", &[("kind", "malformed"), ("detail", &seen)]);
                    } else {
                        http::tell(&session, &request, "400");
                    }
                    let reason = match problem {
                        Problem::Version => {
                            "invalid version format: ".to_owned()
                                + &seen.rsplit(' ').next().unwrap_or_default().to_uppercase()
                        }
                        Problem::LineTooLong => "An HTTP line is larger than 4096 bytes.".to_owned(),
                        Problem::FieldTooLong => "HTTP header is larger than 8192 bytes.".to_owned(),
                        _ => "text is empty (possibly HTTP/0.9)".to_owned(),
                    };
                    let reply = Reply::error(400, "illegal_argument_exception", &reason, "");
                    conn.write(&self.bytes(reply, &request)).await?;
                    break;
                }
                Incoming::Simple(_) => break,
                Incoming::End(rest) => {
                    if !rest.is_empty() {
                        session.emit(EventType::Unknown, "no HTTP request", &[("data", &escaped(&rest, 512))]);
                    }
                    break;
                }
            }
        }
        conn.close().await;
        Ok(())
    }
}

impl Elastic {
    fn seven(&self) -> bool {
        self.version.starts_with('7')
    }

    fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        act(store.get_or_insert_with(|| Store::new(&self.persona)))
    }

    fn bytes(&self, reply: Reply, request: &Request) -> Vec<u8> {
        let reason = match reply.status {
            200 => "OK",
            201 => "Created",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            500 => "Internal Server Error",
            _ => "Bad Request",
        };
        let wants =
            Request::form(request.query().as_bytes()).iter().any(|(key, value)| key == "pretty" && value != "false");
        let root = request.path().as_deref() == Some("/");
        let body = match reply.text || !(wants || root) {
            true => reply.body,
            false => pretty(&reply.body) + "\n",
        };
        let mut out = Answer::new(reply.status, reason);
        out.field(
            "content-type",
            if reply.text { "text/plain; charset=UTF-8" } else { "application/json; charset=UTF-8" },
        );
        out.field("content-length", &body.len().to_string());
        let mut bytes = out.end();
        // It answers in the version that it was asked in.
        if request.minor == 0
            && let Some(minor) = bytes.get_mut(7)
        {
            *minor = b'0';
        }
        if request.method != "HEAD" {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }

    fn answer(&self, request: &Request, session: &Session) -> Reply {
        let path = request.path().unwrap_or_default();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let query = Request::form(request.query().as_bytes());
        let asked = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
        if parts.len() > 8 || path.len() > 1024 {
            return self.no_handler(request);
        }
        match (method, parts.as_slice()) {
            ("GET", []) => Reply::json(self.root()),
            ("GET", ["_cat"]) => Reply::text(
                "=^.^=\n/_cat/allocation\n/_cat/shards\n/_cat/shards/{index}\n/_cat/master\n/_cat/nodes\n/_cat/indices\n/_cat/indices/{index}\n/_cat/count\n/_cat/count/{index}\n/_cat/health\n/_cat/aliases\n/_cat/plugins\n/_cat/templates\n",
            ),
            ("GET", ["_cat", what, rest @ ..]) => self.cat(
                what,
                rest.first().copied().unwrap_or_default(),
                asked("v").is_some_and(|v| v != "false"),
                asked("format") == Some("json"),
            ),
            ("GET", ["_cluster", "health", ..]) => Reply::json(self.health()),
            ("GET", ["_cluster", "settings"]) => Reply::json("{\"persistent\":{},\"transient\":{}}"),
            ("PUT", ["_cluster", "settings"]) => {
                let given = escaped(&request.body, 2048);
                session.emit(
                    EventType::Query,
                    "settings of the cluster",
                    &[("query", &given), ("database", "_cluster")],
                );
                Reply::json("{\"acknowledged\":true,\"persistent\":{},\"transient\":{}}")
            }
            ("GET", ["_cluster", "stats" | "state", ..]) => self.cluster_stats(),
            ("GET", ["_nodes", ..]) => Reply::json(self.nodes(session)),
            ("GET", ["_stats", ..]) => self.stats(""),
            ("GET", ["_aliases" | "_alias"]) => Reply::json(self.each("", |_, _| "{\"aliases\":{}}".to_owned())),
            ("GET", ["_mapping" | "_mappings"]) => Reply::json(self.each("", |_, _| self.mapping())),
            ("GET", ["_settings"]) => {
                Reply::json(self.each("", |name, index| self.settings(name, &index.uuid, index.created)))
            }
            ("GET", ["_all"]) => self.indices("_all"),
            ("GET" | "POST", ["_search"]) => {
                self.search("", request, asked("q"), asked("size"), asked("from"), session)
            }
            ("GET" | "POST", ["_count"]) => self.count("", request, asked("q")),
            ("POST" | "PUT", ["_bulk"]) => self.bulk("", request, session),
            (
                "GET",
                ["_snapshot", ..] | ["_template", ..] | ["_ingest", "pipeline"] | ["_tasks"] | ["_remote", "info"],
            ) => Reply::json("{}"),
            ("PUT" | "POST", ["_snapshot", name, ..]) => {
                let given = escaped(&request.body, 2048);
                session.emit(
                    EventType::Query,
                    "a repository for snapshots",
                    &[("query", &given), ("database", "_snapshot")],
                );
                let reason = format!(
                    "[{name}] location doesn't match any of the locations specified by path.repo because this setting is empty"
                );
                Reply::error(500, "repository_exception", &reason, "")
            }
            ("GET", ["_license"] | ["_xpack", "license"]) => Reply::json(format!(
                "{{\"license\":{{\"status\":\"active\",\"uid\":\"{}\",\"type\":\"basic\",\"issue_date\":\"{}\",\"max_nodes\":1000,\"issued_to\":{},\"issuer\":\"elasticsearch\",\"start_date_in_millis\":-1}}}}",
                uuid(&self.persona.secret("elastic license")),
                self.persona.booted_at.format("%Y-%m-%dT%H:%M:%S.000Z"),
                quoted(&self.cluster)
            )),
            (_, ["_security", ..]) => self.no_handler(request),
            (_, [name, rest @ ..]) if !name.starts_with('_') => {
                self.on_index(method, name, rest, request, session, &asked)
            }
            _ => self.no_handler(request),
        }
    }

    fn no_handler(&self, request: &Request) -> Reply {
        let text = format!("no handler found for uri [{}] and method [{}]", request.target, request.method);
        Reply::with(400, format!("{{\"error\":{}}}", quoted(&text)))
    }

    fn on_index<'a>(
        &self,
        method: &str,
        name: &str,
        rest: &[&str],
        request: &Request,
        session: &Session,
        asked: &dyn Fn(&str) -> Option<&'a str>,
    ) -> Reply {
        match (method, rest) {
            ("GET" | "POST", ["_search"]) => {
                return self.search(name, request, asked("q"), asked("size"), asked("from"), session);
            }
            // Types of old: /index/type/_search.
            ("GET" | "POST", [_, "_search"]) => {
                return self.search(name, request, asked("q"), asked("size"), asked("from"), session);
            }
            ("GET" | "POST", ["_count"]) => return self.count(name, request, asked("q")),
            ("POST" | "PUT", ["_bulk"] | [_, "_bulk"]) => return self.bulk(name, request, session),
            ("GET", []) => return self.indices(name),
            _ => {}
        }
        let there = self.with(|store| !store.matching(name).is_empty());
        match (method, rest) {
            ("PUT", []) => {
                if there {
                    let reason = format!("index [{name}] already exists");
                    return Reply::error(
                        400,
                        "resource_already_exists_exception",
                        &reason,
                        &format!(",\"index\":{}", quoted(name)),
                    );
                }
                if !good_name(name) {
                    return self.bad_name(name);
                }
                session.emit(
                    EventType::Query,
                    format!("index {name} made"),
                    &[("query", &format!("PUT /{name}")), ("database", name)],
                );
                match self.with(|store| store.make(name)) {
                    true => Reply::json(format!(
                        "{{\"acknowledged\":true,\"shards_acknowledged\":true,\"index\":{}}}",
                        quoted(name)
                    )),
                    false => Reply::full(),
                }
            }
            ("PUT" | "POST", ["_doc" | "_create", id]) if !id.is_empty() => self.put(name, id, request, session),
            ("POST", ["_doc"]) => {
                let id: String = uuid(&rand::random::<[u8; 18]>()).chars().take(20).collect();
                self.put(name, &id, request, session)
            }
            ("PUT" | "POST", [kind, id]) if !self.seven() && !kind.starts_with('_') => {
                self.put(name, id, request, session)
            }
            _ if !there => Reply::no_index(name),
            ("DELETE", []) => {
                session.emit(
                    EventType::Query,
                    format!("index {name} deleted"),
                    &[("query", &format!("DELETE /{name}")), ("database", name)],
                );
                self.with(|store| {
                    for name in store.matching(name) {
                        store.indices.remove(&name);
                    }
                });
                Reply::json("{\"acknowledged\":true}")
            }
            ("GET", ["_mapping" | "_mappings", ..]) => Reply::json(self.each(name, |_, _| self.mapping())),
            ("GET", ["_settings", ..]) => {
                Reply::json(self.each(name, |name, index| self.settings(name, &index.uuid, index.created)))
            }
            ("GET", ["_stats", ..]) => self.stats(name),
            ("GET", ["_alias" | "_aliases", ..]) => Reply::json(self.each(name, |_, _| "{\"aliases\":{}}".to_owned())),
            ("GET", ["_doc" | "_source", id]) => self.document(name, id),
            ("DELETE", ["_doc", id]) => {
                session.emit(
                    EventType::Query,
                    "document deleted",
                    &[("query", &format!("DELETE /{name}/_doc/{id}")), ("database", name)],
                );
                let gone = self.with(|store| {
                    let index = store.indices.get_mut(name)?;
                    let at = index.documents.iter().position(|document| document.id == *id)?;
                    index.documents.remove(at)
                });
                let (status, result) = if gone.is_some() { (200, "deleted") } else { (404, "not_found") };
                Reply::with(
                    status,
                    format!(
                        "{{\"_index\":{},\"_type\":\"_doc\",\"_id\":{},\"_version\":2,\"result\":\"{result}\",\"_shards\":{{\"total\":2,\"successful\":1,\"failed\":0}},\"_seq_no\":3,\"_primary_term\":1}}",
                        quoted(name),
                        quoted(id)
                    ),
                )
            }
            ("PUT", ["_mapping" | "_mappings" | "_settings", ..]) | ("POST", ["_open" | "_close" | "_cache"]) => {
                Reply::json("{\"acknowledged\":true}")
            }
            ("POST" | "GET", ["_refresh" | "_flush" | "_forcemerge"]) => {
                Reply::json("{\"_shards\":{\"total\":2,\"successful\":1,\"failed\":0}}")
            }
            _ => self.no_handler(request),
        }
    }

    /// An object with something for each index.
    fn each(&self, list: &str, show: impl Fn(&str, &store::Index) -> String) -> String {
        self.with(|store| {
            let names = store.matching(list);
            let all = names.iter().filter_map(|name| {
                store.indices.get(name).map(|index| format!("{}:{}", quoted(name), show(name, index)))
            });
            format!("{{{}}}", all.collect::<Vec<_>>().join(","))
        })
    }

    fn mapping(&self) -> String {
        let text = "{\"type\":\"text\",\"fields\":{\"keyword\":{\"type\":\"keyword\",\"ignore_above\":256}}}";
        let properties = format!(
            "{{\"properties\":{{\"id\":{{\"type\":\"long\"}},\"name\":{text},\"email\":{text},\"message\":{text},\"updated_at\":{{\"type\":\"date\"}}}}}}"
        );
        match self.seven() {
            true => format!("{{\"mappings\":{properties}}}"),
            false => format!("{{\"mappings\":{{\"_doc\":{properties}}}}}"),
        }
    }

    fn settings(&self, name: &str, uuid: &str, created: DateTime<Utc>) -> String {
        let number = if self.seven() { "7130499" } else { "6082399" };
        format!(
            "{{\"settings\":{{\"index\":{{\"creation_date\":\"{}\",\"number_of_shards\":\"1\",\"number_of_replicas\":\"1\",\"uuid\":\"{uuid}\",\"version\":{{\"created\":\"{number}\"}},\"provided_name\":{}}}}}}}",
            created.timestamp_millis(),
            quoted(name)
        )
    }

    fn indices(&self, list: &str) -> Reply {
        if self.with(|store| store.matching(list).is_empty()) && !list.contains('*') && list != "_all" {
            return Reply::no_index(list);
        }
        Reply::json(self.each(list, |name, index| {
            let (mapping, settings) = (self.mapping(), self.settings(name, &index.uuid, index.created));
            let inside = |text: &str| text.get(1..text.len().saturating_sub(1)).unwrap_or_default().to_owned();
            format!("{{\"aliases\":{{}},{},{}}}", inside(&mapping), inside(&settings))
        }))
    }

    fn stats(&self, list: &str) -> Reply {
        let indices = self.each(list, |_, index| {
            let part = format!(
                "{{\"docs\":{{\"count\":{},\"deleted\":0}},\"store\":{{\"size_in_bytes\":{}}}}}",
                index.documents.len(),
                index.size()
            );
            format!("{{\"uuid\":\"{}\",\"primaries\":{part},\"total\":{part}}}", index.uuid)
        });
        let count = self.with(|store| store.matching(list).len());
        Reply::json(format!(
            "{{\"_shards\":{{\"total\":{},\"successful\":{count},\"failed\":0}},\"indices\":{indices}}}",
            count * 2
        ))
    }
}
