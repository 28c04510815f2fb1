//! Alerts: what raises one, what it groups, what it says; and who may scan without one.
//!
//! An alert takes in what belongs to it for as long as that goes on, so that a scan is one alert, however many deckies it
//! touches, and a thousand logins with one password are one too:
//!
//! - `first_contact`: the first event of an attacker, and all that it does in the [`SCAN`] that follows.
//! - `credential_works`: a login that a decoy let in. The next ones join until [`QUIET`] has passed without one.
//! - `file_captured`: a file that an attacker left; the next ones join in the same way.
//! - `traversal`: an attacker that had acted on one decky (tried a login, fetched or left something) acts on another. One
//!   that only looks around is a scan, which `first_contact` tells.
//!
//! When very many attackers come at once, those past [`FLOOD`] alerts in [`FLOOD_TIME`] share one alert of each kind.

use std::net::IpAddr;

use aegis_error::Fields;
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use uuid::Uuid;

/// How long an alert of a first contact takes in what the attacker does, in microseconds.
pub(crate) const SCAN: i64 = 15 * 60 * 1_000_000;
/// An alert to which nothing was added for so long takes nothing in any more, in microseconds.
pub(crate) const QUIET: i64 = 60 * 60 * 1_000_000;
/// Most alerts in [`FLOOD_TIME`] that are raised one by one.
pub(crate) const FLOOD: usize = 60;
/// In microseconds.
pub(crate) const FLOOD_TIME: i64 = 10 * 60 * 1_000_000;

/// Most deckies that an alert names.
const MAX_DECKIES: usize = 500;
/// Most characters of a text of an attacker in an alert.
const MAX_TOLD: usize = 64;
/// Most ports of an approved scanner.
const MAX_PORTS: usize = 100;
/// Most characters of an approved scanner's name.
const MAX_NAME: usize = 100;
/// Most approved scanners.
pub(crate) const MAX_SCANNERS: i64 = 1_000;

/// What alerts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    FirstContact,
    CredentialWorks,
    FileCaptured,
    Traversal,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::FirstContact => "first_contact",
            Kind::CredentialWorks => "credential_works",
            Kind::FileCaptured => "file_captured",
            Kind::Traversal => "traversal",
        }
    }

    /// Which kind of alert an event of that type belongs to, whatever the attacker did before.
    pub(crate) fn of(event_type: &str) -> Option<Kind> {
        match event_type {
            "auth_success" => Some(Kind::CredentialWorks),
            "file_captured" => Some(Kind::FileCaptured),
            _ => None,
        }
    }
}

/// Events of one attacker that belong to one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) kind: Kind,
    pub(crate) attacker_id: Uuid,
    pub(crate) attacker_ip: String,
    /// In the order in which they were touched.
    pub(crate) deckies: Vec<String>,
    /// What the first of them was.
    pub(crate) detail: String,
    pub(crate) count: i64,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    /// Id of the log of the first of them.
    pub(crate) first_log: i64,
}

impl Signal {
    /// Adds an event.
    pub(crate) fn add(&mut self, decky: &str, at: i64) {
        self.count += 1;
        self.first_seen = self.first_seen.min(at);
        self.last_seen = self.last_seen.max(at);
        join(&mut self.deckies, decky);
    }
}

/// An alert. Moments are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) id: Uuid,
    pub(crate) kind: String,
    /// Nothing where it stands for many.
    pub(crate) attacker_id: Option<Uuid>,
    /// Empty where it stands for many.
    pub(crate) attacker_ip: String,
    pub(crate) deckies: Vec<String>,
    pub(crate) detail: String,
    pub(crate) count: i64,
    pub(crate) attackers: i64,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
}

impl Alert {
    /// The alert that a signal raises.
    pub(crate) fn raised(id: Uuid, signal: &Signal) -> Self {
        Alert {
            id,
            kind: signal.kind.as_str().to_owned(),
            attacker_id: Some(signal.attacker_id),
            attacker_ip: signal.attacker_ip.clone(),
            deckies: signal.deckies.clone(),
            detail: signal.detail.clone(),
            count: signal.count,
            attackers: 1,
            first_seen: signal.first_seen,
            last_seen: signal.last_seen,
        }
    }

