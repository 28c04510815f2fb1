//! Reports and key figures against the same asked plainly of the events, on both databases.

use std::collections::BTreeMap;

use aegis_auth::Role;
use aegis_db::{Db, read};
use aegis_error::Failure;
use aegis_proto::events::v1::TestChanged;
use aegis_testkit::ctx;
use chrono::TimeDelta;
use prost_types::Timestamp;
use uuid::Uuid;

use super::*;
use crate::{
    domain::kpi::{Kpi, Load, Votes},
    rpc::chrono_of,
    tests::{app, hear, stores},
};

/// Numbers without a pattern that matters; the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % sides
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.roll(i64::try_from(all.len()).unwrap())).unwrap()]
    }
}

const NAMES: [&str; 5] = ["Dump, \"quoted\"", "=cmd|' /C calc'!A0", "Zürich\nline two", "plain", "-1"];

fn stamp(at: DateTime<Utc>) -> Option<Timestamp> {
    Some(crate::rpc::timestamp(at))
}

/// Tests of the last three weeks, some of the same moment, so that ids decide.
fn tests(n: usize, dice: &mut Dice) -> Vec<TestChanged> {
    let start = now() - TimeDelta::days(21);
    (0..n).map(|n| test(u128::try_from(n).unwrap(), start, dice)).collect()
}

fn test(n: u128, start: DateTime<Utc>, dice: &mut Dice) -> TestChanged {
    let state = dice.one_of(&State::ALL);
    let made = start + TimeDelta::minutes(dice.roll(20_000));
    let later = |dice: &mut Dice| (dice.roll(3) > 0).then(|| stamp(made + TimeDelta::seconds(dice.roll(9999))));
    let step = |reached: bool| (reached).then(|| stamp(made + TimeDelta::minutes(7))).flatten();
    let vote = dice.one_of(&["approved", "pending"]);
    let (red, blue) = match state {
        State::Validated => ("approved", "approved"),
        State::Rejected => ("rejected", vote),
        State::InReview => (vote, "pending"),
        _ => ("pending", "pending"),
    };
    let decided = made + TimeDelta::seconds(20_000 + dice.roll(9999));
    let remediation = dice.one_of(&["", "pending", "in_progress", "completed", "not_applicable"]);
    let due = stamp(now() + TimeDelta::days(dice.roll(5) - 2));
    TestChanged {
        test_id: Uuid::from_u128(n * 7919 % 100_003).to_string(),
        version: 1,
        technique_id: Uuid::from_u128(9).to_string(),
        mitre_id: "T1003.001".into(),
        technique_name: "LSASS Memory".into(),
        name: dice.one_of(&NAMES).into(),
        state: state.as_str().into(),
        detection_result: dice.one_of(&["detected", "partially_detected", "not_detected", ""]).into(),
        platform: "windows".into(),
        created_by: Uuid::from_u128(1).to_string(),
        created_by_username: "rita".into(),
        chain_id: Uuid::from_u128(n * 7919 % 100_003).to_string(),
        created_at: stamp(made),
        updated_at: stamp(made + TimeDelta::seconds(dice.roll(999_999))),
        execution_date: step(state != State::Draft),
        executed_at: later(dice).flatten(),
        detected_at: later(dice).flatten(),
        contained_at: later(dice).flatten(),
        red_submitted_at: step(state > State::RedExecuting),
        blue_submitted_at: step(state > State::BlueEvaluating),
        validated_at: (state == State::Validated).then(|| stamp(decided)).flatten(),
        red_validation_status: red.into(),
        red_validated_at: (red != "pending").then(|| stamp(decided)).flatten(),
        blue_validation_status: blue.into(),
        blue_validated_at: (blue != "pending").then(|| stamp(decided)).flatten(),
        remediation_status: remediation.into(),
        remediation_due_date: if remediation.is_empty() { None } else { dice.one_of(&[None, due]) },
        remediation_completed_at: (remediation == "completed").then(|| later(dice).flatten()).flatten(),
        remediation_steps: "Log it, \u{1f}then look".into(),
        attack_success: dice.one_of(&[Some(true), Some(false), None]),
        deleted: dice.roll(20) == 0,
        ..TestChanged::default()
    }
}

