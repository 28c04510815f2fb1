//! What a document must be before anything of it is applied.

use std::collections::HashSet;

use aegis_error::Fields;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Document, Header};
use crate::{
    domain::{
        import::{TacticRecord, TechniqueRecord},
        knowledge::{Incoming, KINDS, Link, MITRE_ATTACK, RELATIONS, TECHNIQUE},
        technique::{Domain, MAX_DESCRIPTION, MAX_NAME, MAX_WORDS, is_mitre_id},
        template::{NO_DETAILS, SEVERITIES, TemplateRecord},
    },
    error::Error,
};

/// Techniques of a document at most.
const MAX_TECHNIQUES: usize = 20_000;
/// Tactics of a document at most.
const MAX_TACTICS: usize = 1_000;
/// Templates of a document at most.
const MAX_TEMPLATES: usize = 20_000;
/// Records of other kinds at most.
const MAX_RECORDS: usize = 50_000;
/// Links of a document at most.
const MAX_LINKS: usize = 200_000;
/// Bytes of a document's records at most.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Problems that are told at once.
const MOST_PROBLEMS: usize = 20;
/// Characters of a key or of a publisher's id. Two of them must fit into an entry of an index.
const MAX_KEY: usize = 300;
/// Characters of a procedure, as publishers write them.
const MAX_PROCEDURE: usize = 200_000;
/// Characters of a rule, and of what a record has besides.
const MAX_CONTENT: usize = 1_000_000;
/// Names of a record.
const MAX_ALIASES: usize = 1_000;
/// Characters of an address.
const MAX_URL: usize = 4_096;

/// A document that can be applied.
pub(super) struct Checked {
    /// Without its links.
    pub document: Document,
    /// Its matrix; of ATT&CK documents only.
    pub domain: Option<Domain>,
    /// Its links, and what each is known by.
    pub links: Vec<(Uuid, Link)>,
}

/// Whether a document has more than can be taken in, as far as it was read.
pub(crate) fn too_large(document: &Document, bytes: usize) -> Result<(), Error> {
    if bytes > MAX_BYTES
        || document.techniques.len() > MAX_TECHNIQUES
        || document.tactics.len() > MAX_TACTICS
        || document.templates.len() > MAX_TEMPLATES
        || document.knowledge.len() > MAX_RECORDS
        || document.links.len() > MAX_LINKS
    {
        return Err(Error::TooLarge(format!(
            "a document has at most {MAX_TECHNIQUES} techniques, {MAX_TACTICS} tactics, {MAX_TEMPLATES} templates, \
             {MAX_RECORDS} other records, {MAX_LINKS} links and {} MiB; nothing was changed",
            MAX_BYTES >> 20
        )));
    }
    Ok(())
}

/// Checks all of a document.
pub(super) fn check(mut document: Document) -> Result<Checked, Error> {
    let domain = header(&mut document)?;
    too_large(&document, 0)?;
    let mut problems = Problems::default();
    let mut seen = HashSet::new();
    for (index, record) in document.techniques.iter().enumerate() {
        problems.of = ("techniques", index);
        technique(&mut problems, record);
        problems.check(seen.insert(record.mitre_id.as_str()), "mitre_id", "is there twice");
        problems.check(seen.insert(record.stix_id.as_str()), "stix_id", "is there twice");
    }
    for (index, record) in document.tactics.iter().enumerate() {
        problems.of = ("tactics", index);
        tactic(&mut problems, record);
        problems.check(seen.insert(record.mitre_id.as_str()), "mitre_id", "is there twice");
        problems.check(seen.insert(record.stix_id.as_str()), "stix_id", "is there twice");
    }
    let mut seen = HashSet::new();
    for (index, record) in document.templates.iter_mut().enumerate() {
        problems.of = ("templates", index);
        template(&mut problems, record);
        problems.check(seen.insert(record.source_id.as_str()), "source_id", "is there twice");
    }
    let mut seen = HashSet::new();
    for (index, incoming) in document.knowledge.iter_mut().enumerate() {
        problems.of = ("knowledge", index);
        knowledge(&mut problems, incoming);
        let record = &incoming.record;
        problems.check(seen.insert((record.kind, record.key.as_str())), "key", "is there twice");
    }
    let mut seen = HashSet::new();
    for (index, record) in document.links.iter_mut().enumerate() {
        problems.of = ("links", index);
        link(&mut problems, record);
        problems.check(seen.insert(record.ends()), "to_key", "the same two are linked twice in the same way");
    }
    problems.fields.finish()?;
    let links = std::mem::take(&mut document.links);
    let links = links.into_iter().map(|link| (link.id(), link)).collect();
    Ok(Checked { document, domain, links })
}

