//! Scores, weights, plans and matrices on every database, through their calls.

use std::sync::Arc;

use aegis_auth::{Conditions, IfMatch};
use aegis_proto::{
    analytics::v1::{self as pb, score_service_server::ScoreService},
    catalog::v1::KnownRecord,
    events::v1::{TechniqueFacts, TestChanged},
};
use aegis_testkit::ctx;
use tonic::Request;

use super::*;
use crate::{
    rpc::{Rpc, timestamp},
    tests::{app, facts, hear, know, stores, take_in},
};

/// A request of somebody.
pub(crate) fn asked<T>(ctx: &OpCtx, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(ctx.clone());
    request
}

pub(crate) fn viewer() -> OpCtx {
    ctx(Role::Viewer, "vera")
}

pub(crate) fn admin() -> OpCtx {
    ctx(Role::Admin, "ada")
}

/// A validated test of a technique of [`facts`].
pub(crate) fn validated(n: u128, technique: u128, result: &str, platform: &str, days_ago: i64) -> TestChanged {
    let test_id = Uuid::from_u128(n).to_string();
    TestChanged {
        version: 1,
        technique_id: Uuid::from_u128(technique).to_string(),
        mitre_id: format!("T{technique:04}"),
        name: format!("Test {n}"),
        state: "validated".into(),
        detection_result: result.into(),
        platform: platform.into(),
        chain_id: test_id.clone(),
        test_id,
        validated_at: Some(timestamp(now() - TimeDelta::days(days_ago))),
        ..TestChanged::default()
    }
}

pub(crate) fn record(kind: &str, key: &str, techniques: &[&str]) -> KnownRecord {
    KnownRecord {
        kind: kind.into(),
        key: key.into(),
        id: Uuid::now_v7().to_string(),
        name: format!("Name of {key}"),
        mitre_technique_ids: techniques.iter().map(|id| (*id).to_owned()).collect(),
        ..KnownRecord::default()
    }
}

/// Three techniques of enterprise, one of them revoked, and one of ICS; one validated, one missed.
async fn world(app: &App) {
    let techniques = [
        facts(1, "validated", &["execution", "persistence"], 1),
        facts(2, "not_covered", &["execution"], 1),
        TechniqueFacts { revoked: true, revoked_by: "T0001".into(), ..facts(3, "not_evaluated", &["execution"], 1) },
        TechniqueFacts { domain: "ics".into(), ..facts(4, "not_evaluated", &["impair-process-control"], 1) },
    ];
    take_in(app, &techniques).await.unwrap();
    hear(app, &[validated(11, 1, "detected", "linux", 10), validated(12, 2, "not_detected", "Windows", 400)])
        .await
        .unwrap();
    let mut known = vec![record("threat_actor", "G0016", &["T0001", "T0002", "T0003"])];
    known.extend((0..3).map(|n| record("detection_rule", &format!("rule-{n}"), &["T0001"])));
    known.push(KnownRecord { implemented: true, ..record("defence", "D3-NTA", &["T0001"]) });
    known.push(record("defence", "D3-PSA", &["T0001"]));
    know(app, known).await;
}

#[tokio::test]
async fn scores_come_with_what_they_are_made_of() {
    for store in stores().await {
        let app = app(&store.db);
        let rpc = Rpc::new(Arc::clone(&app));
        let empty = rpc.get_organization_score(asked(&viewer(), Default::default())).await.unwrap().into_inner();
        assert_eq!((empty.score, empty.techniques, empty.parts.len()), (None, 0, 0));
        world(&app).await;

        let request = pb::GetTechniqueScoreRequest { mitre_id: "t0001".into() };
        let answer = rpc.get_technique_score(asked(&viewer(), request)).await.unwrap().into_inner();
        let score = answer.score.unwrap();
        let points: Vec<_> = score.parts.iter().map(|part| (part.name.as_str(), part.raw, part.points)).collect();
        assert_eq!(
            points,
            [
                ("tests", 1.0, 40.0),
                ("detection_rules", 0.6, 12.0),
                ("d3fend", 0.5, 7.5),
                ("freshness", 1.0, 15.0),
                ("platform_diversity", 0.5, 5.0),
            ]
        );
        assert_eq!((score.score, score.advice.as_str()), (79.5, "add 2 detection rules"));
        assert!(answer.as_of.is_some());

        for (id, text) in [("T0003", "was revoked by T0001"), ("T9999", "does not exist"), ("", "does not exist")] {
            let request = pb::GetTechniqueScoreRequest { mitre_id: id.into() };
            let failure = Failure::from(rpc.get_technique_score(asked(&viewer(), request)).await.unwrap_err());
            assert_eq!(failure.code(), Code::NotFound);
            assert!(failure.message().contains(text), "{failure}");
        }

        let request = pb::GetTacticScoreRequest { tactic: "execution".into(), domain: String::new() };
        let tactic = rpc.get_tactic_score(asked(&viewer(), request)).await.unwrap().into_inner();
        // A missed test that is stale, on one of two platforms: 5.
        assert_eq!(tactic.score, Some(42.3));
        assert_eq!(tactic.techniques.iter().map(|t| t.mitre_id.as_str()).collect::<Vec<_>>(), ["T0002", "T0001"]);
        for (tactic, domain, code) in [("execution", "ics", Code::NotFound), ("execution", "moon", Code::Validation)] {
            let request = pb::GetTacticScoreRequest { tactic: tactic.into(), domain: domain.into() };
            let failure = Failure::from(rpc.get_tactic_score(asked(&viewer(), request)).await.unwrap_err());
            assert_eq!(failure.code(), code);
        }

        let request = pb::GetThreatActorScoreRequest { id: "g0016".into() };
        let actor = rpc.get_threat_actor_score(asked(&viewer(), request)).await.unwrap().into_inner();
        assert_eq!((actor.score, actor.covered.len(), actor.partial.len()), (Some(42.3), 1, 0));
        assert_eq!(
            (actor.uncovered[0].mitre_id.as_str(), &actor.unknown_mitre_ids[..]),
            ("T0002", &["T0003".to_owned()][..])
        );
        let request = pb::GetThreatActorScoreRequest { id: Uuid::nil().to_string() };
        assert_eq!(
            Failure::from(rpc.get_threat_actor_score(asked(&viewer(), request)).await.unwrap_err()).code(),
            Code::NotFound
        );

        let all = rpc.get_organization_score(asked(&viewer(), Default::default())).await.unwrap().into_inner();
        assert_eq!((all.score, all.techniques), (Some(28.2), 3));
        let ics = pb::GetOrganizationScoreRequest { domain: "ics".into() };
        let ics = rpc.get_organization_score(asked(&viewer(), ics)).await.unwrap().into_inner();
        assert_eq!((ics.score, ics.techniques), (Some(0.0), 1));
        store.close().await;
    }
}

