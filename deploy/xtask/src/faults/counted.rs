//! What the product says after a fault, beside what was confirmed while it lasted.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::client::Ask;
use super::journal::{Journal, Test};
use super::may_lose_a_moment;
use super::site::{Person, Site, rows, text};

/// What a sensor that is killed may not have written down of what its decoys answered.
const MOMENT: Duration = Duration::from_secs(2);
/// States of a test by how many steps it has taken.
const STATES: [&str; 5] = ["draft", "red_executing", "blue_evaluating", "in_review", "validated"];
/// Records of the audit trail that each step leaves.
const AUDIT: [&[&str]; 4] = [&["start_execution"], &["submit_red"], &["submit_blue"], &["vote_red", "vote_blue"]];
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
pub fn told(tests: &[Test], who: Who) -> BTreeMap<(String, String), usize> {
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

/// Sign-ins of the visitor in the audit trail.
pub async fn logins(site: &Site) -> Result<u64> {
    let path = format!("/audit-logs?action=login&user_id={}&limit=1", site.visitor.id);
    let page = site.admin.client.must(&Ask::get(path)).await?;
    page["total"].as_u64().context("the audit trail has no total")
}

/// Looks until nothing is missing, at most for so long.
pub async fn compare(site: &Site, journal: &Journal, patience: Duration) -> Counts {
    let since = Instant::now();
    loop {
        let mut counts = Counts::default();
        if let Err(error) = look(site, journal, &mut counts).await {
            counts.lost.push(format!("{error:#}"));
        }
        counts.settled = since.elapsed();
        if counts.lost.is_empty() || since.elapsed() > patience {
            return counts;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn look(site: &Site, journal: &Journal, counts: &mut Counts) -> Result<()> {
    tests(site, journal, counts).await?;
    audit(site, journal, counts).await?;
    for (who, kind) in
        [(&site.red, Who::Red), (&site.blue, Who::Blue), (&site.red_lead, Who::Lead), (&site.blue_lead, Who::Lead)]
    {
        let ours = |row: &Value| journal.tests.iter().any(|test| row["entity_id"] == test.id.as_str());
        let listed = newest(who, "/notifications?limit=100", 100, ours).await?;
        let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
        for row in &listed {
            *got.entry((text(row, "entity_id")?, text(row, "kind")?)).or_default() += 1;
        }
        balance(&format!("notifications of {}", who.username), &told(&journal.tests, kind), &got, counts);
        if kind == Who::Red {
            let ids = listed.iter().filter_map(|row| row["id"].as_str()).map(|id| (id.to_owned(), 1));
            let expected: BTreeMap<String, usize> = ids.collect();
            let mut got: BTreeMap<String, usize> = BTreeMap::new();
            journal.streamed.iter().for_each(|id| *got.entry(id.clone()).or_default() += 1);
            balance("told on the stream", &expected, &got, counts);
        }
    }
    lines(site, journal, counts).await?;
    sign_ins(site, journal, counts).await?;
    figures(site, journal, counts).await
}

/// State, timeline and files of each test; and there is each test once.
async fn tests(site: &Site, journal: &Journal, counts: &mut Counts) -> Result<()> {
    let client = &site.red.client;
    for test in &journal.tests {
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
        for (kind, times) in [("transition", test.steps), ("comment", test.comments), ("vote", votes)] {
            if times > 0 {
                expected.insert(kind.to_owned(), times);
            }
        }
        // Told by another service, whose own list is looked at below.
        got.retain(|kind, _| !kind.contains("evidence"));
        balance(&format!("timeline of {}", test.name), &expected, &got, counts);
        files(site, test, counts).await?;
    }
    let ours = |row: &Value| row["name"].as_str().is_some_and(|name| name.starts_with(&journal.mark));
    let mut got: BTreeMap<String, usize> = BTreeMap::new();
    for row in newest(&site.red, &format!("/tests?created_by={}&limit=200", site.red.id), 200, ours).await? {
        *got.entry(text(&row, "name")?).or_default() += 1;
    }
    let expected = journal.tests.iter().map(|test| (test.name.clone(), 1)).collect();
    balance("tests", &expected, &got, counts);
    Ok(())
}

async fn files(site: &Site, test: &Test, counts: &mut Counts) -> Result<()> {
    let list = site.red.client.must(&Ask::get(format!("/tests/{}/evidence", test.id))).await?;
    let found = rows(&list);
    if found.len() > test.files.len() {
        counts.doubled.push(format!("{} files of {}", found.len(), test.files.len()));
    }
    for bytes in &test.files {
        let Some(link) = found.first().and_then(|file| file["download_url"].as_str()) else {
            counts.lost.push(format!("a file of {}", test.name));
            continue;
        };
        if site.red.client.follow(link).await.is_ok_and(|reply| reply.body != *bytes) {
            counts.lost.push(format!("the bytes of a file of {}", test.name));
        }
    }
    Ok(())
}

async fn audit(site: &Site, journal: &Journal, counts: &mut Counts) -> Result<()> {
    let Some(since) = journal.tests.iter().map(|test| &test.created_at).min() else { return Ok(()) };
    let path = format!("/audit-logs/export?entity_type=test&start_date={since}");
    let reply = site.admin.client.ask(&Ask::get(path)).await.0?;
    anyhow::ensure!(reply.status == 200, "the audit trail answers {}", reply.status);
    let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let row: Value = serde_json::from_slice(line).context("the audit trail cannot be read")?;
        let id = row["entity_id"].as_str().unwrap_or_default();
        let ours = row["success"] == true && journal.tests.iter().any(|test| test.id == id);
        let action = text(&row, "action")?;
        // Files, and links to them, are another service's.
        if ours && !action.contains("evidence") {
            *got.entry((id.to_owned(), action)).or_default() += 1;
        }
    }
    let mut expected: BTreeMap<(String, String), usize> = BTreeMap::new();
    for test in &journal.tests {
        let mut expect = |action: &str, times| {
            if times > 0 {
                expected.insert((test.id.clone(), action.to_owned()), times);
            }
        };
        expect("create_test", 1);
        expect("comment_test", test.comments);
        AUDIT[..test.steps].iter().copied().flatten().for_each(|action| expect(action, 1));
    }
    balance("audit records", &expected, &got, counts);
    Ok(())
}

/// Lines of other honeypots, and what decoys were asked.
async fn lines(site: &Site, journal: &Journal, counts: &mut Counts) -> Result<()> {
    let found = |search: String| async move {
        let page = site.red.client.must(&Ask::get(format!("/logs?limit=1&search={search}"))).await?;
        page["total"].as_u64().context("a list of events has no total")
    };
    let got = found(format!("service:ssh%20{}", journal.mark)).await?;
    if got < journal.lines {
        counts.lost.push(format!("{} lines of {}", journal.lines - got, journal.lines));
    } else if got > journal.lines {
        counts.doubled.push(format!("{} lines of {}", got - journal.lines, journal.lines));
    }
    for (path, at) in &journal.hits {
        let may_be_gone = may_lose_a_moment(journal.case)
            && journal.begun.is_some_and(|begun| *at + MOMENT > begun && *at < begun + MOMENT);
        let got = found(format!("event:request%20{}", path.trim_start_matches('/'))).await?;
        match got {
            0 if may_be_gone => {}
            0 => counts.lost.push(format!("what a decoy was asked: {path}")),
            1 => {}
            _ => counts.doubled.push(format!("what a decoy was asked: {path}, {got} times")),
        }
    }
    Ok(())
}

/// A sign-in without an answer may be there; one with an answer has to be.
async fn sign_ins(site: &Site, journal: &Journal, counts: &mut Counts) -> Result<()> {
    let got = logins(site).await? - journal.logins_before;
    if got < journal.logins {
        counts.lost.push(format!("{} sign-ins of {} in the audit trail", journal.logins - got, journal.logins));
    } else if got > journal.login_tries {
        counts.doubled.push(format!("{got} sign-ins in the audit trail, {} were asked for", journal.login_tries));
    }
    Ok(())
}

/// The catalogue follows the tests, and analytics follows the catalogue.
async fn figures(site: &Site, journal: &Journal, counts: &mut Counts) -> Result<()> {
    if journal.tests.iter().any(|test| test.steps == STATES.len() - 1) {
        let first = &site.techniques[0];
        let shown = site.red.client.must(&Ask::get(format!("/techniques/{}", first.0))).await?;
        if !matches!(shown["status_global"].as_str(), Some("validated" | "in_progress")) {
            counts.lost.push(format!("{} is {}", first.0, shown["status_global"]));
        }
    }
    let summary = site.red.client.must(&Ask::get("/metrics/summary")).await?;
    for status in STATUSES {
        let listed = total(&site.red, &format!("/techniques?status={status}&limit=1")).await?;
        if summary[status] != listed {
            counts.lost.push(format!("{listed} techniques are {status}, analytics counts {}", summary[status]));
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
            found.insert(text(&row, "id")?, row);
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
