//! JSON lines of OpenCanary.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};

use super::{object, port, scalar};
use crate::domain::event::{Raw, RawFields};

type Field = (&'static str, &'static str);

/// Theirs, in small letters, and ours.
const NAMES: [(&str, &str); 12] = [
    ("user", "username"),
    ("useragent", "user_agent"),
    ("remoteversion", "client_banner"),
    ("hostname", "host"),
    ("filename", "path"),
    ("uri", "path"),
    ("requests", "command"),
    ("cmd", "command"),
    ("repo", "path"),
    ("database", "database"),
    ("db", "database"),
    ("vnc password", "password"),
];

pub(super) fn read(line: &str) -> Result<Raw, String> {
    let line = object(line)?;
    let text = |key: &str| scalar(line.get(key));
    let number = line.get("logtype").and_then(|kind| kind.as_i64().or_else(|| kind.as_str()?.parse().ok()));
    let number = number.ok_or("has no logtype")?;
    let (service, event_type, more) = kind(number).ok_or_else(|| format!("logtype {number} tells of no attacker"))?;
    let attacker_ip = text("src_host").ok_or("tells of no attacker: it has no src_host")?;
    let at = text("utc_time").or_else(|| text("local_time")).ok_or("has no time")?;
    let at = time(&at).ok_or("its time is no time")?;
    let data = line.get("logdata").and_then(Value::as_object);
    let mut fields = fields(data);
    let has = |fields: &[(String, String)], key: &str| fields.iter().any(|(name, _)| name == key);
    if let Some((key, value)) = more
        && !has(&fields, key)
    {
        fields.push((key.to_owned(), value.to_owned()));
    }
    let dst_port = port(line.get("dst_port"));
    if dst_port > 0 && matches!(event_type, "connect" | "scan") && !has(&fields, "dst_port") {
        fields.push(("dst_port".to_owned(), dst_port.to_string()));
    }
    Ok(Raw {
        id: None,
        at: Some(at),
        decky: text("node_id").unwrap_or_else(|| "opencanary".to_owned()),
        service: service.to_owned(),
        event_type: event_type.to_owned(),
        msg: message(service, event_type, &fields),
        attacker_ip,
        attacker_port: port(line.get("src_port")),
        session_id: data.and_then(|data| scalar(data.get("SESSION"))).unwrap_or_default(),
        fields: RawFields::Pairs(fields),
    })
}

/// The service, the type of event, and a field that says more.
fn kind(number: i64) -> Option<(&'static str, &'static str, Option<Field>)> {
    let password = Some(("method", "password"));
    Some(match number {
        2_000 => ("ftp", "auth_fail", password),
        2_001 => ("ftp", "connect", None),
        3_000 => ("http", "request", Some(("method", "GET"))),
        3_001 => ("http", "auth_fail", password),
        3_002 | 3_003 => ("http", "request", None),
        4_000 => ("ssh", "connect", None),
        4_001 => ("ssh", "unknown", None),
        4_002 => ("ssh", "auth_fail", password),
        5_000 => ("smb", "request", None),
        5_001 => ("portscan", "scan", Some(("kind", "port_sweep"))),
        5_002 => ("portscan", "scan", Some(("kind", "nmap_probe"))),
        5_003 => ("portscan", "scan", Some(("kind", "nmap_null"))),
        5_004 => ("portscan", "scan", Some(("kind", "nmap_xmas"))),
        5_005 => ("portscan", "scan", Some(("kind", "nmap_fin"))),
        6_001 => ("telnet", "auth_fail", password),
        6_002 => ("telnet", "connect", None),
        7_001 => ("httpproxy", "auth_fail", password),
        8_001 => ("mysql", "auth_fail", password),
        9_001 | 9_002 => ("mssql", "auth_fail", password),
        9_003 => ("mssql", "connect", None),
        10_001 => ("tftp", "request", None),
        11_001 => ("ntp", "request", None),
        12_001 => ("vnc", "auth_fail", password),
        13_001 => ("snmp", "request", None),
        14_001 => ("rdp", "auth_fail", None),
        15_001 => ("sip", "request", None),
        16_001 => ("git", "request", None),
        17_001 => ("redis", "command", None),
        18_001..=18_005 => ("tcp", "connect", None),
        19_001 => ("llmnr", "unknown", None),
        _ => return None,
    })
}