#[tokio::test]
async fn a_plan_that_is_carried_out_brings_what_it_says() {
    for store in stores().await {
        let app = app(&store.db);
        let rpc = Rpc::new(Arc::clone(&app));
        world(&app).await;
        let request = pb::GetScorePlanRequest { tests: 2, threat_actor_id: Some("G0016".into()), ..Default::default() };
        let plan = rpc.get_score_plan(asked(&viewer(), request)).await.unwrap().into_inner();
        let tests: Vec<_> =
            plan.tests.iter().map(|t| (t.rank, t.mitre_id.as_str(), t.retest, t.platform.as_str())).collect();
        assert_eq!(tests, [(1, "T0002", true, ""), (2, "T0001", false, "windows")]);
        assert_eq!(plan.tests[0].gain, 27.5);
        let retest = TestChanged {
            retest_of: Uuid::from_u128(12).to_string(),
            chain_id: Uuid::from_u128(12).to_string(),
            ..validated(13, 2, "detected", "windows", 0)
        };
        hear(&app, &[retest, validated(14, 1, "detected", "windows", 0)]).await.unwrap();
        let request = pb::GetThreatActorScoreRequest { id: "G0016".into() };
        let actor = rpc.get_threat_actor_score(asked(&viewer(), request)).await.unwrap().into_inner();
        assert_eq!(actor.score, plan.score_after);
        for (tests, domain, field) in [(-1, "", "tests"), (101, "", "tests"), (1, "moon", "domain")] {
            let request = pb::GetScorePlanRequest { tests, domain: domain.into(), ..Default::default() };
            let failure = Failure::from(rpc.get_score_plan(asked(&viewer(), request)).await.unwrap_err());
            assert_eq!(failure.fields()[0].field, field);
        }
        store.close().await;
    }
}

