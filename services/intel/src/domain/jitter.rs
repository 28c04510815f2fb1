//! The wait between a job's due time and its start.

use std::time::Duration;

use chrono::TimeDelta;
use sha2::{Digest, Sha256};

/// How long after its due time a job starts, so that not all publishers are asked in the same second: always the same
/// for one job.
pub(crate) fn jitter(job_id: &str, most: Duration) -> TimeDelta {
    let hash: [u8; 32] = Sha256::digest(job_id.as_bytes()).into();
    let number = hash.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    TimeDelta::milliseconds(i64::try_from(number % millis.saturating_add(1).max(1)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_bounded_and_always_the_same() {
        let most = Duration::from_secs(60);
        for job in ["mitre_sync", "sync_sigma", "intel_scan", ""] {
            let wait = jitter(job, most);
            assert!(wait >= TimeDelta::zero() && wait <= TimeDelta::seconds(60));
            assert_eq!(wait, jitter(job, most));
            assert_eq!(jitter(job, Duration::ZERO), TimeDelta::zero());
        }
        assert_ne!(jitter("mitre_sync", most), jitter("sync_sigma", most));
    }
}
