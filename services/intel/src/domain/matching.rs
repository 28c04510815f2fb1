//! What of the known is named in a text: techniques, actors and software, by id, by whole name, and through a CVE.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, BuildError};

/// Matches that are kept of one text.
pub(crate) const MAX_MATCHES: usize = 100;
/// Names with fewer characters stand for other things too often (`at`, `Net`, `Tor`).
const MIN_NAME_CHARS: usize = 4;
/// Longer ones are no names.
const MAX_NAME_CHARS: usize = 120;

/// A technique.
pub(crate) const TECHNIQUE: &str = "technique";
/// A threat actor.
pub(crate) const THREAT_ACTOR: &str = "threat_actor";
/// Software.
pub(crate) const SOFTWARE: &str = "software";
/// A control; here only those that are CVEs, which lead to techniques.
pub(crate) const CONTROL: &str = "control";
/// Before the CVE in the key of a control of KEV.
const KEV: &str = "kev:";

/// Names and aliases that are plain English words, or words of the trade that say nothing of an attack: text that has
/// one of them is about something else more often than not. These match by id only. In their order.
#[rustfmt::skip] // one a line would be most of this file
const COMMON_WORDS: &[&str] = &[
    "accounts", "agenda", "alibaba", "aluminum", "amoeba", "anchor", "apostle", "armageddon", "aurora", "avenger",
    "axiom", "backspace", "basin", "biscuit", "bitter", "bookworm", "boron", "botnet", "bromine", "bubblewrap",
    "buckeye", "bumblebee", "butterfly", "calcium", "calendar", "calypso", "cannon", "canopy", "carbon", "cardinal",
    "castle", "chaos", "chimera", "chromium", "cicada", "cleaver", "cobalt", "compression", "confluence", "confucius",
    "copper", "covenant", "credentials", "crimson", "cron", "crutch", "cuba", "databases", "defacement", "disco",
    "domains", "donut", "dragonfly", "dune", "embargo", "emissary", "empire", "epic", "equation", "expand",
    "exploits", "explosive", "ferocious", "firmware", "flame", "foudre", "frankenstein", "gazer", "gorilla", "group",
    "hardware", "havoc", "helium", "honeybee", "hypervisor", "impersonation", "inception", "james", "kevin",
    "keychain", "krypton", "lead", "leviathan", "lexus", "longhorn", "lucifer", "lurid", "machete", "magnesium",
    "malware", "manganese", "mango", "mantis", "mask", "maze", "mercury", "meteor", "milan", "mirage", "monsoon",
    "moonlight", "mosquito", "mythic", "nickel", "ninja", "nitro", "octopus", "oxygen", "page", "pandora",
    "patchwork", "phosphorus", "photo", "pickaxe", "ping", "pioneer", "platinum", "play", "plead", "plutonium",
    "polaris", "pony", "popeye", "potassium", "prestige", "proton", "proxy", "pupa", "python", "radium", "rancor",
    "rattlesnake", "reaper", "responder", "route", "rover", "royal", "ruler", "samurai", "scarab", "scorpion",
    "scripting", "server", "serverless", "services", "shark", "sharpshooter", "siesta", "silence", "silicon",
    "slingshot", "snake", "sodium", "software", "solar", "soldier", "source", "spaceship", "spark", "strider",
    "sulphur", "summit", "superman", "swallowtail", "tick", "tool", "tools", "trap", "trident", "trinity", "triton",
    "venom", "vermin", "viper", "voyeur", "vulnerabilities", "watchdog", "wildcard", "wiper", "wraith", "zinc",
];

/// Something that has a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named {
    /// [`TECHNIQUE`], [`THREAT_ACTOR`], [`SOFTWARE`] or [`CONTROL`].
    pub kind: String,
    /// Such as `T1059.001`.
    pub key: String,
    pub name: String,
    pub aliases: Vec<String>,
    /// Of a control: the techniques that it leads to.
    pub techniques: Vec<String>,
}

/// How something was found in a text. The surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Id,
    CveMapping,
    Name,
    Alias,
}

impl By {
    /// The name on every interface.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            By::Id => "id",
            By::CveMapping => "cve_mapping",
            By::Name => "name",
            By::Alias => "alias",
        }
    }
}

