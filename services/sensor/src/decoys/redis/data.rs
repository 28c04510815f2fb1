//! What commands do to keys.

use chrono::Utc;

use super::{
    Redis, Shared,
    keys::{Data, Key, fits},
    resp::Reply,
};

pub(super) const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
pub(super) const NO_NUMBER: &str = "ERR value is not an integer or out of range";
const FULL: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// The longest text that a key may hold.
const TEXT: usize = 1024 * 1024;

impl Redis {
    /// Runs a command on keys; the number of its parts was checked.
    pub(super) fn on_keys(&self, name: &str, parts: &[Vec<u8>], database: usize, reply: &mut Reply) {
        let grows: usize = parts.iter().map(|part| part.len() + 64).sum();
        let writes = matches!(
            name,
            "SET"
                | "SETNX"
                | "SETEX"
                | "PSETEX"
                | "GETSET"
                | "MSET"
                | "APPEND"
                | "INCR"
                | "INCRBY"
                | "DECR"
                | "DECRBY"
                | "LPUSH"
                | "RPUSH"
                | "LSET"
                | "SADD"
                | "HSET"
                | "HMSET"
                | "HINCRBY"
                | "ZADD"
                | "RENAME"
                | "SETRANGE"
        );
        self.with(|shared| {
            if writes && !shared.keys.fits(grows) {
                return reply.error(FULL);
            }
            let mut on = On { shared, database, grows, parts };
            match name {
                "LPUSH" | "RPUSH" | "LPOP" | "RPOP" | "LLEN" | "LRANGE" | "LINDEX" | "LREM" | "LSET" | "LTRIM" => {
                    on.lists(name, reply);
                }
                "SADD" | "SREM" | "SMEMBERS" | "SISMEMBER" | "SCARD" | "SRANDMEMBER" | "SSCAN" => on.sets(name, reply),
                "HSET" | "HMSET" | "HGET" | "HMGET" | "HGETALL" | "HDEL" | "HKEYS" | "HVALS" | "HLEN" | "HEXISTS"
                | "HINCRBY" | "HSCAN" => on.hashes(name, reply),
                "ZADD" | "ZRANGE" | "ZRANGEBYSCORE" | "ZREM" | "ZCARD" | "ZSCORE" | "ZSCAN" => on.sorted(name, reply),
                "GET" | "SET" | "SETNX" | "SETEX" | "PSETEX" | "GETSET" | "GETDEL" | "GETRANGE" | "SUBSTR" | "MGET"
                | "MSET" | "APPEND" | "STRLEN" | "INCR" | "INCRBY" | "DECR" | "DECRBY" => on.texts(name, reply),
                _ => on.names(name, reply),
            }
        });
    }
}

/// A command on the keys.
pub(super) struct On<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) database: usize,
    /// What it may add.
    grows: usize,
    pub(super) parts: &'a [Vec<u8>],
}

/// The part of a list from `from` to `to`, both counted from its end when negative.
pub(super) fn range(length: usize, from: i64, to: i64) -> (usize, usize) {
    let all = i64::try_from(length).unwrap_or(i64::MAX);
    let place = |at: i64| if at < 0 { at.saturating_add(all).max(0) } else { at };
    let (from, to) = (place(from), if to < 0 { to.saturating_add(all) } else { to });
    let end = to.saturating_add(1).clamp(0, all);
    let from = from.min(end);
    (usize::try_from(from).unwrap_or(0), usize::try_from(end).unwrap_or(0))
}

impl<'a> On<'a> {
    pub(super) fn part(&self, at: usize) -> &'a [u8] {
        self.parts.get(at).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn number(&self, at: usize) -> Option<i64> {
        std::str::from_utf8(self.part(at)).ok()?.parse().ok()
    }

    pub(super) fn read(&mut self, name: &[u8]) -> Option<&Data> {
        self.shared.keys.get(self.database, name).map(|key| &key.data)
    }

    /// The data of the key that the command names, made when it is not there.
    pub(super) fn made(&mut self, empty: Data) -> Option<&mut Data> {
        let name = self.part(1).to_vec();
        if self.read(&name).is_none() {
            self.shared.keys.put(self.database, name.clone(), Key { data: empty, expires: None });
        }
        self.shared.keys.change(self.database, &name, self.grows).map(|key| &mut key.data)
    }

    fn put(&mut self, name: &[u8], text: Vec<u8>, expires: Option<i64>) {
        self.shared.keys.put(self.database, name.to_vec(), Key { data: Data::Text(text), expires });
    }

