//! JSON lines of Cowrie.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{object, port, scalar};
use crate::domain::event::{Raw, RawFields};

/// Sessions whose protocol is remembered.
const MAX_SESSIONS: usize = 20_000;

/// Which protocol a session speaks: only its first line says so.
#[derive(Default)]
pub(super) struct Sessions(HashMap<String, String>);

type Pairs = Vec<(String, String)>;

/// What is not a field of the event.
const COMMON: [&str; 10] =
    ["eventid", "timestamp", "src_ip", "src_port", "session", "sensor", "message", "protocol", "uuid", "dst_ip"];

pub(super) fn read(line: &str, sessions: &mut Sessions) -> Result<Raw, String> {
    let line = object(line)?;
    let text = |key: &str| scalar(line.get(key));
    let kind = text("eventid").ok_or("has no eventid")?;
    let kind = kind.strip_prefix("cowrie.").ok_or("its eventid does not begin with cowrie.")?;
    let attacker_ip = text("src_ip").ok_or("tells of no attacker: it has no src_ip")?;
    let session_id = text("session").unwrap_or_default();
    let at = text("timestamp").ok_or("has no timestamp")?;
    let at: DateTime<Utc> =
        DateTime::parse_from_rfc3339(&at).map_err(|_| "its timestamp is no time")?.with_timezone(&Utc);
    let service = service(&line, &session_id, sessions);
    let (event_type, fields) = event(kind, &line)?;
    Ok(Raw {
        id: None,
        at: Some(at),
        decky: text("sensor").unwrap_or_else(|| "cowrie".to_owned()),
        service,
        event_type: event_type.to_owned(),
        attacker_ip,
        attacker_port: port(line.get("src_port")),
        session_id,
        msg: text("message").unwrap_or_default(),
        fields: RawFields::Pairs(fields),
    })
}

fn service(line: &Map<String, Value>, session: &str, sessions: &mut Sessions) -> String {
    if let Some(protocol) = scalar(line.get("protocol")) {
        if !session.is_empty() && sessions.0.len() < MAX_SESSIONS {
            sessions.0.insert(session.to_owned(), protocol.clone());
        }
        return protocol;
    }
    sessions.0.get(session).cloned().unwrap_or_else(|| "ssh".to_owned())
}

