//! Files of rules and templates that people bring in and take out.

use aegis_auth::{Conditions, IdempotencyKey, Role};
use aegis_error::{Code, Failure};
use aegis_events::IdempotencyLayer;
use aegis_proto::{
    events::v1::AuditRecorded,
    intel::v1::{
        ExportTemplatesRequest, ImportFile, ImportFileRequest, ImportFileResponse, import_file_request::Part,
        upload_service_client::UploadServiceClient,
    },
};
use aegis_rpc::RpcService;
use aegis_testkit::ctx;
use futures::stream;
use tonic::{body::Body, codegen::http};
use tower::{Layer, ServiceExt};

use crate::world::*;

const RULE: &str = "title: Suspicious Ping
id: 6f0b2c8e-52a3-4b8e-9df5-0c5b9a3a1d11
status: test
level: medium
logsource:
  product: windows
  category: process_creation
detection:
  selection:
    Image|endswith: '\\ping.exe'
  condition: selection
tags:
  - attack.t1059.001
";

const TESTS: &str = "attack_technique: T1059.001
display_name: PowerShell
atomic_tests:
- name: Say hello
  auto_generated_guid: 11111111-2222-4333-8444-555555555555
  description: Says hello.
  supported_platforms:
  - windows
  executor:
    name: powershell
    command: Write-Host hello
";

fn client(world: &World, role: Role) -> UploadServiceClient<RpcService> {
    let ctx = ctx(role, "bob");
    let signed_in = world.service.routes.clone().prepare().map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    });
    UploadServiceClient::new(aegis_rpc::local(signed_in))
}

