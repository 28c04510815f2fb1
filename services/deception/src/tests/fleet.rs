//! The fleet: deployments, mutations, sensors.

use std::{sync::Arc, time::Duration};

use aegis_auth::{Conditions, IfMatch, OpCtx, Role};
use aegis_db::{Db, now};
use aegis_error::{Code, Failure};
use aegis_events::Event;
use aegis_proto::{
    deception::v1::{
        Decky, DeleteDeckyRequest, DeployFleetRequest, GetDeckyRequest, GetHealthRequest, ListArchetypesRequest,
        ListDeckiesRequest, ListSensorsRequest, MutateDeckyRequest, SetMutateIntervalRequest,
        fleet_service_client::FleetServiceClient, fleet_service_server::FleetServiceServer,
    },
    events::v1::FleetChanged,
};
use aegis_rpc::RpcService;
use aegis_testkit::ctx;
use chrono::TimeDelta;
use prost::Message;
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::body::Body;
use tower::ServiceExt;
use uuid::Uuid;

use super::{
    admin, app_with, audited,
    sensor::{attach, runs},
    sent, stores,
};
use crate::{Config, app::App, rpc::Rpc, store};

/// A client whose calls come from `ctx`.
pub(crate) fn client(app: &Arc<App>, ctx: OpCtx) -> FleetServiceClient<RpcService> {
    let server = FleetServiceServer::new(Rpc::new(Arc::clone(app)));
    FleetServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

fn config() -> Config {
    Config { deploy_timeout: Duration::from_secs(10), ..Config::default() }
}

fn app(db: &Db) -> (Arc<App>, tempfile::TempDir) {
    app_with(db, config())
}

pub(crate) async fn deploy(app: &Arc<App>, ctx: OpCtx, ini: &str) -> Result<Vec<Decky>, Failure> {
    let request = DeployFleetRequest { ini_content: ini.to_owned() };
    Ok(client(app, ctx).deploy_fleet(request).await?.into_inner().deckies)
}

pub(crate) async fn list(app: &Arc<App>) -> Vec<Decky> {
    let answer = client(app, ctx(Role::Viewer, "v")).list_deckies(ListDeckiesRequest::default()).await.unwrap();
    let answer = answer.into_inner();
    assert_eq!(usize::try_from(answer.total_size).unwrap(), answer.deckies.len());
    answer.deckies
}

async fn get(app: &Arc<App>, name: &str) -> Result<Decky, Failure> {
    let answer = client(app, admin()).get_decky(GetDeckyRequest { name: name.to_owned() }).await?;
    Ok(answer.into_inner().decky.unwrap())
}

async fn mutate(app: &Arc<App>, ctx: OpCtx, name: &str) -> Result<Decky, Failure> {
    let answer = client(app, ctx).mutate_decky(MutateDeckyRequest { name: name.to_owned() }).await?;
    Ok(answer.into_inner().decky.unwrap())
}

async fn set_interval(app: &Arc<App>, ctx: OpCtx, name: &str, interval: Option<&str>) -> Result<Decky, Failure> {
    let mutate_interval = interval.map(str::to_owned);
    let request = SetMutateIntervalRequest { name: name.to_owned(), mutate_interval };
    Ok(client(app, ctx).set_mutate_interval(request).await?.into_inner().decky.unwrap())
}

async fn delete(app: &Arc<App>, ctx: OpCtx, name: &str) -> Result<(), Failure> {
    client(app, ctx).delete_decky(DeleteDeckyRequest { name: name.to_owned() }).await?;
    Ok(())
}

/// Waits until a decky is so.
pub(crate) async fn status(app: &Arc<App>, name: &str, status: &str) -> Decky {
    for _ in 0..500 {
        let decky = get(app, name).await.unwrap();
        if decky.status == status {
            return decky;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} is never {status}: {:?}", get(app, name).await);
}

fn services(decky: &Decky) -> Vec<&str> {
    decky.services.iter().map(|service| service.name.as_str()).collect()
}

fn addresses(decky: &Decky) -> Vec<&str> {
    decky.services.iter().map(|service| service.address.as_str()).collect()
}

async fn ids(db: &Db) -> Vec<Uuid> {
    aegis_db::read!(db, |pool| sqlx::query_scalar("SELECT id FROM decky").fetch_all(pool).await).unwrap()
}

/// What changed in the fleet, as others hear it.
async fn changes(db: &Db) -> Vec<(String, Vec<String>)> {
    let events = sent(db).await.into_iter().filter(|event| event.r#type == FleetChanged::KIND);
    let changes = events.map(|event| FleetChanged::decode(event.data.as_slice()).unwrap());
    changes.map(|change| (change.change, change.deckies)).collect()
}

#[tokio::test]
async fn a_deployment_runs_when_it_is_answered() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let sensor = attach(&app, Uuid::now_v7(), "local", runs).await;
        let ini = "[general]\nnet=127.0.9.0/24\n[web]\nservices=ssh,http\nmutate_interval=90\n[web.ssh]\nauth=any\n\
                   [db]\narchetype=database-server\namount=2\n";
        let deckies = deploy(&app, admin(), ini).await.unwrap();
        let names: Vec<_> = deckies.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["db-01", "db-02", "web"], "{}", test.name);
        assert!(deckies.iter().all(|d| d.status == "running" && d.runtime == "native"), "{deckies:?}");
        let web = get(&app, "web").await.unwrap();
        assert_eq!(web, deckies[2]);
        assert_eq!(
            (services(&web), addresses(&web)),
            (vec!["ssh", "http"], vec!["127.0.9.1:20022", "127.0.9.1:20080"])
        );
        assert_eq!((web.mutate_interval.as_str(), web.version, web.last_mutated), ("90m", 1, None));
        assert_eq!(list(&app).await, deckies, "{}", test.name);

        // The sensor has all that it needs, and the same after a restart.
        let assigned = sensor.hosts();
        let heard = assigned.deckies.iter().find(|d| d.name == "web").unwrap();
        assert_eq!((heard.seed.len(), &heard.ip, &heard.mac), (32, &web.ip, &web.mac));
        assert_eq!(heard.services[0].options["auth"], "any");
        assert!(heard.booted_at.unwrap().seconds < web.created_at.unwrap().seconds);
        let mut seeds: Vec<_> = assigned.deckies.iter().map(|d| &d.seed).collect();
        seeds.sort();
        seeds.dedup();
        assert_eq!(seeds.len(), 3);
        let id = sensor.id;
        sensor.leave(&app).await;
        let (again, _files) = app_with(&test.db, config());
        let sensor = attach(&again, id, "local", runs).await;
        assert_eq!(sensor.hosts().deckies, assigned.deckies, "{}", test.name);

        assert_eq!(changes(&test.db).await, [("deployed".into(), vec!["web".into(), "db-01".into(), "db-02".into()])]);
        let records = audited(&test.db).await;
        assert_eq!(records.len(), 1);
        assert!(records[0].action == "deploy_fleet" && records[0].success);
        let (deployed, active) = store::fleet::counts(&test.db, now()).await.unwrap();
        assert_eq!((deployed, active), (3, 3), "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn a_deployment_that_cannot_start_is_taken_back_and_named() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let sensor = attach(&app, Uuid::now_v7(), "local", |decky, service| {
            if decky.name == "b" && service.name == "http" { Err("the address is in use") } else { Ok(()) }
        })
        .await;
        deploy(&app, admin(), "[a]\nservices=ssh,http").await.unwrap();
        let before = list(&app).await;
        let failure = deploy(&app, admin(), "[b]\nservices=ssh,http\n[c]\nservices=redis").await.unwrap_err();
        assert_eq!(failure.code(), Code::Internal);
        assert!(failure.message().contains("b http (the address is in use)"), "{}", failure.message());
        assert!(!failure.message().contains("redis"), "{}", failure.message());
        assert_eq!(list(&app).await, before, "{}", test.name);
        sensor.until(|hosts| hosts.deckies.len() == 1).await;
        // Its names are free again.
        deploy(&app, admin(), "[c]\nservices=redis").await.unwrap();
        let records = audited(&test.db).await;
        let told: Vec<_> = records.iter().map(|r| (r.action.as_str(), r.success)).collect();
        assert_eq!(told, [("deploy_fleet", true), ("deploy_fleet", false), ("deploy_fleet", true)], "{}", test.name);
        assert_eq!(changes(&test.db).await.len(), 2);
        test.close().await;
    }
}

