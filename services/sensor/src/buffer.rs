//! The sensor's disk: events that wait to be handed in, as append-only segments that survive being killed.
//!
//! A segment is named by the sequence number of its first event; the others follow. A record is its length, its CRC-32
//! (both 32 bits, little endian) and an event. Numbers grow but have gaps: a start goes on above the clock's
//! microseconds, so that events which a power cut took from the disk after they were handed in are never followed by
//! others of the same number.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aegis_proto::deception::v1::Event;
use chrono::Utc;
use prost::Message;
use tokio::sync::watch;

/// A segment that has more than this is followed by the next, bytes.
const SEGMENT: u64 = 8 * 1024 * 1024;
/// Length and checksum.
const HEAD: usize = 8;
/// Largest event, bytes.
const MAX_RECORD: usize = 1024 * 1024;
const SUFFIX: &str = "events";

/// A segment of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    first: u64,
    /// Events in it.
    events: u64,
    bytes: u64,
}

impl Segment {
    /// Number of the one after its last.
    fn end(self) -> u64 {
        self.first + self.events
    }
}

/// What waits; both ends share it.
#[derive(Debug)]
pub(crate) struct Buffer {
    folder: PathBuf,
    max_bytes: u64,
    segments: Mutex<VecDeque<Segment>>,
    acknowledged: AtomicU64,
    /// Number of the next event.
    head: watch::Sender<u64>,
}

/// The end that appends; there is one.
#[derive(Debug)]
pub(crate) struct Writer {
    buffer: Arc<Buffer>,
    file: File,
    dirty: bool,
}

/// Where a reader is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    segment: u64,
    offset: u64,
    next: u64,
}

/// Events with numbers that follow each other.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) first: u64,
    pub(crate) events: Vec<Event>,
}

impl Batch {
    /// Number of its last event.
    pub(crate) fn last(&self) -> u64 {
        self.first + (self.events.len() as u64).saturating_sub(1)
    }
}

