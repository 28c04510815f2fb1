//! Logins, settings, replication and scripts.

use super::{Client, Redis, commands::sha1, resp::Reply};
use crate::session::{EventType, Session, escaped};

impl Redis {
    pub(super) fn auth(&self, parts: &[Vec<u8>], client: &mut Client, session: &Session, reply: &mut Reply) {
        let text = |at: usize| parts.get(at).map(|part| escaped(part, 512)).unwrap_or_default();
        let (user, password) = match parts.len() {
            2 => ("default".to_owned(), text(1)),
            3 if self.since(6, 0) => (text(1), text(2)),
            _ => return reply.error("ERR syntax error"),
        };
        if self.login(&user, &password, session) {
            client.known = true;
            return reply.ok();
        }
        match (&self.credentials, self.since(6, 0)) {
            (None, true) if parts.len() == 2 => reply.error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"),
            (None, false) => reply.error("ERR Client sent AUTH, but no password is set"),
            (_, true) => reply.error("WRONGPASS invalid username-password pair or user is disabled."),
            (_, false) => reply.error("ERR invalid password"),
        }
    }

    fn login(&self, user: &str, password: &str, session: &Session) -> bool {
        let accepted =
            self.credentials.as_ref().is_some_and(|known| known.accepts(user, password) || known.accepts("", password));
        let (event, word) =
            if accepted { (EventType::AuthSuccess, "succeeded") } else { (EventType::AuthFail, "failed") };
        session.emit(
            event,
            format!("login of {user} {word}"),
            &[("username", user), ("password", password), ("method", "password")],
        );
        accepted
    }

    pub(super) fn hello(&self, parts: &[Vec<u8>], client: &mut Client, session: &Session, reply: &mut Reply) {
        if !self.since(6, 0) {
            return self.unknown(parts, reply);
        }
        let text = |at: usize| parts.get(at).map(|part| escaped(part, 512)).unwrap_or_default();
        let third = match text(1).as_str() {
            "" => reply.third,
            "2" => false,
            "3" => true,
            other if other.parse::<i64>().is_ok() => return reply.error("NOPROTO unsupported protocol version"),
            _ => return reply.error("ERR Protocol version is not an integer or out of range"),
        };
        let mut at = 2;
        while at < parts.len().min(8) {
            match text(at).to_ascii_uppercase().as_str() {
                "AUTH" if parts.len() > at + 2 => {
                    if !self.login(&text(at + 1), &text(at + 2), session) && self.credentials.is_some() {
                        return reply.error("WRONGPASS invalid username-password pair or user is disabled.");
                    }
                    client.known = true;
                    at += 3;
                }
                "SETNAME" if parts.len() > at + 1 => {
                    client.name = text(at + 1).chars().take(64).collect();
                    at += 2;
                }
                other => {
                    return reply.error(&format!("ERR Syntax error in HELLO option '{}'", other.to_ascii_lowercase()));
                }
            }
        }
        if !client.known {
            return reply.error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time");
        }
        reply.third = third;
        reply.map(7);
        reply.text("server");
        reply.text("redis");
        reply.text("version");
        reply.text(self.version);
        reply.text("proto");
        reply.number(if third { 3 } else { 2 });
        reply.text("id");
        reply.number(i64::try_from(client.id).unwrap_or(0));
        reply.text("mode");
        reply.text("standalone");
        reply.text("role");
        reply.text(if self.with(|shared| shared.copies.is_some()) { "slave" } else { "master" });
        reply.text("modules");
        reply.array(0);
    }

