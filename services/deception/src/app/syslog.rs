//! Syslog over TCP: lines, or messages with their length before them (RFC 6587). Whoever can connect can hand in
//! events, so this is off unless an address is set, and belongs on a network of one's own.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{App, ingest};
use crate::domain::lines::{Format, MAX_LINE, Reader, text};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 128;
/// Lines that are stored at once.
const BATCH: usize = 1_000;
/// What came is stored when nothing more comes for so long.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(2);
/// What is read at once, bytes.
const READ: usize = 16 * 1024;

/// Takes connections until the stop.
pub(crate) async fn run(app: Arc<App>, address: SocketAddr, stop: CancellationToken) {
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => tracing::error!(%error, %address, "syslog cannot be taken in; trying again"),
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = stop.cancelled() => return,
        }
    };
    tracing::info!(%address, "taking syslog in");
    serve(app, listener, stop).await;
}

pub(crate) async fn serve(app: Arc<App>, listener: TcpListener, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (app, stop) = (Arc::clone(&app), stop.clone());
                tokio::spawn(async move {
                    if let Err(error) = take(&app, stream, &stop).await {
                        tracing::debug!(%error, %peer, "a syslog connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a syslog connection could not be taken");
                sleep(AGAIN).await;
            }
        }
    }
}

/// Takes one connection's lines in, until it ends.
async fn take(app: &App, mut stream: impl AsyncRead + Unpin, stop: &CancellationToken) -> io::Result<()> {
    let mut reader = Reader::new(Format::Syslog);
    let mut frames = Frames::default();
    let (mut lines, mut number) = (Vec::new(), 0);
    loop {
        let wait = if lines.is_empty() { IDLE } else { PAUSE };
        frames.bytes.reserve(READ);
        let got = tokio::select! {
            got = timeout(wait, stream.read_buf(&mut frames.bytes)) => got,
            () = stop.cancelled() => Ok(Ok(0)),
        };
        let ended = match got {
            Ok(got) => got? == 0,
            Err(_) if lines.is_empty() => true,
            Err(_) => {
                reader = store(app, reader, std::mem::take(&mut lines), stop).await?;
                continue;
            }
        };
        while let Some(frame) = frames.next(ended)? {
            number += 1;
            lines.push((number, Some(frame)));
            if lines.len() >= BATCH {
                reader = store(app, reader, std::mem::take(&mut lines), stop).await?;
            }
        }
        if ended {
            store(app, reader, lines, stop).await?;
            return Ok(());
        }
    }
}

/// Until they are stored: nobody acknowledges syslog, so nobody would send them again. Meanwhile nothing is read.
async fn store(
    app: &App,
    reader: Reader,
    lines: Vec<(u64, Option<String>)>,
    stop: &CancellationToken,
) -> io::Result<Reader> {
    let (reader, events, refused) = ingest::read(reader, lines, app.sigma.now()).await.map_err(io::Error::other)?;
    if let Some((_, why)) = refused.first() {
        tracing::debug!(lines = refused.len(), why, "lines of syslog that are no events");
    }
    while !events.is_empty() {
        match app.intake.store(events.clone(), None).await {
            Ok(_) => break,
            Err(error) => tracing::warn!(%error, "events of syslog wait"),
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = stop.cancelled() => return Err(io::Error::other("the process ends")),
        }
    }
    Ok(reader)
}

/// Bytes as messages.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// The next message, if it is whole.
    fn next(&mut self, ended: bool) -> io::Result<Option<String>> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a message is too long");
        loop {
            let space = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n' | b' ' | 0)).count();
            self.bytes.drain(..space);
            let digits = self.bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let counted = digits > 0 && self.bytes.get(digits) == Some(&b' ');
            if digits > 8 {
                return Err(too_long());
            }
            let (skip, length) = if counted {
                let length = self.bytes.iter().take(digits).fold(0, |sum, byte| sum * 10 + usize::from(byte - b'0'));
                if length > MAX_LINE {
                    return Err(too_long());
                }
                if self.bytes.len() < digits + 1 + length && !ended {
                    return Ok(None);
                }
                (digits + 1, length)
            } else {
                match self.bytes.iter().position(|byte| *byte == b'\n') {
                    Some(end) => (0, end),
                    None if self.bytes.len() > MAX_LINE => return Err(too_long()),
                    None if ended && !self.bytes.is_empty() => (0, self.bytes.len()),
                    None => return Ok(None),
                }
            };
            let frame: Vec<u8> = self.bytes.drain(..(skip + length).min(self.bytes.len())).skip(skip).collect();
            let frame = text(frame.trim_ascii());
            if !frame.is_empty() {
                return Ok(Some(frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(chunks: &[&[u8]]) -> io::Result<Vec<String>> {
        let mut frames = Frames::default();
        let mut all = Vec::new();
        for chunk in chunks {
            frames.bytes.extend_from_slice(chunk);
            while let Some(frame) = frames.next(false)? {
                all.push(frame);
            }
        }
        while let Some(frame) = frames.next(true)? {
            all.push(frame);
        }
        Ok(all)
    }

    #[test]
    fn both_framings_are_understood() {
        assert_eq!(frames(&[b"<13>1 a\n<13>1", b" b\r\n\n<13>1 c"]).unwrap(), ["<13>1 a", "<13>1 b", "<13>1 c"]);
        assert_eq!(
            frames(&[b"7 <13>1 a9 <13>", b"1 b\nc", b"7 <13>1 d"]).unwrap(),
            ["<13>1 a", "<13>1 b\nc", "<13>1 d"]
        );
        assert_eq!(frames(&[b"20 <13>"]).unwrap(), ["<13>"]);
        assert!(frames(&[b"99999999 x"]).is_err() && frames(&[b"999999999999"]).is_err());
        assert!(frames(&[&[b'<'; MAX_LINE + 2]]).is_err());
    }
}