    fn texts(&mut self, name: &str, reply: &mut Reply) {
        let key = self.part(1);
        let old = match self.read(key) {
            Some(Data::Text(text)) => Some(text.clone()),
            Some(_) if !matches!(name, "SET" | "SETEX" | "PSETEX" | "SETNX" | "MGET" | "MSET") => {
                return reply.error(WRONG_TYPE);
            }
            Some(_) => Some(Vec::new()),
            None => None,
        };
        let now = Utc::now().timestamp_millis();
        match name {
            "GET" => reply.maybe(old),
            "GETDEL" => {
                self.shared.keys.remove(self.database, key);
                reply.maybe(old);
            }
            "GETSET" => {
                self.put(key, self.part(2).to_vec(), None);
                reply.maybe(old);
            }
            "SETNX" => {
                if old.is_none() {
                    self.put(key, self.part(2).to_vec(), None);
                }
                reply.number(i64::from(old.is_none()));
            }
            "SETEX" | "PSETEX" => match self.number(2) {
                Some(time) if time > 0 => {
                    let time = if name == "SETEX" { time.saturating_mul(1000) } else { time };
                    self.put(key, self.part(3).to_vec(), Some(now.saturating_add(time)));
                    reply.ok();
                }
                Some(_) => reply.error(&format!("ERR invalid expire time in '{}' command", name.to_ascii_lowercase())),
                None => reply.error(NO_NUMBER),
            },
            "SET" => self.set(old, now, reply),
            "STRLEN" => reply.count(old.map_or(0, |text| text.len())),
            "GETRANGE" | "SUBSTR" => {
                let text = old.unwrap_or_default();
                let (Some(from), Some(to)) = (self.number(2), self.number(3)) else {
                    return reply.error(NO_NUMBER);
                };
                let (from, end) = range(text.len(), from, to);
                reply.text(text.get(from..end).unwrap_or_default());
            }
            "APPEND" => {
                let mut text = old.unwrap_or_default();
                if text.len() + self.part(2).len() > TEXT {
                    return reply.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
                }
                text.extend_from_slice(self.part(2));
                reply.count(text.len());
                self.put(key, text, None);
            }
            "MGET" => {
                reply.array(self.parts.len().saturating_sub(1));
                for name in self.parts.iter().skip(1) {
                    match self.read(name) {
                        Some(Data::Text(text)) => reply.text(text),
                        _ => reply.nil(),
                    }
                }
            }
            "MSET" => {
                let (pairs, rest) = self.parts.get(1..).unwrap_or_default().as_chunks::<2>();
                if !rest.is_empty() {
                    return reply.error("ERR wrong number of arguments for 'mset' command");
                }
                for [name, value] in pairs {
                    self.put(name, value.clone(), None);
                }
                reply.ok();
            }
            _ => {
                let by = match name {
                    "INCR" => Some(1),
                    "DECR" => Some(-1),
                    "INCRBY" => self.number(2),
                    _ => self.number(2).and_then(i64::checked_neg),
                };
                let value = match old {
                    None => Some(0),
                    Some(text) => std::str::from_utf8(&text).ok().and_then(|text| text.parse::<i64>().ok()),
                };
                match (by, value) {
                    (Some(by), Some(value)) => match value.checked_add(by) {
                        Some(sum) => {
                            self.put(key, sum.to_string().into_bytes(), None);
                            reply.number(sum);
                        }
                        None => reply.error("ERR increment or decrement would overflow"),
                    },
                    _ => reply.error(NO_NUMBER),
                }
            }
        }
    }

    fn set(&mut self, old: Option<Vec<u8>>, now: i64, reply: &mut Reply) {
        let (mut expires, mut only, mut gives, mut at) = (None, None, false, 3);
        while at < self.parts.len() {
            match self.part(at).to_ascii_uppercase().as_slice() {
                b"NX" => only = Some(false),
                b"XX" => only = Some(true),
                b"GET" => gives = true,
                b"KEEPTTL" => {}
                unit @ (b"EX" | b"PX" | b"EXAT" | b"PXAT") => {
                    at += 1;
                    let Some(time) = self.number(at) else {
                        return reply.error(NO_NUMBER);
                    };
                    if time <= 0 {
                        return reply.error("ERR invalid expire time in 'set' command");
                    }
                    expires = Some(match unit {
                        b"EX" => now.saturating_add(time.saturating_mul(1000)),
                        b"PX" => now.saturating_add(time),
                        b"EXAT" => time.saturating_mul(1000),
                        _ => time,
                    });
                }
                _ => return reply.error("ERR syntax error"),
            }
            at += 1;
        }
        if only.is_some_and(|there| there != old.is_some()) {
            return reply.nil();
        }
        self.put(self.part(1), self.part(2).to_vec(), expires);
        match gives {
            true => reply.maybe(old),
            false => reply.ok(),
        }
    }