#[tokio::test]
async fn weights_are_changed_by_administrators_and_keep_their_history() {
    for store in stores().await {
        let app = app(&store.db);
        let rpc = Rpc::new(Arc::clone(&app));
        world(&app).await;
        for role in [Role::Viewer, Role::RedLead, Role::BlueTech] {
            let somebody = ctx(role, "somebody");
            let update = pb::UpdateScoreConfigRequest { tests: Some(40.0), ..Default::default() };
            for answer in [
                rpc.get_score_config(asked(&somebody, Default::default())).await.map(|_| ()),
                rpc.list_score_configs(asked(&somebody, Default::default())).await.map(|_| ()),
                rpc.update_score_config(asked(&somebody, update)).await.map(|_| ()),
            ] {
                assert_eq!(Failure::from(answer.unwrap_err()).code(), Code::Forbidden);
            }
        }
        let first =
            rpc.get_score_config(asked(&admin(), Default::default())).await.unwrap().into_inner().config.unwrap();
        assert_eq!((first.version, first.updated_by.as_str(), first.updated_at), (1, "", None));
        for (tests, freshness, field) in [
            (Some(30.0), None, "tests"),
            (Some(f64::NAN), None, "tests"),
            (Some(40.001), Some(14.999), "freshness"),
            (None, Some(-1.0), "freshness"),
        ] {
            let update = pb::UpdateScoreConfigRequest { tests, freshness, ..Default::default() };
            let failure = Failure::from(rpc.update_score_config(asked(&admin(), update)).await.unwrap_err());
            assert_eq!(failure.code(), Code::Validation);
            assert!(failure.fields().iter().any(|wrong| wrong.field == field), "{failure}");
        }

        let update = pb::UpdateScoreConfigRequest { tests: Some(49.5), freshness: Some(5.5), ..Default::default() };
        let second = rpc.update_score_config(asked(&admin(), update)).await.unwrap().into_inner().config.unwrap();
        assert_eq!((second.version, second.updated_by.as_str()), (2, "ada"));
        assert_eq!(second.weights.unwrap().tests, 49.5);
        // Who asks next is answered by them.
        let request = pb::GetTechniqueScoreRequest { mitre_id: "T0001".into() };
        let score = rpc.get_technique_score(asked(&viewer(), request)).await.unwrap().into_inner().score.unwrap();
        assert_eq!(score.score, 79.5);
        assert_eq!(score.parts[0].points, 49.5);
        // The same again is no change.
        let same = rpc.update_score_config(asked(&admin(), update)).await.unwrap().into_inner().config.unwrap();
        assert_eq!(same.version, 2);

        let stale = admin().under(Conditions { if_match: Some(IfMatch::Versions(vec![1])), idempotency_key: None });
        let update = pb::UpdateScoreConfigRequest { tests: Some(40.0), freshness: Some(15.0), ..Default::default() };
        let failure = Failure::from(rpc.update_score_config(asked(&stale, update)).await.unwrap_err());
        assert_eq!(failure.code(), Code::PreconditionFailed);

        let request = pb::ListScoreConfigsRequest { page_size: 1, ..Default::default() };
        let page = rpc.list_score_configs(asked(&admin(), request)).await.unwrap().into_inner();
        assert_eq!((page.configs[0].version, page.total_size), (2, 2));
        let request = pb::ListScoreConfigsRequest { page_token: page.next_page_token, ..Default::default() };
        let page = rpc.list_score_configs(asked(&admin(), request)).await.unwrap().into_inner();
        assert_eq!((page.configs[0].version, page.next_page_token.as_str()), (1, ""));
        store.close().await;
    }
}

#[tokio::test]
async fn two_administrators_at_once_do_not_lose_a_change() {
    for store in stores().await {
        let app = app(&store.db);
        let change =
            |tests: f64| WeightsChange { tests: Some(tests), freshness: Some(55.0 - tests), ..Default::default() };
        let (ada, bob) = (admin(), ctx(Role::Admin, "bob"));
        let (one, two) =
            tokio::join!(app.update_score_config(&ada, change(50.0)), app.update_score_config(&bob, change(45.0)));
        let done = [one, two].into_iter().filter(Result::is_ok).count();
        let history = app.score_configs(&ada, 0, "", 0).await.unwrap();
        assert_eq!(history.total, 1 + i64::try_from(done).unwrap());
        assert!(done >= 1);
        store.close().await;
    }
}

#[tokio::test]
async fn a_part_of_the_matrix_is_what_was_asked_for() {
    for store in stores().await {
        let app = app(&store.db);
        world(&app).await;
        let ids = |viewed: &Viewed| {
            let mitre_id = |cell: &view::Cell| viewed.matrix.techniques[cell.at].mitre_id.to_string();
            viewed.view.cells.iter().map(mitre_id).collect::<Vec<_>>()
        };
        let all = app.view(&viewer(), Ask { domain: "all".into(), ..Ask::default() }).await.unwrap();
        assert_eq!((ids(&all).len(), all.domain.as_str()), (3, "all"));
        let enterprise = app.view(&viewer(), Ask::default()).await.unwrap();
        assert_eq!(ids(&enterprise), ["T0001", "T0002"]);
        let ask = Ask {
            threat_actor_id: Some("G0016".into()),
            platform: Some("Linux".into()),
            tactic: Some("persistence".into()),
            ..Ask::default()
        };
        let some = app.view(&viewer(), ask).await.unwrap();
        assert_eq!((ids(&some), some.actor_name.as_str()), (vec!["T0001".to_owned()], "Name of G0016"));
        for (ask, code, field) in [
            (Ask { domain: "moon".into(), ..Ask::default() }, Code::Validation, "domain"),
            (Ask { tactic: Some("moon".into()), ..Ask::default() }, Code::Validation, "tactic"),
            (Ask { platform: Some("abacus".into()), ..Ask::default() }, Code::Validation, "platform"),
            (Ask { compare: Some("yesterday".into()), ..Ask::default() }, Code::Validation, "compare"),
            (Ask { compare: Some(Uuid::nil().to_string()), ..Ask::default() }, Code::NotFound, ""),
            (Ask { threat_actor_id: Some("G9999".into()), ..Ask::default() }, Code::NotFound, ""),
        ] {
            let failure = Failure::from(app.view(&viewer(), ask).await.err().unwrap());
            assert_eq!(failure.code(), code);
            assert_eq!(failure.fields().first().map_or("", |wrong| wrong.field.as_str()), field);
        }
        store.close().await;
    }
}
