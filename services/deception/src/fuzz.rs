//! For the fuzzer: everything that is read here and was made by others. Nothing of it may make one fail.

use aegis_proto::deception::v1::HandInRequest;
use chrono::{DateTime, Utc};
use prost::Message;

use crate::domain::{
    alert,
    behavior::Timing,
    bits::Bits,
    event::{Event, Raw, RawFields, address},
    facts::Facts,
    index, ini,
    lines::{Format, Reader, text},
    patterns::Track,
    profile::{Profile, Seen},
    search::Search,
    settings::Interval,
    sigma,
    tagging::tag,
    tools,
};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Each by its name.
pub const TARGETS: &[Target] = &[
    ("fleet_ini", |data| drop(ini::parse(&text(data)))),
    ("log_search", log_search),
    ("cowrie", |data| lines(Format::Cowrie, data)),
    ("opencanary", |data| lines(Format::OpenCanary, data)),
    ("syslog", |data| lines(Format::Syslog, data)),
    ("event_fields", event_fields),
    ("hand_in", hand_in),
    ("timing", timing),
    ("log_index", log_index),
    ("sigma_rule", sigma_rule),
    ("deception_words", words),
];

/// When everything happens.
const NOW: DateTime<Utc> = match DateTime::from_timestamp(1_800_000_000, 0) {
    Some(now) => now,
    None => DateTime::UNIX_EPOCH,
};

/// All that is made of an event, the first and the next of its attacker.
fn follow(raw: Raw, origin: &[u8]) -> Event {
    let event = raw.sound(NOW, origin);
    let _ = tag(&event, &sigma::Set::default());
    let facts = Facts::read(event.fields.json());
    let _ = tools::named(&facts);
    let seen = Seen {
        at: event.at.timestamp_micros(),
        decky: &event.decky,
        service: &event.service,
        event_type: event.event_type,
        techniques: &event.techniques,
        facts: &facts,
    };
    let (mut track, mut profile) = (Track::default(), Profile::new(event.id, event.attacker_ip.clone()));
    for _ in 0..2 {
        let _ = (track.take(&seen), profile.take(&seen));
    }
    profile.settle();
    let _ = (profile.search_text(), track.weight(), profile.weight());
    let fields = event.fields.pairs().len();
    assert!(fields <= 64, "{fields} fields");
    event
}

fn lines(format: Format, data: &[u8]) {
    let mut reader = Reader::new(format);
    for line in data.split(|byte| *byte == b'\n').take(32) {
        let line = text(line);
        match reader.read(&line) {
            Ok(raw) => drop(follow(raw, line.as_bytes())),
            Err(why) => assert!(!why.is_empty()),
        }
    }
}

/// A search, then a line of what is searched.
fn log_search(data: &[u8]) {
    let (search, fields) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let Ok(search) = Search::parse(&text(search)) else { return };
    let raw = Raw { msg: text(fields), fields: RawFields::Json(text(fields)), ..Raw::default() };
    let _ = search.matches(&follow(raw, fields));
}

fn event_fields(data: &[u8]) {
    let event = follow(Raw { fields: RawFields::Json(text(data)), ..Raw::default() }, data);
    // What is stored can be read, and says the same.
    let again = Raw { fields: RawFields::Json(event.fields.json().to_owned()), ..Raw::default() }.sound(NOW, data);
    assert_eq!(event.fields.pairs(), again.fields.pairs());
}

fn hand_in(data: &[u8]) {
    let Ok(request) = HandInRequest::decode(data) else { return };
    for event in request.events {
        follow(crate::rpc::intake::raw(event), data);
    }
}

fn timing(data: &[u8]) {
    if let Some(timing) = Timing::decode(data) {
        let _ = (timing.stats(), timing.weight(), timing.encode());
    }
}

fn log_index(data: &[u8]) {
    let _ = index::decode_times(data);
    let (term, shard) = data.split_at(data.len().min(8));
    let term = term.iter().fold(0, |term, byte| (term << 8) | u64::from(*byte));
    index::add_places(shard, term, &mut Bits::none());
}

/// A rule, and after a NUL the fields of an event.
fn sigma_rule(data: &[u8]) {
    let (rule, fields) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let rule = sigma::Text { key: "rule".to_owned(), content: text(rule), ..sigma::Text::default() };
    let set = sigma::Set::compile(vec![rule]);
    for event_type in ["command", "request", "connect"] {
        let fields = RawFields::Json(text(fields.get(1..).unwrap_or_default()));
        let raw = Raw { event_type: event_type.to_owned(), fields, ..Raw::default() };
        let _ = tag(&raw.sound(NOW, data), &set);
    }
}

/// Addresses, networks and intervals.
fn words(data: &[u8]) {
    let text = text(data);
    let _ = (address(&text), alert::network(&text), text.parse::<Interval>().map(|interval| interval.after(NOW)));
}