/// Something known that a text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Match {
    pub kind: String,
    pub key: String,
    pub name: String,
    pub by: By,
    /// The words that matched.
    pub text: String,
}

/// Finds what is named in texts.
pub(crate) struct Matcher {
    known: Vec<Named>,
    /// By key, in upper case.
    by_id: HashMap<String, usize>,
    /// Techniques by CVE.
    by_cve: HashMap<String, Vec<usize>>,
    finder: AhoCorasick,
    /// What each pattern of the finder stands for.
    owners: Vec<Vec<(usize, By)>>,
}

impl Matcher {
    /// A matcher for all that is known.
    pub(crate) fn new(known: Vec<Named>) -> Result<Matcher, BuildError> {
        let mut by_id = HashMap::new();
        let mut patterns: BTreeMap<String, Vec<(usize, By)>> = BTreeMap::new();
        for (index, named) in known.iter().enumerate() {
            if named.kind == CONTROL {
                continue;
            }
            by_id.insert(named.key.to_uppercase(), index);
            let aliases = named.aliases.iter().map(|alias| (alias, By::Alias));
            for (text, by) in std::iter::once((&named.name, By::Name)).chain(aliases) {
                let Folded { text, .. } = Folded::new(text);
                if !is_telling(&text) {
                    continue;
                }
                let owners = patterns.entry(text).or_default();
                if owners.iter().all(|(owner, _)| *owner != index) {
                    owners.push((index, by));
                }
            }
        }
        let mut by_cve = HashMap::new();
        for control in known.iter().filter(|named| named.kind == CONTROL) {
            let Some(cve) = control.key.strip_prefix(KEV) else { continue };
            let techniques = control.techniques.iter().filter_map(|id| by_id.get(&id.to_uppercase()).copied());
            by_cve.insert(cve.to_uppercase(), techniques.collect());
        }
        let finder = AhoCorasick::new(patterns.keys())?;
        Ok(Matcher { known, by_id, by_cve, finder, owners: patterns.into_values().collect() })
    }

    /// What the text names, each once, the surest first; at most [`MAX_MATCHES`].
    pub(crate) fn find(&self, text: &str) -> Vec<Match> {
        let mut found: HashMap<usize, (By, String)> = HashMap::new();
        let mut add = |index: usize, by: By, words: &str| {
            let known = found.entry(index).or_insert_with(|| (by, words.to_owned()));
            if by < known.0 {
                *known = (by, words.to_owned());
            }
        };
        for token in tokens(text) {
            if let Some((id, words)) = attack_id(token)
                && let Some(index) = self.by_id.get(&id)
            {
                add(*index, By::Id, words);
            }
            if let Some(cve) = cve_id(token) {
                for index in self.by_cve.get(&cve.to_uppercase()).into_iter().flatten() {
                    add(*index, By::CveMapping, cve);
                }
            }
        }
        let folded = Folded::new(text);
        let mut spans: Vec<_> = self
            .finder
            .find_overlapping_iter(&folded.text)
            .filter(|hit| is_whole(&folded.text, hit.start(), hit.end()))
            .map(|hit| (hit.start(), hit.end(), hit.pattern()))
            .collect();
        // The longest name at a place is the one that is meant.
        spans.sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
        let mut reached = 0;
        for (start, end, pattern) in spans {
            if start < reached {
                continue;
            }
            reached = end;
            let words = folded.original(text, start, end);
            for (index, by) in self.owners.get(pattern.as_usize()).into_iter().flatten() {
                add(*index, *by, words);
            }
        }
        let mut matches: Vec<Match> = found
            .into_iter()
            .filter_map(|(index, (by, text))| {
                let named = self.known.get(index)?;
                Some(Match { kind: named.kind.clone(), key: named.key.clone(), name: named.name.clone(), by, text })
            })
            .collect();
        matches.sort_by(|a, b| (a.by, &a.kind, &a.key).cmp(&(b.by, &b.kind, &b.key)));
        matches.truncate(MAX_MATCHES);
        matches
    }
}

