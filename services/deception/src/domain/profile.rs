//! What is known of one attacker, and how an event adds to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    behavior::{Class, Stats, Timing},
    facts::{Facts, cut},
    fingerprint,
    phases::{self, Phase},
    tools,
};

/// Most names of services of an attacker; those of other honeypots are anything.
const MAX_SERVICES: usize = 200;
/// Most deckies that a profile names, in the order of first contact.
const MAX_DECKIES: usize = 1_000;
/// Most fingerprints that a profile names.
const MAX_FINGERPRINTS: usize = 50;
/// Most terms of one attacker that a search finds by their key.
const MAX_TERMS: u32 = 2_000;
/// Most characters that a search for a bare word looks through.
const MAX_SEARCH_TEXT: usize = 8_192;

/// Where and when an attacker met a decky.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) decky: String,
    /// Microseconds since 1970.
    pub(crate) first_at: i64,
    /// Whether it did more there than look.
    pub(crate) acted: bool,
}

/// What is stored of an attacker as one document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// In the order in which they were met.
    pub(crate) services: Vec<String>,
    /// In the order of first contact.
    pub(crate) deckies: Vec<Contact>,
    /// Kind and value.
    pub(crate) fingerprints: Vec<(String, String)>,
    /// When each began.
    pub(crate) phases: Vec<(Phase, i64)>,
    /// Named by what the client said.
    pub(crate) tools: Vec<String>,
    /// Weight of what speaks for a system.
    pub(crate) systems: BTreeMap<String, u64>,
    pub(crate) event_types: Vec<String>,
    /// ATT&CK ids of what it showed.
    pub(crate) techniques: Vec<String>,
    /// As of the last event.
    pub(crate) stats: Stats,
    pub(crate) class: Class,
    /// How many terms were given to the search.
    pub(crate) terms: u32,
    /// The alert of its first contact, and until when that takes events in (microseconds since 1970).
    pub(crate) contact_alert: Option<(Uuid, i64)>,
}

impl Shown {
    /// What the tools' names and the rhythm say.
    pub(crate) fn tool_guesses(&self) -> Vec<String> {
        let mut tools = self.tools.clone();
        for tool in tools::by_timing(&self.stats, self.class) {
            if !tools.iter().any(|known| known == tool) {
                tools.push(tool.to_owned());
            }
        }
        tools.sort_unstable();
        tools
    }

    /// The phases in the order in which they began.
    pub(crate) fn phase_sequence(&self) -> Vec<&'static str> {
        let mut phases = self.phases.clone();
        phases.sort_by_key(|(phase, at)| (*at, *phase));
        phases.into_iter().map(|(phase, _)| phase.as_str()).collect()
    }

    /// The system for which most speaks; `unknown` where nothing does.
    pub(crate) fn os_guess(&self) -> &str {
        // Of equals the first by name.
        let best = self.systems.iter().max_by(|one, two| one.1.cmp(two.1).then_with(|| two.0.cmp(one.0)));
        best.map_or("unknown", |(system, _)| system)
    }

    /// The deckies in the order of first contact; empty with one only.
    pub(crate) fn traversal_path(&self) -> String {
        if self.deckies.len() < 2 {
            return String::new();
        }
        self.deckies.iter().map(|contact| contact.decky.as_str()).collect::<Vec<_>>().join(" → ")
    }
}

/// One event of an attacker, as far as its profile is concerned.
#[derive(Clone, Debug)]
pub(crate) struct Seen<'a> {
    /// Microseconds since 1970.
    pub(crate) at: i64,
    pub(crate) decky: &'a str,
    pub(crate) service: &'a str,
    pub(crate) event_type: &'a str,
    /// ATT&CK ids, with spaces between them.
    pub(crate) techniques: &'a str,
    pub(crate) facts: &'a Facts,
}

impl Seen<'_> {
    /// Whether the attacker does more than look: it brings something of its own.
    pub(crate) fn acts(&self) -> bool {
        match self.event_type {
            "auth_success" | "download_attempt" | "file_captured" | "message_accepted" => true,
            "auth_fail" | "auth_attempt" => self.facts.username.is_some() || self.facts.password.is_some(),
            _ => false,
        }
    }

    /// Whether it is what the attacker typed or sent to be run.
    pub(crate) fn is_command(&self) -> bool {
        matches!(self.event_type, "command" | "query")
    }

    /// Whether it is a file that the attacker left.
    pub(crate) fn is_file(&self) -> bool {
        self.event_type == "file_captured"
    }
}

/// A key and a value by which an attacker is found.
pub(crate) type Term = (&'static str, String);

/// What an event changed besides figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// What the attacker is found by from now on.
    pub(crate) terms: Vec<Term>,
    /// The service is new to it.
    pub(crate) new_service: bool,
    /// It acted on a decky for the first time, having acted on others before.
    pub(crate) traversed: bool,
}