/// The header, with the name of the data source filled in; answers the matrix.
fn header(document: &mut Document) -> Result<Option<Domain>, Error> {
    let has_matrix = !document.techniques.is_empty() || !document.tactics.is_empty();
    let empty =
        !has_matrix && document.templates.is_empty() && document.knowledge.is_empty() && document.links.is_empty();
    let header: &mut Header = &mut document.header;
    let mut fields = Fields::default();
    let name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b));
    let domain = Domain::parse(&header.domain);
    if has_matrix || !header.domain.is_empty() {
        fields.one_of("source", &header.source, &[MITRE_ATTACK]);
        fields.one_of("domain", &header.domain, &Domain::NAMES);
    } else {
        fields.text("source", &header.source, 1, 64);
        fields.check(name(&header.source), "source", "must have small letters, digits and '_' only");
    }
    fields.text("origin", &header.origin, 0, 64);
    fields.check(name(&header.origin), "origin", "must have small letters, digits and '_' only");
    fields.text("upstream_version", &header.upstream_version, 0, 64);
    fields.finish()?;
    if empty {
        return Err(Error::Document("the document has no records; nothing was changed".into()));
    }
    if domain.is_some() && document.techniques.is_empty() && !header.partial {
        return Err(Error::Document("the document has no techniques; nothing was changed".into()));
    }
    if header.origin.is_empty() {
        header.origin = match domain {
            Some(domain) => format!("{}_{}", header.source, domain.as_str()),
            None => header.source.clone(),
        };
    }
    Ok(domain)
}

/// The first problems of a document. Names of fields are made only for those: a document has thousands of records.
#[derive(Default)]
struct Problems {
    of: (&'static str, usize),
    count: usize,
    fields: Fields,
}

impl Problems {
    fn check(&mut self, good: bool, field: &str, problem: &str) {
        if !good && self.count < MOST_PROBLEMS {
            self.count += 1;
            let (list, index) = self.of;
            self.fields.add(format!("{list}[{index}].{field}"), problem);
        }
    }

    /// At most `max` characters, and none that a database refuses.
    fn text(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let length = if text.len() <= max { text.len().min(1) } else { text.chars().count() };
        self.check(length >= min && length <= max && !text.contains('\0'), field, "has a wrong length or a NUL");
    }

    fn optional(&mut self, field: &str, text: &Option<String>, max: usize) {
        self.text(field, text.as_deref().unwrap_or_default(), 0, max);
    }

    fn words(&mut self, field: &str, words: &[String]) {
        self.check(words.len() <= MAX_WORDS, field, "has too many entries");
        for word in words {
            self.text(field, word, 1, 100);
        }
    }

    fn severity(&mut self, severity: &str) {
        self.check(
            SEVERITIES.contains(&severity),
            "severity",
            "must be one of informational, low, medium, high, critical",
        );
    }

    fn hash(&mut self, hash: &[u8]) {
        self.check(hash.len() == 32, "content_hash", "must have 32 bytes");
    }

    /// A JSON object; an empty text is one without anything in it.
    fn object(&mut self, field: &str, text: &str) -> Map<String, Value> {
        self.json(field, text, "must be a JSON object")
    }