/// Whether a name says something by itself.
fn is_telling(folded: &str) -> bool {
    let chars = folded.chars().count();
    (MIN_NAME_CHARS..=MAX_NAME_CHARS).contains(&chars)
        && folded.chars().any(char::is_alphabetic)
        && COMMON_WORDS.binary_search(&folded).is_err()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether these are whole words of the text, not parts of others.
fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).and_then(|text| text.chars().next_back());
    let after = text.get(end..).and_then(|text| text.chars().next());
    !before.is_some_and(is_word) && !after.is_some_and(is_word)
}

/// The runs of letters, digits, `_` and of the `.`, `-` and `/` that stand inside of them, from each word on.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.char_indices().filter_map(move |(at, c)| {
        let begins = is_word(c) && !inside;
        inside = is_word(c);
        begins.then(|| text.get(at..)).flatten()
    })
}

/// So many digits at the beginning of a text, as bytes.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The id at the beginning of a text, such as `T1059.001` or `G0016`, and the words it was read from. A technique's may
/// be written as in the links of ATT&CK: `T1059/001`.
fn attack_id(text: &str) -> Option<(String, &str)> {
    let letter = text.chars().next().filter(|c| matches!(c.to_ascii_uppercase(), 'T' | 'G' | 'S'))?;
    if digits(text.get(1..)?) != 4 {
        return None;
    }
    let rest = text.get(5..)?;
    let base = text.get(..5)?.to_ascii_uppercase();
    if letter.eq_ignore_ascii_case(&'T')
        && let Some(sub) = rest.strip_prefix(['.', '/'])
        && digits(sub) > 0
    {
        // A third digit group that is none makes the whole token something else.
        let whole = digits(sub) == 3 && !sub.get(3..)?.chars().next().is_some_and(is_word);
        return whole.then(|| (format!("{base}.{}", &sub[..3]), &text[..9]));
    }
    (!rest.chars().next().is_some_and(is_word)).then(|| (base, &text[..5]))
}

/// The CVE at the beginning of a text.
fn cve_id(text: &str) -> Option<&str> {
    let prefix = text.get(..4)?;
    if !prefix.eq_ignore_ascii_case("CVE-") {
        return None;
    }
    let year = digits(text.get(4..)?);
    let number = text.get(4 + year..)?.strip_prefix('-')?;
    let count = digits(number);
    let end = 5 + year + count;
    let ends = !text.get(end..)?.chars().next().is_some_and(is_word);
    (year == 4 && (4..=10).contains(&count) && ends).then(|| text.get(..end)).flatten()
}

/// A text in lower case with single spaces, and where its bytes were.
struct Folded {
    text: String,
    /// For every byte of the text, where its character began, and where the whole ends.
    places: Vec<usize>,
}

impl Folded {
    fn new(original: &str) -> Folded {
        let mut folded = Folded { text: String::with_capacity(original.len()), places: Vec::new() };
        for (at, c) in original.char_indices() {
            if c.is_whitespace() {
                if !folded.text.is_empty() && !folded.text.ends_with(' ') {
                    folded.push(' ', at);
                }
                continue;
            }
            for lower in c.to_lowercase() {
                folded.push(lower, at);
            }
        }
        if folded.text.ends_with(' ') {
            folded.text.pop();
            folded.places.pop();
        }
        folded.places.push(original.len());
        folded
    }

    fn push(&mut self, c: char, at: usize) {
        self.text.push(c);
        self.places.resize(self.text.len(), at);
    }

