//! The docker runtime against a socket that speaks the engine's API, with sensors that attach as those in containers do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use aegis_error::Code;
use axum::{
    Json, Router,
    extract::{Path as At, Query, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::*;
use crate::{
    Config,
    app::App,
    tests::{admin, app_with, audited, fleet, sensor, stores},
};

/// What the engine holds, and what it is asked to refuse.
#[derive(Default)]
struct Engine {
    networks: BTreeMap<String, Value>,
    /// By name: what it was made of, and whether it runs.
    containers: BTreeMap<String, (Value, bool)>,
    connected: Vec<(String, String)>,
    /// Starting this one fails.
    refuse: Option<String>,
    /// Attached by containers that were started.
    sensors: Vec<(String, sensor::Sensor)>,
    app: Option<Arc<App>>,
}

type Shared = Arc<Mutex<Engine>>;

fn failed(status: u16, message: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "message": message }))).into_response()
}

/// What an engine answers, as far as it is asked here.
fn engine(shared: Shared) -> Router {
    Router::new()
        .route("/_ping", get(async || "OK"))
        .route("/networks/create", post(create_network))
        .route("/networks/{name}", get(network))
        .route("/networks/{name}/connect", post(connect))
        .route("/containers/json", get(containers))
        .route("/containers/create", post(create))
        .route("/containers/{name}/start", post(start))
        .route("/containers/{name}", delete(remove))
        .fallback(async |method: Method, uri: Uri| failed(501, &format!("{method} {uri}")))
        .with_state(shared)
}

async fn network(State(engine): State<Shared>, At(name): At<String>) -> Response {
    match engine.lock().unwrap().networks.get(&name) {
        Some(network) => Json(json!({ "Name": name, "Driver": network["Driver"] })).into_response(),
        None => failed(404, "network not found"),
    }
}

async fn create_network(State(engine): State<Shared>, Json(body): Json<Value>) -> Response {
    let name = body["Name"].as_str().unwrap().to_owned();
    engine.lock().unwrap().networks.insert(name, body);
    (StatusCode::CREATED, Json(json!({ "Id": "n", "Warning": "" }))).into_response()
}

async fn connect(State(engine): State<Shared>, At(name): At<String>, Json(body): Json<Value>) -> StatusCode {
    let container = body["Container"].as_str().unwrap().to_owned();
    engine.lock().unwrap().connected.push((name, container));
    StatusCode::OK
}

async fn containers(State(engine): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let filters: Value = serde_json::from_str(&query["filters"]).unwrap();
    let (key, value) = filters["label"][0].as_str().unwrap().split_once('=').unwrap();
    let engine = engine.lock().unwrap();
    let of_fleet = engine.containers.iter().filter(|(_, (body, _))| body["Labels"][key] == value);
    let rows: Vec<_> = of_fleet.map(|(name, (body, _))| json!({ "Names": [name], "Labels": body["Labels"] })).collect();
    Json(rows.into())
}

async fn create(
    State(engine): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
    Json(body): Json<Value>,
) -> Response {
    let mut engine = engine.lock().unwrap();
    if engine.containers.contains_key(&query["name"]) {
        return failed(409, "the name is in use");
    }
    engine.containers.insert(query["name"].clone(), (body, false));
    (StatusCode::CREATED, Json(json!({ "Id": "c", "Warnings": [] }))).into_response()
}

async fn start(State(engine): State<Shared>, At(name): At<String>) -> Response {
    let (app, env) = {
        let mut engine = engine.lock().unwrap();
        let refused = engine.refuse.clone();
        let Some((body, runs)) = engine.containers.get_mut(&name) else { return failed(404, "no such container") };
        if refused.is_some_and(|refused| body["Hostname"] != "" && body.to_string().contains(&refused)) {
            return failed(500, "driver failed:\nparent interface is gone");
        }
        *runs = true;
        let body = body.clone();
        (engine.app.clone().unwrap(), body["Env"].clone())
    };
    // What runs in the container.
    let env: BTreeMap<&str, &str> =
        env.as_array().unwrap().iter().map(|pair| pair.as_str().unwrap().split_once('=').unwrap()).collect();
    assert_eq!(env["AEGIS_SENSOR_TOKEN"], "key-of-a-sensor");
    assert_eq!(env["AEGIS_DECEPTION_URL"], "http://172.30.0.1:8000");
    let sensor = sensor::attach(&app, Uuid::now_v7(), env["AEGIS_SENSOR_NAME"], sensor::runs).await;
    engine.lock().unwrap().sensors.push((name, sensor));
    StatusCode::NO_CONTENT.into_response()
}

async fn remove(State(engine): State<Shared>, At(name): At<String>) -> Response {
    let mut engine = engine.lock().unwrap();
    match engine.containers.remove(&name) {
        Some(_) => {
            engine.sensors.retain(|(of, _)| *of != name);
            StatusCode::NO_CONTENT.into_response()
        }
        None => failed(404, "no such container"),
    }
}

fn serve(path: PathBuf) -> (Shared, tokio::task::JoinHandle<()>) {
    let shared = Shared::default();
    let listener = UnixListener::bind(path).unwrap();
    let router = engine(Arc::clone(&shared));
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (shared, task)
}

fn config(socket: &Path) -> Config {
    let docker = DockerConfig {
        socket: socket.to_str().unwrap().to_owned(),
        image: "aegis:test".to_owned(),
        control_url: "http://172.30.0.1:8000".to_owned(),
        control_network: "aegis-control".to_owned(),
        token: "key-of-a-sensor".to_owned().into(),
    };
    Config { docker: Some(docker), deploy_timeout: Duration::from_secs(10), ..Config::default() }
}

