//! What the product says in the end, beside what the model says.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt, stream};
use serde_json::Value;

use super::{
    client::{Done, Entry, Game, Person},
    model::{Act, Role, State, Test, Traces, is_worse, status},
};
use crate::{
    conventions::version,
    harness::{Api, eventually},
};

/// Within this all is where it belongs.
const SETTLED: Duration = Duration::from_secs(60);

/// Requests at the same moment.
const AT_ONCE: usize = 6;
/// Of one chain.
const MOST_RETESTS: usize = 5;

/// Counts of things.
type Counts<K> = BTreeMap<K, usize>;

/// A test as the product shows it, and as it has to be.
struct Seen {
    id: String,
    shown: Value,
    model: Test,
    /// Who made it; a retest belongs to somebody else where a remediation called for it.
    author: usize,
    traces: Vec<(usize, Traces)>,
    /// Of the first of its chain.
    technique: usize,
    chain: String,
}

pub async fn all(admin: &Api, game: &Game, techniques: &[&str], since: &str) {
    let journal = game.journal.lock().unwrap().clone();
    let seen = states(admin, game, &journal).await;
    notifications(game, &seen, &journal).await;
    audit(admin, game, &seen, &journal, since).await;
    statuses(admin, &seen, techniques).await;
    // Nothing came a second time while all this was looked at.
    audit(admin, game, &seen, &journal, since).await;
}

/// Every test is where the accepted changes lead, in the order of their versions; and there is none but those.
async fn states(admin: &Api, game: &Game, journal: &[Entry]) -> Vec<Seen> {
    let made = journal.iter().filter_map(|entry| match entry.done {
        Done::Created(technique) => Some((entry, technique)),
        _ => None,
    });
    let chains = made.map(|(entry, technique)| chain(admin, game, journal, entry, technique));
    let seen: Vec<Seen> = stream::iter(chains).buffered(AT_ONCE).flat_map(stream::iter).collect().await;
    for (who, person) in game.people.iter().enumerate() {
        let listed = admin.total(&format!("/tests?created_by={}", person.id)).await;
        let known = seen.iter().filter(|test| test.model.creator == who).count();
        assert_eq!(listed, known as u64, "tests of {}", person.username);
    }
    retests(&seen, journal);
    seen
}