#[tokio::test]
async fn without_an_answer_nothing_is_deployed() {
    for test in stores().await {
        let (app, _files) = app_with(&test.db, Config { deploy_timeout: Duration::from_millis(300), ..config() });
        let failure = deploy(&app, admin(), "[a]\nservices=ssh").await.unwrap_err();
        assert_eq!(failure.code(), Code::Internal);
        assert!(failure.message().contains("no sensor is attached"), "{}", failure.message());
        // One that says nothing of what it hosts.
        let (say, said) = tokio::sync::mpsc::channel(4);
        say.send(super::sensor::hello(Uuid::now_v7(), "mute")).await.unwrap();
        let mut mute = super::sensor::client(&app, ctx(Role::Sensor, "s"));
        let _stream = mute.attach(tokio_stream::wrappers::ReceiverStream::new(said)).await.unwrap();
        let failure = deploy(&app, admin(), "[a]\nservices=ssh").await.unwrap_err();
        assert_eq!(failure.code(), Code::Internal);
        assert!(failure.message().contains("a ssh (its sensor did not say in time"), "{}", failure.message());
        assert_eq!(list(&app).await, [], "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_deployment_is_a_conflict_with_line_and_section() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let _sensor = attach(&app, Uuid::now_v7(), "local", runs).await;
        deploy(&app, admin(), "[a]\nip=127.0.0.9\nservices=ssh").await.unwrap();
        for (ini, line, section, part) in [
            ("[b]\nservices=ssh,smb\n", "2", "b", "line 2 [b]: unknown service 'smb'"),
            ("[b]\n[a]\nservices=ssh", "2", "a", "line 2 [a]: the name 'a' is used already"),
            ("[b]\nip=127.0.0.9\n", "2", "b", "127.0.0.9 is used already"),
            ("[b]\namount=10\n", "1", "b", "the deployment limit of 10 is passed"),
        ] {
            let failure = deploy(&app, admin(), ini).await.unwrap_err();
            assert_eq!(failure.code(), Code::Conflict, "{ini}");
            assert_eq!((failure.get("line"), failure.get("section")), (Some(line), Some(section)), "{ini}");
            assert!(failure.message().contains(part), "{}", failure.message());
        }
        let failure = deploy(&app, admin(), &"x".repeat(512 * 1024 + 1)).await.unwrap_err();
        assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, "ini_content"));
        assert_eq!(list(&app).await.len(), 1, "{}", test.name);
        // At once they do not pass the limit together either.
        let (one, two) = tokio::join!(
            deploy(&app, admin(), "[x]\namount=5\nservices=ssh"),
            deploy(&app, admin(), "[y]\namount=5\nservices=ssh")
        );
        assert!(one.is_ok() != two.is_ok(), "{}", test.name);
        assert_eq!(list(&app).await.len(), 6, "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn only_administrators_change_and_everyone_reads() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let _sensor = attach(&app, Uuid::now_v7(), "local", runs).await;
        deploy(&app, admin(), "[a]\nservices=ssh").await.unwrap();
        for role in [Role::Viewer, Role::RedTech, Role::BlueTech, Role::RedLead, Role::BlueLead, Role::Sensor] {
            let who = || ctx(role, "x");
            assert_eq!(deploy(&app, who(), "nonsense").await.unwrap_err().code(), Code::Forbidden);
            assert_eq!(mutate(&app, who(), "a").await.unwrap_err().code(), Code::Forbidden);
            assert_eq!(set_interval(&app, who(), "a", Some("x")).await.unwrap_err().code(), Code::Forbidden);
            assert_eq!(delete(&app, who(), "a").await.unwrap_err().code(), Code::Forbidden);
            let reads = client(&app, who()).list_sensors(ListSensorsRequest::default()).await;
            assert_eq!(reads.is_ok(), role != Role::Sensor, "{role}");
            let reads = client(&app, who()).list_archetypes(ListArchetypesRequest {}).await;
            assert_eq!(reads.is_ok(), role != Role::Sensor, "{role}");
        }
        // And only sensors attach.
        for who in [admin(), ctx(Role::Service, "x"), ctx(Role::Viewer, "x")] {
            let stream = tokio_stream::once(super::sensor::hello(Uuid::now_v7(), "no"));
            let failure = super::sensor::client(&app, who).attach(stream).await.unwrap_err();
            assert_eq!(Failure::from(failure).code(), Code::Forbidden);
        }
        assert_eq!(list(&app).await.len(), 1);
        test.close().await;
    }
}

