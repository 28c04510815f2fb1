//! RFC 5424: the host is the decky, the application the service, the message id the type of event, and the structured
//! data its fields; `src_ip` among them is the attacker. Lines of OpenSSH's server are read from their text.

use chrono::{DateTime, Utc};

use crate::domain::event::{EVENT_TYPES, Raw, RawFields, address};

/// Most parameters of a line.
const MAX_PARAMS: usize = 100;
/// What others call our types of events.
const TYPES: [(&str, &str); 22] = [
    ("connection", "connect"),
    ("new_connection", "connect"),
    ("session_start", "connect"),
    ("session_open", "connect"),
    ("close", "disconnect"),
    ("closed", "disconnect"),
    ("session_end", "disconnect"),
    ("session_closed", "disconnect"),
    ("login_attempt", "auth_attempt"),
    ("auth", "auth_attempt"),
    ("login", "auth_attempt"),
    ("login_success", "auth_success"),
    ("login_failed", "auth_fail"),
    ("login_fail", "auth_fail"),
    ("auth_failed", "auth_fail"),
    ("auth_failure", "auth_fail"),
    ("cmd", "command"),
    ("exec", "command"),
    ("command_input", "command"),
    ("http_request", "request"),
    ("download", "download_attempt"),
    ("file_upload", "file_captured"),
];
/// What others call our fields.
const NAMES: [(&str, &str); 8] = [
    ("user", "username"),
    ("login", "username"),
    ("pass", "password"),
    ("cmd", "command"),
    ("ua", "user_agent"),
    ("useragent", "user_agent"),
    ("sha256sum", "sha256"),
    ("uri", "path"),
];
const ADDRESSES: [&str; 8] =
    ["src_ip", "attacker_ip", "source_ip", "client_ip", "remote_ip", "remote_addr", "src", "rhost"];
const PORTS: [&str; 5] = ["src_port", "attacker_port", "source_port", "client_port", "remote_port"];

type Params = Vec<(String, String)>;

/// Time; host, application, process and message id; what follows.
type Header<'a> = (Option<DateTime<Utc>>, [Option<&'a str>; 4], &'a str);

pub(super) fn read(line: &str) -> Result<Raw, String> {
    let (at, [host, app, _process, message_id], rest) = header(line)?;
    let (mut params, msg) = structured_data(rest)?;
    let msg = msg.trim_start_matches('\u{feff}').trim_end().to_owned();
    let known = said(&msg);
    let attacker = take(&mut params, &ADDRESSES).or_else(|| known.as_ref().map(|known| known.ip.clone()));
    let attacker_ip =
        attacker.and_then(|text| address(&text)).ok_or("names no attacker: it has no address in src_ip")?;
    let kind = take(&mut params, &["event_type", "event"]).or_else(|| message_id.map(str::to_owned));
    let kind = kind.map(|kind| kind.to_ascii_lowercase().replace(['-', ' ', '.'], "_"));
    let event_type = kind.as_deref().and_then(our_type).or(known.as_ref().map(|known| known.event_type));
    let port = take(&mut params, &PORTS).and_then(|port| port.parse().ok());
    let session_id = take(&mut params, &["session_id", "session", "sid"]).unwrap_or_default();
    let decky = take(&mut params, &["decky"]).or(host.map(str::to_owned)).unwrap_or_default();
    let app = app.map(|app| if app == "sshd" { "ssh" } else { app }.to_owned());
    let service = take(&mut params, &["service"]).or(app).unwrap_or_default();
    let mut fields: Params = params;
    for (key, _) in &mut fields {
        *key = key.to_ascii_lowercase();
        if let Some((_, ours)) = NAMES.iter().find(|(theirs, _)| theirs == key) {
            *key = (*ours).to_owned();
        }
    }
    let (mut attacker_port, event_type) = (port.unwrap_or(0), event_type.unwrap_or("unknown"));
    if let Some(known) = known {
        attacker_port = port.unwrap_or(known.port);
        for (key, value) in known.fields {
            if !fields.iter().any(|(name, _)| *name == key) {
                fields.push((key.to_owned(), value));
            }
        }
    }
    Ok(Raw {
        id: None,
        at,
        decky,
        service,
        event_type: event_type.to_owned(),
        attacker_ip,
        attacker_port,
        session_id,
        msg,
        fields: RawFields::Pairs(fields),
    })
}

