//! Figures that take a while to compute, kept for a while: a hundred times as long as it took, five minutes at most.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aegis_db::now;
use chrono::{DateTime, Utc};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use crate::error::Error;

/// What was computed in a hundredth of the time is good for that time.
const WORTH: u32 = 100;
/// But never for longer.
const MOST: Duration = Duration::from_secs(300);
/// What takes no longer than this is waited for, rather than answered from before.
const QUICK: Duration = Duration::from_millis(10);

/// What was computed, and of when it is.
#[derive(Debug)]
pub(crate) struct Figure<T> {
    pub(crate) value: T,
    pub(crate) as_of: DateTime<Utc>,
    began: Instant,
    took: Duration,
}

/// What a figure of some age is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// For an answer.
    Fresh,
    /// For an answer, while a new one is computed.
    Stale,
    /// For nothing.
    Old,
}

fn standing(took: Duration, age: Duration) -> Standing {
    let fresh = took.saturating_mul(WORTH).min(MOST);
    if age <= fresh {
        Standing::Fresh
    } else if took > QUICK && age <= MOST * 2 {
        Standing::Stale
    } else {
        Standing::Old
    }
}

type Computed<T> = Result<Arc<Figure<T>>, Arc<aegis_db::Error>>;
type Running<T> = Shared<BoxFuture<'static, Computed<T>>>;

struct Slot<T> {
    figure: Option<Arc<Figure<T>>>,
    running: Option<Running<T>>,
}

/// One figure, computed by one task at a time however many ask for it. Cheap to clone.
pub(crate) struct Kept<T>(Arc<Mutex<Slot<T>>>);

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Kept(Arc::clone(&self.0))
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(Arc::new(Mutex::new(Slot { figure: None, running: None })))
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// The figure; `compute` begins only when there is none that is fresh, and ends even if nobody waits any more.
    pub(crate) async fn get<F>(&self, compute: impl FnOnce() -> F) -> Result<Arc<Figure<T>>, Error>
    where
        F: Future<Output = aegis_db::Result<T>> + Send + 'static,
    {
        let running = {
            let mut slot = self.slot();
            let now = slot.figure.as_ref().map(|figure| standing(figure.took, figure.began.elapsed()));
            if now == Some(Standing::Fresh)
                && let Some(figure) = &slot.figure
            {
                return Ok(Arc::clone(figure));
            }
            let running = match &slot.running {
                Some(running) if running.peek().is_none() => running.clone(),
                _ => {
                    let running = self.begin(compute());
                    slot.running = Some(running.clone());
                    running
                }
            };
            if now == Some(Standing::Stale)
                && let Some(figure) = &slot.figure
            {
                return Ok(Arc::clone(figure));
            }
            running
        };
        running.await.map_err(Error::Shared)
    }

    /// Computes in a task of its own.
    fn begin<F>(&self, compute: F) -> Running<T>
    where
        F: Future<Output = aegis_db::Result<T>> + Send + 'static,
    {
        let kept = self.clone();
        let task = tokio::spawn(async move {
            let (as_of, began) = (now(), Instant::now());
            let value = compute.await.map_err(Arc::new)?;
            let figure = Arc::new(Figure { value, as_of, began, took: began.elapsed() });
            kept.slot().figure = Some(Arc::clone(&figure));
            Ok(figure)
        });
        let ended = task.map(|ended| ended.unwrap_or_else(|_| Err(Arc::new(sqlx::Error::WorkerCrashed.into()))));
        ended.boxed().shared()
    }

    /// Nothing can fail while it is held, so what it holds is whole.
    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_figure_is_good_for_a_hundred_times_as_long_as_it_took() {
        assert_eq!(standing(ms(1), ms(100)), Standing::Fresh);
        // So quick that the new one is waited for.
        assert_eq!(standing(ms(1), ms(101)), Standing::Old);
        assert_eq!(standing(ms(500), ms(50_000)), Standing::Fresh);
        assert_eq!(standing(ms(500), ms(50_001)), Standing::Stale);
        assert_eq!(standing(ms(60_000), MOST), Standing::Fresh);
        assert_eq!(standing(ms(60_000), MOST + ms(1)), Standing::Stale);
        assert_eq!(standing(ms(60_000), MOST * 2 + ms(1)), Standing::Old);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_computation() {
        let (kept, begun, go) = (Kept::<usize>::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (kept, begun, go) = (kept.clone(), Arc::clone(&begun), Arc::clone(&go));
            async move {
                kept.get(move || {
                    let n = begun.fetch_add(1, Ordering::SeqCst);
                    async move {
                        go.notified().await;
                        Ok(n)
                    }
                })
                .await
            }
        };
        let asked: Vec<_> = (0..8).map(|_| tokio::spawn(ask())).collect();
        while begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // One of them has gone meanwhile.
        asked[0].abort();
        go.notify_one();
        for asked in asked.into_iter().skip(1) {
            assert_eq!(asked.await.unwrap().unwrap().value, 0);
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_is_told_and_tried_again() {
        let kept = Kept::<usize>::default();
        let failed = kept.get(|| async { Err(sqlx::Error::PoolTimedOut.into()) }).await;
        assert!(matches!(failed, Err(Error::Shared(_))));
        assert_eq!(kept.get(|| async { Ok(7) }).await.unwrap().value, 7);
    }
}