#[tokio::test]
async fn a_mutation_swaps_services_and_is_taken_back_when_it_fails() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let sensor = attach(&app, Uuid::now_v7(), "local", |_, service| match service.name.as_str() {
            "snmp" | "postgres" | "mysql" | "smtp" | "redis" | "https" | "ftp" => Err("not today"),
            _ => Ok(()),
        })
        .await;
        deploy(&app, admin(), "[a]\nservices=ssh,http\narchetype=linux-server").await.unwrap();
        let before = get(&app, "a").await.unwrap();
        let failure = mutate(&app, admin(), "a").await.unwrap_err();
        assert_eq!(failure.code(), Code::Internal);
        assert!(failure.message().contains("not today"), "{}", failure.message());
        let after = status(&app, "a", "running").await;
        assert_eq!((services(&after), after.last_mutated), (services(&before), None));
        let id = sensor.id;
        sensor.leave(&app).await;

        let sensor = attach(&app, id, "local", runs).await;
        status(&app, "a", "running").await;
        let version = get(&app, "a").await.unwrap().version;
        let mutated = mutate(&app, admin(), "a").await.unwrap();
        assert_eq!((mutated.status.as_str(), mutated.version, mutated.services.len()), ("running", version + 1, 2));
        assert!(services(&mutated).iter().all(|s| !services(&before).contains(s)), "{mutated:?}");
        assert!(mutated.last_mutated.is_some() && mutated.mac == before.mac && mutated.hostname == before.hostname);
        sensor
            .until(|hosts| hosts.deckies[0].services.iter().all(|s| services(&mutated).contains(&s.name.as_str())))
            .await;
        assert_eq!(mutate(&app, admin(), "b").await.unwrap_err().code(), Code::NotFound);
        let stale = admin().under(Conditions { if_match: Some(IfMatch::Versions(vec![1])), idempotency_key: None });
        assert_eq!(mutate(&app, stale, "a").await.unwrap_err().code(), Code::PreconditionFailed);

        let records = audited(&test.db).await;
        let last: Value = serde_json::from_str(&records.last().unwrap().details_json).unwrap();
        assert_eq!(last["before"]["services"], json!(["ssh", "http"]), "{}", test.name);
        assert_eq!(last["after"]["services"], json!(services(&mutated)), "{}", test.name);
        assert_eq!(changes(&test.db).await.len(), 3);
        test.close().await;
    }
}

