//! The keys of one decky, in memory and bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::Utc;

use crate::persona::Persona;

/// Databases, as Redis has them by default.
pub(super) const DATABASES: usize = 16;
/// All that a decky keeps.
const BYTES: usize = 1024 * 1024;
const COUNT: usize = 4000;
/// The longest pattern that is looked for.
const PATTERN: usize = 128;

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Text(Vec<u8>),
    List(VecDeque<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Sorted(BTreeMap<Vec<u8>, f64>),
}

impl Data {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Data::Text(_) => "string",
            Data::List(_) => "list",
            Data::Hash(_) => "hash",
            Data::Set(_) => "set",
            Data::Sorted(_) => "zset",
        }
    }

    fn size(&self) -> usize {
        64 + match self {
            Data::Text(text) => text.len(),
            Data::List(list) => list.iter().map(|item| item.len() + 24).sum(),
            Data::Hash(hash) => hash.iter().map(|(field, value)| field.len() + value.len() + 64).sum(),
            Data::Set(set) => set.iter().map(|item| item.len() + 48).sum(),
            Data::Sorted(sorted) => sorted.keys().map(|item| item.len() + 56).sum(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Data::Text(_) => false,
            Data::List(list) => list.is_empty(),
            Data::Hash(hash) => hash.is_empty(),
            Data::Set(set) => set.is_empty(),
            Data::Sorted(sorted) => sorted.is_empty(),
        }
    }
}

/// A key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) data: Data,
    /// Milliseconds since 1970.
    pub(super) expires: Option<i64>,
}

/// All keys.
pub(super) struct Keys {
    databases: Vec<BTreeMap<Vec<u8>, Key>>,
    /// At least what they take; counted anew when it seems too much.
    bytes: usize,
    /// Writes since the last save.
    pub(super) changes: u64,
}

impl Keys {
    /// What a server of some company would hold.
    pub(super) fn new(persona: &Persona) -> Keys {
        let mut keys = Keys { databases: vec![BTreeMap::new(); DATABASES], bytes: 0, changes: 0 };
        let text = |label: &str| hex::encode(persona.secret(label).get(..12).unwrap_or_default());
        for n in 0..6 + persona.number("redis sessions", 12) {
            let label = format!("redis session {n}");
            let user = 1000 + persona.number(&label, 4000);
            let seen = persona.booted_at.timestamp() + i64::try_from(persona.number(&label, 80_000)).unwrap_or(0);
            let value = format!("{{\"uid\":{user},\"role\":\"user\",\"last_seen\":{seen}}}");
            keys.seed(&format!("session:{}", text(&label)), Data::Text(value.into_bytes()));
            let cart = [("items", 1 + user % 5), ("total", 990 + user * 7 % 40_000)];
            let cart = cart.map(|(field, value)| (field.as_bytes().to_vec(), value.to_string().into_bytes()));
            keys.seed(&format!("cart:{user}"), Data::Hash(cart.into()));
        }
        let names = ["mailer", "thumbnails", "reports", "invoices", "sync"];
        for name in names {
            if persona.number(&format!("redis queue {name}"), 2) == 0 {
                let jobs = (0..1 + persona.number(&format!("redis jobs {name}"), 6)).map(|n| {
                    format!("{{\"job\":\"{name}\",\"id\":\"{}\"}}", text(&format!("job {name} {n}"))).into_bytes()
                });
                keys.seed(&format!("queue:{name}"), Data::List(jobs.collect()));
            }
        }
        keys.seed(
            "app:version",
            Data::Text(
                format!("2.{}.{}", persona.number("app minor", 20), persona.number("app patch", 9)).into_bytes(),
            ),
        );
        keys.seed("stats:visits", Data::Text((20_000 + persona.number("visits", 900_000)).to_string().into_bytes()));
        keys.changes = 0;
        keys
    }

    fn seed(&mut self, name: &str, data: Data) {
        self.put(0, name.as_bytes().to_vec(), Key { data, expires: None });
    }

    fn database(&mut self, at: usize) -> &mut BTreeMap<Vec<u8>, Key> {
        // The number is checked at SELECT.
        let at = at.min(self.databases.len().saturating_sub(1));
        &mut self.databases[at]
    }

    /// Whether so many more bytes fit.
    pub(super) fn fits(&mut self, bytes: usize) -> bool {
        if self.bytes.saturating_add(bytes) > BYTES {
            let all = self.databases.iter().flatten();
            self.bytes = all.map(|(name, key)| name.len() + key.data.size()).sum();
        }
        self.bytes.saturating_add(bytes) <= BYTES && self.databases.iter().map(BTreeMap::len).sum::<usize>() < COUNT
    }

    pub(super) fn get(&mut self, at: usize, name: &[u8]) -> Option<&Key> {
        let now = Utc::now().timestamp_millis();
        let database = self.database(at);
        if database.get(name).is_some_and(|key| key.expires.is_some_and(|end| end <= now)) {
            database.remove(name);
        }
        database.get(name)
    }

