//! Every combination of filters against the same question asked plainly, on both databases.

use aegis_db::{Tx, on, read};
use aegis_testkit::TestDb;
use chrono::TimeDelta;
use sqlx::Row;

use super::*;
use crate::domain::workflow::{Side, State};

const PLATFORMS: [Option<&str>; 3] = [Some("windows"), Some("linux"), None];
const STATUSES: [Option<&str>; 6] =
    [Some("pending"), Some("in_progress"), Some("completed"), Some("not_applicable"), None, None];
const COLUMNS: &str = "id, technique_id, mitre_id, technique_name, name, platform, state, created_by, \
     created_by_username, created_at, updated_at, detection_result, red_validation_status, blue_validation_status, \
     remediation_status, remediation_due_date, red_assignee, blue_assignee, remediation_assignee, chain_id, version";

/// Numbers without a pattern that matters; the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }
}

fn id(kind: u8, n: usize) -> Uuid {
    Uuid::from_u128((u128::from(kind) << 64) | u128::try_from(n).unwrap())
}

fn start() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

async fn databases() -> Vec<TestDb> {
    aegis_testkit::databases("testing", &[aegis_events::migrations(), crate::migrations()]).await
}

/// Writes a test with dice for what lists filter by.
async fn write(tx: &mut Tx, dice: &mut Dice, n: usize) {
    let users: Vec<Option<Uuid>> = (0..3).map(|n| Some(id(1, n))).chain([None, None]).collect();
    // Some of the same moment, so that ids decide.
    let at = start() + TimeDelta::seconds(i64::try_from(n / 3).unwrap());
    let state = dice.one_of(&State::NAMES);
    let mut vote = || match state {
        "in_review" => dice.one_of(&["pending", "approved"]),
        "rejected" => "rejected",
        "validated" => "approved",
        _ => "pending",
    };
    let (red, blue) = (vote(), vote());
    let sql = format!(
        "INSERT INTO test ({COLUMNS}) VALUES ($1, $2, 'T1', 't', $3, $4, $5, $6, 'u', $7, $7, $8, $9, $10, $11, $12, \
         $13, $14, $15, $1, 1)"
    );
    let (technique, platform, by) = (id(2, dice.roll(3)), dice.one_of(&PLATFORMS), id(1, dice.roll(3)));
    let result = dice.one_of(&[Some("detected"), None]);
    let status = dice.one_of(&STATUSES);
    let due = dice.one_of(&[Some(at + TimeDelta::days(-1)), Some(at + TimeDelta::days(1)), None]);
    let assignees = [dice.one_of(&users), dice.one_of(&users), dice.one_of(&users)];
    on!(tx, |c| sqlx::query(AssertSqlSafe(sql))
        .bind(id(3, dice.roll(1 << 30)))
        .bind(technique)
        .bind(format!("test {n}"))
        .bind(platform)
        .bind(state)
        .bind(by)
        .bind(at)
        .bind(result)
        .bind(red)
        .bind(blue)
        .bind(status)
        .bind(due)
        .bind(assignees[0])
        .bind(assignees[1])
        .bind(assignees[2])
        .execute(c)
        .await
        .map(|_| ()))
    .unwrap();
}