#[tokio::test]
async fn the_scheduler_mutates_on_time_and_once() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let sensor = attach(&app, Uuid::now_v7(), "local", runs).await;
        deploy(&app, admin(), "[own]\nservices=ssh\nmutate_interval=10\n[global]\nservices=ssh").await.unwrap();
        let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
        let start = now();
        let look = app.look_after(first, start).await.unwrap();
        assert!(look.leads && look.mutated == 0 && look.next.is_some_and(|next| next > start));
        // Another process does nothing while the first one is there.
        assert!(!app.look_after(second, start).await.unwrap().leads);
        // The fleet's own interval is half an hour.
        for (minutes, mutated) in [(9, vec![]), (11, vec!["own"]), (22, vec!["own"]), (31, vec!["global"])] {
            let at = start + TimeDelta::minutes(minutes);
            let seen = changes(&test.db).await.len();
            assert_eq!(app.look_after(first, at).await.unwrap().mutated, mutated.len(), "{minutes}");
            assert_eq!(app.look_after(first, at).await.unwrap().mutated, 0, "{minutes}");
            let news: Vec<_> =
                changes(&test.db).await.split_off(seen).into_iter().flat_map(|(_, names)| names).collect();
            assert_eq!(news, mutated, "{minutes}");
        }
        // What was missed is one mutation; the lease is over, so another process does it.
        let much_later = start + TimeDelta::hours(5);
        let before = get(&app, "own").await.unwrap();
        let look = app.look_after(second, much_later).await.unwrap();
        assert_eq!((look.leads, look.mutated), (true, 2), "{}", test.name);
        assert!(!app.look_after(first, much_later).await.unwrap().leads);
        assert_ne!(services(&get(&app, "own").await.unwrap()), services(&before));
        let own = set_interval(&app, admin(), "own", Some("1Y")).await.unwrap();
        assert_eq!(own.mutate_interval, "1Y");
        let at = much_later + TimeDelta::hours(5);
        assert_eq!(app.look_after(second, at).await.unwrap().mutated, 1, "{}", test.name);
        set_interval(&app, admin(), "own", None).await.unwrap();
        assert_eq!(app.look_after(second, at).await.unwrap().mutated, 1, "{}", test.name);
        for bad in ["", "5h", "0m", "101y"] {
            let failure = set_interval(&app, admin(), "own", Some(bad)).await.unwrap_err();
            assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, "mutate_interval"));
        }
        assert_eq!(set_interval(&app, admin(), "none", None).await.unwrap_err().code(), Code::NotFound);
        let own = get(&app, "own").await.unwrap();
        sensor
            .until(|hosts| {
                let hosts = hosts.deckies.iter().find(|decky| decky.name == "own").unwrap();
                hosts.services.iter().map(|s| &s.name).eq(own.services.iter().map(|s| &s.name))
            })
            .await;
        test.close().await;
    }
}

