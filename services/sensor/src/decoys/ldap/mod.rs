//! LDAP: OpenLDAP on Unix, Active Directory on Windows.

mod directory;
mod filter;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Options, ber,
    credentials::Credentials,
    wire::{Bytes, broken, cut, read_exactly, text},
};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream},
};
use directory::{Directory, Entry};
use filter::Filter;

/// What is tried on such servers most.
const COMMON: [(&str, &str); 9] = [
    ("admin", "admin"),
    ("admin", "password"),
    ("admin", "secret"),
    ("Manager", "secret"),
    ("Administrator", "Password1"),
    ("Administrator", "P@ssw0rd"),
    ("svc_backup", "backup"),
    ("backup", "backup"),
    ("admin", "123456"),
];
/// The longest message, as OpenLDAP takes one of a client that it does not know.
const LONGEST: usize = 262_143;

/// One decky's server.
pub(super) struct Ldap {
    persona: Arc<Persona>,
    credentials: Credentials,
    directory: Mutex<Option<Directory>>,
    active: bool,
}

/// The server of a decky.
pub(super) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let credentials = Credentials::new(persona, "ldap", options, &COMMON)?;
    let active = matches!(persona.os, crate::persona::Os::WindowsServer2019 | crate::persona::Os::Windows10);
    Ok(Server::Connections(Arc::new(Ldap {
        persona: persona.clone(),
        credentials,
        directory: Mutex::new(None),
        active,
    })))
}

/// A result: its code, the nearest known name, a text.
struct Outcome(i64, String, String);

fn outcome(code: i64, message: &str) -> Outcome {
    Outcome(code, String::new(), message.to_owned())
}

#[async_trait]
impl Protocol for Ldap {
    async fn serve(self: Arc<Self>, mut stream: Stream, session: Session) -> io::Result<()> {
        let mut bound = String::new();
        let mut first = true;
        loop {
            let mut head = [0; 2];
            stream.read_exact(&mut head).await?;
            let [tag, mut short] = head;
            let mut length = usize::from(short);
            if short & 0x80 != 0 {
                short &= 0x7f;
                if short == 0 || short > 4 {
                    length = usize::MAX;
                } else {
                    let digits = read_exactly(&mut stream, usize::from(short)).await?;
                    length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                }
            }
            if tag != 0x30 || length > LONGEST {
                if first {
                    session.emit(EventType::Scan, "no LDAP message", &[("kind", "malformed")]);
                }
                return Err(broken("no LDAP message"));
            }
            first = false;
            let message = read_exactly(&mut stream, length).await?;
            let mut bytes = Bytes(&message);
            let id = ber::expect(&mut bytes, 2).and_then(ber::int).ok_or_else(|| broken("id"))?;
            let operation = ber::next(&mut bytes).ok_or_else(|| broken("operation"))?;
            let answers = match operation.tag {
                0x42 => return Ok(()),
                0x50 => continue,
                0x60 => self.bind(operation.value, &mut bound, &session),
                0x63 => self.search(operation.value, &bound, &session),
                0x66 | 0x68 | 0x4a | 0x6c | 0x6e => self.change(operation.tag, operation.value, &bound, &session),
                0x77 => self.extended(operation.value, &bound, &session),
                _ => return Err(broken("operation")),
            };
            let Some(answers) = answers else {
                session.emit(EventType::Unknown, "malformed LDAP message", &[("data", cut(&text(&message), 512))]);
                return Err(broken("malformed"));
            };
            let mut out = Vec::new();
            for answer in answers {
                let mut inner = Vec::new();
                ber::put_int(&mut inner, 2, id);
                inner.extend(answer);
                out.extend(self.wrapped(0x30, &inner));
                if out.len() > 16 << 10 {
                    stream.write_all(&out).await?;
                    out.clear();
                }
            }
            stream.write_all(&out).await?;
            stream.flush().await?;
        }
    }
}

impl Ldap {
    fn with<T>(&self, act: impl FnOnce(&mut Directory) -> T) -> T {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        act(directory.get_or_insert_with(|| Directory::of(&self.persona)))
    }

