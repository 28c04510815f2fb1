//! Files that attackers bring: written to the sensor's own folder, hashed on the way, handed in and gone.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aegis_proto::deception::v1::ArtifactHeader;
use chrono::{DateTime, SubsecRound, Utc};
use ring::digest;
use tokio::{fs::File, io::AsyncWriteExt};
use uuid::Uuid;

use super::{EventType, Session, plain};
use crate::outlet::{Report, timestamp};

/// What is kept of one file, bytes.
const MAX_FILE: u64 = 32 * 1024 * 1024;
/// What one session may bring, bytes.
const MAX_SESSION: u64 = 128 * 1024 * 1024;
/// How many files one session may bring.
const MAX_FILES: u32 = 200;
/// Longest name that is told, bytes.
const MAX_NAME: usize = 100;

/// What a session has brought.
#[derive(Default)]
pub(super) struct Budget {
    files: AtomicU32,
    bytes: AtomicU64,
}

/// A file that is being kept. One that is dropped before it is whole is forgotten.
pub struct Capture {
    session: Session,
    name: String,
    path: PathBuf,
    file: Option<File>,
    digest: digest::Context,
    kept: u64,
    seen: u64,
    full: bool,
    handed_on: bool,
}

impl Capture {
    pub(super) async fn begin(session: &Session, name: &str) -> Option<Capture> {
        let budget = &session.0.captured;
        if budget.files.fetch_add(1, Ordering::Relaxed) >= MAX_FILES
            || budget.bytes.load(Ordering::Relaxed) >= MAX_SESSION
        {
            return None;
        }
        let path = session.0.outlet.incoming().join(Uuid::now_v7().to_string());
        let file = match File::create_new(&path).await {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, "a file of an attacker cannot be kept");
                return None;
            }
        };
        Some(Capture {
            session: session.clone(),
            name: name.to_owned(),
            path,
            file: Some(file),
            digest: digest::Context::new(&digest::SHA256),
            kept: 0,
            seen: 0,
            full: false,
            handed_on: false,
        })
    }

    /// More of it; false from the moment on when it is too much, and the rest is only counted.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.seen = self.seen.saturating_add(more);
        if self.full || !self.room(more) {
            self.full = true;
            return Ok(false);
        }
        self.kept += more;
        self.digest.update(bytes);
        match self.file.as_mut() {
            Some(file) => file.write_all(bytes).await?,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn room(&self, more: u64) -> bool {
        let budget = &self.session.0.captured;
        if self.kept.saturating_add(more) > MAX_FILE
            || budget.bytes.load(Ordering::Relaxed).saturating_add(more) > MAX_SESSION
            || !self.session.0.outlet.state().reserve(more)
        {
            return false;
        }
        budget.bytes.fetch_add(more, Ordering::Relaxed);
        true
    }

    /// What was kept of it so far, bytes.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// It is whole: tells of it (`file_captured` with name, path, sha256, size, stored_as) and hands it in. `path` is
    /// where the attacker thinks that it lies.
    pub async fn finish(mut self, path: &str) -> io::Result<()> {
        if let Some(mut file) = self.file.take() {
            file.flush().await?;
        }
        let digest = std::mem::replace(&mut self.digest, digest::Context::new(&digest::SHA256)).finish();
        let sha256 = hex::encode(digest.as_ref());
        let captured_at = Utc::now().trunc_subsecs(0);
        let stored_as = stored_as(captured_at, &sha256, &self.name);
        let size = self.seen.to_string();
        let kept = self.kept.to_string();
        let mut fields = vec![
            ("name", self.name.as_str()),
            ("path", path),
            ("sha256", sha256.as_str()),
            ("size", size.as_str()),
            ("stored_as", stored_as.as_str()),
        ];
        if self.full {
            fields.push(("kept_bytes", kept.as_str()));
        }
        let session = self.session.clone();
        let header = ArtifactHeader {
            kind: "file".into(),
            decky: session.persona().name.clone(),
            service: session.0.service.to_string(),
            attacker_ip: plain(session.peer()).to_string(),
            session_id: session.id().to_string(),
            captured_at: Some(timestamp(captured_at)),
            name: self.name.clone(),
            sha256: sha256.clone(),
            size: self.kept,
        };
        session.0.outlet.send(Report::Captured { header: Box::new(header), path: self.path.clone() });
        self.handed_on = true;
        session.emit(EventType::FileCaptured, format!("file {} captured", clean(&self.name)), &fields);
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if !self.handed_on {
            self.session.0.outlet.state().release(self.kept);
            // What stays is removed at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The name under which deception keeps a file: it makes the same of the same header.
pub(crate) fn stored_as(at: DateTime<Utc>, sha256: &str, name: &str) -> String {
    let short = sha256.get(..12).unwrap_or(sha256);
    format!("{}_{short}_{}", at.format("%Y-%m-%dT%H:%M:%SZ"), clean(name))
}

/// An attacker's file name as one that is safe anywhere.
fn clean(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let cleaned: String = last.chars().take(MAX_NAME).map(safe).collect();
    match cleaned.trim_matches('.').is_empty() {
        true => "file".to_owned(),
        false => cleaned,
    }
}
