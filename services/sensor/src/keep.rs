//! Keeps what sessions tell: events in the buffer, files and recordings in a folder until they are handed in.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aegis_proto::deception::v1::{ArtifactHeader, Event};
use prost::Message;
use ring::digest;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    buffer::Writer,
    outlet::{Report, Reports, State},
};

/// Reports that are kept in one go.
const AT_ONCE: usize = 4096;
/// How long events may be in the system's memory alone.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Recordings that may be open.
const MAX_OPEN: usize = 20_000;

/// Where files and recordings lie until they are handed in: `<uuid>.head` says what `<uuid>.bin` is.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    whole: PathBuf,
    open: PathBuf,
    incoming: PathBuf,
    /// Something is whole.
    pub(crate) news: Arc<Notify>,
}

impl Spool {
    /// Makes the folders; what was being captured when the sensor ended is forgotten.
    pub(crate) fn open(folder: &Path) -> io::Result<Spool> {
        let spool = Spool {
            whole: folder.join("artifacts"),
            open: folder.join("recordings"),
            incoming: folder.join("incoming"),
            news: Arc::default(),
        };
        for folder in [&spool.whole, &spool.open, &spool.incoming] {
            std::fs::create_dir_all(folder)?;
        }
        for entry in std::fs::read_dir(&spool.incoming)? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(spool)
    }

    /// Where files are written while they come.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.incoming.clone()
    }

    /// What it takes, and recordings that the last start left open are whole now.
    pub(crate) fn recover(&self, state: &State) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.whole)? {
            state.reserve(entry?.metadata()?.len());
        }
        let mut left = Vec::new();
        for entry in std::fs::read_dir(&self.open)? {
            let path = entry?.path();
            if let Some(session) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<Uuid>().ok())
                && path.extension().is_some_and(|suffix| suffix == "head")
            {
                left.push(session);
            }
        }
        for session in left {
            let bytes = std::fs::metadata(self.cast(session)).map(|meta| meta.len()).unwrap_or(0);
            state.reserve(bytes);
            self.recorded(session)?;
        }
        Ok(())
    }

    /// Names of what is whole, oldest first, at most so many.
    pub(crate) fn list(&self, limit: usize) -> io::Result<Vec<Uuid>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.whole)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == "head")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<Uuid>().ok())
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }

    /// What one is, and where its bytes are.
    pub(crate) fn get(&self, name: Uuid) -> io::Result<(ArtifactHeader, PathBuf)> {
        let head = std::fs::read(self.whole.join(format!("{name}.head")))?;
        let header = ArtifactHeader::decode(&head[..]).map_err(io::Error::other)?;
        Ok((header, self.whole.join(format!("{name}.bin"))))
    }

    /// It was handed in, or never can be.
    pub(crate) fn remove(&self, name: Uuid, state: &State) -> io::Result<()> {
        let bytes = self.whole.join(format!("{name}.bin"));
        let size = std::fs::metadata(&bytes).map(|meta| meta.len()).unwrap_or(0);
        std::fs::remove_file(self.whole.join(format!("{name}.head")))?;
        std::fs::remove_file(bytes)?;
        state.release(size);
        Ok(())
    }

    fn captured(&self, header: &ArtifactHeader, path: &Path) -> io::Result<()> {
        let name = Uuid::now_v7();
        std::fs::rename(path, self.whole.join(format!("{name}.bin")))?;
        self.head(name, header)?;
        self.news.notify_one();
        Ok(())
    }

    /// The head is there last, and whole.
    fn head(&self, name: Uuid, header: &ArtifactHeader) -> io::Result<()> {
        let new = self.whole.join(format!("{name}.new"));
        std::fs::write(&new, header.encode_to_vec())?;
        std::fs::rename(new, self.whole.join(format!("{name}.head")))
    }

    fn cast(&self, session: Uuid) -> PathBuf {
        self.open.join(format!("{session}.cast"))
    }

    fn begin(&self, session: Uuid, header: &ArtifactHeader) -> io::Result<()> {
        std::fs::write(self.open.join(format!("{session}.head")), header.encode_to_vec())
    }

    fn record(&self, session: Uuid, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).open(self.cast(session))?.write_all(bytes)
    }

    /// A recording is whole: what it is is known now.
    fn recorded(&self, session: Uuid) -> io::Result<()> {
        let head = self.open.join(format!("{session}.head"));
        let mut header = ArtifactHeader::decode(&std::fs::read(&head)?[..]).map_err(io::Error::other)?;
        let cast = self.cast(session);
        (header.sha256, header.size) = hash(&cast)?;
        self.captured(&header, &cast)?;
        std::fs::remove_file(head)
    }
}

fn hash(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let (mut context, mut size) = (digest::Context::new(&digest::SHA256), 0);
    let mut room = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut room)?;
        if read == 0 {
            return Ok((hex::encode(context.finish().as_ref()), size));
        }
        context.update(room.get(..read).unwrap_or_default());
        size += read as u64;
    }
}

/// The one that writes.
struct Keeper {
    writer: Writer,
    spool: Spool,
    state: Arc<State>,
    /// Whether each open recording is kept.
    recordings: HashMap<Uuid, bool>,
}

