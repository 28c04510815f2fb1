//! Whether the process can take requests, asked from its parts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, join_all};

use crate::Shutdown;

/// How long one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer is reused: probes from many sides must not load the stores.
const REUSE: Duration = Duration::from_millis(500);

/// The outcome of every check, by name.
pub type Report = Vec<(&'static str, Result<(), String>)>;

/// The question of a [`Check`].
pub type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// One thing that should work; its message must hold no secret.
#[derive(Clone)]
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// Whether the process is of no use without it. Else its failure is told, and requests still come.
    pub needed: bool,
    /// Asks it.
    pub probe: Probe,
}

impl Check {
    /// A check of an async function, of something that is needed.
    pub fn new<F, Fut>(name: &'static str, probe: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self { name, needed: true, probe: Arc::new(move || Box::pin(probe())) }
    }

    /// The same of something without which most goes on: if every process that misses it took no requests any more,
    /// little would become nothing.
    pub fn optional(self) -> Self {
        Self { needed: false, ..self }
    }

    async fn ask(self) -> (&'static str, Result<(), String>) {
        let answer = tokio::time::timeout(CHECK_TIMEOUT, (self.probe)()).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        (self.name, answer)
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

type Round = Shared<BoxFuture<'static, Arc<Report>>>;

/// All checks of the process.
#[derive(Clone)]
pub struct Readiness {
    shutdown: Shutdown,
    checks: Arc<[Check]>,
    // The round itself is shared, so that callers at the same time wait for one and no lock is held.
    last: Arc<Mutex<Option<(Instant, Round)>>>,
}

impl Readiness {
    /// Readiness of these checks, and of not being asked to stop.
    pub fn new(shutdown: Shutdown, checks: Vec<Check>) -> Self {
        Self { shutdown, checks: checks.into(), last: Arc::default() }
    }

    /// Runs the checks at the same time, or reuses an answer of the last half second.
    pub async fn report(&self) -> Report {
        let mut report = self.round().await.as_ref().clone();
        let process = match self.shutdown.is_cancelled() {
            true => Err("stopping".to_owned()),
            false => Ok(()),
        };
        report.insert(0, ("process", process));
        report
    }

    /// Whether all is well that is needed.
    pub async fn ready(&self) -> bool {
        self.report().await.iter().all(|(name, answer)| answer.is_ok() || !self.needs(name))
    }

    /// Whether the process is of no use without what is checked under this name.
    pub fn needs(&self, name: &str) -> bool {
        !self.checks.iter().any(|check| check.name == name && !check.needed)
    }

    fn round(&self) -> Round {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, round)) = last.as_ref()
            && at.elapsed() < REUSE
        {
            return round.clone();
        }
        let checks = Arc::clone(&self.checks);
        let round = async move { Arc::new(join_all(checks.iter().cloned().map(Check::ask)).await) }.boxed().shared();
        *last = Some((Instant::now(), round.clone()));
        round
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("checks", &self.checks).finish_non_exhaustive()
    }
}