    /// To change it; who makes it longer has asked whether that fits.
    pub(super) fn change(&mut self, at: usize, name: &[u8], grows: usize) -> Option<&mut Key> {
        self.get(at, name)?;
        self.changes += 1;
        self.bytes = self.bytes.saturating_add(grows + 64);
        self.database(at).get_mut(name)
    }

    pub(super) fn put(&mut self, at: usize, name: Vec<u8>, key: Key) {
        self.changes += 1;
        self.bytes = self.bytes.saturating_add(name.len() + key.data.size());
        self.database(at).insert(name, key);
    }

    pub(super) fn remove(&mut self, at: usize, name: &[u8]) -> Option<Key> {
        self.get(at, name)?;
        self.changes += 1;
        self.database(at).remove(name)
    }

    /// Forgets a list, a hash or a set that holds nothing any more.
    pub(super) fn tidy(&mut self, at: usize, name: &[u8]) {
        let database = self.database(at);
        if database.get(name).is_some_and(|key| key.data.is_empty()) {
            database.remove(name);
        }
    }

    pub(super) fn clear(&mut self, at: Option<usize>) {
        self.changes += 1;
        match at {
            Some(at) => self.database(at).clear(),
            None => self.databases.iter_mut().for_each(BTreeMap::clear),
        }
        self.fits(usize::MAX);
    }

    /// Names of one database that have not expired.
    pub(super) fn names(&mut self, at: usize) -> Vec<Vec<u8>> {
        let now = Utc::now().timestamp_millis();
        let database = self.database(at);
        database.retain(|_, key| key.expires.is_none_or(|end| end > now));
        database.keys().cloned().collect()
    }

    /// Number, keys and keys that expire, of databases that are not empty.
    pub(super) fn spaces(&self) -> Vec<(usize, usize, usize)> {
        let count = |(at, database): (usize, &BTreeMap<Vec<u8>, Key>)| {
            (at, database.len(), database.values().filter(|key| key.expires.is_some()).count())
        };
        self.databases.iter().enumerate().filter(|(_, database)| !database.is_empty()).map(count).collect()
    }

    /// What they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All texts, one after the other: what a dump of it would bring into a file.
    pub(super) fn dump(&self, most: usize) -> Vec<u8> {
        let mut dump = Vec::new();
        for key in self.databases.iter().flat_map(BTreeMap::values) {
            if let Data::Text(text) = &key.data
                && dump.len() + text.len() < most
            {
                dump.extend_from_slice(text);
                dump.push(b'\n');
            }
        }
        dump
    }
}

/// Whether a name fits a pattern with `*`, `?`, `[…]` and `\`. In bounded time: one step back at most for each star.
pub(super) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    if pattern.len() > PATTERN {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        let byte = name.get(n).copied().unwrap_or_default();
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'[') => {
                if let Some((true, length)) = class(pattern.get(p + 1..).unwrap_or_default(), byte) {
                    p += 1 + length;
                    n += 1;
                    continue;
                }
            }
            Some(b'\\') if pattern.get(p + 1) == Some(&byte) => {
                p += 2;
                n += 1;
                continue;
            }
            Some(b'?') => {
                p += 1;
                n += 1;
                continue;
            }
            Some(sign) if *sign == byte => {
                p += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        let Some((star, from)) = back else {
            return false;
        };
        back = Some((star, from + 1));
        p = star + 1;
        n = from + 1;
    }
    pattern.get(p..).unwrap_or_default().iter().all(|sign| *sign == b'*')
}

/// Whether a sign is in a class, and how long the class is.
fn class(rest: &[u8], byte: u8) -> Option<(bool, usize)> {
    let end = rest.iter().position(|sign| *sign == b']')?;
    let inside = rest.get(..end)?;
    let (negated, inside) = match inside.strip_prefix(b"^") {
        Some(inside) => (true, inside),
        None => (false, inside),
    };
    let mut found = inside.contains(&byte);
    for window in inside.windows(3) {
        if let [from, b'-', to] = window {
            found |= (*from.min(to)..=*from.max(to)).contains(&byte);
        }
    }
    Some((found != negated, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{persona::Os, testing};

    #[test]
    fn patterns_fit() {
        assert!(fits(b"*", b"abc") && fits(b"a*c", b"abbc") && fits(b"a?c", b"abc") && fits(b"h[ae]llo", b"hallo"));
        assert!(fits(b"\\*", b"*") && fits(b"[a-c]x", b"bx") && !fits(b"[^a]x", b"ax"));
        assert!(!fits(b"a", b"ab") && !fits(b"", b"a") && fits(b"", b""));
        assert!(!fits(&b"*a".repeat(60), &b"b".repeat(4000)) && !fits(&b"*".repeat(4000), b"a"));
    }

    #[test]
    fn there_is_a_bound() {
        let mut keys = Keys::new(&testing::persona(Os::Debian12));
        let mut stored = 0;
        while keys.fits(100_000) {
            keys.put(0, format!("k{stored}").into_bytes(), Key { data: Data::Text(vec![0; 100_000]), expires: None });
            stored += 1;
        }
        assert!((8..=10).contains(&stored), "{stored}");
        keys.clear(Some(0));
        assert!(keys.fits(100_000));
    }
}
