//! MQTT: a broker for the things around a decky, and for nobody else.

mod broker;
mod packet;

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::broadcast::error::RecvError,
};

use super::{
    Options,
    credentials::Credentials,
    wire::{Bytes, broken, cut, text},
};
use crate::{
    persona::{Os, Persona},
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream},
};
use broker::{Broker, Message};
use packet::{Connect, Packet};

/// What is tried on such brokers most.
const COMMON: [(&str, &str); 8] = [
    ("admin", "admin"),
    ("mqtt", "mqtt"),
    ("admin", "password"),
    ("test", "test"),
    ("user", "password"),
    ("root", "root"),
    ("mosquitto", "mosquitto"),
    ("admin", "public"),
];
/// The most filters of a client.
const MOST_FILTERS: usize = 64;
/// How often figures and devices change.
const TICK: Duration = Duration::from_secs(10);

/// One decky's broker.
pub(super) struct Mqtt {
    persona: Arc<Persona>,
    /// None when everybody may come in, as without a file of passwords.
    credentials: Option<Credentials>,
    broker: Broker,
}

/// The broker of a decky.
pub(super) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let credentials = Credentials::new(persona, "mqtt", options, &COMMON)?;
    let told = options.contains_key("auth") || options.contains_key("credentials");
    let open = credentials.any() || (!told && persona.number("mqtt open", 2) == 0);
    Ok(Server::Connections(Arc::new(Mqtt {
        persona: persona.clone(),
        credentials: (!open).then_some(credentials),
        broker: Broker::new(persona),
    })))
}

struct Client<'a> {
    of: &'a Mqtt,
    session: &'a Session,
    connect: Connect,
    filters: Vec<(String, u8)>,
    next: u16,
    out: Vec<u8>,
}

#[async_trait]
impl Protocol for Mqtt {
    async fn serve(self: Arc<Self>, mut stream: Stream, session: Session) -> io::Result<()> {
        let mut came = BytesMut::new();
        let first = loop {
            if let Some(packet) = taken(&mut came, &session)? {
                break packet;
            }
            if stream.read_buf(&mut came).await? == 0 {
                return Ok(());
            }
        };
        let connect = (first.head >> 4 == 1).then(|| packet::connect(&first.body)).flatten();
        let Some(mut connect) = connect else {
            session.emit(EventType::Scan, "no MQTT connect", &[("kind", "malformed")]);
            return Err(broken("no connect"));
        };
        let (answer, good) = self.admitted(&mut connect, &session);
        stream.write_all(&answer).await?;
        stream.flush().await?;
        if !good {
            return Ok(());
        }
        let mut heard = self.broker.listen();
        let mut client =
            Client { of: &self, session: &session, connect, filters: Vec::new(), next: 1, out: Vec::new() };
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
        let ended = loop {
            while let Some(packet) = taken(&mut came, &session)? {
                match client.packet(&packet) {
                    Some(true) => {}
                    Some(false) => {
                        client.connect.will = None;
                        return Ok(());
                    }
                    None => return Err(broken("packet")),
                }
                // What is said is sent before more is heard: an answer never grows beyond one question.
                stream.write_all(&std::mem::take(&mut client.out)).await?;
            }
            if came.is_empty() {
                came = BytesMut::new();
            }
            tokio::select! {
                read = stream.read_buf(&mut came) => match read {
                    Ok(0) => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                },
                message = heard.recv() => match message {
                    Ok(message) => client.hear(&message),
                    // Too slow: what was missed is missed.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break Ok(()),
                },
                _ = tick.tick() => client.tick(),
            }
            stream.write_all(&std::mem::take(&mut client.out)).await?;
            stream.flush().await?;
        };
        if let Some((topic, payload, retain)) = client.connect.will.take() {
            self.broker.publish(Message { topic, payload, qos: 0 }, retain);
        }
        ended
    }
}

fn taken(came: &mut BytesMut, session: &Session) -> io::Result<Option<Packet>> {
    match packet::first(came) {
        Ok(None) => Ok(None),
        Ok(Some((packet, used))) => {
            came.advance(used);
            Ok(Some(packet))
        }
        Err(()) => {
            session.emit(EventType::Scan, "no MQTT packet", &[("kind", "malformed")]);
            Err(broken("no packet"))
        }
    }
}

