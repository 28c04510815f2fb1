//! Names: of deckies, and all that makes a decky one machine of its own. Everything comes from the decky's seed, so that
//! it is the same whenever it is asked for.

use chrono::{DateTime, TimeDelta, Utc};

use super::archetypes::Archetype;

/// The longest name of a decky.
pub(crate) const MAX_NAME: usize = 63;

const SITES: [&str; 12] = ["ams", "fra", "lon", "par", "mad", "zrh", "vie", "waw", "nyc", "dal", "sea", "hq"];
const WORDS: [&str; 32] = [
    "orion", "atlas", "vega", "titan", "apollo", "hermes", "draco", "lyra", "nova", "rigel", "altair", "cygnus",
    "falcon", "osprey", "heron", "kestrel", "cedar", "maple", "birch", "willow", "granite", "basalt", "cobalt",
    "amber", "delta", "sierra", "tango", "aurora", "polaris", "juniper", "saturn", "neptune",
];
/// As Windows makes names.
const ALNUM: &[u8; 36] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Uptimes lie between these.
const UPTIME_DAYS: (i64, i64) = (2, 190);

/// What makes a decky one machine of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) system: &'static str,
    pub(crate) mac: String,
    pub(crate) hostname: String,
    pub(crate) booted_at: DateTime<Utc>,
}

/// Whether a decky may be called so: `^[a-z0-9][a-z0-9-]{0,62}$`.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('-') && name.bytes().all(allowed)
}

/// Choices that come from a seed: the same for the same label.
pub(crate) struct Seed<'a>(pub(crate) &'a [u8; 32]);

impl Seed<'_> {
    fn bytes(&self, label: &str) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.0);
        let tag = ring::hmac::sign(&key, label.as_bytes());
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        bytes
    }

    /// Below `end`; 0 for an `end` of 0.
    pub(crate) fn number(&self, label: &str, end: usize) -> usize {
        let [a, b, c, d, ..] = self.bytes(label);
        usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(0).checked_rem(end).unwrap_or(0)
    }

    fn pick<'a, T>(&self, label: &str, among: &'a [T]) -> Option<&'a T> {
        among.get(self.number(label, among.len()))
    }
}

/// The identity of a decky with this seed. `attempt` counts up while another decky has its address or name already.
pub(crate) fn identity(
    seed: &[u8; 32],
    archetype: &Archetype,
    nmap_os: Option<&str>,
    at: DateTime<Utc>,
    attempt: u32,
) -> Identity {
    let seed = Seed(seed);
    let system = seed.pick("fleet system", &archetype.systems_for(nmap_os)).copied().unwrap_or("debian_12");
    let mac = mac(&seed, archetype, attempt);
    let hostname = hostname(&seed, archetype, mac, attempt);
    let (least, most) = UPTIME_DAYS;
    let span = usize::try_from((most - least) * 86_400).unwrap_or(0);
    let up = least * 86_400 + i64::try_from(seed.number("fleet uptime", span)).unwrap_or(0);
    let booted_at = at.checked_sub_signed(TimeDelta::seconds(up)).unwrap_or(at);
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    Identity { system, mac, hostname, booted_at }
}

fn mac(seed: &Seed<'_>, archetype: &Archetype, attempt: u32) -> [u8; 6] {
    let [a, b, c] = seed.pick("fleet mac maker", archetype.makers).copied().unwrap_or([0x52, 0x54, 0x00]);
    let [mut d, e, f, ..] = seed.bytes(&format!("fleet mac {attempt}"));
    // VMware gives out 00:50:56:00 to 00:50:56:3f by hand, and 00:50:56:80 upwards by vCenter.
    if [a, b, c] == [0x00, 0x50, 0x56] {
        d |= 0x80;
    }
    [a, b, c, d, e, f]
}