/// The type of event, and its fields.
fn event(kind: &str, line: &Map<String, Value>) -> Result<(&'static str, Pairs), String> {
    // Ours, theirs.
    let pick = |names: &[(&str, &str)]| {
        let named = names.iter().filter_map(|(ours, theirs)| Some(((*ours).to_owned(), scalar(line.get(*theirs))?)));
        named.collect::<Vec<_>>()
    };
    let name = |of: Option<&str>| of.and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned();
    Ok(match kind {
        "session.connect" => ("connect", pick(&[("dst_port", "dst_port")])),
        "session.closed" => {
            let seconds = line.get("duration").and_then(|d| d.as_f64().or_else(|| d.as_str()?.parse().ok()));
            let mut fields = pick(&[]);
            fields.extend(seconds.map(|s| ("duration_ms".to_owned(), format!("{:.0}", s * 1_000.0))));
            ("disconnect", fields)
        }
        "login.success" | "login.failed" => {
            let mut fields = pick(&[("username", "username"), ("password", "password"), ("public_key", "fingerprint")]);
            let method = if line.contains_key("fingerprint") { "publickey" } else { "password" };
            fields.push(("method".to_owned(), method.to_owned()));
            (if kind == "login.success" { "auth_success" } else { "auth_fail" }, fields)
        }
        "client.fingerprint" => {
            let mut fields = pick(&[("username", "username"), ("public_key", "fingerprint")]);
            fields.push(("method".to_owned(), "publickey".to_owned()));
            ("auth_attempt", fields)
        }
        "command.input" => ("command", pick(&[("command", "input")])),
        "command.success" | "command.failed" => return Err("repeats the command of the line before".to_owned()),
        "session.file_download" | "session.file_upload" => {
            let mut fields = pick(&[
                ("name", "filename"),
                ("sha256", "shasum"),
                ("path", "destfile"),
                ("url", "url"),
                ("size", "size"),
            ]);
            if !fields.iter().any(|(key, _)| key == "name") {
                let path = scalar(line.get("destfile")).or_else(|| scalar(line.get("url")));
                fields.push(("name".to_owned(), name(path.as_deref())));
            }
            ("file_captured", fields)
        }
        "session.file_download.failed" => ("download_attempt", pick(&[("url", "url")])),
        "client.version" => ("unknown", pick(&[("client_banner", "version")])),
        "client.kex" => ("unknown", pick(&[("hassh", "hassh"), ("hassh_algorithms", "hasshAlgorithms")])),
        "direct-tcpip.request" => {
            let mut fields = pick(&[("host", "dst_ip"), ("dst_port", "dst_port")]);
            fields.push(("method".to_owned(), "direct-tcpip".to_owned()));
            ("request", fields)
        }
        _ => {
            let others = line.iter().filter(|(key, _)| !COMMON.contains(&key.as_str()));
            ("unknown", others.filter_map(|(key, value)| Some((key.clone(), scalar(Some(value))?))).collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Raw {
        read(line, &mut Sessions::default()).unwrap()
    }

    fn fields(raw: &Raw) -> Vec<(&str, &str)> {
        let RawFields::Pairs(pairs) = &raw.fields else { panic!() };
        pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_session_is_read() {
        let mut sessions = Sessions::default();
        let lines = [
            r#"{"eventid":"cowrie.session.connect","src_ip":"198.51.100.4","src_port":40022,"dst_ip":"10.0.0.2","dst_port":2223,"session":"d1c4a7b0c2aa","protocol":"telnet","message":"New connection","sensor":"trap-1","timestamp":"2026-03-01T10:00:00.123456Z"}"#,
            r#"{"eventid":"cowrie.login.failed","username":"root","password":"vizxv","message":"login attempt failed","sensor":"trap-1","timestamp":"2026-03-01T10:00:01.5Z","src_ip":"198.51.100.4","session":"d1c4a7b0c2aa"}"#,
            r#"{"eventid":"cowrie.session.closed","duration":"12.5","message":"lost","sensor":"trap-1","timestamp":"2026-03-01T10:00:12.6Z","src_ip":"198.51.100.4","session":"d1c4a7b0c2aa"}"#,
        ];
        let read: Vec<Raw> = lines.iter().map(|line| read(line, &mut sessions).unwrap()).collect();
        assert!(
            read.iter().all(|raw| raw.service == "telnet" && raw.decky == "trap-1" && raw.session_id == "d1c4a7b0c2aa")
        );
        assert_eq!(read[0].event_type, "connect");
        assert_eq!((read[0].attacker_ip.as_str(), read[0].attacker_port), ("198.51.100.4", 40_022));
        assert_eq!(read[0].at.unwrap().timestamp_subsec_micros(), 123_456);
        assert_eq!(fields(&read[0]), [("dst_port", "2223")]);
        assert_eq!(read[1].event_type, "auth_fail");
        assert_eq!(fields(&read[1]), [("username", "root"), ("password", "vizxv"), ("method", "password")]);
        assert_eq!(fields(&read[2]), [("duration_ms", "12500")]);
    }

    #[test]
    fn each_kind_has_its_type() {
        let line = |kind: &str, more: &str| {
            format!(
                r#"{{"eventid":"cowrie.{kind}","src_ip":"::1","timestamp":"2026-03-01T10:00:00Z","session":"a"{more}}}"#
            )
        };
        let raw = one(&line("command.input", r#","input":"uname -a""#));
        assert_eq!((raw.event_type.as_str(), raw.service.as_str()), ("command", "ssh"));
        assert_eq!(fields(&raw), [("command", "uname -a")]);
        let raw = one(&line("session.file_download", r#","url":"http://192.0.2.1/a/x.sh","shasum":"ab""#));
        assert_eq!(raw.event_type, "file_captured");
        assert_eq!(fields(&raw), [("sha256", "ab"), ("url", "http://192.0.2.1/a/x.sh"), ("name", "x.sh")]);
        let raw = one(&line("client.kex", r#","hassh":"0df0d56b","hasshAlgorithms":"curve;aes","kexAlgs":["x"]"#));
        assert_eq!(fields(&raw), [("hassh", "0df0d56b"), ("hassh_algorithms", "curve;aes")]);
        let raw = one(&line("client.size", r#","width":80,"height":24"#));
        assert_eq!((raw.event_type.as_str(), fields(&raw).len()), ("unknown", 2));
    }

    #[test]
    fn what_is_no_event_is_refused_with_why() {
        let no = |line: &str| read(line, &mut Sessions::default()).unwrap_err();
        assert!(no("not json").contains("not JSON"));
        assert!(no("[]").contains("object"));
        assert!(no("{}").contains("eventid"));
        assert!(no(r#"{"eventid":"cowrie.log.closed","timestamp":"2026-03-01T10:00:00Z"}"#).contains("src_ip"));
        assert!(no(r#"{"eventid":"cowrie.login.failed","src_ip":"::1","timestamp":"soon"}"#).contains("timestamp"));
        assert!(no(&"[".repeat(60_000)).contains("not JSON"));
    }
}
