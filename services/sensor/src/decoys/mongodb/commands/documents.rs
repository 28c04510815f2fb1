//! Commands about documents.

use super::*;

impl Client<'_> {
    pub(super) fn find(&self, database: &str, collection: &str, command: &Doc) -> Doc {
        let filter = command.doc("filter").cloned().unwrap_or_default();
        let mut found: Vec<Doc> = self.with(|store| {
            store
                .docs(database, collection)
                .iter()
                .take(MOST_LOOKED)
                .filter(|doc| fits(doc, &filter))
                .cloned()
                .collect()
        });
        if let Some(order) = command.doc("sort") {
            sort(&mut found, order);
        }
        let whole = |name: &str| command.number(name).and_then(|number| usize::try_from(number.unsigned_abs()).ok());
        let limit = whole("limit")
            .filter(|limit| *limit > 0)
            .or_else(|| whole("batchSize").filter(|size| *size > 0 && command.number("singleBatch") == Some(1)));
        let projection = command.doc("projection");
        let docs = found.into_iter().skip(whole("skip").unwrap_or(0)).take(limit.unwrap_or(usize::MAX));
        cursor(database, collection, docs.map(|doc| projected(&doc, projection)).collect())
    }

    pub(super) fn aggregate(&self, database: &str, collection: &str, command: &Doc) -> Doc {
        let mut docs: Vec<Doc> =
            self.with(|store| store.docs(database, collection).iter().take(MOST_LOOKED).cloned().collect());
        for stage in command.docs("pipeline").into_iter().take(16) {
            let Some((name, what)) = stage.0.first() else { continue };
            let count = usize::try_from(what.whole().unwrap_or(0)).unwrap_or(0);
            match (name.as_str(), what) {
                ("$match", Bson::Doc(filter)) => docs.retain(|doc| fits(doc, filter)),
                ("$limit", _) => docs.truncate(count),
                ("$skip", _) => {
                    docs.drain(..count.min(docs.len()));
                }
                ("$sort", Bson::Doc(order)) => sort(&mut docs, order),
                ("$project", Bson::Doc(wanted)) => docs = docs.iter().map(|doc| projected(doc, Some(wanted))).collect(),
                ("$sample", Bson::Doc(sample)) => {
                    docs.truncate(usize::try_from(sample.number("size").unwrap_or(1)).unwrap_or(1));
                }
                ("$count", Bson::Text(name)) => {
                    let count = i32::try_from(docs.len()).unwrap_or(i32::MAX);
                    docs = vec![Doc::default().with(name, count)];
                }
                ("$group", Bson::Doc(group)) => docs = grouped(&docs, group),
                ("$collStats" | "$indexStats" | "$currentOp" | "$listLocalSessions", _) => docs.clear(),
                (other, _) if !other.starts_with('$') => {
                    return bad(40_324, "Location40324", format!("Unrecognized pipeline stage name: '{other}'"));
                }
                _ => {}
            }
        }
        cursor(database, if collection.is_empty() { "$cmd.aggregate" } else { collection }, docs)
    }

    pub(super) fn insert(&self, database: &str, collection: &str, command: &Doc) -> Doc {
        let mut count = 0;
        let done = self.with(|store| {
            for doc in command.docs("documents") {
                let mut doc = doc.clone();
                if doc.get("_id").is_none() {
                    doc.0.insert(0, ("_id".to_owned(), store::id()));
                }
                if !store.take(doc.size()) {
                    return false;
                }
                match store.collection(database, collection) {
                    Some(collection) if collection.docs.len() < MOST_LOOKED => collection.docs.push(doc),
                    _ => return false,
                }
                count += 1;
            }
            true
        });
        if done { good(Doc::default().with("n", count)) } else { full() }
    }

    pub(super) fn update(&self, database: &str, collection: &str, command: &Doc) -> Doc {
        let (mut matched, mut new) = (0, Vec::new());
        let done = self.with(|store| {
            for update in command.docs("updates").into_iter().take(1_000) {
                let filter = update.doc("q").cloned().unwrap_or_default();
                let change = update.doc("u").cloned().unwrap_or_default();
                let many = update.number("multi").unwrap_or(0) != 0;
                let (mut hits, mut shrunk, mut grown) = (0, 0, 0);
                if let Some(of) = store.databases.get_mut(database).and_then(|of| of.get_mut(collection)) {
                    for doc in &mut of.docs {
                        if (hits > 0 && !many) || !fits(doc, &filter) {
                            continue;
                        }
                        let changed = updated(doc, &change);
                        shrunk += doc.size();
                        grown += changed.size();
                        *doc = changed;
                        hits += 1;
                        if grown > MOST_BYTES {
                            break;
                        }
                    }
                }
                store.give(shrunk);
                if !store.take(grown) {
                    return false;
                }
                matched += hits;
                if hits == 0 && update.number("upsert").unwrap_or(0) != 0 {
                    let mut doc = updated(&Doc::default(), &change);
                    let id =
                        filter.get("_id").filter(|id| !matches!(id, Bson::Doc(_))).cloned().unwrap_or_else(store::id);
                    doc.0.retain(|(name, _)| name != "_id");
                    doc.0.insert(0, ("_id".to_owned(), id.clone()));
                    if !store.take(doc.size()) {
                        return false;
                    }
                    let Some(of) = store.collection(database, collection) else { return false };
                    of.docs.push(doc);
                    matched += 1;
                    new.push(Bson::Doc(Doc::default().with("index", 0).with("_id", id)));
                }
            }
            true
        });
        if !done {
            return full();
        }
        let changed = matched - i32::try_from(new.len()).unwrap_or(0);
        let mut doc = Doc::default().with("n", matched);
        if !new.is_empty() {
            doc = doc.with("upserted", new);
        }
        good(doc.with("nModified", changed))
    }

    pub(super) fn delete(&self, database: &str, collection: &str, command: &Doc) -> Doc {
        let mut gone = 0;
        self.with(|store| {
            let mut freed = 0;
            if let Some(of) = store.databases.get_mut(database).and_then(|of| of.get_mut(collection)) {
                for delete in command.docs("deletes").into_iter().take(1_000) {
                    let filter = delete.doc("q").cloned().unwrap_or_default();
                    let one = delete.number("limit") == Some(1);
                    let mut hits = 0;
                    of.docs.retain(|doc| {
                        let goes = !(one && hits > 0) && fits(doc, &filter);
                        if goes {
                            hits += 1;
                            freed += doc.size();
                        }
                        !goes
                    });
                    gone += hits;
                }
            }
            store.give(freed);
        });
        good(Doc::default().with("n", gone))
    }
}