fn of(at: Option<Timestamp>) -> Option<DateTime<Utc>> {
    at.and_then(chrono_of)
}

fn made(test: &TestChanged) -> DateTime<Utc> {
    of(test.created_at).unwrap()
}

fn fits(test: &TestChanged, filter: &Filter) -> bool {
    filter.state.is_none_or(|state| state.as_str() == test.state)
        && filter.from.is_none_or(|from| made(test) >= from)
        && filter.to.is_none_or(|to| made(test) < to)
}

fn ids(rows: &[ReportRow]) -> Vec<String> {
    rows.iter().map(|row| row.test_id.to_string()).collect()
}

fn user() -> OpCtx {
    ctx(Role::Viewer, "vera")
}

fn part(page_size: i32, page_token: &str, skip: i32) -> Part {
    Part { page_size, page_token: page_token.to_owned(), skip }
}

async fn text(exported: Result<(Pieces, Option<DateTime<Utc>>), Error>) -> String {
    let (pieces, as_of) = exported.unwrap();
    assert!(as_of.is_some());
    let pieces: Vec<Vec<u8>> = pieces.try_collect().await.unwrap();
    assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
    String::from_utf8(pieces.concat()).unwrap()
}

/// Reads CSV as RFC 4180 says.
fn read_csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(row.is_empty() && cell.is_empty() && !quoted);
    rows
}

#[tokio::test]
async fn results_are_those_that_fit_in_order_with_their_numbers() {
    for kit in stores().await {
        let (app, mut dice) = (app(&kit.db), Dice(3));
        let all = tests(1300, &mut dice);
        hear(&app, &all).await.unwrap();
        let mut live: Vec<&TestChanged> = all.iter().filter(|test| !test.deleted).collect();
        live.sort_by_key(|test| std::cmp::Reverse((made(test), test.test_id.clone())));
        let start = now() - TimeDelta::days(21);
        for round in 0..40 {
            let moment = |dice: &mut Dice| {
                let at = start + TimeDelta::minutes(dice.roll(20_000));
                dice.one_of(&[None, Some(at), chrono_of(Timestamp { seconds: at.timestamp() / 3600 * 3600, nanos: 0 })])
            };
            let (from, to) = if round == 0 { (None, None) } else { (moment(&mut dice), moment(&mut dice)) };
            let state = (round % 3 > 0).then(|| dice.one_of(&State::ALL));
            let filter = match (from, to) {
                (Some(from), Some(to)) if from >= to => Filter { state, from: Some(from), to: None },
                _ => Filter { state, from, to },
            };
            let fitting: Vec<&&TestChanged> = live.iter().filter(|test| fits(test, &filter)).collect();
            let wanted: Vec<String> = fitting.iter().map(|test| test.test_id.clone()).collect();
            let what = format!("{filter:?} on {}", kit.name);

            let skip = usize::try_from(dice.roll(i64::try_from(wanted.len() + 2).unwrap())).unwrap();
            let skip = if round == 0 { 1100 } else { skip };
            let page = app.test_results(&user(), filter, &part(7, "", i32::try_from(skip).unwrap())).await.unwrap();
            let here = |from: usize| wanted.iter().skip(from).take(7).cloned().collect::<Vec<_>>();
            assert_eq!(ids(&page.tests), here(skip), "{what}");
            assert_eq!(page.next_page_token.is_empty(), skip + 7 >= wanted.len(), "{what}");
            if !page.next_page_token.is_empty() {
                let next = app.test_results(&user(), filter, &part(7, &page.next_page_token, 2)).await.unwrap();
                assert_eq!(ids(&next.tests), here(skip + 9), "{what}");
            }
            let mut breakdown = Breakdown::default();
            for test in &fitting {
                let result = Some(test.detection_result.as_str()).filter(|result| !result.is_empty());
                breakdown.add(State::parse(&test.state).unwrap(), result, 1);
            }
            assert_eq!(page.breakdown, breakdown, "{what}");

            let csv = read_csv(&text(app.export_results(&user(), filter).await).await);
            let listed: Vec<String> = csv[1..].iter().map(|row| row[0].clone()).collect();
            assert_eq!(listed, wanted, "{what}");
        }
        kit.close().await;
    }
}