/// An attacker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Profile {
    pub(crate) id: Uuid,
    pub(crate) ip: String,
    /// Nothing of it is stored yet.
    pub(crate) new: bool,
    pub(crate) timing: Timing,
    pub(crate) shown: Shown,
    pub(crate) decky_count: i64,
    pub(crate) bounty_count: i64,
    pub(crate) credential_count: i64,
    pub(crate) command_count: i64,
    pub(crate) file_count: i64,
}

impl Profile {
    /// Of somebody whom nobody knows yet.
    pub(crate) fn new(id: Uuid, ip: String) -> Self {
        Profile {
            id,
            ip,
            new: true,
            timing: Timing::default(),
            shown: Shown::default(),
            decky_count: 0,
            bounty_count: 0,
            credential_count: 0,
            command_count: 0,
            file_count: 0,
        }
    }

    /// Takes an event in. [`Profile::settle`] is to follow the last of them.
    pub(crate) fn take(&mut self, seen: &Seen<'_>) -> Change {
        let mut change = Change::default();
        self.timing.add(seen.at);
        self.command_count += i64::from(seen.is_command());
        self.file_count += i64::from(seen.is_file());
        if !seen.service.is_empty() && remember(&mut self.shown.services, seen.service, MAX_SERVICES) {
            change.new_service = true;
            self.term(&mut change, "service", seen.service);
        }
        if remember(&mut self.shown.event_types, seen.event_type, 32) {
            self.term(&mut change, "event", seen.event_type);
        }
        if !seen.decky.is_empty() {
            change.traversed = self.meet(seen, &mut change);
        }
        for (kind, value) in fingerprint::of(seen.facts) {
            let known = &mut self.shown.fingerprints;
            if known.len() < MAX_FINGERPRINTS && !known.iter().any(|(k, v)| k == kind && *v == value) {
                if let Some((system, weight)) = fingerprint::system(kind, &value) {
                    *self.shown.systems.entry(system.to_owned()).or_insert(0) += weight;
                }
                known.push((kind.to_owned(), value.clone()));
                self.term(&mut change, kind, &value);
            }
        }
        if let Some((system, weight)) = fingerprint::system_of_packets(seen.facts) {
            *self.shown.systems.entry(system.to_owned()).or_insert(0) += weight;
        }
        for tool in tools::named(seen.facts) {
            if remember(&mut self.shown.tools, tool, 64) {
                self.term(&mut change, "tool", tool);
            }
        }
        for technique in seen.techniques.split_ascii_whitespace() {
            if remember(&mut self.shown.techniques, technique, 256) {
                self.term(&mut change, "technique", technique);
            }
        }
        for phase in phases::of(seen.event_type, seen.facts) {
            match self.shown.phases.iter_mut().find(|(known, _)| *known == phase) {
                Some((_, at)) => *at = (*at).min(seen.at),
                None => self.shown.phases.push((phase, seen.at)),
            }
        }
        change
    }

    /// Whether the attacker goes on from one decky on which it acted to another.
    fn meet(&mut self, seen: &Seen<'_>, change: &mut Change) -> bool {
        let acts = seen.acts();
        let deckies = &mut self.shown.deckies;
        let elsewhere = acts && deckies.iter().any(|contact| contact.acted);
        let known = deckies.iter().position(|contact| contact.decky == seen.decky);
        if let Some(contact) = known.and_then(|place| deckies.get_mut(place)) {
            let first = acts && !contact.acted;
            contact.acted |= acts;
            // Times of one batch are nearly in order: what is not is rare.
            if seen.at < contact.first_at {
                contact.first_at = seen.at;
                deckies.sort_by_key(|contact| contact.first_at);
            }
            return first && elsewhere;
        }
        if deckies.len() >= MAX_DECKIES {
            return false;
        }
        let place = deckies.partition_point(|contact| contact.first_at <= seen.at);
        let contact = Contact { decky: seen.decky.to_owned(), first_at: seen.at, acted: acts };
        deckies.insert(place, contact);
        self.decky_count += 1;
        self.term(change, "decky", seen.decky);
        elsewhere
    }

    fn term(&mut self, change: &mut Change, key: &'static str, value: &str) {
        if self.shown.terms < MAX_TERMS {
            self.shown.terms += 1;
            change.terms.push((key, cut(value)));
        }
    }

    /// Computes what follows from all events.
    pub(crate) fn settle(&mut self) {
        self.shown.stats = self.timing.stats();
        self.shown.class = Class::of(&self.shown.stats, self.shown.services.len());
    }

    /// What a search for a bare word looks through: small letters, one thing a line.
    pub(crate) fn search_text(&self) -> String {
        let shown = &self.shown;
        let guesses = shown.tool_guesses();
        let words = [self.ip.as_str(), shown.class.as_str(), shown.os_guess()];
        let all = words
            .into_iter()
            .chain(shown.services.iter().map(String::as_str))
            .chain(guesses.iter().map(String::as_str))
            .chain(shown.techniques.iter().map(String::as_str))
            .chain(shown.fingerprints.iter().map(|(_, value)| value.as_str()))
            .chain(shown.deckies.iter().map(|contact| contact.decky.as_str()));
        let mut text = String::new();
        for word in all {
            if text.len() + word.len() >= MAX_SEARCH_TEXT {
                break;
            }
            text.push_str(&word.to_lowercase());
            text.push('\n');
        }
        text
    }

