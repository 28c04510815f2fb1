//! What several events of one attacker show together: the patterns of `data/patterns.toml`.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use super::profile::Seen;

/// Our own patterns. Their form stands at their head.
const PATTERNS: &str = include_str!("../../data/patterns.toml");
/// Logins that are remembered of an attacker, the latest.
const MAX_TRIES: usize = 32;
/// Services that are remembered to have been touched.
const MAX_TOUCHED: usize = 32;
/// Logins that worked and are remembered.
const MAX_WORKED: usize = 16;
/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Spray,
    Stuff,
    Sweep,
    Reuse,
}

/// A pattern as it is shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pattern {
    pub(crate) id: String,
    kind: Kind,
    #[serde(default)]
    at_least: usize,
    #[serde(default)]
    at_most: usize,
    #[serde(default)]
    services: Vec<String>,
    window_s: u32,
    /// ATT&CK ids.
    pub(crate) techniques: Vec<String>,
    /// Why such events show them.
    pub(crate) reason: String,
}

#[derive(Deserialize)]
struct File {
    pattern: Vec<Pattern>,
}

/// All patterns.
pub(crate) fn patterns() -> &'static [Pattern] {
    static READ: OnceLock<Vec<Pattern>> = OnceLock::new();
    // That they can be read is tested.
    READ.get_or_init(|| parse(PATTERNS).unwrap_or_default())
}

fn parse(text: &str) -> Result<Vec<Pattern>, String> {
    let patterns = toml::from_str::<File>(text).map_err(|error| error.to_string())?.pattern;
    for pattern in &patterns {
        let most = match pattern.kind {
            Kind::Spray | Kind::Stuff => MAX_TRIES,
            Kind::Sweep => MAX_TOUCHED,
            Kind::Reuse => 1,
        };
        let bounded = match pattern.kind {
            Kind::Reuse => pattern.at_least == 0,
            _ => (2..=most).contains(&pattern.at_least),
        };
        if !bounded || pattern.window_s == 0 {
            return Err(format!("the pattern {} can never hold", pattern.id));
        }
    }
    Ok(patterns)
}

/// A pattern that holds from this event on.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) pattern: &'static Pattern,
    /// What was done, as a step that somebody can repeat.
    pub(crate) act: String,
}

/// What is remembered of one attacker. Names, passwords and places are remembered by their hash: whether they are the same
/// is all that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Track {
    #[serde(rename = "t")]
    tries: VecDeque<Try>,
    /// When, and what: the decky's service.
    #[serde(rename = "s")]
    touched: VecDeque<(i64, u32)>,
    /// When, with what, and on which decky.
    #[serde(rename = "w")]
    worked: VecDeque<(i64, u32, u32)>,
    /// When a pattern held last.
    #[serde(rename = "h")]
    held: BTreeMap<String, i64>,
}

/// A pair of user name and password: when it was tried last, both, how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Try(i64, u32, u32, u32);