    /// Values inside one: Active Directory always writes such lengths in four bytes.
    fn wrapped(&self, tag: u8, inner: &[u8]) -> Vec<u8> {
        if !self.active {
            return ber::nested(tag, inner);
        }
        let mut out = vec![tag, 0x84];
        out.extend(u32::try_from(inner.len()).unwrap_or(0).to_be_bytes());
        out.extend_from_slice(inner);
        out
    }

    fn result(&self, tag: u8, outcome: &Outcome, extra: &[u8]) -> Vec<u8> {
        let mut inner = Vec::new();
        ber::put_int(&mut inner, 0x0a, outcome.0);
        ber::put(&mut inner, 4, outcome.1.as_bytes());
        ber::put(&mut inner, 4, outcome.2.as_bytes());
        inner.extend_from_slice(extra);
        self.wrapped(tag, &inner)
    }

    /// Short names of the one who logs in: `admin` of `cn=admin,dc=x`, of `X\admin` and of `admin@x`.
    fn short(name: &str) -> &str {
        let first = name.split(',').next().unwrap_or(name);
        let value = first.split_once('=').map_or(first, |(_, value)| value);
        let value = value.rsplit_once('\\').map_or(value, |(_, value)| value);
        value.split_once('@').map_or(value, |(value, _)| value)
    }

    fn bind(&self, operation: &[u8], bound: &mut String, session: &Session) -> Option<Vec<Vec<u8>>> {
        let mut bytes = Bytes(operation);
        let version = ber::int(ber::expect(&mut bytes, 2)?)?;
        let name = text(ber::expect(&mut bytes, 4)?);
        let how = ber::next(&mut bytes)?;
        bound.clear();
        let answer = |outcome: Outcome| Some(vec![self.result(0x61, &outcome, &[])]);
        if version == 2 && !self.active {
            session.emit(
                EventType::Scan,
                "an old version of LDAP",
                &[("kind", "nmap_probe"), ("detail", "LDAPv2 bind")],
            );
            return answer(outcome(2, "historical protocol version requested, use LDAPv3 instead"));
        }
        if !matches!(version, 2 | 3) {
            return answer(outcome(2, "requested protocol version not supported"));
        }
        if how.tag != 0x80 {
            let mut inner = Bytes(how.value);
            let mechanism = ber::expect(&mut inner, 4).map(text).unwrap_or_else(|| "sicily".to_owned());
            session.emit(
                EventType::AuthAttempt,
                format!("SASL {mechanism}"),
                &[("username", &name), ("method", &mechanism)],
            );
            return answer(if self.active {
                outcome(49, "8009030C: LdapErr: DSID-0C0905FC, comment: AcceptSecurityContext error, data 52e, v4563")
            } else {
                outcome(7, "SASL(-4): no mechanism available: ")
            });
        }
        let password = text(how.value);
        if name.is_empty() && password.is_empty() {
            session.emit(
                EventType::AuthSuccess,
                "anonymous",
                &[("username", ""), ("password", ""), ("method", "anonymous")],
            );
            return answer(outcome(0, ""));
        }
        if password.is_empty() && !self.active {
            session.emit(
                EventType::AuthFail,
                format!("{name} without a password"),
                &[("username", &name), ("password", ""), ("method", "simple")],
            );
            return answer(outcome(53, "unauthenticated bind (DN with no password) disallowed"));
        }
        let fields = [("username", name.as_str()), ("password", password.as_str()), ("method", "simple")];
        let short = Self::short(&name);
        let accepted = !password.is_empty()
            && (self.credentials.accepts(short, &password) || self.credentials.accepts(&name, &password));
        if accepted {
            session.emit(EventType::AuthSuccess, format!("{name} logged in"), &fields);
            *bound = name;
            return answer(outcome(0, ""));
        }
        session.emit(EventType::AuthFail, format!("{name} was refused"), &fields);
        if self.active {
            return answer(outcome(
                49,
                "80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 52e, v4563",
            ));
        }
        if !name.contains('=') {
            return answer(outcome(34, "invalid DN"));
        }
        answer(outcome(49, ""))
    }

