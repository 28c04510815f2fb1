//! Runs of campaigns by hand, and their history.

use aegis_error::Code;
use aegis_proto::testing::v1::*;

use crate::{campaigns_world::*, catalog::*, world::*};

#[tokio::test]
async fn a_run_copies_the_tests_and_leaves_the_campaign_as_it_is() {
    for world in worlds().await {
        let request = CreateTestRequest { template_id: Some(TEMPLATE.into()), ..CreateTestRequest::default() };
        let first = world.by(RED_TECH).create_test(request).await.unwrap().into_inner().test.unwrap();
        let second = world.draft().await;
        let id = world.campaign("C", None).await.id;
        let tests = vec![
            CampaignPlace { test_id: first.id.clone(), phase: Some("execution".into()) },
            CampaignPlace { test_id: second.id.clone(), phase: None },
        ];
        let add = AddCampaignTestsRequest { campaign_id: id.clone(), tests, position: 0 };
        world.campaigns(RED_TECH).add_campaign_tests(add).await.unwrap();
        world.finish(&first.id, Some("not_detected")).await;

        let run = world.run(RED_LEAD, &id).await.unwrap();
        assert_eq!((run.trigger.as_str(), run.status.as_str(), run.error.as_deref()), ("manual", "created", None));
        assert_eq!((run.started_by_username.as_str(), run.due_at, run.test_count), ("rosa", None, 2));
        assert_eq!(run.started_by, Some(aegis_testkit::user_id("rosa").to_string()));
        assert_eq!(run.progress, Some(StateCounts { draft: 2, ..StateCounts::default() }));
        assert_eq!(world.runs(&id).await, std::slice::from_ref(&run));

        let copies = world.placed(&id, Some(&run.id)).await;
        let places: Vec<_> = copies.iter().map(|test| (test.position, test.phase.as_deref())).collect();
        assert_eq!(places, [(1, Some("execution")), (2, None)]);
        let copy = world.get(&copies[0].test_id).await;
        assert_ne!(copy.id, first.id);
        assert_eq!(
            (&copy.name, &copy.procedure_text, &copy.tool_used),
            (&first.name, &first.procedure_text, &first.tool_used)
        );
        assert_eq!(
            (&copy.template_id, &copy.platform, &copy.description),
            (&first.template_id, &first.platform, &first.description)
        );
        assert_eq!((&copy.remediation_steps, &copy.technique_id), (&first.remediation_steps, &first.technique_id));
        assert_eq!(
            (copy.state.as_str(), copy.detection_result.as_deref(), copy.retest_of.as_deref()),
            ("draft", None, None)
        );
        assert_eq!((copy.created_by_username.as_str(), copy.chain_id.as_str()), ("rosa", copy.id.as_str()));
        let (_, made) = world.timeline(&copy.id).await.remove(0);
        assert_eq!((&made["copy_of"], &made["campaign_run_id"]), (&first.id.clone().into(), &run.id.clone().into()));

        let campaign = world.get_campaign(&id).await;
        assert_eq!((campaign.test_count, campaign.status.as_str()), (2, "draft"));
        assert_eq!(time(campaign.last_run_at), time(run.started_at));
        let told = world.campaign_changes().await.pop().unwrap();
        assert_eq!((told.change.as_str(), told.created_tests, told.run_id), ("ran", 2, run.id.clone()));
        // The next run copies the same two.
        assert_eq!(world.run(ADMIN, &id).await.unwrap().test_count, 2);
        let runs: Vec<_> = world.runs(&id).await.into_iter().map(|run| run.started_by_username).collect();
        assert_eq!(runs, ["ada", "rosa"], "newest first");
        world.close().await;
    }
}

#[tokio::test]
async fn the_history_tells_what_became_of_a_run() {
    for world in worlds().await {
        let (campaign, _) = world.campaign_of("C", 6).await;
        let run = world.run(RED_TECH, &campaign.id).await.unwrap();
        let copies: Vec<String> =
            world.placed(&campaign.id, Some(&run.id)).await.into_iter().map(|test| test.test_id).collect();
        world.through(&copies[0], true, "detected").await;
        world.through(&copies[1], true, "partially_detected").await;
        world.through(&copies[2], true, "not_detected").await;
        world.through(&copies[3], false, "detected").await;
        world.delete(RED_TECH, &copies[4]).await.unwrap();
        // Another run of the same has nothing to do with it.
        world.run(RED_TECH, &campaign.id).await.unwrap();

        let then = world.runs(&campaign.id).await.pop().unwrap();
        assert_eq!((then.id.as_str(), then.test_count, then.deleted), (run.id.as_str(), 6, 1));
        assert_eq!((then.detected, then.partially_detected, then.not_detected), (1, 1, 1));
        let progress = StateCounts { draft: 1, validated: 3, rejected: 1, ..StateCounts::default() };
        assert_eq!(then.progress, Some(progress));
        let left: Vec<i32> =
            world.placed(&campaign.id, Some(&run.id)).await.into_iter().map(|test| test.position).collect();
        assert_eq!(left, [1, 2, 3, 4, 6]);

        // A test of the campaign itself that is deleted is in no later run, and its copies stay.
        let own = world.placed(&campaign.id, None).await.remove(0);
        world.delete(RED_TECH, &own.test_id).await.unwrap();
        assert_eq!(world.run(RED_TECH, &campaign.id).await.unwrap().test_count, 5);
        assert_eq!(world.get(&copies[0]).await.state, "validated");

        let page = ListCampaignRunsRequest { campaign_id: campaign.id.clone(), page_size: 2, ..Default::default() };
        let page = world.campaigns(VIEWER).list_campaign_runs(page).await.unwrap().into_inner();
        assert_eq!((page.runs.len(), page.total_size), (2, 3));
        let page = ListCampaignRunsRequest {
            campaign_id: campaign.id.clone(),
            page_token: page.next_page_token,
            ..Default::default()
        };
        let page = world.campaigns(VIEWER).list_campaign_runs(page).await.unwrap().into_inner();
        assert_eq!((page.runs.len(), page.runs[0].id.as_str()), (1, run.id.as_str()));
        let bad = ListCampaignRunsRequest { campaign_id: campaign.id, page_size: 1_001, ..Default::default() };
        assert_eq!(fields(&failure(world.campaigns(VIEWER).list_campaign_runs(bad).await)), ["limit"]);
        world.close().await;
    }
}

#[tokio::test]
async fn what_cannot_run_is_refused_and_leaves_nothing_behind() {
    for world in worlds().await {
        let (empty, _) = world.campaign_of("Empty", 0).await;
        let said = world.outbox().await.len();
        let refused = world.run(RED_TECH, &empty.id).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::InvalidState, "the campaign has no tests to run"));
        assert_eq!((world.runs(&empty.id).await.len(), world.outbox().await.len()), (0, said));
        assert_eq!(world.get_campaign(&empty.id).await, empty);

        let (over, _) = world.campaign_of("Over", 1).await;
        let over = world.set_status(RED_TECH, &over.id, "completed").await.unwrap();
        let refused = world.run(ADMIN, &over.id).await.unwrap_err();
        assert_eq!((refused.code(), refused.get("current_status")), (Code::InvalidState, Some("completed")));
        world.set_status(RED_TECH, &over.id, "active").await.unwrap();
        world.run(ADMIN, &over.id).await.unwrap();
        world.close().await;
    }
}