impl Track {
    /// What it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        let queues = self.tries.capacity() * size_of::<Try>()
            + self.touched.capacity() * size_of::<(i64, u32)>()
            + self.worked.capacity() * size_of::<(i64, u32, u32)>();
        // A tree's nodes have room to spare.
        size_of::<Self>() + queues + self.held.len() * 2 * size_of::<(String, i64)>()
    }

    /// Takes an event in; which patterns hold since then.
    pub(crate) fn take(&mut self, seen: &Seen<'_>) -> Vec<Held> {
        let place = hash(&[seen.decky, seen.service]);
        self.touched.retain(|(_, known)| *known != place);
        push(&mut self.touched, (seen.at, place), MAX_TOUCHED);
        let login = self.login(seen);
        let mut held = Vec::new();
        for pattern in patterns() {
            let window = i64::from(pattern.window_s) * SECOND;
            let since = seen.at - window;
            if self.held.get(&pattern.id).is_some_and(|last| *last > since) {
                continue;
            }
            let act = match pattern.kind {
                Kind::Sweep => self.swept(since, pattern.at_least),
                Kind::Spray if login.is_some() => self.sprayed(since, pattern),
                Kind::Stuff if login.is_some() => self.stuffed(since, pattern.at_least),
                Kind::Reuse => {
                    let here = pattern.services.is_empty() || pattern.services.iter().any(|of| of == seen.service);
                    let login = login.filter(|login| login.works && here);
                    login.and_then(|login| self.reused(since, &login, seen))
                }
                _ => None,
            };
            if let Some(act) = act {
                self.held.insert(pattern.id.clone(), seen.at);
                held.push(Held { pattern, act });
            }
        }
        if let Some(login) = login.filter(|login| login.works) {
            self.worked.retain(|(_, pair, decky)| (*pair, *decky) != (login.pair, login.decky));
            push(&mut self.worked, (seen.at, login.pair, login.decky), MAX_WORKED);
        }
        held
    }

    /// The login that an event is, if it is one with a password.
    fn login(&mut self, seen: &Seen<'_>) -> Option<Login> {
        let works = match seen.event_type {
            "auth_success" => true,
            "auth_fail" => false,
            _ => return None,
        };
        let password = seen.facts.password.as_deref().filter(|_| !seen.facts.is_public_key())?;
        // There are services without names.
        let user = seen.facts.username.as_deref().unwrap_or_default();
        let (name, secret) = (hash(&[user]), hash(&[password]));
        if !user.is_empty() {
            let known = self.tries.iter().position(|Try(_, a, b, _)| (*a, *b) == (name, secret));
            let count = known.and_then(|at| self.tries.remove(at)).map_or(0, |Try(.., count)| count);
            push(&mut self.tries, Try(seen.at, name, secret, count.saturating_add(1)), MAX_TRIES);
        }
        Some(Login { works, pair: hash(&[user, password]), decky: hash(&[seen.decky]) })
    }

    fn swept(&self, since: i64, at_least: usize) -> Option<String> {
        let touched = self.touched.iter().filter(|(at, _)| *at > since).count();
        (touched >= at_least).then(|| format!("touch {at_least} services or more in quick succession"))
    }

    fn sprayed(&self, since: i64, pattern: &Pattern) -> Option<String> {
        let tries = || self.tries.iter().filter(|Try(at, ..)| *at > since);
        let names: HashSet<u32> = tries().map(|Try(_, name, ..)| *name).collect();
        let passwords: HashSet<u32> = tries().map(|Try(_, _, password, _)| *password).collect();
        (names.len() >= pattern.at_least && passwords.len() <= pattern.at_most)
            .then(|| format!("try the same password for {} user names or more", pattern.at_least))
    }

    fn stuffed(&self, since: i64, at_least: usize) -> Option<String> {
        let tries: Vec<&Try> = self.tries.iter().filter(|Try(at, ..)| *at > since).collect();
        let distinct = |of: fn(&Try) -> u32| tries.iter().map(|one| of(one)).collect::<HashSet<u32>>().len();
        let (names, passwords) = (distinct(|one| one.1), distinct(|one| one.2));
        let all: usize = tries.iter().map(|one| one.3 as usize).sum();
        // Hardly: one of ten.
        let most = tries.len() * 9;
        let fits =
            tries.len() >= at_least && names * 10 >= most && passwords * 10 >= most && all * 9 <= tries.len() * 10;
        fits.then(|| format!("try {at_least} pairs of user name and password or more, each once"))
    }

    fn reused(&self, since: i64, login: &Login, seen: &Seen<'_>) -> Option<String> {
        let elsewhere =
            |(at, pair, decky): &(i64, u32, u32)| *at > since && *pair == login.pair && *decky != login.decky;
        self.worked.iter().any(elsewhere).then(|| {
            let user = seen.facts.username.as_deref().unwrap_or("nobody");
            format!("log in as {user} on another machine with the credential that worked before")
        })
    }
}

#[derive(Clone, Copy)]
struct Login {
    works: bool,
    pair: u32,
    decky: u32,
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// FNV-1a, the same tomorrow: what is remembered outlives the process.
fn hash(parts: &[&str]) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::facts::Facts;

    struct Scene(Track);

    impl Scene {
        fn event(
            &mut self,
            at: i64,
            decky: &str,
            service: &str,
            kind: &str,
            login: Option<(&str, &str)>,
        ) -> Vec<String> {
            let facts = Facts {
                username: login.map(|(user, _)| user.to_owned()).filter(|user| !user.is_empty()),
                password: login.map(|(_, password)| password.to_owned()),
                ..Facts::default()
            };
            let seen = Seen { at: at * SECOND, decky, service, event_type: kind, techniques: "", facts: &facts };
            let held = self.0.take(&seen).into_iter().map(|held| held.pattern.id.clone()).collect();
            // It is kept in a table between two batches.
            let kept = serde_json::to_string(&self.0).unwrap();
            assert!(kept.len() < 4_096, "{}", kept.len());
            self.0 = serde_json::from_str(&kept).unwrap();
            held
        }

        fn fail(&mut self, at: i64, user: &str, password: &str) -> Vec<String> {
            self.event(at, "web", "ssh", "auth_fail", Some((user, password)))
        }
    }

    fn scene() -> Scene {
        Scene(Track::default())
    }

    #[test]
    fn the_patterns_can_be_read() {
        let patterns = parse(PATTERNS).unwrap();
        let ids: HashSet<&str> = patterns.iter().map(|pattern| pattern.id.as_str()).collect();
        assert_eq!(ids.len(), patterns.len());
        assert!(patterns.iter().all(|pattern| pattern.reason.len() > 20 && !pattern.techniques.is_empty()));
        let bad = "[[pattern]]\nid = 'a'\nkind = 'sweep'\nat_least = 900\nwindow_s = 1\ntechniques = []\nreason = ''";
        assert!(parse(bad).is_err());
    }

