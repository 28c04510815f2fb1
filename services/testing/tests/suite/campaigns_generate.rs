//! Campaigns that are filled from a threat actor.

use std::collections::HashSet;

use aegis_auth::Role;
use aegis_error::{Code, Failure};
use aegis_proto::testing::v1::*;
use futures::future::join_all;

use crate::{campaigns_catalog::*, catalog::*, world::*};

async fn generate(
    world: &World,
    who: (Role, &str),
    request: GenerateCampaignRequest,
) -> Result<GenerateCampaignResponse, Failure> {
    Ok(world.campaigns(who).generate_campaign(request).await?.into_inner())
}

#[tokio::test]
async fn drafts_are_made_in_the_order_of_an_attack() {
    for world in worlds().await {
        let campaign = world.campaign("Bear", Some(BEAR)).await;
        let id = campaign.id.as_str();
        let own = world.draft().await.id;
        world.place(RED_TECH, id, std::slice::from_ref(&own), 0).await.unwrap();
        let request = GenerateCampaignRequest { campaign_id: id.into(), ..Default::default() };
        let made = generate(&world, RED_LEAD, request.clone()).await.unwrap();
        assert_eq!((made.created, made.already_there), (4, 0));
        assert_eq!(made.without_template, ["T1059", "T1566"]);
        let campaign = made.campaign.unwrap();
        assert_eq!((campaign.test_count, campaign.version, campaign.status.as_str()), (5, 3, "draft"));
        assert_eq!(world.get_campaign(id).await, campaign);

        let placed = world.placed(id, None).await;
        let shown: Vec<_> = placed
            .iter()
            .map(|test| (test.position, test.mitre_id.as_str(), test.phase.as_deref(), test.name.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                (1, "T1059.001", None, "Encoded PowerShell"),
                (2, "T1566", Some("initial-access"), "Phishing"),
                (3, "T1059", Some("execution"), "Command and Scripting Interpreter"),
                (4, "T1059.001", Some("execution"), "Encoded command"),
                (5, "T1003", Some("credential-access"), "Dump"),
            ]
        );
        let test = world.get(&placed[3].test_id).await;
        assert_eq!((test.template_id.as_deref(), test.technique_id.as_str()), (Some(TEMPLATE), POWERSHELL));
        assert_eq!(
            (test.procedure_text.as_deref(), test.platform.as_deref()),
            (Some("Do Encoded command"), Some("windows"))
        );
        assert_eq!((test.tool_used.as_deref(), test.remediation_steps.as_deref()), (Some("tool"), Some("Mend it")));
        assert_eq!((test.state.as_str(), test.created_by_username.as_str(), test.version), ("draft", "rosa", 1));
        assert_eq!((test.technique_name.as_str(), test.chain_id.as_str()), ("PowerShell", test.id.as_str()));
        let bare = world.get(&placed[1].test_id).await;
        assert_eq!((bare.procedure_text, bare.template_id, bare.platform), (None, None, None));
        let timeline = world.timeline(&test.id).await;
        assert_eq!((timeline.len(), &timeline[0].1["campaign_id"]), (1, &id.into()));

        // All of it is told: the campaign once, each test once.
        let told = world.campaign_changes().await.pop().unwrap();
        assert_eq!((told.change.as_str(), told.created_tests, told.version), ("generated", 4, 3));
        let tests: HashSet<String> = world.changes().await.into_iter().map(|change| change.test_id).collect();
        assert!(placed.iter().all(|test| tests.contains(&test.test_id)));

        // What is there is not made again, and more templates are more tests.
        let again = generate(&world, ADMIN, request.clone()).await.unwrap();
        assert_eq!((again.created, again.already_there, again.without_template.len()), (0, 4, 2));
        assert_eq!(again.campaign.unwrap().version, 3, "what changes nothing is no change");
        let more = GenerateCampaignRequest { per_technique: 20, ..request.clone() };
        let more = generate(&world, ADMIN, more).await.unwrap();
        assert_eq!((more.created, more.already_there), (1, 3));
        let last = world.placed(id, None).await.pop().unwrap();
        assert_eq!((last.name.as_str(), last.platform.as_deref()), ("Shell", Some("linux")));
        // Gone is gone: it is made anew.
        world.delete(ADMIN, &placed[4].test_id).await.unwrap();
        assert_eq!(generate(&world, ADMIN, request).await.unwrap().created, 1);
        world.close().await;
    }
}

