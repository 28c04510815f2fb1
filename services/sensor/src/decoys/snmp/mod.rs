//! SNMP: versions 1 and 2c over a small tree of values, and the discovery of version 3.

mod mib;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;

use super::{
    Options, ber,
    credentials::Credentials,
    wire::{Bytes, text},
};
use crate::{
    persona::Persona,
    protocol::{Datagrams, Server},
    session::{EventType, Session},
};
use mib::{Mib, Value};

/// What is tried on such agents most.
const COMMON: [(&str, &str); 3] = [("", "public"), ("", "public"), ("", "private")];
/// The most values of one question.
const MOST: usize = 64;
/// How much longer than its question an answer may be.
const AMPLIFIED: usize = 4;

const GET: u8 = 0xa0;
const NEXT: u8 = 0xa1;
const SET: u8 = 0xa3;
const BULK: u8 = 0xa5;
const RESPONSE: u8 = 0xa2;
const REPORT: u8 = 0xa8;

/// One decky's agent.
pub(super) struct Snmp {
    persona: Arc<Persona>,
    /// Communities that may read, and those that may write.
    read: Credentials,
    mib: Mib,
    strangers: AtomicU32,
}

/// The agent of a decky. Communities are the passwords of `credentials`, such as `:public`; without those it is `public`.
pub(super) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let mut options = options.clone();
    if let Some(community) = options.remove("community") {
        options.insert("credentials".to_owned(), format!(":{}", community.trim()));
    }
    if !options.contains_key("auth") && !options.contains_key("credentials") {
        options.insert("credentials".to_owned(), ":public".to_owned());
    }
    let read = Credentials::new(persona, "snmp", &options, &COMMON)?;
    let mib = Mib::of(persona);
    Ok(Server::Datagrams(Arc::new(Snmp { persona: persona.clone(), read, mib, strangers: AtomicU32::new(0) })))
}

struct Question<'a> {
    version: i64,
    community: &'a [u8],
    kind: u8,
    id: &'a [u8],
    /// Of a bulk question: how many are asked once, and how often the others.
    once: i64,
    often: i64,
    names: Vec<Vec<u32>>,
    list: &'a [u8],
}

fn question(datagram: &[u8]) -> Option<Question<'_>> {
    let mut bytes = Bytes(ber::expect(&mut Bytes(datagram), 0x30)?);
    let version = ber::int(ber::expect(&mut bytes, 2)?)?;
    let community = ber::expect(&mut bytes, 4)?;
    let pdu = ber::next(&mut bytes)?;
    let mut inner = Bytes(pdu.value);
    let id = ber::expect(&mut inner, 2).filter(|id| id.len() <= 8)?;
    let once = ber::int(ber::expect(&mut inner, 2)?)?;
    let often = ber::int(ber::expect(&mut inner, 2)?)?;
    let list = ber::expect(&mut inner, 0x30)?;
    let mut left = Bytes(list);
    let mut names = Vec::new();
    while !left.is_empty() && names.len() < MOST {
        let mut pair = Bytes(ber::expect(&mut left, 0x30)?);
        names.push(mib::name(ber::expect(&mut pair, 6)?)?);
    }
    Some(Question { version, community, kind: pdu.tag, id, once, often, names, list })
}

fn binding(name: &[u32], value: &Value) -> Vec<u8> {
    let mut inner = ber::nested(6, &mib::encoded(name));
    value.put(&mut inner);
    ber::nested(0x30, &inner)
}

fn message(question: &Question<'_>, error: i64, at: i64, list: &[u8]) -> Vec<u8> {
    let mut pdu = ber::nested(2, question.id);
    ber::put_int(&mut pdu, 2, error);
    ber::put_int(&mut pdu, 2, at);
    ber::put(&mut pdu, 0x30, list);
    let mut inner = Vec::new();
    ber::put_int(&mut inner, 2, question.version);
    ber::put(&mut inner, 4, question.community);
    ber::put(&mut inner, RESPONSE, &pdu);
    ber::nested(0x30, &inner)
}

