//! A message that a client sends: kept as a file, hashed, its head read.

use std::io;

use ring::digest;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    decoys::lines::{Buffered, Line},
    session::{Capture, EventType, Session, escaped},
};

/// What is read of the head.
const HEAD: usize = 16 * 1024;
/// A line that is longer is read in parts.
const LINE: usize = 8 * 1024;
/// What is collected before it is written.
const BLOCK: usize = 32 * 1024;

/// A message as far as it has come.
#[derive(Default)]
pub(super) struct Message {
    capture: Option<Capture>,
    hash: Option<digest::Context>,
    head: Vec<u8>,
    block: Vec<u8>,
    size: u64,
}

impl Message {
    pub(super) async fn begin(session: &Session, name: &str) -> Message {
        let capture = session.capture(name).await;
        Message { capture, hash: Some(digest::Context::new(&digest::SHA256)), ..Message::default() }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Lines up to the one with a single dot.
    pub(super) async fn lines<S>(&mut self, conn: &mut Buffered<S>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut begun = false;
        loop {
            match conn.line(LINE).await? {
                Line::Whole(line) if !begun && line == b"." => return Ok(()),
                Line::Whole(mut line) => {
                    if !begun && line.first() == Some(&b'.') {
                        line.remove(0);
                    }
                    line.extend_from_slice(b"\r\n");
                    self.add(&line).await;
                    begun = false;
                }
                Line::TooLong => {
                    let unread = conn.unread();
                    let end = unread.iter().position(|byte| *byte == b'\n').map_or(unread.len(), |at| at + 1);
                    let part = unread.get(..end).unwrap_or_default().to_vec();
                    conn.used(part.len());
                    self.add(&part).await;
                    // What a part ends with may be its line's end.
                    begun = part.last() != Some(&b'\n');
                }
                Line::End(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// So many bytes. The caller has bounded the number.
    pub(super) async fn chunk<S>(&mut self, conn: &mut Buffered<S>, bytes: u64) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut missing = bytes;
        while missing > 0 {
            if conn.unread().is_empty() && !conn.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let take = usize::try_from(missing).unwrap_or(usize::MAX).min(conn.unread().len());
            let part = conn.unread().get(..take).unwrap_or_default().to_vec();
            conn.used(take);
            self.add(&part).await;
            missing = missing.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    async fn add(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if self.capture.is_some() {
            self.block.extend_from_slice(bytes);
            if self.block.len() >= BLOCK {
                self.write().await;
            }
        }
    }

    async fn write(&mut self) {
        if let Some(capture) = &mut self.capture
            && capture.write(&self.block).await.is_err()
        {
            // The disk is full: the message is told of, not kept.
            self.capture = None;
        }
        self.block.clear();
    }

    /// It is whole.
    pub(super) async fn finish(mut self, session: &Session, sender: &str, recipients: &[String]) {
        self.write().await;
        let (subject, id) = (self.field("subject"), self.field("message-id"));
        let hash = self.hash.take().map(|hash| hex::encode(hash.finish())).unwrap_or_default();
        let size = self.size.to_string();
        let to = recipients.join(", ");
        let fields = [
            ("subject", subject.as_str()),
            ("size", size.as_str()),
            ("sha256", hash.as_str()),
            ("message_id", id.trim_matches(['<', '>'])),
            ("address", sender),
            ("recipients", to.as_str()),
        ];
        session.emit(EventType::MessageAccepted, format!("message of {size} bytes: {subject}"), &fields);
        if let Some(capture) = self.capture {
            // A message that cannot be kept is no fault of the client's.
            let _ = capture.finish("message").await;
        }
    }

    /// A field of the head, with the lines that go on with it.
    fn field(&self, name: &str) -> String {
        let head = escaped(&self.head, HEAD);
        let head = head.split("\r\n\r\n").next().unwrap_or_default();
        let mut value: Option<String> = None;
        for line in head.split("\r\n") {
            match &mut value {
                Some(value) if line.starts_with([' ', '\t']) => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                Some(_) => break,
                None => {
                    if let Some((field, rest)) = line.split_once(':')
                        && field.eq_ignore_ascii_case(name)
                    {
                        value = Some(rest.trim().to_owned());
                    }
                }
            }
        }
        value.unwrap_or_default()
    }
}
