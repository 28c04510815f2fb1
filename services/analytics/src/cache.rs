//! Coverage in memory: tens of thousands of readers a second share what was read once, and what changes is read alone.

use std::{
    collections::HashSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aegis_db::{Db, Tx};
use moka::future::Cache;
use uuid::Uuid;

use crate::{
    domain::{
        coverage::{self, Summary},
        known,
        matrix::{Knowledge, Matrix, MatrixTechnique},
    },
    error::Error,
    store::{self, matrix::Stamp},
};

/// Changes of another replica are seen after this at the latest.
const TTL: Duration = Duration::from_millis(100);

/// What was read at a moment, and what follows from it at once.
#[derive(Debug)]
pub(crate) struct View {
    stamp: Stamp,
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) summary: Summary,
}

/// Shared by readers and the projector. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Coverage {
    db: Db,
    // The key is the generation: what was read before a change of this process cannot answer after it.
    generation: Arc<AtomicU64>,
    views: Cache<u64, Arc<View>>,
    /// The last that was read: the next one starts from it.
    last: Arc<RwLock<Option<Arc<View>>>>,
}

impl Coverage {
    pub(crate) fn new(db: Db) -> Self {
        let views = Cache::builder().max_capacity(4).time_to_live(TTL).build();
        Coverage { db, generation: Arc::default(), views, last: Arc::default() }
    }

    /// What is known now.
    pub(crate) async fn view(&self) -> Result<Arc<View>, Error> {
        let generation = self.generation.load(Ordering::Acquire);
        self.views.try_get_with(generation, self.read()).await.map_err(Error::Shared)
    }

    /// Forgets what is held as soon as the transaction has been committed.
    pub(crate) fn renew_on_commit(&self, tx: &mut Tx) {
        let generation = Arc::clone(&self.generation);
        tx.on_commit(move || {
            generation.fetch_add(1, Ordering::Release);
        });
    }

    async fn read(&self) -> aegis_db::Result<Arc<View>> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner).clone();
        // One state for all queries: what the stamp tells of is in the rows.
        let mut tx = self.db.begin_read().await?;
        let view = next(&mut tx, last).await?;
        tx.rollback().await?;
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        // Two generations may be read at the same time; the newer one stays.
        if last.as_ref().is_none_or(|last| last.stamp.as_of <= view.stamp.as_of) {
            *last = Some(Arc::clone(&view));
        }
        Ok(view)
    }
}

async fn next(tx: &mut Tx, last: Option<Arc<View>>) -> aegis_db::Result<Arc<View>> {
    let stamp = store::matrix::stamp(tx).await?;
    let weights = store::weights::current(tx).await?;
    // Without a moment nothing was ever taken in; with an older one than before, a backup was put in place.
    let last = last.filter(|last| last.stamp.epoch == stamp.epoch && last.stamp.as_of <= stamp.as_of);
    if let Some(last) = &last
        && last.stamp == stamp
        && last.matrix.weights == weights
    {
        return Ok(Arc::clone(last));
    }
    let knowledge = match &last {
        Some(last) if last.stamp.knowledge_revision == stamp.knowledge_revision => Arc::clone(&last.matrix.knowledge),
        _ => Arc::new(known::knowledge(store::knowledge::all(tx).await?)),
    };
    let observed = match &last {
        Some(last) if last.stamp.observed_revision == stamp.observed_revision => Arc::clone(&last.matrix.observed),
        _ => {
            let all = store::observed::all(tx).await?;
            Arc::new(all.into_iter().map(|observed| (Arc::clone(&observed.mitre_id), observed)).collect())
        }
    };
    let since = last.as_ref().and_then(|last| last.stamp.as_of);
    let (changed, gone) = store::matrix::techniques(tx, since).await?;
    let held = last.as_ref().filter(|_| since.is_some()).map(|last| last.matrix.techniques.as_slice());
    let techniques = merge(held.unwrap_or_default(), changed, gone.into_iter().collect(), &knowledge);
    let matrix = Matrix { as_of: stamp.as_of, weights, techniques, knowledge, observed };
    let summary = coverage::summary(&matrix);
    Ok(Arc::new(View { stamp, matrix: Arc::new(matrix), summary }))
}

/// Those that are held, with the changed ones in their place and without those that are gone; in the order of a matrix.
fn merge(
    held: &[MatrixTechnique],
    changed: Vec<MatrixTechnique>,
    mut away: HashSet<Uuid>,
    knowledge: &Knowledge,
) -> Vec<MatrixTechnique> {
    away.extend(changed.iter().map(|technique| technique.id));
    let mut techniques: Vec<MatrixTechnique> =
        held.iter().filter(|technique| !away.contains(&technique.id)).cloned().chain(changed).collect();
    for technique in &mut techniques {
        technique.attack_version = knowledge.releases.get(&technique.domain).cloned();
    }
    techniques.sort_by(|a, b| (&a.mitre_id, &a.domain, a.id).cmp(&(&b.mitre_id, &b.domain, b.id)));
    techniques
}
