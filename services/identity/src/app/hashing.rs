//! Hashing of passwords: off the async threads, a few at a time, with a bounded queue before them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aegis_error::Failure;
use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// Callers that may wait for a slot; the next is told to come back later.
const MAX_WAITING: usize = 64;

/// What a login of nobody is compared with. It has the parameters of a real hash and the password of none, so that
/// a login takes as long whether or not there is such a user.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Gives out slots for hashing. The parameters are those of `Argon2::default()`: argon2id, 19 MiB, two passes, one
/// lane.
#[derive(Debug)]
pub(super) struct Hasher {
    slots: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The right to hash; given back when dropped, but not before a hash that was begun has ended.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Hasher {
    pub(super) fn new(workers: usize) -> Self {
        Hasher { slots: Arc::new(Semaphore::new(workers)), waiting: Arc::default() }
    }

    /// Waits for a slot, unless too many do already.
    pub(super) async fn enter(&self) -> Result<Slot, Error> {
        let place = Place::take(&self.waiting);
        if place.before >= MAX_WAITING {
            return Err(Error::HashingQueueFull);
        }
        let permit = Arc::clone(&self.slots).acquire_owned().await.map_err(Failure::internal)?;
        Ok(Slot { _permit: Arc::new(permit) })
    }
}

/// A place in the queue; left when dropped, also when the caller goes away.
struct Place {
    waiting: Arc<AtomicUsize>,
    before: usize,
}

impl Place {
    fn take(waiting: &Arc<AtomicUsize>) -> Self {
        Place { waiting: Arc::clone(waiting), before: waiting.fetch_add(1, Ordering::AcqRel) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Slot {
    /// The hash of a password, as a PHC string with a salt of its own.
    pub(super) async fn hash(&self, password: &SecretString) -> Result<String, Error> {
        let password = password.clone();
        let hash = self.aside(move || {
            Argon2::default().hash_password(password.expose_secret().as_bytes()).map(|hash| hash.to_string())
        });
        Ok(hash.await?.map_err(Failure::internal)?)
    }

    /// Whether this is the password of the hash. `None` takes as long and is never right.
    pub(super) async fn verify(&self, password: &SecretString, hash: Option<String>) -> Result<bool, Error> {
        let password = password.clone();
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        let verified =
            self.aside(move || Argon2::default().verify_password(password.expose_secret().as_bytes(), hash.as_str()));
        match verified.await? {
            Ok(()) => Ok(known),
            Err(password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(Failure::internal(error).into()),
        }
    }

    /// Does the work on a thread of its own, which gives way to all others: a storm of logins is to slow logins,
    /// not the requests of those who are signed in. A thread costs a thousandth of the hash.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let (done, answer) = tokio::sync::oneshot::channel();
        let slot = self.clone();
        let run = move || {
            let _slot = slot;
            give_way();
            // Nobody waits any more where this fails.
            let _ = done.send(work());
        };
        std::thread::Builder::new().name("hashing".to_owned()).spawn(run).map_err(Failure::internal)?;
        Ok(answer.await.map_err(Failure::internal)?)
    }
}

/// Has this thread run only where nothing else wants to. Elsewhere than on Linux a thread has no such policy.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let own = thread_priority::thread_native_id();
        if let Err(error) = thread_priority::set_thread_priority_and_policy(own, ThreadPriority::Min, idle) {
            tracing::debug!(%error, "hashing keeps its priority");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_verifies_its_password_alone() {
        let slot = Hasher::new(1).enter().await.unwrap();
        let hash = slot.hash(&"correct horse".into()).await.unwrap();
        assert!(slot.verify(&"correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!slot.verify(&"wrong horse".into(), Some(hash.clone())).await.unwrap());
        assert_ne!(hash, slot.hash(&"correct horse".into()).await.unwrap(), "salted");
        assert!(!slot.verify(&"".into(), None).await.unwrap());
        assert!(slot.verify(&"x".into(), Some("no hash".into())).await.is_err());
    }

    #[tokio::test]
    async fn nobody_has_the_parameters_of_a_real_hash() {
        let hash = Hasher::new(1).enter().await.unwrap().hash(&"x".into()).await.unwrap();
        let shape = |hash: &str| {
            let parts: Vec<&str> = hash.split('$').collect();
            (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned(), parts[4].len(), parts[5].len())
        };
        assert_eq!(shape(&hash), shape(NOBODY));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_those_who_leave_leave_it() {
        let hasher = Hasher::new(1);
        let slot = hasher.enter().await.unwrap();
        {
            let mut queue: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(hasher.enter())).collect();
            for waiter in &mut queue {
                assert!(futures::poll!(waiter).is_pending());
            }
            assert!(matches!(hasher.enter().await, Err(Error::HashingQueueFull)));
        }
        drop(slot);
        assert!(hasher.enter().await.is_ok());
    }
}
