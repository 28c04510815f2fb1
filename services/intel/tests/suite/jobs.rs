//! Jobs: listed, and those that change nothing.

use aegis_auth::Role;
use aegis_error::{Code, Failure};
use aegis_proto::{
    events::v1::{AuditRecorded, SyncFinished},
    intel::v1::{ListJobsRequest, StartSyncRequest},
};
use serde_json::json;

use crate::{mirror::Mirror, world::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    for world in World::all().await {
        let mirror = Mirror::start().await;
        let url = mirror.serve("/bundle.json", bundle("18.1", "One"));
        world.point(&url).await;
        world.sync(None).await.unwrap();
        let before = world.source().await;
        let dry = |url: Option<String>| StartSyncRequest {
            source_id: ENTERPRISE.to_owned(),
            dry_run: true,
            url,
            ..StartSyncRequest::default()
        };
        let newer = mirror.serve("/newer.json", bundle("19.0", "One, renamed"));
        let job = world.order(dry(Some(newer))).await.unwrap();
        assert!(job.dry_run && job.status == "succeeded" && job.started_by == "ada");
        let counts = json_of(&job.counts_json);
        assert_eq!((&counts["updated"], &counts["unchanged"]), (&json!(1), &json!(3)));
        let changes = json_of(&job.changes_json);
        assert_eq!(
            (&changes[0]["mitre_id"], &changes[0]["change"], &changes[0]["revoked_by"], &changes[0]["tests"]),
            (&json!("T1004"), &json!("revoked"), &json!("T1002"), &json!(2))
        );
        assert!(world.catalog.imports()[1].header.dry_run);
        let failed = mirror.serve("/broken.json", b"{".to_vec());
        assert!(world.order(dry(Some(failed))).await.is_err());
        assert_eq!(world.source().await, before, "neither a good nor a failed one leaves anything");
        assert_eq!(world.events::<SyncFinished>().await.len(), 1);
        let audits = world.events::<AuditRecorded>().await;
        let audits = audits.iter().filter(|(_, audit)| json_of(&audit.details_json)["dry_run"] == true);
        assert_eq!(audits.count(), 4);
        // What is known of the document at the source's own url is known still.
        world.sync(None).await.unwrap();
        assert!(mirror.requests().last().unwrap().contains("if-none-match"));
        assert_eq!(world.catalog.imports().len(), 2);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_listed_the_newest_first() {
    for world in World::all().await {
        let url = world.file("one.json", &bundle("1.0", "One"));
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.insert(0, world.sync(Some(&url)).await.unwrap().id);
        }
        let list = |request: ListJobsRequest, role| {
            let mut client = world.client(role);
            async move { client.list_jobs(request).await.map(|answer| answer.into_inner()).map_err(Failure::from) }
        };
        let all = list(ListJobsRequest::default(), Role::Admin).await.unwrap();
        assert_eq!(all.jobs.iter().map(|job| job.id.clone()).collect::<Vec<_>>(), ids);
        assert_eq!((all.total_size, all.next_page_token.as_str()), (3, ""));
        let of = |source: &str, size| ListJobsRequest {
            source_id: source.to_owned(),
            page_size: size,
            ..ListJobsRequest::default()
        };
        let first = list(of(ENTERPRISE, 2), Role::Admin).await.unwrap();
        assert_eq!((first.jobs.len(), first.total_size), (2, 3));
        let rest = ListJobsRequest { page_token: first.next_page_token, ..of(ENTERPRISE, 2) };
        assert_eq!(list(rest, Role::Admin).await.unwrap().jobs[0].id, ids[2]);
        assert_eq!(list(of("sigma", 0), Role::Admin).await.unwrap().total_size, 0);
        assert_eq!(list(of("snort", 0), Role::Admin).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(list(of("", 1001), Role::Admin).await.unwrap_err().code(), Code::Validation);
        assert_eq!(list(of("", 0), Role::Viewer).await.unwrap_err().code(), Code::Forbidden);
        world.base.close().await;
    }
}
