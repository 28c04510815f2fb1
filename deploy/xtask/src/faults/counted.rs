//! What the product says after a fault, beside what was confirmed while it lasted, or while any of several did.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::client::Ask;
use super::journal::{Journal, STEPS, Test};
use super::may_lose_a_moment;
use super::site::{Person, Site, rows, text};

/// What a sensor that is killed may not have written down of what its decoys answered.
const MOMENT: Duration = Duration::from_secs(2);
/// States of a test by how many steps it has taken.
const STATES: [&str; 5] = ["draft", "red_executing", "blue_evaluating", "in_review", "validated"];
/// Records of the audit trail that each step leaves.
const AUDIT: [&[&str]; 4] = [&["start_execution"], &["submit_red"], &["submit_blue"], &["vote_red", "vote_blue"]];
/// Where nobody here brings a test.
const REJECTED: &str = "rejected";
const STATUSES: [&str; 5] = ["validated", "partial", "not_covered", "in_progress", "not_evaluated"];

/// What is not as it should be.
#[derive(Debug, Default)]
pub struct Counts {
    /// Confirmed, and not there.
    pub lost: Vec<String>,
    /// There more often than it happened.
    pub doubled: Vec<String>,
    /// How long it took until all was there.
    pub settled: Duration,
}

/// Those whom something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Who made the tests.
    Red,
    /// Whose turn comes.
    Blue,
    /// Who decide.
    Lead,
}

/// Notifications that these tests cause.
pub fn told<'a>(tests: impl Iterator<Item = &'a Test>, who: Who) -> BTreeMap<(String, String), usize> {
    let mut told = BTreeMap::new();
    for test in tests {
        let mut tell = |kind: &str, times: usize| {
            if times > 0 {
                told.insert((test.id.clone(), kind.to_owned()), times);
            }
        };
        match who {
            Who::Red => {
                tell("red_executing", usize::from(test.steps > 0));
                tell("comment", test.comments);
                tell("validated", usize::from(test.steps > 3));
            }
            Who::Blue => tell("blue_evaluating", usize::from(test.steps > 1)),
            Who::Lead => tell("in_review", usize::from(test.steps > 2)),
        }
    }
    told
}