fn our_type(kind: &str) -> Option<&'static str> {
    let known = EVENT_TYPES.into_iter().find(|known| *known == kind);
    known.or_else(|| TYPES.iter().find(|(theirs, _)| *theirs == kind).map(|(_, ours)| *ours))
}

fn take(params: &mut Params, names: &[&str]) -> Option<String> {
    let at = names.iter().find_map(|name| params.iter().position(|(key, _)| key.eq_ignore_ascii_case(name)))?;
    Some(params.remove(at).1).filter(|value| !value.is_empty())
}

/// Time, then host, application, process and message id; and what follows them.
fn header(line: &str) -> Result<Header<'_>, String> {
    const WHAT: &str = "is not RFC 5424: it must begin with `<priority>1 time host application process message-id`";
    let rest = line.strip_prefix('<').ok_or(WHAT)?;
    let (priority, rest) = rest.split_once('>').ok_or(WHAT)?;
    let good = (1..=3).contains(&priority.len()) && priority.parse::<u16>().is_ok_and(|priority| priority < 192);
    if !good {
        return Err(WHAT.to_owned());
    }
    let mut rest = rest.strip_prefix("1 ").ok_or(WHAT)?;
    let mut part = || -> Result<Option<&str>, String> {
        let (part, after) = rest.split_once(' ').ok_or(WHAT)?;
        rest = after;
        Ok(Some(part).filter(|part| *part != "-"))
    };
    let time = part()?;
    let parts = [part()?, part()?, part()?, part()?];
    let at = time.map(|time| DateTime::parse_from_rfc3339(time).map(|at| at.with_timezone(&Utc))).transpose();
    Ok((at.map_err(|_| "its time is no time")?, parts, rest))
}

