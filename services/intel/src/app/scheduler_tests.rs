//! Leaders, due times and missed runs, by a clock of the tests, on every database.

use std::sync::Arc;

use aegis_auth::Background;
use aegis_db::{Db, read};
use aegis_events::Outbox;
use aegis_proto::{
    analytics::v1::{
        self as analytics,
        snapshot_service_client::SnapshotServiceClient,
        snapshot_service_server::{SnapshotService, SnapshotServiceServer},
    },
    catalog::v1::{
        catalog_service_client::CatalogServiceClient, knowledge_service_client::KnowledgeServiceClient,
        template_service_client::TemplateServiceClient,
    },
};
use aegis_testkit::{TestDb, ctx, databases};

use super::*;
use crate::{NAME, app::Clients, domain::source::PUBLISHED, store};

/// A process of its own on this database. Its catalog is not there; what runs here needs none.
fn replica(db: &Db, config: &Config) -> App {
    replica_with(db, config, SnapshotServiceClient::new(aegis_rpc::remote("http://127.0.0.1:1").unwrap()))
}

/// The same, with somebody who takes snapshots.
fn replica_with(db: &Db, config: &Config, snapshots: SnapshotServiceClient<aegis_rpc::RpcService>) -> App {
    let nowhere = aegis_rpc::remote("http://127.0.0.1:1").unwrap();
    App::new(
        db.clone(),
        Outbox::new(NAME),
        Clients {
            catalog: CatalogServiceClient::new(nowhere.clone()),
            knowledge: KnowledgeServiceClient::new(nowhere.clone()),
            templates: TemplateServiceClient::new(nowhere),
            snapshots,
        },
        Background::new(Arc::new(|| Box::pin(async { Ok(("token".to_owned(), Duration::from_secs(300))) }))),
        Scheduling::new(config).unwrap(),
        config.fetch.clone(),
    )
}

/// Every ten minutes, without jitter; no data source is scheduled.
fn config() -> Config {
    Config {
        scan_schedule: Some("*/10 * * * *".to_owned()),
        snapshot_schedule: None,
        scheduler_jitter: Duration::ZERO,
        ..Config::default()
    }
}

async fn worlds() -> Vec<TestDb> {
    let worlds = databases("intel", &[aegis_events::migrations(), crate::migrations()]).await;
    for world in &worlds {
        store::source::seed(&world.db, &PUBLISHED).await.unwrap();
        execute(world, "UPDATE data_source SET schedule = NULL").await;
    }
    worlds
}

