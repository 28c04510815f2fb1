//! One sync of a source at a time, whoever asks, whoever leaves, whatever ends.

use aegis_auth::Role;
use aegis_db::{Db, now, on};
use aegis_error::Code;
use aegis_proto::events::v1::{AuditRecorded, SyncFinished};
use aegis_runtime::Shutdown;
use aegis_testkit::ctx;
use chrono::TimeDelta;

use crate::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sync_is_refused_while_the_first_runs_also_by_another_process() {
    for world in World::all().await {
        world.point(&world.file("bundle.json", &bundle("18.1", "One"))).await;
        world.catalog.close_gate().await;
        // Before the sync: a process that starts on a SQLite file takes what ran in it for ended.
        let other = replica(&world.base.db, &world.catalog).await;
        let job = start(world.admin(), false, None).await.unwrap();
        assert_eq!((job.status.as_str(), job.counts_json.as_str()), ("running", "{}"));
        world.imports(1).await;
        for client in [world.admin(), client(&other, ctx(Role::Service, "system:cli"))] {
            let failure = start(client, true, None).await.unwrap_err();
            assert_eq!(failure.code(), Code::Conflict);
            assert!(failure.message().contains("already running"), "{}", failure.message());
            assert_eq!(failure.get("job_id"), Some(job.id.as_str()));
        }
        assert_eq!(world.source().await.last_status.as_deref(), Some("running"));
        // Written for others to see, though not at once.
        while world.job(&job.id).await.phase != "applying" {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        world.catalog.gate.add_permits(10);
        assert_eq!(world.ended(&job.id).await.status, "succeeded");
        assert_eq!(world.sync(None).await.unwrap().status, "succeeded");
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_exactly_one_runs() {
    for world in World::all().await {
        world.point(&world.file("bundle.json", &bundle("18.1", "One"))).await;
        world.catalog.close_gate().await;
        let other = replica(&world.base.db, &world.catalog).await;
        let starts = (0..8).map(|n| {
            let service = if n % 2 == 0 { &world.service } else { &other };
            start(client(service, ctx(Role::Admin, "ada")), false, None)
        });
        let results = futures::future::join_all(starts).await;
        let (started, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(started.len(), 1);
        for failure in refused {
            assert_eq!(failure.unwrap_err().code(), Code::Conflict);
        }
        world.catalog.gate.add_permits(1);
        let id = started.into_iter().next().unwrap().unwrap().id;
        assert_eq!(world.ended(&id).await.status, "succeeded");
        assert_eq!(world.catalog.imports().len(), 1);
        world.base.close().await;
    }
}

/// Makes a running job look as if its process had ended.
async fn silence(db: &Db, job: &str) {
    let id: uuid::Uuid = job.parse().unwrap();
    let mut tx = db.begin().await.unwrap();
    let sql = "UPDATE sync_job SET heartbeat_at = $2 WHERE id = $1";
    on!(tx, |c| sqlx::query(sql).bind(id).bind(now() - TimeDelta::seconds(61)).execute(c).await.map(|_| ())).unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_whose_process_ended_is_told_as_failed_and_taken_over() {
    for world in World::all().await {
        world.point(&world.file("bundle.json", &bundle("18.1", "One"))).await;
        world.catalog.close_gate().await;
        let dead = start(world.admin(), false, None).await.unwrap();
        world.imports(1).await;
        while world.job(&dead.id).await.phase != "applying" {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        silence(&world.base.db, &dead.id).await;
        let told = world.job(&dead.id).await;
        assert_eq!(told.status, "failed");
        assert!(told.error.as_ref().unwrap().contains("start it again"));
        assert_eq!(world.source().await.last_status.as_deref(), Some("failed"));
        assert!(world.events::<SyncFinished>().await.is_empty(), "reading changes nothing");

        let job = start(world.admin(), false, None).await.unwrap();
        assert_ne!(job.id, dead.id);
        let finished = world.events::<SyncFinished>().await;
        assert_eq!((finished.len(), finished[0].1.job_id.as_str()), (1, dead.id.as_str()));
        let audits = world.events::<AuditRecorded>().await;
        let (envelope, audit) = audits.iter().rfind(|(_, audit)| audit.action == "sync_source").unwrap();
        assert!(!audit.success);
        assert_eq!(envelope.actor.as_ref().unwrap().username, "system:intel");
        // The first one was only slow: when it comes back it has nothing to say any more.
        world.imports(2).await;
        world.catalog.gate.add_permits(2);
        assert_eq!(world.ended(&job.id).await.status, "succeeded");
        let first = world.job(&dead.id).await;
        assert_eq!((first.status.as_str(), first.error), ("failed", told.error));
        assert_eq!(world.events::<SyncFinished>().await.len(), 2);
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_goes_on_when_its_caller_leaves() {
    for world in World::all().await {
        world.point(&world.file("bundle.json", &bundle("18.1", "One"))).await;
        world.catalog.close_gate().await;
        let admin = world.admin();
        let caller = tokio::spawn(async move { start(admin, true, None).await });
        world.imports(1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        let job = start(world.admin(), false, None).await.unwrap_err();
        world.catalog.gate.add_permits(1);
        assert_eq!(world.ended(job.get("job_id").unwrap()).await.status, "succeeded");
        world.base.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_ends_its_syncs_and_says_so() {
    for mut world in World::all().await {
        world.point(&world.file("bundle.json", &bundle("18.1", "One"))).await;
        world.catalog.close_gate().await;
        let shutdown = Shutdown::new();
        for task in std::mem::take(&mut world.service.tasks) {
            // The relay would take the events away.
            if task.name == "intel syncs" {
                task.spawn(&shutdown);
            }
        }
        let job = start(world.admin(), false, None).await.unwrap();
        world.imports(1).await;
        assert!(shutdown.drain(std::time::Duration::from_secs(10)).await);
        let ended = world.job(&job.id).await;
        assert_eq!(ended.status, "failed");
        assert!(ended.error.unwrap().contains("was stopped"));
        assert_eq!(world.events::<SyncFinished>().await.len(), 1);
        let failure = start(world.admin(), false, None).await.unwrap_err();
        assert_eq!(failure.code(), Code::Unavailable);
        world.base.close().await;
    }
}