impl Snmp {
    fn answered(&self, question: &Question<'_>, most: usize) -> Option<Vec<u8>> {
        let old = question.version == 0;
        let mut list = Vec::new();
        let one = |at: usize, name: &[u32], next: bool| -> Result<(Vec<u32>, Value), i64> {
            let found = if next { self.mib.next(name) } else { self.mib.get(name).map(|value| (name.to_vec(), value)) };
            match found {
                Some(found) => Ok(found),
                // Version 1 says that there is no such name; later ones say it in the value's place.
                None if old => Err(i64::try_from(at + 1).unwrap_or(1)),
                None if next => Ok((name.to_vec(), Value::EndOfView)),
                None if self.mib.has_object(name) => Ok((name.to_vec(), Value::NoInstance)),
                None => Ok((name.to_vec(), Value::NoObject)),
            }
        };
        match question.kind {
            GET | NEXT => {
                for (at, name) in question.names.iter().enumerate() {
                    match one(at, name, question.kind == NEXT) {
                        Ok((name, value)) => list.extend(binding(&name, &value)),
                        Err(at) => return Some(message(question, 2, at, question.list)),
                    }
                }
            }
            BULK if !old => {
                let once = usize::try_from(question.once).unwrap_or(0).min(question.names.len());
                let (first, rest) = question.names.split_at_checked(once)?;
                for name in first {
                    if let Ok((name, value)) = one(0, name, true) {
                        list.extend(binding(&name, &value));
                    }
                }
                let mut rest = rest.to_vec();
                let rounds = usize::try_from(question.often).unwrap_or(0).min(MOST);
                'rounds: for round in 0..rounds {
                    for name in &mut rest {
                        let Ok((next, value)) = one(0, name, true) else { continue };
                        let binding = binding(&next, &value);
                        // What does not fit any more is left out, as agents do it.
                        if !(round == 0 && list.is_empty())
                            && list.len() + binding.len() + 40 + question.community.len() > most
                        {
                            break 'rounds;
                        }
                        *name = next;
                        list.extend(binding);
                    }
                }
            }
            SET => {
                let error = if old { 2 } else { 17 };
                return Some(message(question, error, 1, question.list));
            }
            _ => return None,
        }
        let whole = message(question, 0, 0, &list);
        if whole.len() <= most {
            return Some(whole);
        }
        // Too big.
        let empty = if old { question.list } else { &[] };
        Some(message(question, 1, 0, empty)).filter(|short| short.len() <= most)
    }

    /// The engine of version 3: who it is, how often it started, for how long it runs.
    fn discovery(&self, datagram: &[u8], session: &Session) -> Option<Vec<u8>> {
        let mut bytes = Bytes(ber::expect(&mut Bytes(datagram), 0x30)?);
        let version = ber::int(ber::expect(&mut bytes, 2)?)?;
        if version != 3 {
            return None;
        }
        let mut header = Bytes(ber::expect(&mut bytes, 0x30)?);
        let id = ber::expect(&mut header, 2).filter(|id| id.len() <= 8)?;
        let _size = ber::expect(&mut header, 2)?;
        let flags = ber::expect(&mut header, 4)?.first().copied()?;
        let security = Bytes(ber::expect(&mut bytes, 4)?);
        let mut security = Bytes(ber::expect(&mut { security }, 0x30)?);
        let engine = ber::expect(&mut security, 4)?;
        let (_, _) = (ber::expect(&mut security, 2)?, ber::expect(&mut security, 2)?);
        let user = text(ber::expect(&mut security, 4)?);
        let reason = if engine.is_empty() {
            session.emit(EventType::Scan, "discovery of the SNMP engine", &[("kind", "snmpv3_discovery")]);
            // Unknown engines.
            4
        } else {
            session.emit(
                EventType::AuthFail,
                format!("{user} is not known"),
                &[("username", &user), ("method", "snmpv3")],
            );
            // Unknown users.
            3
        };
        let own = self.mib.engine(&self.persona);
        let count = self.strangers.fetch_add(1, Ordering::Relaxed) + 1;
        let mut inner = Vec::new();
        ber::put_int(&mut inner, 2, 3);
        let mut header = ber::nested(2, id);
        ber::put_int(&mut header, 2, 65_507);
        ber::put(&mut header, 4, &[flags & !7]);
        ber::put_int(&mut header, 2, 3);
        ber::put(&mut inner, 0x30, &header);
        let mut security = ber::nested(4, &own);
        ber::put_int(&mut security, 2, self.mib.boots(&self.persona));
        ber::put_int(&mut security, 2, self.mib.uptime() / 100);
        ber::put(&mut security, 4, if engine.is_empty() { b"" } else { user.as_bytes() });
        ber::put(&mut security, 4, b"");
        ber::put(&mut security, 4, b"");
        ber::put(&mut inner, 4, &ber::nested(0x30, &security));
        let mut pdu = Vec::new();
        ber::put_int(&mut pdu, 2, 0);
        ber::put_int(&mut pdu, 2, 0);
        ber::put_int(&mut pdu, 2, 0);
        let name = [1, 3, 6, 1, 6, 3, 15, 1, 1, reason, 0];
        ber::put(&mut pdu, 0x30, &binding(&name, &Value::Counter(count)));
        let mut scoped = ber::nested(4, &own);
        ber::put(&mut scoped, 4, b"");
        ber::put(&mut scoped, REPORT, &pdu);
        ber::put(&mut inner, 0x30, &scoped);
        Some(ber::nested(0x30, &inner)).filter(|answer| answer.len() <= datagram.len() * AMPLIFIED)
    }
}