/// Changes a few tests, takes a few away, and puts the sixth of the rest into a campaign.
async fn stir(db: &Db, dice: &mut Dice) {
    for sql in [
        "UPDATE test SET state = 'in_review', red_validation_status = 'pending', red_assignee = blue_assignee, \
         version = version + 1 WHERE state = 'blue_evaluating'",
        "UPDATE test SET remediation_status = 'completed', platform = 'linux' WHERE platform IS NULL AND state = 'draft'",
        "UPDATE test SET name = 'renamed' WHERE state = 'validated'",
        "DELETE FROM test WHERE state = 'rejected' AND platform = 'windows'",
        "INSERT INTO campaign (id, name, type, status, created_by, created_by_username, created_at, updated_at, \
         schedule_enabled, version) SELECT technique_id, 'c', 'custom', 'draft', created_by, 'u', MIN(created_at), \
         MIN(created_at), FALSE, 1 FROM test GROUP BY technique_id, created_by ORDER BY created_by LIMIT 1",
    ] {
        let mut tx = db.begin().await.unwrap();
        on!(tx, |c| sqlx::query(sql).execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
        if dice.roll(2) == 0 {
            tally::fold_all(db).await.unwrap();
        }
    }
    let ids: Vec<Uuid> =
        read!(db, |pool| sqlx::query_scalar("SELECT id FROM test ORDER BY id").fetch_all(pool).await).unwrap();
    let mut tx = db.begin().await.unwrap();
    for (n, test) in ids.into_iter().step_by(6).enumerate() {
        on!(tx, |c| sqlx::query(
            "INSERT INTO campaign_test (campaign_id, test_id, position) SELECT id, $1, $2 FROM campaign"
        )
        .bind(test)
        .bind(i64::try_from(n).unwrap())
        .execute(c)
        .await
        .map(|_| ()))
        .unwrap();
    }
    tx.commit().await.unwrap();
}

/// A filter by those of the ten that have their bit in `which`.
fn filter(which: u32, dice: &mut Dice, campaign: Uuid) -> Filter {
    let has = |bit: u32| which & (1 << bit) != 0;
    Filter {
        state: has(0).then(|| State::try_from(dice.one_of(&State::NAMES).to_owned()).unwrap()),
        technique_id: has(1).then(|| id(2, dice.roll(3))),
        platform: has(2).then(|| dice.one_of(&["windows", "linux", "windows", "linux", "amiga"]).to_owned()),
        created_by: has(3).then(|| id(1, dice.roll(3))),
        pending: has(4).then(|| dice.one_of(&[Side::Red, Side::Blue])),
        assignee: has(5).then(|| id(1, dice.roll(3))),
        incomplete: has(6),
        campaign_id: has(7).then_some(campaign),
        remediation_status: has(8).then(|| dice.one_of(&STATUSES[..4]).unwrap().to_owned()),
        overdue_at: has(9).then(|| start() + TimeDelta::hours(1)),
    }
}

/// What the filter is for, said once more in another way.
fn fits(test: &Test, filter: &Filter, campaign: &[Uuid]) -> bool {
    let due = filter.overdue_at.is_none_or(|at| {
        let open = !matches!(test.remediation_status.as_deref(), Some("completed" | "not_applicable"));
        open && test.remediation_due_date.is_some_and(|due| due < at)
    });
    let pending = match filter.pending {
        Some(Side::Red) => test.state == State::InReview && test.red_validation_status.as_str() == "pending",
        Some(Side::Blue) => test.state == State::InReview && test.blue_validation_status.as_str() == "pending",
        None => true,
    };
    let assignees = [test.red_assignee, test.blue_assignee, test.remediation_assignee];
    due && pending
        && filter.state.is_none_or(|state| state == test.state)
        && filter.technique_id.is_none_or(|id| id == test.technique_id)
        && filter.platform.as_ref().is_none_or(|platform| Some(platform) == test.platform.as_ref())
        && filter.created_by.is_none_or(|id| id == test.created_by)
        && filter.assignee.is_none_or(|id| assignees.contains(&Some(id)))
        && (!filter.incomplete || test.state == State::Validated && test.detection_result.is_none())
        && filter.campaign_id.is_none_or(|_| campaign.contains(&test.id))
        && filter.remediation_status.as_ref().is_none_or(|s| Some(s) == test.remediation_status.as_ref())
}

#[tokio::test]
async fn every_combination_of_filters_finds_what_fits_in_order_and_its_number() {
    for kit in databases().await {
        let (db, mut dice) = (&kit.db, Dice(5));
        for part in 0..3 {
            let mut tx = db.begin().await.unwrap();
            for n in 0..120 {
                write(&mut tx, &mut dice, part * 120 + n).await;
            }
            tx.commit().await.unwrap();
            if part < 2 {
                tally::fold_all(db).await.unwrap();
            }
        }
        stir(db, &mut dice).await;
        let campaign: Uuid = read!(db, |p| sqlx::query_scalar("SELECT id FROM campaign").fetch_one(p).await).unwrap();
        let members: Vec<Uuid> =
            read!(db, |p| sqlx::query_scalar("SELECT test_id FROM campaign_test").fetch_all(p).await).unwrap();
        let (mut all, _) = export(db, None, 1000).await.unwrap();
        all.sort_by_key(|test| std::cmp::Reverse((test.created_at, test.id)));
        assert!(all.len() > 250);
        let mut found = 0;
        for which in 0..1024 {
            let filter = filter(which, &mut dice, campaign);
            let fitting: Vec<&Test> = all.iter().filter(|test| fits(test, &filter, &members)).collect();
            found += fitting.len();
            let limit = 1 + dice.roll(9);
            let skip = dice.roll(fitting.len() + 2);
            let ask = async |after, skip: usize| {
                let (skip, limit) = (i64::try_from(skip).unwrap(), i64::try_from(limit).unwrap());
                page(db, &filter, after, skip, limit).await.unwrap()
            };
            let right = |page: Page, from: usize, what: &str| {
                let from = from.min(fitting.len());
                let until = (from + limit).min(fitting.len());
                let wanted: Vec<Uuid> = fitting[from..until].iter().map(|test| test.id).collect();
                let names: Vec<Uuid> = page.tests.iter().map(|test| test.id).collect();
                assert_eq!(names, wanted, "{what} of {filter:?} on {}", kit.name);
                assert_eq!(usize::try_from(page.total).unwrap(), fitting.len(), "{what} of {filter:?} on {}", kit.name);
                assert_eq!(page.more, until < fitting.len(), "{what} of {filter:?} on {}", kit.name);
            };
            right(ask(None, 0).await, 0, "the first page");
            right(ask(None, skip).await, skip, "a page further on");
            if let Some(last) = fitting.get(skip) {
                right(ask(Some((last.created_at, last.id)), 1).await, skip + 2, "the page after a key");
            }
        }
        assert!(found > 3000, "the filters leave too little to be a test: {found}");
        kit.close().await;
    }
}

#[tokio::test]
async fn folding_changes_no_number_and_leaves_nothing_behind() {
    for kit in databases().await {
        let (db, mut dice) = (&kit.db, Dice(9));
        let mut tx = db.begin().await.unwrap();
        for n in 0..50 {
            write(&mut tx, &mut dice, n).await;
        }
        tx.commit().await.unwrap();
        let total = async || page(db, &Filter::default(), None, 0, 1).await.unwrap().total;
        let rows = async |sql| -> i64 { read!(db, |p| sqlx::query_scalar(sql).fetch_one(p).await).unwrap() };
        assert!(rows("SELECT COUNT(*) FROM tally_delta").await >= 50);
        assert_eq!(total().await, 50);
        // Two at once share what there is.
        let (one, other) = tokio::join!(tally::fold_all(db), tally::fold_all(db));
        one.unwrap();
        other.unwrap();
        assert_eq!(rows("SELECT COUNT(*) FROM tally_delta").await, 0);
        assert_eq!(total().await, 50);
        // A change that no list shows leaves the tally alone.
        let mut tx = db.begin().await.unwrap();
        on!(tx, |c| sqlx::query("UPDATE test SET name = 'x', version = 2").execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
        assert_eq!(rows("SELECT COUNT(*) FROM tally_delta").await, 0);
        kit.close().await;
    }
}

#[tokio::test]
async fn every_combination_of_filters_walks_an_index_in_the_order_of_the_list() {
    let kit = databases().await.swap_remove(0);
    let (db, mut dice) = (&kit.db, Dice(1));
    for which in 0..1024_u32 {
        let filter = filter(which, &mut dice, id(4, 0));
        if filter.contradicts_itself() {
            continue;
        }
        for span in
            [Span::of(10_000, 0, 51), Span::of(10_000, 9_000, 51), Some(Span::after((start(), id(3, 0)), 0, 51))]
        {
            let mut statement = Statement { sql: "EXPLAIN QUERY PLAN ".into(), args: Vec::new(), sqlite: true };
            statement.keys(&filter, &span.unwrap());
            let Statement { sql, args, .. } = statement;
            let aegis_db::Db::Sqlite(sqlite) = db else { panic!("the first database is SQLite") };
            let explain = bound!(sqlx::query(AssertSqlSafe(sql.clone())), args);
            let plan: Vec<String> =
                explain.fetch_all(&sqlite.read).await.unwrap().iter().map(|row| row.get("detail")).collect();
            let plan: Vec<&str> = plan.iter().map(String::as_str).filter(|line| !line.contains("backwards")).collect();
            let steps = plan.join("; ");
            // Walking the whole list, or all of a partial index, is a scan of an index; and what comes backwards is turned
            // around, a page of it.
            let whole = |line: &&str| line.starts_with("SCAN test") && !line.contains("INDEX");
            assert!(!plan.iter().any(whole), "{sql}\n{steps}");
            let sorts = plan.iter().filter(|line| line.contains("TEMP B-TREE")).count();
            // The members of a campaign have an order of their own.
            let allowed = usize::from(filter.campaign_id.is_some()) + usize::from(sql.contains("backwards"));
            assert!(sorts <= allowed, "{sql}\n{steps}");
        }
    }
    kit.close().await;
}