/// A test that was made, and its retests.
async fn chain(admin: &Api, game: &Game, journal: &[Entry], made: &Entry, technique: usize) -> Vec<Seen> {
    let links = admin.get(&format!("/tests/{}/retest-chain", made.test)).await.json(200);
    let ids: Vec<String> =
        links.as_array().unwrap().iter().map(|link| link["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.first(), Some(&made.test), "the first of its chain");
    assert!(ids.len() <= 1 + MOST_RETESTS, "{ids:?}");
    let mut seen = Vec::new();
    for (position, id) in ids.iter().enumerate() {
        let answer = admin.get(&format!("/tests/{id}")).await;
        let shown = answer.json(200);
        let before = position.checked_sub(1).map(|before| ids[before].as_str());
        assert_eq!(shown["retest_of"].as_str(), before, "{shown}");
        let creator = position_of(&game.people, &shown["created_by"]);
        if position == 0 {
            assert_eq!(creator, made.who, "{shown}");
        }
        let (model, traces) = replay(game, id, creator, journal, version(&answer));
        agrees(&shown, &model, &game.people);
        let timeline = admin.get(&format!("/tests/{id}/timeline?limit=1000")).await.json(200);
        let author = position_of(&game.people, &timeline[0]["actor_id"]);
        agrees_timeline(id, &timeline, &traces, journal);
        seen.push(Seen { id: id.clone(), shown, model, author, traces, technique, chain: made.test.clone() });
    }
    seen
}

/// A chain has the retests that were asked for, by hand or by a remediation that was completed: each once, five at most.
fn retests(seen: &[Seen], journal: &[Entry]) {
    for entry in journal {
        if let Done::Retest { of } = &entry.done {
            let of = seen.iter().find(|test| test.id == *of).unwrap();
            let retest = seen.iter().find(|test| test.id == entry.test);
            assert_eq!(retest.map(|retest| &retest.chain), Some(&of.chain), "the retest {} is lost", entry.test);
            let whose = retest.map(|retest| (retest.author, retest.model.creator));
            assert_eq!(whose, Some((entry.who, entry.who)), "the retest {} is another's", entry.test);
        }
    }
    let mut chains: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
    seen.iter().for_each(|test| chains.entry(&test.chain).or_default().push(test));
    for (chain, tests) in chains {
        let is_here = |id: &str| tests.iter().any(|test| test.id == id);
        let by_hand = journal.iter().filter(|entry| matches!(entry.done, Done::Retest { .. }) && is_here(&entry.test));
        let called_for: Vec<usize> = tests
            .iter()
            .flat_map(|test| &test.traces)
            .filter(|(_, traces)| traces.again)
            .map(|(who, _)| *who)
            .collect();
        for retest in &tests[1..] {
            let asked = by_hand.clone().any(|entry| entry.test == retest.id) || called_for.contains(&retest.author);
            assert!(asked, "nobody asked for {}", retest.shown);
        }
        let called_for = called_for.len();
        let expected = MOST_RETESTS.min(by_hand.count() + called_for);
        assert_eq!(tests.len() - 1, expected, "retests of {chain}, {called_for} after remediations");
    }
}

fn position_of(people: &[Person], id: &Value) -> usize {
    people.iter().position(|person| *id == person.id.as_str()).unwrap_or_else(|| panic!("nobody is {id}"))
}

/// The test after all accepted changes, each of which must have been legal when it was made.
fn replay(game: &Game, id: &str, creator: usize, journal: &[Entry], last: u64) -> (Test, Vec<(usize, Traces)>) {
    let (mut known, mut lost) = (HashMap::new(), Vec::new());
    for entry in journal.iter().filter(|entry| entry.test == id) {
        match entry.done {
            Done::Changed(act, Some(version)) => {
                let other = known.insert(version, (act, entry.who));
                assert!(other.is_none(), "version {version} of {id} is {act:?} and {other:?}");
            }
            Done::Changed(act, None) => lost.push((act, entry.who)),
            _ => {}
        }
    }
    assert!(known.keys().all(|version| *version <= last), "a change of {id} is lost: {last} of {known:?}");
    let search = Search { game, known: &known, last };
    let mut why = String::new();
    search
        .step(Test::new(creator), 2, lost.clone(), &mut why)
        .map(|(test, mut traces)| {
            traces.reverse();
            (test, traces)
        })
        .unwrap_or_else(|| {
            let mut known: Vec<_> = known.iter().collect();
            known.sort_by_key(|(version, _)| **version);
            panic!("{id}, up to version {last}: {why}; accepted {known:?}, answers lost of {lost:?}")
        })
}

/// Changes whose answers were lost have their place where a version is missing.
struct Search<'a> {
    game: &'a Game,
    known: &'a HashMap<u64, (Act, usize)>,
    last: u64,
}

impl Search<'_> {
    /// Traces come newest first.
    fn step(
        &self,
        test: Test,
        version: u64,
        lost: Vec<(Act, usize)>,
        why: &mut String,
    ) -> Option<(Test, Vec<(usize, Traces)>)> {
        if version > self.last {
            if lost.is_empty() {
                return Some((test, Vec::new()));
            }
            *why = format!("no place for {lost:?}");
            return None;
        }
        let candidates: Vec<(Option<usize>, (Act, usize))> = match self.known.get(&version) {
            Some(change) => vec![(None, *change)],
            None => lost.iter().enumerate().map(|(position, change)| (Some(position), *change)).collect(),
        };
        if candidates.is_empty() {
            *why = format!("nobody was told of version {version}");
        }
        for (position, (act, who)) in candidates {
            let mut next = test.clone();
            match next.apply(act, who, self.game.people[who].role) {
                Ok(traces) => {
                    let mut lost = lost.clone();
                    position.map(|position| lost.remove(position));
                    if let Some((end, mut all)) = self.step(next, version + 1, lost, why) {
                        all.push((who, traces));
                        return Some((end, all));
                    }
                }
                Err(problem) => *why = format!("version {version}: {problem}"),
            }
        }
        None
    }
}

fn agrees(shown: &Value, model: &Test, people: &[Person]) {
    let expected = [
        ("state", Some(model.state.name().to_owned())),
        ("red_validation_status", Some(model.red.to_string())),
        ("blue_validation_status", Some(model.blue.to_string())),
        ("detection_result", model.result.map(str::to_owned)),
        ("remediation_status", model.remediation.map(str::to_owned)),
        ("executed_by", model.executor.map(|who| people[who].id.clone())),
    ];
    for (field, value) in expected {
        assert_eq!(shown[field].as_str().map(str::to_owned), value, "{field} of {shown}");
    }
    assert_eq!(shown["validated_at"].is_string(), model.state == State::Validated, "{shown}");
}

