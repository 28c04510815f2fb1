//! What a sync did, counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What became of the records of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tally {
    /// Not known before.
    pub new: i64,
    /// Known before, with other content.
    pub updated: i64,
    /// Known before, with the same content.
    pub unchanged: i64,
    /// Revoked in the document.
    pub revoked: i64,
    /// Deprecated in the document.
    pub deprecated: i64,
    /// Known before and not in the document.
    pub vanished: i64,
    /// Rows of the starter matrix that were taken away.
    pub removed: i64,
    /// Records of the document.
    pub total: i64,
}

impl Tally {
    /// The counts of the same document over again.
    fn again(self) -> Self {
        Tally {
            unchanged: self.total,
            revoked: self.revoked,
            deprecated: self.deprecated,
            total: self.total,
            ..Tally::default()
        }
    }
}

/// What a sync did. At the top are the records that the source is there for, which is what most ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    new: i64,
    updated: i64,
    unchanged: i64,
    revoked: i64,
    deprecated: i64,
    /// Records that could not be read.
    pub skipped: i64,
    /// Links to techniques that are not known here yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub links_unknown: i64,
    /// Techniques and sub-techniques, of a source that has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub techniques: Option<Tally>,
    /// Tactics, of a source that has techniques.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tactics: Option<Tally>,
    /// Everything else, by kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, Tally>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// For the log, in a line.
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { new, updated, unchanged, skipped, .. } = self;
        write!(f, "{new} new, {updated} updated, {unchanged} unchanged, {skipped} skipped")
    }
}

impl Counts {
    /// The counts of ATT&CK.
    pub(crate) fn of_techniques(techniques: Tally, tactics: Tally) -> Self {
        Counts { techniques: Some(techniques), tactics: Some(tactics), ..Counts::default() }.topped(techniques)
    }

    /// The counts of a source that is there for records of the kind `main`.
    pub(crate) fn of_kind(main: &str, kinds: BTreeMap<String, Tally>) -> Self {
        let top = kinds.get(main).copied().unwrap_or_default();
        Counts { kinds, ..Counts::default() }.topped(top)
    }

    /// The counts of the same document over again.
    pub(crate) fn again(self) -> Self {
        let top =
            Tally { unchanged: self.new + self.updated + self.unchanged, revoked: self.revoked, ..Tally::default() };
        Counts {
            techniques: self.techniques.map(Tally::again),
            tactics: self.tactics.map(Tally::again),
            kinds: self.kinds.into_iter().map(|(kind, tally)| (kind, tally.again())).collect(),
            ..self
        }
        .topped(Tally { deprecated: self.deprecated, ..top })
    }

    fn topped(self, top: Tally) -> Self {
        Counts {
            new: top.new,
            updated: top.updated,
            unchanged: top.unchanged,
            revoked: top.revoked,
            deprecated: top.deprecated,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally { new: 2, updated: 3, unchanged: 5, revoked: 1, vanished: 4, removed: 6, total: 10, ..Tally::default() }
    }

    #[test]
    fn the_same_document_again_changes_nothing() {
        let again = Counts { skipped: 7, ..Counts::of_techniques(tally(), Tally::default()) }.again();
        let json = serde_json::to_value(again).unwrap();
        for (name, value) in [("new", 0), ("updated", 0), ("unchanged", 10), ("revoked", 1), ("skipped", 7)] {
            assert_eq!(json[name], value, "{name}");
        }
        assert_eq!(json["techniques"]["vanished"], 0);
        assert_eq!(json["techniques"]["total"], 10);
    }

    #[test]
    fn at_the_top_is_what_the_source_is_there_for() {
        let kinds = BTreeMap::from([("template".to_owned(), tally()), ("link".to_owned(), Tally::default())]);
        let json = serde_json::to_value(Counts::of_kind("template", kinds)).unwrap();
        assert_eq!((&json["new"], &json["kinds"]["template"]["total"]), (&2.into(), &10.into()));
        assert!(json.get("techniques").is_none() && json.get("links_unknown").is_none());
    }

    #[test]
    fn counts_of_an_older_release_are_read() {
        let old = r#"{"new":1,"updated":0,"unchanged":2,"revoked":0,"deprecated":0,"skipped":0,
            "techniques":{"new":1,"total":3},"tactics":{"total":1}}"#;
        let counts: Counts = serde_json::from_str(old).unwrap();
        assert_eq!(counts.techniques.map(|techniques| techniques.total), Some(3));
    }
}
