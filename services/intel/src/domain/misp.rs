//! The threat actors of MISP's galaxy: `clusters/threat-actor.json`.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::json;
use super::knowledge::{Kind, Knowledge, KnowledgeRecord, ReadError, Reader};

const MAX_NAME: usize = 300;
const MAX_DESCRIPTION: usize = 50_000;
const MAX_ALIASES: usize = 200;
const MAX_LIST: usize = 100;
const MAX_URL: usize = 2_000;

/// Reads the cluster.
#[derive(Debug, Default)]
pub struct MispReader {
    read: bool,
    seen: HashSet<Uuid>,
    knowledge: Knowledge,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    version: Value,
    values: Vec<Value>,
}

impl Reader for MispReader {
    fn wants(&self, path: &str) -> bool {
        // The galaxy beside it has the same name and no actors.
        path == "threat-actor.json"
            || path == "clusters/threat-actor.json"
            || path.ends_with("/clusters/threat-actor.json")
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ReadError> {
        let cluster: Cluster = json::read(path, bytes)?;
        self.read = true;
        self.knowledge.upstream_version = json::text(Some(&cluster.version), 100);
        for (index, value) in cluster.values.iter().enumerate() {
            let id = || {
                let name = json::text(value.get("uuid"), MAX_NAME).or_else(|| json::text(value.get("value"), MAX_NAME));
                name.unwrap_or_else(|| format!("{path}, actor {}", index + 1))
            };
            match actor(value) {
                Ok((uuid, record)) if self.seen.insert(uuid) => self.knowledge.records.push(record),
                Ok(_) => self.knowledge.skipped.add(id(), "another actor has its uuid"),
                Err(reason) => self.knowledge.skipped.add(id(), reason),
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Knowledge, ReadError> {
        let advice = "Point the source's url at clusters/threat-actor.json of MISP/misp-galaxy";
        if !self.read {
            return Err(ReadError(format!("there is no clusters/threat-actor.json. {advice}")));
        }
        if self.knowledge.records.is_empty() {
            return Err(ReadError(format!("the cluster holds no actor that can be read. {advice}")));
        }
        Ok(self.knowledge)
    }
}

fn actor(value: &Value) -> Result<(Uuid, KnowledgeRecord), &'static str> {
    let name = json::text(value.get("value"), MAX_NAME).ok_or("it has no name")?;
    let uuid = json::text(value.get("uuid"), MAX_NAME)
        .and_then(|text| Uuid::parse_str(&text).ok())
        .ok_or("its uuid is not a UUID")?;
    let none = Map::new();
    let meta = value.get("meta").and_then(Value::as_object).unwrap_or(&none);

    let mut record = KnowledgeRecord::new(Kind::ThreatActor, format!("misp:{uuid}"), uuid.to_string(), name);
    record.description = json::text(value.get("description"), MAX_DESCRIPTION);
    record.aliases = json::texts(meta.get("synonyms"), MAX_ALIASES, MAX_NAME);
    record.aliases.retain(|alias| *alias != record.name);
    let countries = countries(meta.get("country"));
    record.country = countries.first().cloned();
    record.motivation = ["motive", "cfr-type-of-incident"]
        .iter()
        .map(|member| json::texts(meta.get(*member), MAX_LIST, MAX_NAME).join(", "))
        .find(|text| !text.is_empty());

    let mut keep = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            record.attributes.insert(name.to_owned(), value);
        }
    };
    keep("countries", (countries.len() > 1).then(|| Value::from(countries)));
    keep("first_seen", json::text(meta.get("since"), MAX_NAME).map(Value::from));
    keep("attribution_confidence", confidence(meta.get("attribution-confidence")));
    for (name, members) in [
        ("suspected_state_sponsors", &["cfr-suspected-state-sponsor"][..]),
        ("suspected_victims", &["cfr-suspected-victims", "suspected-victims"]),
        ("target_categories", &["cfr-target-category"]),
        ("incident_types", &["cfr-type-of-incident"]),
        ("targeted_sectors", &["targeted-sector", "sector"]),
        ("classification", &["threat-actor-classification"]),
        ("capabilities", &["capabilities"]),
        ("mode_of_operation", &["mode-of-operation"]),
        ("spoken_languages", &["spoken-language"]),
    ] {
        keep(name, list(meta, members, MAX_NAME, |_| true));
    }
    keep("refs", list(meta, &["refs", "references", "sources"], MAX_URL, is_web));
    keep("similar", similar(value));
    Ok((uuid, record))
}

/// What several members list, each once.
fn list(meta: &Map<String, Value>, members: &[&str], chars: usize, fits: fn(&str) -> bool) -> Option<Value> {
    let mut all: Vec<String> = Vec::new();
    for member in members {
        for text in json::texts(meta.get(*member), MAX_LIST, chars) {
            if fits(&text) && !all.contains(&text) {
                all.push(text);
            }
        }
    }
    all.truncate(MAX_LIST);
    (!all.is_empty()).then(|| Value::from(all))
}

fn is_web(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// Two letters each; what else stands there is no country.
fn countries(value: Option<&Value>) -> Vec<String> {
    let mut countries: Vec<String> = Vec::new();
    for text in json::texts(value, MAX_LIST, MAX_NAME) {
        for code in text.split([',', ';', '/', '|']).map(|code| code.trim().to_uppercase()) {
            if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) && !countries.contains(&code) {
                countries.push(code);
            }
        }
    }
    countries
}

/// Per cent, which the cluster spells as a text.
fn confidence(value: Option<&Value>) -> Option<Value> {
    let per_cent: u8 = json::text(value, 10)?.parse().ok()?;
    (per_cent <= 100).then(|| Value::from(per_cent))
}

/// The UUIDs of clusters that mean the same actor.
fn similar(value: &Value) -> Option<Value> {
    let uuids: Vec<_> = json::items(value.get("related"))
        .iter()
        .filter(|related| related.get("type").and_then(Value::as_str) == Some("similar"))
        .filter_map(|related| json::text(related.get("dest-uuid"), 100))
        .take(MAX_LIST)
        .collect();
    (!uuids.is_empty()).then(|| Value::from(uuids))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::json;

    use super::*;
    use crate::domain::testing;

    fn read(values: Value) -> Knowledge {
        let document = json!({"name": "Threat Actor", "version": 349, "values": values}).to_string();
        testing::read(
            Box::<MispReader>::default(),
            &[("x/clusters/threat-actor.json".to_owned(), document.into_bytes())],
        )
    }

    #[test]
    fn an_actor_without_meta_and_texts_for_lists() {
        let knowledge = read(json!([
            {"value": " Lone Actor ", "uuid": "1CB7E1CC-d695-42b1-92f4-fd0112a3c9be"},
            {"value": "APT Example", "uuid": "2cb7e1cc-d695-42b1-92f4-fd0112a3c9be", "description": "An actor.", "meta": {
                "synonyms": "Shared Name", "country": "ru, UA", "cfr-type-of-incident": ["Espionage", "Sabotage"],
                "refs": "https://example.org/a", "attribution-confidence": "50", "cfr-suspected-victims": "Taiwan",
                "suspected-victims": ["Taiwan", "China"], "since": "2014", "cfr-suspected-state-sponsor": "Nowhere"}},
            {"value": "Other", "uuid": "3cb7e1cc-d695-42b1-92f4-fd0112a3c9be", "meta": {
                "synonyms": ["Shared Name", "Other", "Shared Name"], "country": "", "motive": "Cybercrime",
                "refs": ["javascript:alert(1)"], "attribution-confidence": "certain"}},
        ]));
        assert_eq!((knowledge.upstream_version.as_deref(), knowledge.skipped.total), (Some("349"), 0));
        let [lone, apt, other] = knowledge.records.as_slice() else { panic!("{knowledge:?}") };
        assert_eq!(lone.key, "misp:1cb7e1cc-d695-42b1-92f4-fd0112a3c9be");
        assert_eq!((lone.name.as_str(), lone.attributes.len()), ("Lone Actor", 0));
        assert!(lone.country.is_none() && lone.aliases.is_empty());
        // An alias of two actors stays with both.
        assert_eq!((&apt.aliases, &other.aliases), (&vec!["Shared Name".to_owned()], &vec!["Shared Name".to_owned()]));
        assert_eq!((apt.country.as_deref(), &apt.attributes["countries"]), (Some("RU"), &json!(["RU", "UA"])));
        assert_eq!(apt.motivation.as_deref(), Some("Espionage, Sabotage"));
        assert_eq!(apt.attributes["suspected_victims"], json!(["Taiwan", "China"]));
        assert_eq!(apt.attributes["attribution_confidence"], json!(50));
        assert_eq!(apt.attributes["refs"], json!(["https://example.org/a"]));
        assert_eq!((other.country.as_deref(), other.motivation.as_deref()), (None, Some("Cybercrime")));
        assert!(!other.attributes.contains_key("refs") && !other.attributes.contains_key("attribution_confidence"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let uuid = "1cb7e1cc-d695-42b1-92f4-fd0112a3c9be";
        let knowledge = read(
            json!([{"value": "A", "uuid": uuid}, {"value": "B", "uuid": uuid}, {"value": "C", "uuid": "c"}, {"uuid": uuid}, 7]),
        );
        let skipped: Vec<_> =
            knowledge.skipped.first.iter().map(|skip| (skip.id.as_str(), skip.reason.as_str())).collect();
        assert_eq!(
            skipped,
            [
                (uuid, "another actor has its uuid"),
                ("c", "its uuid is not a UUID"),
                (uuid, "it has no name"),
                ("x/clusters/threat-actor.json, actor 5", "it has no name"),
            ]
        );
        let mut reader = MispReader::default();
        assert!(reader.wants("threat-actor.json") && !reader.wants("misp-galaxy-main/galaxies/threat-actor.json"));
        assert!(
            reader
                .file("threat-actor.json", br#"{"values": [{"value": "A"#)
                .unwrap_err()
                .0
                .contains("the download was cut")
        );
        assert!(Box::new(reader).finish().unwrap_err().0.contains("misp-galaxy"));
    }

    #[test]
    fn real_cluster() {
        let Some(files) = testing::files("misp/misp-galaxy-9434ace4.tar.zst") else { return };
        let knowledge = testing::read(Box::<MispReader>::default(), &files);
        let actors = &knowledge.records;
        assert_eq!((actors.len(), knowledge.skipped.total), (1_041, 0), "{:?}", knowledge.skipped);
        assert_eq!(knowledge.upstream_version.as_deref(), Some("349"));
        assert_eq!(actors.iter().filter(|actor| actor.country.is_some()).count(), 476);
        assert_eq!(actors.iter().filter(|actor| !actor.aliases.is_empty()).count(), 403);
        let mut claims: HashMap<String, HashSet<&str>> = HashMap::new();
        for actor in actors {
            for name in actor.aliases.iter().chain([&actor.name]) {
                claims.entry(name.to_lowercase()).or_default().insert(&actor.key);
            }
        }
        assert_eq!(claims.values().filter(|actors| actors.len() > 1).count(), 27);
        let apt1 = actors.iter().find(|actor| actor.name == "APT1").unwrap();
        assert_eq!((apt1.country.as_deref(), apt1.motivation.as_deref()), (Some("CN"), Some("Espionage")));
        assert_eq!(apt1.attributes["refs"].as_array().unwrap().len(), 13);
    }
}