fn agrees_timeline(test: &str, timeline: &Value, traces: &[(usize, Traces)], journal: &[Entry]) {
    let mut expected: Counts<&str> = Counts::from([("created", 1)]);
    for kind in traces.iter().flat_map(|(_, traces)| &traces.timeline) {
        *expected.entry(kind).or_default() += 1;
    }
    let comments = journal.iter().filter(|entry| entry.test == test && matches!(entry.done, Done::Comment)).count();
    if comments > 0 {
        expected.insert("comment", comments);
    }
    let mut got: Counts<&str> = Counts::new();
    for entry in timeline.as_array().unwrap() {
        let kind = entry["kind"].as_str().unwrap();
        // Told on the test that is tested again; the chain has them.
        if kind != "retest" {
            *got.entry(kind).or_default() += 1;
        }
    }
    assert_eq!(got, expected, "{timeline}");
}

/// Each of those whom something is told has it once for each time that it happened.
async fn notifications(game: &Game, seen: &[Seen], journal: &[Entry]) {
    let regressions: Vec<Option<bool>> = seen.iter().map(|test| regressed(test, seen)).collect();
    let regressions = &regressions;
    let all = game.people.iter().enumerate().map(|(who, person)| async move {
        let lead = matches!(person.role, Role::RedLead | Role::BlueLead);
        let mut expected: Counts<(&str, &str)> = Counts::new();
        for (test, regression) in seen.iter().zip(regressions) {
            let own = test.model.creator == who;
            for reached in test.traces.iter().filter_map(|(_, traces)| traces.reached) {
                let told = match reached {
                    State::RedExecuting | State::Validated | State::Rejected => own,
                    State::BlueEvaluating => person.role == Role::BlueTech,
                    State::InReview => lead,
                    State::Draft => false,
                };
                if told {
                    *expected.entry((&test.id, reached.name())).or_default() += 1;
                }
            }
            if own && test.id != test.chain {
                expected.insert((&test.id, "retest_created"), 1);
            }
            if lead && *regression == Some(true) {
                expected.insert((&test.id, "regression"), 1);
            }
            let comments =
                |entry: &&Entry| entry.test == test.id && matches!(entry.done, Done::Comment) && entry.who != who;
            let comments = journal.iter().filter(comments).count();
            if own && comments > 0 {
                expected.insert((&test.id, "comment"), comments);
            }
        }
        eventually(&format!("{} was told everything once", person.username), SETTLED, || async {
            let rows = person.api.all("/notifications").await;
            let mut got: Counts<(&str, &str)> = Counts::new();
            let mut known = HashSet::new();
            for row in &rows {
                // One that comes while pages are read moves another to the next page, where it is seen again.
                if !known.insert(row["id"].as_str()) {
                    continue;
                }
                let (id, kind) = (row["entity_id"].as_str().unwrap_or_default(), row["kind"].as_str().unwrap());
                let Some(position) = seen.iter().position(|test| test.id == id) else { continue };
                // Who runs a test while it is commented on is told too; what came first is not known.
                let foreign = kind == "comment" && seen[position].model.creator != who;
                if !(foreign || kind == "regression" && regressions[position].is_none()) {
                    *got.entry((seen[position].id.as_str(), kind)).or_default() += 1;
                }
            }
            differ(&got, &expected)
        })
        .await;
    });
    stream::iter(all).buffered(AT_ONCE).collect::<Vec<()>>().await;
}

/// Whether a test is worse than the validated one before it in its chain; nothing where both ended at the same time.
fn regressed(test: &Seen, seen: &[Seen]) -> Option<bool> {
    let at = |test: &Seen| test.shown["validated_at"].as_str().map(moment);
    let (Some(validated), Some(result)) = (at(test), test.model.result) else { return Some(false) };
    let before = seen.iter().rev().skip_while(|other| other.id != test.id).skip(1);
    for other in before.take_while(|other| other.chain == test.chain) {
        let (Some(earlier), Some(other)) = (at(other), other.model.result) else { continue };
        if (validated - earlier).abs() < chrono::TimeDelta::seconds(3) {
            return None;
        }
        if earlier < validated {
            return Some(is_worse(result, other));
        }
    }
    Some(false)
}

