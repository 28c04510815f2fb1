//! The tests of a technique, kept for a moment: every reading of a technique asks for them.
//!
//! An entry lives at most 100 ms, and goes at once when this process commits a change to a test of the technique;
//! so only a change made by another replica can be unseen, and for no longer than that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use uuid::Uuid;

use super::read::TestPage;
use crate::store::test::text_bytes;

const KEEP: Duration = Duration::from_millis(100);
/// Text held at most, bytes.
const CAPACITY: u64 = 16 * 1024 * 1024;

/// First pages of the tests of techniques. Cheap to clone; clones share the pages.
#[derive(Clone)]
pub struct TechniqueTests {
    pages: Cache<Uuid, (i64, Arc<TestPage>)>,
    changes: Arc<AtomicU64>,
}

/// The moment before a page is read from the database.
#[derive(Clone, Copy)]
pub struct Moment(u64);

impl TechniqueTests {
    /// Holds nothing yet.
    pub fn new() -> Self {
        let pages = Cache::builder()
            .time_to_live(KEEP)
            .max_capacity(CAPACITY)
            .weigher(|_, (_, page): &(i64, Arc<TestPage>)| {
                u32::try_from(page.tests.iter().map(text_bytes).sum::<usize>() + 256).unwrap_or(u32::MAX)
            })
            .build();
        TechniqueTests { pages, changes: Arc::default() }
    }

    /// The first page of that size.
    pub fn get(&self, technique: Uuid, size: i64) -> Option<Arc<TestPage>> {
        let (of_size, page) = self.pages.get(&technique)?;
        (of_size == size).then_some(page)
    }

    /// To be taken before the page is read.
    pub fn moment(&self) -> Moment {
        Moment(self.changes.load(Ordering::SeqCst))
    }

    /// Keeps a page that was read after `moment`, unless a change came in between.
    pub fn put(&self, technique: Uuid, size: i64, page: Arc<TestPage>, moment: Moment) {
        self.pages.insert(technique, (size, page));
        // A change counts itself before it removes the page: it finds this page, or it is found here.
        if self.changes.load(Ordering::SeqCst) != moment.0 {
            self.pages.invalidate(&technique);
        }
    }

    /// A change to a test of the technique has been committed.
    pub fn changed(&self, technique: Uuid) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.pages.invalidate(&technique);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_read_before_a_change_is_not_kept() {
        let hot = TechniqueTests::new();
        let technique = Uuid::now_v7();
        let page = Arc::new(TestPage { tests: Vec::new(), next_page_token: String::new(), total_size: 0 });
        let moment = hot.moment();
        hot.changed(technique);
        hot.put(technique, 50, Arc::clone(&page), moment);
        assert!(hot.get(technique, 50).is_none());
        hot.put(technique, 50, page, hot.moment());
        assert!(hot.get(technique, 200).is_none());
        hot.changed(technique);
        assert!(hot.get(technique, 50).is_none());
    }
}