    fn names(&mut self, name: &str, reply: &mut Reply) {
        let key = self.part(1);
        let now = Utc::now().timestamp_millis();
        match name {
            "DEL" | "UNLINK" => {
                let database = self.database;
                let gone = self.parts.iter().skip(1).filter(|name| self.shared.keys.remove(database, name).is_some());
                reply.count(gone.count());
            }
            "EXISTS" | "TOUCH" => {
                let database = self.database;
                let there = self.parts.iter().skip(1).filter(|name| self.shared.keys.get(database, name).is_some());
                reply.count(there.count());
            }
            "TYPE" => {
                let kind = self.read(key).map_or("none", Data::kind);
                reply.simple(kind);
            }
            "TTL" | "PTTL" => match self.shared.keys.get(self.database, key) {
                None => reply.number(-2),
                Some(Key { expires: None, .. }) => reply.number(-1),
                Some(Key { expires: Some(end), .. }) => {
                    let left = end.saturating_sub(now);
                    reply.number(if name == "TTL" { (left + 500) / 1000 } else { left });
                }
            },
            "EXPIRE" | "PEXPIRE" | "EXPIREAT" => {
                let Some(time) = self.number(2) else {
                    return reply.error(NO_NUMBER);
                };
                let end = match name {
                    "EXPIRE" => now.saturating_add(time.saturating_mul(1000)),
                    "PEXPIRE" => now.saturating_add(time),
                    _ => time.saturating_mul(1000),
                };
                let key = self.shared.keys.change(self.database, key, 0);
                reply.number(i64::from(key.map(|key| key.expires = Some(end)).is_some()));
            }
            "PERSIST" => {
                let key = self.shared.keys.change(self.database, key, 0);
                reply.number(i64::from(key.is_some_and(|key| key.expires.take().is_some())));
            }
            "KEYS" => {
                let names = self.shared.keys.names(self.database);
                reply.texts(names.into_iter().filter(|name| fits(key, name)));
            }
            "SCAN" => {
                let all = self.shared.keys.names(self.database);
                let pattern = self.parts.iter().position(|part| part.eq_ignore_ascii_case(b"MATCH"));
                let pattern = pattern.and_then(|at| self.parts.get(at + 1)).cloned().unwrap_or_else(|| b"*".to_vec());
                scanned(reply, all.into_iter().filter(|name| fits(&pattern, name)).collect());
            }
            "DBSIZE" => reply.count(self.shared.keys.names(self.database).len()),
            "RANDOMKEY" => reply.maybe(self.shared.keys.names(self.database).first()),
            "FLUSHALL" => {
                self.shared.keys.clear(None);
                reply.ok();
            }
            "FLUSHDB" => {
                self.shared.keys.clear(Some(self.database));
                reply.ok();
            }
            "RENAME" | "RENAMENX" => {
                let to = self.part(2).to_vec();
                if name == "RENAMENX" && self.read(&to).is_some() {
                    return reply.number(0);
                }
                match self.shared.keys.remove(self.database, key) {
                    Some(found) => {
                        self.shared.keys.put(self.database, to, found);
                        if name == "RENAME" { reply.ok() } else { reply.number(1) }
                    }
                    None => reply.error("ERR no such key"),
                }
            }
            "DUMP" => reply.nil(),
            "RESTORE" => reply.error("ERR DUMP payload version or checksum are wrong"),
            "MOVE" => reply.number(0),
            "SWAPDB" => reply.ok(),
            "OBJECT" => match self.read(self.part(2)) {
                None => reply.nil(),
                Some(data) => {
                    let encoding = match data {
                        Data::Text(text) if text.len() <= 44 => "embstr",
                        Data::Text(_) => "raw",
                        Data::List(_) => "quicklist",
                        Data::Set(_) => "hashtable",
                        Data::Hash(_) | Data::Sorted(_) => "ziplist",
                    };
                    match self.part(1).eq_ignore_ascii_case(b"ENCODING") {
                        true => reply.text(encoding),
                        false => reply.number(1),
                    }
                }
            },
            _ => reply.error("ERR syntax error"),
        }
    }
}

/// An answer of SCAN and its like that is all at once.
pub(super) fn scanned<T: AsRef<[u8]>>(reply: &mut Reply, items: Vec<T>) {
    reply.array(2);
    reply.text("0");
    reply.texts(items);
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_stay_inside() {
        assert_eq!(range(5, 0, -1), (0, 5));
        assert_eq!(range(5, -2, -1), (3, 5));
        assert_eq!(range(5, 2, 100), (2, 5));
        assert_eq!(range(5, 4, 1), (2, 2));
        assert_eq!(range(0, 0, -1), (0, 0));
        assert_eq!(range(3, i64::MIN, i64::MAX), (0, 3));
    }
}
