//! A micro-cache for the answers that everyone asks for and that are the same for everyone.
//!
//! An answer is given again for 100 ms after its reading began. A technique's new status must be readable through
//! every route within 250 ms of the move that caused it; its event needs a few tens of milliseconds to the catalogue
//! and the projection, so 100 ms of memory leave room for that. What passes through this gateway is seen at once: any
//! request that may change something forgets everything, before it is sent on and again after its answer.
//!
//! The bearer is verified for every request, cached or not; a caller whose password must be changed first gets past
//! the memory to the service, which refuses.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::Uri;
use tokio::sync::OnceCell;

use crate::{answer::Answer, error::Problem, extract::Caller};

/// How old an answer may be, counted from when its reading began.
const LIFE: Duration = Duration::from_millis(100);
/// Answers kept at the same time.
const MAX_ENTRIES: usize = 128;
/// A larger answer is shared by those who wait for it, not kept.
const MAX_KEPT_BYTES: usize = 256 * 1024;
/// A longer path and query are not worth keeping.
const MAX_KEY_BYTES: usize = 512;

/// The memory. See the module.
#[derive(Default)]
pub struct Hot {
    generation: AtomicU64,
    slots: Mutex<HashMap<Box<str>, Slot>>,
}

#[derive(Clone)]
struct Slot {
    generation: u64,
    began: Instant,
    answer: Arc<OnceCell<Answer>>,
}

/// A change on its way; dropping it ends it.
pub struct Change<'a>(&'a Hot);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

impl Hot {
    /// To be held while a request that may change something is under way.
    pub fn change(&self) -> Change<'_> {
        self.forget();
        Change(self)
    }

    fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// The answer to a GET of `uri`, remembered or from `load`; requests for the same at the same time wait for one.
    pub async fn answer<F>(&self, caller: &Caller, uri: &Uri, load: F) -> Result<Answer, Problem>
    where
        F: Future<Output = Result<Answer, Problem>>,
    {
        let key = uri.path_and_query().map_or("", |pq| pq.as_str());
        if caller.principal.must_change_password || key.len() > MAX_KEY_BYTES {
            return load.await;
        }
        let slot = self.slot(key);
        let answer = slot.answer.get_or_try_init(|| load).await?.clone();
        if answer.size() > MAX_KEPT_BYTES {
            self.slots().remove(key);
        }
        Ok(answer)
    }

    fn slot(&self, key: &str) -> Slot {
        let generation = self.generation.load(Ordering::SeqCst);
        let now = Instant::now();
        let holds = |slot: &Slot| slot.generation == generation && now.duration_since(slot.began) < LIFE;
        let mut slots = self.slots();
        if let Some(slot) = slots.get(key)
            && holds(slot)
        {
            return slot.clone();
        }
        if slots.len() >= MAX_ENTRIES {
            slots.retain(|_, slot| holds(slot));
        }
        if slots.len() >= MAX_ENTRIES {
            slots.clear();
        }
        let slot = Slot { generation, began: now, answer: Arc::default() };
        slots.insert(key.into(), slot.clone());
        slot
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn uri() -> Uri {
        Uri::from_static("/api/v1/tactics?domain=ics")
    }

    async fn ask(hot: &Hot, caller: &Caller, loads: &AtomicUsize) -> Result<Answer, Problem> {
        hot.answer(caller, &uri(), async {
            loads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Answer::json("same")
        })
        .await
    }

    #[tokio::test]
    async fn those_who_ask_at_once_share_one_reading_and_a_change_ends_it() {
        let (hot, loads, caller) = (Hot::default(), AtomicUsize::new(0), Caller::example(false));
        let (a, b) = tokio::join!(ask(&hot, &caller, &loads), ask(&hot, &caller, &loads));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        let change = hot.change();
        ask(&hot, &caller, &loads).await.unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 2);
        drop(change);
        ask(&hot, &caller, &loads).await.unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn who_must_change_the_password_gets_nothing_from_memory() {
        let (hot, loads) = (Hot::default(), AtomicUsize::new(0));
        ask(&hot, &Caller::example(false), &loads).await.unwrap();
        ask(&hot, &Caller::example(true), &loads).await.unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let (hot, caller) = (Hot::default(), Caller::example(false));
        let failed = hot.answer(&caller, &uri(), async { Err(Problem::empty()) }).await;
        assert!(failed.is_err());
        assert!(ask(&hot, &caller, &AtomicUsize::new(0)).await.is_ok());
    }

    #[tokio::test]
    async fn the_number_of_answers_is_bounded() {
        let (hot, caller) = (Hot::default(), Caller::example(false));
        for n in 0..1000 {
            let uri: Uri = format!("/api/v1/techniques?search={n}").parse().unwrap();
            hot.answer(&caller, &uri, async { Answer::json(&n) }).await.unwrap();
        }
        assert!(hot.slots().len() <= MAX_ENTRIES);
    }
}
