//! The cache in this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use crate::CacheError;

const MAX_ENTRIES: u64 = 100_000;
const MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Clone)]
struct Slot {
    value: Arc<[u8]>,
    expires_at: Instant,
}

impl Slot {
    fn new(value: &[u8], ttl: Duration) -> Self {
        Self { value: value.into(), expires_at: Instant::now() + ttl }
    }

    // The store drops expired entries in its own time; an answer must not depend on that.
    fn live(&self) -> bool {
        Instant::now() < self.expires_at
    }
}

struct AtDeadline;

impl Expiry<String, Slot> for AtDeadline {
    fn expire_after_create(&self, _: &String, slot: &Slot, at: Instant) -> Option<Duration> {
        Some(slot.expires_at.saturating_duration_since(at))
    }

    fn expire_after_update(&self, _: &String, slot: &Slot, at: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(slot.expires_at.saturating_duration_since(at))
    }
}

#[derive(Clone)]
pub(crate) struct MemoryCache(Moka<String, Slot>);

impl MemoryCache {
    pub(crate) fn new() -> Self {
        Self(
            Moka::builder()
                .max_capacity(MAX_BYTES)
                .weigher(|key: &String, slot: &Slot| {
                    // An entry weighs at least its share, so one limit bounds entries and bytes.
                    let bytes = (key.len() + slot.value.len()) as u64;
                    u32::try_from(bytes.max(MAX_BYTES / MAX_ENTRIES)).unwrap_or(u32::MAX)
                })
                // The default policy may refuse a new entry; a lock or counter must always land.
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(AtDeadline)
                .build(),
        )
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.get(key).filter(Slot::live).map(|slot| slot.value.to_vec())
    }

    pub(crate) fn set(&self, key: &str, value: &[u8], ttl: Duration) {
        let slot = Slot::new(value, ttl);
        // A plain insert does not wait for a compute on the same key; every change goes through one.
        self.0.entry_by_ref(key).and_compute_with(|_| Op::Put(slot));
    }

    pub(crate) fn set_if_absent(&self, key: &str, value: &[u8], ttl: Duration) -> bool {
        let mut stored = false;
        self.0.entry_by_ref(key).and_compute_with(|entry| {
            if entry.is_some_and(|e| e.value().live()) {
                return Op::Nop;
            }
            stored = true;
            Op::Put(Slot::new(value, ttl))
        });
        stored
    }

    pub(crate) fn take(&self, key: &str) -> Option<Vec<u8>> {
        let mut taken = None;
        self.0.entry_by_ref(key).and_compute_with(|entry| {
            let Some(entry) = entry else { return Op::Nop };
            let slot = entry.value();
            taken = slot.live().then(|| slot.value.to_vec());
            Op::Remove
        });
        taken
    }

    pub(crate) fn incr(&self, key: &str, ttl: Duration) -> Result<u64, CacheError> {
        let mut result = Ok(1);
        self.0.entry_by_ref(key).and_compute_with(|entry| {
            let current = entry.map(|e| e.into_value()).filter(Slot::live);
            let Some(slot) = current else {
                return Op::Put(Slot::new(b"1", ttl));
            };
            let count = std::str::from_utf8(&slot.value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .and_then(|count| count.checked_add(1))
                .filter(|count| i64::try_from(*count).is_ok());
            let Some(count) = count else {
                result = Err(CacheError::NotACounter);
                return Op::Nop;
            };
            result = Ok(count);
            Op::Put(Slot { value: count.to_string().into_bytes().into(), expires_at: slot.expires_at })
        });
        result
    }
}
