//! A server that is started again when it ends, with the same data at the same address: tests kill it to see what the
//! product makes of that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::proc::Proc;

/// How often it is looked after.
const LOOK: Duration = Duration::from_millis(50);
/// Starts after the first, at most: one that ends each time is not kept for ever.
const MOST: usize = 400;

/// Looks after one server. Stops it when dropped.
#[derive(Debug)]
pub struct Keeper {
    kept: Arc<Mutex<Kept>>,
    pid_file: PathBuf,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Kept {
    /// Gone once it is not wanted any more.
    server: Option<Proc>,
    stopping: bool,
    /// While it is to stay away.
    held: bool,
    gave_up: Option<String>,
}

impl Keeper {
    /// Looks after `server`, which `again` starts anew. The number of its process is in `pid_file`.
    pub fn new(
        server: Proc,
        mut again: impl FnMut() -> Result<Proc> + Send + 'static,
        pid_file: PathBuf,
    ) -> Result<Self> {
        tell(&pid_file, &server)?;
        let kept = Arc::new(Mutex::new(Kept { server: Some(server), stopping: false, held: false, gave_up: None }));
        let (theirs, file) = (Arc::clone(&kept), pid_file.clone());
        let look_after = move || {
            let mut starts = 0;
            loop {
                thread::sleep(LOOK);
                let mut kept = lock(&theirs);
                if kept.stopping || kept.gave_up.is_some() {
                    return;
                }
                let held = kept.held;
                let Some(server) = kept.server.as_mut() else { return };
                if held || server.alive() {
                    continue;
                }
                starts += 1;
                if starts > MOST {
                    kept.gave_up = server.check_alive().err().map(|error| format!("{error:#}"));
                    return;
                }
                // What it may have left in its group goes first.
                kept.server = None;
                match again().and_then(|server| tell(&file, &server).map(|()| server)) {
                    Ok(server) => kept.server = Some(server),
                    Err(error) => kept.gave_up = Some(format!("{error:#}")),
                }
            }
        };
        let thread = thread::Builder::new().name("keeper".into()).spawn(look_after)?;
        Ok(Self { kept, pid_file, thread: Some(thread) })
    }

    /// Where the number of the process is.
    pub fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    /// The number of the process that runs, or ran last.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.kept).server.as_ref().map(Proc::id)
    }

    /// Whether it stays away when it ends, until this is taken back.
    pub fn hold(&self, held: bool) {
        lock(&self.kept).held = held;
    }

    /// Whether it runs.
    pub fn alive(&self) -> bool {
        lock(&self.kept).server.as_mut().is_some_and(Proc::alive)
    }

    /// Fails if it could not be started again.
    pub fn check(&self) -> Result<()> {
        match &lock(&self.kept).gave_up {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }

    /// Asks the server to end, and does not wait.
    pub fn begin_stop(&mut self) {
        let mut kept = lock(&self.kept);
        kept.stopping = true;
        if let Some(server) = kept.server.as_mut() {
            server.begin_stop();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.begin_stop();
        if let Some(thread) = self.thread.take() {
            // It ends at its next look.
            let _ = thread.join();
        }
        let server = lock(&self.kept).server.take();
        drop(server);
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Written whole: a reader sees the old number or the new one.
fn tell(file: &Path, server: &Proc) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, server.id().to_string())
        .and_then(|()| fs::rename(&new, file))
        .with_context(|| format!("cannot write {}", file.display()))
}
