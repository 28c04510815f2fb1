//! What commands do to lists, sets, hashes and sorted sets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    data::{NO_NUMBER, On, WRONG_TYPE, range, scanned},
    keys::Data,
    resp::Reply,
};

impl On<'_> {
    pub(super) fn lists(&mut self, name: &str, reply: &mut Reply) {
        let key = self.part(1);
        if matches!(name, "LPUSH" | "RPUSH") {
            let values = self.parts.get(2..).unwrap_or_default().to_vec();
            let Some(Data::List(list)) = self.made(Data::List(VecDeque::new())) else {
                return reply.error(WRONG_TYPE);
            };
            for value in values {
                if name == "LPUSH" { list.push_front(value) } else { list.push_back(value) }
            }
            return reply.count(list.len());
        }
        let (first, second) = (self.number(2), self.number(3));
        let value = self.part(3).to_vec();
        let has = self.parts.len() > 2;
        match self.shared.keys.change(self.database, key, 0).map(|key| &mut key.data) {
            None => match name {
                "LLEN" | "LREM" => reply.number(0),
                "LRANGE" => reply.array(0),
                "LSET" => reply.error("ERR no such key"),
                "LTRIM" => reply.ok(),
                _ => reply.nil(),
            },
            Some(Data::List(list)) => match name {
                "LLEN" => reply.count(list.len()),
                "LPOP" | "RPOP" if !has => reply.maybe(if name == "LPOP" { list.pop_front() } else { list.pop_back() }),
                "LPOP" | "RPOP" => {
                    let count = first.and_then(|count| usize::try_from(count).ok()).unwrap_or(0).min(list.len());
                    reply.array(count);
                    for _ in 0..count {
                        reply.maybe(if name == "LPOP" { list.pop_front() } else { list.pop_back() });
                    }
                }
                "LRANGE" | "LTRIM" => {
                    let (Some(from), Some(to)) = (first, second) else {
                        return reply.error(NO_NUMBER);
                    };
                    let (from, end) = range(list.len(), from, to);
                    if name == "LRANGE" {
                        reply.texts(list.range(from..end));
                    } else {
                        list.truncate(end);
                        list.drain(..from);
                        reply.ok();
                    }
                }
                "LINDEX" => {
                    let at = first.map(|at| if at < 0 { at + i64::try_from(list.len()).unwrap_or(0) } else { at });
                    reply.maybe(at.and_then(|at| usize::try_from(at).ok()).and_then(|at| list.get(at)));
                }
                "LREM" => {
                    let before = list.len();
                    list.retain(|item| *item != value);
                    reply.count(before - list.len());
                }
                _ => {
                    let at = first.and_then(|at| usize::try_from(at).ok());
                    match at.and_then(|at| list.get_mut(at)) {
                        Some(item) => {
                            *item = value;
                            reply.ok();
                        }
                        None => reply.error("ERR index out of range"),
                    }
                }
            },
            Some(_) => reply.error(WRONG_TYPE),
        }
        self.shared.keys.tidy(self.database, key);
    }

    pub(super) fn sets(&mut self, name: &str, reply: &mut Reply) {
        let key = self.part(1);
        let values = self.parts.get(2..).unwrap_or_default().to_vec();
        if name == "SADD" {
            let Some(Data::Set(set)) = self.made(Data::Set(BTreeSet::new())) else {
                return reply.error(WRONG_TYPE);
            };
            return reply.count(values.into_iter().filter(|value| set.insert(value.clone())).count());
        }
        match self.shared.keys.change(self.database, key, 0).map(|key| &mut key.data) {
            None => match name {
                "SMEMBERS" => reply.array(0),
                "SRANDMEMBER" => reply.nil(),
                "SSCAN" => scanned(reply, Vec::<&[u8]>::new()),
                _ => reply.number(0),
            },
            Some(Data::Set(set)) => match name {
                "SREM" => reply.count(values.iter().filter(|value| set.remove(*value)).count()),
                "SMEMBERS" => reply.texts(set.iter()),
                "SISMEMBER" => reply.number(i64::from(values.first().is_some_and(|value| set.contains(value)))),
                "SRANDMEMBER" => reply.maybe(set.iter().next()),
                "SSCAN" => scanned(reply, set.iter().collect()),
                _ => reply.count(set.len()),
            },
            Some(_) => reply.error(WRONG_TYPE),
        }
        self.shared.keys.tidy(self.database, key);
    }

    pub(super) fn hashes(&mut self, name: &str, reply: &mut Reply) {
        let key = self.part(1);
        let values = self.parts.get(2..).unwrap_or_default().to_vec();
        if matches!(name, "HSET" | "HMSET" | "HINCRBY") {
            let by = self.number(3);
            if name != "HINCRBY" && !values.len().is_multiple_of(2) {
                return reply
                    .error(&format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()));
            }
            let Some(Data::Hash(hash)) = self.made(Data::Hash(BTreeMap::new())) else {
                return reply.error(WRONG_TYPE);
            };
            if name == "HINCRBY" {
                let field = values.into_iter().next().unwrap_or_default();
                let value = match hash.get(&field) {
                    None => Some(0),
                    Some(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()),
                };
                return match (value, by) {
                    (Some(value), Some(by)) => {
                        let sum = value.saturating_add(by);
                        hash.insert(field, sum.to_string().into_bytes());
                        reply.number(sum);
                    }
                    (None, _) => reply.error("ERR hash value is not an integer"),
                    _ => reply.error(NO_NUMBER),
                };
            }
            let (pairs, _) = values.as_chunks::<2>();
            let added =
                pairs.iter().filter(|[field, value]| hash.insert(field.clone(), value.clone()).is_none()).count();
            return if name == "HSET" { reply.count(added) } else { reply.ok() };
        }
        match self.shared.keys.change(self.database, key, 0).map(|key| &mut key.data) {
            None => match name {
                "HGET" => reply.nil(),
                "HGETALL" => reply.map(0),
                "HKEYS" | "HVALS" => reply.array(0),
                "HMGET" => {
                    reply.array(values.len());
                    values.iter().for_each(|_| reply.nil());
                }
                "HSCAN" => scanned(reply, Vec::<&[u8]>::new()),
                _ => reply.number(0),
            },
            Some(Data::Hash(hash)) => match name {
                "HGET" => reply.maybe(values.first().and_then(|field| hash.get(field))),
                "HMGET" => {
                    reply.array(values.len());
                    for field in &values {
                        reply.maybe(hash.get(field));
                    }
                }
                "HGETALL" => {
                    reply.map(hash.len());
                    for (field, value) in hash.iter() {
                        reply.text(field);
                        reply.text(value);
                    }
                }
                "HDEL" => reply.count(values.iter().filter(|field| hash.remove(*field).is_some()).count()),
                "HKEYS" => reply.texts(hash.keys()),
                "HVALS" => reply.texts(hash.values()),
                "HEXISTS" => reply.number(i64::from(values.first().is_some_and(|field| hash.contains_key(field)))),
                "HSCAN" => scanned(reply, hash.iter().flat_map(|(field, value)| [field, value]).collect()),
                _ => reply.count(hash.len()),
            },
            Some(_) => reply.error(WRONG_TYPE),
        }
        self.shared.keys.tidy(self.database, key);
    }

    pub(super) fn sorted(&mut self, name: &str, reply: &mut Reply) {
        let key = self.part(1);
        let values = self.parts.get(2..).unwrap_or_default().to_vec();
        let score = |text: &Vec<u8>| {
            std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()).filter(|score| !score.is_nan())
        };
        if name == "ZADD" {
            let (pairs, rest) = values.as_chunks::<2>();
            if !rest.is_empty() {
                return reply.error("ERR syntax error");
            }
            if pairs.iter().any(|[number, _]| score(number).is_none()) {
                return reply.error("ERR value is not a valid float");
            }
            let Some(Data::Sorted(sorted)) = self.made(Data::Sorted(BTreeMap::new())) else {
                return reply.error(WRONG_TYPE);
            };
            let add = |pair: &&[Vec<u8>; 2]| sorted.insert(pair[1].clone(), score(&pair[0]).unwrap_or(0.0)).is_none();
            let added = pairs.iter().filter(add).count();
            return reply.count(added);
        }
        match self.shared.keys.change(self.database, key, 0).map(|key| &mut key.data) {
            None => match name {
                "ZSCORE" => reply.nil(),
                "ZCARD" | "ZREM" => reply.number(0),
                "ZSCAN" => scanned(reply, Vec::<&[u8]>::new()),
                _ => reply.array(0),
            },
            Some(Data::Sorted(sorted)) => {
                let mut order: Vec<(&Vec<u8>, f64)> = sorted.iter().map(|(item, score)| (item, *score)).collect();
                order.sort_by(|a, b| a.1.total_cmp(&b.1));
                let last = values.last().is_some_and(|word| word.eq_ignore_ascii_case(b"WITHSCORES"));
                let number =
                    |at: usize| values.get(at).and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
                match name {
                    "ZSCORE" => reply.maybe(values.first().and_then(|item| sorted.get(item)).map(f64::to_string)),
                    "ZCARD" => reply.count(sorted.len()),
                    "ZREM" => reply.count(values.iter().filter(|item| sorted.remove(*item).is_some()).count()),
                    "ZSCAN" => {
                        let all =
                            order.iter().flat_map(|(item, score)| [item.to_vec(), score.to_string().into_bytes()]);
                        scanned(reply, all.collect());
                    }
                    _ => {
                        let (from, end) = match (name, number(0), number(1)) {
                            ("ZRANGE", Some(from), Some(to)) => range(order.len(), from, to),
                            ("ZRANGE", ..) => return reply.error(NO_NUMBER),
                            _ => (0, order.len()),
                        };
                        let part = order.get(from..end).unwrap_or_default();
                        reply.array(part.len() * if last { 2 } else { 1 });
                        for (item, score) in part {
                            reply.text(item);
                            if last {
                                reply.text(score.to_string());
                            }
                        }
                    }
                }
            }
            Some(_) => reply.error(WRONG_TYPE),
        }
        self.shared.keys.tidy(self.database, key);
    }
}
