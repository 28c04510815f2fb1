//! What a sync did, counted.

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

/// What a sync did. At the top are the techniques, which is what most ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    new: i64,
    updated: i64,
    unchanged: i64,
    revoked: i64,
    deprecated: i64,
    /// Records that could not be read.
    pub skipped: i64,
    /// Techniques and sub-techniques.
    pub techniques: Tally,
    /// Tactics.
    pub tactics: Tally,
}

impl Counts {
    /// The counts of a document.
    pub(crate) fn new(techniques: Tally, tactics: Tally, skipped: i64) -> Self {
        Counts {
            new: techniques.new,
            updated: techniques.updated,
            unchanged: techniques.unchanged,
            revoked: techniques.revoked,
            deprecated: techniques.deprecated,
            skipped,
            techniques,
            tactics,
        }
    }

    /// The counts of the same document over again.
    pub(crate) fn again(self) -> Self {
        Counts::new(self.techniques.again(), self.tactics.again(), self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_document_again_changes_nothing() {
        let techniques = Tally {
            new: 2,
            updated: 3,
            unchanged: 5,
            revoked: 1,
            vanished: 4,
            removed: 6,
            total: 10,
            ..Tally::default()
        };
        let again = Counts::new(techniques, Tally::default(), 7).again();
        let json = serde_json::to_value(again).unwrap();
        for (name, value) in [("new", 0), ("updated", 0), ("unchanged", 10), ("revoked", 1), ("skipped", 7)] {
            assert_eq!(json[name], value, "{name}");
        }
        assert_eq!(json["techniques"]["vanished"], 0);
        assert_eq!(json["techniques"]["total"], 10);
    }
}
