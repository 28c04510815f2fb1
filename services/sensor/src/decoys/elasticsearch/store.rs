//! The indices of one decky: some of its own, and what clients put in, bounded.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::persona::Persona;

/// Indices that a decky keeps, its own included.
const INDICES: usize = 48;
/// What all documents take.
const BYTES: usize = 2 * 1024 * 1024;
/// A document.
pub(super) const DOCUMENT: usize = 256 * 1024;

/// A document as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) version: u64,
}

/// An index.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) uuid: String,
    pub(super) created: DateTime<Utc>,
    pub(super) documents: VecDeque<Document>,
}

impl Index {
    pub(super) fn size(&self) -> usize {
        self.documents.iter().map(|document| document.source.len() * 3 + 200).sum::<usize>() + 225
    }
}

/// All indices.
pub(super) struct Store {
    pub(super) indices: BTreeMap<String, Index>,
    bytes: usize,
}

/// 22 letters as Elasticsearch has for ids.
pub(super) fn uuid(bytes: &[u8]) -> String {
    let text = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    text.chars().take(22).collect()
}

impl Store {
    /// What a node of some company would hold.
    pub(super) fn new(persona: &Persona) -> Store {
        let mut store = Store { indices: BTreeMap::new(), bytes: 0 };
        let first = ["Anna", "Martin", "Julia", "Peter", "Laura", "Stefan", "Maria", "David", "Sarah", "Thomas"];
        let last = ["Weber", "Novak", "Larsen", "Keller", "Moreau", "Rossi", "Jansen", "Kowalski", "Silva", "Berg"];
        let city = ["Hamburg", "Lyon", "Gdansk", "Porto", "Turin", "Utrecht", "Malmo", "Graz"];
        let pick = |label: String, among: &[&'static str]| persona.pick(&label, among).copied().unwrap_or_default();
        let names = [("customers", 60u64), ("orders", 90), ("products", 40), ("invoices", 50), ("users", 25)];
        for (name, most) in names {
            if persona.number(&format!("index {name}"), 3) == 0 {
                continue;
            }
            let name = match persona.number(&format!("index name {name}"), 3) {
                0 => format!("{name}_v{}", 1 + persona.number(&format!("index version {name}"), 4)),
                1 => format!("{}-{name}", pick("index prefix".into(), &["crm", "shop", "erp", "app"])),
                _ => name.to_owned(),
            };
            store.own(persona, &name, (0..20 + persona.number(&format!("count {name}"), most)).map(|n| {
                let label = |part: &str| format!("{name} {n} {part}");
                let (given, family) = (pick(label("given"), &first), pick(label("family"), &last));
                let day = persona.booted_at - TimeDelta::hours(i64::try_from(persona.number(&label("day"), 9000)).unwrap_or(0));
                format!(
                    "{{\"id\":{},\"name\":\"{given} {family}\",\"email\":\"{}.{}@{}.example\",\"city\":\"{}\",\"amount\":{}.{:02},\"updated_at\":\"{}\"}}",
                    10_000 + n * 7 + persona.number(&label("id"), 7),
                    given.to_lowercase(),
                    family.to_lowercase(),
                    pick(label("mail"), &["mail", "post", "web", "online"]),
                    pick(label("city"), &city),
                    5 + persona.number(&label("amount"), 900),
                    persona.number(&label("cents"), 100),
                    day.format("%Y-%m-%dT%H:%M:%S.000Z")
                )
            }));
        }
        let day = (persona.booted_at + TimeDelta::days(1)).format("%Y.%m.%d");
        store.own(
            persona,
            &format!("app-logs-{day}"),
            (0..80u64).map(|n| {
                let label = |part: &str| format!("log {n} {part}");
                let time = persona.booted_at
                    + TimeDelta::seconds(
                        i64::try_from(86_400 + n * 900 + persona.number(&label("time"), 800)).unwrap_or(0),
                    );
                format!(
                    "{{\"@timestamp\":\"{}\",\"level\":\"{}\",\"service\":\"{}\",\"message\":\"{} {}\"}}",
                    time.format("%Y-%m-%dT%H:%M:%S.%3fZ"),
                    pick(label("level"), &["INFO", "INFO", "INFO", "WARN", "ERROR"]),
                    pick(label("service"), &["api", "worker", "mailer", "billing"]),
                    pick(
                        label("message"),
                        &["request finished in", "job finished in", "retry after", "cache miss, loaded in"]
                    ),
                    persona.number(&label("ms"), 900)
                )
            }),
        );
        store
    }

    fn own(&mut self, persona: &Persona, name: &str, sources: impl Iterator<Item = String>) {
        let created = persona.booted_at - TimeDelta::days(30 + i64::try_from(persona.number(name, 300)).unwrap_or(0));
        let documents = sources.enumerate().map(|(n, source)| {
            let id = uuid(&persona.secret(&format!("{name} document {n}"))).chars().take(20).collect();
            Document { id, source, version: 1 }
        });
        let index = Index {
            uuid: uuid(&persona.secret(&format!("index uuid {name}"))),
            created,
            documents: documents.collect(),
        };
        self.bytes += index.size();
        self.indices.insert(name.to_owned(), index);
    }

    /// Makes an index; false when there is no room.
    pub(super) fn make(&mut self, name: &str) -> bool {
        if self.indices.contains_key(name) {
            return true;
        }
        if self.indices.len() >= INDICES {
            return false;
        }
        let index = Index { uuid: uuid(&rand::random::<[u8; 18]>()), created: Utc::now(), documents: VecDeque::new() };
        self.indices.insert(name.to_owned(), index);
        true
    }

    /// Puts a document in; its version, or none when there is no room.
    pub(super) fn put(&mut self, index: &str, id: &str, source: String) -> Option<u64> {
        let size = source.len() * 3 + 200;
        if self.bytes + size > BYTES {
            self.bytes = self.indices.values().map(Index::size).sum();
            if self.bytes + size > BYTES {
                return None;
            }
        }
        if !self.make(index) {
            return None;
        }
        self.bytes += size;
        let documents = &mut self.indices.get_mut(index)?.documents;
        if let Some(known) = documents.iter_mut().find(|document| document.id == id) {
            known.source = source;
            known.version += 1;
            return Some(known.version);
        }
        documents.push_back(Document { id: id.to_owned(), source, version: 1 });
        Some(1)
    }

    /// Names that fit a list of names and patterns, such as `logs-*,users`; all for an empty one.
    pub(super) fn matching(&self, list: &str) -> Vec<String> {
        let patterns: Vec<&str> = list.split(',').take(32).collect();
        let all = list.is_empty() || list == "_all";
        let fits = |name: &String| all || patterns.iter().any(|pattern| fits(pattern, name));
        self.indices.keys().filter(|name| fits(name)).cloned().collect()
    }

    /// Documents that a query asks for, in their order, with the names of their indices.
    pub(super) fn search(&self, list: &str, query: &Query) -> Vec<(&str, &Document)> {
        let mut found = Vec::new();
        for name in self.matching(list) {
            let Some((name, index)) = self.indices.get_key_value(&name) else { continue };
            found.extend(
                index
                    .documents
                    .iter()
                    .filter(|document| query.fits(document))
                    .map(|document| (name.as_str(), document)),
            );
        }
        found
    }
}

/// Whether a name fits a pattern with stars.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What of a query is looked at: words that have to be there, each in a field or anywhere.
#[derive(Debug, Default)]
pub(super) struct Query {
    words: Vec<(Option<String>, String)>,
    nothing: bool,
}

impl Query {
    /// Of `q=`.
    pub(super) fn simple(text: &str) -> Query {
        let mut query = Query::default();
        for word in text.split_whitespace().take(16).filter(|word| !matches!(*word, "*" | "*:*" | "AND" | "OR")) {
            match word.split_once(':') {
                Some((_, "*")) => {}
                Some((field, value)) => {
                    query.words.push((Some(field.to_owned()), value.trim_matches('"').to_lowercase()))
                }
                None => query.words.push((None, word.trim_matches('"').to_lowercase())),
            }
        }
        query
    }