#[async_trait]
impl Datagrams for Snmp {
    async fn answer(&self, datagram: &[u8], session: &Session) -> Option<Vec<u8>> {
        let Some(question) = question(datagram) else {
            let answer = self.discovery(datagram, session);
            if answer.is_none() {
                let shown = text(datagram.get(..datagram.len().min(256))?);
                session.emit(EventType::Unknown, "no SNMP message", &[("data", &shown)]);
            }
            return answer;
        };
        if !matches!(question.version, 0 | 1) {
            return None;
        }
        let community = text(question.community);
        let version = if question.version == 0 { "1" } else { "2c" };
        if !self.read.accepts("", &community) {
            // A real agent is silent, too.
            let fields =
                [("username", ""), ("password", community.as_str()), ("method", "community"), ("version", version)];
            session.emit(EventType::AuthFail, format!("community {community}"), &fields);
            return None;
        }
        let kind = match question.kind {
            GET => "get",
            NEXT => "getnext",
            BULK => "getbulk",
            SET => "set",
            _ => "other",
        };
        let names: Vec<String> = question.names.iter().map(|name| mib::shown(name)).collect();
        let names = names.join(" ");
        let fields =
            [("query", names.as_str()), ("method", kind), ("username", community.as_str()), ("version", version)];
        session.emit(EventType::Query, format!("{kind} {}", super::wire::cut(&names, 200)), &fields);
        self.answered(&question, datagram.len().saturating_mul(AMPLIFIED).min(1_472))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{persona::Os, testing};

    fn agent() -> Snmp {
        let persona = testing::persona(Os::Debian12);
        let options = [("credentials".to_owned(), ":public".to_owned())].into();
        let read = Credentials::new(&persona, "snmp", &options, &COMMON).unwrap();
        Snmp { mib: Mib::of(&persona), persona, read, strangers: AtomicU32::new(0) }
    }

    fn asked(version: i64, kind: u8, name: &[u32], once: i64, often: i64) -> Vec<u8> {
        let mut pdu = Vec::new();
        for number in [77, once, often] {
            ber::put_int(&mut pdu, 2, number);
        }
        let mut pair = ber::nested(6, &mib::encoded(name));
        ber::put(&mut pair, 5, b"");
        ber::put(&mut pdu, 0x30, &ber::nested(0x30, &pair));
        let mut inner = Vec::new();
        ber::put_int(&mut inner, 2, version);
        ber::put(&mut inner, 4, b"public");
        ber::put(&mut inner, kind, &pdu);
        ber::nested(0x30, &inner)
    }

    #[test]
    fn answers_are_bounded() {
        let agent = agent();
        let datagram = asked(1, BULK, &[1, 3, 6, 1, 2, 1], 0, i64::MAX);
        let answer = agent.answered(&question(&datagram).unwrap(), datagram.len() * AMPLIFIED).unwrap();
        assert!(answer.len() <= datagram.len() * AMPLIFIED && answer.len() > datagram.len());
    }

    #[test]
    fn the_whole_tree_can_be_walked() {
        let agent = agent();
        let (mut name, mut count) = (vec![1, 3], 0);
        while let Some((next, _)) = agent.mib.next(&name) {
            assert!(next > name);
            name = next;
            count += 1;
        }
        assert!(count > 40);
    }

    #[test]
    fn any_bytes_are_survived() {
        let good = asked(0, GET, &[1, 3, 6, 1, 2, 1, 1, 1, 0], 0, 0);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _ = question(&bad);
            let _ = question(&good[..at]);
        }
    }
}
