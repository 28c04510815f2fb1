//! What the broker of a decky keeps: retained messages, who listens, figures of itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::Utc;
use tokio::sync::broadcast;

use super::packet::fits;
use crate::{
    decoys::sql::Dice,
    persona::{Os, Persona},
};

/// The most retained messages, and what they may take.
const MOST_RETAINED: usize = 600;
const ROOM: usize = 1 << 20;

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) qos: u8,
}

struct State {
    retained: BTreeMap<String, Vec<u8>>,
    room: usize,
}

/// The broker of a decky.
pub(super) struct Broker {
    persona: Arc<Persona>,
    state: Mutex<Option<State>>,
    sender: broadcast::Sender<Arc<Message>>,
}

impl Broker {
    pub(super) fn new(persona: &Arc<Persona>) -> Broker {
        let (sender, _) = broadcast::channel(32);
        Broker { persona: persona.clone(), state: Mutex::new(None), sender }
    }

    /// Hears all messages from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Arc<Message>> {
        self.sender.subscribe()
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        act(state.get_or_insert_with(|| State { retained: devices(&self.persona), room: ROOM }))
    }

    /// Gives a message to all who listen, and keeps it when it shall be kept.
    pub(super) fn publish(&self, message: Message, retain: bool) {
        if retain {
            self.with(|state| {
                if let Some(old) = state.retained.remove(&message.topic) {
                    state.room += old.len() + message.topic.len();
                }
                let size = message.payload.len() + message.topic.len();
                if !message.payload.is_empty() && state.retained.len() < MOST_RETAINED && size <= state.room {
                    state.room -= size;
                    state.retained.insert(message.topic.clone(), message.payload.clone());
                }
            });
        }
        let _ = self.sender.send(Arc::new(message));
    }

    /// The kept messages that fit a filter.
    pub(super) fn retained(&self, filter: &str) -> Vec<Message> {
        let mut found = if filter.starts_with('$') { self.figures() } else { Vec::new() };
        found.retain(|message| fits(&message.topic, filter));
        self.with(|state| {
            for (topic, payload) in &state.retained {
                if fits(topic, filter) {
                    found.push(Message { topic: topic.clone(), payload: payload.clone(), qos: 0 });
                }
            }
        });
        found
    }

    /// What such a build calls itself.
    fn version(&self) -> &'static str {
        match self.persona.os {
            Os::Debian12 | Os::Debian11 | Os::Ubuntu2204 => "mosquitto version 2.0.11",
            Os::Ubuntu2004 => "mosquitto version 1.6.9",
            Os::CentOs7 => "mosquitto version 1.6.10",
            Os::BusyBox => "mosquitto version 1.6.12",
            _ => "mosquitto version 2.0.18",
        }
    }

    /// The figures of the broker that change.
    pub(super) fn figures(&self) -> Vec<Message> {
        let uptime = (Utc::now() - self.persona.booted_at).num_seconds().max(30) - 12;
        let uptime = uptime / 10 * 10;
        let (received, sent) = (uptime / 4, uptime * 3);
        let clients = self.sender.receiver_count();
        let mut all: Vec<(String, String)> = [
            ("version", self.version().to_owned()),
            ("uptime", format!("{uptime} seconds")),
            ("clients/total", (clients + 3).to_string()),
            ("clients/inactive", "0".to_owned()),
            ("clients/disconnected", "0".to_owned()),
            ("clients/active", (clients + 3).to_string()),
            ("clients/connected", (clients + 3).to_string()),
            ("clients/expired", "0".to_owned()),
            ("messages/stored", "51".to_owned()),
            ("messages/received", received.to_string()),
            ("messages/sent", sent.to_string()),
            ("store/messages/count", "51".to_owned()),
            ("store/messages/bytes", "214".to_owned()),
            ("subscriptions/count", "7".to_owned()),
            ("shared_subscriptions/count", "0".to_owned()),
            ("retained messages/count", "58".to_owned()),
            ("heap/current", "61208".to_owned()),
            ("heap/maximum", "83912".to_owned()),
            ("publish/messages/dropped", "0".to_owned()),
            ("publish/messages/received", (received * 3 / 4).to_string()),
            ("publish/messages/sent", sent.to_string()),
            ("publish/bytes/received", (received * 18).to_string()),
            ("publish/bytes/sent", (sent * 17).to_string()),
            ("bytes/received", (received * 61).to_string()),
            ("bytes/sent", (sent * 58).to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let rates = [
            ("messages/received", 15.04),
            ("messages/sent", 180.3),
            ("publish/dropped", 0.0),
            ("publish/received", 11.28),
            ("publish/sent", 180.3),
            ("bytes/received", 917.4),
            ("bytes/sent", 10_457.4),
            ("sockets", 0.4),
            ("connections", 0.4),
        ];
        for (name, rate) in rates {
            for (span, wobble) in [("1min", 1.04), ("5min", 1.0), ("15min", 0.98)] {
                all.push((format!("load/{name}/{span}"), format!("{:.2}", rate * wobble)));
            }
        }
        if self.version().contains(" 1.") {
            all.retain(|(name, _)| name != "shared_subscriptions/count");
        }
        let message = |(name, value): (String, String)| Message {
            topic: format!("$SYS/broker/{name}"),
            payload: value.into_bytes(),
            qos: 0,
        };
        all.into_iter().map(message).collect()
    }

    /// One device says something new, as devices do.
    pub(super) fn stirred(&self) -> Option<Message> {
        self.with(|state| {
            let topics: Vec<String> = state
                .retained
                .keys()
                .filter(|topic| topic.ends_with("/temperature") || topic.ends_with("/power"))
                .cloned()
                .collect();
            let at = usize::try_from(Utc::now().timestamp() / 10).unwrap_or(0).checked_rem(topics.len())?;
            let topic = topics.get(at)?;
            let old: f64 = String::from_utf8_lossy(state.retained.get(topic)?).parse().ok()?;
            let new =
                format!("{:.1}", old + f64::from(i8::try_from(Utc::now().timestamp() % 5).unwrap_or(0) - 2) / 10.0);
            state.retained.insert(topic.clone(), new.clone().into_bytes());
            Some(Message { topic: topic.clone(), payload: new.into_bytes(), qos: 0 })
        })
    }
}

/// The devices around a decky and what they said last.
fn devices(persona: &Persona) -> BTreeMap<String, Vec<u8>> {
    let mut dice = Dice::new(persona, "mqtt");
    let mut all = BTreeMap::new();
    let mut say = |topic: String, payload: String| {
        all.insert(topic, payload.into_bytes());
    };
    let root = *dice.pick(&["home", "house", "site1", "plant", "office"]).unwrap_or(&"home");
    let rooms = if matches!(root, "plant" | "site1") {
        ["line1", "line2", "boiler", "store", "gate", "pump"]
    } else {
        ["kitchen", "livingroom", "hall", "garage", "office", "bath"]
    };
    for room in rooms {
        if dice.below(5) == 0 {
            continue;
        }
        let tenth = |dice: &mut Dice, from: u64, width: u64| format!("{}.{}", from + dice.below(width), dice.below(10));
        say(format!("{root}/{room}/temperature"), tenth(&mut dice, 17, 8));
        say(format!("{root}/{room}/humidity"), tenth(&mut dice, 35, 25));
        say(format!("{root}/{room}/light/state"), (*dice.pick(&["ON", "OFF", "OFF"]).unwrap_or(&"OFF")).to_owned());
    }
    for _ in 0..2 + dice.below(4) {
        let name = format!("tasmota_{}", dice.hex(3).to_uppercase());
        say(format!("tele/{name}/LWT"), "Online".to_owned());
        say(format!("stat/{name}/POWER"), (*dice.pick(&["ON", "OFF"]).unwrap_or(&"ON")).to_owned());
        say(format!("tele/{name}/power"), format!("{}.{}", dice.below(120), dice.below(10)));
    }
    say("zigbee2mqtt/bridge/state".to_owned(), "online".to_owned());
    for _ in 0..1 + dice.below(4) {
        let id = format!("0x00158d00{}", dice.hex(4));
        let battery = 40 + dice.below(60);
        say(
            format!("zigbee2mqtt/{id}"),
            format!(
                "{{\"battery\":{battery},\"contact\":true,\"linkquality\":{},\"voltage\":{}}}",
                40 + dice.below(180),
                2_800 + dice.below(300)
            ),
        );
    }
    all
}