#[tokio::test]
async fn an_export_has_every_field_and_no_formula() {
    for kit in stores().await {
        let (app, mut dice) = (app(&kit.db), Dice(4));
        let all = tests(60, &mut dice);
        hear(&app, &all).await.unwrap();
        let all: BTreeMap<&str, &TestChanged> = all.iter().map(|test| (test.test_id.as_str(), test)).collect();
        let rows = read_csv(&text(app.export_results(&user(), Filter::default()).await).await);
        assert_eq!(rows[0], csv::COLUMNS.map(|(name, _)| name));
        for row in &rows[1..] {
            let test = all[row[0].as_str()];
            let time = |at| of(at).map(|at: DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
            let name = if test.name.starts_with(['=', '-']) { format!("'{}", test.name) } else { test.name.clone() };
            let wanted = [
                test.test_id.clone(),
                name,
                test.technique_id.clone(),
                test.mitre_id.clone(),
                test.technique_name.clone(),
                test.state.clone(),
                test.detection_result.clone(),
                test.attack_success.map(|yes| yes.to_string()).unwrap_or_default(),
                test.platform.clone(),
                test.created_by.clone(),
                test.created_by_username.clone(),
                time(test.created_at).unwrap(),
                time(test.updated_at).unwrap(),
                time(test.executed_at).unwrap_or_default(),
                time(test.detected_at).unwrap_or_default(),
                time(test.validated_at).unwrap_or_default(),
                test.remediation_status.clone(),
                String::new(),
                time(test.remediation_due_date).unwrap_or_default(),
                time(test.remediation_completed_at).unwrap_or_default(),
                "Log it,  then look".to_owned(),
            ];
            assert_eq!(row[..], wanted, "{}", kit.name);
        }
        kit.close().await;
    }
}

#[tokio::test]
async fn remediations_come_due_first_then_newest_first() {
    for kit in stores().await {
        let (app, mut dice) = (app(&kit.db), Dice(5));
        let all = tests(250, &mut dice);
        hear(&app, &all).await.unwrap();
        let live: Vec<&TestChanged> =
            all.iter().filter(|test| !test.deleted && !test.remediation_status.is_empty()).collect();
        for status in [None, Some("pending"), Some("in_progress"), Some("completed"), Some("not_applicable")] {
            let mut fitting: Vec<&&TestChanged> =
                live.iter().filter(|test| status.is_none_or(|status| status == test.remediation_status)).collect();
            fitting.sort_by_key(|test| {
                let due = of(test.remediation_due_date);
                (due.is_none(), due, std::cmp::Reverse((made(test), test.test_id.clone())))
            });
            let wanted: Vec<String> = fitting.iter().map(|test| test.test_id.clone()).collect();
            let dated = fitting.iter().filter(|test| test.remediation_due_date.is_some()).count();
            for size in [1, 7, dated, wanted.len()] {
                let size = i32::try_from(size.max(1)).unwrap();
                let (mut found, mut token) = (Vec::new(), String::new());
                loop {
                    let page = app.remediation_status(&user(), status, &part(size, &token, 0)).await.unwrap();
                    found.extend(ids(&page.tests));
                    token = page.next_page_token;
                    if token.is_empty() {
                        break;
                    }
                }
                assert_eq!(found, wanted, "{size} of {status:?} on {}", kit.name);
            }
            for skip in [1, dated - 1, dated, dated + 1, wanted.len()] {
                let page = app.remediation_status(&user(), status, &part(5, "", i32::try_from(skip).unwrap())).await;
                let here: Vec<String> = wanted.iter().skip(skip).take(5).cloned().collect();
                assert_eq!(ids(&page.unwrap().tests), here, "{skip} of {status:?} on {}", kit.name);
            }
            let page = app.remediation_status(&user(), status, &Part::default()).await.unwrap();
            assert_eq!(usize::try_from(page.total).unwrap(), wanted.len());
            for (name, n) in page.by_status {
                let wanted = live.iter().filter(|test| test.remediation_status == name).count();
                assert_eq!(usize::try_from(n).unwrap(), wanted, "{name} on {}", kit.name);
            }
            let late = |test: &&&TestChanged| {
                ["pending", "in_progress"].contains(&test.remediation_status.as_str())
                    && of(test.remediation_due_date).is_some_and(|due| due < page.as_of)
            };
            assert_eq!(usize::try_from(page.overdue).unwrap(), live.iter().filter(late).count(), "{}", kit.name);
            let csv = read_csv(&text(app.export_remediations(&user(), status).await).await);
            assert_eq!(csv[1..].iter().map(|row| row[0].clone()).collect::<Vec<_>>(), wanted);
        }
        kit.close().await;
    }
}

/// A figure worked out plainly.
fn of_times(kpis: &[Kpi], name: &str, mut times: Vec<i64>) {
    times.sort_unstable();
    let kpi = kpis.iter().find(|kpi| kpi.name == name).unwrap();
    assert_eq!(usize::try_from(kpi.n).unwrap(), times.len(), "{name}");
    assert!(!times.is_empty(), "{name}");
    let mean = times.iter().sum::<i64>() as f64 / times.len() as f64;
    let at = |share: f64| {
        let rank = (times.len() - 1) as f64 * share;
        let (low, high) = (times[rank.floor() as usize] as f64, times[rank.ceil() as usize] as f64);
        low + (high - low) * rank.fract()
    };
    for (found, wanted) in [(kpi.value, mean), (kpi.median, at(0.5)), (kpi.p95, at(0.95))] {
        assert!((found.unwrap() - wanted).abs() <= 0.0501, "{name}: {found:?} is not {wanted}");
    }
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<i64> {
    Some((of(to)? - of(from)?).num_seconds())
}

#[tokio::test]
async fn key_figures_are_those_of_the_tests() {
    for kit in stores().await {
        let (app, mut dice) = (app(&kit.db), Dice(6));
        assert_eq!(app.operational(&user()).await.unwrap().value.kpis.iter().map(|kpi| kpi.n).sum::<i64>(), 0);
        let all = tests(400, &mut dice);
        hear(&app, &all).await.unwrap();
        let app = crate::tests::app(&kit.db);
        let live: Vec<&TestChanged> = all.iter().filter(|test| !test.deleted).collect();
        let validated: Vec<&TestChanged> = live.iter().copied().filter(|test| test.state == "validated").collect();
        let figure = app.operational(&user()).await.unwrap();
        let kpis = &figure.value.kpis;
        let times =
            |tests: &[&TestChanged], of: fn(&TestChanged) -> Option<i64>| tests.iter().filter_map(|t| of(t)).collect();
        of_times(kpis, "mttd", times(&validated, |t| seconds(t.executed_at, t.detected_at)));
        of_times(kpis, "mttr", times(&validated, |t| seconds(t.detected_at, t.remediation_completed_at)));
        of_times(kpis, "mttc", times(&validated, |t| seconds(t.detected_at, t.contained_at)));
        of_times(kpis, "red_cycle", times(&live, |t| seconds(t.execution_date, t.red_submitted_at)));
        of_times(kpis, "blue_cycle", times(&live, |t| seconds(t.red_submitted_at, t.blue_submitted_at)));
        of_times(
            kpis,
            "review_cycle",
            times(&live, |t| match t.state.as_str() {
                "validated" => seconds(t.blue_submitted_at, t.validated_at),
                "rejected" => seconds(t.blue_submitted_at, t.red_validated_at),
                _ => None,
            }),
        );
        let rate = |name: &str, part: usize, n: usize| {
            let kpi = kpis.iter().find(|kpi| kpi.name == name).unwrap();
            let wanted = (part as f64 * 1000.0 / n as f64).round() / 10.0;
            assert_eq!((kpi.value, usize::try_from(kpi.n).unwrap()), (Some(wanted), n), "{name}");
        };
        let count = |tests: &[&TestChanged], fits: fn(&TestChanged) -> bool| tests.iter().filter(|t| fits(t)).count();
        rate(
            "detection_efficacy",
            count(&validated, |t| t.detection_result == "detected"),
            count(&validated, |t| !t.detection_result.is_empty()),
        );
        rate(
            "attack_success_rate",
            count(&validated, |t| t.attack_success == Some(true)),
            count(&validated, |t| t.attack_success.is_some()),
        );
        rate(
            "remediation_rate",
            count(&live, |t| t.remediation_status == "completed"),
            count(&live, |t| !["", "not_applicable"].contains(&t.remediation_status.as_str())),
        );
        let states = |names: &[&str]| {
            i64::try_from(live.iter().filter(|test| names.contains(&test.state.as_str())).count()).unwrap()
        };
        let done = states(&["blue_evaluating", "in_review", "validated", "rejected"]);
        let red = Load { completed: done, pending: states(&["draft", "red_executing"]), completed_lately: done };
        assert_eq!(figure.value.red, red);
        assert_eq!(figure.value.blue.pending, states(&["blue_evaluating"]));
        let votes = |vote: &str| live.iter().filter(|test| test.red_validation_status == vote).count() as i64;
        let pending = live.iter().filter(|t| t.state == "in_review" && t.red_validation_status == "pending").count();
        let wanted = Votes { approved: votes("approved"), rejected: votes("rejected"), pending: pending as i64 };
        assert_eq!(figure.value.red_votes, wanted);

        let (weeks, _) = app.operational_trend(&user(), "30d").await.unwrap();
        assert!((5..=6).contains(&weeks.len()));
        assert!(weeks.iter().all(|(begin, _)| begin.weekday() == chrono::Weekday::Mon));
        assert!(weeks.windows(2).all(|pair| pair[1].0 - pair[0].0 == TimeDelta::days(7)));
        assert_eq!(weeks.iter().map(|(_, week)| week.validated).sum::<i64>(), states(&["validated"]));
        assert_eq!(weeks.iter().map(|(_, week)| week.rejected).sum::<i64>(), states(&["rejected"]));
        // Every week that the year touches: 365 days before a Monday was a Sunday.
        let weeks = app.operational_trend(&user(), "1y").await.unwrap().0.len();
        assert_eq!(weeks, if now().weekday() == chrono::Weekday::Mon { 54 } else { 53 });
        kit.close().await;
    }
}

#[tokio::test]
async fn the_last_changed_come_first() {
    for kit in stores().await {
        let (app, mut dice) = (app(&kit.db), Dice(7));
        let all = tests(40, &mut dice);
        hear(&app, &all).await.unwrap();
        let mut live: Vec<&TestChanged> = all.iter().filter(|test| !test.deleted).collect();
        live.sort_by_key(|test| std::cmp::Reverse((of(test.updated_at), test.test_id.clone())));
        let (tests, as_of) = app.recent_tests(&user(), 0).await.unwrap();
        assert_eq!(ids(&tests), live.iter().take(10).map(|test| test.test_id.clone()).collect::<Vec<_>>());
        assert!(as_of.is_some());
        assert_eq!(app.recent_tests(&user(), 3).await.unwrap().0.len(), 3);
        kit.close().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_by_its_name() {
    let kit = stores().await.swap_remove(0);
    let app = app(&kit.db);
    let field = |error: Error| Failure::from(error).fields().iter().map(|f| f.field.clone()).collect::<Vec<_>>();
    let at = now();
    let backwards = Filter { from: Some(at), to: Some(at), state: None };
    assert_eq!(field(app.test_results(&user(), backwards, &Part::default()).await.unwrap_err()), ["date_to"]);
    assert!(app.export_results(&user(), backwards).await.is_err());
    let far = Filter { from: chrono_of(Timestamp { seconds: 400_000_000_000, nanos: 0 }), ..Filter::default() };
    assert_eq!(field(app.test_results(&user(), far, &Part::default()).await.unwrap_err()), ["date_from"]);
    let filter = Filter::default();
    for (part, wanted) in
        [(part(1001, "", 0), "limit"), (part(0, "", -1), "offset"), (part(0, "not a token", 0), "page_token")]
    {
        assert_eq!(field(app.test_results(&user(), filter, &part).await.unwrap_err()), [wanted]);
        assert_eq!(field(app.remediation_status(&user(), None, &part).await.unwrap_err()), [wanted]);
    }
    assert_eq!(field(app.remediation_status(&user(), Some("done"), &Part::default()).await.unwrap_err()), ["status"]);
    assert_eq!(field(app.operational_trend(&user(), "2y").await.unwrap_err()), ["period"]);
    assert_eq!(field(app.recent_tests(&user(), 101).await.unwrap_err()), ["limit"]);
    let mut fields = Fields::default();
    assert_eq!(state_of(Some("Draft"), &mut fields), None);
    assert_eq!(fields.finish().unwrap_err().fields()[0].field, "state");
    let nobody = OpCtx::new(None, None, aegis_auth::Origin::default(), None);
    assert!(app.export_results(&nobody, filter).await.is_err());
    assert!(app.operational(&nobody).await.is_err());
    kit.close().await;
}

#[tokio::test]
async fn every_list_walks_an_index_in_its_order() {
    let kit = stores().await.swap_remove(0);
    let Db::Sqlite(_) = &kit.db else { panic!("the first database is SQLite") };
    let (at, id) = (now(), Uuid::nil());
    let mut lists =
        vec![List::Dated(None), List::Dated(Some("pending")), List::Undated(None), List::Undated(Some("pending"))];
    for state in [None, Some(State::Draft)] {
        for (from, to) in [(None, None), (Some(at), None), (None, Some(at)), (Some(at), Some(at))] {
            lists.push(List::Results(Filter { state, from, to }));
        }
    }
    for list in lists {
        let due = matches!(list, List::Dated(_)).then_some(at);
        for after in [None, Some((due, at, id))] {
            let (sql, steps) = store::reports::explained(&kit.db, &list, after.as_ref()).await;
            assert!(
                steps.iter().all(|step| step.starts_with("SEARCH") || step.contains("USING INDEX")),
                "{sql}: {steps:?}"
            );
            assert!(!steps.is_empty() && steps.iter().all(|step| !step.contains("TEMP B-TREE")), "{sql}: {steps:?}");
        }
    }
    // The figures are read from their index alone.
    let plan: Vec<(i64, i64, i64, String)> = read!(&kit.db, |pool| {
        let sql = "EXPLAIN QUERY PLAN SELECT decided_week, state, COUNT(*), COUNT(review_seconds), \
                   COUNT(blue_submitted_at), COUNT(attack_success) FROM test_fact INDEXED BY test_fact_figures \
                   WHERE deleted = FALSE GROUP BY decided_week, state ORDER BY decided_week, state";
        sqlx::query_as(sql).fetch_all(pool).await
    })
    .unwrap();
    assert_eq!(plan.len(), 1);
    assert!(plan[0].3.contains("COVERING INDEX test_fact_figures"), "{}", plan[0].3);
    kit.close().await;
}
