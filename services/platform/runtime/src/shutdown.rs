//! An orderly stop: one token that everything watches, and a count of what still runs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Exit code after a second signal, as after an interrupt.
const INTERRUPTED: i32 = 130;

/// A handle on the stop of this process; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Shutdown {
    /// A stop that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that is cancelled when the process is to stop.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Asks everything to stop.
    pub fn cancel(&self) {
        self.token.cancel();
    }

    /// Whether the process is stopping.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until the process is to stop.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Whether a task has panicked: the process should then end with an error code.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Runs a background task that [`drain`](Self::drain) waits for.
    ///
    /// A panic in it stops the process in good order: one that goes on without, say, its relay
    /// would look healthy and be none.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shutdown = self.clone();
        let run = async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                tracing::error!("task panicked, stopping the process");
                shutdown.failed.store(true, Ordering::Release);
                shutdown.cancel();
            } else {
                tracing::debug!("task ended");
            }
        };
        self.tasks.spawn(run.instrument(tracing::info_span!(parent: None, "task", task = name)))
    }

    /// Asks everything to stop and waits for the tasks; `false` when some still run after `timeout`.
    pub async fn drain(&self, timeout: Duration) -> bool {
        self.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(timeout, self.tasks.wait()).await.is_ok();
        if !ended {
            tracing::warn!(running = self.tasks.len(), "tasks did not end in time");
        }
        ended
    }
}

/// Waits for SIGTERM or SIGINT and starts the stop; the next signal ends the process at once.
pub async fn signals(shutdown: Shutdown) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        // Stopped for another reason: the first signal is then already the impatient one.
        () = shutdown.cancelled() => {}
    }
    shutdown.cancel();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::warn!("second signal: exiting at once");
    std::process::exit(INTERRUPTED)
}
