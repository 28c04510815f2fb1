//! How events are found among millions: runs of up to 65,536 events, each with what occurs in which of them.
//!
//! A term is a number: the hash of a key and its text, or of a word. A word is what has no white space in it, so that
//! a text without white space that is somewhere in an event is somewhere in one of its words: the words of a run are one
//! text, and looking through that is quick. What occurs where is a list of places within the run, or one bit for each.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use memchr::{memchr, memmem::Finder, memrchr};

use super::{
    bits::Bits,
    event::{Event, Log},
    search::{Key, fold, texts},
};

/// Events of a run.
pub(crate) const RUN: usize = 65_536;
/// Bytes of words after which a run ends early.
const MAX_WORDS: usize = 16 * 1024 * 1024;
/// Terms are kept in so many parts, by the first bits of their hashes.
pub(crate) const SHARDS: usize = 256;
/// With as many places or more, a term has one bit for each.
const DENSE: usize = BITMAP / 2;
/// Bytes of a bit for each.
const BITMAP: usize = RUN / 8;

/// The term of a key and its text.
pub(crate) fn term(key: &Key, value: &str) -> u64 {
    match key {
        Key::Decky => hash("\u{1}d", value),
        Key::Service => hash("\u{1}s", value),
        Key::EventType => hash("\u{1}e", value),
        Key::AttackerIp => hash("\u{1}a", value),
        Key::AttackerPort => hash("\u{1}p", value),
        Key::Session => hash("\u{1}i", value),
        Key::Technique => hash("\u{1}t", value),
        Key::Field(name) => hash(name, value),
    }
}

/// The part of the index that has a term.
pub(crate) fn shard(term: u64) -> usize {
    usize::try_from(term >> 56).unwrap_or(0)
}

/// FNV-1a with a last mixing; it is stored, so it stays as it is.
fn hash(key: &str, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = key.bytes().chain([0xff]).chain(text.bytes()).fold(0xcbf2_9ce4_8422_2325, step);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn word_term(word: &str) -> u64 {
    hash("", word)
}

/// Spreads terms over a table in a way that attackers, who choose the words, do not know.
#[derive(Clone)]
struct Spread(u64, u64);

struct Spreader(u64, u64, u64);

impl Default for Spread {
    fn default() -> Self {
        let random = RandomState::new();
        Spread(random.hash_one(1), random.hash_one(2) | 1)
    }
}

impl BuildHasher for Spread {
    type Hasher = Spreader;

    fn build_hasher(&self) -> Spreader {
        Spreader(self.0, self.1, 0)
    }
}

impl Hasher for Spreader {
    fn finish(&self) -> u64 {
        self.2
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.2 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, term: u64) {
        let product = u128::from(term ^ self.0) * u128::from(self.1);
        self.2 = u64::try_from(product >> 64).unwrap_or(0) ^ u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
    }
}

/// A run of events that grows.
#[derive(Debug)]
pub(crate) struct Run {
    first_id: i64,
    /// Microseconds.
    times: Vec<i64>,
    min_at: i64,
    max_at: i64,
    terms: HashMap<u64, Vec<u16>, Spread>,
    /// With a line break before, between and after.
    words: String,
    folded: String,
}

impl std::fmt::Debug for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spread")
    }
}

/// A run of events that is whole, as it is stored.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) first_id: i64,
    pub(crate) last_id: i64,
    pub(crate) min_at: i64,
    pub(crate) max_at: i64,
    pub(crate) times: Vec<u8>,
    pub(crate) words: Vec<u8>,
    /// The parts that have terms.
    pub(crate) shards: Vec<(usize, Vec<u8>)>,
}

impl Run {
    /// An empty run that begins with the event of this id.
    pub(crate) fn new(first_id: i64) -> Self {
        let terms = HashMap::with_hasher(Spread::default());
        let (times, words, folded) = (Vec::new(), "\n".to_owned(), String::new());
        Run { first_id, times, min_at: i64::MAX, max_at: i64::MIN, terms, words, folded }
    }

