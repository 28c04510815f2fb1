//! The databases of a decky in memory: at first the data of a small application.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::Utc;

use super::bson::{Bson, Doc};
use crate::{decoys::sql::Dice, persona::Persona};

/// What attackers may add to a decky's databases in all.
const ROOM: usize = 2 << 20;
const MOST_DATABASES: usize = 64;
const MOST_COLLECTIONS: usize = 128;
/// After so long without anybody, the databases are again as at first.
pub(super) const FORGET: Duration = Duration::from_secs(6 * 3_600);

/// A collection.
#[derive(Default)]
pub(super) struct Collection {
    pub(super) docs: Vec<Doc>,
    pub(super) uuid: [u8; 16],
}

/// All databases.
pub(super) struct Store {
    pub(super) databases: BTreeMap<String, BTreeMap<String, Collection>>,
    room: usize,
    pub(super) used: Instant,
}

/// A new id, as a driver makes one.
pub(super) fn id() -> Bson {
    let mut id = [0; 12];
    let seconds = u32::try_from(Utc::now().timestamp()).unwrap_or(0).to_be_bytes();
    id.iter_mut().zip(seconds.into_iter().chain(rand::random::<[u8; 8]>())).for_each(|(to, from)| *to = from);
    Bson::Id(id)
}

impl Store {
    /// The data that a decky has at first.
    pub(super) fn of(persona: &Persona) -> Store {
        let mut dice = Dice::new(persona, "mongodb");
        let now = persona.booted_at;
        let id = |dice: &mut Dice, at: i64| {
            let mut id = [0; 12];
            let seconds = u32::try_from(at).unwrap_or(0).to_be_bytes();
            let rest = std::iter::repeat_with(|| u8::try_from(dice.below(256)).unwrap_or(0));
            id.iter_mut().zip(seconds.into_iter().chain(rest)).for_each(|(to, from)| *to = from);
            Bson::Id(id)
        };
        let mut users = Vec::new();
        for at in 0..20 + dice.below(30) {
            let (first, last) = dice.person();
            let made = dice.before(now, 700);
            let name = format!("{}.{}", first.to_lowercase(), last.to_lowercase());
            let domain = *dice.pick(&["gmail.com", "outlook.com", "yahoo.com"]).unwrap_or(&"gmail.com");
            let hash: String = dice.hex(27).chars().take(53).collect();
            users.push(
                Doc::default()
                    .with("_id", id(&mut dice, made.timestamp()))
                    .with("name", format!("{first} {last}"))
                    .with("email", format!("{name}@{domain}"))
                    .with("password", format!("$2b$10${hash}"))
                    .with("role", if at == 0 { "admin" } else { "user" })
                    .with("createdAt", Bson::Date(made.timestamp_millis()))
                    .with("__v", 0),
            );
        }
        let mut orders = Vec::new();
        for _ in 0..40 + dice.below(60) {
            let made = dice.before(now, 300);
            let of = dice.below(u64::try_from(users.len()).unwrap_or(1));
            let user = users.get(usize::try_from(of).unwrap_or(0)).and_then(|user| user.get("_id").cloned());
            let total = dice.below(40_000) + 900;
            let total = f64::from(u32::try_from(total).unwrap_or(0)) / 100.0;
            orders.push(
                Doc::default()
                    .with("_id", id(&mut dice, made.timestamp()))
                    .with("user", user.unwrap_or(Bson::Null))
                    .with("items", i32::try_from(1 + dice.below(5)).unwrap_or(1))
                    .with("total", total)
                    .with("status", *dice.pick(&["paid", "shipped", "pending"]).unwrap_or(&"paid"))
                    .with("createdAt", Bson::Date(made.timestamp_millis()))
                    .with("__v", 0),
            );
        }
        let mut sessions = Vec::new();
        for _ in 0..dice.below(20) + 4 {
            let until = dice.before(now, 14);
            sessions.push(
                Doc::default()
                    .with("_id", dice.hex(16))
                    .with("expires", Bson::Date(until.timestamp_millis() + 1_209_600_000))
                    .with("session", "{\"cookie\":{\"originalMaxAge\":1209600000,\"httpOnly\":true,\"path\":\"/\"}}"),
            );
        }
        let uuid = |label: &str| {
            let mut uuid = [0; 16];
            uuid.iter_mut().zip(persona.secret(&format!("mongodb {label}"))).for_each(|(to, from)| *to = from);
            uuid
        };
        let collection = |label: &str, docs| (label.to_owned(), Collection { docs, uuid: uuid(label) });
        let name = *dice.pick(&["app", "webapp", "api", "production", "shop", "dashboard", "portal"]).unwrap_or(&"app");
        let started = Doc::default()
            .with("_id", format!("{}-{}", persona.hostname, now.timestamp_millis()))
            .with("hostname", persona.hostname.clone())
            .with("startTime", Bson::Date(now.timestamp_millis()));
        let version = Doc::default().with("_id", "featureCompatibilityVersion").with("version", "5.0");
        Store {
            databases: BTreeMap::from([
                (
                    name.to_owned(),
                    BTreeMap::from([
                        collection("orders", orders),
                        collection("sessions", sessions),
                        collection("users", users),
                    ]),
                ),
                ("admin".to_owned(), BTreeMap::from([collection("system.version", vec![version])])),
                ("config".to_owned(), BTreeMap::from([collection("system.sessions", Vec::new())])),
                ("local".to_owned(), BTreeMap::from([collection("startup_log", vec![started])])),
            ]),
            room: ROOM,
            used: Instant::now(),
        }
    }

