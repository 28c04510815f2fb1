//! Lines of other honeypots come in.

use std::{pin::Pin, sync::Arc};

use aegis_auth::{OpCtx, Role};
use aegis_db::now;
use aegis_error::{Code, Failure};
use aegis_events::{Audit, Claim};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use ring::digest::{Context, SHA256};
use serde_json::json;

use super::App;
use crate::{
    domain::{
        event::Event,
        lines::{Format, MAX_LINE, Reader, text},
        sigma::Set,
        tagging,
    },
    error::Error,
};

/// Lines that are stored at once.
const BATCH: usize = 1_000;
/// The same, bytes.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of one request.
const MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Refused lines that are told of.
const TOLD: usize = 20;

/// A message of a request: first the format, then bytes.
pub(crate) enum Part {
    Format(String),
    Chunk(Bytes),
}

/// What became of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) duplicate: u64,
    pub(crate) refused: u64,
    /// Number of the line, from 1, and why: the first ones.
    pub(crate) first_refused: Vec<(u64, String)>,
}

/// Bytes as lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    /// In a line that is too long.
    skipping: bool,
    number: u64,
    whole: Vec<(u64, Option<String>)>,
    bytes: usize,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        let mut parts = chunk.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.rest.len() + part.len() > MAX_LINE {
                self.skipping = true;
                self.rest.clear();
            }
            if !self.skipping {
                self.rest.extend_from_slice(part);
            }
            if parts.peek().is_some() {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        self.number += 1;
        let line = std::mem::take(&mut self.rest);
        if std::mem::take(&mut self.skipping) {
            self.whole.push((self.number, None));
            return;
        }
        let line = line.trim_ascii();
        if !line.is_empty() {
            self.bytes += line.len();
            self.whole.push((self.number, Some(text(line))));
        }
    }

    /// A batch, where there is one or nothing follows.
    fn take(&mut self, last: bool) -> Vec<(u64, Option<String>)> {
        if last && (self.skipping || !self.rest.is_empty()) {
            self.end_line();
        }
        if last || self.whole.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.bytes = 0;
            return std::mem::take(&mut self.whole);
        }
        Vec::new()
    }
}

impl App {
    /// Takes in lines; those that came before are dropped. Sensors, and administrators.
    pub(crate) async fn ingest_lines(
        &self,
        ctx: &OpCtx,
        parts: impl Stream<Item = Result<Part, Failure>>,
    ) -> Result<Counts, Error> {
        ctx.require(&[Role::Sensor, Role::Admin])?;
        let mut parts = std::pin::pin!(parts);
        let Some(Part::Format(name)) = parts.next().await.transpose()? else {
            return Err(Failure::invalid("format", "must be the first message").into());
        };
        let problem = || Failure::invalid("format", format!("must be one of {}", Format::NAMES.join(", ")));
        let format = Format::parse(&name).ok_or_else(problem)?;
        let mut hash = Context::new(&SHA256);
        let claim = Claim::of(ctx);
        if let Some(claim) = claim.filter(|claim| claim.is_repeat()) {
            // Its first answer is its answer; only what it says counts.
            let mut size = 0;
            while let Some(chunk) = chunk(&mut parts, &mut size).await? {
                hash.update(&chunk);
            }
            claim.is_about(&[&name, &hex::encode(hash.finish())]);
            return Err(Claim::taken().into());
        }
        let mut counts = Counts::default();
        let (mut lines, mut reader, mut size) = (Lines::default(), Reader::new(format), 0);
        while let Some(chunk) = chunk(&mut parts, &mut size).await? {
            hash.update(&chunk);
            lines.push(&chunk);
            reader = self.ingest_batch(reader, lines.take(false), &mut counts).await?;
        }
        self.ingest_batch(reader, lines.take(true), &mut counts).await?;
        if let Some(claim) = claim {
            claim.is_about(&[&name, &hex::encode(hash.finish())]);
        }
        let Counts { accepted, duplicate, refused, .. } = counts;
        let details = json!({ "format": name, "accepted": accepted, "duplicate": duplicate, "refused": refused });
        let audit = Audit { action: "ingest_lines", entity_type: "logs", entity_id: String::new(), details };
        let mut tx = self.db.begin().await?;
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(counts)
    }

    async fn ingest_batch(
        &self,
        reader: Reader,
        lines: Vec<(u64, Option<String>)>,
        counts: &mut Counts,
    ) -> Result<Reader, Error> {
        if lines.is_empty() {
            return Ok(reader);
        }
        let (reader, events, refused) = read(reader, lines, self.sigma.now()).await?;
        for (line, why) in refused {
            counts.refused += 1;
            if counts.first_refused.len() < TOLD {
                counts.first_refused.push((line, why));
            }
        }
        let all = events.len();
        if all > 0 {
            let stored = self.intake.store(events, None).await?;
            counts.accepted += stored.new as u64;
            counts.duplicate += (all - stored.new) as u64;
        }
        Ok(reader)
    }
}

/// Lines as events, and why others are none.
pub(super) async fn read(
    mut reader: Reader,
    lines: Vec<(u64, Option<String>)>,
    rules: Arc<Set>,
) -> Result<(Reader, Vec<Event>, Vec<(u64, String)>), Failure> {
    let at = now();
    tokio::task::spawn_blocking(move || {
        let (mut events, mut refused) = (Vec::with_capacity(lines.len()), Vec::new());
        for (number, line) in lines {
            let Some(line) = line else {
                refused.push((number, format!("is longer than {MAX_LINE} bytes")));
                continue;
            };
            match reader.read(&line) {
                Ok(raw) => {
                    let mut event = raw.sound(at, line.as_bytes());
                    event.techniques = tagging::tag(&event, &rules).join(" ");
                    events.push(event);
                }
                Err(why) => refused.push((number, why)),
            }
        }
        (reader, events, refused)
    })
    .await
    .map_err(Failure::internal)
}

async fn chunk<S>(parts: &mut Pin<&mut S>, size: &mut u64) -> Result<Option<Bytes>, Failure>
where
    S: Stream<Item = Result<Part, Failure>>,
{
    match parts.next().await.transpose()? {
        None => Ok(None),
        Some(Part::Format(_)) => Err(Failure::invalid("format", "must come once")),
        Some(Part::Chunk(chunk)) => {
            *size += chunk.len() as u64;
            if *size > MAX_BYTES {
                return Err(Failure::new(Code::TooLarge, "more than 2 GiB of lines at once"));
            }
            Ok(Some(chunk))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_wherever_chunks_end() {
        let long = "x".repeat(MAX_LINE + 1);
        let all = format!("one\r\n\n  two\n{long}\nthree\u{e4}");
        for size in [1, 7, 100_000] {
            let mut lines = Lines::default();
            for chunk in all.as_bytes().chunks(size) {
                lines.push(chunk);
            }
            let some = |text: &str| Some(text.to_owned());
            let expected = [(1, some("one")), (3, some("two")), (4, None), (5, some("three\u{e4}"))];
            assert_eq!(lines.take(true), expected);
            assert!(lines.rest.is_empty() && lines.take(true).is_empty());
        }
        assert_eq!(text(b"a\xffb\xc3"), "a\\xffb\\xc3");
    }
}
