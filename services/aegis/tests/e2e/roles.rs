//! Every route × every role × no token, from one table that does not compile where a route is missing; and that what
//! was changed or refused on the way is in the audit trail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, PASSWORD, Product, eventually, form, head, send};

include!(concat!(env!("OUT_DIR"), "/operations.rs"));

const ADMIN: &[&str] = &["admin"];
const RED: &[&str] = &["admin", "red_tech", "red_lead"];
const BLUE: &[&str] = &["admin", "blue_tech", "blue_lead"];
const LEADS: &[&str] = &["admin", "red_lead", "blue_lead"];
const AUTHORS: &[&str] = &["admin", "red_tech"];
const REMEDIATORS: &[&str] = &["admin", "red_lead", "blue_lead", "blue_tech"];
const UPLOADERS: &[&str] = &["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"];
/// Who may have tests made for a campaign, and tests made again.
const PLANNERS: &[&str] = &["admin", "red_tech", "red_lead", "blue_lead"];
const EVERYONE: &[&str] = &["admin", "red_tech", "blue_tech", "red_lead", "blue_lead", "viewer"];

/// Who may call a route.
#[derive(Clone, Copy)]
enum Who {
    /// Without a token too.
    Public,
    /// Those of these roles.
    These(&'static [&'static str]),
}