/// Keeps what is told until nobody can tell any more.
pub(crate) async fn run(mut reports: Reports, writer: Writer, spool: Spool) {
    let state = reports.state().clone();
    let mut keeper = Keeper { writer, spool, state, recordings: HashMap::new() };
    let mut sync = tokio::time::interval(SYNC_EVERY);
    sync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let batch = tokio::select! {
            batch = reports.next(AT_ONCE) => match batch {
                Some(batch) => batch,
                None => break,
            },
            _ = sync.tick() => Vec::new(),
        };
        let kept = tokio::task::spawn_blocking(move || {
            match batch.is_empty() {
                true => keeper.sync(),
                false => keeper.keep(batch),
            }
            keeper
        });
        match kept.await {
            Ok(back) => keeper = back,
            // The process ends.
            Err(_) => return,
        }
    }
    keeper.sync();
}

impl Keeper {
    fn sync(&mut self) {
        let lost = self.state.take_lost();
        if lost > 0 {
            tracing::warn!(lost, "events were lost: the disk was too slow or the buffer full");
        }
        if let Err(error) = self.writer.sync() {
            tracing::error!(%error, "events cannot be made durable");
        }
    }

    fn keep(&mut self, reports: Vec<Report>) {
        let mut events: Vec<Event> = Vec::with_capacity(reports.len());
        for report in reports {
            let kept = match report {
                Report::Event(event) => {
                    events.push(*event);
                    Ok(())
                }
                Report::Captured { header, path } => self.spool.captured(&header, &path),
                Report::Recorded { session, of, bytes } => self.recorded(session, of, &bytes),
                Report::RecordingEnded { session } => match self.recordings.remove(&session) {
                    Some(true) => self.spool.recorded(session),
                    _ => Ok(()),
                },
            };
            if let Err(error) = kept {
                tracing::warn!(%error, "something of a session cannot be kept");
            }
        }
        let told = events.len() as u64;
        let lost = self.writer.append(&events).unwrap_or_else(|error| {
            tracing::error!(%error, "events cannot be kept");
            told
        });
        if lost > 0 {
            self.state.lose(lost);
        }
    }

    fn recorded(&mut self, session: Uuid, of: Option<Box<ArtifactHeader>>, bytes: &[u8]) -> io::Result<()> {
        if let Some(header) = of {
            let room = self.recordings.len() < MAX_OPEN;
            if room {
                self.spool.begin(session, &header)?;
            }
            self.recordings.insert(session, room);
        }
        if self.recordings.get(&session) != Some(&true) || !self.state.reserve(bytes.len() as u64) {
            return Ok(());
        }
        self.spool.record(session, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{buffer::Buffer, outlet::outlet};

    fn header(name: &str) -> Box<ArtifactHeader> {
        Box::new(ArtifactHeader { kind: "recording".into(), name: name.into(), ..ArtifactHeader::default() })
    }

    #[tokio::test]
    async fn what_is_told_is_on_the_disk_and_a_recording_that_was_cut_off_is_whole_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let (buffer, writer) = Buffer::open(&folder.path().join("buffer"), 1 << 30).unwrap();
        let (outlet, reports) = outlet(spool.incoming());
        let keeper = tokio::spawn(run(reports, writer, spool.clone()));

        let file = spool.incoming().join("one");
        std::fs::write(&file, b"bytes").unwrap();
        let (whole, cut) = (Uuid::now_v7(), Uuid::now_v7());
        outlet.send(Report::Event(Box::new(Event { msg: "first".into(), ..Event::default() })));
        outlet.send(Report::Captured { header: header("one"), path: file });
        outlet.send(Report::Recorded { session: whole, of: Some(header("two")), bytes: b"head\n".to_vec() });
        outlet.send(Report::Recorded { session: whole, of: None, bytes: b"line\n".to_vec() });
        outlet.send(Report::RecordingEnded { session: whole });
        outlet.send(Report::Recorded { session: cut, of: Some(header("three")), bytes: b"cut\n".to_vec() });
        drop(outlet);
        keeper.await.unwrap();

        assert_eq!(buffer.waiting(), 1);
        let bytes = |spool: &Spool| {
            let mut all: Vec<_> = spool.list(10).unwrap().into_iter().map(|name| spool.get(name).unwrap()).collect();
            all.sort_by(|one, other| one.0.name.cmp(&other.0.name));
            all.into_iter().map(|(head, path)| (head.name, std::fs::read(path).unwrap(), head.size)).collect::<Vec<_>>()
        };
        let first = bytes(&spool);
        assert_eq!(first[0], ("one".into(), b"bytes".to_vec(), 0));
        assert_eq!(first[1], ("two".into(), b"head\nline\n".to_vec(), 10));

        let again = Spool::open(folder.path()).unwrap();
        let state = State::default();
        again.recover(&state).unwrap();
        assert_eq!(bytes(&again)[1], ("three".into(), b"cut\n".to_vec(), 4));
        for name in again.list(10).unwrap() {
            again.remove(name, &state).unwrap();
        }
        assert!(again.list(10).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_flood_is_kept_without_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path()).unwrap();
        let (buffer, writer) = Buffer::open(&folder.path().join("buffer"), 1 << 30).unwrap();
        let (outlet, reports) = outlet(spool.incoming());
        let keeper = tokio::spawn(run(reports, writer, spool));
        let began = Instant::now();
        for n in 0..50_000 {
            while outlet.congested() {
                tokio::task::yield_now().await;
            }
            assert!(outlet.send(Report::Event(Box::new(Event { msg: n.to_string(), ..Event::default() }))));
        }
        drop(outlet);
        keeper.await.unwrap();
        println!("50,000 events kept in {:?}", began.elapsed());
        assert_eq!(buffer.waiting(), 50_000);
    }
}