const NET: &str = "[general]\nnet=192.0.2.0/24\ngw=192.0.2.1\ninterface=eth0\n";

#[tokio::test]
async fn each_decky_is_a_container_with_its_own_address() {
    for test in stores().await {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let (shared, task) = serve(socket.clone());
        let (app, _files) = app_with(&test.db, config(&socket));
        shared.lock().unwrap().app = Some(Arc::clone(&app));
        let ini = format!("{NET}[web]\nservices=ssh,http\nnmap_os=linux\n[dc]\narchetype=domain-controller\n");
        let deckies = fleet::deploy(&app, admin(), &ini).await.unwrap();
        assert!(deckies.iter().all(|d| d.status == "running" && d.runtime == "docker"), "{deckies:?}");
        let web = deckies.iter().find(|d| d.name == "web").unwrap();
        assert_eq!(web.services[0].address, format!("{}:22", web.ip));
        {
            let engine = shared.lock().unwrap();
            let control = &engine.networks["aegis-control"];
            assert_eq!((&control["Driver"], &control["Internal"]), (&json!("bridge"), &json!(true)));
            let (name, macvlan) = engine.networks.iter().find(|(_, body)| body["Driver"] == "macvlan").unwrap();
            assert_eq!(macvlan["Options"]["parent"], "eth0");
            assert_eq!(macvlan["IPAM"]["Config"][0], json!({ "Subnet": "192.0.2.0/24", "Gateway": "192.0.2.1" }));
            assert_eq!((engine.networks.len(), engine.containers.len(), engine.connected.len()), (2, 2, 2));
            for decky in &deckies {
                let (body, runs) = &engine.containers[&format!("aegis-{}", decky.id)];
                assert!(*runs);
                assert_eq!((body["Image"].as_str(), &body["Hostname"]), (Some("aegis:test"), &json!(decky.hostname)));
                let endpoint = &body["NetworkingConfig"]["EndpointsConfig"][name];
                assert_eq!(endpoint["IPAMConfig"]["IPv4Address"], decky.ip.as_str());
                assert_eq!(endpoint["MacAddress"], decky.mac.as_str());
                let host = &body["HostConfig"];
                assert_eq!((&host["CapDrop"], &host["ReadonlyRootfs"]), (&json!(["ALL"]), &json!(true)));
                let ttl = if decky.name == "dc" { "128" } else { "64" };
                assert_eq!(host["Sysctls"]["net.ipv4.ip_default_ttl"], ttl);
            }
        }
        // A container that was removed by hand comes back, one that nobody needs goes.
        let gone = format!("aegis-{}", web.id);
        let fleet_label = {
            let mut engine = shared.lock().unwrap();
            let (body, _) = engine.containers.remove(&gone).unwrap();
            engine.sensors.retain(|(of, _)| *of != gone);
            let mut orphan = body.clone();
            orphan["Labels"][DECKY] = Uuid::now_v7().to_string().into();
            let orphan_name = format!("aegis-{}", orphan["Labels"][DECKY].as_str().unwrap());
            engine.containers.insert(orphan_name, (orphan, true));
            let mut other = body.clone();
            other["Labels"] = json!({ FLEET: Uuid::now_v7().to_string(), DECKY: Uuid::now_v7().to_string() });
            engine.containers.insert("of-another-fleet".to_owned(), (other, true));
            body["Labels"][FLEET].clone()
        };
        fleet::status(&app, "web", "unreachable").await;
        app.runtime.sweep().await.unwrap();
        fleet::status(&app, "web", "running").await;
        {
            let engine = shared.lock().unwrap();
            assert!(engine.containers.contains_key(&gone) && engine.containers.contains_key("of-another-fleet"));
            let ours = engine.containers.values().filter(|(body, _)| body["Labels"][FLEET] == fleet_label);
            assert_eq!(ours.count(), 2, "{}", test.name);
        }
        let client = &mut fleet::client(&app, admin());
        client.delete_decky(aegis_proto::deception::v1::DeleteDeckyRequest { name: "web".into() }).await.unwrap();
        assert!(!shared.lock().unwrap().containers.contains_key(&gone));
        app.runtime.look().await.unwrap();
        task.abort();
        test.close().await;
    }
}

#[tokio::test]
async fn what_the_engine_refuses_is_taken_back_and_named() {
    for test in stores().await {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let (app, _files) = app_with(&test.db, config(&socket));
        let ini = format!("{NET}[web]\nservices=ssh\n[bad]\nservices=ssh\n");
        // No engine at all.
        let failure = fleet::deploy(&app, admin(), &ini).await.unwrap_err();
        assert!(failure.message().contains("web (the container engine does not answer)"), "{}", failure.message());
        assert!(app.runtime.look().await.is_err());
        // Without a place there is no network.
        let failure = fleet::deploy(&app, admin(), "[web]\n").await.unwrap_err();
        assert_eq!(failure.code(), Code::Conflict);

        let (shared, task) = serve(socket);
        {
            let mut engine = shared.lock().unwrap();
            engine.app = Some(Arc::clone(&app));
            engine.refuse = Some("container of bad".to_owned());
        }
        let failure = fleet::deploy(&app, admin(), &ini).await.unwrap_err();
        assert_eq!(failure.code(), Code::Internal);
        let told = failure.message();
        assert!(told.contains("bad (the container engine says: driver failed:parent interface is gone)"), "{told}");
        assert_eq!(shared.lock().unwrap().containers.len(), 0, "{}", test.name);
        assert_eq!(fleet::list(&app).await, [], "{}", test.name);
        // The container of web was up for a moment.
        let records = audited(&test.db).await;
        assert!(records.iter().all(|record| record.success == (record.action == "adopt_deckies")), "{records:?}");
        task.abort();
        test.close().await;
    }
}