impl Mqtt {
    fn old(&self) -> bool {
        matches!(self.persona.os, Os::Ubuntu2004 | Os::CentOs7 | Os::BusyBox)
    }

    /// The answer to a client that wants in, and whether it is.
    fn admitted(&self, connect: &mut Connect, session: &Session) -> (Vec<u8>, bool) {
        let five = connect.version == 5;
        let refused = |code: u8, code_of_five: u8| {
            let answer =
                if five { packet::packet(0x20, &[0, code_of_five, 0]) } else { packet::packet(0x20, &[0, code]) };
            (answer, false)
        };
        let known = matches!((connect.name.as_str(), connect.version), ("MQTT", 4 | 5) | ("MQIsdp", 3));
        if !known {
            session.emit(
                EventType::Scan,
                "an unknown version of MQTT",
                &[("kind", "malformed"), ("detail", &connect.name)],
            );
            return (packet::packet(0x20, &[0, 1]), false);
        }
        let user = connect.user.clone().unwrap_or_default();
        let password = connect.password.clone().unwrap_or_default();
        let banner = format!(
            "MQTT {} {}",
            ["3.1", "3.1.1", "5.0"].get(usize::from(connect.version) - 3).unwrap_or(&""),
            connect.client
        );
        session.learn("client_banner", cut(&banner, 256).to_owned());
        let mut assigned = Vec::new();
        if connect.client.is_empty() {
            if connect.version == 3 || (connect.version == 4 && !connect.clean) {
                return refused(2, 0x85);
            }
            let id = uuid::Uuid::new_v4().to_string().to_uppercase();
            connect.client = format!("auto-{id}");
            assigned.push(0x12);
            packet::put_bytes(&mut assigned, connect.client.as_bytes());
        }
        let method = if connect.user.is_some() { "password" } else { "anonymous" };
        let fields = [
            ("username", user.as_str()),
            ("password", password.as_str()),
            ("method", method),
            ("client_id", connect.client.as_str()),
        ];
        let good = self
            .credentials
            .as_ref()
            .is_none_or(|credentials| connect.user.is_some() && credentials.accepts(&user, &password));
        if !good {
            session.emit(EventType::AuthFail, format!("{user} was refused"), &fields);
            return refused(5, 0x87);
        }
        session.emit(EventType::AuthSuccess, format!("{} came in", connect.client), &fields);
        if let Some((topic, payload, _)) = &connect.will {
            let payload = text(payload);
            let fields = [
                ("topic", topic.as_str()),
                ("payload", cut(&payload, 2_048)),
                ("client_id", connect.client.as_str()),
                ("will", "true"),
            ];
            session.emit(EventType::Publish, format!("will for {}", cut(topic, 200)), &fields);
        }
        if !five {
            return (packet::packet(0x20, &[0, 0]), true);
        }
        let mut properties = vec![0x22, 0, 10];
        properties.extend(assigned);
        if !self.old() {
            properties.extend([0x21, 0, 20]);
        }
        let mut body = vec![0, 0];
        packet::put_number(&mut body, properties.len());
        body.extend(properties);
        (packet::packet(0x20, &body), true)
    }
}