    /// A collection, which is made where there is none. None when there are too many.
    pub(super) fn collection(&mut self, database: &str, name: &str) -> Option<&mut Collection> {
        if !self.databases.contains_key(database) && self.databases.len() >= MOST_DATABASES {
            return None;
        }
        let collections = self.databases.entry(database.to_owned()).or_default();
        if !collections.contains_key(name) && collections.len() >= MOST_COLLECTIONS {
            return None;
        }
        Some(
            collections
                .entry(name.to_owned())
                .or_insert_with(|| Collection { docs: Vec::new(), uuid: *uuid::Uuid::new_v4().as_bytes() }),
        )
    }

    /// The documents of a collection; none of one that there is not.
    pub(super) fn docs(&self, database: &str, name: &str) -> &[Doc] {
        let found = self.databases.get(database).and_then(|collections| collections.get(name));
        found.map_or(&[], |collection| collection.docs.as_slice())
    }

    /// Takes room for a document; false when there is none left.
    pub(super) fn take(&mut self, size: usize) -> bool {
        match self.room.checked_sub(size) {
            Some(left) => {
                self.room = left;
                true
            }
            None => false,
        }
    }

    /// Gives room back.
    pub(super) fn give(&mut self, size: usize) {
        self.room = self.room.saturating_add(size).min(ROOM);
    }
}

/// Order of two values; none when they cannot be compared.
pub(super) fn compare(left: &Bson, right: &Bson) -> Option<Ordering> {
    match (left, right) {
        (Bson::Text(left), Bson::Text(right)) => Some(left.cmp(right)),
        (Bson::Id(left), Bson::Id(right)) => Some(left.cmp(right)),
        (Bson::Bool(left), Bson::Bool(right)) => Some(left.cmp(right)),
        (left, right) => match (left.real(), right.real()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => (left == right).then_some(Ordering::Equal),
        },
    }
}

/// Whether a document fits a filter.
pub(super) fn fits(doc: &Doc, filter: &Doc) -> bool {
    filter.0.iter().all(|(name, wanted)| match name.as_str() {
        "$and" => filter.docs("$and").into_iter().all(|part| fits(doc, part)),
        "$or" => filter.docs("$or").into_iter().any(|part| fits(doc, part)),
        "$nor" => !filter.docs("$nor").into_iter().any(|part| fits(doc, part)),
        "$comment" => true,
        "$where" | "$expr" => false,
        path => field(doc.path(path), wanted),
    })
}