    /// The alert that stands for many attackers, of whom this is the first.
    pub(crate) fn flood(id: Uuid, signal: &Signal) -> Self {
        let what = match signal.kind {
            Kind::FirstContact => "Many attackers who were never seen before came to deckies",
            Kind::CredentialWorks => "Many attackers logged in on deckies",
            Kind::FileCaptured => "Many attackers left files on deckies",
            Kind::Traversal => "Many attackers went from one decky to another",
        };
        let detail = format!("{what} within minutes; this stands for those who have no alert of their own.");
        Alert { attacker_id: None, attacker_ip: String::new(), detail, ..Alert::raised(id, signal) }
    }

    /// Takes more in.
    pub(crate) fn join(&mut self, signal: &Signal) {
        self.count += signal.count;
        self.first_seen = self.first_seen.min(signal.first_seen);
        self.last_seen = self.last_seen.max(signal.last_seen);
        for decky in &signal.deckies {
            join(&mut self.deckies, decky);
        }
    }

    /// Whether a signal of the same attacker and kind belongs to it.
    pub(crate) fn takes(&self, signal: &Signal) -> bool {
        signal.first_seen <= self.last_seen.saturating_add(QUIET)
            && signal.last_seen >= self.first_seen.saturating_sub(QUIET)
    }

    /// In a few words.
    pub(crate) fn title(&self) -> String {
        let who = if self.attacker_ip.is_empty() { "many attackers" } else { &self.attacker_ip };
        match self.kind.as_str() {
            "first_contact" => format!("First contact: {who}"),
            "credential_works" => format!("A credential works: {who}"),
            "file_captured" => format!("File captured: {who}"),
            _ => format!("Traversal: {who}"),
        }
    }

    /// In a sentence or two.
    pub(crate) fn message(&self) -> String {
        let mut message = self.detail.clone();
        if self.attackers > 1 {
            message.push_str(&format!(" {} attackers.", self.attackers));
        }
        if self.count > 1 {
            let deckies = match self.deckies.len() {
                1 => "1 decky".to_owned(),
                MAX_DECKIES.. => format!("{MAX_DECKIES} deckies or more"),
                many => format!("{many} deckies"),
            };
            message.push_str(&format!(" {} events on {deckies} so far.", self.count));
        }
        message
    }
}

fn join(deckies: &mut Vec<String>, decky: &str) {
    if deckies.len() < MAX_DECKIES && !decky.is_empty() && !deckies.iter().any(|known| known == decky) {
        deckies.push(decky.to_owned());
    }
}

/// A text of an attacker, as it may stand in a sentence.
pub(crate) fn told(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut told: String = text.chars().take(MAX_TOLD).map(clean).collect();
    if text.chars().nth(MAX_TOLD).is_some() {
        told.push('…');
    }
    told
}

/// Somebody who may scan decoys without an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scanner {
    pub(crate) name: String,
    pub(crate) network: IpNet,
    /// Source ports; none for all.
    pub(crate) ports: Vec<u16>,
    pub(crate) starts_at: Option<DateTime<Utc>>,
    pub(crate) ends_at: Option<DateTime<Utc>>,
}

impl Scanner {
    /// Reads what somebody wants to approve; everything that is wrong with it is noted.
    pub(crate) fn new(
        fields: &mut Fields,
        name: &str,
        network: &str,
        ports: &[u32],
        starts_at: Option<DateTime<Utc>>,
        ends_at: Option<DateTime<Utc>>,
    ) -> Option<Scanner> {
        let name = name.trim();
        fields.text("name", name, 1, MAX_NAME);
        let network = self::network(network);
        if network.is_none() {
            fields.add("network", "must be an address or a network, such as 10.1.2.0/24");
        }
        fields.check(ports.len() <= MAX_PORTS, "ports", &format!("must be at most {MAX_PORTS}"));
        let read: Vec<u16> =
            ports.iter().filter_map(|port| u16::try_from(*port).ok().filter(|port| *port > 0)).collect();
        fields.check(read.len() == ports.len(), "ports", "must each be 1 to 65535");
        let ordered = starts_at.zip(ends_at).is_none_or(|(start, end)| start < end);
        fields.check(ordered, "ends_at", "must be after starts_at");
        Some(Scanner { name: name.to_owned(), network: network?, ports: read, starts_at, ends_at })
    }