    fn search(&self, operation: &[u8], bound: &str, session: &Session) -> Option<Vec<Vec<u8>>> {
        let mut bytes = Bytes(operation);
        let base = text(ber::expect(&mut bytes, 4)?);
        let scope = ber::int(ber::expect(&mut bytes, 0x0a)?)?;
        ber::expect(&mut bytes, 0x0a)?;
        let most = ber::int(ber::expect(&mut bytes, 2)?)?;
        ber::expect(&mut bytes, 2)?;
        let types_only = ber::expect(&mut bytes, 1)?.first().is_some_and(|truth| *truth != 0);
        let filter = Filter::read(&mut bytes)?;
        let mut left = Bytes(ber::expect(&mut bytes, 0x30)?);
        let mut wanted = Vec::new();
        while !left.is_empty() && wanted.len() < 128 {
            wanted.push(text(ber::expect(&mut left, 4)?));
        }
        let scopes = ["base", "one", "sub", "children"];
        let named = usize::try_from(scope).ok().and_then(|scope| scopes.get(scope)).copied().unwrap_or("sub");
        let shown = format!("base=\"{base}\" scope={named} filter={} attributes={}", filter.shown(), wanted.join(","));
        let fields = [("query", shown.as_str()), ("database", base.as_str()), ("username", bound)];
        session.emit(EventType::Query, cut(&shown, 200), &fields);
        if self.active && bound.is_empty() && !base.is_empty() {
            let refused = outcome(
                1,
                "000004DC: LdapErr: DSID-0C090A5C, comment: In order to perform this operation a successful bind must be \
                 completed on the connection., data 0, v4563",
            );
            return Some(vec![self.result(0x65, &refused, &[])]);
        }
        Some(self.with(|directory| {
            let Some(found) = directory.search(&base, scope, &filter) else {
                let nearest = directory.nearest(&base);
                let message = if self.active {
                    format!("0000208D: NameErr: DSID-0310028B, problem 2001 (NO_OBJECT), data 0, best match of:\n\t'{nearest}'\n")
                } else {
                    String::new()
                };
                return vec![self.result(0x65, &Outcome(32, nearest, message), &[])];
            };
            let limit = if self.active { 1_000 } else { 500 };
            let limit = usize::try_from(most).ok().filter(|most| *most > 0).map_or(limit, |most| most.min(limit));
            let over = found.len() > limit;
            let mut answers: Vec<Vec<u8>> =
                found.into_iter().take(limit).map(|entry| self.entry(entry, &wanted, types_only)).collect();
            answers.push(self.result(0x65, &outcome(if over { 4 } else { 0 }, ""), &[]));
            answers
        }))
    }

    fn entry(&self, entry: &Entry, wanted: &[String], types_only: bool) -> Vec<u8> {
        let named = |name: &str| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
        let all = wanted.is_empty() || named("*");
        let hidden = named("+");
        let shown = entry.values.iter().filter(|(name, _)| all || named(name));
        let more = entry.hidden.iter().filter(|(name, _)| hidden || named(name));
        let mut list = Vec::new();
        for (name, values) in shown.chain(more) {
            let mut inner = Vec::new();
            ber::put(&mut inner, 4, name.as_bytes());
            let mut set = Vec::new();
            if !types_only {
                values.iter().for_each(|value| ber::put(&mut set, 4, value.as_bytes()));
            }
            inner.extend(self.wrapped(0x31, &set));
            list.extend(self.wrapped(0x30, &inner));
        }
        let mut inner = Vec::new();
        ber::put(&mut inner, 4, entry.dn.as_bytes());
        inner.extend(self.wrapped(0x30, &list));
        self.wrapped(0x64, &inner)
    }