    /// The words of the original that these bytes of the text stand for.
    fn original<'a>(&self, original: &'a str, start: usize, end: usize) -> &'a str {
        let from = self.places.get(start).copied().unwrap_or(0);
        let to = self.places.get(end).copied().unwrap_or(original.len());
        original.get(from..to).unwrap_or_default().trim()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(kind: &str, key: &str, name: &str, aliases: &[&str]) -> Named {
        let aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
        Named { kind: kind.to_owned(), key: key.to_owned(), name: name.to_owned(), aliases, techniques: Vec::new() }
    }

    fn matcher() -> Matcher {
        let mut control = named(CONTROL, "kev:CVE-2023-23397", "Outlook", &[]);
        control.techniques = vec!["T1068".to_owned(), "T9999".to_owned()];
        Matcher::new(vec![
            named(TECHNIQUE, "T1059", "Command and Scripting Interpreter", &[]),
            named(TECHNIQUE, "T1059.001", "PowerShell", &[]),
            named(TECHNIQUE, "T1546.013", "PowerShell Profile", &[]),
            named(TECHNIQUE, "T1068", "Exploitation for Privilege Escalation", &[]),
            named(TECHNIQUE, "T1588.002", "Tool", &[]),
            named(THREAT_ACTOR, "G0016", "APT29", &["Cozy Bear", "The Dukes", "Grizzly Ökonom"]),
            named(THREAT_ACTOR, "G0050", "APT32", &["SeaLotus"]),
            named(SOFTWARE, "S0154", "Cobalt Strike", &[]),
            named(SOFTWARE, "S0039", "Net", &["net.exe"]),
            control,
        ])
        .unwrap()
    }

    fn found(text: &str) -> Vec<String> {
        let show = |m: Match| format!("{} {} {}", m.key, m.by.as_str(), m.text);
        matcher().find(text).into_iter().map(show).collect()
    }

    #[test]
    fn ids_are_whole_tokens() {
        assert_eq!(found("uses T1059.001."), ["T1059.001 id T1059.001"]);
        assert_eq!(found("(t1059), attack.t1059.001"), ["T1059 id t1059", "T1059.001 id t1059.001"]);
        assert_eq!(found("https://attack.mitre.org/techniques/T1059/001/"), ["T1059.001 id T1059/001"]);
        assert_eq!(
            found("G0016 with S0154-like tools and S0039"),
            ["S0039 id S0039", "S0154 id S0154", "G0016 id G0016"]
        );
        for none in ["T10591", "XT1059", "T1059.0012", "T1059.01", "T1059_1", "éT1059", "T1059.999", "G00160", "T9999"]
        {
            assert_eq!(found(none), [""; 0], "{none}");
        }
        // A sentence may end in an id and go on with a number.
        assert_eq!(found("T1059. 001"), ["T1059 id T1059"]);
    }

    #[test]
    fn names_are_whole_words_in_any_case_and_the_longest_counts() {
        assert_eq!(found("COZY\n  BEAR strikes"), ["G0016 alias COZY\n  BEAR"]);
        assert_eq!(found("grizzly ökonom"), ["G0016 alias grizzly ökonom"]);
        assert_eq!(found("cobalt strikes, APT290, cozybear, apt29_x"), [""; 0]);
        assert_eq!(found("a powershell profile"), ["T1546.013 name powershell profile"]);
        assert_eq!(found("PowerShell, “APT29”"), ["T1059.001 name PowerShell", "G0016 name APT29"]);
        assert_eq!(found("apt32 is sealotus"), ["G0050 name apt32"]);
    }

    #[test]
    fn words_that_say_nothing_match_by_id_only() {
        assert_eq!(found("The net is a tool"), [""; 0]);
        assert_eq!(found("net.exe and T1588.002"), ["T1588.002 id T1588.002", "S0039 alias net.exe"]);
        assert!(COMMON_WORDS.is_sorted());
        assert!(COMMON_WORDS.iter().all(|word| *word == word.to_lowercase()));
    }

    #[test]
    fn a_cve_leads_to_its_techniques() {
        assert_eq!(found("patch cve-2023-23397 now"), ["T1068 cve_mapping cve-2023-23397"]);
        assert_eq!(found("CVE-2023-233971 CVE-2023-2339 XCVE-2023-23397"), [""; 0]);
        assert_eq!(found("CVE-2023-23397 T1068"), ["T1068 id T1068"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,200}") {
            for found in matcher().find(&text) {
                prop_assert!(text.contains(&found.text));
            }
        }

        #[test]
        fn a_name_between_spaces_is_always_found(before in "\\PC{0,40}", after in "\\PC{0,40}") {
            let text = format!("{before} Cobalt Strike {after}");
            prop_assert!(matcher().find(&text).iter().any(|found| found.key == "S0154"), "{}", text);
        }
    }
}
