//! Reads an ATT&CK STIX 2.1 bundle as a stream, one object at a time, into compact records.

mod canonical;
mod collect;
mod fields;
mod graph;
mod object;
mod record;
mod relationship;
mod window;

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod knowledge_data_tests;
#[cfg(test)]
mod knowledge_tests;
#[cfg(test)]
mod real_data_tests;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::sync::mpsc;
use std::thread;

use super::knowledge::{Knowledge, Skip};
use collect::Collector;
use window::Window;

/// Objects a bundle may hold.
pub const MAX_OBJECTS: u64 = 1_000_000;
/// Bytes an object may have that becomes a record or a link.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// Bytes any object may have; a collection lists every other object and is by far the largest (2.7 MB in 18.1).
pub const MAX_VALUE_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of all the objects that become records or links, together: their JSON, and what their references and other
/// entries take in memory besides.
pub const MAX_KEPT_BYTES: u64 = 192 * 1024 * 1024;

/// Bytes of objects that are handed over at once.
const BATCH_BYTES: usize = 256 * 1024;
/// How many of those may wait.
const BATCHES: usize = 4;

/// The three ATT&CK knowledge bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Domain {
    /// Enterprise networks and clouds.
    Enterprise,
    /// Phones and tablets.
    Mobile,
    /// Industrial control systems.
    Ics,
}

impl Domain {
    /// All of them.
    pub const ALL: [Domain; 3] = [Domain::Enterprise, Domain::Mobile, Domain::Ics];

    /// The name used on the wire: `enterprise`, `mobile` or `ics`.
    pub fn as_str(self) -> &'static str {
        match self {
            Domain::Enterprise => "enterprise",
            Domain::Mobile => "mobile",
            Domain::Ics => "ics",
        }
    }

    /// The publisher's name in `x_mitre_domains`.
    fn from_publisher(name: &str) -> Option<Domain> {
        match name {
            "enterprise-attack" => Some(Domain::Enterprise),
            "mobile-attack" => Some(Domain::Mobile),
            "ics-attack" => Some(Domain::Ics),
            _ => None,
        }
    }

    /// The kill chain whose phases are this domain's tactics.
    fn from_kill_chain(name: &str) -> Option<Domain> {
        match name {
            "mitre-attack" => Some(Domain::Enterprise),
            "mitre-mobile-attack" => Some(Domain::Mobile),
            "mitre-ics-attack" => Some(Domain::Ics),
            _ => None,
        }
    }

    /// The domain a collection such as `ICS ATT&CK` is about.
    fn from_collection_name(name: &str) -> Option<Domain> {
        let name = name.to_ascii_lowercase();
        Domain::ALL
            .into_iter()
            .find(|domain| name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == domain.as_str()))
    }
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything that is kept of one bundle.
#[derive(Debug)]
pub struct AttackDocument {
    /// The knowledge base the bundle is of.
    pub domain: Domain,
    /// The release, such as `18.1`; absent in bundles without a collection object.
    pub upstream_version: Option<String>,
    /// In the order of the bundle, revoked and deprecated ones too.
    pub techniques: Vec<TechniqueRecord>,
    /// In matrix order; the ones in no live matrix last.
    pub tactics: Vec<TacticRecord>,
    /// Everything else: actors, software, campaigns, mitigations, detections, assets and how all of them are linked.
    /// What is skipped of them is told below.
    pub knowledge: Knowledge,
    /// The first records and links that could not be read.
    pub skipped: Vec<Skip>,
    /// How many could not be read.
    pub skipped_total: u64,
    /// Objects of every type in the bundle.
    pub objects_total: u64,
    /// Its `revoked-by` relationships, of techniques and of anything else.
    pub revoked_by_total: u64,
}

