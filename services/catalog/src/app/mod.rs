//! Use cases of the catalogue: who may, what is checked, which transaction, which event.

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod knowledge;
pub(crate) mod search;
pub(crate) mod seed;
pub(crate) mod statuses;
pub(crate) mod techniques;
pub(crate) mod templates;

use aegis_db::Db;
use aegis_error::Fields;
use aegis_events::Outbox;

use crate::cache::TechniqueCache;

/// What the use cases share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Catalog {
    pub db: Db,
    pub outbox: Outbox,
    pub cache: TechniqueCache,
}

impl Catalog {
    pub(crate) fn new(db: Db, outbox: Outbox) -> Self {
        Catalog { db, outbox, cache: TechniqueCache::new() }
    }
}

/// Rows of a page when the caller does not say.
const PAGE: i64 = 1_000;
/// Rows of a page at most.
const MAX_PAGE: i64 = 5_000;

/// A page of a list.
pub(crate) struct Page<T> {
    pub rows: Vec<T>,
    pub next_page_token: String,
    pub total: i64,
}

/// What a list is sorted by and whether it goes down, from how it is asked for: a name, with a `-` before it for the
/// other way.
fn sort_order<S: Copy>(fields: &mut Fields, text: &str, sorts: &[(&str, S)]) -> Option<(S, bool)> {
    if text.is_empty() {
        return None;
    }
    let (down, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
    let found = sorts.iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let names: Vec<&str> = sorts.iter().map(|(name, _)| *name).collect();
        fields.add("sort", format!("must be one of {}, with a - before it for the other way", names.join(", ")));
    }
    found.map(|(_, sort)| (*sort, down))
}

/// A text to search for, as the store wants it; an empty one asks for nothing.
fn search_term(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_lowercase()).filter(|text| !text.is_empty())
}
