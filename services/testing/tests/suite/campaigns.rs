//! Campaigns: made, read, changed, deleted; who may; conditions.

use aegis_auth::{Conditions, IdempotencyKey, IfMatch, OpCtx, Role};
use aegis_error::{Code, Failure};
use aegis_proto::testing::v1::*;
use futures::future::join_all;
use serde_json::json;

use crate::{campaigns_catalog::*, campaigns_world::*, world::*};

#[tokio::test]
async fn a_campaign_is_made_read_changed_and_deleted() {
    for world in worlds().await {
        let request = CreateCampaignRequest {
            name: " Winter ".into(),
            description: Some("What we do\nin winter".into()),
            r#type: "apt_emulation".into(),
            threat_actor_id: Some("G0016".into()),
        };
        let made = world.campaigns(BLUE_TECH).create_campaign(request).await.unwrap().into_inner().campaign.unwrap();
        assert_eq!(
            (made.name.as_str(), made.r#type.as_str(), made.status.as_str()),
            ("Winter", "apt_emulation", "draft")
        );
        assert_eq!((made.threat_actor_id.as_deref(), made.threat_actor_name.as_deref()), (Some(BEAR), Some("Bear")));
        assert_eq!((made.created_by_username.as_str(), made.version, made.test_count), ("bert", 1, 0));
        assert_eq!(
            (made.progress, made.schedule_enabled, made.next_run_at),
            (Some(StateCounts::default()), false, None)
        );
        assert_eq!(world.get_campaign(&made.id).await, made);
        let twin = world.campaign("Winter", None).await;
        assert_ne!(twin.id, made.id, "a name is no key");
        assert_eq!((twin.r#type.as_str(), twin.threat_actor_id), ("custom", None));

        let edit = UpdateCampaignRequest {
            id: made.id.clone(),
            name: Some("Spring".into()),
            r#type: Some("kill_chain".into()),
            status: Some("active".into()),
            clear: vec!["description".into(), "threat_actor_id".into()],
            ..UpdateCampaignRequest::default()
        };
        for who in [RED_TECH, RED_LEAD, BLUE_LEAD, VIEWER] {
            let refused = failure(world.campaigns(who).update_campaign(edit.clone()).await);
            assert_eq!(refused.code(), Code::Forbidden, "{who:?}");
        }
        let changed = world.campaigns(BLUE_TECH).update_campaign(edit).await.unwrap().into_inner().campaign.unwrap();
        assert_eq!(
            (changed.name.as_str(), changed.r#type.as_str(), changed.status.as_str()),
            ("Spring", "kill_chain", "active")
        );
        assert_eq!((&changed.description, &changed.threat_actor_id, &changed.threat_actor_name), (&None, &None, &None));
        assert_eq!(changed.version, 2);
        let same = UpdateCampaignRequest { id: made.id.clone(), name: Some("Spring".into()), ..Default::default() };
        let same = world.campaigns(ADMIN).update_campaign(same).await.unwrap().into_inner().campaign.unwrap();
        assert_eq!(same, changed, "what changes nothing is no change");

        let (_, _, details) = world.audit().await.into_iter().find(|(action, ..)| action == "update_campaign").unwrap();
        assert_eq!(details["before"]["name"], json!("Winter"));
        assert_eq!(details["after"]["threat_actor_id"], json!(null));

        let draft = world.draft().await;
        world.place(RED_LEAD, &made.id, std::slice::from_ref(&draft.id), 0).await.unwrap();
        let delete = DeleteCampaignRequest { id: made.id.clone() };
        for who in [RED_TECH, RED_LEAD, VIEWER] {
            assert_eq!(failure(world.campaigns(who).delete_campaign(delete.clone()).await).code(), Code::Forbidden);
        }
        world.campaigns(BLUE_TECH).delete_campaign(delete.clone()).await.unwrap();
        assert_eq!(failure(world.campaigns(BLUE_TECH).delete_campaign(delete).await).code(), Code::NotFound);
        assert_eq!(world.get(&draft.id).await, draft, "its tests stay");

        let told: Vec<_> = world.campaign_changes().await.into_iter().filter(|c| c.campaign_id == made.id).collect();
        let changes: Vec<_> = told.iter().map(|c| (c.change.as_str(), c.version, c.deleted)).collect();
        assert_eq!(
            changes,
            [("created", 1, false), ("updated", 2, false), ("tests_changed", 3, false), ("deleted", 4, true)]
        );
        let actions: Vec<String> =
            world.audit().await.into_iter().filter(|(_, done, _)| *done).map(|(a, ..)| a).collect();
        assert_eq!(
            actions,
            [
                "create_campaign",
                "create_campaign",
                "update_campaign",
                "create_test",
                "add_campaign_tests",
                "delete_campaign"
            ]
        );
        world.close().await;
    }
}

#[tokio::test]
async fn everyone_but_viewers_makes_campaigns() {
    for world in worlds().await {
        for who in [RED_TECH, BLUE_TECH, RED_LEAD, BLUE_LEAD, ADMIN] {
            let request = CreateCampaignRequest { name: who.1.into(), ..CreateCampaignRequest::default() };
            world.campaigns(who).create_campaign(request).await.unwrap();
        }
        for who in [VIEWER, (Role::Service, "system:intel")] {
            let request = CreateCampaignRequest { name: who.1.into(), ..CreateCampaignRequest::default() };
            assert_eq!(failure(world.campaigns(who).create_campaign(request).await).code(), Code::Forbidden);
        }
        // Who lost the right to write lost it over what was made before too.
        let mine = world.campaign("Mine", None).await;
        let demoted = (Role::Viewer, RED_TECH.1);
        assert_eq!(world.set_status(demoted, &mine.id, "active").await.unwrap_err().code(), Code::Forbidden);
        world.close().await;
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() {
    for world in worlds().await {
        let mut client = world.campaigns(ADMIN);
        let bad = CreateCampaignRequest {
            name: " ".into(),
            description: Some("x".repeat(20_001)),
            r#type: "war".into(),
            threat_actor_id: Some(String::new()),
        };
        let refused = failure(client.create_campaign(bad).await);
        assert_eq!(fields(&refused), ["name", "description", "type", "threat_actor_id"]);
        let long = CreateCampaignRequest { name: "ü".repeat(201), ..Default::default() };
        assert_eq!(fields(&failure(client.create_campaign(long).await)), ["name"]);
        let fits = CreateCampaignRequest { name: "ü".repeat(200), ..Default::default() };
        client.create_campaign(fits).await.unwrap();

        let of = |actor: &str| CreateCampaignRequest {
            name: "N".into(),
            threat_actor_id: Some(actor.into()),
            ..Default::default()
        };
        let unknown = failure(client.create_campaign(of("G9999")).await);
        assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "threat actor 'G9999' does not exist"));
        let revoked = failure(client.create_campaign(of(CUB)).await);
        assert_eq!(fields(&revoked), ["threat_actor_id"]);
        assert_eq!(revoked.get("successor"), Some("G0016"));

        let id = world.campaign("C", None).await.id;
        let bad = UpdateCampaignRequest {
            id: id.clone(),
            name: Some(String::new()),
            r#type: Some("war".into()),
            status: Some("over".into()),
            description: Some("D".into()),
            clear: vec!["description".into(), "name".into()],
            ..Default::default()
        };
        let refused = failure(client.update_campaign(bad).await);
        assert_eq!(fields(&refused), ["name", "type", "status", "clear", "description"]);
        let bad = ListCampaignsRequest {
            status: Some("over".into()),
            r#type: Some("war".into()),
            search: Some("x".repeat(201)),
            ..Default::default()
        };
        assert_eq!(fields(&failure(client.list_campaigns(bad).await)), ["status", "type", "search"]);
        for bad in [5_001, -1] {
            let request = ListCampaignsRequest { page_size: bad, ..Default::default() };
            assert_eq!(fields(&failure(client.list_campaigns(request).await)), ["limit"]);
        }
        assert_eq!(world.get_campaign(&id).await.version, 1);
        world.close().await;
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_by_any_method() {
    for world in worlds().await {
        let missing = uuid::Uuid::now_v7().to_string();
        let test = world.draft().await.id;
        for (id, code) in [(missing.clone(), Code::NotFound), ("x".to_owned(), Code::Validation)] {
            let mut client = world.campaigns(ADMIN);
            let place = CampaignPlace { test_id: test.clone(), phase: None };
            let add = AddCampaignTestsRequest { campaign_id: id.clone(), tests: vec![place.clone()], position: 0 };
            let order = OrderCampaignTestsRequest { campaign_id: id.clone(), tests: vec![place] };
            let remove = RemoveCampaignTestRequest { campaign_id: id.clone(), test_id: test.clone() };
            let generate = GenerateCampaignRequest { campaign_id: id.clone(), ..Default::default() };
            let schedule = SetCampaignScheduleRequest { id: id.clone(), ..Default::default() };
            let update = UpdateCampaignRequest { id: id.clone(), ..Default::default() };
            let tests = ListCampaignTestsRequest { campaign_id: id.clone(), ..Default::default() };
            let runs = ListCampaignRunsRequest { campaign_id: id.clone(), ..Default::default() };
            let codes = [
                failure(client.get_campaign(GetCampaignRequest { id: id.clone() }).await).code(),
                failure(client.update_campaign(update).await).code(),
                failure(client.delete_campaign(DeleteCampaignRequest { id: id.clone() }).await).code(),
                failure(client.list_campaign_tests(tests).await).code(),
                failure(client.add_campaign_tests(add).await).code(),
                failure(client.remove_campaign_test(remove).await).code(),
                failure(client.order_campaign_tests(order).await).code(),
                failure(client.generate_campaign(generate).await).code(),
                failure(client.set_campaign_schedule(schedule).await).code(),
                failure(client.run_campaign(RunCampaignRequest { id: id.clone() }).await).code(),
                failure(client.list_campaign_runs(runs).await).code(),
            ];
            assert_eq!(codes, [code; 11], "{id}");
        }
        // A run of another campaign is none of this one.
        let (one, _) = world.campaign_of("One", 1).await;
        let (other, _) = world.campaign_of("Other", 0).await;
        let run = world.run(RED_TECH, &one.id).await.unwrap();
        let request = ListCampaignTestsRequest { campaign_id: other.id, run_id: Some(run.id), ..Default::default() };
        assert_eq!(failure(world.campaigns(VIEWER).list_campaign_tests(request).await).code(), Code::NotFound);
        world.close().await;
    }
}

#[tokio::test]
async fn campaigns_are_listed_newest_first_with_their_progress() {
    for world in worlds().await {
        let (first, tests) = world.campaign_of("100% First", 3).await;
        let second = world.campaign("Second", Some(BEAR)).await;
        let third = world.campaign("third", None).await;
        world.set_status(RED_TECH, &third.id, "active").await.unwrap();
        world.go(RED_TECH, &tests[1], "start_execution").await.unwrap();
        world.through(&tests[2], true, "detected").await;

        let list = async |request: ListCampaignsRequest| {
            let page = world.campaigns(VIEWER).list_campaigns(request).await.unwrap().into_inner();
            let names: Vec<String> = page.campaigns.iter().map(|campaign| campaign.name.clone()).collect();
            (names, page.total_size, page.next_page_token, page.campaigns)
        };
        let ask = ListCampaignsRequest::default;
        let (names, total, token, campaigns) = list(ask()).await;
        assert_eq!((names, total, token.as_str()), (vec!["third".into(), "Second".into(), "100% First".into()], 3, ""));
        let progress = StateCounts { draft: 1, red_executing: 1, validated: 1, ..StateCounts::default() };
        assert_eq!((campaigns[2].progress, campaigns[2].test_count), (Some(progress), 3));
        assert_eq!(campaigns[1].progress, Some(StateCounts::default()));
        assert_eq!(campaigns[2], world.get_campaign(&first.id).await);
        assert_eq!(campaigns[1], second);

        for (request, expected) in [
            (ListCampaignsRequest { status: Some("active".into()), ..ask() }, vec!["third"]),
            (ListCampaignsRequest { r#type: Some("compliance".into()), ..ask() }, vec![]),
            (ListCampaignsRequest { search: Some(" FIRST ".into()), ..ask() }, vec!["100% First"]),
            (ListCampaignsRequest { search: Some("0%".into()), ..ask() }, vec!["100% First"]),
            (ListCampaignsRequest { search: Some("_".into()), ..ask() }, vec![]),
            (ListCampaignsRequest { skip: 1, page_size: 1, ..ask() }, vec!["Second"]),
        ] {
            assert_eq!(list(request.clone()).await.0, expected, "{request:?}");
        }
        let (names, total, token, _) = list(ListCampaignsRequest { page_size: 2, ..ask() }).await;
        assert_eq!((names.len(), total, token.is_empty()), (2, 3, false));
        let (names, total, token, _) = list(ListCampaignsRequest { page_token: token, ..ask() }).await;
        assert_eq!((names, total, token.as_str()), (vec!["100% First".to_owned()], 3, ""));
        world.close().await;
    }
}

#[tokio::test]
async fn an_archived_campaign_is_kept_as_it_is() {
    for world in worlds().await {
        let (campaign, tests) = world.campaign_of("Old", 1).await;
        let id = campaign.id.as_str();
        world.schedule(id, "weekly", "Europe/Berlin", true).await.unwrap();
        let archived = world.set_status(ADMIN, id, "archived").await.unwrap();
        assert_eq!((archived.next_run_at, archived.schedule_enabled), (None, true));

        let more = world.draft().await.id;
        let mut client = world.campaigns(ADMIN);
        let place = CampaignPlace { test_id: tests[0].clone(), phase: Some("P".into()) };
        let order = OrderCampaignTestsRequest { campaign_id: id.into(), tests: vec![place] };
        let remove = RemoveCampaignTestRequest { campaign_id: id.into(), test_id: tests[0].clone() };
        let rename = UpdateCampaignRequest { id: id.into(), name: Some("New".into()), ..Default::default() };
        let rename_too = UpdateCampaignRequest { status: Some("archived".into()), ..rename.clone() };
        let generate = GenerateCampaignRequest { campaign_id: id.into(), ..Default::default() };
        let codes = [
            world.place(ADMIN, id, &[more], 0).await.unwrap_err().code(),
            failure(client.order_campaign_tests(order).await).code(),
            failure(client.remove_campaign_test(remove).await).code(),
            failure(client.update_campaign(rename.clone()).await).code(),
            failure(client.update_campaign(rename_too).await).code(),
            failure(client.generate_campaign(generate).await).code(),
            world.schedule(id, "", "", false).await.unwrap_err().code(),
            world.run(ADMIN, id).await.unwrap_err().code(),
        ];
        assert_eq!(codes, [Code::InvalidState; 8]);
        assert_eq!(world.get_campaign(id).await, archived);

        let back = UpdateCampaignRequest { status: Some("draft".into()), ..rename };
        let back = client.update_campaign(back).await.unwrap().into_inner().campaign.unwrap();
        assert_eq!((back.name.as_str(), back.status.as_str()), ("New", "draft"));
        assert!(time(back.next_run_at) > aegis_db::now(), "it is due again, and what was missed is not");
        world.close().await;
    }
}

fn under(who: (Role, &str), if_match: Option<i64>, key: Option<&str>) -> OpCtx {
    aegis_testkit::ctx(who.0, who.1).under(Conditions {
        if_match: if_match.map(|version| IfMatch::Versions(vec![version])),
        idempotency_key: key.map(|key| IdempotencyKey::new(key.as_bytes()).unwrap()),
    })
}

#[tokio::test]
async fn no_change_is_made_of_an_older_version() {
    for world in worlds().await {
        let (campaign, tests) = world.campaign_of("C", 2).await;
        let id = campaign.id.clone();
        let actor = UpdateCampaignRequest { id: id.clone(), threat_actor_id: Some(BEAR.into()), ..Default::default() };
        world.campaigns(ADMIN).update_campaign(actor).await.unwrap();
        let more = world.draft().await.id;
        let change = async |what: &str, version: i64| -> Result<(), Failure> {
            let mut client = world.campaigns_with(under(ADMIN, Some(version), None));
            let place = |id: &String| CampaignPlace { test_id: id.clone(), phase: Some("P".into()) };
            let (campaign_id, id) = (id.clone(), id.clone());
            match what {
                "add" => {
                    let tests = vec![place(&more)];
                    client.add_campaign_tests(AddCampaignTestsRequest { campaign_id, tests, position: 1 }).await?;
                }
                "remove" => {
                    let test_id = more.clone();
                    client.remove_campaign_test(RemoveCampaignTestRequest { campaign_id, test_id }).await?;
                }
                "order" => {
                    let tests = tests.iter().rev().map(place).collect();
                    client.order_campaign_tests(OrderCampaignTestsRequest { campaign_id, tests }).await?;
                }
                "generate" => {
                    client.generate_campaign(GenerateCampaignRequest { campaign_id, ..Default::default() }).await?;
                }
                "schedule" => {
                    let (schedule, enabled) = ("monthly".to_owned(), true);
                    let request = SetCampaignScheduleRequest { id, schedule, enabled, ..Default::default() };
                    client.set_campaign_schedule(request).await?;
                }
                "run" => drop(client.run_campaign(RunCampaignRequest { id }).await?),
                "delete" => drop(client.delete_campaign(DeleteCampaignRequest { id }).await?),
                _ => {
                    let request = UpdateCampaignRequest { id, name: Some("Other".into()), ..Default::default() };
                    client.update_campaign(request).await?;
                }
            }
            Ok(())
        };
        for what in ["add", "remove", "order", "generate", "schedule", "run", "update"] {
            let before = world.get_campaign(&id).await;
            let said = world.outbox().await.len();
            for wrong in [before.version - 1, before.version + 1] {
                let refused = change(what, wrong).await.unwrap_err();
                assert_eq!(refused.code(), Code::PreconditionFailed, "{what}");
            }
            assert_eq!((world.get_campaign(&id).await, world.outbox().await.len()), (before.clone(), said), "{what}");
            change(what, before.version).await.unwrap();
            assert_eq!(world.get_campaign(&id).await.version, before.version + 1, "{what}");
        }
        assert_eq!(change("delete", 1).await.unwrap_err().code(), Code::PreconditionFailed);
        change("delete", world.get_campaign(&id).await.version).await.unwrap();
        world.close().await;
    }
}

#[tokio::test]
async fn what_is_asked_for_twice_is_made_once() {
    for world in worlds().await {
        let create = async || {
            let request = CreateCampaignRequest { name: "Once".into(), ..Default::default() };
            world.campaigns_with(under(RED_TECH, None, Some("c"))).create_campaign(request).await
        };
        let answers = join_all((0..5).map(|_| create())).await;
        let campaigns: Vec<_> =
            answers.into_iter().map(|answer| answer.unwrap().into_inner().campaign.unwrap()).collect();
        assert!(campaigns.iter().all(|campaign| *campaign == campaigns[0]));
        assert_eq!(world.campaign_changes().await.len(), 1);

        let id = campaigns[0].id.clone();
        world.place(RED_TECH, &id, &[world.draft().await.id], 0).await.unwrap();
        let run = async || {
            let request = RunCampaignRequest { id: id.clone() };
            world.campaigns_with(under(RED_TECH, None, Some("r"))).run_campaign(request).await
        };
        let answers = join_all((0..5).map(|_| run())).await;
        let runs: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().into_inner().run.unwrap()).collect();
        assert!(runs.iter().all(|run| *run == runs[0]));
        assert_eq!(world.runs(&id).await.len(), 1);
        world.close().await;
    }
}