#[tokio::test]
async fn a_platform_and_a_limit_bound_what_is_made() {
    for world in worlds().await {
        let id = world.campaign("Linux", Some("G0016")).await.id;
        let request = GenerateCampaignRequest {
            campaign_id: id.clone(),
            platform: Some("Linux".into()),
            limit: 3,
            ..Default::default()
        };
        let made = generate(&world, RED_TECH, request.clone()).await.unwrap();
        assert_eq!((made.created, made.without_template), (3, vec!["T1059".to_owned(), "T1566".to_owned()]));
        let placed = world.placed(&id, None).await;
        assert_eq!(placed.last().unwrap().name, "Shell");
        assert!(placed.iter().all(|test| test.platform.as_deref() == Some("linux")));
        let rest = generate(&world, RED_TECH, request).await.unwrap();
        assert_eq!((rest.created, rest.already_there), (1, 3));

        let large = world.campaign("Large", Some(HYDRA)).await.id;
        let request = GenerateCampaignRequest { campaign_id: large, limit: 7, ..Default::default() };
        assert_eq!(generate(&world, RED_TECH, request.clone()).await.unwrap().created, 7);
        let rest = generate(&world, RED_TECH, request.clone()).await.unwrap();
        assert_eq!((rest.created, rest.campaign.unwrap().test_count), (7, 14));

        let bad = [
            (GenerateCampaignRequest { per_technique: 21, ..request.clone() }, "per_technique"),
            (GenerateCampaignRequest { per_technique: -1, ..request.clone() }, "per_technique"),
            (GenerateCampaignRequest { limit: 2_001, ..request.clone() }, "limit"),
            (GenerateCampaignRequest { limit: -1, ..request.clone() }, "limit"),
            (GenerateCampaignRequest { platform: Some("a;b".into()), ..request }, "platform"),
        ];
        for (bad, field) in bad {
            assert_eq!(fields(&generate(&world, RED_TECH, bad).await.unwrap_err()), [field]);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn who_may_make_its_tests_generates_a_campaign() {
    for world in worlds().await {
        let of = |id: &str| GenerateCampaignRequest { campaign_id: id.into(), ..Default::default() };
        let id = world.campaign("Rita's", Some(BEAR)).await.id;
        for who in [BLUE_TECH, VIEWER] {
            assert_eq!(code(generate(&world, who, of(&id)).await), Code::Forbidden);
            assert_eq!(code(world.run(who, &id).await), Code::Forbidden);
        }
        for who in [OTHER_RED_TECH, RED_LEAD, BLUE_LEAD, ADMIN] {
            generate(&world, who, of(&id)).await.unwrap();
            world.run(who, &id).await.unwrap();
        }
        let request =
            CreateCampaignRequest { name: "Bert's".into(), threat_actor_id: Some(BEAR.into()), ..Default::default() };
        let own = world.campaigns(BLUE_TECH).create_campaign(request).await.unwrap().into_inner().campaign.unwrap();
        assert_eq!(generate(&world, BLUE_TECH, of(&own.id)).await.unwrap().created, 4);
        world.run(BLUE_TECH, &own.id).await.unwrap();

        let nobody = world.campaign("Nobody's", None).await.id;
        assert_eq!(code(generate(&world, ADMIN, of(&nobody)).await), Code::InvalidState);
        let idle = world.campaign("Idle", Some(SLEEPER)).await.id;
        let made = generate(&world, ADMIN, of(&idle)).await.unwrap();
        assert_eq!((made.created, made.campaign.unwrap().version), (0, 1));
        world.close().await;
    }
}

#[tokio::test]
async fn a_thousand_tests_are_made_once_however_often_they_are_asked_for() {
    for world in worlds().await {
        let id = world.campaign("Hydra", Some(HYDRA)).await.id;
        let request = GenerateCampaignRequest { campaign_id: id.clone(), ..Default::default() };
        let answers = join_all((0..3).map(|_| generate(&world, RED_TECH, request.clone()))).await;
        let mut created: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().created).collect();
        created.sort_unstable();
        assert_eq!(created, [0, 0, 1_000]);
        let placed = world.placed(&id, None).await;
        assert_eq!(placed.len(), 1_000);
        let techniques: HashSet<_> = placed.iter().map(|test| test.mitre_id.as_str()).collect();
        assert_eq!(techniques.len(), 1_000);
        let phase = |test: &CampaignTest| test.phase.clone().unwrap();
        assert!(placed[..500].iter().all(|test| phase(test) == "initial-access"));
        assert!(placed[500..].iter().all(|test| phase(test) == "execution"));
        assert!(placed[..500].is_sorted_by_key(|test| test.mitre_id.clone()));
        assert_eq!(placed.iter().filter(|test| test.name.starts_with("Template of")).count(), 900);
        assert_eq!(world.changes().await.len(), 1_000);
        let audited = world.audit().await.into_iter().filter(|(action, ..)| action == "create_test").count();
        assert_eq!(audited, 1_000);
        let campaign = world.get_campaign(&id).await;
        assert_eq!((campaign.test_count, campaign.progress.unwrap().draft), (1_000, 1_000));

        let run = world.run(RED_TECH, &id).await.unwrap();
        assert_eq!((run.test_count, run.progress.unwrap().draft), (1_000, 1_000));
        let copies = world.placed(&id, Some(&run.id)).await;
        let same = |a: &CampaignTest, b: &CampaignTest| {
            (&a.mitre_id, &a.name, &a.phase, a.position) == (&b.mitre_id, &b.name, &b.phase, b.position)
                && a.test_id != b.test_id
        };
        assert!(copies.iter().zip(&placed).all(|(a, b)| same(a, b)));
        world.close().await;
    }
}
