//! Techniques in memory, for the most frequent read of all.
//!
//! A change made by this process is seen by the next read: each one begins a new generation of entries, and what a
//! slower reader puts in belongs to the old one. A change made by another replica is seen within [`TTL`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aegis_db::Tx;
use moka::sync::Cache;
use uuid::Uuid;

use crate::{domain::technique::Technique, store::techniques::Succession};

/// How long an entry is served.
const TTL: Duration = Duration::from_millis(100);
/// Techniques that are remembered; a matrix has under a thousand.
const ENTRIES: u64 = 2_000;

/// How a technique is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// By ATT&CK id.
    MitreId(String),
    /// By our id.
    Id(Uuid),
}

/// A technique, with what it replaces and what replaces it.
#[derive(Debug)]
pub(crate) struct Found {
    pub technique: Technique,
    pub succession: Succession,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct TechniqueCache {
    generation: Arc<AtomicU64>,
    entries: Cache<(u64, Key), Arc<Found>>,
}

impl TechniqueCache {
    pub(crate) fn new() -> Self {
        TechniqueCache {
            generation: Arc::default(),
            entries: Cache::builder().max_capacity(ENTRIES).time_to_live(TTL).build(),
        }
    }

    /// What is asked for in the present generation: to be taken before the database is read.
    pub(crate) fn slot(&self, key: Key) -> (u64, Key) {
        (self.generation.load(Ordering::Acquire), key)
    }

    pub(crate) fn get(&self, slot: &(u64, Key)) -> Option<Arc<Found>> {
        self.entries.get(slot)
    }

    pub(crate) fn put(&self, slot: (u64, Key), found: Arc<Found>) {
        self.entries.insert(slot, found);
    }

    /// Forgets everything when the transaction has been committed.
    pub(crate) fn clear_on_commit(&self, tx: &mut Tx) {
        let generation = Arc::clone(&self.generation);
        tx.on_commit(move || {
            generation.fetch_add(1, Ordering::AcqRel);
        });
    }
}
