//! The tests of a campaign: placed, ordered, taken out, deleted; and when it is over with them.

use aegis_error::Code;
use aegis_proto::testing::v1::*;

use crate::{campaigns_catalog::*, campaigns_world::*, world::*};

fn order(campaign_id: &str, tests: &[(&str, Option<&str>)]) -> OrderCampaignTestsRequest {
    let place = |(id, phase): &(&str, Option<&str>)| CampaignPlace {
        test_id: (*id).to_owned(),
        phase: phase.map(str::to_owned),
    };
    OrderCampaignTestsRequest { campaign_id: campaign_id.into(), tests: tests.iter().map(place).collect() }
}

#[tokio::test]
async fn tests_are_placed_ordered_and_taken_out() {
    for world in worlds().await {
        let (campaign, tests) = world.campaign_of("C", 3).await;
        let id = campaign.id.as_str();
        assert_eq!((campaign.test_count, campaign.progress.unwrap().draft, campaign.version), (3, 3, 2));
        let more = [world.draft().await.id, world.draft().await.id, world.draft().await.id];
        let at = async || -> Vec<(i32, String)> {
            world.placed(id, None).await.into_iter().map(|test| (test.position, test.test_id)).collect()
        };
        let expected =
            |ids: &[&String]| -> Vec<(i32, String)> { (1..).zip(ids.iter().map(|id| (*id).clone())).collect() };
        world.place(BLUE_LEAD, id, &more[..1], 1).await.unwrap();
        world.place(BLUE_TECH, id, &more[1..2], 3).await.unwrap();
        world.place(RED_LEAD, id, &more[2..], 99).await.unwrap();
        let [a, b, c] = [&tests[0], &tests[1], &tests[2]];
        let [x, y, z] = [&more[0], &more[1], &more[2]];
        assert_eq!(at().await, expected(&[x, a, y, b, c, z]));

        let phased = [(c, Some("last")), (z, None), (x, Some(" p ")), (y, Some("")), (b, None), (a, None)];
        let phased = phased.map(|(id, phase)| (id.as_str(), phase));
        let ordered = world.campaigns(BLUE_TECH).order_campaign_tests(order(id, &phased)).await.unwrap();
        let version = ordered.into_inner().campaign.unwrap().version;
        assert_eq!(at().await, expected(&[c, z, x, y, b, a]));
        let phases: Vec<_> = world.placed(id, None).await.into_iter().map(|test| test.phase).collect();
        assert_eq!(phases, [Some("last".into()), None, Some("p".into()), None, None, None]);
        let again = world.campaigns(BLUE_TECH).order_campaign_tests(order(id, &phased)).await.unwrap();
        assert_eq!(again.into_inner().campaign.unwrap().version, version, "what changes nothing is no change");

        let take = async |who, test: &String| {
            let request = RemoveCampaignTestRequest { campaign_id: id.into(), test_id: test.clone() };
            world.campaigns(who).remove_campaign_test(request).await
        };
        assert_eq!(failure(take(VIEWER, x).await).code(), Code::Forbidden);
        take(BLUE_TECH, x).await.unwrap();
        assert_eq!(failure(take(BLUE_TECH, x).await).code(), Code::NotFound);
        assert_eq!(world.get(x).await.state, "draft", "the test stays");
        world.delete(RED_TECH, b).await.unwrap();
        assert_eq!(at().await, expected(&[c, z, y, a]));
        assert_eq!(world.get_campaign(id).await.test_count, 4);
        world.place(RED_TECH, id, std::slice::from_ref(x), 4).await.unwrap();
        assert_eq!(at().await, expected(&[c, z, y, x, a]));

        let shown = world.placed(id, None).await.remove(0);
        let test = world.get(c).await;
        assert_eq!((shown.name, shown.mitre_id, shown.technique_name), (test.name, test.mitre_id, test.technique_name));
        let page = ListCampaignTestsRequest { campaign_id: id.into(), page_size: 2, skip: 1, ..Default::default() };
        let page = world.campaigns(VIEWER).list_campaign_tests(page).await.unwrap().into_inner();
        let shown: Vec<_> = page.tests.iter().map(|test| (test.position, &test.test_id)).collect();
        assert_eq!((shown, page.total_size), (vec![(2, z), (3, y)], 5));
        world.close().await;
    }
}

