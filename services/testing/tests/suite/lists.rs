//! Lists, filters, pages, the export.

use aegis_auth::Role;
use aegis_error::Code;
use aegis_proto::testing::v1::*;
use futures::TryStreamExt;

use crate::{catalog::*, world::*};

async fn make(world: &World, technique: &str, name: &str, platform: Option<&str>) -> Test {
    let request = CreateTestRequest {
        technique_id: technique.into(),
        name: name.into(),
        platform: platform.map(str::to_owned),
        ..CreateTestRequest::default()
    };
    let who = if technique == DUMPING { OTHER_RED_TECH } else { RED_TECH };
    world.by(who).create_test(request).await.unwrap().into_inner().test.unwrap()
}

async fn list(world: &World, request: ListTestsRequest) -> (Vec<String>, i64) {
    let page = world.by(VIEWER).list_tests(request).await.unwrap().into_inner();
    (page.tests.into_iter().map(|test| test.name).collect(), page.total_size)
}

#[tokio::test]
async fn each_filter_leaves_the_right_tests_newest_first() {
    for world in worlds().await {
        let a = make(&world, POWERSHELL, "a", Some("windows")).await;
        make(&world, POWERSHELL, "b", Some("linux")).await;
        make(&world, DUMPING, "c", Some("windows")).await;
        let reviewed = world.in_review().await;
        world.vote(BLUE_LEAD, &reviewed.id, "blue", true).await.unwrap();
        world.go(RED_TECH, &a.id, "start_execution").await.unwrap();

        let all = ListTestsRequest::default();
        let encoded = "Encoded PowerShell";
        assert_eq!(list(&world, all.clone()).await, (vec![encoded.into(), "c".into(), "b".into(), "a".into()], 4));
        let some = async |request: ListTestsRequest| list(&world, request).await.0.join(",");
        assert_eq!(some(ListTestsRequest { state: Some("draft".into()), ..all.clone() }).await, "c,b");
        assert_eq!(some(ListTestsRequest { technique_id: Some(DUMPING.into()), ..all.clone() }).await, "c");
        assert_eq!(some(ListTestsRequest { platform: Some("Windows".into()), ..all.clone() }).await, "c,a");
        let ralf = aegis_testkit::user_id(OTHER_RED_TECH.1).to_string();
        assert_eq!(some(ListTestsRequest { created_by: Some(ralf.clone()), ..all.clone() }).await, "c");
        let pending = |side: &str| ListTestsRequest { pending_validation_side: Some(side.into()), ..all.clone() };
        assert_eq!(some(pending("red")).await, encoded);
        assert_eq!(some(pending("blue")).await, "");
        let both = ListTestsRequest { platform: Some("windows".into()), state: Some("draft".into()), ..all.clone() };
        assert_eq!(list(&world, both).await, (vec!["c".into()], 1));

        let bad = ListTestsRequest {
            state: Some("done".into()),
            technique_id: Some("T1059".into()),
            platform: Some("".into()),
            created_by: Some("rita".into()),
            pending_validation_side: Some("green".into()),
            ..all
        };
        let refused = failure(world.by(VIEWER).list_tests(bad).await);
        assert_eq!(fields(&refused), ["state", "technique_id", "platform", "created_by", "pending_validation_side"]);
        world.close().await;
    }
}

#[tokio::test]
async fn what_somebody_has_to_do_and_what_is_late_can_be_listed() {
    for world in worlds().await {
        let (a, b) = (make(&world, POWERSHELL, "a", None).await.id, make(&world, POWERSHELL, "b", None).await.id);
        make(&world, POWERSHELL, "c", None).await;
        let bert = aegis_testkit::user_id(BLUE_TECH.1).to_string();
        let assign = Assignment { blue_assignee: Some(bert.clone()), ..Assignment::default() };
        world.change(ADMIN, &[a], change_tests_request::Change::Assign(assign)).await.unwrap();
        let late = UpdateRemediationRequest {
            id: b.clone(),
            remediation_status: Some("in_progress".into()),
            remediation_assignee: Some(bert.clone()),
            remediation_due_date: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..UpdateRemediationRequest::default()
        };
        world.by(ADMIN).update_remediation(late).await.unwrap();
        let unknown = world.validated(None).await;
        world.validated(Some("detected")).await;
        let all = ListTestsRequest::default();
        let some = async |request: ListTestsRequest| {
            let (names, total) = list(&world, request).await;
            assert_eq!(usize::try_from(total).unwrap(), names.len());
            names.join(",")
        };
        assert_eq!(some(ListTestsRequest { assignee: Some(bert), ..all.clone() }).await, "b,a");
        let status = |name: &str| ListTestsRequest { remediation_status: Some(name.into()), ..all.clone() };
        assert_eq!(some(status("in_progress")).await, "b");
        assert_eq!(some(ListTestsRequest { overdue: Some(true), ..all.clone() }).await, "b");
        assert_eq!(some(ListTestsRequest { incomplete: Some(true), ..all.clone() }).await, unknown.name);
        // Not to ask for it is to ask for all.
        let no = ListTestsRequest { overdue: Some(false), incomplete: Some(false), ..all.clone() };
        assert_eq!(list(&world, no).await.1, 5);
        world.remedy(ADMIN, &b, "completed").await.unwrap();
        assert_eq!(some(ListTestsRequest { overdue: Some(true), ..all }).await, "");
        world.close().await;
    }
}