#[tokio::test]
async fn a_deletion_ends_what_the_decky_serves() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let sensor = attach(&app, Uuid::now_v7(), "local", runs).await;
        deploy(&app, admin(), "[a]\nservices=ssh\n[b]\nservices=ssh").await.unwrap();
        delete(&app, admin(), "a").await.unwrap();
        let hosts = sensor.until(|hosts| hosts.deckies.len() == 1).await;
        assert_eq!(hosts.deckies[0].name, "b");
        assert_eq!(get(&app, "a").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(delete(&app, admin(), "a").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(changes(&test.db).await.last().unwrap(), &("deleted".to_owned(), vec!["a".to_owned()]));
        // Its name and address are free.
        let again = deploy(&app, admin(), "[a]\nservices=ssh").await.unwrap();
        assert_eq!(again[0].ip, "127.0.0.2", "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn sensors_come_and_go() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let sensor = attach(&app, Uuid::now_v7(), "local", runs).await;
        let old = sensor.id;
        deploy(&app, admin(), "[a]\nservices=ssh").await.unwrap();
        // Nothing is said of a decky by anyone but its own sensor.
        let other = attach(&app, Uuid::now_v7(), "other", runs).await;
        assert!(other.hosts().deckies.is_empty());
        // The same sensor comes back before its old stream is known to be gone.
        let twin = attach(&app, old, "local", runs).await;
        assert_eq!(Failure::from(sensor.ended().await.unwrap_err()).code(), Code::Conflict, "{}", test.name);
        status(&app, "a", "running").await;
        twin.leave(&app).await;
        status(&app, "a", "unreachable").await;
        // One that was set up anew has its name and another id.
        let successor = attach(&app, Uuid::now_v7(), "local", runs).await;
        successor.until(|hosts| hosts.deckies.len() == 1).await;
        status(&app, "a", "running").await;
        let answer = client(&app, admin()).list_sensors(ListSensorsRequest::default()).await.unwrap().into_inner();
        let known: Vec<_> = answer.sensors.iter().map(|s| (s.name.as_str(), s.attached, s.deckies)).collect();
        assert_eq!((known, answer.total_size), (vec![("local", true, 1), ("other", true, 0)], 2), "{}", test.name);
        // A deployment can say whose it is.
        deploy(&app, admin(), "[general]\nsensor=other\n[b]\nservices=ssh").await.unwrap();
        assert_eq!(other.hosts().deckies.len(), 1);
        // A sensor that is silent has left.
        let late = now() + TimeDelta::minutes(1);
        assert_eq!(store::fleet::counts(&test.db, late).await.unwrap(), (2, 0), "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn replicas_share_the_fleet() {
    for test in stores().await {
        let (one, _files) = app(&test.db);
        let (two, _more) = app(&test.db);
        let sensor = attach(&two, Uuid::now_v7(), "local", runs).await;
        let deckies = deploy(&one, admin(), "[a]\nservices=ssh,http").await.unwrap();
        assert_eq!(deckies[0].status, "running", "{}", test.name);
        delete(&one, admin(), "a").await.unwrap();
        sensor.until(|hosts| hosts.deckies.is_empty()).await;
        test.close().await;
    }
}

#[tokio::test]
async fn a_deployment_whose_process_ended_is_taken_back() {
    for test in stores().await {
        let (app, _files) = app_with(&test.db, Config { deploy_timeout: Duration::from_secs(1), ..config() });
        let (say, said) = tokio::sync::mpsc::channel(4);
        say.send(super::sensor::hello(Uuid::now_v7(), "mute")).await.unwrap();
        let mut mute = super::sensor::client(&app, ctx(Role::Sensor, "s"));
        let _stream = mute.attach(tokio_stream::wrappers::ReceiverStream::new(said)).await.unwrap();
        // As its process leaves it: begun, and never ended.
        let (deploying, task) = (Arc::clone(&app), tokio::runtime::Handle::current());
        let begun = task.spawn(async move { deploy(&deploying, admin(), "[a]\nservices=ssh").await });
        for _ in 0..500 {
            if !ids(&test.db).await.is_empty() {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(get(&app, "a").await.unwrap().status, "pending");
        assert_eq!(mutate(&app, admin(), "a").await.unwrap_err().code(), Code::Conflict);
        let process = Uuid::now_v7();
        app.look_after(process, now()).await.unwrap();
        assert_eq!(ids(&test.db).await.len(), 1);
        app.look_after(process, now() + TimeDelta::minutes(3)).await.unwrap();
        assert_eq!(ids(&test.db).await, Vec::<Uuid>::new(), "{}", test.name);
        assert!(begun.await.unwrap().is_err());
        test.close().await;
    }
}

#[tokio::test]
async fn health_names_what_is_not_well() {
    for test in stores().await {
        let (app, _files) = app(&test.db);
        let health = async || {
            let nobody = OpCtx::new(None, None, aegis_auth::Origin::default(), None);
            let answer = client(&app, nobody).get_health(GetHealthRequest {}).await.unwrap().into_inner();
            let told = answer.components.into_iter().filter(|c| !c.ok).map(|c| (c.name, c.detail));
            told.collect::<Vec<_>>()
        };
        assert_eq!(health().await, [], "{}", test.name);
        let sensor = attach(&app, Uuid::now_v7(), "local", runs).await;
        deploy(&app, admin(), "[a]\nservices=ssh").await.unwrap();
        assert_eq!(health().await, []);
        sensor.leave(&app).await;
        let names: Vec<_> = health().await.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["docker", "collector_worker", "sniffer_worker"], "{}", test.name);
        app.parts.ingestion.failed("events cannot be stored");
        assert!(health().await.contains(&("ingestion_worker".to_owned(), "events cannot be stored".to_owned())));
        app.parts.ingestion.ok();
        assert_eq!(health().await.len(), 3);
        test.close().await;
    }
}
