//! What each command does that is not about keys.

use chrono::Utc;

use super::{CHANNEL, Client, QUEUED, QUEUED_BYTES, Redis, resp::Reply, verb};
use crate::session::{EventType, Session, escaped};

/// Commands with how many parts they have, their name included; at least so many when negative.
const ARITY: [(&str, i64); 128] = [
    ("ACL", -2),
    ("APPEND", 3),
    ("AUTH", -2),
    ("BGREWRITEAOF", 1),
    ("BGSAVE", -1),
    ("CLIENT", -2),
    ("CLUSTER", -2),
    ("COMMAND", -1),
    ("CONFIG", -2),
    ("DBSIZE", 1),
    ("DEBUG", -2),
    ("DECR", 2),
    ("DECRBY", 3),
    ("DEL", -2),
    ("DISCARD", 1),
    ("DUMP", 2),
    ("ECHO", 2),
    ("EVAL", -3),
    ("EVALSHA", -3),
    ("EXEC", 1),
    ("EXISTS", -2),
    ("EXPIRE", -3),
    ("EXPIREAT", -3),
    ("FLUSHALL", -1),
    ("FLUSHDB", -1),
    ("FUNCTION", -2),
    ("GET", 2),
    ("GETDEL", 2),
    ("GETRANGE", 4),
    ("GETSET", 3),
    ("HDEL", -3),
    ("HELLO", -1),
    ("HEXISTS", 3),
    ("HGET", 3),
    ("HGETALL", 2),
    ("HINCRBY", 4),
    ("HKEYS", 2),
    ("HLEN", 2),
    ("HMGET", -3),
    ("HMSET", -4),
    ("HSCAN", -3),
    ("HSET", -4),
    ("HVALS", 2),
    ("INCR", 2),
    ("INCRBY", 3),
    ("INFO", -1),
    ("KEYS", 2),
    ("LASTSAVE", 1),
    ("LATENCY", -2),
    ("LINDEX", 3),
    ("LLEN", 2),
    ("LOLWUT", -1),
    ("LPOP", -2),
    ("LPUSH", -3),
    ("LRANGE", 4),
    ("LREM", 4),
    ("LSET", 4),
    ("LTRIM", 4),
    ("MEMORY", -2),
    ("MGET", -2),
    ("MIGRATE", -6),
    ("MODULE", -2),
    ("MONITOR", 1),
    ("MOVE", 3),
    ("MSET", -3),
    ("MULTI", 1),
    ("OBJECT", -2),
    ("PERSIST", 2),
    ("PEXPIRE", -3),
    ("PING", -1),
    ("PSETEX", 4),
    ("PSUBSCRIBE", -2),
    ("PSYNC", -3),
    ("PTTL", 2),
    ("PUBLISH", 3),
    ("PUBSUB", -2),
    ("PUNSUBSCRIBE", -1),
    ("QUIT", -1),
    ("RANDOMKEY", 1),
    ("READONLY", 1),
    ("RENAME", 3),
    ("RENAMENX", 3),
    ("REPLCONF", -1),
    ("REPLICAOF", 3),
    ("RESET", 1),
    ("RESTORE", -4),
    ("ROLE", 1),
    ("RPOP", -2),
    ("RPUSH", -3),
    ("SADD", -3),
    ("SAVE", 1),
    ("SCAN", -2),
    ("SCARD", 2),
    ("SCRIPT", -2),
    ("SELECT", 2),
    ("SET", -3),
    ("SETEX", 4),
    ("SETNX", 3),
    ("SETRANGE", 4),
    ("SHUTDOWN", -1),
    ("SISMEMBER", 3),
    ("SLAVEOF", 3),
    ("SLOWLOG", -2),
    ("SMEMBERS", 2),
    ("SRANDMEMBER", -2),
    ("SREM", -3),
    ("SSCAN", -3),
    ("STRLEN", 2),
    ("SUBSCRIBE", -2),
    ("SUBSTR", 4),
    ("SWAPDB", 3),
    ("SYNC", 1),
    ("TIME", 1),
    ("TOUCH", -2),
    ("TTL", 2),
    ("TYPE", 2),
    ("UNLINK", -2),
    ("UNSUBSCRIBE", -1),
    ("UNWATCH", 1),
    ("WAIT", 3),
    ("WATCH", -2),
    ("ZADD", -4),
    ("ZCARD", 2),
    ("ZRANGE", -4),
    ("ZRANGEBYSCORE", -4),
    ("ZREM", -3),
    ("ZSCAN", -3),
    ("ZSCORE", 3),
];