/// The same, for a request with an `Idempotency-Key`.
fn keyed(world: &World, key: &str) -> UploadServiceClient<RpcService> {
    let key = IdempotencyKey::new(key.as_bytes()).ok();
    let ctx = ctx(Role::Admin, "bob").under(Conditions { if_match: None, idempotency_key: key });
    let layer = IdempotencyLayer::new(world.base.db.clone(), &"the secret".to_owned().into());
    let once = layer.layer(world.service.routes.clone().prepare());
    UploadServiceClient::new(aegis_rpc::local(once.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

fn messages(name: &str, dry_run: bool, bytes: &[u8]) -> Vec<ImportFileRequest> {
    let file = Part::File(ImportFile { name: name.to_owned(), dry_run });
    let chunks = bytes.chunks(1000).map(|chunk| Part::Chunk(chunk.to_vec()));
    std::iter::once(file).chain(chunks).map(|part| ImportFileRequest { part: Some(part) }).collect()
}

async fn rules(world: &World, role: Role, name: &str, bytes: &[u8], dry: bool) -> Result<ImportFileResponse, Failure> {
    let request = stream::iter(messages(name, dry, bytes));
    Ok(client(world, role).import_rules(request).await.map_err(Failure::from)?.into_inner())
}

async fn templates(world: &World, role: Role, bytes: &[u8]) -> Result<ImportFileResponse, Failure> {
    let request = stream::iter(messages("T1059.001.yaml", false, bytes));
    Ok(client(world, role).import_templates(request).await.map_err(Failure::from)?.into_inner())
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    zstd::encode_all(archive.into_inner().unwrap().as_slice(), 1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_comes_in_once_and_is_audited() {
    for world in World::all().await {
        let dry = rules(&world, Role::BlueTech, "ping.yml", RULE.as_bytes(), true).await.unwrap();
        assert_eq!((dry.created, dry.keys.len()), (1, 1));
        let first = rules(&world, Role::BlueTech, "ping.yml", RULE.as_bytes(), false).await.unwrap();
        assert_eq!((first.created, first.refused), (1, 0));
        assert_eq!(first.keys, ["custom:6f0b2c8e-52a3-4b8e-9df5-0c5b9a3a1d11"]);
        let again = rules(&world, Role::RedLead, "ping.yml", RULE.as_bytes(), false).await.unwrap();
        assert_eq!((again.created, again.unchanged), (0, 1));
        let import = &world.catalog.imports()[1];
        assert_eq!((import.header.source.as_str(), import.header.origin.as_str()), ("custom", "custom"));
        assert!(import.header.partial && import.header.domain.is_empty());
        assert_eq!((import.links[0].to_kind.as_str(), import.links[0].to_key.as_str()), ("technique", "T1059.001"));
        let audits = world.events::<AuditRecorded>().await;
        let audits: Vec<_> = audits.iter().filter(|(_, audit)| audit.action == "import_rules").collect();
        assert_eq!(audits.len(), 2);
        assert_eq!(audits[0].0.actor.as_ref().unwrap().username, "bob");
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_comes_again_with_its_key_comes_in_once() {
    for world in World::all().await {
        let bring = async |text: &str, dry_run| {
            let request = stream::iter(messages("ping.yml", dry_run, text.as_bytes()));
            keyed(&world, "k").import_rules(request).await.map(|answer| answer.into_inner()).map_err(Failure::from)
        };
        let wrong = RULE.replace("level: medium", "level: terrible");
        assert_eq!(bring(&wrong, false).await.unwrap_err().code(), Code::Unprocessable);
        let first = bring(RULE, false).await.unwrap();
        assert_eq!(first.created, 1);
        assert_eq!(bring(RULE, false).await.unwrap(), first);
        assert_eq!(world.catalog.imports().len(), 1);
        let failure = bring(RULE, true).await.unwrap_err();
        assert_eq!(failure.code(), Code::Unprocessable);
        assert!(failure.to_string().contains("Idempotency-Key"), "{failure}");
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_file_is_refused_with_its_lines_and_an_archive_keeps_the_good_ones() {
    for world in World::all().await {
        let wrong = RULE.replace("level: medium", "level: terrible");
        let failure = rules(&world, Role::Admin, "wrong.yml", wrong.as_bytes(), false).await.unwrap_err();
        assert_eq!(failure.code(), Code::Unprocessable);
        assert_eq!(failure.fields()[0].field, "wrong.yml:4", "{failure}");
        for (name, bytes) in [("empty.yml", &b""[..]), ("bad.zip", b"PK\x03\x04nothing"), ("\u{7}", b"x")] {
            let failure = rules(&world, Role::Admin, name, bytes, false).await.unwrap_err();
            assert!(matches!(failure.code(), Code::Validation | Code::Unprocessable), "{name:?}: {failure}");
        }
        let large = vec![b' '; 17 * 1024 * 1024];
        let failure = rules(&world, Role::Admin, "large.yml", &large, false).await.unwrap_err();
        assert_eq!(failure.code(), Code::TooLarge);
        assert!(world.catalog.imports().is_empty());

        let packed = archive(&[("rules/a.yml", RULE), ("rules/b.yml", &wrong), ("rules/c.yml", RULE), ("x.md", "no")]);
        let answer = rules(&world, Role::Admin, "rules.tar.zst", &packed, false).await.unwrap();
        assert_eq!((answer.created, answer.refused, answer.problems.len()), (1, 2, 2));
        assert_eq!((answer.problems[0].path.as_str(), answer.problems[0].line), ("rules/b.yml", 4));
        assert!(answer.problems[1].problem.contains("another file has"), "{:?}", answer.problems[1]);

        let long = format!("{}rule.yml", "x/".repeat(2000));
        let packed = archive(&[(&long, RULE), (&format!("y{long}"), RULE)]);
        let answer = rules(&world, Role::Admin, "rules.tar.zst", &packed, true).await.unwrap();
        assert_eq!((answer.created, answer.refused, answer.problems.len()), (0, 2, 2));
        assert!(answer.problems[0].path.len() < 500 && answer.problems[0].problem.contains("path"));
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_come_in_and_go_out_the_same() {
    for world in World::all().await {
        let answer = templates(&world, Role::Admin, TESTS.as_bytes()).await.unwrap();
        assert_eq!(
            (answer.created, answer.keys.as_slice()),
            (1, &["11111111-2222-4333-8444-555555555555".to_owned()][..])
        );
        let export = async |source: &str| {
            let request = ExportTemplatesRequest { source: source.to_owned(), ..ExportTemplatesRequest::default() };
            let mut answer = client(&world, Role::Viewer).export_templates(request).await.unwrap().into_inner();
            let mut files = Vec::new();
            while let Some(message) = answer.message().await.unwrap() {
                match message.path.is_empty() {
                    false => files.push((message.path, message.chunk)),
                    true => files.last_mut().unwrap().1.extend(message.chunk),
                }
            }
            files
        };
        let files = export("custom").await;
        assert_eq!((files.len(), files[0].0.as_str()), (1, "T1059.001.yaml"));
        let again = templates(&world, Role::Admin, &files[0].1).await.unwrap();
        assert_eq!((again.created, again.updated, again.unchanged), (0, 0, 1));
        assert!(export("caldera").await.is_empty());
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_bring_what() {
    for world in World::all().await {
        for (role, rule, template) in [
            (Role::Admin, true, true),
            (Role::RedLead, true, false),
            (Role::BlueLead, true, false),
            (Role::BlueTech, true, false),
            (Role::RedTech, false, false),
            (Role::Viewer, false, false),
        ] {
            let refused = |failure: Failure| assert_eq!(failure.code(), Code::Forbidden, "{role}");
            let answer = rules(&world, role, "ping.yml", RULE.as_bytes(), true).await;
            assert_eq!(answer.is_ok(), rule, "{role}");
            answer.map(|_| ()).unwrap_or_else(refused);
            let answer = templates(&world, role, TESTS.as_bytes()).await;
            assert_eq!(answer.is_ok(), template, "{role}");
            answer.map(|_| ()).unwrap_or_else(refused);
        }
        world.base.close().await;
    }
}