async fn execute(world: &TestDb, sql: &'static str) {
    let mut tx = world.db.begin().await.unwrap();
    aegis_db::on!(tx, |c| sqlx::query(sql).execute(c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
}

/// Waits for what was started.
async fn settled(world: &TestDb) {
    let sql = "SELECT COUNT(*) FROM scheduled_run WHERE status = 'running'";
    loop {
        let running: i64 = read!(&world.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap();
        if running == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Due time and whether it was missed, the oldest first, of one job.
async fn runs(app: &App, job: &str) -> Vec<(String, bool, String)> {
    let page = app.list_runs(&ctx(Role::Admin, "ada"), job, 0, "", 0).await.unwrap();
    let show = |run: Run| (run.due_at.format("%H:%M").to_string(), run.missed, run.status);
    let mut all: Vec<_> = page.runs.into_iter().map(show).collect();
    all.sort();
    all
}

fn at(time: &str) -> DateTime<Utc> {
    format!("2031-05-01T{time}Z").parse().unwrap()
}

fn ran(due: &str, missed: bool) -> (String, bool, String) {
    (due.to_owned(), missed, SUCCEEDED.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_leads_and_each_due_time_runs_once() {
    for world in worlds().await {
        let (one, two) = (replica(&world.db, &config()), replica(&world.db, &config()));
        // Nothing runs just because it never did.
        assert_eq!(
            one.look(at("12:03:00")).await.unwrap(),
            Look { leads: true, started: 0, next: Some(at("12:10:00")) }
        );
        assert_eq!(two.look(at("12:03:05")).await.unwrap(), Look { leads: false, started: 0, next: None });
        for (time, started) in [("12:09:59", 0), ("12:10:00", 1), ("12:10:04", 0), ("12:10:08", 0), ("12:20:01", 1)] {
            let (a, b) = tokio::join!(one.look(at(time)), two.look(at(time)));
            let (a, b) = (a.unwrap(), b.unwrap());
            assert!(a.leads != b.leads || !b.leads, "{time}: both lead");
            assert_eq!(a.started + b.started, started, "{time}");
            settled(&world).await;
        }
        assert_eq!(runs(&one, SCAN).await, [ran("12:10", false), ran("12:20", false)]);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_takes_over_when_the_leader_is_gone_or_gives_up() {
    for world in worlds().await {
        let (one, two) = (replica(&world.db, &config()), replica(&world.db, &config()));
        assert!(one.look(at("12:09:50")).await.unwrap().leads);
        assert!(!two.look(at("12:10:04")).await.unwrap().leads, "the lease still holds");
        // The leader is not heard of again.
        let look = two.look(at("12:10:06")).await.unwrap();
        assert_eq!((look.leads, look.started), (true, 1));
        settled(&world).await;
        // It was only slow, and believes that it leads: it finds that it does not.
        let look = one.look(at("12:10:07")).await.unwrap();
        assert_eq!((look.leads, look.started), (false, 0));
        schedule::release_lease(&world.db, two.0.scheduling.process, at("12:10:08")).await.unwrap();
        assert!(one.look(at("12:10:09")).await.unwrap().leads);
        assert_eq!(runs(&one, SCAN).await, [ran("12:10", false)]);
        let view = one.get_scheduler(&ctx(Role::Admin, "ada")).await.unwrap();
        assert_eq!(view.lease.unwrap().holder, one.0.scheduling.holder());
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_both_believe_to_lead_run_nothing_twice() {
    for world in worlds().await {
        let (one, two) = (replica(&world.db, &config()), replica(&world.db, &config()));
        one.look(at("12:03:00")).await.unwrap();
        let due = schedule::planned(&world.db).await.unwrap();
        let now = at("12:10:00");
        for app in [&one, &two] {
            // Each took the lease at its time, with what it had read before.
            let process = app.0.scheduling.process;
            schedule::release_lease(&world.db, one.0.scheduling.process, at("12:09:59")).await.unwrap();
            schedule::release_lease(&world.db, two.0.scheduling.process, at("12:09:59")).await.unwrap();
            schedule::take_lease(&world.db, process, "test", now, now + LEASE).await.unwrap().unwrap();
            app.claim_due(&due, now).await.unwrap();
        }
        let sql = "SELECT COUNT(*) FROM scheduled_run WHERE job_id = 'intel_scan'";
        let count: i64 = read!(&world.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap();
        assert_eq!(count, 1);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_runs_once_and_time_does_not_slip() {
    for world in worlds().await {
        let one = replica(&world.db, &config());
        one.look(at("12:03:00")).await.unwrap();
        // Nobody was there from 12:03 to 13:34.
        let two = replica(&world.db, &config());
        let look = two.look(at("13:34:00")).await.unwrap();
        assert_eq!((look.started, look.next), (1, Some(at("13:40:00"))));
        settled(&world).await;
        assert_eq!(two.look(at("13:34:01")).await.unwrap().started, 0);
        assert_eq!(two.look(at("13:40:07")).await.unwrap().started, 1);
        settled(&world).await;
        assert_eq!(two.look(at("13:49:59")).await.unwrap().started, 0);
        assert_eq!(two.look(at("13:50:00")).await.unwrap().started, 1);
        settled(&world).await;
        assert_eq!(runs(&two, SCAN).await, [ran("12:10", true), ran("13:40", false), ran("13:50", false)]);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_goes_on_is_not_started_again_and_a_dead_one_is_given_up() {
    for world in worlds().await {
        let one = replica(&world.db, &config());
        one.look(at("12:03:00")).await.unwrap();
        let mut tx = world.db.begin().await.unwrap();
        let alive = Run { heartbeat_at: at("12:10:00"), ..Run::started(SCAN, at("12:01:00"), at("12:01:00"), false) };
        assert!(schedule::insert_run(&mut tx, &alive).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(one.look(at("12:10:01")).await.unwrap().started, 0);
        // By the next due time it was not heard of for ten minutes.
        assert_eq!(one.look(at("12:20:00")).await.unwrap().started, 1);
        settled(&world).await;
        let status = |due: &str, status: &str| (due.to_owned(), false, status.to_owned());
        let expected = [status("12:01", FAILED), status("12:10", SKIPPED), status("12:20", SUCCEEDED)];
        assert_eq!(runs(&one, SCAN).await, expected);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_synced_when_it_is_due_and_what_is_changed_is_planned_anew() {
    for world in worlds().await {
        let one = replica(&world.db, &Config { scheduler_time_zone: "Europe/Berlin".to_owned(), ..config() });
        execute(
            &world,
            "UPDATE data_source SET schedule = '0 3 * * *', url = 'file:///not/here.json' \
             WHERE name IN ('mitre_attack_enterprise', 'sigma')",
        )
        .await;
        one.look(at("00:30:00")).await.unwrap();
        let admin = ctx(Role::Admin, "ada");
        let jobs = one.get_scheduler(&admin).await.unwrap().jobs;
        let job = jobs.iter().find(|job| job.id == "mitre_sync").unwrap();
        assert_eq!((job.name.as_str(), job.next_run_at), ("MITRE ATT&CK Sync", Some(at("01:00:00"))));
        assert!(jobs.iter().any(|job| job.id == "sync_sigma" && job.next_run_at.is_some()));
        assert!(jobs.iter().any(|job| job.id == "sync_kev" && job.next_run_at.is_none()));
        execute(&world, "UPDATE data_source SET enabled = FALSE WHERE name = 'sigma'").await;
        execute(&world, "UPDATE data_source SET schedule = '30 3 * * *' WHERE name = 'mitre_attack_enterprise'").await;
        assert_eq!(one.look(at("01:29:00")).await.unwrap().next, Some(at("01:30:00")));
        // The scan alone was due so far; the sync is due by the clocks of Berlin.
        settled(&world).await;
        assert_eq!(one.look(at("01:30:00")).await.unwrap().started, 2);
        settled(&world).await;
        assert_eq!(runs(&one, "mitre_sync").await, [("01:30".to_owned(), false, FAILED.to_owned())]);
        assert_eq!(runs(&one, "sync_sigma").await, []);
        let job = one.get_scheduler(&admin).await.unwrap().jobs.into_iter().find(|job| job.id == "mitre_sync").unwrap();
        assert!(job.last.unwrap().error.unwrap().contains("does not exist"));
        let sql = "SELECT started_by FROM sync_job";
        let by: Vec<String> = read!(&world.db, |pool| sqlx::query_scalar(sql).fetch_all(pool).await).unwrap();
        assert_eq!(by, [USERNAME]);
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_is_cleaned_up() {
    for world in worlds().await {
        let one = replica(&world.db, &config());
        let mut tx = world.db.begin().await.unwrap();
        for (day, kept) in [("2030-12-01T00:00:00Z", false), ("2031-04-01T00:00:00Z", true)] {
            let day: DateTime<Utc> = day.parse().unwrap();
            let mut run = Run::started(if kept { "kept" } else { "gone" }, day, day, false);
            run.status = SUCCEEDED.to_owned();
            run.finished_at = Some(day);
            schedule::insert_run(&mut tx, &run).await.unwrap();
        }
        tx.commit().await.unwrap();
        one.clean_up(at("12:00:00")).await.unwrap();
        assert_eq!(runs(&one, "gone").await.len(), 0);
        assert_eq!(runs(&one, "kept").await.len(), 1);
        world.close().await;
    }
}

#[tokio::test]
async fn who_may_look_at_the_scheduler() {
    for world in worlds().await {
        let one = replica(&world.db, &config());
        for role in [Role::RedLead, Role::BlueLead, Role::Viewer] {
            assert!(one.get_scheduler(&ctx(role, "eve")).await.is_err());
            assert!(one.list_runs(&ctx(role, "eve"), "", 0, "", 0).await.is_err());
        }
        world.close().await;
    }
}

/// Writes down for when snapshots are asked for.
#[derive(Clone, Default)]
struct Snapshots(Arc<std::sync::Mutex<Vec<prost_types::Timestamp>>>);

type Answer<T> = Result<tonic::Response<T>, tonic::Status>;

fn unused<T>() -> Answer<T> {
    Err(tonic::Status::unimplemented("not needed here"))
}

#[tonic::async_trait]
impl SnapshotService for Snapshots {
    async fn take_scheduled_snapshot(
        &self,
        request: tonic::Request<analytics::TakeScheduledSnapshotRequest>,
    ) -> Answer<analytics::TakeScheduledSnapshotResponse> {
        self.0.lock().unwrap().extend(request.into_inner().due);
        Ok(tonic::Response::new(analytics::TakeScheduledSnapshotResponse::default()))
    }

    async fn list_snapshots(
        &self,
        _: tonic::Request<analytics::ListSnapshotsRequest>,
    ) -> Answer<analytics::ListSnapshotsResponse> {
        unused()
    }

    async fn create_snapshot(
        &self,
        _: tonic::Request<analytics::CreateSnapshotRequest>,
    ) -> Answer<analytics::CreateSnapshotResponse> {
        unused()
    }

    async fn get_snapshot(
        &self,
        _: tonic::Request<analytics::GetSnapshotRequest>,
    ) -> Answer<analytics::GetSnapshotResponse> {
        unused()
    }

    async fn delete_snapshot(
        &self,
        _: tonic::Request<analytics::DeleteSnapshotRequest>,
    ) -> Answer<analytics::DeleteSnapshotResponse> {
        unused()
    }

    async fn compare_snapshots(
        &self,
        _: tonic::Request<analytics::CompareSnapshotsRequest>,
    ) -> Answer<analytics::CompareSnapshotsResponse> {
        unused()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coverage_is_kept_for_each_week_that_is_due() {
    for world in worlds().await {
        let snapshots = Snapshots::default();
        let client = SnapshotServiceClient::new(aegis_rpc::local(SnapshotServiceServer::new(snapshots.clone())));
        let config = Config { scan_schedule: None, snapshot_schedule: Config::default().snapshot_schedule, ..config() };
        let app = replica_with(&world.db, &config, client);
        // A Thursday, and the Mondays after it; on the last of them nobody was there.
        for day in ["05-01T12:00", "05-05T05:00", "05-05T05:30", "05-12T05:00", "05-20T09:00"] {
            app.look(format!("2031-{day}:00Z").parse().unwrap()).await.unwrap();
            settled(&world).await;
        }
        let due: Vec<i64> = snapshots.0.lock().unwrap().iter().map(|due| due.seconds).collect();
        let monday = |day: &str| format!("2031-05-{day}T05:00:00Z").parse::<DateTime<Utc>>().unwrap().timestamp();
        let mondays = ["05", "12", "19"].map(monday);
        assert_eq!(due, mondays);
        assert_eq!(
            runs(&app, SNAPSHOT).await.iter().map(|(_, missed, status)| (*missed, status.as_str())).collect::<Vec<_>>(),
            [(false, SUCCEEDED), (false, SUCCEEDED), (true, SUCCEEDED)]
        );
        world.close().await;
    }
}