fn field(value: Option<&Bson>, wanted: &Bson) -> bool {
    let equal = |value: Option<&Bson>, wanted: &Bson| match value {
        None => *wanted == Bson::Null,
        Some(Bson::Array(items)) if !matches!(wanted, Bson::Array(_)) => {
            items.iter().any(|item| compare(item, wanted) == Some(Ordering::Equal))
        }
        Some(value) => compare(value, wanted) == Some(Ordering::Equal),
    };
    let found = |pattern: &str, fold: bool| match value {
        Some(Bson::Text(text)) => {
            // Patterns are taken as texts with anchors: no machine runs what attackers write.
            let (text, pattern) =
                if fold { (text.to_lowercase(), pattern.to_lowercase()) } else { (text.clone(), pattern.to_owned()) };
            let (from, to) = (pattern.starts_with('^'), pattern.ends_with('$'));
            let plain = pattern.trim_start_matches('^').trim_end_matches('$').replace(".*", "").replace('\\', "");
            match (from, to) {
                (true, true) => text == plain,
                (true, false) => text.starts_with(&plain),
                (false, true) => text.ends_with(&plain),
                (false, false) => text.contains(&plain),
            }
        }
        _ => false,
    };
    match wanted {
        Bson::Doc(operators) if operators.0.first().is_some_and(|(name, _)| name.starts_with('$')) => {
            operators.0.iter().all(|(operator, operand)| {
                let order = || value.and_then(|value| compare(value, operand));
                match operator.as_str() {
                    "$eq" => equal(value, operand),
                    "$ne" => !equal(value, operand),
                    "$gt" => order() == Some(Ordering::Greater),
                    "$gte" => order().is_some_and(Ordering::is_ge),
                    "$lt" => order() == Some(Ordering::Less),
                    "$lte" => order().is_some_and(Ordering::is_le),
                    "$exists" => value.is_some() == (operand.whole() != Some(0)),
                    "$in" => matches!(operand, Bson::Array(items) if items.iter().any(|item| equal(value, item))),
                    "$nin" => !matches!(operand, Bson::Array(items) if items.iter().any(|item| equal(value, item))),
                    "$regex" => match operand {
                        Bson::Text(pattern) => {
                            found(pattern, operators.text("$options").is_some_and(|flags| flags.contains('i')))
                        }
                        Bson::Regex(pattern, flags) => found(pattern, flags.contains('i')),
                        _ => false,
                    },
                    "$options" => true,
                    "$not" => !field(value, operand),
                    _ => false,
                }
            })
        }
        Bson::Regex(pattern, flags) => found(pattern, flags.contains('i')),
        wanted => equal(value, wanted),
    }
}

/// A document with only the wanted fields.
pub(super) fn projected(doc: &Doc, wanted: Option<&Doc>) -> Doc {
    let Some(wanted) = wanted.filter(|wanted| !wanted.0.is_empty()) else { return doc.clone() };
    let on = |name: &str| wanted.get(name).map(|value| value.whole() != Some(0));
    let including = wanted.0.iter().any(|(name, value)| name != "_id" && value.whole() != Some(0));
    let kept = doc.0.iter().filter(|(name, _)| match (on(name), name.as_str()) {
        (Some(on), _) => on,
        (None, "_id") => true,
        (None, _) => !including,
    });
    Doc(kept.cloned().collect())
}

/// Changes a document as an update says it.
pub(super) fn updated(doc: &Doc, update: &Doc) -> Doc {
    if !update.0.first().is_some_and(|(name, _)| name.starts_with('$')) {
        let mut new = update.clone();
        if let (Some(id), None) = (doc.get("_id"), new.get("_id")) {
            new.0.insert(0, ("_id".to_owned(), id.clone()));
        }
        return new;
    }
    let mut new = doc.clone();
    for (operator, fields) in &update.0 {
        let Bson::Doc(fields) = fields else { continue };
        for (name, value) in &fields.0 {
            match operator.as_str() {
                "$set" | "$setOnInsert" => new.set(name, value.clone()),
                "$unset" => new.0.retain(|(known, _)| known != name),
                "$inc" => {
                    let old = new.number(name).unwrap_or(0);
                    new.set(name, Bson::Long(old.saturating_add(value.whole().unwrap_or(0))));
                }
                "$push" => {
                    let mut items = match new.get(name) {
                        Some(Bson::Array(items)) => items.clone(),
                        _ => Vec::new(),
                    };
                    items.push(value.clone());
                    new.set(name, Bson::Array(items));
                }
                "$rename" => {
                    if let (Some(value), Bson::Text(to)) = (new.get(name).cloned(), value) {
                        new.0.retain(|(known, _)| known != name);
                        new.set(to, value);
                    }
                }
                _ => {}
            }
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_updates() {
        let doc = Doc::default().with("_id", 1).with("name", "Ann").with("age", 40).with("tags", vec![Bson::from("a")]);
        assert!(fits(&doc, &Doc::default().with("age", Doc::default().with("$gt", 30_i64).with("$lt", 41.0))));
        assert!(fits(&doc, &Doc::default().with("tags", "a")));
        assert!(fits(&doc, &Doc::default().with("name", Bson::Regex("^an".into(), "i".into()))));
        assert!(!fits(&doc, &Doc::default().with("name", Doc::default().with("$ne", "Ann"))));
        let new = updated(&doc, &Doc::default().with("$set", Doc::default().with("name", "Bo")));
        assert_eq!(new.text("name"), Some("Bo"));
        assert_eq!(projected(&new, Some(&Doc::default().with("name", 1))).0.len(), 2);
    }
}
