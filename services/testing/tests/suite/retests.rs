//! Remediation and the retests that it asks for: chains, their bounds, regressions, what consumers are told.

use aegis_error::Code;
use aegis_proto::testing::v1::*;
use prost_types::Timestamp;

use crate::{catalog::*, world::*};

#[tokio::test]
async fn a_completed_remediation_makes_the_retest() {
    for world in worlds().await {
        let request = CreateTestRequest {
            technique_id: POWERSHELL.into(),
            name: "Once more".into(),
            description: Some("What it is".into()),
            platform: Some("linux".into()),
            procedure_text: Some("Step by step".into()),
            tool_used: Some("bash".into()),
            template_id: Some(TEMPLATE.into()),
            mitre_id: None,
        };
        let first = world.by(RED_TECH).create_test(request).await.unwrap().into_inner().test.unwrap();
        world.finish(&first.id, Some("partially_detected")).await;
        let (test, none) = world.remedy(BLUE_TECH, &first.id, "in_progress").await.unwrap();
        assert!(none.is_none() && test.remediation_completed_at.is_none());
        let (test, retest) = world.remedy(BLUE_TECH, &first.id, "completed").await.unwrap();
        let retest = retest.unwrap();
        assert!(test.remediation_completed_at.is_some());
        assert_eq!((retest.state.as_str(), retest.version), ("draft", 1));
        assert_eq!((retest.retest_of.as_deref(), &retest.chain_id), (Some(first.id.as_str()), &first.id));
        assert_eq!(
            (&retest.name, &retest.description, &retest.platform, &retest.procedure_text, &retest.tool_used),
            (&first.name, &first.description, &first.platform, &first.procedure_text, &first.tool_used)
        );
        assert_eq!((&retest.technique_id, &retest.template_id), (&first.technique_id, &first.template_id));
        // It is not the work of whoever completed the remediation.
        assert_eq!(retest.created_by_username, "rita");
        assert!(retest.detection_result.is_none() && retest.executed_by.is_none() && retest.validated_at.is_none());
        assert!(retest.remediation_status.is_none() && retest.remediation_completed_at.is_none());

        // Completed once more without having been anything else: nothing new.
        let (_, again) = world.remedy(BLUE_LEAD, &first.id, "completed").await.unwrap();
        assert!(again.is_none());

        let changes = world.changes().await;
        let told = changes.iter().find(|change| change.test_id == first.id && change.version == test.version).unwrap();
        assert_eq!((told.remediation_status.as_str(), told.notes.len()), ("completed", 0));
        assert_eq!(told.remediation_completed_at, test.remediation_completed_at);
        let told = changes.iter().find(|change| change.test_id == retest.id).unwrap();
        assert_eq!((told.retest_of.as_str(), told.chain_id.as_str()), (first.id.as_str(), first.id.as_str()));
        assert_eq!(told.notes, ["retest_created"]);
        let timeline = world.timeline(&first.id).await;
        let (entry, details) = timeline.last().unwrap();
        assert_eq!((entry.kind.as_str(), entry.actor.as_str()), ("retest", "bert"));
        assert_eq!(details["retest"], retest.id.as_str());
        let (entry, details) = world.timeline(&retest.id).await.pop().unwrap();
        assert_eq!((entry.kind.as_str(), entry.actor.as_str()), ("created", "bert"));
        assert_eq!(details["retest_of"], first.id.as_str());
        world.close().await;
    }
}

#[tokio::test]
async fn only_what_ended_and_was_not_fully_detected_is_tested_again() {
    for world in worlds().await {
        let detected = world.validated(Some("detected")).await.id;
        let draft = world.draft().await.id;
        let review = world.in_review().await.id;
        for id in [&detected, &draft, &review] {
            let (test, retest) = world.remedy(BLUE_LEAD, id, "completed").await.unwrap();
            assert!(retest.is_none() && test.remediation_completed_at.is_some());
            assert_eq!(world.chain(id).await, [(id.clone(), false)]);
        }
        let unknown = world.validated(None).await.id;
        let rejected = world.in_review().await.id;
        world.vote(RED_LEAD, &rejected, "red", false).await.unwrap();
        for id in [&unknown, &rejected] {
            assert!(world.remedy(BLUE_LEAD, id, "completed").await.unwrap().1.is_some());
            for status in ["pending", "not_applicable", "in_progress"] {
                assert!(world.remedy(BLUE_LEAD, id, status).await.unwrap().1.is_none());
            }
        }
        // By hand: of any that ended, also where it was detected; by whoever makes tests, and leads.
        for who in [RED_TECH, OTHER_RED_TECH, RED_LEAD, BLUE_LEAD, ADMIN] {
            let retest = world.retest(who, &detected).await.unwrap();
            assert_eq!((retest.created_by_username.as_str(), retest.state.as_str()), (who.1, "draft"));
        }
        for who in [BLUE_TECH, VIEWER] {
            assert_eq!(code(world.retest(who, &detected).await), Code::Forbidden);
        }
        let refused = world.retest(RED_TECH, &review).await.unwrap_err();
        assert_eq!((refused.code(), refused.get("current_state")), (Code::InvalidState, Some("in_review")));
        let nobody = uuid::Uuid::now_v7().to_string();
        assert_eq!(code(world.retest(RED_TECH, &nobody).await), Code::NotFound);
        assert_eq!(fields(&world.retest(RED_TECH, "7").await.unwrap_err()), ["test_id"]);
        let missing = world.by(VIEWER).get_retest_chain(GetRetestChainRequest { test_id: nobody }).await;
        assert_eq!(failure(missing).code(), Code::NotFound);
        world.close().await;
    }
}

