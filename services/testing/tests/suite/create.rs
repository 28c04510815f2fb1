//! Making tests, with and without templates.

use aegis_error::Code;
use aegis_proto::testing::v1::*;
use aegis_testing::Config;

use crate::{catalog::*, world::*};

fn request() -> CreateTestRequest {
    CreateTestRequest {
        technique_id: POWERSHELL.into(),
        name: " My test ".into(),
        description: Some("What\nit does".into()),
        platform: Some("Windows".into()),
        procedure_text: Some("Step by step…".into()),
        tool_used: Some("Atomic Red Team".into()),
        template_id: None,
        mitre_id: None,
    }
}

#[tokio::test]
async fn a_test_is_made_for_a_technique() {
    for world in worlds().await {
        let test = world.by(RED_TECH).create_test(request()).await.unwrap().into_inner().test.unwrap();
        assert_eq!((test.name.as_str(), test.platform.as_deref()), ("My test", Some("windows")));
        assert_eq!((test.mitre_id.as_str(), test.technique_name.as_str()), ("T1059.001", "PowerShell"));
        assert_eq!((test.created_by_username.as_str(), test.state.as_str()), ("rita", "draft"));
        assert_eq!(world.get(&test.id).await, test);
        for who in [OTHER_RED_TECH, ADMIN] {
            world.by(who).create_test(request()).await.unwrap();
        }
        for who in [BLUE_TECH, RED_LEAD, BLUE_LEAD, VIEWER] {
            assert_eq!(failure(world.by(who).create_test(request()).await).code(), Code::Forbidden);
        }
        world.close().await;
    }
}

#[tokio::test]
async fn only_techniques_that_hold_can_be_tested() {
    for world in worlds().await {
        let mut client = world.by(RED_TECH);
        let of = |id: &str| CreateTestRequest { technique_id: id.into(), ..request() };
        let missing = uuid::Uuid::now_v7().to_string();
        let unknown = failure(client.create_test(of(&missing)).await);
        assert_eq!(unknown.code(), Code::NotFound);
        assert_eq!(unknown.message(), format!("technique '{missing}' does not exist"));

        let revoked = failure(client.create_test(of(REVOKED)).await);
        assert_eq!(fields(&revoked), ["technique_id"]);
        assert_eq!(revoked.fields()[0].problem, "T1086 is revoked; its successor is T1059.001");
        assert_eq!(revoked.get("successor"), Some("T1059.001"));
        let deprecated = failure(client.create_test(of(SCRIPTING)).await);
        assert_eq!(deprecated.fields()[0].problem, "T1064 is deprecated and has no successor");
        assert!(world.outbox().await.is_empty());

        let by_name = CreateTestRequest { technique_id: String::new(), mitre_id: Some("T1086".into()), ..request() };
        assert_eq!(failure(client.create_test(by_name.clone()).await).fields()[0].field, "technique_id");
        let by_name = CreateTestRequest { mitre_id: Some("T1059.001".into()), ..by_name };
        let test = client.create_test(by_name).await.unwrap().into_inner().test.unwrap();
        assert_eq!(test.mitre_id, "T1059.001");
        world.close().await;
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() {
    for world in worlds().await {
        let bad = CreateTestRequest {
            technique_id: "T1059".into(),
            name: " ".into(),
            description: Some("x".repeat(20_001)),
            platform: Some("win;dows".into()),
            procedure_text: Some("bell\u{7}".into()),
            tool_used: Some("x".repeat(301)),
            template_id: Some("first".into()),
            mitre_id: None,
        };
        let refused = failure(world.by(RED_TECH).create_test(bad).await);
        assert_eq!(
            fields(&refused),
            ["technique_id", "template_id", "name", "platform", "description", "procedure_text", "tool_used"]
        );
        let empty = failure(world.by(RED_TECH).create_test(CreateTestRequest::default()).await);
        assert_eq!(fields(&empty), ["technique_id", "name"]);
        assert!(world.outbox().await.is_empty());
        world.close().await;
    }
}

#[tokio::test]
async fn a_template_fills_what_the_request_leaves_out() {
    for world in worlds().await {
        let mut client = world.by(RED_TECH);
        let bare = CreateTestRequest { template_id: Some(TEMPLATE.into()), ..CreateTestRequest::default() };
        let test = client.create_test(bare.clone()).await.unwrap().into_inner().test.unwrap();
        assert_eq!((test.name.as_str(), test.mitre_id.as_str()), ("Encoded command", "T1059.001"));
        assert_eq!(test.technique_id, POWERSHELL);
        assert_eq!(test.platform.as_deref(), Some("windows"));
        assert_eq!(test.description.as_deref(), Some("Runs an encoded command"));
        assert_eq!(test.procedure_text.as_deref(), Some("powershell -enc …"));
        assert_eq!(test.tool_used.as_deref(), Some("powershell"));
        assert_eq!(test.remediation_steps.as_deref(), Some("Turn on script block logging"));
        assert_eq!(test.template_id.as_deref(), Some(TEMPLATE));

        let own = CreateTestRequest {
            technique_id: DUMPING.into(),
            name: "Mine".into(),
            tool_used: Some("mimikatz".into()),
            ..bare.clone()
        };
        let test = client.create_test(own).await.unwrap().into_inner().test.unwrap();
        assert_eq!((test.name.as_str(), test.mitre_id.as_str()), ("Mine", "T1003"));
        assert_eq!(test.tool_used.as_deref(), Some("mimikatz"));
        assert_eq!(test.procedure_text.as_deref(), Some("powershell -enc …"));

        let missing = uuid::Uuid::now_v7().to_string();
        let unknown = CreateTestRequest { template_id: Some(missing.clone()), ..bare.clone() };
        let unknown = failure(client.create_test(unknown).await);
        assert_eq!(unknown.message(), format!("template '{missing}' does not exist"));
        let inactive = CreateTestRequest { template_id: Some(INACTIVE.into()), ..bare };
        assert_eq!(failure(client.create_test(inactive).await).code(), Code::InvalidState);
        world.close().await;
    }
}

#[tokio::test]
async fn nothing_is_made_while_the_catalogue_is_away() {
    for world in worlds_with(Config::default(), no_techniques_client()).await {
        let refused = failure(world.by(RED_TECH).create_test(request()).await);
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.retry_after().is_some());
        assert!(!refused.message().contains("10.0.0.7"));
        assert!(world.outbox().await.is_empty());
        world.close().await;
    }
}