impl Redis {
    /// Runs a command.
    pub(super) fn run(&self, parts: &[Vec<u8>], client: &mut Client, session: &Session, reply: &mut Reply) {
        let name = verb(parts);
        if name == "POST" || name == "HOST:" {
            // A browser was made to speak to it: Redis hangs up.
            client.ends = true;
            return;
        }
        let count = i64::try_from(parts.len()).unwrap_or(i64::MAX);
        let Some((_, arity)) = ARITY.iter().find(|(known, _)| *known == name) else {
            return self.unknown(parts, reply);
        };
        if (*arity > 0 && count != *arity) || (*arity < 0 && count < -arity) {
            return reply.error(&format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()));
        }
        if !client.known && !matches!(name.as_str(), "AUTH" | "HELLO" | "QUIT" | "RESET") {
            return reply.error("NOAUTH Authentication required.");
        }
        if !matches!(name.as_str(), "EXEC" | "DISCARD" | "MULTI" | "WATCH" | "QUIT" | "RESET")
            && let Some(queue) = &mut client.queue
        {
            let bytes = |parts: &[Vec<u8>]| parts.iter().map(|part| part.len() + 24).sum::<usize>();
            let held: usize = queue.iter().map(|parts| bytes(parts)).sum();
            if queue.len() < QUEUED && held + bytes(parts) <= QUEUED_BYTES {
                queue.push(parts.to_vec());
            }
            return reply.simple("QUEUED");
        }
        let text = |at: usize| parts.get(at).map(|part| escaped(part, 4096)).unwrap_or_default();
        let sub = text(1).to_ascii_uppercase();
        let unknown_sub = |reply: &mut Reply| {
            let (sub, name) = (text(1), &name);
            reply.error(&match self.since(7, 0) {
                true => format!("ERR unknown subcommand '{sub}'. Try {name} HELP."),
                false => format!("ERR Unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."),
            });
        };
        match name.as_str() {
            "AUTH" => self.auth(parts, client, session, reply),
            "HELLO" => self.hello(parts, client, session, reply),
            "PING" if !client.channels.is_empty() && !reply.third => reply.texts(["pong".to_owned(), text(1)]),
            "PING" => match parts.get(1) {
                Some(word) => reply.text(word),
                None => reply.simple("PONG"),
            },
            "ECHO" => reply.maybe(parts.get(1)),
            "QUIT" => {
                client.ends = true;
                reply.ok();
            }
            "RESET" => {
                client.queue = None;
                client.channels.clear();
                client.database = 0;
                client.known = self.credentials.is_none();
                reply.third = false;
                reply.simple("RESET");
            }
            "SELECT" => match text(1).parse::<usize>() {
                Ok(at) if at < super::keys::DATABASES => {
                    client.database = at;
                    reply.ok();
                }
                Ok(_) => reply.error("ERR DB index is out of range"),
                Err(_) if self.since(6, 0) => reply.error("ERR value is not an integer or out of range"),
                Err(_) => reply.error("ERR invalid DB index"),
            },
            "INFO" => reply.text(self.info(&text(1).to_ascii_lowercase(), session)),
            "CONFIG" => self.config(parts, &sub, session, reply),
            "CLIENT" => match sub.as_str() {
                "LIST" => reply.text(self.client_line(client, session, "client|list")),
                "INFO" => reply.text(self.client_line(client, session, "client|info")),
                "ID" => reply.number(i64::try_from(client.id).unwrap_or(0)),
                "GETNAME" => reply.maybe((!client.name.is_empty()).then_some(&client.name)),
                "SETNAME" => {
                    client.name = text(2).chars().filter(|sign| !sign.is_whitespace()).take(64).collect();
                    session.learn("client_banner", client.name.clone());
                    reply.ok();
                }
                "SETINFO" if self.since(7, 2) => reply.ok(),
                "NO-EVICT" | "REPLY" | "TRACKING" | "UNPAUSE" | "PAUSE" => reply.ok(),
                "KILL" => reply.error("ERR No such client"),
                _ => unknown_sub(reply),
            },
            "COMMAND" => match sub.as_str() {
                "COUNT" => reply.number(if self.since(7, 0) { 240 } else if self.since(6, 0) { 204 } else { 200 }),
                "DOCS" if self.since(7, 0) => reply.map(0),
                "" => {
                    reply.array(ARITY.len());
                    for (name, arity) in ARITY {
                        reply.array(6);
                        reply.text(name.to_ascii_lowercase());
                        reply.number(arity);
                        reply.array(0);
                        reply.number(1);
                        reply.number(1);
                        reply.number(1);
                    }
                }
                "INFO" | "LIST" | "GETKEYS" => reply.array(0),
                _ => unknown_sub(reply),
            },
            "MULTI" if client.queue.is_some() => reply.error("ERR MULTI calls can not be nested"),
            "MULTI" => {
                client.queue = Some(Vec::new());
                reply.ok();
            }
            "DISCARD" => match client.queue.take() {
                Some(_) => reply.ok(),
                None => reply.error("ERR DISCARD without MULTI"),
            },
            "EXEC" => match client.queue.take() {
                Some(queue) => {
                    reply.array(queue.len());
                    for parts in queue {
                        self.run(&parts, client, session, reply);
                    }
                }
                None => reply.error("ERR EXEC without MULTI"),
            },
            "WATCH" | "UNWATCH" | "READONLY" => reply.ok(),
            "SAVE" => {
                self.saved();
                reply.ok();
            }
            "BGSAVE" => {
                self.saved();
                reply.simple("Background saving started");
            }
            "BGREWRITEAOF" => reply.simple("Background append only file rewriting started"),
            "LASTSAVE" => reply.number(self.with(|shared| shared.saved)),
            "SLAVEOF" | "REPLICAOF" => self.copy(&text(1), &text(2), reply),
            "ROLE" => match self.with(|shared| shared.copies.clone()) {
                None => {
                    reply.array(3);
                    reply.text("master");
                    reply.number(0);
                    reply.array(0);
                }
                Some((host, port)) => {
                    reply.array(5);
                    reply.text("slave");
                    reply.text(host);
                    reply.number(port.parse().unwrap_or(0));
                    reply.text("connect");
                    reply.number(-1);
                }
            },
            "REPLCONF" => reply.ok(),
            "PSYNC" | "SYNC" => client.ends = true,
            "EVAL" => self.script(parts.get(1).map(Vec::as_slice).unwrap_or_default(), reply),
            "EVALSHA" => reply.error("NOSCRIPT No matching script. Please use EVAL."),
            "SCRIPT" => match sub.as_str() {
                "LOAD" => reply.text(sha1(parts.get(2).map(Vec::as_slice).unwrap_or_default())),
                "EXISTS" => {
                    reply.array(parts.len().saturating_sub(2));
                    parts.iter().skip(2).for_each(|_| reply.number(0));
                }
                "FLUSH" => reply.ok(),
                "KILL" => reply.error("NOTBUSY No scripts in execution right now."),
                _ => unknown_sub(reply),
            },
            "FUNCTION" if self.since(7, 0) => reply.array(0),
            "MODULE" => match (sub.as_str(), self.since(7, 0), self.since(4, 0)) {
                ("LIST", _, true) => reply.array(0),
                (_, true, _) => reply.error("ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server."),
                ("LOAD", _, true) => reply.error("ERR Error loading the extension. Please check the server logs."),
                ("UNLOAD", _, true) => reply.error("ERR Error unloading module: no such module with that name"),
                _ => self.unknown(parts, reply),
            },
            "DEBUG" if self.since(7, 0) => reply.error("ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server."),
            "DEBUG" => match sub.as_str() {
                "SLEEP" | "JMAP" | "RELOAD" => reply.ok(),
                _ => reply.error("ERR no such key"),
            },
            "MONITOR" => reply.ok(),
            "SHUTDOWN" => {
                // The server is gone, as far as this client sees.
                client.ends = true;
            }
            "SLOWLOG" => match sub.as_str() {
                "GET" => reply.array(0),
                "LEN" => reply.number(0),
                "RESET" => reply.ok(),
                _ => unknown_sub(reply),
            },
            "LATENCY" | "PUBSUB" => reply.array(0),
            "MEMORY" => match sub.as_str() {
                "USAGE" => reply.number(72),
                "DOCTOR" => reply.text("Sam, I detected no issues with this Redis instance.\n"),
                "PURGE" => reply.ok(),
                _ => unknown_sub(reply),
            },
            "ACL" if self.since(6, 0) => match sub.as_str() {
                "WHOAMI" => reply.text("default"),
                "USERS" => reply.texts(["default"]),
                "LIST" => reply.texts(["user default on nopass ~* &* +@all"]),
                "LOG" | "CAT" => reply.array(0),
                _ => unknown_sub(reply),
            },
            "ACL" => self.unknown(parts, reply),
            "CLUSTER" => reply.error("ERR This instance has cluster support disabled"),
            "TIME" => {
                let now = Utc::now();
                reply.texts([now.timestamp().to_string(), now.timestamp_subsec_micros().to_string()]);
            }
            "WAIT" => reply.number(0),
            "LOLWUT" => reply.text(format!("Redis ver. {}\n", self.version)),
            "SUBSCRIBE" | "PSUBSCRIBE" => {
                for channel in parts.iter().skip(1).take(64).filter(|channel| channel.len() <= CHANNEL) {
                    session.emit(EventType::Subscribe, "subscription", &[("topic", &escaped(channel, 512))]);
                    if client.channels.len() < 64 && !client.channels.contains(channel) {
                        client.channels.push(channel.clone());
                    }
                    reply.array(3);
                    reply.text(name.to_ascii_lowercase());
                    reply.text(channel);
                    reply.count(client.channels.len());
                }
            }
            "UNSUBSCRIBE" | "PUNSUBSCRIBE" => {
                client.channels.clear();
                reply.array(3);
                reply.text(name.to_ascii_lowercase());
                reply.maybe(parts.get(1));
                reply.number(0);
            }
            "PUBLISH" => {
                let payload = parts.get(2).map(|payload| escaped(payload, 2048)).unwrap_or_default();
                session.emit(EventType::Publish, "publication", &[("topic", &text(1)), ("payload", &payload)]);
                reply.number(0);
            }
            "MIGRATE" => match text(3).is_empty() || self.has(client.database, &text(3)) {
                true => reply.error("IOERR error or timeout connecting to the client"),
                false => reply.simple("NOKEY"),
            },
            _ => self.on_keys(&name, parts, client.database, reply),
        }
    }

    fn has(&self, database: usize, name: &str) -> bool {
        self.with(|shared| shared.keys.get(database, name.as_bytes()).is_some())
    }

    fn saved(&self) {
        self.with(|shared| {
            shared.saved = Utc::now().timestamp();
            shared.keys.changes = 0;
        });
    }

    pub(super) fn unknown(&self, parts: &[Vec<u8>], reply: &mut Reply) {
        let name = parts.first().map(|name| escaped(name, 128)).unwrap_or_default();
        let mut shown = String::new();
        let (open, close) = if self.since(7, 0) { ("'", "' ") } else { ("`", "`, ") };
        for part in parts.iter().skip(1).take(20) {
            if shown.len() > 128 {
                break;
            }
            shown.push_str(&format!("{open}{}{close}", escaped(part, 128)));
        }
        reply.error(&match (self.since(7, 0), self.since(4, 0)) {
            (true, _) => format!("ERR unknown command '{name}', with args beginning with: {shown}"),
            (_, true) => format!("ERR unknown command `{name}`, with args beginning with: {shown}"),
            _ => format!("ERR unknown command '{name}'"),
        });
    }
}

/// SHA-1 in hex: how Redis names scripts.
pub(super) fn sha1(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_have_the_names_that_redis_gives() {
        // As the real server answered for `return os.x()`.
        assert_eq!(sha1(b"return os.x()"), "08dd39bc53c97c0773c203cca8ea47a6593e2bbf");
    }
}