impl Buffer {
    /// Opens the folder, with what was left in it: a record that was cut off at the end is none.
    pub(crate) fn open(folder: &Path, max_bytes: u64) -> io::Result<(Arc<Buffer>, Writer)> {
        std::fs::create_dir_all(folder)?;
        let mut firsts = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX)
                && let Some(first) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok())
            {
                firsts.push(first);
            }
        }
        firsts.sort_unstable();
        let mut segments = VecDeque::new();
        for first in firsts {
            let path = name(folder, first);
            let (events, bytes) = measure(&path)?;
            if events == 0 {
                std::fs::remove_file(path)?;
                continue;
            }
            let file = OpenOptions::new().write(true).open(&path)?;
            if file.metadata()?.len() > bytes {
                tracing::warn!(segment = first, "the end of a segment was cut off");
                file.set_len(bytes)?;
            }
            segments.push_back(Segment { first, events, bytes });
        }
        let acknowledged = std::fs::read_to_string(folder.join("acknowledged"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let clock = u64::try_from(Utc::now().timestamp_micros()).unwrap_or(1);
        let tail = segments.back().map_or(0, |segment: &Segment| segment.end());
        let next = clock.max(tail).max(acknowledged + 1);
        let file = OpenOptions::new().create(true).append(true).open(name(folder, next))?;
        segments.push_back(Segment { first: next, events: 0, bytes: 0 });
        let buffer = Arc::new(Buffer {
            folder: folder.to_owned(),
            max_bytes,
            segments: Mutex::new(segments),
            acknowledged: AtomicU64::new(acknowledged),
            head: watch::Sender::new(next),
        });
        buffer.drop_acknowledged();
        let writer = Writer { buffer: buffer.clone(), file, dirty: false };
        Ok((buffer, writer))
    }

    /// Number of the next event, and word of each change.
    pub(crate) fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Events that wait.
    pub(crate) fn waiting(&self) -> u64 {
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        let of = |segment: &Segment| segment.end().saturating_sub(segment.first.max(acknowledged + 1));
        self.lock().iter().map(of).sum()
    }

    /// The first that is not acknowledged.
    pub(crate) fn start(&self) -> Cursor {
        let next = self.acknowledged.load(Ordering::Acquire) + 1;
        Cursor { segment: 0, offset: 0, next }
    }

    /// All up to and with this one is stored elsewhere.
    pub(crate) fn acknowledge(&self, sequence: u64) -> io::Result<()> {
        let before = self.acknowledged.fetch_max(sequence, Ordering::AcqRel);
        if sequence <= before {
            return Ok(());
        }
        // One that is lost, or older than it should be, has events sent again, which are dropped then.
        let new = self.folder.join("acknowledged.new");
        std::fs::write(&new, sequence.to_string())?;
        std::fs::rename(new, self.folder.join("acknowledged"))?;
        self.drop_acknowledged();
        Ok(())
    }

    fn drop_acknowledged(&self) {
        let acknowledged = self.acknowledged.load(Ordering::Acquire);
        let mut segments = self.lock();
        // The last one is written to.
        while segments.len() > 1
            && let Some(first) = segments.front().filter(|segment| segment.end() <= acknowledged + 1)
        {
            // One that stays is sent again, and dropped.
            if let Err(error) = std::fs::remove_file(name(&self.folder, first.first)) {
                tracing::warn!(%error, "a segment of events cannot be removed");
            }
            segments.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next events from the cursor on, at most so many of them and about so many bytes; none when there are none.
    pub(crate) fn read(&self, cursor: &mut Cursor, max_events: usize, max_bytes: usize) -> io::Result<Option<Batch>> {
        loop {
            let Some(segment) = self.lock().iter().find(|segment| segment.end() > cursor.next).copied() else {
                return Ok(None);
            };
            let mut at = match cursor.segment == segment.first && cursor.next >= segment.first {
                true => *cursor,
                false => Cursor { segment: segment.first, offset: 0, next: segment.first },
            };
            let wanted = cursor.next.max(segment.first);
            let mut file = BufReader::with_capacity(256 * 1024, File::open(name(&self.folder, segment.first))?);
            file.seek(SeekFrom::Start(at.offset))?;
            let (mut events, mut bytes) = (Vec::new(), 0);
            while at.next < segment.end() && events.len() < max_events && bytes < max_bytes {
                let Some(record) = record(&mut file)? else { break };
                at.offset += (HEAD + record.len()) as u64;
                if at.next >= wanted {
                    bytes += record.len();
                    events.push(Event::decode(&record[..]).map_err(io::Error::other)?);
                }
                at.next += 1;
            }
            let first = at.next - events.len() as u64;
            if !events.is_empty() {
                *cursor = at;
                return Ok(Some(Batch { first, events }));
            }
            // A segment that was damaged below us: what is left of it cannot be read.
            tracing::error!(segment = segment.first, "events cannot be read any more");
            *cursor = Cursor { next: segment.end(), ..Cursor::default() };
        }
    }
}

impl Writer {
    /// Appends events; how many of them there was no room for.
    pub(crate) fn append(&mut self, events: &[Event]) -> io::Result<u64> {
        let buffer = self.buffer.clone();
        let (taken, current) = {
            let segments = buffer.lock();
            (segments.iter().map(|segment| segment.bytes).sum::<u64>(), segments.back().copied())
        };
        let Some(mut current) = current else { return Ok(events.len() as u64) };
        if current.bytes > SEGMENT {
            self.file.sync_data()?;
            let next = current.end();
            self.file = OpenOptions::new().create(true).append(true).open(name(&buffer.folder, next))?;
            current = Segment { first: next, events: 0, bytes: 0 };
            buffer.lock().push_back(current);
        }
        let mut bytes = Vec::with_capacity(events.len() * 512);
        let mut kept = 0;
        for event in events {
            let length = event.encoded_len();
            if length > MAX_RECORD || taken + (bytes.len() + HEAD + length) as u64 > buffer.max_bytes {
                break;
            }
            let head = bytes.len();
            bytes.extend([0; HEAD]);
            event.encode(&mut bytes).map_err(io::Error::other)?;
            let sum = crc32fast::hash(bytes.get(head + HEAD..).unwrap_or_default());
            // Below `MAX_RECORD`.
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            if let Some(room) = bytes.get_mut(head..head + HEAD) {
                room[..4].copy_from_slice(&length.to_le_bytes());
                room[4..].copy_from_slice(&sum.to_le_bytes());
            }
            kept += 1;
        }
        if kept > 0 {
            if let Err(error) = self.file.write_all(&bytes) {
                // What was written of it must not stand before the next.
                self.file.set_len(current.bytes)?;
                return Err(error);
            }
            self.dirty = true;
            current.events += kept;
            current.bytes += bytes.len() as u64;
            if let Some(last) = buffer.lock().back_mut() {
                *last = current;
            }
            buffer.head.send_replace(current.end());
        }
        Ok(events.len() as u64 - kept)
    }

    /// Sees to it that a power cut takes nothing of what was appended.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

fn name(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.{SUFFIX}"))
}

/// How many records of a segment are whole, and how long they are together.
fn measure(path: &Path) -> io::Result<(u64, u64)> {
    let mut file = BufReader::with_capacity(256 * 1024, File::open(path)?);
    let (mut events, mut bytes) = (0, 0);
    while let Some(record) = record(&mut file)? {
        events += 1;
        bytes += (HEAD + record.len()) as u64;
    }
    Ok((events, bytes))
}

/// The next record; none where it is not whole.
fn record(file: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD];
    if !fill(file, &mut head)? {
        return Ok(None);
    }
    let [a, b, c, d, e, f, g, h] = head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX_RECORD {
        return Ok(None);
    }
    let mut record = vec![0; length];
    if !fill(file, &mut record)? || crc32fast::hash(&record) != u32::from_le_bytes([e, f, g, h]) {
        return Ok(None);
    }
    Ok(Some(record))
}

fn fill(file: &mut impl Read, room: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(room) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