pub(super) fn full() -> Doc {
    bad(14_031, "OutOfDiskSpace", "No space left on device")
}

fn sort(docs: &mut [Doc], order: &Doc) {
    docs.sort_by(|left, right| {
        for (name, direction) in order.0.iter().take(8) {
            let found = match (left.path(name), right.path(name)) {
                (Some(left), Some(right)) => compare(left, right).unwrap_or(std::cmp::Ordering::Equal),
                (left, right) => left.is_some().cmp(&right.is_some()),
            };
            let found = if direction.whole().unwrap_or(1) < 0 { found.reverse() } else { found };
            if found != std::cmp::Ordering::Equal {
                return found;
            }
        }
        std::cmp::Ordering::Equal
    });
}

/// `$group` with counts and sums, which is what drivers count with.
fn grouped(docs: &[Doc], group: &Doc) -> Vec<Doc> {
    let key_of = |doc: &Doc| match group.get("_id") {
        Some(Bson::Text(path)) if path.starts_with('$') => {
            doc.path(path.trim_start_matches('$')).cloned().unwrap_or(Bson::Null)
        }
        Some(other) => other.clone(),
        None => Bson::Null,
    };
    let mut groups: Vec<(Bson, Vec<&Doc>)> = Vec::new();
    for doc in docs {
        let key = key_of(doc);
        let room = groups.len() < MOST_DOCS;
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, members)) => members.push(doc),
            None if room => groups.push((key, vec![doc])),
            None => {}
        }
    }
    let made = groups.into_iter().map(|(key, members)| {
        let mut doc = Doc::default().with("_id", key);
        for (name, what) in group.0.iter().filter(|(name, _)| name != "_id") {
            let value = match what {
                Bson::Doc(what) => match what.0.first() {
                    Some((operator, Bson::Text(path))) if operator == "$sum" => {
                        let of =
                            |doc: &&Doc| doc.path(path.trim_start_matches('$')).and_then(Bson::real).unwrap_or(0.0);
                        Bson::Double(members.iter().map(of).sum())
                    }
                    Some((operator, each)) if operator == "$sum" => {
                        let count = i64::try_from(members.len()).unwrap_or(0);
                        let sum = count.saturating_mul(each.whole().unwrap_or(1));
                        i32::try_from(sum).map_or(Bson::Long(sum), Bson::Int)
                    }
                    _ => Bson::Null,
                },
                _ => Bson::Null,
            };
            doc.set(name, value);
        }
        doc
    });
    made.collect()
}