/// One record for each accepted change, by who made it; and the chain holds.
async fn audit(admin: &Api, game: &Game, seen: &[Seen], journal: &[Entry], since: &str) {
    let mut expected: Counts<(String, String, String)> = Counts::new();
    let mut expect = |test: &str, action: &str, who: usize| {
        let key = (test.to_owned(), action.to_owned(), game.people[who].username.clone());
        *expected.entry(key).or_default() += 1;
    };
    for test in seen {
        expect(&test.id, "create_test", test.author);
        for (who, traces) in &test.traces {
            traces.audit.iter().for_each(|action| expect(&test.id, action, *who));
        }
    }
    for entry in journal.iter().filter(|entry| matches!(entry.done, Done::Comment)) {
        expect(&entry.test, "comment_test", entry.who);
    }
    let total: usize = expected.values().sum();
    eventually("the audit trail has every change once", SETTLED, || async {
        let path = format!("/audit-logs/export?entity_type=test&start_date={since}");
        let answer = admin.get(&path).await;
        assert_eq!(answer.status, 200, "{answer}");
        let mut got: Counts<(String, String, String)> = Counts::new();
        for line in answer.text().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            if row["success"] == true && seen.iter().any(|test| row["entity_id"] == test.id.as_str()) {
                *got.entry((text("entity_id"), text("action"), text("username"))).or_default() += 1;
            }
        }
        let found: usize = got.values().sum();
        if found < total {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        differ(&got, &expected)
    })
    .await;
    let verdict = admin.get("/audit-logs/verify").await.json(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
}

/// What the catalogue says of each technique, and what the figures say of all.
async fn statuses(admin: &Api, seen: &[Seen], techniques: &[&str]) {
    for (number, mitre_id) in techniques.iter().enumerate() {
        let mut chains: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for test in seen.iter().filter(|test| test.technique == number) {
            chains.entry(&test.chain).or_default().push(test);
        }
        let expected = status(chains.into_values().map(|mut chain| {
            chain.sort_by_key(|test| test.shown["validated_at"].as_str().map(moment));
            chain.iter().map(|test| (test.model.state, test.model.result)).collect()
        }));
        eventually(&format!("{mitre_id} is {expected}"), SETTLED, || async {
            let technique = admin.get(&format!("/techniques/{mitre_id}")).await.json(200);
            let status = technique["status_global"].as_str().unwrap().to_owned();
            if status == expected { Ok(()) } else { Err(status) }
        })
        .await;
    }
    eventually("the figures are those of the catalogue", SETTLED, || async {
        let rows = admin.get("/techniques?limit=5000").await.json(200);
        let rows = rows.as_array().unwrap();
        let mut all: Counts<String> = Counts::new();
        let mut by_tactic: Counts<(String, String)> = Counts::new();
        for row in rows {
            let status = row["status_global"].as_str().unwrap();
            *all.entry(status.to_owned()).or_default() += 1;
            for tactic in row["tactics"].as_array().unwrap() {
                *by_tactic.entry((tactic.as_str().unwrap().to_owned(), status.to_owned())).or_default() += 1;
            }
        }
        let summary = admin.get("/metrics/summary").await.json(200);
        if summary["total_techniques"] != rows.len() {
            return Err(format!("{} techniques: {summary}", rows.len()));
        }
        let tactics = admin.get("/metrics/by-tactic").await.json(200);
        let (mut got_all, mut got) = (Counts::new(), Counts::new());
        let number = |row: &Value, status: &str| row[status].as_u64().unwrap_or_else(|| panic!("{row}")) as usize;
        for status in ["validated", "partial", "not_covered", "in_progress", "not_evaluated"] {
            got_all.insert(status.to_owned(), number(&summary, status));
            for row in tactics.as_array().unwrap() {
                got.insert((row["tactic"].as_str().unwrap().to_owned(), status.to_owned()), number(row, status));
            }
        }
        got_all.retain(|_, count| *count > 0);
        got.retain(|_, count| *count > 0);
        differ(&got_all, &all)?;
        differ(&got, &by_tactic)
    })
    .await;
}

fn moment(text: &str) -> chrono::DateTime<chrono::Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What is there and what should be, where they are not the same.
fn differ<K: Ord + std::fmt::Debug>(got: &Counts<K>, expected: &Counts<K>) -> Result<(), String> {
    let missing: Vec<_> = expected.iter().filter(|(key, count)| got.get(key) != Some(count)).take(10).collect();
    let other: Vec<_> = got.iter().filter(|(key, count)| expected.get(key) != Some(count)).take(10).collect();
    if missing.is_empty() && other.is_empty() {
        return Ok(());
    }
    Err(format!("expected {missing:?}, found {other:?}, of {} and {}", expected.len(), got.len()))
}
