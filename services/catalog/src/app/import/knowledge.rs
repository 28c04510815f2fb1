//! Records of other kinds: actors, software, rules, countermeasures, controls …

use std::collections::{BTreeMap, HashMap, HashSet};

use aegis_db::Tx;
use uuid::Uuid;

use super::{Kinds, MANY, Outcome, Scope};
use crate::{
    domain::{
        actors::{self, Statement},
        knowledge::{Incoming, Row, Said, THREAT_ACTOR, shown},
        technique::Domain,
    },
    error::Error,
    store::{
        knowledge_write,
        origins::{self, Brought, Known},
        search::{self, SearchEntry},
    },
};

/// A record that its origin no longer has.
struct Gone {
    kind: &'static str,
    key: String,
    id: Uuid,
}

/// What changes.
#[derive(Default)]
struct Changes {
    rows: Vec<Row>,
    brought: Vec<Brought>,
}

/// Writes what changes of records; answers whether anything does.
pub(super) async fn apply(
    tx: &mut Tx,
    scope: &Scope,
    incoming: Vec<Incoming>,
    outcome: &mut Outcome,
) -> Result<bool, Error> {
    let kinds = &mut outcome.kinds;
    let mut known = origins::of(tx, &scope.origin).await?;
    let brought = known.values().map(HashMap::len).sum();
    let mut came: Vec<(Incoming, bool)> = Vec::new();
    for new in incoming {
        let record = &new.record;
        let counts = kinds.entry(record.kind).or_default();
        counts.revoked += i64::from(record.revoked);
        counts.deprecated += i64::from(record.deprecated);
        let old = known.get_mut(record.kind).and_then(|keys| keys.remove(&record.key));
        match old {
            Some(Known { content_hash, .. }) if content_hash == new.content_hash => counts.unchanged += 1,
            old => came.push((new, old.is_some())),
        }
    }
    let mut gone: Vec<Gone> = Vec::new();
    if !scope.partial {
        for (kind, keys) in known {
            gone.extend(keys.into_iter().map(|(key, known)| Gone { kind, key, id: known.id }));
        }
    }
    scope.vanishing(gone.len(), brought, MANY, "records")?;
    for gone in &gone {
        kinds.entry(gone.kind).or_default().vanished += 1;
    }
    if came.is_empty() && gone.is_empty() {
        return Ok(false);
    }
    let (actors, came): (Vec<_>, Vec<_>) = came.into_iter().partition(|(new, _)| new.record.kind == THREAT_ACTOR);
    let mut changes = Changes::default();
    others(tx, scope, came, &gone, kinds, &mut changes).await?;
    if !actors.is_empty() || gone.iter().any(|gone| gone.kind == THREAT_ACTOR) {
        threat_actors(tx, scope, actors, &gone, kinds, &mut changes).await?;
    }
    outcome.touched.extend(changes.rows.iter().map(|row| row.record.kind));
    knowledge_write::write(tx, &changes.rows).await?;
    let gone: Vec<Uuid> = gone.iter().map(|gone| gone.id).collect();
    origins::remove(tx, &scope.origin, &gone).await?;
    origins::put(tx, &scope.origin, &changes.brought).await?;
    search::put(tx, &changes.rows.into_iter().map(entry).collect::<Vec<_>>()).await?;
    Ok(true)
}

fn entry(row: Row) -> SearchEntry {
    SearchEntry {
        active: row.record.active(),
        kind: row.record.kind.to_owned(),
        id: row.id,
        key: row.record.key,
        name: row.record.name,
        aliases: row.record.aliases,
        body: row.record.description.unwrap_or_default(),
    }
}

fn said(scope: &Scope, new: Incoming) -> (Said, Vec<u8>) {
    let domain = scope.domain.map(|domain| Domain::as_str(domain).to_owned());
    (Said { source: scope.source.clone(), domain, record: new.record }, new.content_hash)
}

