//! Data sources: listed, changed, and by whom.

use aegis_auth::Role;
use aegis_error::{Code, Failure};
use aegis_proto::{
    events::v1::AuditRecorded,
    intel::v1::{
        DataSource, GetDataSourceRequest, GetJobRequest, ListDataSourcesRequest, StartSyncRequest,
        UpdateDataSourceRequest,
    },
};
use serde_json::json;

use crate::world::*;

async fn list(world: &World, page_size: i32, page_token: &str) -> (Vec<DataSource>, String, i64) {
    let request = ListDataSourcesRequest { page_size, page_token: page_token.to_owned() };
    let page = world.admin().list_data_sources(request).await.unwrap().into_inner();
    (page.data_sources, page.next_page_token, page.total_size)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sources_are_there_from_the_start_once_and_in_pages() {
    for world in World::all().await {
        let edit = UpdateDataSourceRequest {
            id: ENTERPRISE.to_owned(),
            enabled: Some(false),
            ..UpdateDataSourceRequest::default()
        };
        world.admin().update_data_source(edit).await.unwrap();
        // Later starts, and two at once, leave alone what is there.
        tokio::join!(replica(&world.base.db, &world.catalog), replica(&world.base.db, &world.catalog));
        let (all, next, total) = list(&world, 0, "").await;
        let names: Vec<&str> = all.iter().map(|source| source.name.as_str()).collect();
        let expected = [
            "atomic_red_team",
            "aws",
            "azure",
            "caldera",
            "cri",
            "csa_ccm",
            "d3fend",
            "elastic",
            "gcp",
            "kev",
            "kev_mappings",
            "lolbas",
            "m365",
            "misp_threat_actors",
            ENTERPRISE,
            "mitre_attack_ics",
            "mitre_attack_mobile",
            "nist_800_53",
            "sigma",
            "veris",
        ];
        assert_eq!(names, expected);
        assert_eq!((next.as_str(), total), ("", 20));
        for source in &all {
            assert_eq!(source.enabled, source.name != ENTERPRISE);
            assert!(source.url.starts_with("https://") && source.schedule.is_some());
            assert_eq!((&source.last_sync_at, &source.last_status), (&None, &None));
            let attack = source.name.starts_with("mitre_attack_");
            assert_eq!(source.kind, if attack { "mitre_attack" } else { source.name.as_str() });
            let two = matches!(source.name.as_str(), "d3fend" | "nist_800_53");
            assert_eq!(source.companion_url.is_some(), two);
            assert_eq!(source.last_counts_json, "{}");
        }
        let (first, next, _) = list(&world, 12, "").await;
        let (rest, end, total) = list(&world, 12, &next).await;
        assert_eq!([first, rest].concat(), all);
        assert_eq!((end.as_str(), total), ("", 20));
        let ics = &all[15];

        let get = |id: &str| {
            let request = GetDataSourceRequest { id: id.to_owned() };
            let mut client = world.admin();
            async move {
                let answer = client.get_data_source(request).await.map_err(Failure::from)?;
                Ok::<_, Failure>(answer.into_inner().data_source.unwrap())
            }
        };
        assert_eq!(get(&ics.id).await.unwrap(), *ics);
        assert_eq!(get("mitre_attack_ics").await.unwrap(), *ics);
        for unknown in ["", "snort", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(get(unknown).await.unwrap_err().code(), Code::NotFound);
        }
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_changes_a_source_and_it_is_recorded() {
    for world in World::all().await {
        let before = world.source().await;
        let update = |edit: UpdateDataSourceRequest| {
            let request = UpdateDataSourceRequest { id: ENTERPRISE.to_owned(), ..edit };
            let mut client = world.admin();
            async move {
                let answer = client.update_data_source(request).await.map_err(Failure::from)?;
                Ok::<_, Failure>(answer.into_inner().data_source.unwrap())
            }
        };
        let wrong = update(UpdateDataSourceRequest {
            url: Some("ftp://example.org/x".to_owned()),
            schedule: Some("every day".to_owned()),
            enabled: Some(false),
            ..UpdateDataSourceRequest::default()
        });
        let failure = wrong.await.unwrap_err();
        assert_eq!(failure.code(), Code::Validation);
        let fields: Vec<&str> = failure.fields().iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["url", "schedule"]);
        let both = update(UpdateDataSourceRequest {
            schedule: Some("0 3 * * *".to_owned()),
            clear_schedule: true,
            ..UpdateDataSourceRequest::default()
        });
        assert_eq!(both.await.unwrap_err().fields()[0].field, "schedule");
        assert_eq!(world.source().await, before, "nothing changed");

        let after = update(UpdateDataSourceRequest {
            url: Some(" file:../data/enterprise-attack.json ".to_owned()),
            schedule: Some("0  3 * * MON".to_owned()),
            ..UpdateDataSourceRequest::default()
        });
        let after = after.await.unwrap();
        assert_eq!(after.url, "file:../data/enterprise-attack.json");
        assert_eq!(after.schedule.as_deref(), Some("0 3 * * MON"));
        assert!(after.enabled);
        assert_eq!(world.source().await, after);
        let companion = update(UpdateDataSourceRequest {
            companion_url: Some("file:x.json".to_owned()),
            ..UpdateDataSourceRequest::default()
        });
        assert_eq!(companion.await.unwrap_err().fields()[0].field, "companion_url", "it has one document");
        // The same again is no change.
        let same =
            update(UpdateDataSourceRequest { url: Some(after.url.clone()), ..UpdateDataSourceRequest::default() });
        assert_eq!(same.await.unwrap(), after);
        let cleared = update(UpdateDataSourceRequest { clear_schedule: true, ..UpdateDataSourceRequest::default() });
        assert_eq!(cleared.await.unwrap().schedule, None);

        let audits = world.events::<AuditRecorded>().await;
        assert_eq!(audits.len(), 2);
        assert_eq!(
            (audits[0].1.action.as_str(), audits[0].1.entity_id.as_str()),
            ("update_data_source", after.id.as_str())
        );
        let details = json_of(&audits[0].1.details_json);
        assert_eq!(details["before"], json!({ "url": before.url, "schedule": before.schedule }));
        assert_eq!(details["after"], json!({ "url": after.url, "schedule": "0 3 * * MON" }));
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_for_a_sync_start_nothing() {
    for world in World::all().await {
        let start = |source_id: &str, url: Option<&str>| {
            let request = StartSyncRequest {
                source_id: source_id.to_owned(),
                wait: true,
                url: url.map(str::to_owned),
                ..StartSyncRequest::default()
            };
            let mut client = world.admin();
            async move { Failure::from(client.start_sync(request).await.unwrap_err()) }
        };
        assert_eq!(start("snort", None).await.code(), Code::NotFound);
        assert_eq!(start("", None).await.fields()[0].field, "source_id");
        for url in ["", "enterprise.json", "http://example.org/x.json", "https://me:secret@example.org/"] {
            let failure = start(ENTERPRISE, Some(url)).await;
            assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, "url"));
            assert_eq!(failure.get("job_id"), None);
        }
        let edit = UpdateDataSourceRequest {
            id: ENTERPRISE.to_owned(),
            enabled: Some(false),
            ..UpdateDataSourceRequest::default()
        };
        world.admin().update_data_source(edit).await.unwrap();
        assert_eq!(start(ENTERPRISE, None).await.code(), Code::InvalidState);
        let companion = StartSyncRequest {
            source_id: "sigma".to_owned(),
            companion_url: Some("file:x".to_owned()),
            ..StartSyncRequest::default()
        };
        assert_eq!(world.order(companion).await.unwrap_err().fields()[0].field, "companion_url");
        assert_eq!(world.source().await.last_status, None);

        let job = |id: &str| {
            let request = GetJobRequest { id: id.to_owned() };
            let mut client = world.admin();
            async move { Failure::from(client.get_job(request).await.unwrap_err()) }
        };
        assert_eq!(job("one").await.fields()[0].field, "id");
        assert_eq!(job("00000000-0000-0000-0000-000000000000").await.code(), Code::NotFound);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_administrators_and_the_product_itself_may() {
    for world in World::all().await {
        let unknown = "00000000-0000-0000-0000-000000000000".to_owned();
        for role in
            [Role::Admin, Role::Service, Role::RedTech, Role::BlueTech, Role::RedLead, Role::BlueLead, Role::Viewer]
        {
            let mut client = world.client(role);
            let codes = [
                code(client.list_data_sources(ListDataSourcesRequest::default()).await),
                code(client.get_data_source(GetDataSourceRequest { id: ENTERPRISE.to_owned() }).await),
                code(client.get_job(GetJobRequest { id: unknown.clone() }).await),
                code(
                    client
                        .start_sync(StartSyncRequest { source_id: unknown.clone(), ..StartSyncRequest::default() })
                        .await,
                ),
                code(
                    client
                        .update_data_source(UpdateDataSourceRequest {
                            id: ENTERPRISE.to_owned(),
                            ..UpdateDataSourceRequest::default()
                        })
                        .await,
                ),
            ];
            let (none, refused) = (None, Some(Code::Forbidden));
            let missing = Some(Code::NotFound);
            let expected = match role {
                Role::Admin => [none, none, missing, missing, none],
                Role::Service => [none, none, missing, missing, refused],
                _ => [refused; 5],
            };
            assert_eq!(codes, expected, "{role}");
        }
        let refusals = world.events::<AuditRecorded>().await;
        assert_eq!(refusals.len(), 5 * 5 + 1);
        assert!(refusals.iter().all(|(_, audit)| audit.action == "access_denied" && !audit.success));
        world.base.close().await;
    }
}

fn code<T>(answer: Result<T, tonic::Status>) -> Option<Code> {
    answer.err().map(|status| Failure::from(status).code())
}