/// One technique or sub-technique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TechniqueRecord {
    /// The publisher's identity of the object.
    pub stix_id: String,
    /// Such as `T1059.001`.
    pub mitre_id: String,
    /// At most 512 characters.
    pub name: String,
    /// Markdown as published, citations included.
    pub description: Option<String>,
    /// Short names of this domain's tactics, in the publisher's order.
    pub tactics: Vec<String>,
    /// In the publisher's spelling, without the word `None`.
    pub platforms: Vec<String>,
    /// The id has a part after the dot.
    pub is_subtechnique: bool,
    /// The part of the id before the dot.
    pub parent_mitre_id: Option<String>,
    /// The technique's own version at the publisher, such as `1.4`.
    pub attack_version: Option<String>,
    /// The technique's page at the publisher.
    pub url: Option<String>,
    /// Replaced or withdrawn.
    pub revoked: bool,
    /// No longer maintained.
    pub deprecated: bool,
    /// ATT&CK id of the direct successor, of a revoked technique whose successor is in the bundle.
    pub revoked_by: Option<String>,
    /// SHA-256 of the object as canonical JSON without its `modified`.
    pub content_hash: [u8; 32],
}

impl TechniqueRecord {
    /// Neither revoked nor deprecated.
    pub fn is_active(&self) -> bool {
        !self.revoked && !self.deprecated
    }
}

/// One tactic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TacticRecord {
    /// The publisher's identity of the object.
    pub stix_id: String,
    /// Such as `TA0002`.
    pub mitre_id: String,
    /// Such as `execution`.
    pub short_name: String,
    /// Such as `Execution`.
    pub name: String,
    /// Column of the matrix, from 0; tactics in no live matrix come after the rest.
    pub position: i32,
    /// Revoked ones count as deprecated.
    pub deprecated: bool,
}

/// Why a whole document could not be read. The texts are for an administrator and name no path.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The bytes could not be read or unpacked.
    #[error("the document could not be read: {0}")]
    Read(#[source] std::io::Error),
    /// There are no bytes.
    #[error("the document is empty: check that the source's url points at the STIX bundle")]
    Empty,
    /// A web page came in its place.
    #[error("the document is a web page (it begins with `<`), not JSON: point the source's url at the raw STIX bundle")]
    WebPage,
    /// The JSON is wrong at a place.
    #[error("the document is not JSON at byte {byte}{place}: {detail}. Fetch it again, or check the source's url")]
    NotJson {
        /// Offset of the first wrong byte, from 0, after unpacking.
        byte: u64,
        /// Which object it is in, as text, or nothing.
        place: String,
        /// What the parser said.
        detail: String,
    },
    /// Bytes that are no UTF-8.
    #[error(
        "the document is not UTF-8 at byte {byte}{place}: the file is damaged or has another encoding; fetch it again"
    )]
    NotUtf8 {
        /// Offset of the first wrong byte, from 0, after unpacking.
        byte: u64,
        /// Which object it is in, as text, or nothing.
        place: String,
    },
    /// The bytes end too early.
    #[error("the document ends too early, after {bytes} bytes{place}: the download was cut; fetch it again")]
    Truncated {
        /// How many bytes there were.
        bytes: u64,
        /// Which object it ends in, as text, or nothing.
        place: String,
    },
    /// JSON of another kind.
    #[error(
        "the document is no STIX bundle: {0}. Point the source's url at an ATT&CK bundle such as enterprise-attack.json"
    )]
    NotABundle(String),
    /// Past a bound.
    #[error("the document is too large: {0}")]
    TooLarge(String),
    /// A STIX bundle without techniques that can be read.
    #[error(
        "the bundle holds no technique that can be read: {0}. Point the source's url at an ATT&CK bundle such as enterprise-attack.json"
    )]
    NoTechniques(String),
    /// A bundle that could be of any knowledge base.
    #[error(
        "the bundle does not say whether it is ATT&CK for Enterprise, Mobile or ICS: no collection, domain or kill chain names one"
    )]
    UnknownDomain,
}

/// Reads a bundle from unpacked bytes. `progress` is told how many bytes were read, about four times a megabyte.
///
/// Nothing but the records and a few objects at a time is in memory. A record that cannot be read is skipped and told in
/// the answer; a document that cannot be read is an error. Objects are made records of on a thread of their own, beside the
/// unpacking.
pub fn parse_attack(mut reader: impl Read, progress: &mut dyn FnMut(u64)) -> Result<AttackDocument, ParseError> {
    let (sender, batches) = mpsc::sync_channel(BATCHES);
    thread::scope(|scope| {
        let gathering = thread::Builder::new().name("stix-objects".into());
        let gathering = gathering.spawn_scoped(scope, move || gather(batches)).map_err(ParseError::Read)?;
        let mut objects = Objects { sender, batch: Batch::default() };
        let read = read_bundle(&mut Window::new(&mut reader, progress), &mut objects).and_then(|()| objects.send());
        drop(objects);
        let collector = gathering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What was wrong with an object comes before what was met after it.
        let collector = collector?;
        read?;
        collector.finish()
    })
}