#[tokio::test]
async fn wrong_places_are_refused_and_change_nothing() {
    for world in worlds().await {
        let (campaign, tests) = world.campaign_of("C", 2).await;
        let id = campaign.id.as_str();
        let before = world.outbox().await.len();
        let draft = world.draft().await.id;
        let made = world.outbox().await.len() - before;
        let missing = uuid::Uuid::now_v7().to_string();

        assert_eq!(world.place(VIEWER, id, std::slice::from_ref(&draft), 0).await.unwrap_err().code(), Code::Forbidden);
        let twice = world.place(RED_TECH, id, &[draft.clone(), tests[1].clone()], 0).await.unwrap_err();
        assert_eq!((twice.code(), twice.get("test_id")), (Code::Duplicate, Some(tests[1].as_str())));
        let unknown = world.place(RED_TECH, id, &[draft.clone(), missing.clone()], 0).await.unwrap_err();
        assert_eq!(unknown.message(), format!("test '{missing}' does not exist"));
        assert_eq!(fields(&world.place(RED_TECH, id, &[], 0).await.unwrap_err()), ["tests"]);
        let many = vec![draft.clone(); 501];
        assert_eq!(fields(&world.place(RED_TECH, id, &many, 0).await.unwrap_err())[0], "tests");
        assert_eq!(
            fields(&world.place(RED_TECH, id, std::slice::from_ref(&draft), -1).await.unwrap_err()),
            ["position"]
        );
        let bad = AddCampaignTestsRequest {
            campaign_id: id.into(),
            tests: vec![
                CampaignPlace { test_id: "x".into(), phase: None },
                CampaignPlace { test_id: draft.clone(), phase: Some("x".repeat(101)) },
                CampaignPlace { test_id: draft.clone(), phase: Some("a\u{7}b".into()) },
            ],
            position: 0,
        };
        let refused = failure(world.campaigns(RED_TECH).add_campaign_tests(bad).await);
        assert_eq!(fields(&refused), ["tests.0.test_id", "tests.1.phase", "tests.2.phase", "tests.2.test_id"]);

        let (a, b) = (tests[0].as_str(), tests[1].as_str());
        for wrong in [&[(a, None)][..], &[(a, None), (a, None)], &[(a, None), (b, None), (&draft, None)], &[]] {
            let refused = failure(world.campaigns(RED_TECH).order_campaign_tests(order(id, wrong)).await);
            assert_eq!(refused.code(), Code::Validation, "{wrong:?}");
        }
        let viewer = failure(world.campaigns(VIEWER).order_campaign_tests(order(id, &[(b, None), (a, None)])).await);
        assert_eq!(viewer.code(), Code::Forbidden);
        let unchanged: Vec<_> = world.placed(id, None).await.into_iter().map(|test| test.test_id).collect();
        assert_eq!(unchanged, tests);
        // The refusals of the viewer are told, and nothing else.
        let told = world.campaign_changes().await.len();
        assert_eq!((told, world.get_campaign(id).await.version), (2, 2));
        assert!(world.outbox().await.len() >= before + made);
        world.close().await;
    }
}