    fn change(&self, tag: u8, operation: &[u8], bound: &str, session: &Session) -> Option<Vec<Vec<u8>>> {
        let values = |bytes: &mut Bytes<'_>| -> Option<(String, Vec<String>)> {
            let mut pair = Bytes(ber::expect(bytes, 0x30)?);
            let name = text(ber::expect(&mut pair, 4)?);
            let mut set = Bytes(ber::expect(&mut pair, 0x31)?);
            let mut values = Vec::new();
            while !set.is_empty() && values.len() < 256 {
                values.push(text(ber::expect(&mut set, 4)?));
            }
            Some((name, values))
        };
        let (kind, dn) = match tag {
            0x4a => ("delete", text(operation)),
            _ => {
                let kind = match tag {
                    0x66 => "modify",
                    0x68 => "add",
                    0x6c => "rename",
                    _ => "compare",
                };
                (kind, text(ber::expect(&mut Bytes(operation), 4)?))
            }
        };
        let shown = format!("{kind} \"{dn}\" {}", cut(&text(operation), 1_024));
        session.emit(
            EventType::Query,
            format!("{kind} {}", cut(&dn, 180)),
            &[("query", &shown), ("database", &dn), ("username", bound)],
        );
        let result_tag = if tag == 0x4a { 0x6b } else { tag + 1 };
        let answer = |outcome: Outcome| Some(vec![self.result(result_tag, &outcome, &[])]);
        if bound.is_empty() && kind != "compare" {
            return answer(if self.active {
                outcome(
                    1,
                    "000004DC: LdapErr: DSID-0C090A5C, comment: In order to perform this operation a successful bind \
                     must be completed on the connection., data 0, v4563",
                )
            } else {
                outcome(8, "modifications require authentication")
            });
        }
        let mut bytes = Bytes(operation);
        let code = match kind {
            "delete" => self.with(|directory| directory.remove(&dn)),
            "add" => {
                ber::expect(&mut bytes, 4)?;
                let mut list = Bytes(ber::expect(&mut bytes, 0x30)?);
                let mut all = Vec::new();
                while !list.is_empty() && all.len() < 128 {
                    all.push(values(&mut list)?);
                }
                self.with(|directory| directory.add(&dn, all))
            }
            "modify" => {
                ber::expect(&mut bytes, 4)?;
                let mut list = Bytes(ber::expect(&mut bytes, 0x30)?);
                let mut changes = Vec::new();
                while !list.is_empty() && changes.len() < 128 {
                    let mut one = Bytes(ber::expect(&mut list, 0x30)?);
                    let how = ber::int(ber::expect(&mut one, 0x0a)?)?;
                    let (name, values) = values(&mut one)?;
                    changes.push((how, name, values));
                }
                self.with(|directory| directory.modify(&dn, changes))
            }
            "compare" => 5,
            _ => 53,
        };
        answer(outcome(code, ""))
    }

    fn extended(&self, operation: &[u8], bound: &str, session: &Session) -> Option<Vec<Vec<u8>>> {
        let name = text(ber::expect(&mut Bytes(operation), 0x80)?);
        session.emit(
            EventType::Query,
            format!("extended {}", cut(&name, 64)),
            &[("query", &name), ("username", bound)],
        );
        let (outcome, extra) = match name.as_str() {
            "1.3.6.1.4.1.4203.1.11.3" => {
                let who = if bound.is_empty() { String::new() } else { format!("dn:{bound}") };
                (outcome(0, ""), ber::nested(0x8b, who.as_bytes()))
            }
            "1.3.6.1.4.1.1466.20037" if self.active => (
                outcome(52, "00000000: LdapErr: DSID-0C090F78, comment: Error initializing SSL/TLS, data 0, v4563"),
                ber::nested(0x8a, name.as_bytes()),
            ),
            _ if self.active => (
                outcome(2, "0000203D: LdapErr: DSID-0C090EA6, comment: Unknown extended request OID, data 0, v4563"),
                Vec::new(),
            ),
            _ => (outcome(2, "unsupported extended operation"), Vec::new()),
        };
        Some(vec![self.result(0x78, &outcome, &extra)])
    }
}