/// What is sent along.
#[derive(Clone, Copy)]
enum With {
    Nothing,
    Json(&'static str),
    Yaml(&'static str),
    /// Lines of another honeypot.
    Lines(&'static str),
    File,
    /// Nothing, and only the head of the answer is read: its body does not end.
    Stream,
}

use Operation as Op;
use Who::{Public, These};
use With::{File, Json, Lines, Nothing, Stream, Yaml};

/// What stands for the parameter of the path, who may, and a request that gets past the parsing.
type Rule = (&'static str, Who, With);

/// The table. It has no arm for the rest: a route that nobody thought about does not compile.
///
/// `$test`, `$spare`, `$file`, `$campaign` and `$finished` are an administrator's, `$nobody` is the id of nothing: what a
/// request is about does not matter where the role alone decides.
fn rule(operation: Operation) -> Rule {
    match operation {
        // Authentication
        Op::Login => ("", Public, Json(r#"{"username": ""}"#)),
        Op::GetJwks => ("", Public, Nothing),
        Op::Logout => ("", These(EVERYONE), Nothing),
        Op::GetMe => ("", These(EVERYONE), Nothing),
        Op::ChangePassword => ("", These(EVERYONE), Json(r#"{"old_password": "x", "new_password": "x"}"#)),
        // Users
        Op::ListUsers => ("", These(ADMIN), Nothing),
        Op::CreateUser => {
            ("", These(ADMIN), Json(r#"{"username": "admin", "password": "long enough 1", "role": "viewer"}"#))
        }
        Op::GetUser => ("$nobody", These(ADMIN), Nothing),
        Op::UpdateUser => ("$nobody", These(ADMIN), Json(r#"{"role": "viewer"}"#)),
        // Techniques
        Op::ListTechniques => ("", These(EVERYONE), Nothing),
        Op::CreateTechnique => {
            ("", These(ADMIN), Json(r#"{"mitre_id": "T1059", "name": "Again", "tactic": "execution"}"#))
        }
        Op::GetTechnique => ("T1059", These(EVERYONE), Nothing),
        Op::UpdateTechnique => ("T9999", These(ADMIN), Json(r#"{"name": "Renamed"}"#)),
        Op::ReviewTechnique => ("T9999", These(LEADS), Nothing),
        Op::ListTactics => ("", These(EVERYONE), Nothing),
        // Tests
        Op::ListTests => ("", These(EVERYONE), Nothing),
        Op::CreateTest => ("", These(AUTHORS), Json(r#"{"technique_id": "$technique", "name": "By the table"}"#)),
        Op::CreateTestFromTemplate => {
            ("", These(AUTHORS), Json(r#"{"template_id": "$nobody", "technique_id": "$technique"}"#))
        }
        Op::GetTest => ("$test", These(EVERYONE), Nothing),
        Op::UpdateTest => ("$test", These(ADMIN), Json(r#"{"name": "Renamed by the table"}"#)),
        Op::UpdateRed => ("$nobody", These(RED), Json(r#"{"red_summary": "x"}"#)),
        Op::UpdateBlue => ("$nobody", These(BLUE), Json(r#"{"blue_summary": "x"}"#)),
        Op::UpdateRemediation => ("$test", These(REMEDIATORS), Json(r#"{"remediation_steps": "x"}"#)),
        Op::GetTimeline => ("$test", These(EVERYONE), Nothing),
        Op::StartExecution => ("$nobody", These(RED), Nothing),
        Op::SubmitRed => ("$nobody", These(RED), Nothing),
        Op::SubmitBlue => ("$nobody", These(BLUE), Nothing),
        Op::ValidateRed => ("$nobody", These(&["admin", "red_lead"]), Json(r#"{"red_validation_status": "approved"}"#)),
        Op::ValidateBlue => {
            ("$nobody", These(&["admin", "blue_lead"]), Json(r#"{"blue_validation_status": "approved"}"#))
        }
        Op::ValidateTest => ("$nobody", These(LEADS), Json(r#"{"result": "detected"}"#)),
        Op::RejectTest => ("$nobody", These(LEADS), Nothing),
        Op::ReopenTest => ("$test", These(LEADS), Nothing),
        Op::DeleteTest => ("$spare", These(ADMIN), Nothing),
        Op::ChangeTests => ("", These(UPLOADERS), Json(r#"{"ids": ["$nobody"], "move": "reopen"}"#)),
        Op::AddComment => ("$test", These(UPLOADERS), Json(r#"{"text": "By the table"}"#)),
        Op::CreateRetest => ("$nobody", These(PLANNERS), Nothing),
        Op::GetRetestChain => ("$test", These(EVERYONE), Nothing),
        // Campaigns
        Op::ListCampaigns => ("", These(EVERYONE), Nothing),
        Op::CreateCampaign => ("", These(UPLOADERS), Json(r#"{"name": "By the table"}"#)),
        Op::GetCampaign => ("$campaign", These(EVERYONE), Nothing),
        Op::UpdateCampaign => ("$campaign", These(ADMIN), Json(r#"{"description": "By the table"}"#)),
        Op::DeleteCampaign => ("$finished", These(ADMIN), Nothing),
        Op::AddCampaignTests => ("$campaign", These(UPLOADERS), Json(r#"{"test_id": "$nobody"}"#)),
        Op::OrderCampaignTests => ("$campaign", These(UPLOADERS), Json(r#"{"tests": []}"#)),
        Op::RemoveCampaignTest => ("$campaign $nobody", These(UPLOADERS), Nothing),
        Op::GenerateCampaign => ("$campaign", These(PLANNERS), Json("{}")),
        Op::SetCampaignSchedule => ("$campaign", These(UPLOADERS), Json(r#"{"schedule": null}"#)),
        Op::RunCampaign => ("$campaign", These(PLANNERS), Nothing),
        Op::GetCampaignHistory => ("$campaign", These(EVERYONE), Nothing),
        Op::ListRunTests => ("$campaign $nobody", These(EVERYONE), Nothing),
        // Evidence
        Op::RemoveEvidence => ("$file", These(LEADS), Nothing),
        Op::VerifyEvidence => ("$nobody", These(EVERYONE), Nothing),
        Op::GetManifest => ("$test", These(EVERYONE), Nothing),
        Op::GetEvidenceStore => ("", These(ADMIN), Nothing),
        Op::UploadEvidence => ("$test", These(UPLOADERS), File),
        Op::ListEvidence => ("$test", These(EVERYONE), Nothing),
        Op::GetEvidence => ("$nobody", These(EVERYONE), Nothing),
        Op::DownloadEvidence => ("$nobody", Public, Nothing),
        // Templates
        Op::ListTemplates => ("", These(EVERYONE), Nothing),
        Op::CreateTemplate => ("", These(ADMIN), Json(r#"{"name": "By the table", "mitre_technique_id": "T1003"}"#)),
        Op::GetTemplateStats => ("", These(ADMIN), Nothing),
        Op::GetTemplate => ("$nobody", These(EVERYONE), Nothing),
        Op::ToggleTemplateActive => ("$nobody", These(ADMIN), Nothing),
        // Metrics
        Op::GetSummary => ("", These(EVERYONE), Nothing),
        Op::ListObservedGaps => ("", These(EVERYONE), Nothing),
        Op::CreateTestOfGap => ("T0000", These(AUTHORS), Json("{}")),
        Op::GetTestPipeline => ("", These(EVERYONE), Nothing),
        Op::ListTacticCoverage => ("", These(EVERYONE), Nothing),
        Op::GetTeamActivity => ("", These(EVERYONE), Nothing),
        Op::GetValidationRate => ("", These(EVERYONE), Nothing),
        Op::ListRecentTests => ("", These(EVERYONE), Nothing),
        Op::GetOperational => ("", These(EVERYONE), Nothing),
        Op::ListOperationalTrend => ("", These(EVERYONE), Nothing),
        Op::GetOperationalByTeam => ("", These(EVERYONE), Nothing),
        // Scores
        Op::GetTechniqueScore => ("T1059", These(EVERYONE), Nothing),
        Op::GetTacticScore => ("execution", These(EVERYONE), Nothing),
        Op::GetThreatActorScore => ("G9999", These(EVERYONE), Nothing),
        Op::GetOrganizationScore => ("", These(EVERYONE), Nothing),
        Op::ListScoreHistory => ("", These(EVERYONE), Nothing),
        Op::GetScorePlan => ("", These(EVERYONE), Nothing),
        Op::GetScoreConfig => ("", These(ADMIN), Nothing),
        Op::UpdateScoreConfig => ("", These(ADMIN), Json(r#"{"tests": 100.5}"#)),
        Op::ListScoreConfigs => ("", These(ADMIN), Nothing),
        // Heatmap, snapshots, reports
        Op::GetHeatmap => ("", These(EVERYONE), Nothing),
        Op::GetHeatmapSvg => ("", These(EVERYONE), Nothing),
        Op::ListSnapshots => ("", These(EVERYONE), Nothing),
        Op::CreateSnapshot => ("", These(UPLOADERS), Json(r#"{"name": "By the table"}"#)),
        Op::CompareSnapshots => ("", These(EVERYONE), Nothing),
        Op::GetSnapshot => ("$nobody", These(EVERYONE), Nothing),
        Op::DeleteSnapshot => ("$nobody", These(ADMIN), Nothing),
        Op::GetCoverageReport => ("", These(EVERYONE), Nothing),
        Op::ExportCoverage => ("", These(EVERYONE), Nothing),
        Op::GetCoveragePage => ("", These(EVERYONE), Nothing),
        Op::GetTestResults => ("", These(EVERYONE), Nothing),
        Op::ExportTestResults => ("", These(EVERYONE), Nothing),
        Op::GetRemediationStatus => ("", These(EVERYONE), Nothing),
        Op::ExportRemediationStatus => ("", These(EVERYONE), Nothing),
        // Notifications
        Op::ListNotifications => ("", These(EVERYONE), Nothing),
        Op::CountUnreadNotifications => ("", These(EVERYONE), Nothing),
        Op::MarkNotificationRead => ("$nobody", These(EVERYONE), Nothing),
        Op::MarkAllNotificationsRead => ("", These(EVERYONE), Nothing),
        // Audit trail
        Op::ListAuditLogs => ("", These(ADMIN), Nothing),
        Op::ListAuditActions => ("", These(ADMIN), Nothing),
        Op::ListAuditEntityTypes => ("", These(ADMIN), Nothing),
        Op::VerifyAuditChain => ("", These(ADMIN), Nothing),
        // Data sources and the system
        Op::ListDataSources => ("", These(ADMIN), Nothing),
        Op::UpdateDataSource => ("$nobody", These(ADMIN), Json(r#"{"enabled": true}"#)),
        Op::SyncDataSource => ("$nobody", These(ADMIN), Nothing),
        Op::SyncMitre => ("", These(ADMIN), Nothing),
        Op::GetJob => ("$nobody", These(ADMIN), Nothing),
        Op::GetApiHealth => ("", Public, Nothing),
        Op::GetHealth => ("", Public, Nothing),
        // API keys: of somebody else
        Op::ListApiKeys => ("$nobody", These(ADMIN), Nothing),
        Op::CreateApiKey => ("$nobody", These(ADMIN), Json(r#"{"name": "by the table"}"#)),
        Op::GetApiKey => ("$nobody $nobody", These(ADMIN), Nothing),
        Op::RevokeApiKey => ("$nobody $nobody", These(ADMIN), Nothing),
        Op::CreateStreamTicket => ("", These(EVERYONE), Nothing),
        Op::DeleteUser => ("$nobody", These(ADMIN), Nothing),
        // Configuration
        Op::GetConfig => ("", These(EVERYONE), Nothing),
        Op::SetDeploymentLimit => ("", These(ADMIN), Json(r#"{"deployment_limit": 0}"#)),
        Op::SetGlobalMutationInterval => ("", These(ADMIN), Json(r#"{"global_mutation_interval": "0m"}"#)),
        Op::CreateConfigUser => {
            ("", These(ADMIN), Json(r#"{"username": "admin", "password": "long enough 1", "role": "viewer"}"#))
        }
        Op::DeleteConfigUser => ("$nobody", These(ADMIN), Nothing),
        Op::SetConfigUserRole => ("$nobody", These(ADMIN), Json(r#"{"role": "viewer"}"#)),
        Op::ResetConfigUserPassword => ("$nobody", These(ADMIN), Json(r#"{"new_password": "long enough 1"}"#)),
        Op::ExportAuditLogs => ("", These(ADMIN), Nothing),
        Op::GetDataSource => ("$nobody", These(ADMIN), Nothing),
        Op::GetNotification => ("$nobody", These(EVERYONE), Nothing),
        Op::GetNotificationPreferences => ("", These(EVERYONE), Nothing),
        Op::UpdateNotificationPreferences => ("", These(EVERYONE), Json(r#"{"kinds": {"no_such_kind": true}}"#)),
        Op::StreamNotifications => ("", These(EVERYONE), Stream),
        // The knowledge base
        Op::ListKnowledge => ("software", These(EVERYONE), Nothing),
        Op::GetKnowledge => ("software S9999", These(EVERYONE), Nothing),
        Op::GetTechniqueKnowledge => ("T1059", These(EVERYONE), Nothing),
        Op::ListTechniqueLinks => ("T1059", These(EVERYONE), Nothing),
        Op::Search => ("", These(EVERYONE), Nothing),
        Op::ListThreatActors => ("", These(EVERYONE), Nothing),
        Op::GetThreatActor => ("G9999", These(EVERYONE), Nothing),
        Op::ListDetectionRules => ("", These(EVERYONE), Nothing),
        Op::ImportDetectionRules => {
            ("", These(&["admin", "blue_tech", "red_lead", "blue_lead"]), Yaml("title: Without the rest"))
        }
        Op::GetDetectionRule => ("$nobody", These(EVERYONE), Nothing),
        Op::DeleteDetectionRule => ("$nobody", These(LEADS), Nothing),
        Op::ListDefences => ("", These(EVERYONE), Nothing),
        Op::GetDefence => ("D3-NONE", These(EVERYONE), Nothing),
        Op::UpdateDefence => ("D3-NONE", These(LEADS), Json(r#"{"implemented": true}"#)),
        Op::ListFrameworks => ("", These(EVERYONE), Nothing),
        Op::ListControls => ("no_framework", These(EVERYONE), Nothing),
        Op::GetControl => ("no_framework AC-2", These(EVERYONE), Nothing),
        Op::GetComplianceSummary => ("no_framework", These(EVERYONE), Nothing),
        Op::ListComplianceGaps => ("no_framework", These(EVERYONE), Nothing),
        Op::ImportTemplates => ("", These(ADMIN), Yaml("attack_technique: T1059")),
        Op::ExportTemplates => ("", These(EVERYONE), Nothing),
        // Intel and the scheduler
        Op::RunIntelScan => ("", These(ADMIN), Nothing),
        Op::ListIntelItems => ("", These(EVERYONE), Nothing),
        Op::GetIntelItem => ("$nobody", These(EVERYONE), Nothing),
        Op::GetFeed => ("$nobody", These(ADMIN), Nothing),
        Op::ReviewIntelItem => ("$nobody", These(LEADS), Json(r#"{"reviewed": true}"#)),
        Op::ListFeeds => ("", These(ADMIN), Nothing),
        Op::CreateFeed => ("", These(ADMIN), Json(r#"{"name": "By the table", "url": "gopher://nowhere"}"#)),
        Op::UpdateFeed => ("$nobody", These(ADMIN), Json(r#"{"enabled": false}"#)),
        Op::DeleteFeed => ("$nobody", These(ADMIN), Nothing),
        Op::GetSchedulerStatus => ("", These(ADMIN), Nothing),
        Op::ListSchedulerRuns => ("", These(ADMIN), Nothing),
        Op::ListJobs => ("", These(ADMIN), Nothing),
        // The fleet
        Op::ListDeckies => ("", These(EVERYONE), Nothing),
        Op::DeployFleet => ("", These(ADMIN), Json(r#"{"ini_content": "[by-the-table]\nservices = telegraph\n"}"#)),
        Op::GetDecky => ("by-the-table", These(EVERYONE), Nothing),
        Op::DeleteDecky => ("by-the-table", These(ADMIN), Nothing),
        Op::MutateDecky => ("by-the-table", These(ADMIN), Nothing),
        Op::SetMutateInterval => ("by-the-table", These(ADMIN), Json(r#"{"mutate_interval": null}"#)),
        Op::ListSensors => ("", These(EVERYONE), Nothing),
        Op::ListArchetypes => ("", These(EVERYONE), Nothing),
        // What happens on it
        Op::ListLogs => ("", These(EVERYONE), Nothing),
        Op::GetLogHistogram => ("", These(EVERYONE), Nothing),
        Op::GetStats => ("", These(EVERYONE), Nothing),
        Op::StreamLogs => ("", These(EVERYONE), Stream),
        Op::IngestLines => ("cowrie", These(&["admin", "sensor"]), Lines("no JSON\n")),
        Op::PurgeLogs => ("", These(ADMIN), Nothing),
        // Who did it, and what they left
        Op::ListBounty => ("", These(EVERYONE), Nothing),
        Op::ListAttackers => ("", These(EVERYONE), Nothing),
        Op::GetAttacker => ("$nobody", These(EVERYONE), Nothing),
        Op::ListAttackerCommands => ("$nobody", These(EVERYONE), Nothing),
        Op::ListAttackerArtifacts => ("$nobody", These(EVERYONE), Nothing),
        Op::ListAttackerSessions => ("$nobody", These(EVERYONE), Nothing),
        Op::GetRecording => ("$nobody $nobody", These(EVERYONE), Nothing),
        Op::ListAttackerTechniques => ("$nobody", These(EVERYONE), Nothing),
        Op::ListObservations => ("T1059", These(EVERYONE), Nothing),
        Op::ListTaggingRules => ("", These(EVERYONE), Nothing),
        Op::GetArtifact => ("by-the-table 2024-01-01T00:00:00Z_9f86d081884c_none", These(ADMIN), Nothing),
        Op::ListAlerts => ("", These(EVERYONE), Nothing),
        Op::GetAlert => ("$nobody", These(EVERYONE), Nothing),
        Op::ListApprovedScanners => ("", These(EVERYONE), Nothing),
        Op::CreateApprovedScanner => ("", These(ADMIN), Json(r#"{"name": "By the table", "network": "no network"}"#)),
        Op::GetApprovedScanner => ("$nobody", These(EVERYONE), Nothing),
        Op::DeleteApprovedScanner => ("$nobody", These(ADMIN), Nothing),
    }
}

/// What the placeholders of the table stand for.
struct Fixture(Vec<(&'static str, String)>);

impl Fixture {
    async fn make(admin: &Api) -> Fixture {
        let technique = admin.get("/techniques/T1003").await.json(200)["id"].as_str().unwrap().to_owned();
        let made =
            async |path: &str, body: Value| admin.post(path, &body).await.json(201)["id"].as_str().unwrap().to_owned();
        let draft = json!({"technique_id": technique, "name": "An administrator's draft"});
        let (test, spare) = (made("/tests", draft.clone()).await, made("/tests", draft).await);
        let campaign = made("/campaigns", json!({"name": "An administrator's campaign"})).await;
        let finished = made("/campaigns", json!({"name": "An administrator's campaign, finished"})).await;
        let upload = admin.request(Method::POST, &format!("/tests/{test}/evidence"));
        let file = send(upload.multipart(form("removed.txt", b"removed by the table".to_vec(), &[]))).await.json(201);
        let nobody = "018f0000-0000-7000-8000-00000000dead".to_owned();
        Fixture(vec![
            ("$technique", technique),
            ("$test", test),
            ("$spare", spare),
            ("$campaign", campaign),
            ("$finished", finished),
            ("$file", file["id"].as_str().unwrap().to_owned()),
            ("$nobody", nobody),
        ])
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }
}

pub async fn scenario(product: &mut Product) {
    let admin = product.admin().await;
    let document = admin.get("//openapi.json").await.json(200);
    agrees(&document);
    let fixture = Fixture::make(&admin).await;
    let urls = point_nowhere(&admin).await;

    let mut faults = Vec::new();
    // The request ids of what was done and of what was refused, by operation.
    let (mut done, mut refused) = (BTreeMap::<Operation, Vec<String>>::new(), BTreeMap::new());
    for &operation in Operation::ALL {
        let (_, who, _) = rule(operation);
        let answer = call(&product.anonymous(), operation, &fixture).await;
        let stranger = answer.status == 401;
        if stranger == matches!(who, Public) {
            faults.push(format!("without a token: {answer}"));
        } else if stranger {
            answer.error(401, "UNAUTHENTICATED");
        }
        // Everything that happened is purged in developer mode only, which `config` tries.
        let never = operation == Operation::PurgeLogs;
        let may =
            |role: &&str| !never && (matches!(who, Public) || matches!(who, These(roles) if roles.contains(role)));
        // Those who may not come first: what the others do may leave nothing to be refused.
        let (allowed, others): (Vec<&str>, Vec<&str>) = EVERYONE.iter().partition(|role| may(role));
        for role in others.iter().chain(&allowed) {
            let someone = match operation {
                // It ends the token that it is called with.
                Operation::Logout => fresh(product, role).await,
                _ => product.someone(role).await,
            };
            let answer = call(&someone, operation, &fixture).await;
            let may = may(role);
            let fits = if may {
                !matches!(answer.status, 401 | 403 | 405) && answer.status < 500
            } else {
                answer.status == 403
            };
            if !fits {
                faults.push(format!("{operation:?} as {role}: {answer}"));
            } else if !may {
                answer.error(403, "FORBIDDEN");
                refused.entry(operation).or_insert_with(Vec::new).push(answer.header("x-request-id").to_owned());
            } else if answer.status < 300 && operation.route().0 != "GET" {
                done.entry(operation).or_default().push(answer.header("x-request-id").to_owned());
            }
        }
    }
    for (path, url) in urls {
        admin.patch(&path, &json!({"url": url})).await.json(200);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    recorded(&admin, &done, &refused).await;
    product.assert_alive();
}

/// Every refusal, and every operation that changed something, is in the audit trail under the id of its request.
async fn recorded(admin: &Api, done: &BTreeMap<Operation, Vec<String>>, refused: &BTreeMap<Operation, Vec<String>>) {
    // There was nothing to mark, to put in order or to take off the calendar; a ticket changes nothing and is gone in a
    // minute; the login of the table is a failed one.
    const CHANGE_NOTHING: &[Operation] = &[
        Operation::MarkAllNotificationsRead,
        Operation::OrderCampaignTests,
        Operation::SetCampaignSchedule,
        Operation::CreateStreamTicket,
        Operation::Login,
    ];
    assert!(done.len() > 5 && refused.len() > 20, "{} done, {} refused", done.len(), refused.len());
    eventually("the audit trail has all of it", Duration::from_secs(30), || async {
        let export = admin.get("/audit-logs/export").await;
        assert_eq!(export.status, 200, "{export}");
        let lines: Vec<Value> = export.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids = |success: bool| -> BTreeSet<&str> {
            lines.iter().filter(|r| r["success"] == success).filter_map(|r| r["request_id"].as_str()).collect()
        };
        let (changes, refusals) = (ids(true), ids(false));
        let mut missing = Vec::new();
        for (operation, requests) in done {
            // The same again changes nothing, so not each has a record.
            if !CHANGE_NOTHING.contains(operation) && !requests.iter().any(|id| changes.contains(id.as_str())) {
                missing.push(format!("{operation:?} was done {requests:?}"));
            }
        }
        for (operation, requests) in refused {
            for id in requests.iter().filter(|id| !refusals.contains(id.as_str())) {
                missing.push(format!("{operation:?} was refused {id}"));
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
    })
    .await;
}

/// The table and the document say the same of who may.
fn agrees(document: &Value) {
    let operations = document["paths"].as_object().expect("paths").values();
    let count: usize = operations.map(|operations| operations.as_object().expect("operations").len()).sum();
    assert_eq!(count, Operation::ALL.len(), "the product's document is not the one that is checked in");
    for &operation in Operation::ALL {
        let (method, path) = operation.route();
        let told = &document["paths"][path][method.to_lowercase()];
        let (_, who, _) = rule(operation);
        if let (Some(roles), These(expected)) = (told["x-roles"].as_array(), who) {
            let told: BTreeSet<&str> = roles.iter().filter_map(Value::as_str).collect();
            assert_eq!(told, expected.iter().copied().collect(), "x-roles of {operation:?}");
        }
        let answers = told["responses"].as_object().expect("responses");
        let documented = |status: &str| answers.contains_key(status);
        match who {
            Public => {}
            These(EVERYONE) => assert!(documented("401"), "{operation:?} documents no 401"),
            These(_) => assert!(documented("401") && documented("403"), "{operation:?} documents no 401 or 403"),
        }
    }
}

/// A sync must not reach for the network here. Gives what to put back.
async fn point_nowhere(admin: &Api) -> Vec<(String, Value)> {
    let mut urls = Vec::new();
    for source in admin.get("/data-sources").await.json(200).as_array().expect("a list") {
        let path = format!("/data-sources/{}", source["id"].as_str().unwrap());
        admin.patch(&path, &json!({"url": "file:///is/not/there.json"})).await.json(200);
        urls.push((path, source["url"].clone()));
    }
    urls
}

async fn fresh(product: &Product, role: &str) -> Api {
    let nobody = product.anonymous();
    let body = json!({"username": format!("some-{}", role.replace('_', "-")), "password": PASSWORD});
    let token = nobody.post("/auth/login", &body).await.json(200);
    nobody.with_token(token["access_token"].as_str().unwrap())
}

async fn call(who: &Api, operation: Operation, fixture: &Fixture) -> Answer {
    let (method, path) = operation.route();
    let (parameter, _, with) = rule(operation);
    let mut parameters = parameter.split(' ');
    let mut filled = String::new();
    let mut rest = path;
    while let Some((head, tail)) = rest.split_once('{') {
        let (_, tail) = tail.split_once('}').expect("a whole parameter");
        filled.push_str(head);
        filled.push_str(&fixture.fill(parameters.next().expect("a text for each parameter")));
        rest = tail;
    }
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    // What is asked in the query.
    let query = if operation == Operation::RemoveEvidence { "?reason=By%20the%20table" } else { "" };
    let request = who.request(method, &format!("/{filled}{rest}{query}"));
    send(match with {
        Nothing => request,
        Json(body) => request.header("content-type", "application/json").body(fixture.fill(body)),
        Yaml(body) => request.header("content-type", "application/yaml").body(body),
        Lines(body) => request.header("content-type", "application/x-ndjson").body(body),
        File => request.multipart(form("proof.txt", b"seen by the table".to_vec(), &[])),
        Stream => return head(request).await,
    })
    .await
}
