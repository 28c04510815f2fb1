//! Techniques and tactics.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::status::Status;

/// Most tactics and most platforms of a technique.
pub const MAX_WORDS: usize = 64;
/// Characters of a name.
pub const MAX_NAME: usize = 512;
/// Characters of a description.
pub const MAX_DESCRIPTION: usize = 100_000;

/// An ATT&CK matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// Enterprise.
    Enterprise,
    /// Mobile.
    Mobile,
    /// Industrial control systems.
    Ics,
}

impl Domain {
    /// All of them.
    pub const ALL: [Domain; 3] = [Domain::Enterprise, Domain::Mobile, Domain::Ics];
    /// The names of [`Domain::ALL`].
    pub const NAMES: [&'static str; 3] = ["enterprise", "mobile", "ics"];

    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Domain::Enterprise => "enterprise",
            Domain::Mobile => "mobile",
            Domain::Ics => "ics",
        }
    }

    /// The domain of that name.
    pub fn parse(name: &str) -> Option<Domain> {
        Domain::ALL.into_iter().find(|domain| domain.as_str() == name)
    }
}

/// Where an entry of the catalogue comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Part of the product, until the first sync.
    Starter,
    /// A MITRE ATT&CK document.
    MitreAttack,
    /// An administrator.
    Custom,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 3] = [Source::Starter, Source::MitreAttack, Source::Custom];

    /// The name on every interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Starter => "starter",
            Source::MitreAttack => "mitre_attack",
            Source::Custom => "custom",
        }
    }

    /// The source of that name.
    pub fn parse(name: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

/// Which content fields a person set; a sync leaves those alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PersonSet(i64);

impl PersonSet {
    /// The name.
    pub const NAME: PersonSet = PersonSet(1);
    /// The description.
    pub const DESCRIPTION: PersonSet = PersonSet(2);
    /// The tactics.
    pub const TACTICS: PersonSet = PersonSet(4);
    /// The platforms.
    pub const PLATFORMS: PersonSet = PersonSet(8);

    /// As it is stored.
    pub fn bits(self) -> i64 {
        self.0
    }

    /// From what is stored.
    pub fn from_bits(bits: i64) -> PersonSet {
        PersonSet(bits & 15)
    }

    /// Marks a field.
    pub fn add(&mut self, field: PersonSet) {
        self.0 |= field.0;
    }

    /// Whether a field is marked.
    pub fn has(self, field: PersonSet) -> bool {
        self.0 & field.0 != 0
    }
}

/// A technique or sub-technique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Technique {
    /// Ours.
    pub id: Uuid,
    /// Such as `T1059.001`; unique in its domain.
    pub mitre_id: String,
    /// Its matrix.
    pub domain: Domain,
    /// Its name.
    pub name: String,
    /// Markdown. Lists leave it out.
    pub description: Option<String>,
    /// Its page at the publisher.
    pub url: Option<String>,
    /// The id has a part after the dot.
    pub is_subtechnique: bool,
    /// The part before the dot.
    pub parent_mitre_id: Option<String>,
    /// The technique's own version at the publisher.
    pub attack_version: Option<String>,
    /// As the publisher spells them.
    pub platforms: Vec<String>,
    /// Short names; the first is the technique's `tactic`.
    pub tactics: Vec<String>,
    /// From its tests.
    pub status_computed: Status,
    /// From an administrator; wins.
    pub status_override: Option<Status>,
    /// It changed since a lead looked at it.
    pub review_required: bool,
    /// When a lead last looked at it.
    pub last_reviewed_at: Option<DateTime<Utc>>,
    /// Which lead: a username.
    pub last_reviewed_by: Option<String>,
    /// Withdrawn by the publisher, mostly for a successor.
    pub revoked: bool,
    /// ATT&CK id of the successor.
    pub revoked_by: Option<String>,
    /// No longer maintained, or no longer in the publisher's document.
    pub deprecated: bool,
    /// Where it comes from.
    pub source: Source,
    /// The publisher's identity of it.
    pub stix_id: Option<String>,
    /// Hash of the publisher's object.
    pub content_hash: Option<Vec<u8>>,
    /// What a sync leaves alone.
    pub person_set: PersonSet,
    /// Grows by one with every change.
    pub version: i64,
    /// When it came into the catalogue.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Technique {
    /// A technique that nothing is known of but who it is.
    pub fn new(mitre_id: String, domain: Domain, source: Source, now: DateTime<Utc>) -> Technique {
        let parent = parent(&mitre_id).map(str::to_owned);
        Technique {
            id: Uuid::now_v7(),
            domain,
            name: String::new(),
            description: None,
            url: None,
            is_subtechnique: parent.is_some(),
            parent_mitre_id: parent,
            mitre_id,
            attack_version: None,
            platforms: Vec::new(),
            tactics: Vec::new(),
            status_computed: Status::default(),
            status_override: None,
            review_required: false,
            last_reviewed_at: None,
            last_reviewed_by: None,
            revoked: false,
            revoked_by: None,
            deprecated: false,
            source,
            stix_id: None,
            content_hash: None,
            person_set: PersonSet::default(),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// The status that everyone sees.
    pub fn status(&self) -> Status {
        self.status_override.unwrap_or(self.status_computed)
    }

    /// Notes a change.
    pub fn touch(&mut self, now: DateTime<Utc>) {
        self.version += 1;
        self.updated_at = now;
    }
}

/// A column of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tactic {
    /// Ours.
    pub id: Uuid,
    /// Such as `TA0002`; unique in its domain.
    pub mitre_id: String,
    /// Such as `execution`.
    pub short_name: String,
    /// Its name.
    pub name: String,
    /// Its matrix.
    pub domain: Domain,
    /// Its column, from 0.
    pub position: i64,
    /// No longer in the matrix.
    pub deprecated: bool,
    /// Where it comes from.
    pub source: Source,
    /// The publisher's identity of it.
    pub stix_id: Option<String>,
}

/// Whether a text is the id of a technique: `T` and four digits, for a sub-technique a dot and three more.
pub fn is_mitre_id(text: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = text.strip_prefix('T') else { return false };
    match rest.split_once('.') {
        Some((technique, part)) => digits(technique, 4) && digits(part, 3),
        None => digits(rest, 4),
    }
}

/// The technique of a sub-technique's id.
pub fn parent(mitre_id: &str) -> Option<&str> {
    mitre_id.split_once('.').map(|(technique, _)| technique)
}

/// A tactic's short name, from how a person may write it (`Initial Access`).
pub fn short_name(text: &str) -> String {
    text.trim().to_lowercase().replace(' ', "-")
}

/// Platform names in their one form, lower case, each once, in their order.
pub fn platform_names<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    unique(names.into_iter().map(|name| name.trim().to_lowercase()))
}

/// The first of each, in their order.
pub fn unique(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    words.filter(|word| seen.insert(word.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_techniques() {
        for good in ["T1059", "T1059.001", "T0800"] {
            assert!(is_mitre_id(good), "{good}");
        }
        for bad in [
            "",
            "T",
            "T105",
            "T10590",
            "t1059",
            "T1059.",
            "T1059.01",
            "T1059.0011",
            "T1059.001.1",
            "TA0001",
            "T１０５９",
        ] {
            assert!(!is_mitre_id(bad), "{bad}");
        }
        assert_eq!(parent("T1059.001"), Some("T1059"));
        assert_eq!(parent("T1059"), None);
        assert_eq!(short_name(" Initial Access "), "initial-access");
    }
}