#[tokio::test]
async fn a_chain_has_five_retests_and_answers_whole_from_any_of_them() {
    for world in worlds().await {
        let first = world.validated(Some("not_detected")).await;
        let mut ids = vec![first.id.clone()];
        for n in 0..5 {
            let last = ids.last().unwrap().clone();
            let (_, retest) = world.remedy(BLUE_LEAD, &last, "completed").await.unwrap();
            let retest = retest.unwrap_or_else(|| panic!("no retest {n}"));
            assert_eq!((retest.retest_of.as_deref(), &retest.chain_id), (Some(last.as_str()), &first.id));
            world.finish(&retest.id, Some("not_detected")).await;
            ids.push(retest.id);
        }
        // The sixth: the remediation is completed, and that is all.
        let (test, none) = world.remedy(BLUE_LEAD, ids.last().unwrap(), "completed").await.unwrap();
        assert_eq!((test.remediation_status.as_deref(), none.is_none()), (Some("completed"), true));
        let full = world.retest(RED_LEAD, &first.id).await.unwrap_err();
        assert_eq!((full.code(), full.get("max_retests")), (Code::Conflict, Some("5")));
        let whole: Vec<_> = ids.iter().map(|id| (id.clone(), false)).collect();
        for id in &ids {
            assert_eq!(world.chain(id).await, whole);
        }
        // A retest of an older one follows the newest.
        world.delete(ADMIN, ids.last().unwrap()).await.unwrap();
        let retest = world.retest(RED_LEAD, &first.id).await.unwrap();
        assert_eq!(retest.retest_of.as_deref(), Some(ids[4].as_str()));
        world.close().await;
    }
}

#[tokio::test]
async fn a_worse_retest_is_a_regression_and_consumers_hear_of_it() {
    for world in worlds().await {
        let first = world.validated(Some("detected")).await.id;
        let mut ids = vec![first.clone()];
        for (result, regression) in [
            (Some("partially_detected"), Some("detected")),
            (None, None),
            (Some("not_detected"), Some("partially_detected")),
            (Some("not_detected"), None),
            (Some("detected"), None),
        ] {
            let retest = world.retest(RED_TECH, &first).await.unwrap().id;
            let test = world.finish(&retest, result).await;
            let changes = world.changes().await;
            let told = changes.iter().find(|c| c.test_id == retest && c.version == test.version).unwrap();
            assert_eq!(told.state, "validated");
            assert_eq!(told.notes, regression.map(|_| "regression").into_iter().collect::<Vec<_>>(), "{result:?}");
            assert_eq!(told.previous_result, regression.unwrap_or_default());
            let others = changes.iter().filter(|c| c.test_id == retest && c.version != test.version && c.version > 1);
            assert!(others.clone().count() == 3 && others.clone().all(|c| c.notes.is_empty()));
            ids.push(retest);
        }
        let flags = [false, true, false, true, false, false];
        let expected: Vec<_> = ids.into_iter().zip(flags).collect();
        assert_eq!(world.chain(&first).await, expected);
        world.close().await;
    }
}

#[tokio::test]
async fn a_remediation_has_an_assignee_and_a_day() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let ralf = aegis_testkit::user_id(OTHER_RED_TECH.1).to_string();
        let due = Some(Timestamp { seconds: 1_900_000_000, nanos: 0 });
        let edit = UpdateRemediationRequest {
            id: id.clone(),
            remediation_assignee: Some(ralf.clone()),
            remediation_due_date: due,
            ..UpdateRemediationRequest::default()
        };
        let update = |edit: UpdateRemediationRequest| {
            let mut client = world.by(BLUE_LEAD);
            async move { client.update_remediation(edit).await.map(|answer| answer.into_inner().test.unwrap()) }
        };
        let test = update(edit.clone()).await.unwrap();
        assert_eq!((test.remediation_assignee.as_deref(), test.remediation_due_date), (Some(ralf.as_str()), due));
        let told = world.changes().await.pop().unwrap();
        assert_eq!(
            (told.remediation_assignee.as_str(), told.notes.as_slice()),
            (ralf.as_str(), ["remediation_assigned".to_owned()].as_slice())
        );
        let details = world.timeline(&id).await.pop().unwrap().1;
        assert_eq!(details["after"]["remediation_due_date"], "2030-03-17T17:46:40.000000Z");
        // Only a new assignee is told of.
        let steps = UpdateRemediationRequest { remediation_steps: Some("1. …".into()), ..edit.clone() };
        assert_eq!(update(steps).await.unwrap().version, 3);
        assert!(world.changes().await.pop().unwrap().notes.is_empty());
        let clear = UpdateRemediationRequest {
            id: id.clone(),
            clear: vec!["remediation_assignee".into(), "remediation_due_date".into()],
            ..UpdateRemediationRequest::default()
        };
        let test = update(clear).await.unwrap();
        assert_eq!((test.remediation_assignee, test.remediation_due_date), (None, None));
        assert!(world.changes().await.pop().unwrap().notes.is_empty());
        for bad in [i64::MAX, -1, 253_402_300_800] {
            let due = UpdateRemediationRequest {
                remediation_due_date: Some(Timestamp { seconds: bad, nanos: 0 }),
                ..edit.clone()
            };
            let refused = failure(world.by(ADMIN).update_remediation(due).await);
            assert_eq!(fields(&refused), ["remediation_due_date"]);
        }
        world.close().await;
    }
}
