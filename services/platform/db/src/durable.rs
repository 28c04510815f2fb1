//! Group commit for SQLite: many committed transactions share one flush of the write-ahead log.
//!
//! SQLite runs with `synchronous=NORMAL`, which writes a commit to the log and leaves the flush to the checkpoint.
//! A transaction that must be on the disk waits here for a flush that began after its commit; all that wait at one
//! time share it. A flush takes milliseconds, so this is what makes eight writers as fast as one.

use std::{
    fs::File,
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use tokio::sync::oneshot;

use crate::{Error, Result};

type Waiter = oneshot::Sender<std::io::Result<()>>;

/// Flushes one write-ahead log for all who ask. Ends with its last handle.
#[derive(Debug)]
pub(crate) struct GroupSync {
    ask: Option<mpsc::Sender<Waiter>>,
    written: AtomicBool,
}

impl GroupSync {
    /// For the log at `path`, which must exist.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        // The log is never locked by SQLite (its locks are on the database and the index of the log), so a handle
        // of our own cannot drop a lock.
        let log = File::open(path)?;
        let (ask, asked) = mpsc::channel::<Waiter>();
        thread::Builder::new().name("wal-flush".into()).spawn(move || {
            while let Ok(first) = asked.recv() {
                let mut waiting = vec![first];
                waiting.extend(asked.try_iter());
                let result = log.sync_data();
                for waiter in waiting {
                    let copy = match &result {
                        Ok(()) => Ok(()),
                        Err(e) => Err(std::io::Error::new(e.kind(), e.to_string())),
                    };
                    // A waiter that left does not want to know.
                    let _ = waiter.send(copy);
                }
            }
        })?;
        Ok(GroupSync { ask: Some(ask), written: AtomicBool::new(false) })
    }

    /// For a database in memory, which has nothing to flush.
    pub(crate) fn none() -> Self {
        GroupSync { ask: None, written: AtomicBool::new(false) }
    }

    /// Something was committed.
    pub(crate) fn written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    /// Whether something was committed since the last time this was asked.
    pub(crate) fn take_written(&self) -> bool {
        self.written.swap(false, Ordering::Relaxed)
    }

    /// Returns after a flush that began after this call.
    pub(crate) async fn wait(&self) -> Result<()> {
        let Some(ask) = &self.ask else { return Ok(()) };
        let (sender, flushed) = oneshot::channel();
        let gone = || std::io::Error::other("the thread that flushes the log has ended");
        ask.send(sender).map_err(|_| gone())?;
        flushed.await.map_err(|_| gone())?.map_err(Error::Disk)
    }
}