/// A name by one of the archetype's patterns: `{n}`, `{nn}`, `{nnn}` are numbers, `{site}` and `{word}` words, `{ALNUM7}`
/// letters and digits as Windows chooses them, `{mac6}` the end of the network card's address; capitals as written.
fn hostname(seed: &Seed<'_>, archetype: &Archetype, mac: [u8; 6], attempt: u32) -> String {
    let pattern = seed.pick("fleet hostname pattern", archetype.hostnames).copied().unwrap_or("{word}");
    let label = |what: &str| format!("fleet hostname {what} {attempt}");
    let number = |end: usize| 1 + seed.number(&label("number"), end);
    let word = |words: &'static [&'static str], what: &str| seed.pick(&label(what), words).copied().unwrap_or("a");
    let [.., d, e, f] = mac;
    let mut name = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        name.push_str(before);
        let Some((what, after)) = after.split_once('}') else { break };
        rest = after;
        let made = match what.to_ascii_lowercase().as_str() {
            "n" => number(4).to_string(),
            "nn" => format!("{:02}", number(24)),
            "nnn" => format!("{:03}", number(240)),
            "site" => word(&SITES, "site").to_owned(),
            "word" => word(&WORDS, "word").to_owned(),
            "mac6" => format!("{d:02x}{e:02x}{f:02x}"),
            alnum => {
                let length = alnum.trim_start_matches("alnum").parse::<usize>().unwrap_or(8);
                let bytes = seed.bytes(&label("letters"));
                let letter = |byte: &u8| char::from(*ALNUM.get(usize::from(*byte) % 36).unwrap_or(&b'A'));
                bytes.iter().take(length).map(letter).collect()
            }
        };
        let capitals = what.chars().next().is_some_and(char::is_uppercase);
        name.push_str(&if capitals { made.to_ascii_uppercase() } else { made });
    }
    name.push_str(rest);
    // Some have few names: who comes late gets a number besides.
    if attempt > 8 { format!("{name}-{}", attempt - 7) } else { name }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::archetypes::{ARCHETYPES, family};

    fn seed(number: u8) -> [u8; 32] {
        [number; 32]
    }

    #[test]
    fn names_are_as_the_reference_has_them() {
        for good in ["a", "0", "decky-01", "a-", &"a".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "Decky", "a_b", "a.b", "é", "a b", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_identity_is_the_same_each_time_and_differs_between_deckies() {
        let at = "2026-05-01T12:00:00Z".parse().unwrap();
        for archetype in &ARCHETYPES {
            let one = identity(&seed(1), archetype, None, at, 0);
            assert_eq!(one, identity(&seed(1), archetype, None, at, 0));
            assert!(one.booted_at < at && archetype.systems.contains(&one.system));
            let many: Vec<_> = (0..60).map(|n| identity(&seed(n), archetype, None, at, 0)).collect();
            let macs: BTreeSet<_> = many.iter().map(|i| i.mac.clone()).collect();
            let boots: BTreeSet<_> = many.iter().map(|i| i.booted_at).collect();
            assert_eq!((macs.len(), boots.len()), (60, 60), "{}", archetype.name);
            assert!(many.iter().map(|i| &i.hostname).collect::<BTreeSet<_>>().len() > 10, "{}", archetype.name);
            // Whoever has a name already, another is found.
            let again: BTreeSet<_> =
                (0..40).map(|attempt| identity(&seed(1), archetype, None, at, attempt).hostname).collect();
            assert!(again.len() >= 30, "{}", archetype.name);
        }
    }

    proptest! {
        #[test]
        fn every_seed_gives_a_believable_identity(
            seed in any::<[u8; 32]>(),
            archetype in prop::sample::select(ARCHETYPES.iter().collect::<Vec<_>>()),
            asked in prop::option::of(prop::sample::select(vec!["linux", "windows", "centos_7", "busybox"])),
            attempt in 0..600_u32,
        ) {
            let at = "2026-05-01T12:00:00Z".parse().unwrap();
            let identity = identity(&seed, archetype, asked, at, attempt);
            prop_assert_eq!(family(identity.system), family(asked.unwrap_or(archetype.nmap_os)));
            prop_assert_eq!(identity.mac.len(), 17);
            let first = u8::from_str_radix(&identity.mac[..2], 16).unwrap();
            // Of one machine, not of a group.
            prop_assert_eq!(first & 1, 0);
            let name = identity.hostname;
            prop_assert!(!name.is_empty() && name.len() <= 20, "{}", name);
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{}", name);
            if archetype.nmap_os == "windows" && attempt <= 8 {
                prop_assert!(name.len() <= 15, "{}", name);
            }
        }
    }
}
