//! The scheduler as it runs: two processes on one database, by the real clock.

use std::{collections::HashSet, sync::Arc, time::Duration};

use aegis_auth::Role;
use aegis_intel::Config;
use aegis_proto::intel::v1::{
    GetSchedulerRequest, GetSchedulerResponse, ListRunsRequest, Run, scheduler_service_client::SchedulerServiceClient,
};
use aegis_runtime::{Service, Shutdown};
use aegis_testkit::databases;

use crate::scan_world::{service, signed_in};

async fn scheduler(service: &Service) -> GetSchedulerResponse {
    let mut client = SchedulerServiceClient::new(signed_in(service, Role::Admin));
    client.get_scheduler(GetSchedulerRequest {}).await.unwrap().into_inner()
}

async fn runs(service: &Service) -> Vec<Run> {
    let mut client = SchedulerServiceClient::new(signed_in(service, Role::Admin));
    let request = ListRunsRequest { job_id: "intel_scan".to_owned(), page_size: 1000, ..ListRunsRequest::default() };
    let answer = client.list_runs(request).await.unwrap().into_inner();
    // Counted apart: one may have begun in between.
    assert!(answer.total_size.abs_diff(answer.runs.len() as i64) <= 1);
    answer.runs
}

/// Starts the background work of a service.
fn start(service: &mut Service) -> Shutdown {
    let shutdown = Shutdown::new();
    for task in service.tasks.drain(..) {
        task.spawn(&shutdown);
    }
    shutdown
}

async fn until_more_than(service: &Service, count: usize) {
    while runs(service).await.len() <= count {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_run_each_due_time_once_and_one_goes_on_when_the_other_stops() {
    for base in databases("intel", &[aegis_events::migrations(), aegis_intel::migrations()]).await {
        let knowledge = Arc::default();
        let config = Config {
            scan_schedule: Some("* * * * * *".to_owned()),
            scheduler_jitter: Duration::ZERO,
            ..Config::default()
        };
        let mut services =
            [service(&base.db, &knowledge, config.clone()).await, service(&base.db, &knowledge, config).await];
        let first = start(&mut services[0]);
        until_more_than(&services[1], 0).await;
        let leader = scheduler(&services[1]).await;
        assert!(leader.running && leader.leader.starts_with("intel-"), "{}", leader.leader);
        let second = start(&mut services[1]);
        until_more_than(&services[1], 1).await;
        assert_eq!(scheduler(&services[0]).await.leader, leader.leader);

        assert!(first.drain(Duration::from_secs(30)).await);
        let before = runs(&services[1]).await.len();
        until_more_than(&services[1], before + 1).await;
        let now = scheduler(&services[1]).await;
        assert!(now.running && now.leader != leader.leader);
        let job = now.jobs.iter().find(|job| job.id == "intel_scan").unwrap();
        assert_eq!((job.name.as_str(), job.time_zone.as_str()), ("Threat intelligence scan", "UTC"));
        assert!(job.next_run_at.is_some() && job.last_run_at.is_some());
        let mitre = now.jobs.iter().find(|job| job.id == "mitre_sync").unwrap();
        assert_eq!((mitre.name.as_str(), mitre.last_run_at), ("MITRE ATT&CK Sync", None));
        assert!(second.drain(Duration::from_secs(30)).await);
        assert!(!scheduler(&services[1]).await.running);

        let all = runs(&services[1]).await;
        let due: HashSet<_> = all.iter().map(|run| run.due_at.unwrap().seconds).collect();
        assert_eq!(due.len(), all.len(), "no due time twice");
        assert!(all.iter().all(|run| run.status != "running"), "{all:?}");
        base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_is_switched_off_leads_nothing() {
    for base in databases("intel", &[aegis_events::migrations(), aegis_intel::migrations()]).await {
        let knowledge = Arc::default();
        let config = Config { scheduler_enabled: false, ..Config::default() };
        let mut service = service(&base.db, &knowledge, config).await;
        let shutdown = start(&mut service);
        let view = scheduler(&service).await;
        assert_eq!((view.running, view.leader.as_str(), view.lease_until), (false, "", None));
        assert!(view.jobs.iter().all(|job| job.next_run_at.is_none()));
        assert!(shutdown.drain(Duration::from_secs(30)).await);
        base.close().await;
    }
}
