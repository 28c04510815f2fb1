//! How far a sync is: told by whoever works, read by whoever writes it down.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::fetch::Format;

/// Hundredths of a percent at which the phases end.
const FETCHED: u32 = 3_000;
const PARSED: u32 = 7_000;
const APPLIED: u32 = 10_000;
/// Bytes that a document whose length nobody told may have.
const USUAL_BYTES: u64 = 32 * 1024 * 1024;
/// How many times smaller a packed bundle is, about.
const USUAL_RATIO: u64 = 16;

/// Only goes forward.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU32);

impl Progress {
    /// 0 to 100.
    pub(super) fn percentage(&self) -> f64 {
        f64::from(self.0.load(Ordering::Relaxed)) / 100.0
    }

    /// The phase that this much belongs to.
    pub(super) fn phase(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            ..FETCHED => "fetching",
            FETCHED..PARSED => "parsing",
            PARSED..APPLIED => "applying",
            APPLIED.. => "done",
        }
    }

    /// So many bytes (or files) are here of one of several parts, which count the same.
    pub(super) fn fetching_part(&self, part: u32, parts: u32, bytes: u64, total: Option<u64>) {
        let total = total.unwrap_or(bytes + USUAL_BYTES);
        let width = FETCHED / parts.max(1);
        self.reach(width * part, width * (part + 1), bytes, total);
    }

    /// The document is here.
    pub(super) fn fetched(&self) {
        self.0.fetch_max(FETCHED, Ordering::Relaxed);
    }

    /// So many unpacked bytes of a document of that size were read.
    pub(super) fn parsing(&self, bytes: u64, size: u64, format: Format) {
        let total = match format {
            Format::Plain | Format::Tar => size,
            _ => size.saturating_mul(USUAL_RATIO),
        };
        self.reach(FETCHED, PARSED, bytes, total);
    }

    /// The document was read.
    pub(super) fn parsed(&self) {
        self.0.fetch_max(PARSED, Ordering::Relaxed);
    }

    /// So many of the records were sent.
    pub(super) fn applying(&self, records: usize, total: usize) {
        self.reach(PARSED, APPLIED, records as u64, total as u64);
    }

    /// Everything was applied.
    pub(super) fn done(&self) {
        self.0.fetch_max(APPLIED, Ordering::Relaxed);
    }

    /// A phase ends when it is said to, not when all its bytes were seen.
    fn reach(&self, from: u32, to: u32, part: u64, whole: u64) {
        let width = u64::from(to - from);
        let share = part.saturating_mul(width) / whole.max(1);
        let share = share.min(width - 1);
        self.0.fetch_max(from + u32::try_from(share).unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_documents_share_the_fetching() {
        let progress = Progress::default();
        progress.fetching_part(0, 2, 100, Some(100));
        assert_eq!(progress.percentage(), 14.99);
        progress.fetching_part(1, 2, 50, Some(100));
        assert_eq!((progress.phase(), progress.percentage()), ("fetching", 22.5));
    }

    #[test]
    fn phases_follow_one_another_and_nothing_goes_back() {
        let progress = Progress::default();
        assert_eq!((progress.phase(), progress.percentage()), ("fetching", 0.0));
        progress.fetching_part(0, 1, 50, Some(100));
        assert_eq!(progress.percentage(), 15.0);
        progress.fetching_part(0, 1, 10, Some(100));
        assert_eq!(progress.percentage(), 15.0);
        progress.fetching_part(0, 1, u64::MAX / 4, None);
        progress.fetching_part(0, 1, 100, Some(100));
        assert_eq!(progress.phase(), "fetching");
        progress.fetched();
        progress.parsing(8, 1, Format::Zstd);
        assert_eq!((progress.phase(), progress.percentage()), ("parsing", 50.0));
        progress.parsing(1000, 1, Format::Zstd);
        assert_eq!(progress.phase(), "parsing");
        progress.parsed();
        progress.applying(7, 7);
        assert_eq!(progress.phase(), "applying");
        progress.done();
        assert_eq!((progress.phase(), progress.percentage()), ("done", 100.0));
    }
}