    fn json<T: serde::de::DeserializeOwned + Default>(&mut self, field: &str, text: &str, problem: &str) -> T {
        self.check(text.len() <= MAX_CONTENT, field, "is too long");
        if text.is_empty() || text.len() > MAX_CONTENT {
            return T::default();
        }
        // PostgreSQL's JSON has no NUL; the letters of one, as commands have them, are no NUL.
        let nul = text.contains("\\u0000") && serde_json::from_str::<Value>(text).is_ok_and(|value| holds_nul(&value));
        self.check(!nul, field, "has a NUL");
        serde_json::from_str(text).unwrap_or_else(|_| {
            self.check(false, field, problem);
            T::default()
        })
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

fn technique(problems: &mut Problems, record: &TechniqueRecord) {
    problems.check(is_mitre_id(&record.mitre_id), "mitre_id", "must look like T1059 or T1059.001");
    problems.text("stix_id", &record.stix_id, 1, 128);
    problems.text("name", &record.name, 1, MAX_NAME);
    problems.optional("description", &record.description, MAX_DESCRIPTION);
    problems.words("tactics", &record.tactics);
    problems.words("platforms", &record.platforms);
    problems.optional("parent_mitre_id", &record.parent_mitre_id, 64);
    problems.optional("revoked_by", &record.revoked_by, 64);
    problems.optional("attack_version", &record.attack_version, 64);
    problems.optional("url", &record.url, 2048);
    problems.hash(&record.content_hash);
}

fn tactic(problems: &mut Problems, record: &TacticRecord) {
    problems.text("mitre_id", &record.mitre_id, 1, 16);
    problems.text("stix_id", &record.stix_id, 1, 128);
    problems.text("short_name", &record.short_name, 1, 100);
    problems.text("name", &record.name, 1, MAX_NAME);
}

fn template(problems: &mut Problems, record: &mut TemplateRecord) {
    problems.text("source_id", &record.source_id, 1, MAX_KEY);
    problems.text("name", &record.name, 1, MAX_NAME);
    problems.optional("description", &record.description, MAX_DESCRIPTION);
    problems.check(is_mitre_id(&record.mitre_technique_id), "mitre_technique_id", "must look like T1059 or T1059.001");
    problems.words("platforms", &record.platforms);
    problems.severity(&record.severity);
    problems.optional("attack_procedure", &record.attack_procedure, MAX_PROCEDURE);
    problems.optional("tool_suggested", &record.tool_suggested, MAX_PROCEDURE);
    problems.optional("suggested_remediation", &record.suggested_remediation, MAX_PROCEDURE);
    problems.optional("expected_detection", &record.expected_detection, MAX_PROCEDURE);
    problems.optional("cleanup_procedure", &record.cleanup_procedure, MAX_PROCEDURE);
    problems.object("details_json", &record.details);
    if record.details.is_empty() {
        NO_DETAILS.clone_into(&mut record.details);
    }
    problems.hash(&record.content_hash);
}

fn knowledge(problems: &mut Problems, incoming: &mut Incoming) {
    let record = &mut incoming.record;
    problems.check(KINDS.contains(&record.kind), "kind", "is none that is known");
    problems.text("key", &record.key, 1, MAX_KEY);
    problems.text("source_id", &record.source_id, 0, MAX_KEY);
    problems.text("name", &record.name, 1, MAX_NAME);
    problems.optional("description", &record.description, MAX_DESCRIPTION);
    problems.check(record.aliases.len() <= MAX_ALIASES, "aliases", "has too many entries");
    for alias in &record.aliases {
        problems.text("aliases", alias, 1, MAX_NAME);
    }
    problems.words("platforms", &record.platforms);
    problems.optional("url", &record.url, MAX_URL);
    problems.optional("revoked_by", &record.revoked_by, MAX_KEY);
    if let Some(severity) = &record.severity {
        problems.severity(severity);
    }
    problems.optional("status", &record.status, 64);
    problems.optional("country", &record.country, 64);
    problems.optional("motivation", &record.motivation, MAX_NAME);
    problems.optional("collection", &record.collection, MAX_KEY);
    problems.optional("content", &record.content, MAX_CONTENT);
    record.attributes = problems.object("attributes_json", &std::mem::take(&mut incoming.attributes_json));
    problems.hash(&incoming.content_hash);
}

fn link(problems: &mut Problems, record: &mut Link) {
    for (field, kind) in [("from_kind", record.from_kind), ("to_kind", record.to_kind)] {
        problems.check(kind == TECHNIQUE || KINDS.contains(&kind), field, "is none that is known");
    }
    problems.text("from_key", &record.from_key, 1, MAX_KEY);
    problems.check(RELATIONS.contains(&record.relation), "relation", "is none that is known");
    problems.text("to_key", &record.to_key, 1, MAX_KEY);
    problems.optional("description", &record.description, MAX_DESCRIPTION);
    if record.references.is_empty() {
        "[]".clone_into(&mut record.references);
    } else if record.references != "[]" {
        let _: Vec<Map<String, Value>> =
            problems.json("references_json", &record.references, "must be a JSON array of objects");
    }
}