    /// Of a body; it is known to be JSON of bounded depth.
    pub(super) fn of(body: &Value) -> Query {
        let mut query = Query::default();
        if let Some(asked) = body.get("query") {
            query.add(asked, 0);
        }
        query
    }

    fn add(&mut self, asked: &Value, depth: usize) {
        let Some(asked) = asked.as_object().filter(|_| depth < 8 && self.words.len() < 32) else {
            return;
        };
        for (kind, inside) in asked.iter().take(16) {
            match kind.as_str() {
                "match_none" => self.nothing = true,
                "bool" | "constant_score" | "filtered" => {
                    for part in ["must", "filter", "query"] {
                        match inside.get(part) {
                            Some(Value::Array(all)) => all.iter().take(16).for_each(|one| self.add(one, depth + 1)),
                            Some(one) => self.add(one, depth + 1),
                            None => {}
                        }
                    }
                }
                "query_string" | "simple_query_string" => {
                    let text = inside.get("query").and_then(Value::as_str).unwrap_or_default();
                    self.words.extend(Query::simple(text).words);
                }
                "match" | "term" | "match_phrase" | "prefix" => {
                    for (field, value) in inside.as_object().into_iter().flatten().take(8) {
                        let value = value.get("query").or_else(|| value.get("value")).unwrap_or(value);
                        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        self.words.push((Some(field.trim_end_matches(".keyword").to_owned()), text.to_lowercase()));
                    }
                }
                _ => {}
            }
        }
    }

    fn fits(&self, document: &Document) -> bool {
        if self.nothing {
            return false;
        }
        if self.words.is_empty() {
            return true;
        }
        let source: Value = serde_json::from_str(&document.source).unwrap_or(Value::Null);
        let lower = document.source.to_lowercase();
        self.words.iter().all(|(field, word)| match field.as_deref() {
            Some("_id") => document.id.to_lowercase() == *word,
            Some(field) => {
                let value = field.split('.').try_fold(&source, |value, part| value.get(part));
                let text = value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                text.is_some_and(|text| text.to_lowercase().contains(word.trim_matches('*')))
            }
            None => lower.contains(word.trim_matches('*')),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{persona::Os, testing};

    #[test]
    fn patterns_and_queries_fit() {
        assert!(fits("*", "a") && fits("a*", "abc") && fits("*b*c", "abxc") && fits("abc", "abc"));
        assert!(!fits("ab", "abc") && !fits("a*x", "abc") && !fits("*bc*d", "abc"));
        let store = Store::new(&testing::persona(Os::Debian12));
        let all = store.search("", &Query::default()).len();
        assert!(all > 80);
        let errors = store.search("app-logs-*", &Query::simple("level:error")).len();
        assert!(errors > 0 && errors < 80, "{errors}");
        let body = serde_json::json!({"query": {"bool": {"must": [{"match": {"level": "ERROR"}}]}}});
        assert_eq!(store.search("app-logs-*", &Query::of(&body)).len(), errors);
    }

    #[test]
    fn there_is_a_bound() {
        let mut store = Store::new(&testing::persona(Os::Debian12));
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
        let stored = (0..1000).take_while(|n| store.put("x", &n.to_string(), large.clone()).is_some()).count();
        assert!((4..8).contains(&stored), "{stored}");
        let made = (0..1000).take_while(|n| store.make(&format!("i{n}"))).count();
        assert!(made < 48);
    }
}