    /// Roughly the bytes that it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        let shown = &self.shown;
        512 + shown.deckies.len() * 96 + shown.fingerprints.len() * 128 + self.timing.weight()
    }
}

/// Adds a text to those that are known. Whether it is new.
fn remember(known: &mut Vec<String>, text: &str, most: usize) -> bool {
    if known.len() >= most || known.iter().any(|known| known == text) {
        return false;
    }
    known.push(text.to_owned());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn take(profile: &mut Profile, at: i64, decky: &str, event_type: &str, json: &str) -> Change {
        let facts = Facts::read(json);
        let seen =
            Seen { at: at * SECOND, decky, service: "ssh", event_type, techniques: "T1110 T1078", facts: &facts };
        let change = profile.take(&seen);
        profile.settle();
        change
    }

    fn somebody() -> Profile {
        Profile::new(Uuid::from_u128(1), "203.0.113.9".into())
    }

    #[test]
    fn an_attack_leaves_its_profile() {
        let mut profile = somebody();
        let banner = r#"{"client_banner":"SSH-2.0-libssh2_1.10.0","username":"root","password":"x"}"#;
        let change = take(&mut profile, 10, "web-01", "connect", "{}");
        let terms = [
            ("service", "ssh"),
            ("event", "connect"),
            ("decky", "web-01"),
            ("technique", "T1110"),
            ("technique", "T1078"),
        ];
        assert_eq!(change.terms, terms.map(|(key, value)| (key, value.to_owned())));
        assert!(change.new_service && !change.traversed);
        take(&mut profile, 11, "web-01", "auth_fail", banner);
        assert_eq!(take(&mut profile, 12, "web-01", "auth_fail", banner), Change::default());
        take(&mut profile, 13, "web-01", "auth_success", banner);
        take(&mut profile, 14, "web-01", "command", r#"{"command":"uname -a"}"#);
        take(&mut profile, 15, "web-01", "disconnect", banner);

        let shown = &profile.shown;
        assert_eq!(shown.phase_sequence(), ["recon", "credential_access", "initial_access", "discovery"]);
        assert_eq!(shown.tool_guesses(), ["libssh2"]);
        assert_eq!(shown.os_guess(), "unknown");
        assert_eq!(shown.traversal_path(), "");
        assert_eq!(shown.fingerprints, [("client_banner".to_owned(), "SSH-2.0-libssh2_1.10.0".to_owned())]);
        assert_eq!((profile.command_count, profile.file_count, profile.decky_count), (1, 0, 1));
        assert_eq!((shown.stats.event_count, shown.stats.duration_s), (6, 5.0));
        assert!(profile.search_text().contains("libssh2\n"));
    }

    #[test]
    fn deckies_are_in_the_order_of_first_contact() {
        let mut profile = somebody();
        take(&mut profile, 30, "c", "connect", "{}");
        take(&mut profile, 10, "a", "connect", "{}");
        take(&mut profile, 20, "b", "connect", "{}");
        assert_eq!(profile.shown.traversal_path(), "a → b → c");
        // An event that comes late can be the first.
        take(&mut profile, 5, "c", "connect", "{}");
        assert_eq!(profile.shown.traversal_path(), "c → a → b");
    }

    #[test]
    fn only_those_who_act_traverse() {
        let mut profile = somebody();
        let login = r#"{"username":"root"}"#;
        assert!(!take(&mut profile, 1, "a", "connect", "{}").traversed);
        assert!(!take(&mut profile, 2, "b", "connect", "{}").traversed);
        assert!(!take(&mut profile, 3, "b", "auth_fail", login).traversed);
        assert!(!take(&mut profile, 4, "b", "auth_fail", login).traversed);
        assert!(take(&mut profile, 5, "a", "auth_fail", login).traversed);
        assert!(!take(&mut profile, 6, "a", "auth_fail", login).traversed);
        assert!(take(&mut profile, 7, "c", "download_attempt", "{}").traversed);
    }

    #[test]
    fn nothing_grows_without_end() {
        let mut profile = somebody();
        for place in 0..3_000 {
            let text = format!("{place}");
            let facts = Facts { user_agent: Some(text.repeat(10_000)), ..Facts::default() };
            let seen =
                Seen { at: 0, decky: &text, service: &text, event_type: &text, techniques: &text, facts: &facts };
            profile.take(&seen);
        }
        profile.settle();
        let shown = &profile.shown;
        assert_eq!((shown.services.len(), shown.deckies.len(), shown.fingerprints.len()), (200, 1_000, 50));
        assert!(shown.terms <= MAX_TERMS && profile.search_text().len() <= MAX_SEARCH_TEXT);
        assert_eq!(shown.stats.event_count, 3_000);
    }
}
