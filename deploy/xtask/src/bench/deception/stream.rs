//! Readers of the live stream.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{AUTHORIZATION, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

use super::super::client::Client;

/// Bytes of an event's session before the mark, and of the mark.
const SESSION: (usize, usize) = (24, 12);

/// What a reader has heard.
#[derive(Default)]
pub struct Heard {
    /// Events, but for those with which the stream began.
    pub rows: AtomicU64,
    /// Whether it has heard the events with which a stream begins.
    pub begun: AtomicBool,
    /// Whether the product ended it.
    pub ended: AtomicBool,
    /// Milliseconds from when events were handed in.
    late: Mutex<Vec<f64>>,
}

impl Heard {
    /// How late events were that came since the last call, in milliseconds.
    pub fn take_late(&self) -> Vec<f64> {
        std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether each event is looked at, or the first of each message, which has waited longest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Each,
    First,
}

/// A reader; it leaves when this is dropped.
pub struct Reader {
    pub heard: Arc<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who may read a stream, and where it is.
#[derive(Clone)]
pub struct Whose {
    address: String,
    token: String,
}

impl Whose {
    /// Who is signed in.
    pub fn of(client: &Client) -> Result<Whose> {
        let token = client.token().context("nobody is signed in")?;
        Ok(Whose { address: client.address().to_owned(), token })
    }
}

/// Opens a stream. Marks are microseconds since `epoch`.
pub async fn read(whose: &Whose, query: &str, epoch: Instant, look: Look) -> Result<Reader> {
    let stream = TcpStream::connect(&whose.address).await?;
    stream.set_nodelay(true)?;
    let (mut connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its end is seen by the reader.
        let _ = driver.await;
    });
    let request = Request::get(format!("/api/v1/stream{query}"))
        .header(HOST, &whose.address)
        .header(AUTHORIZATION, format!("Bearer {}", whose.token))
        .body(Empty::<Bytes>::new())?;
    let answer = connection.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        bail!("the stream answered {}", answer.status());
    }
    let heard = Arc::new(Heard::default());
    let listener = Arc::clone(&heard);
    let task = tokio::spawn(async move {
        // A connection that is dropped is a stream that has ended.
        let _ = hear(answer.into_body(), &listener, epoch, look).await;
        listener.ended.store(true, Ordering::Relaxed);
        drop(connection);
    });
    Ok(Reader { heard, task })
}

async fn hear(mut body: Incoming, heard: &Heard, epoch: Instant, look: Look) -> Result<()> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        text.extend_from_slice(&data);
        let Some(last) = data.iter().rposition(|byte| *byte == b'\n') else { continue };
        let whole = text.len() - (data.len() - 1 - last);
        for line in text[..whole].split(|byte| *byte == b'\n') {
            if let Some(rows) = line.strip_prefix(b"data: {\"type\":\"logs\",\"data\":".as_slice()) {
                take(std::str::from_utf8(rows)?, heard, epoch, look);
            } else if line == b"event: end" {
                bail!("the product ended it");
            }
        }
        text.drain(..whole);
    }
    Ok(())
}

fn take(rows: &str, heard: &Heard, epoch: Instant, look: Look) {
    if !heard.begun.swap(true, Ordering::Relaxed) {
        return;
    }
    // Quotes within a field are escaped there, so that only rows have this.
    let count = rows.matches("{\"id\":").count() as u64;
    heard.rows.fetch_add(count, Ordering::Relaxed);
    let now = epoch.elapsed().as_micros() as u64;
    let (skip, length) = SESSION;
    let mark = |at: usize| rows.get(at + skip..at + skip + length).and_then(|mark| u64::from_str_radix(mark, 16).ok());
    const FIELD: &str = "\"session_id\":\"";
    let marks = rows.match_indices(FIELD).filter_map(|(at, _)| mark(at + FIELD.len()));
    let most = if look == Look::Each { usize::MAX } else { 1 };
    let late = marks.take(most).map(|mark| now.saturating_sub(mark) as f64 / 1_000.0);
    heard.late.lock().unwrap_or_else(PoisonError::into_inner).extend(late);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_from_the_second_message_on_and_tell_how_late_they_are() {
        let (heard, epoch) = (Heard::default(), Instant::now());
        let rows = r#"[{"id":1,"session_id":"00000000-0000-7000-8000-000000000000","fields":"{\"id\":\"7\"}"},{"id":2,"session_id":null}]"#;
        take(rows, &heard, epoch, Look::Each);
        assert_eq!((heard.rows.load(Ordering::Relaxed), heard.take_late().len()), (0, 0));
        take(rows, &heard, epoch, Look::Each);
        assert_eq!((heard.rows.load(Ordering::Relaxed), heard.take_late().len()), (2, 1));
    }
}