/// Objects of a bundle on their way from one thread to the other.
#[derive(Default)]
struct Batch {
    text: String,
    /// The number of each object, and where in `text` it ends.
    ends: Vec<(u64, usize)>,
}

struct Objects {
    sender: mpsc::SyncSender<Batch>,
    batch: Batch,
}

impl Objects {
    fn add(&mut self, number: u64, text: &str) -> Result<(), ParseError> {
        self.batch.text.push_str(text);
        self.batch.ends.push((number, self.batch.text.len()));
        if self.batch.text.len() < BATCH_BYTES { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), ParseError> {
        let gone = |_| ParseError::Read(io::Error::other("nobody takes its objects any more"));
        self.sender.send(std::mem::take(&mut self.batch)).map_err(gone)
    }
}

fn gather(batches: mpsc::Receiver<Batch>) -> Result<Collector, ParseError> {
    let mut collector = Collector::default();
    for batch in batches {
        let mut start = 0;
        for (number, end) in batch.ends {
            collector.object(number, &batch.text[start..end])?;
            start = end;
        }
    }
    Ok(collector)
}

fn read_bundle(window: &mut Window<'_>, objects: &mut Objects) -> Result<(), ParseError> {
    window.skip_byte_order_mark()?;
    match window.peek()? {
        None => return Err(ParseError::Empty),
        Some(b'<') => return Err(ParseError::WebPage),
        Some(b'{') => window.bump(),
        Some(b'[') => {
            return Err(ParseError::NotABundle("it is a JSON list, not an object".to_owned()));
        }
        Some(_) => return Err(window.unexpected("expected `{`")),
    }
    let mut kind: Option<String> = None;
    let mut has_objects = false;
    if window.peek()? == Some(b'}') {
        window.bump();
    } else {
        loop {
            if window.peek()? != Some(b'"') {
                return Err(window.unexpected("expected the name of a member"));
            }
            let key: String = window.value_as()?;
            window.expect(b':')?;
            match key.as_str() {
                "objects" if has_objects => {
                    return Err(ParseError::NotABundle("it has `objects` twice".to_owned()));
                }
                "objects" => {
                    has_objects = true;
                    read_objects(window, objects)?;
                }
                // Of any JSON type, so that a wrong one is told as what it is.
                "type" => kind = Some(window.value()?.to_owned()),
                _ => {
                    window.value()?;
                }
            }
            if !window.next_member(b'}')? {
                break;
            }
        }
    }
    if window.peek()?.is_some() {
        return Err(window.unexpected("expected nothing after the bundle's end"));
    }
    match kind.as_deref() {
        Some("\"bundle\"") => {}
        None => return Err(ParseError::NotABundle("it has no `type`".to_owned())),
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            return Err(ParseError::NotABundle(format!("its `type` is {shown}, not \"bundle\"")));
        }
    }
    if !has_objects {
        return Err(ParseError::NotABundle("it has no `objects`".to_owned()));
    }
    Ok(())
}

fn read_objects(window: &mut Window<'_>, objects: &mut Objects) -> Result<(), ParseError> {
    match window.peek()? {
        Some(b'[') => {}
        None => return Err(window.unexpected("expected a list")),
        Some(_) => {
            return Err(ParseError::NotABundle("its `objects` is not a list".to_owned()));
        }
    }
    window.bump();
    if window.peek()? == Some(b']') {
        window.bump();
        return Ok(());
    }
    let mut number = 0;
    loop {
        number += 1;
        if number > MAX_OBJECTS {
            return Err(ParseError::TooLarge(format!("it has more than {MAX_OBJECTS} objects")));
        }
        window.set_object(Some(number));
        objects.add(number, window.value()?)?;
        if !window.next_member(b']')? {
            break;
        }
    }
    window.set_object(None);
    Ok(())
}
