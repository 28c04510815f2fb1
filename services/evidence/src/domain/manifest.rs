//! The manifest of a test's evidence: what is signed, and what a verifier without this product reads.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// `typ` of its signature.
pub(crate) const KIND: &str = "aegis-evidence-manifest";
/// Changes when a field gets another meaning.
pub(crate) const VERSION: u32 = 1;
/// The signer takes no larger document.
const MAX_BYTES: usize = 1024 * 1024;

/// All files of a test, oldest first. The order of the fields is the order in the document.
#[derive(Debug, Serialize)]
pub(crate) struct Manifest {
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    pub(crate) test: Test,
    pub(crate) files: Vec<File>,
    /// The files' notes are not here: with them the document would be too large.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) notes_left_out: bool,
    #[serde(serialize_with = "time")]
    pub(crate) generated_at: DateTime<Utc>,
    pub(crate) generated_by: String,
    pub(crate) product_version: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Test {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) mitre_id: String,
    pub(crate) state: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct File {
    pub(crate) id: Uuid,
    pub(crate) file_name: String,
    pub(crate) size_bytes: i64,
    pub(crate) sha256: String,
    pub(crate) team: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) uploaded_by: Uuid,
    pub(crate) uploaded_by_username: String,
    #[serde(serialize_with = "time")]
    pub(crate) uploaded_at: DateTime<Utc>,
}

impl Manifest {
    /// The document. Where it is too large to be signed, it comes without the notes.
    pub(crate) fn document(&mut self) -> serde_json::Result<Vec<u8>> {
        let document = serde_json::to_vec(self)?;
        if document.len() <= MAX_BYTES {
            return Ok(document);
        }
        self.notes_left_out = true;
        for file in &mut self.files {
            file.notes = None;
        }
        serde_json::to_vec(self)
    }
}

fn time<S: Serializer>(at: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: usize, notes: &str) -> Manifest {
        let file = || File {
            id: Uuid::from_u128(7),
            file_name: "\"".repeat(255),
            size_bytes: i64::MAX,
            sha256: "0".repeat(64),
            team: Some("blue".into()),
            notes: Some(notes.into()),
            uploaded_by: Uuid::from_u128(9),
            uploaded_by_username: "u".repeat(64),
            uploaded_at: DateTime::UNIX_EPOCH,
        };
        Manifest {
            kind: KIND,
            version: VERSION,
            test: Test {
                id: Uuid::from_u128(1),
                name: "n".repeat(255),
                mitre_id: "T1059".into(),
                state: "in_review".into(),
            },
            files: (0..files).map(|_| file()).collect(),
            notes_left_out: false,
            generated_at: DateTime::UNIX_EPOCH,
            generated_by: "ana".into(),
            product_version: "1",
        }
    }

    #[test]
    fn the_largest_manifest_can_be_signed() {
        let small = String::from_utf8(manifest(1, "seen").document().unwrap()).unwrap();
        assert!(small.contains(r#""notes":"seen""#) && !small.contains("notes_left_out"));
        assert!(small.contains(r#""generated_at":"1970-01-01T00:00:00Z""#));
        let mut large = manifest(1000, &"\u{1F600}".repeat(2000));
        let document = large.document().unwrap();
        assert!(document.len() <= MAX_BYTES, "{}", document.len());
        assert!(String::from_utf8(document).unwrap().contains(r#""notes_left_out":true"#));
    }
}
