//! Links of a document.

use std::collections::{HashMap, HashSet};

use aegis_db::Tx;
use uuid::Uuid;

use super::{Outcome, Scope, link_counts};
use crate::{
    domain::knowledge::{Link, TECHNIQUE, kind},
    error::Error,
    store::{links, techniques},
};

/// Writes what changes of links; answers whether anything does. A partial document says all that there is of its
/// `records`, by kind and key, and of those that its links start from.
pub(super) async fn apply(
    tx: &mut Tx,
    scope: &Scope,
    records: &[(&'static str, String)],
    said: Vec<(Uuid, Link)>,
    outcome: &mut Outcome,
) -> Result<bool, Error> {
    outcome.links_unknown = unknown(tx, &said).await?;
    let mut known: HashSet<Uuid> = if scope.partial {
        // A record that comes without links has none any more.
        let records = records.iter().map(|(kind, key)| (*kind, key.as_str()));
        let from: HashSet<(&str, &str)> =
            said.iter().map(|(_, link)| (link.from_kind, link.from_key.as_str())).chain(records).collect();
        links::of_records(tx, &scope.origin, &from.into_iter().collect::<Vec<_>>()).await?
    } else {
        links::of_origin(tx, &scope.origin).await?
    };
    let came = i64::try_from(said.len()).unwrap_or(i64::MAX);
    let mut new: Vec<&(Uuid, Link)> = said.iter().filter(|(id, _)| !known.remove(id)).collect();
    // In the order of the table's own index, which then grows at its end.
    new.sort_unstable_by_key(|(id, _)| *id);
    let gone: Vec<Uuid> = known.into_iter().collect();
    if new.is_empty() && gone.is_empty() {
        if came > 0 {
            link_counts(&mut outcome.kinds).unchanged += came;
        }
        return Ok(false);
    }
    // The same two, linked in the same way by other words, is one that was updated.
    let mut removed: HashSet<[String; 5]> = links::remove(tx, &scope.origin, &gone).await?.into_iter().collect();
    let mut updated = 0;
    for (_, link) in &new {
        if !removed.is_empty() && removed.remove(&link.ends().map(str::to_owned)) {
            updated += 1;
        } else if link.to_kind == TECHNIQUE {
            outcome.touched.insert(link.from_kind);
        }
    }
    let lost = removed.iter().filter(|[.., to_kind, _]| to_kind == TECHNIQUE);
    outcome.touched.extend(lost.map(|[from_kind, ..]| kind(from_kind)));
    links::insert(tx, &scope.origin, &new).await?;
    let counts = link_counts(&mut outcome.kinds);
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    counts.updated += number(updated);
    counts.created += number(new.len() - updated);
    counts.unchanged += came - number(new.len());
    counts.vanished += number(gone.len() - updated);
    Ok(true)
}

/// How many links name a technique that is not known here.
async fn unknown(tx: &mut Tx, said: &[(Uuid, Link)]) -> Result<i64, Error> {
    let mut named: HashMap<&str, i64> = HashMap::new();
    for (_, link) in said {
        for (kind, key) in [(link.from_kind, &link.from_key), (link.to_kind, &link.to_key)] {
            if kind == TECHNIQUE {
                *named.entry(key).or_default() += 1;
            }
        }
    }
    if named.is_empty() {
        return Ok(0);
    }
    for id in techniques::names(tx).await? {
        named.remove(id.as_str());
    }
    Ok(named.into_values().sum())
}