#[tokio::test]
async fn a_campaign_has_two_thousand_tests_at_most() {
    for world in worlds().await {
        // Two campaigns' worth of drafts, of which a third takes as many as it can.
        let mut ids = Vec::new();
        for name in ["One", "Two"] {
            let id = world.campaign(name, Some(HYDRA)).await.id;
            let request = GenerateCampaignRequest { campaign_id: id.clone(), ..Default::default() };
            world.campaigns(RED_TECH).generate_campaign(request).await.unwrap();
            ids.extend(world.placed(&id, None).await.into_iter().map(|test| test.test_id));
        }
        assert_eq!(ids.len(), 2_000);
        let full = world.campaign("Full", Some(BEAR)).await.id;
        for ids in ids.chunks(500) {
            world.place(RED_TECH, &full, ids, 1).await.unwrap();
        }
        let refused = world.place(RED_TECH, &full, &[world.draft().await.id], 0).await.unwrap_err();
        assert_eq!(fields(&refused), ["tests"]);
        let generate = GenerateCampaignRequest { campaign_id: full.clone(), ..Default::default() };
        assert_eq!(fields(&failure(world.campaigns(RED_TECH).generate_campaign(generate).await)), ["limit"]);
        let placed = world.placed(&full, None).await;
        assert_eq!((placed.len(), placed[0].test_id.as_str()), (2_000, ids[1_500].as_str()));
        // All of them in another order, in one go.
        let reversed: Vec<_> = placed.iter().rev().map(|test| (test.test_id.as_str(), Some("phase"))).collect();
        world.campaigns(RED_TECH).order_campaign_tests(order(&full, &reversed)).await.unwrap();
        assert_eq!(world.placed(&full, None).await[1_999].test_id, placed[0].test_id);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_is_over_with_its_last_test_and_goes_on_with_the_next() {
    for mut world in worlds().await {
        let (campaign, tests) = world.campaign_of("C", 3).await;
        let id = campaign.id.clone();
        let (scheduled, _) = world.campaign_of("Scheduled", 0).await;
        let (idle, _) = world.campaign_of("Not begun", 0).await;
        world.place(RED_TECH, &scheduled.id, &tests[..1], 0).await.unwrap();
        world.place(RED_TECH, &idle.id, &tests[..1], 0).await.unwrap();
        world.schedule(&scheduled.id, "monthly", "", true).await.unwrap();
        for id in [&id, &scheduled.id] {
            world.set_status(RED_TECH, id, "active").await.unwrap();
        }
        let tasks = named(&mut world.tasks, &["testing relay", "testing events"]);
        let comes_to = async |status: &str| {
            for _ in 0..200 {
                if world.get_campaign(&id).await.status == status {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            panic!("the campaign does not come to be {status}");
        };
        until("the story has no end", tasks, async || {
            world.through(&tests[0], true, "detected").await;
            world.through(&tests[1], false, "not_detected").await;
            // The last one that is open goes; its creator has begun it, so an administrator takes it away.
            world.go(RED_TECH, &tests[2], "start_execution").await.unwrap();
            assert_eq!(world.get_campaign(&id).await.status, "active");
            world.delete(ADMIN, &tests[2]).await.unwrap();
            comes_to("completed").await;
            world.go(RED_TECH, &tests[1], "reopen").await.unwrap();
            comes_to("active").await;
            world.through(&tests[1], true, "detected").await;
            comes_to("completed").await;
            // With a test that is open it goes on, with one that is through it does not.
            let more = world.draft().await.id;
            assert_eq!(world.place(BLUE_TECH, &id, std::slice::from_ref(&more), 0).await.unwrap().status, "active");
            let take = RemoveCampaignTestRequest { campaign_id: id.clone(), test_id: more };
            world.campaigns(RED_TECH).remove_campaign_test(take).await.unwrap();
            assert_eq!(world.get_campaign(&id).await.status, "completed");
            // Whoever may change it may say otherwise.
            assert_eq!(world.set_status(ADMIN, &id, "active").await.unwrap().status, "active");
            true
        })
        .await;
        assert_eq!(world.get_campaign(&scheduled.id).await.status, "active", "it comes again");
        assert_eq!(world.get_campaign(&idle.id).await.status, "draft");
        world.close().await;
    }
}