/// Every kind that is not put together: what comes is shown, unless another document of the same publisher goes first.
async fn others(
    tx: &mut Tx,
    scope: &Scope,
    came: Vec<(Incoming, bool)>,
    gone: &[Gone],
    kinds: &mut Kinds,
    changes: &mut Changes,
) -> Result<(), Error> {
    let gone = || gone.iter().filter(|gone| gone.kind != THREAT_ACTOR);
    let names = came.iter().map(|(new, _)| (new.record.kind, new.record.key.as_str()));
    let names: Vec<(&str, &str)> = names.chain(gone().map(|gone| (gone.kind, gone.key.as_str()))).collect();
    let mut rows: HashMap<&'static str, HashMap<String, Row>> = HashMap::new();
    for row in knowledge_write::rows(tx, &names).await? {
        rows.entry(row.record.kind).or_default().insert(row.record.key.clone(), row);
    }
    let ids: Vec<Uuid> = rows.values().flat_map(|rows| rows.values().map(|row| row.id)).collect();
    let mut besides: HashMap<Uuid, Vec<(String, Option<Said>)>> = HashMap::new();
    for (id, origin, said) in origins::besides(tx, &scope.origin, &ids).await? {
        besides.entry(id).or_default().push((origin, said));
    }
    for (new, was_known) in came {
        let (said, content_hash) = said(scope, new);
        let (kind, key) = (said.record.kind, said.record.key.clone());
        let content = Said::is_shared(&said.source, kind).then(|| said.clone());
        let counts = kinds.entry(kind).or_default();
        let id = match rows.get_mut(kind).and_then(|rows| rows.remove(&key)) {
            None => {
                counts.created += 1;
                let row = Row::new(said, scope.now);
                let id = row.id;
                changes.rows.push(row);
                id
            }
            Some(mut row) => {
                let besides = besides.get(&row.id).map(Vec::as_slice).unwrap_or_default();
                let all = besides.iter().filter_map(|(origin, said)| Some((origin.as_str(), said.as_ref()?)));
                let first = shown(all.chain([(scope.origin.as_str(), &said)])).unwrap_or(&said).clone();
                let (id, changed) = (row.id, row.show(first, scope.now));
                *if was_known || changed { &mut counts.updated } else { &mut counts.unchanged } += 1;
                if changed {
                    changes.rows.push(row);
                }
                id
            }
        };
        changes.brought.push(Brought { kind, key, id, content_hash, content });
    }
    for gone in gone() {
        let Some(mut row) = rows.get_mut(gone.kind).and_then(|rows| rows.remove(&gone.key)) else { continue };
        let left = besides.get(&gone.id).map(Vec::as_slice).unwrap_or_default();
        let first = shown(left.iter().filter_map(|(origin, said)| Some((origin.as_str(), said.as_ref()?))));
        let changed = match first {
            Some(said) => row.show(said.clone(), scope.now),
            None if left.is_empty() => row.vanish(scope.now),
            None => false,
        };
        if changed {
            changes.rows.push(row);
        }
    }
    Ok(())
}

/// Actors: who is who may change with every one that comes or goes.
async fn threat_actors(
    tx: &mut Tx,
    scope: &Scope,
    came: Vec<(Incoming, bool)>,
    gone: &[Gone],
    kinds: &mut Kinds,
    changes: &mut Changes,
) -> Result<(), Error> {
    let mut statements: BTreeMap<(String, String), Said> = BTreeMap::new();
    for (origin, said) in origins::said_of(tx, THREAT_ACTOR).await? {
        statements.insert((origin, said.record.key.clone()), said);
    }
    for gone in gone.iter().filter(|gone| gone.kind == THREAT_ACTOR) {
        statements.remove(&(scope.origin.clone(), gone.key.clone()));
    }
    let rows = knowledge_write::of_kind(tx, THREAT_ACTOR).await?;
    let mut ids: HashMap<String, Uuid> = rows.iter().map(|row| (row.record.key.clone(), row.id)).collect();
    let mut new = Vec::new();
    for (incoming, was_known) in came {
        let (said, content_hash) = said(scope, incoming);
        let key = said.record.key.clone();
        statements.insert((scope.origin.clone(), key.clone()), said.clone());
        new.push((key, was_known, content_hash, said));
    }
    let statements: Vec<Statement> =
        statements.into_iter().map(|((origin, key), said)| Statement { origin, key, said }).collect();
    let changed = actors::recompute(rows, &statements, scope.now);
    let rewritten: HashSet<&str> = changed.iter().map(|row| row.record.key.as_str()).collect();
    let counts = kinds.entry(THREAT_ACTOR).or_default();
    for (key, was_known, ..) in &new {
        let count = match (ids.contains_key(key), *was_known || rewritten.contains(key.as_str())) {
            (false, _) => &mut counts.created,
            (true, true) => &mut counts.updated,
            (true, false) => &mut counts.unchanged,
        };
        *count += 1;
    }
    ids.extend(changed.iter().map(|row| (row.record.key.clone(), row.id)));
    for (key, _, content_hash, said) in new {
        if let Some(id) = ids.get(&key).copied() {
            changes.brought.push(Brought { kind: THREAT_ACTOR, key, id, content_hash, content: Some(said) });
        }
    }
    changes.rows.extend(changed);
    Ok(())
}