/// All parameters of all elements, and what follows them.
fn structured_data(text: &str) -> Result<(Params, &str), String> {
    const WHAT: &str = "its structured data does not end";
    if let Some(rest) = text.strip_prefix('-') {
        return Ok((Params::new(), rest.strip_prefix(' ').unwrap_or(rest)));
    }
    let mut params = Params::new();
    let mut rest = text;
    if !rest.starts_with('[') {
        return Err("has neither structured data nor `-` in its place".to_owned());
    }
    while let Some(element) = rest.strip_prefix('[') {
        let end = element.find([' ', ']']).ok_or(WHAT)?;
        rest = element.get(end..).ok_or(WHAT)?;
        loop {
            rest = rest.trim_start_matches(' ');
            if let Some(after) = rest.strip_prefix(']') {
                rest = after;
                break;
            }
            let (name, after) = rest.split_once("=\"").ok_or(WHAT)?;
            let (value, after) = quoted(after).ok_or(WHAT)?;
            if params.len() < MAX_PARAMS {
                params.push((name.to_owned(), value));
            }
            rest = after;
        }
    }
    Ok((params, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// A value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                c @ ('"' | '\\' | ']') => value.push(c),
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

/// What a line of OpenSSH's server says.
struct Said {
    event_type: &'static str,
    ip: String,
    port: u32,
    fields: Vec<(&'static str, String)>,
}

fn said(msg: &str) -> Option<Said> {
    let (head, tail) = if let Some(rest) = msg.strip_prefix("Connection from ") {
        ("", rest)
    } else if let Some(rest) = msg.strip_prefix("Connection closed by ").or(msg.strip_prefix("Disconnected from ")) {
        ("closed", rest)
    } else {
        let at = msg.rfind(" from ")?;
        (msg.get(..at)?, msg.get(at + 6..)?)
    };
    let mut words = tail.split(' ').skip_while(|word| address(word).is_none());
    let ip = address(words.next()?)?;
    let port = words.skip_while(|word| *word != "port").nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let login = |rest: &str, event_type| {
        let (method, user) = rest.split_once(" for ")?;
        let user = user.strip_prefix("invalid user ").unwrap_or(user);
        let fields = vec![("username", user.to_owned()), ("method", method.to_owned())];
        Some(Said { event_type, ip: ip.clone(), port, fields })
    };
    if let Some(rest) = head.strip_prefix("Failed ") {
        login(rest, "auth_fail")
    } else if let Some(rest) = head.strip_prefix("Accepted ") {
        login(rest, "auth_success")
    } else if let Some(user) = head.strip_prefix("Invalid user ") {
        Some(Said { event_type: "auth_attempt", ip, port, fields: vec![("username", user.to_owned())] })
    } else {
        let event_type = match head {
            "" => "connect",
            "closed" => "disconnect",
            _ => return None,
        };
        Some(Said { event_type, ip, port, fields: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields_of(raw: &Raw) -> Vec<(&str, &str)> {
        let RawFields::Pairs(pairs) = &raw.fields else { panic!() };
        pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn structured_data_becomes_an_event() {
        let raw = read(r#"<134>1 2026-03-01T10:00:00.000123+01:00 decky-03 ssh 812 login-failed [decoy@32473 src_ip="203.0.113.9" src_port="4022" user="root" pass="a\"b\]\\c"][x@1 k=""] Failed password for root"#).unwrap();
        assert_eq!(
            (raw.decky.as_str(), raw.service.as_str(), raw.event_type.as_str()),
            ("decky-03", "ssh", "auth_fail")
        );
        assert_eq!(
            (raw.attacker_ip.as_str(), raw.attacker_port, raw.msg.as_str()),
            ("203.0.113.9", 4_022, "Failed password for root")
        );
        assert_eq!(raw.at.unwrap().to_rfc3339(), "2026-03-01T09:00:00.000123+00:00");
        assert_eq!(fields_of(&raw), [("username", "root"), ("password", "a\"b]\\c"), ("k", "")]);
    }

    #[test]
    fn lines_of_openssh_are_read_from_their_text() {
        let line = |msg: &str| format!("<38>1 2026-03-01T10:00:00Z bastion sshd 99 - - {msg}");
        let raw = read(&line("Failed password for invalid user from from 203.0.113.9 port 4022 ssh2")).unwrap();
        assert_eq!((raw.event_type.as_str(), raw.service.as_str(), raw.attacker_port), ("auth_fail", "ssh", 4_022));
        assert_eq!(fields_of(&raw), [("username", "from"), ("method", "password")]);
        let raw = read(&line("Accepted publickey for root from 2001:db8::1 port 1 ssh2")).unwrap();
        assert_eq!((raw.event_type.as_str(), raw.attacker_ip.as_str()), ("auth_success", "2001:db8::1"));
        for (msg, kind) in [
            ("Connection from 203.0.113.9 port 5 on 10.0.0.1 port 22", "connect"),
            ("Connection closed by 203.0.113.9 port 5 [preauth]", "disconnect"),
            ("Disconnected from user root 203.0.113.9 port 5", "disconnect"),
            ("Invalid user x from 203.0.113.9 port 5", "auth_attempt"),
        ] {
            let raw = read(&line(msg)).unwrap();
            assert_eq!(
                (raw.event_type.as_str(), raw.attacker_ip.as_str(), raw.attacker_port),
                (kind, "203.0.113.9", 5),
                "{msg}"
            );
        }
    }

    #[test]
    fn what_is_no_event_is_refused_with_why() {
        for (line, why) in [
            ("", "RFC 5424"),
            ("Mar  1 10:00:00 host sshd[1]: Failed", "RFC 5424"),
            ("<999>1 - - - - - -", "RFC 5424"),
            ("<13>2 - - - - - -", "RFC 5424"),
            ("<13>1 - h a - - -", "names no attacker"),
            ("<13>1 soon h a - - - x", "time"),
            ("<13>1 - h a - - [a b=\"c", "does not end"),
            ("<13>1 - h a - - nothing", "structured data"),
            ("<13>1 - h a - - [a src_ip=\"nowhere\"] x", "names no attacker"),
        ] {
            let problem = read(line).unwrap_err();
            assert!(problem.contains(why), "{line}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "(<13>1 - h a - - )?[\\PC\\[\\]\"= \\\\]{0,60}") {
            let _ = read(&line);
        }
    }
}
