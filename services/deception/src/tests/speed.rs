//! How fast events come in and are found; ignored, for whoever works on that:
//! `AEGIS_EVENTS=1000000 cargo test --release -p aegis-deception speed -- --ignored --nocapture`.

use std::{sync::Arc, time::Instant};

use aegis_proto::deception::v1::HandInRequest;
use chrono::{TimeDelta, Utc};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{
    admin, app,
    logs::{client, sensor, wire},
    stores,
};
use crate::{
    app::{App, live, logs::Filter},
    store,
};

const BATCH: i64 = 5_000;

async fn hand_in(app: &Arc<App>, sensors: i64, count: i64) {
    let begin = Utc::now() - TimeDelta::hours(20);
    let one = async |n: i64| {
        let id = Uuid::now_v7().to_string();
        let (batches, requests) = mpsc::channel(4);
        let send = async {
            for first in (0..count).step_by(usize::try_from(BATCH).unwrap()) {
                let events = (first..first + BATCH).map(|at| {
                    let mut event = wire(n * count + at);
                    event.timestamp = Some(crate::rpc::timestamp(begin + TimeDelta::milliseconds(at * 7)));
                    event.fields_json = format!(
                        r#"{{"username":"root","password":"pass{}","method":"password","client_banner":"SSH-2.0-libssh_0.9.6"}}"#,
                        at % 5_000
                    );
                    event
                });
                let first_sequence = u64::try_from(first).unwrap() + 1;
                let batch = HandInRequest { sensor_id: id.clone(), first_sequence, events: events.collect() };
                if batches.send(batch).await.is_err() {
                    break;
                }
            }
            drop(batches);
        };
        let answers = client(app, sensor()).hand_in(ReceiverStream::new(requests)).await.unwrap().into_inner();
        let ((), marks) = tokio::join!(send, answers.map(|answer| answer.unwrap().acknowledged).collect::<Vec<_>>());
        assert_eq!(marks.last(), Some(&u64::try_from(count).unwrap()));
    };
    futures::future::join_all((0..sensors).map(one)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    let count: i64 = std::env::var("AEGIS_EVENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300_000);
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let live = tokio::spawn(live::run(Arc::clone(&app.live), app.logs_committed.clone(), app.stop.clone()));
        let started = Instant::now();
        hand_in(&app, 2, count / 2).await;
        let stored = started.elapsed();
        app.live.catch_up().await.unwrap();
        println!(
            "{}: {count} events stored in {stored:?}, {:.0}/s; indexed after {:?}",
            test.name,
            count as f64 / stored.as_secs_f64(),
            started.elapsed()
        );
        println!("  runs: {}", store::runs::after(&test.db, -1).await.unwrap().len());
        let day = Some(Utc::now() - TimeDelta::days(1));
        for (what, search, start) in [
            ("first page", "", None),
            ("by attacker", "attacker:198.51.100.7", None),
            ("by service", "service:ssh", None),
            ("by field", "password:pass4999", None),
            ("by two keys", "attacker:198.51.100.7 password:pass4999", None),
            ("nothing, by key", "decky:none", None),
            ("a day", "", day),
            ("word that is common", "libssh", None),
            ("word that is rare", "number 123457 of", None),
            ("word that is nowhere", "nowhere", None),
        ] {
            let filter = Filter::new(search, start, None).unwrap();
            let (mut pages, mut histograms) = (Vec::new(), Vec::new());
            let mut total = 0;
            for _ in 0..20 {
                let started = Instant::now();
                total = app.list_logs(&admin(), &filter, 50, "", 0).await.unwrap().total;
                pages.push(started.elapsed());
                let started = Instant::now();
                app.log_histogram(&admin(), &filter, 15).await.unwrap();
                histograms.push(started.elapsed());
            }
            pages.sort_unstable();
            histograms.sort_unstable();
            println!(
                "  {what}: {total} found, page p50 {:?} p95 {:?}, histogram p50 {:?} p95 {:?}",
                pages[10], pages[18], histograms[10], histograms[18]
            );
        }
        app.stop.cancel();
        live.await.unwrap();
        test.close().await;
    }
}