    /// Whether it is this that came from there.
    pub(crate) fn approves(&self, ip: IpAddr, port: u16, at: DateTime<Utc>) -> bool {
        self.network.contains(&ip)
            && (self.ports.is_empty() || self.ports.contains(&port))
            && self.starts_at.is_none_or(|start| start <= at)
            && self.ends_at.is_none_or(|end| at < end)
    }
}

/// An address or a network; of a network without the bits of a host.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip.to_canonical())),
        Err(_) => text.parse::<IpNet>().ok().map(|network| network.trunc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal() -> Signal {
        Signal {
            kind: Kind::FirstContact,
            attacker_id: Uuid::from_u128(1),
            attacker_ip: "203.0.113.9".into(),
            deckies: vec!["web-01".into()],
            detail: "203.0.113.9 was never seen before.".into(),
            count: 1,
            first_seen: 100,
            last_seen: 100,
            first_log: 1,
        }
    }

    #[test]
    fn an_alert_says_how_much_it_groups() {
        let mut alert = Alert::raised(Uuid::from_u128(7), &signal());
        assert_eq!(alert.title(), "First contact: 203.0.113.9");
        assert_eq!(alert.message(), "203.0.113.9 was never seen before.");
        let mut more = signal();
        more.add("web-02", 300);
        more.add("web-02", 50);
        assert_eq!((more.count, more.first_seen, more.last_seen), (3, 50, 300));
        alert.join(&more);
        assert_eq!(alert.message(), "203.0.113.9 was never seen before. 4 events on 2 deckies so far.");
        for place in 0..1_000 {
            more.add(&format!("d-{place}"), 400);
        }
        alert.join(&more);
        assert!(alert.message().ends_with("1007 events on 500 deckies or more so far."), "{}", alert.message());
    }

    #[test]
    fn what_comes_after_quiet_is_another_alert() {
        let alert = Alert::raised(Uuid::from_u128(7), &signal());
        let at = |at: i64| Signal { first_seen: at, last_seen: at, ..signal() };
        assert!(alert.takes(&at(100 + QUIET)));
        assert!(!alert.takes(&at(101 + QUIET)));
        assert!(alert.takes(&at(100 - QUIET)));
        assert!(!alert.takes(&at(99 - QUIET)));
    }

    #[test]
    fn texts_of_attackers_are_tamed() {
        assert_eq!(told("ro\u{1b}[2Jot\n"), "ro\u{fffd}[2Jot\u{fffd}");
        assert_eq!(told(&"ä".repeat(100)).chars().count(), MAX_TOLD + 1);
    }

    fn scanner(network: &str, ports: &[u32]) -> Result<Scanner, aegis_error::Failure> {
        let mut fields = Fields::default();
        let scanner = Scanner::new(&mut fields, "nightly", network, ports, moment(10), moment(20));
        fields.finish()?;
        Ok(scanner.unwrap())
    }

    fn moment(seconds: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(seconds, 0)
    }

    #[test]
    fn a_scanner_is_approved_by_address_port_and_time() {
        let scanner = scanner("10.1.2.3/24", &[40_000]).unwrap();
        assert_eq!(scanner.network.to_string(), "10.1.2.0/24");
        let approves = |ip: &str, port, at| scanner.approves(ip.parse().unwrap(), port, moment(at).unwrap());
        assert!(approves("10.1.2.77", 40_000, 10));
        assert!(!approves("10.1.3.1", 40_000, 10));
        assert!(!approves("10.1.2.77", 40_001, 10));
        assert!(!approves("10.1.2.77", 40_000, 9));
        assert!(!approves("10.1.2.77", 40_000, 20));
        assert!(!approves("2001:db8::1", 40_000, 10));
        let one = self::scanner("::ffff:10.1.2.3", &[]).unwrap();
        assert!(one.approves("10.1.2.3".parse().unwrap(), 1, moment(15).unwrap()));
    }

    #[test]
    fn all_that_is_wrong_with_a_scanner_is_told() {
        let mut fields = Fields::default();
        Scanner::new(&mut fields, " ", "10.1.2.0/33", &[0, 70_000], moment(20), moment(10));
        let failure = fields.finish().unwrap_err();
        let wrong: Vec<_> = failure.fields().iter().map(|field| field.field.as_str()).collect();
        assert_eq!(wrong, ["name", "network", "ports", "ends_at"]);
        assert!(scanner("nowhere", &[]).is_err());
        assert!(scanner("10.0.0.1", &[1; 101]).is_err());
    }
}