/// Looks for what is in these journals until nothing is missing, at most for so long.
pub async fn compare(site: &Site, journals: &[Journal], patience: Duration) -> Counts {
    let since = Instant::now();
    loop {
        let mut counts = Counts::default();
        if let Err(error) = look(site, journals, &mut counts).await {
            counts.lost.push(format!("{error:#}"));
        }
        counts.settled = since.elapsed();
        if counts.lost.is_empty() || since.elapsed() > patience {
            return counts;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn look(site: &Site, journals: &[Journal], counts: &mut Counts) -> Result<()> {
    tests(site, journals, counts).await?;
    audit(site, journals, counts).await?;
    notifications(site, journals, counts).await?;
    for journal in journals {
        lines(site, journal, counts).await?;
        hits(site, journal, counts).await?;
    }
    sign_ins(site, journals, counts).await?;
    figures(site, journals, counts).await
}

fn all_tests(journals: &[Journal]) -> impl Iterator<Item = &Test> {
    journals.iter().flat_map(|journal| &journal.tests)
}

fn has_mark(journals: &[Journal], text: &Value) -> bool {
    text.as_str().is_some_and(|text| journals.iter().any(|journal| text.starts_with(&journal.mark)))
}

/// State, timeline and files of each test; and there is each test once.
async fn tests(site: &Site, journals: &[Journal], counts: &mut Counts) -> Result<()> {
    let client = &site.red.client;
    for test in all_tests(journals) {
        let shown = client.must(&Ask::get(format!("/tests/{}", test.id))).await?;
        let state = shown["state"].as_str().unwrap_or_default();
        let reached = STATES.iter().position(|known| *known == state).unwrap_or(0);
        if reached < test.steps {
            counts.lost.push(format!("{} is {state}, was confirmed to be {}", test.name, STATES[test.steps]));
        } else if reached > test.steps {
            counts.doubled.push(format!("{} is {state}, nobody was told more than {}", test.name, STATES[test.steps]));
        }
        let timeline = client.must(&Ask::get(format!("/tests/{}/timeline", test.id))).await?;
        let mut got: BTreeMap<String, usize> = BTreeMap::new();
        for entry in rows(&timeline) {
            *got.entry(text(&entry, "kind")?).or_default() += 1;
        }
        let mut expected = BTreeMap::from([("created".to_owned(), 1)]);
        let votes = if test.steps > 3 { 2 } else { 0 };
        // What is told of files comes from another service, as events.
        for (kind, times) in
            [("transition", test.steps), ("comment", test.comments), ("vote", votes), ("evidence", test.files.len())]
        {
            if times > 0 {
                expected.insert(kind.to_owned(), times);
            }
        }
        balance(&format!("timeline of {}", test.name), &expected, &got, counts);
        files(site, test, &rows(&shown["evidences"]), counts).await;
    }
    let mut got: BTreeMap<String, usize> = BTreeMap::new();
    let path = format!("/tests?created_by={}&limit=200", site.red.id);
    for row in newest(&site.red, &path, 200, |row| has_mark(journals, &row["name"])).await? {
        *got.entry(text(&row, "name")?).or_default() += 1;
    }
    let expected = all_tests(journals).map(|test| (test.name.clone(), 1)).collect();
    balance("tests", &expected, &got, counts);
    Ok(())
}

async fn files(site: &Site, test: &Test, found: &[Value], counts: &mut Counts) {
    if found.len() > test.files.len() {
        counts.doubled.push(format!("{} files of {} of {}", found.len(), test.files.len(), test.name));
    }
    for (at, bytes) in test.files.iter().enumerate() {
        let Some(link) = found.get(at).and_then(|file| file["download_url"].as_str()) else {
            counts.lost.push(format!("a file of {}", test.name));
            continue;
        };
        // One that cannot be read is not there; it is tried again as long as anything is looked for.
        match site.red.client.follow(link).await {
            Ok(reply) if reply.status == 200 && reply.body == *bytes => {}
            Ok(reply) if reply.status == 200 => counts.lost.push(format!("the bytes of a file of {}", test.name)),
            Ok(reply) => counts.lost.push(format!("a file of {} answers {}", test.name, reply.status)),
            Err(error) => counts.lost.push(format!("a file of {} cannot be read: {error:#}", test.name)),
        }
    }
}

/// Records of tests, and of the files that were brought.
async fn audit(site: &Site, journals: &[Journal], counts: &mut Counts) -> Result<()> {
    // A test whose creation was confirmed at the second try says not when it was made.
    let times = all_tests(journals).map(|test| &test.created_at).filter(|time| !time.is_empty());
    let Some(since) = times.min() else { return Ok(()) };
    let ids: HashSet<&str> = all_tests(journals).map(|test| test.id.as_str()).collect();
    let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut count = |id: &Value, row: &Value| {
        if let Some(id) = id.as_str().filter(|id| ids.contains(id) && row["success"] == true) {
            *got.entry((id.to_owned(), row["action"].as_str().unwrap_or_default().to_owned())).or_default() += 1;
        }
    };
    for row in records(site, &format!("entity_type=test&start_date={since}")).await? {
        // A link to a file is given out as often as anybody asks for one.
        if row["action"] != "issue_evidence_link" {
            count(&row["entity_id"], &row);
        }
    }
    for row in records(site, &format!("action=upload_evidence&start_date={since}")).await? {
        count(&row["details"]["test_id"], &row);
    }
    let mut expected: BTreeMap<(String, String), usize> = BTreeMap::new();
    for test in all_tests(journals) {
        let mut expect = |action: &str, times| {
            if times > 0 {
                expected.insert((test.id.clone(), action.to_owned()), times);
            }
        };
        expect("create_test", 1);
        expect("comment_test", test.comments);
        expect("upload_evidence", test.files.len());
        AUDIT[..test.steps].iter().copied().flatten().for_each(|action| expect(action, 1));
    }
    balance("audit records", &expected, &got, counts);
    Ok(())
}

/// What the audit trail has.
async fn records(site: &Site, filter: &str) -> Result<Vec<Value>> {
    let reply = site.admin.client.ask(&Ask::get(format!("/audit-logs/export?{filter}"))).await.0?;
    anyhow::ensure!(reply.status == 200, "the audit trail answers {}", reply.status);
    let lines = reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).context("the audit trail cannot be read")).collect()
}

/// What people were told of tests, in their lists and on the stream.
async fn notifications(site: &Site, journals: &[Journal], counts: &mut Counts) -> Result<()> {
    let ids: HashSet<&str> = all_tests(journals).map(|test| test.id.as_str()).collect();
    for (who, kind) in
        [(&site.red, Who::Red), (&site.blue, Who::Blue), (&site.red_lead, Who::Lead), (&site.blue_lead, Who::Lead)]
    {
        let ours = |row: &Value| row["entity_id"].as_str().is_some_and(|id| ids.contains(id));
        let listed = newest(who, "/notifications?limit=100", 100, ours).await?;
        let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
        for row in &listed {
            *got.entry((text(row, "entity_id")?, text(row, "kind")?)).or_default() += 1;
        }
        balance(&format!("notifications of {}", who.username), &told(all_tests(journals), kind), &got, counts);
        if kind == Who::Red {
            let ids = listed.iter().filter_map(|row| row["id"].as_str()).map(|id| (id.to_owned(), 1));
            let expected: BTreeMap<String, usize> = ids.collect();
            let mut got: BTreeMap<String, usize> = BTreeMap::new();
            let streamed = journals.iter().flat_map(|journal| &journal.streamed);
            streamed.for_each(|id| *got.entry(id.clone()).or_default() += 1);
            balance("told on the stream", &expected, &got, counts);
        }
    }
    Ok(())
}

/// Lines of other honeypots, and what is derived of them: whose they are.
async fn lines(site: &Site, journal: &Journal, counts: &mut Counts) -> Result<()> {
    let client = &site.red.client;
    let search = format!("/logs?limit=1&search=service:ssh%20{}", journal.mark);
    let page = client.must(&Ask::get(search)).await?;
    let stored = page["total"].as_u64().context("a list of events has no total")?;
    let page = client.must(&Ask::get(format!("/attackers?search=attacker:{}", journal.attacker))).await?;
    let derived = rows(&page).iter().filter_map(|attacker| attacker["event_count"].as_u64()).sum();
    let all = journal.lines;
    for (what, got) in [("are stored", stored), ("are their attacker's", derived)] {
        let told = format!("of {all} lines of {} {got} {what}", journal.mark);
        match got.cmp(&all) {
            Ordering::Less => counts.lost.push(told),
            Ordering::Equal => {}
            Ordering::Greater => counts.doubled.push(told),
        }
    }
    Ok(())
}

/// What decoys were asked.
async fn hits(site: &Site, journal: &Journal, counts: &mut Counts) -> Result<()> {
    if journal.hits.is_empty() {
        return Ok(());
    }
    let search = format!("/logs?limit=1000&search=event:request%20{}", journal.mark);
    let mut got: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows(&site.red.client.must(&Ask::get(search)).await?) {
        let fields: Value = serde_json::from_str(&text(&row, "fields")?).context("an event cannot be read")?;
        *got.entry(text(&fields, "path")?).or_default() += 1;
    }
    for (path, at) in &journal.hits {
        let may_be_gone = may_lose_a_moment(journal.case)
            && journal.begun.is_some_and(|begun| *at + MOMENT > begun && *at < begun + MOMENT);
        match got.get(path).copied().unwrap_or(0) {
            0 if may_be_gone => {}
            0 => counts.lost.push(format!("what a decoy was asked: {path}")),
            1 => {}
            times => counts.doubled.push(format!("what a decoy was asked: {path}, {times} times")),
        }
    }
    Ok(())
}

/// A sign-in with an answer has to be in the audit trail; one without may be there, though not twice.
async fn sign_ins(site: &Site, journals: &[Journal], counts: &mut Counts) -> Result<()> {
    let path = format!("/audit-logs?action=login&user_id={}&limit=100", site.visitor.id);
    let mut got: BTreeMap<String, usize> = BTreeMap::new();
    for row in newest(&site.admin, &path, 100, |row| has_mark(journals, &row["user_agent"])).await? {
        *got.entry(text(&row, "user_agent")?).or_default() += 1;
    }
    let expected: BTreeMap<String, usize> =
        journals.iter().flat_map(|journal| &journal.logins).map(|agent| (agent.clone(), 1)).collect();
    got.retain(|agent, times| expected.contains_key(agent) || *times > 1);
    balance("sign-ins", &expected, &got, counts);
    Ok(())
}

/// The catalogue follows the tests, and analytics follows both.
async fn figures(site: &Site, journals: &[Journal], counts: &mut Counts) -> Result<()> {
    let client = &site.red.client;
    let mut expected: BTreeMap<&str, &str> = BTreeMap::new();
    for test in all_tests(journals) {
        let status = expected.entry(&test.technique).or_insert("in_progress");
        if test.steps == STEPS.len() {
            *status = test.verdict.1;
        }
    }
    for (technique, status) in expected {
        let shown = client.must(&Ask::get(format!("/techniques/{technique}"))).await?;
        if shown["status_global"] != status {
            counts.lost.push(format!("{technique} is {}, its tests make it {status}", shown["status_global"]));
        }
    }
    let summary = client.must(&Ask::get("/metrics/summary")).await?;
    for status in STATUSES {
        let listed = total(&site.red, &format!("/techniques?status={status}&limit=1")).await?;
        if summary[status] != listed {
            counts.lost.push(format!("{listed} techniques are {status}, analytics counts {}", summary[status]));
        }
    }
    let pipeline = client.must(&Ask::get("/metrics/test-pipeline")).await?;
    for state in STATES.into_iter().chain([REJECTED]) {
        let listed = total(&site.red, &format!("/tests?state={state}&limit=1")).await?;
        if pipeline[state] != listed {
            counts.lost.push(format!("{listed} tests are {state}, analytics counts {}", pipeline[state]));
        }
    }
    Ok(())
}

/// The rows of ours in a list that begins with the newest, each once.
async fn newest(who: &Person, path: &str, size: usize, ours: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for page in 0.. {
        let list = rows(&who.client.must(&Ask::get(format!("{path}&offset={}", page * size))).await?);
        let full = list.len() == size;
        let mut any = false;
        // One that comes while pages are read moves another to the next page, where it is seen again.
        for row in list.into_iter().filter(&ours) {
            any = true;
            // A record that was taken in twice has one id and two places in the trail.
            let place = row["seq"].as_i64().map(|seq| seq.to_string());
            found.insert(place.map_or_else(|| text(&row, "id"), Ok)?, row);
        }
        if !full || !any {
            break;
        }
    }
    Ok(found.into_values().collect())
}

async fn total(who: &Person, path: &str) -> Result<u64> {
    let reply = who.client.ask(&Ask::get(path)).await.0?;
    anyhow::ensure!(reply.status == 200, "{path} answers {}", reply.status);
    reply.header("x-total-count").parse().with_context(|| format!("{path} has no X-Total-Count"))
}

fn balance<K: Ord + Debug>(what: &str, expected: &BTreeMap<K, usize>, got: &BTreeMap<K, usize>, counts: &mut Counts) {
    for (key, times) in expected {
        let found = got.get(key).copied().unwrap_or(0);
        if found < *times {
            counts.lost.push(format!("{what}: {key:?} is there {found} times of {times}"));
        }
    }
    for (key, found) in got {
        let times = expected.get(key).copied().unwrap_or(0);
        if *found > times {
            counts.doubled.push(format!("{what}: {key:?} is there {found} times in place of {times}"));
        }
    }
}

/// The whole audit trail holds together.
pub async fn chain(site: &Site) -> Result<()> {
    let verdict = site.admin.client.must(&Ask::get("/audit-logs/verify")).await?;
    anyhow::ensure!(verdict["valid"] == true, "the audit trail is broken: {verdict}");
    Ok(())
}
