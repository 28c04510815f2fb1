//! The way out of sessions: what they tell goes into one bounded queue, whose other end keeps it on the disk.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use aegis_proto::deception::v1::{ArtifactHeader, Event};
use prost_types::Timestamp;
use tokio::sync::mpsc;
use uuid::Uuid;

/// What may wait for the disk, bytes. Beyond it events are lost, and counted.
const MAX_WAITING: usize = 32 * 1024 * 1024;
/// From here on attackers wait: their connections are not read.
const CONGESTED: usize = MAX_WAITING / 2;
/// What captured files that are not handed in yet may take, bytes.
const MAX_CAPTURED: u64 = 1024 * 1024 * 1024;

/// Something that a session tells.
#[derive(Debug)]
pub(crate) enum Report {
    /// It happened.
    Event(Box<Event>),
    /// A piece of a recording; the first one of a session has its header.
    Recorded { session: Uuid, of: Option<Box<ArtifactHeader>>, bytes: Vec<u8> },
    /// A recording is whole.
    RecordingEnded { session: Uuid },
    /// A file is whole.
    Captured { header: Box<ArtifactHeader>, path: PathBuf },
}

impl Report {
    /// About what it takes.
    fn weight(&self) -> usize {
        match self {
            Report::Event(event) => 256 + event.msg.len() + event.fields_json.len(),
            Report::Recorded { bytes, .. } => 256 + bytes.len(),
            Report::RecordingEnded { .. } | Report::Captured { .. } => 512,
        }
    }
}

/// The sessions' end. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Shared>);

struct Shared {
    queue: mpsc::UnboundedSender<Report>,
    state: Arc<State>,
    incoming: PathBuf,
}

/// What both ends know.
#[derive(Debug, Default)]
pub(crate) struct State {
    waiting: AtomicUsize,
    lost: AtomicU64,
    captured: AtomicU64,
    /// Sessions that are open.
    pub(crate) open: AtomicUsize,
}

/// The disk's end.
pub(crate) struct Reports {
    queue: mpsc::UnboundedReceiver<Report>,
    state: Arc<State>,
}

/// A queue; files that are being captured lie in `incoming`.
pub(crate) fn outlet(incoming: PathBuf) -> (Outlet, Reports) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let state = Arc::new(State::default());
    let outlet = Outlet(Arc::new(Shared { queue: sender, state: state.clone(), incoming }));
    (outlet, Reports { queue: receiver, state })
}

impl Outlet {
    /// Hands it on; false when there is no room and it is lost.
    pub(crate) fn send(&self, report: Report) -> bool {
        let weight = report.weight();
        let state = &self.0.state;
        // An end takes no room, and without it what was begun would stay open.
        let small = !matches!(report, Report::Event(_) | Report::Recorded { .. });
        if !small && state.waiting.load(Ordering::Relaxed).saturating_add(weight) > MAX_WAITING {
            state.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        state.waiting.fetch_add(weight, Ordering::Relaxed);
        self.0.queue.send(report).is_ok()
    }

    /// Whether attackers are to wait.
    pub(crate) fn congested(&self) -> bool {
        self.0.state.waiting.load(Ordering::Relaxed) > CONGESTED
    }

    /// Where files are written while they come.
    pub(crate) fn incoming(&self) -> &PathBuf {
        &self.0.incoming
    }

    /// What both ends know.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.0.state
    }
}

impl State {
    /// Room for so many bytes of a captured file, until [`State::release`].
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        let before = self.captured.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MAX_CAPTURED {
            self.release(bytes);
            return false;
        }
        true
    }

    /// The room is free again.
    pub(crate) fn release(&self, bytes: u64) {
        let less = |now: u64| Some(now.saturating_sub(bytes));
        let _ = self.captured.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Counts what could not be kept.
    pub(crate) fn lose(&self, events: u64) {
        self.lost.fetch_add(events, Ordering::Relaxed);
    }

    /// How many were lost since this was asked.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Reports {
    /// What both ends know.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Waits for what is told, at most `limit` of it at once; none when all sessions are gone.
    pub(crate) async fn next(&mut self, limit: usize) -> Option<Vec<Report>> {
        let mut reports = Vec::new();
        if self.queue.recv_many(&mut reports, limit).await == 0 {
            return None;
        }
        self.taken(&reports);
        Some(reports)
    }

    fn taken(&self, reports: &[Report]) {
        let weight = reports.iter().map(Report::weight).sum();
        self.state.waiting.fetch_sub(weight, Ordering::Relaxed);
    }
}

/// A time as protobuf has it.
pub(crate) fn timestamp(at: chrono::DateTime<chrono::Utc>) -> Timestamp {
    // Never out of range: below a second.
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}