    #[test]
    fn few_passwords_for_many_names_are_sprayed() {
        let mut scene = scene();
        for n in 0..5 {
            assert!(scene.fail(n, &format!("user{n}"), "Winter2026!").is_empty());
        }
        assert_eq!(scene.fail(5, "user5", "Winter2026!"), ["password-sprayed"]);
        assert!(scene.fail(6, "user6", "Winter2026!").is_empty(), "once in its time");
        for n in 0..5 {
            assert!(scene.fail(4_000 + n, &format!("user{n}"), "Summer2026!").is_empty());
        }
        assert_eq!(scene.fail(4_009, "user9", "Summer2026!"), ["password-sprayed"], "and again later");
    }

    #[test]
    fn slow_tries_and_many_passwords_are_no_spraying() {
        let mut scene = scene();
        for n in 0..20 {
            assert!(scene.fail(n * 600, &format!("user{n}"), "Winter2026!").is_empty());
        }
        let mut scene = self::scene();
        for n in 0..60 {
            assert!(scene.fail(n, "root", &format!("secret{n}")).is_empty(), "guessing is not stuffing");
        }
        let mut scene = self::scene();
        for n in 0..60 {
            let held = scene.fail(n, &format!("user{}", n % 6), &format!("secret{}", n % 7));
            assert!(held.is_empty(), "a dictionary over a few names: {held:?}");
        }
    }

    #[test]
    fn a_list_of_pairs_is_stuffed() {
        let mut scene = scene();
        for n in 0..7 {
            assert!(scene.fail(n, &format!("user{n}"), &format!("secret{n}")).is_empty());
        }
        assert_eq!(scene.fail(7, "user7", "secret7"), ["credentials-stuffed"]);
        let mut scene = self::scene();
        for n in 0..40 {
            assert!(scene.fail(n, &format!("user{}", n / 4), &format!("secret{}", n / 4)).is_empty(), "not once each");
        }
    }

    #[test]
    fn many_services_at_once_are_swept() {
        let mut scene = scene();
        for (at, service) in ["ssh", "http", "ftp", "redis"].into_iter().enumerate() {
            assert!(scene.event(at as i64, "web", service, "connect", None).is_empty());
        }
        assert!(scene.event(5, "web", "ssh", "connect", None).is_empty(), "the same again");
        assert_eq!(scene.event(6, "db", "ssh", "connect", None), ["services-swept"]);
        let mut scene = self::scene();
        for n in 0..40 {
            assert!(scene.event(n * 30, &format!("web-{n}"), "ssh", "connect", None).is_empty(), "too slow");
        }
    }

    #[test]
    fn a_credential_that_worked_is_used_elsewhere() {
        let mut scene = scene();
        let login = Some(("root", "toor"));
        assert!(scene.event(0, "web", "ssh", "auth_success", login).is_empty());
        assert!(scene.event(9, "web", "ssh", "auth_success", login).is_empty(), "the same decky");
        assert!(scene.event(10, "db", "ssh", "auth_fail", login).is_empty(), "it does not work there");
        assert!(scene.event(11, "db", "ssh", "auth_success", Some(("root", "other"))).is_empty());
        assert_eq!(
            scene.event(12, "db", "ssh", "auth_success", login),
            ["credential-reused", "credential-reused-by-ssh"]
        );
        assert_eq!(scene.event(13, "mail", "telnet", "auth_success", login), ["credential-reused-by-telnet"]);
        let mut scene = self::scene();
        assert!(scene.event(0, "a", "vnc", "auth_success", Some(("", "x"))).is_empty());
        assert_eq!(scene.event(90, "b", "vnc", "auth_success", Some(("", "x"))).len(), 2, "names are not needed");
        assert!(scene.event(200_000, "c", "mysql", "auth_success", Some(("", "x"))).is_empty(), "long ago");
    }

    #[test]
    fn hashes_stay_what_they_are() {
        // What a table holds was made by another build.
        assert_eq!((hash(&["root"]), hash(&["a", "b"]), hash(&[""])), (0x506a_30c8, 0x4024_880b, 0x2966_9922));
        assert_ne!(hash(&["a", "b"]), hash(&["ab"]));
        assert_ne!(hash(&["a", "b"]), hash(&["b", "a"]));
    }

    #[test]
    fn what_is_remembered_weighs_something() {
        let mut scene = scene();
        let before = scene.0.weight();
        for n in 0..40 {
            scene.event(n, &format!("web-{n}"), "ssh", "auth_success", Some((&format!("user{n}"), "x")));
        }
        let weight = scene.0.weight();
        assert!(weight > before + 1_500 && weight < 8_192, "{weight}");
    }
}
