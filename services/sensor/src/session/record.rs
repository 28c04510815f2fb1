//! Recordings of what was shown and typed, as asciicast v2.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use aegis_proto::deception::v1::ArtifactHeader;
use serde_json::json;

use super::{Session, plain};
use crate::outlet::{Report, timestamp};

/// What is kept of one recording, bytes.
const MAX_RECORDING: usize = 8 * 1024 * 1024;
/// What is held back before it goes to the disk, bytes.
const HELD_BACK: usize = 8 * 1024;
/// Longest piece in one line of the recording, bytes.
const MAX_PIECE: usize = 16 * 1024;

/// What a session holds of its recording.
pub(super) struct Recording {
    began: Instant,
    header: Option<Box<ArtifactHeader>>,
    waiting: Vec<u8>,
    written: usize,
    /// Ends of characters that have not come yet.
    shown: Vec<u8>,
    typed: Vec<u8>,
}

/// A recording of a session, as asciicast v2.
pub struct Recorder {
    of: Session,
}

pub(super) fn begin(session: &Session, width: u16, height: u16) -> Recorder {
    let mut held = lock(&session.0.recording);
    if held.is_none() {
        let now = chrono::Utc::now();
        let head = json!({
            "version": 2, "width": width.clamp(1, 1000), "height": height.clamp(1, 1000), "timestamp": now.timestamp(),
            "env": { "SHELL": "/bin/bash", "TERM": "xterm-256color" },
        });
        *held = Some(Recording {
            began: Instant::now(),
            header: Some(Box::new(ArtifactHeader {
                kind: "recording".into(),
                decky: session.persona().name.clone(),
                service: session.0.service.to_string(),
                attacker_ip: plain(session.peer()).to_string(),
                session_id: session.id().to_string(),
                captured_at: Some(timestamp(now)),
                name: format!("{}.cast", session.id()),
                // Known when it is whole.
                sha256: String::new(),
                size: 0,
            })),
            waiting: format!("{head}\n").into_bytes(),
            written: 0,
            shown: Vec::new(),
            typed: Vec::new(),
        });
    }
    Recorder { of: session.clone() }
}

impl Recorder {
    /// What the client was shown.
    pub fn output(&self, bytes: &[u8]) {
        self.piece("o", bytes);
    }

    /// What the client typed.
    pub fn input(&self, bytes: &[u8]) {
        self.piece("i", bytes);
    }

    /// The client's window has another size now.
    pub fn resize(&self, width: u16, height: u16) {
        let mut held = lock(&self.of.0.recording);
        if let Some(recording) = held.as_mut() {
            recording.line("r", &format!("{}x{}", width.clamp(1, 1000), height.clamp(1, 1000)));
            recording.hand_on(&self.of, false);
        }
    }

    fn piece(&self, kind: &str, bytes: &[u8]) {
        let mut held = lock(&self.of.0.recording);
        let Some(recording) = held.as_mut() else { return };
        for bytes in bytes.chunks(MAX_PIECE) {
            let text = match kind {
                "o" => whole(&mut recording.shown, bytes),
                _ => whole(&mut recording.typed, bytes),
            };
            if !text.is_empty() {
                recording.line(kind, &text);
            }
            recording.hand_on(&self.of, false);
        }
    }
}

impl Recording {
    fn line(&mut self, kind: &str, text: &str) {
        if self.written + self.waiting.len() + text.len() > MAX_RECORDING {
            return;
        }
        let at = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        self.waiting.extend_from_slice(json!([at, kind, text]).to_string().as_bytes());
        self.waiting.push(b'\n');
    }

    fn hand_on(&mut self, session: &Session, all: bool) {
        if self.waiting.is_empty() || (!all && self.waiting.len() < HELD_BACK) {
            return;
        }
        let bytes = std::mem::take(&mut self.waiting);
        self.written += bytes.len();
        let report = Report::Recorded { session: session.id(), of: self.header.clone(), bytes };
        match session.0.outlet.send(report) {
            true => self.header = None,
            // Without what went before it would not be one: it ends here.
            false => self.written = MAX_RECORDING,
        }
    }

    pub(super) fn end(mut self, session: &Session) {
        self.hand_on(session, true);
        session.0.outlet.send(Report::RecordingEnded { session: session.id() });
    }
}

/// The text of what was left over and what came; the beginning of a character at its end waits for the rest.
fn whole(rest: &mut Vec<u8>, bytes: &[u8]) -> String {
    rest.extend_from_slice(bytes);
    let all = std::mem::take(rest);
    let mut text = String::with_capacity(all.len());
    let mut chunks = all.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let cut_off = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if chunks.peek().is_none() && cut_off {
            rest.extend_from_slice(invalid);
        } else {
            text.push('\u{fffd}');
        }
    }
    text
}

fn lock(recording: &Mutex<Option<Recording>>) -> std::sync::MutexGuard<'_, Option<Recording>> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}