impl Client<'_> {
    fn five(&self) -> bool {
        self.connect.version == 5
    }

    /// Does what a packet asks for: whether the client stays; none when it is no packet of a client.
    fn packet(&mut self, packet: &Packet) -> Option<bool> {
        let mut bytes = Bytes(&packet.body);
        let version = self.connect.version;
        match packet.head >> 4 {
            3 => {
                let (qos, retain) = (packet.head >> 1 & 3, packet.head & 1 != 0);
                let topic = text(packet::sized(&mut bytes)?);
                let id = if qos > 0 { Some(bytes.be16()?) } else { None };
                packet::properties(&mut bytes, version)?;
                if qos > 2 || topic.is_empty() || topic.contains(['#', '+']) || topic.starts_with("$SYS") {
                    return None;
                }
                let payload = bytes.rest().to_vec();
                let shown = text(&payload);
                let level = qos.to_string();
                let fields = [
                    ("topic", topic.as_str()),
                    ("payload", cut(&shown, 2_048)),
                    ("qos", level.as_str()),
                    ("client_id", self.connect.client.as_str()),
                    ("retain", if retain { "true" } else { "false" }),
                ];
                self.session.emit(EventType::Publish, format!("published to {}", cut(&topic, 200)), &fields);
                self.of.broker.publish(Message { topic, payload, qos }, retain);
                if let Some(id) = id {
                    self.out.extend(packet::packet(if qos == 1 { 0x40 } else { 0x50 }, &id.to_be_bytes()));
                }
            }
            4 | 7 => {}
            5 => {
                let id = bytes.be16()?;
                self.out.extend(packet::packet(0x62, &id.to_be_bytes()));
            }
            6 => {
                let id = bytes.be16()?;
                self.out.extend(packet::packet(0x70, &id.to_be_bytes()));
            }
            8 => {
                let id = bytes.be16()?;
                packet::properties(&mut bytes, version)?;
                let (mut codes, mut kept) = (Vec::new(), Vec::new());
                while !bytes.is_empty() {
                    let filter = text(packet::sized(&mut bytes)?);
                    let qos = bytes.byte()? & 3;
                    if !packet::is_filter(&filter) || qos > 2 || codes.len() >= MOST_FILTERS {
                        return None;
                    }
                    let level = qos.to_string();
                    let fields = [
                        ("topic", filter.as_str()),
                        ("qos", level.as_str()),
                        ("client_id", self.connect.client.as_str()),
                    ];
                    self.session.emit(EventType::Subscribe, format!("subscribed to {}", cut(&filter, 200)), &fields);
                    self.filters.retain(|(known, _)| *known != filter);
                    if self.filters.len() < MOST_FILTERS {
                        self.filters.push((filter.clone(), qos));
                        codes.push(qos);
                        kept.push(filter);
                    } else {
                        codes.push(if version == 5 { 0x97 } else { 0x80 });
                    }
                }
                let mut body = id.to_be_bytes().to_vec();
                if self.five() {
                    body.push(0);
                }
                body.extend(codes);
                self.out.extend(packet::packet(0x90, &body));
                for filter in kept {
                    for message in self.of.broker.retained(&filter) {
                        if self.out.len() > 2 << 20 {
                            break;
                        }
                        self.send(&message, 0, true);
                    }
                }
            }
            10 => {
                let id = bytes.be16()?;
                packet::properties(&mut bytes, version)?;
                let mut codes = Vec::new();
                while !bytes.is_empty() && codes.len() < MOST_FILTERS {
                    let filter = text(packet::sized(&mut bytes)?);
                    self.filters.retain(|(known, _)| *known != filter);
                    codes.push(0);
                }
                let mut body = id.to_be_bytes().to_vec();
                if self.five() {
                    body.push(0);
                    body.extend(codes);
                }
                self.out.extend(packet::packet(0xb0, &body));
            }
            12 => self.out.extend([0xd0, 0]),
            14 => return Some(false),
            _ => return None,
        }
        Some(true)
    }

    fn send(&mut self, message: &Message, qos: u8, retained: bool) {
        let mut body = Vec::new();
        packet::put_bytes(&mut body, message.topic.as_bytes());
        if qos > 0 {
            body.extend(self.next.to_be_bytes());
            self.next = self.next.checked_add(1).unwrap_or(1);
        }
        if self.five() {
            body.push(0);
        }
        body.extend(&message.payload);
        self.out.extend(packet::packet(0x30 | qos << 1 | u8::from(retained), &body));
    }

    /// A message of somebody.
    fn hear(&mut self, message: &Message) {
        let wanted =
            self.filters.iter().filter(|(filter, _)| packet::fits(&message.topic, filter)).map(|(_, qos)| *qos).max();
        if let Some(qos) = wanted {
            self.send(message, qos.min(message.qos), false);
        }
    }

    /// Time passes.
    fn tick(&mut self) {
        if self.filters.iter().any(|(filter, _)| filter.starts_with('$')) {
            for message in self.of.broker.figures() {
                if message.topic.ends_with("/uptime")
                    || message.topic.ends_with("/received")
                    || message.topic.ends_with("/sent")
                {
                    self.hear(&message);
                }
            }
        }
        if self.filters.iter().any(|(filter, _)| !filter.starts_with('$'))
            && let Some(message) = self.of.broker.stirred()
        {
            self.hear(&message);
        }
    }
}