fn fields(data: Option<&Map<String, Value>>) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for (key, value) in data.into_iter().flatten().filter(|(key, _)| *key != "SESSION") {
        let Some(value) = scalar(Some(value)) else { continue };
        let key = key.to_ascii_lowercase();
        let key = NAMES.iter().find(|(theirs, _)| *theirs == key).map_or(key, |(_, ours)| (*ours).to_owned());
        // A command and its arguments are one.
        match fields.iter_mut().find(|(name, _)| *name == "command") {
            Some((_, command)) if key == "args" => {
                command.push(' ');
                command.push_str(&value);
            }
            _ if key == "args" => fields.insert(0, ("command".to_owned(), value)),
            Some((_, command)) if key == "command" => *command = format!("{value} {command}"),
            _ => fields.push((key, value)),
        }
    }
    fields
}

fn message(service: &str, event_type: &str, fields: &[(String, String)]) -> String {
    let field = |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    match (event_type, field("username"), field("path"), field("command")) {
        ("auth_fail", Some(user), ..) => format!("{service} login as {user} failed"),
        ("request", _, Some(path), _) => format!("{service} request for {path}"),
        ("command", _, _, Some(command)) => command.to_owned(),
        _ => format!("{service} {}", event_type.replace('_', " ")),
    }
}

/// They write UTC without saying so.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.replace('T', " ");
    let text = text.trim_end_matches(['Z', ' ']);
    let text = text.strip_suffix("+00:00").unwrap_or(text);
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok().map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(raw: &Raw) -> Vec<(&str, &str)> {
        let RawFields::Pairs(pairs) = &raw.fields else { panic!() };
        pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn logins_requests_commands_and_scans_are_read() {
        let raw = read(r#"{"dst_host":"10.0.0.9","dst_port":22,"local_time":"2026-03-01 10:00:00.250000","logdata":{"LOCALVERSION":"SSH-2.0-OpenSSH_5.1p1 Debian-4","PASSWORD":"hunter2","REMOTEVERSION":"SSH-2.0-Go","USERNAME":"admin","SESSION":"7"},"logtype":4002,"node_id":"canary-1","src_host":"203.0.113.5","src_port":51000}"#).unwrap();
        assert_eq!(
            (raw.service.as_str(), raw.event_type.as_str(), raw.decky.as_str()),
            ("ssh", "auth_fail", "canary-1")
        );
        assert_eq!(
            (raw.attacker_ip.as_str(), raw.attacker_port, raw.session_id.as_str()),
            ("203.0.113.5", 51_000, "7")
        );
        assert_eq!(raw.at.unwrap().timestamp_subsec_millis(), 250);
        let fields = fields_of(&raw);
        for pair in
            [("username", "admin"), ("password", "hunter2"), ("client_banner", "SSH-2.0-Go"), ("method", "password")]
        {
            assert!(fields.contains(&pair), "{fields:?}");
        }
        let raw = read(r#"{"dst_port":80,"utc_time":"2026-03-01 10:00:00","logdata":{"HOSTNAME":"h","PATH":"/index.html","SKIN":"nasLogin","USERAGENT":"curl/8"},"logtype":3000,"node_id":"c","src_host":"203.0.113.5","src_port":1}"#).unwrap();
        assert_eq!((raw.event_type.as_str(), raw.msg.as_str()), ("request", "http request for /index.html"));
        assert!(fields_of(&raw).contains(&("user_agent", "curl/8")) && fields_of(&raw).contains(&("method", "GET")));
        let raw = read(r#"{"local_time":"2026-03-01 10:00:00.1","logdata":{"ARGS":"dir /tmp","CMD":"config set"},"logtype":17001,"src_host":"203.0.113.5"}"#).unwrap();
        assert_eq!((raw.event_type.as_str(), raw.msg.as_str()), ("command", "config set dir /tmp"));
        let raw = read(r#"{"local_time":"2026-03-01 10:00:00.1","dst_port":443,"logdata":{"ID":"1"},"logtype":5001,"src_host":"203.0.113.5"}"#).unwrap();
        assert!(fields_of(&raw).ends_with(&[("kind", "port_sweep"), ("dst_port", "443")]));
    }

    #[test]
    fn what_tells_of_nobody_is_refused() {
        for (line, why) in [
            (
                r#"{"logtype":1001,"local_time":"2026-03-01 10:00:00","logdata":{"msg":"started"}}"#,
                "tells of no attacker",
            ),
            (r#"{"logtype":4002,"local_time":"2026-03-01 10:00:00","src_host":""}"#, "src_host"),
            (r#"{"logtype":4002,"src_host":"203.0.113.5"}"#, "no time"),
            (r#"{"logtype":4002,"src_host":"203.0.113.5","local_time":"now"}"#, "no time"),
            (r#"{"src_host":"203.0.113.5"}"#, "logtype"),
        ] {
            assert!(read(line).unwrap_err().contains(why), "{line}");
        }
    }
}