#[tokio::test]
async fn pages_follow_one_another_by_token_and_by_skipping() {
    for world in worlds().await {
        for n in 0..7 {
            make(&world, POWERSHELL, &n.to_string(), None).await;
        }
        for filter in [None, Some("draft".to_owned())] {
            let mut names = Vec::new();
            let mut request = ListTestsRequest { page_size: 3, state: filter, ..ListTestsRequest::default() };
            loop {
                let page = world.by(VIEWER).list_tests(request.clone()).await.unwrap().into_inner();
                assert_eq!(page.total_size, 7);
                names.extend(page.tests.into_iter().map(|test| test.name));
                if page.next_page_token.is_empty() {
                    break;
                }
                request.page_token = page.next_page_token;
                // What comes in between is newer, and moves nothing.
            }
            assert_eq!(names.concat(), "6543210");
        }
        let from = |skip, page_size| ListTestsRequest { skip, page_size, ..ListTestsRequest::default() };
        assert_eq!(list(&world, from(5, 3)).await, (vec!["1".into(), "0".into()], 7));
        assert_eq!(list(&world, from(9, 3)).await, (vec![], 7));
        for (request, field) in [
            (from(0, 201), "limit"),
            (from(0, -1), "limit"),
            (from(-1, 0), "offset"),
            (ListTestsRequest { page_token: "?".into(), ..from(0, 0) }, "page_token"),
        ] {
            assert_eq!(fields(&failure(world.by(VIEWER).list_tests(request).await)), [field]);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn the_tests_of_a_technique_show_a_change_at_once() {
    for world in worlds().await {
        let id = world.draft().await.id;
        let request = ListTestsRequest { technique_id: Some(POWERSHELL.into()), ..ListTestsRequest::default() };
        let state = async || {
            let page = world.by(VIEWER).list_tests(request.clone()).await.unwrap().into_inner();
            (page.tests[0].state.clone(), page.tests[0].version, page.total_size)
        };
        assert_eq!(state().await, ("draft".into(), 1, 1));
        assert_eq!(state().await, ("draft".into(), 1, 1));
        world.go(RED_TECH, &id, "start_execution").await.unwrap();
        assert_eq!(state().await, ("red_executing".into(), 2, 1));
        world.draft().await;
        assert_eq!(state().await, ("draft".into(), 1, 2));
        // A page of another size is another page.
        let one = ListTestsRequest { page_size: 1, ..request.clone() };
        let page = world.by(VIEWER).list_tests(one).await.unwrap().into_inner();
        assert_eq!((page.tests.len(), page.total_size), (1, 2));
        assert!(!page.next_page_token.is_empty());
        world.close().await;
    }
}

#[tokio::test]
async fn a_page_that_would_not_fit_into_a_message_ends_early() {
    for world in worlds().await {
        let mut made = 0;
        // Four bytes a character: 400 kB of procedure a test.
        let procedure = "🦀".repeat(100_000);
        while made < 30 {
            let request = CreateTestRequest {
                technique_id: POWERSHELL.into(),
                name: made.to_string(),
                procedure_text: Some(procedure.clone()),
                ..CreateTestRequest::default()
            };
            world.by(RED_TECH).create_test(request).await.unwrap();
            made += 1;
        }
        let mut names = Vec::new();
        let mut request = ListTestsRequest { page_size: 200, ..ListTestsRequest::default() };
        loop {
            let page = world.by(VIEWER).list_tests(request.clone()).await.unwrap().into_inner();
            assert_eq!(page.total_size, 30);
            names.extend(page.tests.into_iter().map(|test| test.name));
            if page.next_page_token.is_empty() {
                break;
            }
            assert!(names.len() < 30);
            request.page_token = page.next_page_token;
        }
        let expected: Vec<String> = (0..30).rev().map(|n| n.to_string()).collect();
        assert_eq!(names, expected);
        world.close().await;
    }
}

#[tokio::test]
async fn the_export_brings_every_test_in_the_order_of_ids() {
    for world in worlds().await {
        for who in [RED_TECH, RED_LEAD, VIEWER] {
            let refused = world.by(who).export_tests(ExportTestsRequest {}).await;
            assert_eq!(aegis_error::Failure::from(refused.err().unwrap()).code(), Code::Forbidden);
        }
        let export = async |who| {
            let stream = world.by(who).export_tests(ExportTestsRequest {}).await.unwrap().into_inner();
            stream.try_collect::<Vec<_>>().await.unwrap()
        };
        assert!(export(ADMIN).await.is_empty());
        let mut ids = Vec::new();
        for n in 0..503 {
            ids.push(make(&world, POWERSHELL, &n.to_string(), None).await.id);
        }
        ids.sort();
        let messages = export((Role::Service, "system:catalog")).await;
        assert_eq!(messages.iter().map(|m| m.tests.len()).collect::<Vec<_>>(), [500, 3]);
        let exported: Vec<String> = messages.into_iter().flat_map(|m| m.tests).map(|test| test.id).collect();
        assert_eq!(exported, ids);
        world.close().await;
    }
}