    pub(crate) fn first_id(&self) -> i64 {
        self.first_id
    }

    /// Of its last event; of the one before its first where it is empty.
    pub(crate) fn last_id(&self) -> i64 {
        self.first_id + i64::try_from(self.times.len()).unwrap_or(i64::MAX) - 1
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether the next event belongs to the next run.
    pub(crate) fn is_full(&self) -> bool {
        self.times.len() >= RUN || self.words.len() >= MAX_WORDS
    }

    /// When its events happened, in microseconds.
    pub(crate) fn times(&self) -> &[i64] {
        &self.times
    }

    /// When its first and its last one happened.
    pub(crate) fn span(&self) -> (i64, i64) {
        (self.min_at, self.max_at)
    }

    /// Takes in the event after its last one. One that is not that changes nothing.
    pub(crate) fn add(&mut self, log: &Log) {
        let Ok(place) = u16::try_from(self.times.len()) else { return };
        if log.id != self.last_id() + 1 {
            return;
        }
        let at = log.at.timestamp_micros();
        self.times.push(at);
        (self.min_at, self.max_at) = (self.min_at.min(at), self.max_at.max(at));
        self.add_terms(log, place);
        let mut folded = std::mem::take(&mut self.folded);
        texts(log, |text| {
            fold(text, &mut folded);
            for word in folded.split_whitespace() {
                if post(&mut self.terms, word_term(word), place) {
                    self.words.push_str(word);
                    self.words.push('\n');
                }
            }
        });
        self.folded = folded;
    }

    fn add_terms(&mut self, event: &Event, place: u16) {
        let mut add = |key: &Key, value: &str| post(&mut self.terms, term(key, value), place);
        add(&Key::Decky, &event.decky);
        add(&Key::Service, &event.service);
        add(&Key::EventType, event.event_type);
        add(&Key::AttackerIp, &event.attacker_ip);
        if event.attacker_port > 0 {
            add(&Key::AttackerPort, &event.attacker_port.to_string());
        }
        if !event.session_id.is_empty() {
            add(&Key::Session, &event.session_id);
        }
        for technique in event.techniques() {
            add(&Key::Technique, technique);
        }
        for (name, value) in event.fields.pairs() {
            post(&mut self.terms, hash(name, value), place);
        }
    }

    /// Where a term occurs.
    pub(crate) fn places(&self, term: u64) -> Bits {
        let mut bits = Bits::none();
        for place in self.terms.get(&term).into_iter().flatten() {
            bits.set(usize::from(*place));
        }
        bits
    }

    /// Where a text is part of a word.
    pub(crate) fn containing(&self, text: &Finder<'_>) -> Bits {
        let mut bits = Bits::none();
        for term in words_containing(self.words.as_bytes(), text) {
            for place in self.terms.get(&term).into_iter().flatten() {
                bits.set(usize::from(*place));
            }
        }
        bits
    }

    /// As it is stored.
    pub(crate) fn seal(&self) -> Sealed {
        let mut terms: Vec<(u64, &[u16])> =
            self.terms.iter().map(|(term, places)| (*term, places.as_slice())).collect();
        terms.sort_unstable_by_key(|(term, _)| *term);
        let shards = terms.chunk_by(|(a, _), (b, _)| shard(*a) == shard(*b));
        let shards = shards.filter_map(|terms| Some((shard(terms.first()?.0), encode_shard(terms)))).collect();
        Sealed {
            first_id: self.first_id,
            last_id: self.last_id(),
            min_at: self.min_at,
            max_at: self.max_at,
            times: encode_times(&self.times),
            words: self.words.clone().into_bytes(),
            shards,
        }
    }
}

/// True where the term is new.
fn post(terms: &mut HashMap<u64, Vec<u16>, Spread>, term: u64, place: u16) -> bool {
    let places = terms.entry(term).or_default();
    if places.last() == Some(&place) {
        return false;
    }
    places.push(place);
    places.len() == 1
}

/// The terms of all words that contain a text, of words with line breaks around them.
pub(crate) fn words_containing(words: &[u8], text: &Finder<'_>) -> Vec<u64> {
    let mut terms = Vec::new();
    let mut from = 0;
    while let Some(found) = words.get(from..).and_then(|rest| text.find(rest)) {
        let at = from + found;
        let start = words.get(..at).and_then(|before| memrchr(b'\n', before)).map_or(0, |before| before + 1);
        let end = words.get(at..).and_then(|rest| memchr(b'\n', rest)).map_or(words.len(), |length| at + length);
        if let Some(word) = words.get(start..end).and_then(|word| std::str::from_utf8(word).ok()) {
            terms.push(word_term(word));
        }
        from = end.max(at + 1);
    }
    terms
}

/// How many, then the terms in their order, then where the places of each end, then the places.
fn encode_shard(terms: &[(u64, &[u16])]) -> Vec<u8> {
    let mut out = u32::try_from(terms.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    for (term, _) in terms {
        out.extend_from_slice(&term.to_le_bytes());
    }
    let mut end = 0_u32;
    for (_, places) in terms {
        end += u32::try_from(if places.len() < DENSE { places.len() * 2 } else { BITMAP }).unwrap_or(0);
        out.extend_from_slice(&end.to_le_bytes());
    }
    for (_, places) in terms {
        if places.len() < DENSE {
            for place in *places {
                out.extend_from_slice(&place.to_le_bytes());
            }
        } else {
            let mut bits = Bits::none();
            for place in *places {
                bits.set(usize::from(*place));
            }
            for word in bits.words() {
                out.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
    out
}

/// Adds the places of a term to `bits`, of a part as it is stored. One that is damaged has none.
pub(crate) fn add_places(shard: &[u8], term: u64, bits: &mut Bits) {
    let _ = try_add_places(shard, term, bits);
}

fn try_add_places(shard: &[u8], term: u64, bits: &mut Bits) -> Option<()> {
    let (count, rest) = shard.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (terms, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
    let (ends, places) = rest.split_at_checked(count.checked_mul(4)?)?;
    let (terms, _) = terms.as_chunks::<8>();
    let (ends, _) = ends.as_chunks::<4>();
    let at = terms.binary_search_by_key(&term, |bytes| u64::from_le_bytes(*bytes)).ok()?;
    let end_of = |at: usize| usize::try_from(u32::from_le_bytes(*ends.get(at)?)).ok();
    let start = if at == 0 { 0 } else { end_of(at - 1)? };
    let places = places.get(start..end_of(at)?)?;
    if places.len() == BITMAP {
        let (words, _) = places.as_chunks::<8>();
        for (to, from) in bits.words_mut().zip(words) {
            *to |= u64::from_le_bytes(*from);
        }
    } else {
        let (places, _) = places.as_chunks::<2>();
        for place in places {
            bits.set(usize::from(u16::from_le_bytes(*place)));
        }
    }
    Some(())
}

/// Differences in seven bits at a time; the first is the time itself.
fn encode_times(times: &[i64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(times.len() * 3);
    let mut before = 0_i64;
    for time in times {
        let step = time.wrapping_sub(before);
        before = *time;
        let mut rest = step.wrapping_shl(1).cast_unsigned() ^ (step >> 63).cast_unsigned();
        while rest >= 0x80 {
            out.push(0x80 | u8::try_from(rest & 0x7f).unwrap_or(0));
            rest >>= 7;
        }
        out.push(u8::try_from(rest).unwrap_or(0));
    }
    out
}

/// When the events of a run happened, as it is stored.
pub(crate) fn decode_times(bytes: &[u8]) -> Vec<i64> {
    let mut times = Vec::with_capacity(bytes.len() / 2);
    let (mut before, mut rest, mut shift) = (0_i64, 0_u64, 0_u32);
    for byte in bytes {
        rest |= u64::from(byte & 0x7f).wrapping_shl(shift);
        shift += 7;
        if byte & 0x80 == 0 {
            let step = (rest >> 1).cast_signed() ^ -((rest & 1).cast_signed());
            before = before.wrapping_add(step);
            times.push(before);
            (rest, shift) = (0, 0);
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        event::{Raw, RawFields},
        search::Search,
    };

    fn log(id: i64, user: &str, msg: &str, at: i64) -> Log {
        let raw = Raw {
            service: if id % 3 == 0 { "ssh" } else { "http" }.into(),
            event_type: "auth_fail".into(),
            msg: msg.into(),
            fields: RawFields::Pairs(vec![("username".into(), user.into())]),
            ..Raw::default()
        };
        let mut event = raw.sound(DateTime::from_timestamp_micros(at).unwrap(), &id.to_le_bytes());
        event.at = DateTime::from_timestamp_micros(at).unwrap();
        Log { id, event }
    }

    /// Of a run, or as it is stored.
    fn found(run: &Run, sealed: Option<&Sealed>, search: &Search) -> Vec<usize> {
        let mut bits = Bits::first(run.len());
        for (key, value) in &search.keyed {
            let term = term(key, value);
            bits.and(&match sealed {
                None => run.places(term),
                Some(sealed) => stored(sealed, [term]),
            });
        }
        for text in &search.anywhere {
            for word in text.split_whitespace() {
                let finder = Finder::new(word);
                bits.and(&match sealed {
                    None => run.containing(&finder),
                    Some(sealed) => stored(sealed, words_containing(&sealed.words, &finder)),
                });
            }
        }
        bits.newest_first().collect()
    }

    fn stored(sealed: &Sealed, terms: impl IntoIterator<Item = u64>) -> Bits {
        let mut bits = Bits::none();
        for term in terms {
            if let Some((_, part)) = sealed.shards.iter().find(|(at, _)| *at == shard(term)) {
                add_places(part, term, &mut bits);
            }
        }
        bits
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_look_at_each_event_finds(
            events in prop::collection::vec(("[abÄ]{0,3}", "[abcÄ \n]{0,12}", 0_i64..1 << 40), 1..80),
            key in "[abÄ]{0,3}",
            word in "[abcä]{1,3}",
        ) {
            let mut run = Run::new(5);
            let logs: Vec<Log> =
                events.iter().zip(5..).map(|((user, msg, at), id)| log(id, user, msg, *at)).collect();
            for log in &logs {
                run.add(log);
            }
            let sealed = run.seal();
            prop_assert_eq!(decode_times(&sealed.times), logs.iter().map(|l| l.at.timestamp_micros()).collect::<Vec<_>>());
            for text in [format!("username:{key}"), word.clone(), format!("{word} service:ssh"), "ssh".into(), "absent".into()] {
                let search = Search::parse(&text).unwrap();
                let mut expected: Vec<usize> = (0..logs.len()).filter(|at| search.matches(&logs[*at])).collect();
                expected.reverse();
                prop_assert_eq!(found(&run, None, &search), expected.clone(), "{}", text);
                prop_assert_eq!(found(&run, Some(&sealed), &search), expected, "{}", text);
            }
        }

        #[test]
        fn damaged_parts_have_no_places(bytes in prop::collection::vec(any::<u8>(), 0..200), term: u64) {
            add_places(&bytes, term, &mut Bits::none());
            decode_times(&bytes);
            words_containing(&bytes, &Finder::new("a"));
        }
    }

    #[test]
    fn a_term_in_most_events_is_stored_as_bits() {
        let mut run = Run::new(1);
        for id in 1..=i64::try_from(RUN).unwrap() {
            run.add(&log(id, "root", "x", 1_000_000 + id));
        }
        assert!(run.is_full());
        run.add(&log(1 + i64::try_from(RUN).unwrap(), "root", "x", 1));
        assert_eq!((run.len(), run.last_id()), (RUN, 65_536));
        let sealed = run.seal();
        for search in ["service:ssh", "service:http", "username:root", "ssh", "roo"] {
            let search = Search::parse(search).unwrap();
            assert_eq!(found(&run, Some(&sealed), &search), found(&run, None, &search));
        }
        assert!(sealed.shards.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 120_000);
    }
}
