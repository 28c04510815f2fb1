//! Coverage in memory: tens of thousands of readers a second share one query.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aegis_db::{Db, Tx};
use moka::future::Cache;

use crate::{
    error::Error,
    store::{self, SummaryRow, TacticRow},
};

/// Changes of another replica are seen after this at the latest.
const TTL: Duration = Duration::from_millis(100);

/// Shared by readers and the projector. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Coverage {
    db: Db,
    // The key is the generation: a query that began before a change of this process cannot answer after it.
    generation: Arc<AtomicU64>,
    summary: Cache<u64, Arc<SummaryRow>>,
    tactics: Cache<u64, Arc<Vec<TacticRow>>>,
}

impl Coverage {
    pub(crate) fn new(db: Db) -> Self {
        Coverage { db, generation: Arc::default(), summary: cache(), tactics: cache() }
    }

    pub(crate) async fn summary(&self) -> Result<Arc<SummaryRow>, Error> {
        self.read(&self.summary, store::summary(&self.db)).await
    }

    pub(crate) async fn tactics(&self) -> Result<Arc<Vec<TacticRow>>, Error> {
        self.read(&self.tactics, store::tactics(&self.db)).await
    }

    /// Forgets what is held as soon as the transaction has been committed.
    pub(crate) fn renew_on_commit(&self, tx: &mut Tx) {
        let generation = Arc::clone(&self.generation);
        tx.on_commit(move || {
            generation.fetch_add(1, Ordering::Release);
        });
    }

    async fn read<T: Send + Sync + 'static>(
        &self,
        cache: &Cache<u64, Arc<T>>,
        query: impl Future<Output = aegis_db::Result<T>>,
    ) -> Result<Arc<T>, Error> {
        let generation = self.generation.load(Ordering::Acquire);
        cache.try_get_with(generation, async { query.await.map(Arc::new) }).await.map_err(Error::Shared)
    }
}

fn cache<T: Send + Sync + 'static>() -> Cache<u64, Arc<T>> {
    Cache::builder().max_capacity(4).time_to_live(TTL).build()
}