    pub(super) fn config(&self, parts: &[Vec<u8>], sub: &str, session: &Session, reply: &mut Reply) {
        let text = |at: usize| parts.get(at).map(|part| escaped(part, 1024)).unwrap_or_default();
        match (sub, parts.len()) {
            ("GET", 3..) => {
                let settings = self.settings(parts.get(2).map(Vec::as_slice).unwrap_or_default(), session);
                reply.map(settings.len());
                for (name, value) in settings {
                    reply.text(name);
                    reply.text(value);
                }
            }
            ("SET", 4) => {
                let (name, value) = (text(2).to_ascii_lowercase(), text(3));
                let place = matches!(name.as_str(), "dir" | "dbfilename");
                if !super::info::is_setting(&name) {
                    reply.error(&match self.since(7, 0) {
                        true => format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"),
                        false => format!("ERR Unsupported CONFIG parameter: {name}"),
                    });
                } else if place && self.since(7, 0) {
                    reply.error(&format!(
                        "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set protected config"
                    ));
                } else if name == "dir" && !is_folder(&value) {
                    reply.error("ERR Changing directory: No such file or directory");
                } else if name == "dbfilename" && value.contains('/') {
                    reply.error("ERR dbfilename can't be a path, just a filename");
                } else {
                    self.with(|shared| shared.config.insert(name, value));
                    reply.ok();
                }
            }
            ("RESETSTAT", 2) => reply.ok(),
            ("REWRITE", 2) => reply.error("ERR Rewriting config file: Permission denied"),
            ("GET" | "SET", _) => reply.error(&match self.since(7, 0) {
                true => format!("ERR wrong number of arguments for 'config|{}' command", sub.to_ascii_lowercase()),
                false => {
                    format!("ERR Unknown subcommand or wrong number of arguments for '{}'. Try CONFIG HELP.", text(1))
                }
            }),
            _ => reply.error(&match self.since(7, 0) {
                true => format!("ERR unknown subcommand '{}'. Try CONFIG HELP.", text(1)),
                false => {
                    format!("ERR Unknown subcommand or wrong number of arguments for '{}'. Try CONFIG HELP.", text(1))
                }
            }),
        }
    }

    pub(super) fn copy(&self, host: &str, port: &str, reply: &mut Reply) {
        if host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one") {
            self.with(|shared| shared.copies = None);
            return reply.ok();
        }
        match port.parse::<u16>() {
            Ok(port) => {
                let host = host.chars().filter(|sign| !sign.is_control()).take(255).collect();
                self.with(|shared| shared.copies = Some((host, port.to_string())));
                reply.ok();
            }
            Err(_) => reply.error("ERR Invalid master port"),
        }
    }

    /// Scripts are not run: what they return is told when it can be read off, and what they may not reach is refused as
    /// the real one does.
    pub(super) fn script(&self, script: &[u8], reply: &mut Reply) {
        let text = escaped(script, 16_384);
        for name in ["os", "io", "package", "require", "dofile", "loadfile", "debug"] {
            let found = text.split(|sign: char| !sign.is_alphanumeric() && sign != '_').any(|word| word == name);
            if found {
                let hash = sha1(script);
                return reply.error(&match self.since(7, 0) {
                    true => format!("ERR user_script:1: Script attempted to access nonexistent global variable '{name}' script: {hash}, on @user_script:1."),
                    false => format!("ERR Error running script (call to f_{hash}): @enable_strict_lua:15: user_script:1: Script attempted to access nonexistent global variable '{name}'"),
                });
            }
        }
        let Some(value) = text.trim().trim_end_matches(';').strip_prefix("return ").map(str::trim) else {
            return reply.nil();
        };
        if let Ok(number) = value.parse::<i64>() {
            return reply.number(number);
        }
        let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        match quoted.filter(|inside| !inside.contains(['"', '\'', '\\'])) {
            Some(inside) => reply.text(inside),
            None => reply.nil(),
        }
    }
}

/// Folders that a machine has and a server of root can go to.
fn is_folder(path: &str) -> bool {
    let known = [
        "/",
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/etc",
        "/etc/cron.d",
        "/etc/cron.hourly",
        "/etc/cron.daily",
        "/root",
        "/root/.ssh",
        "/var/lib/redis",
        "/var/spool/cron",
        "/var/spool/cron/crontabs",
        "/var/www",
        "/var/www/html",
        "/var/log",
        "/usr/local/bin",
        "/home",
        "/opt",
        "/etc/init.d",
        "/etc/profile.d",
        "./",
        ".",
    ];
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    known.contains(&path)
}
