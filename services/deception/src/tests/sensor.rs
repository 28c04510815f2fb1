//! A sensor as deception sees it: it attaches through the real service and says of each service what the test wants.

use std::sync::{Arc, Mutex};

use aegis_auth::{OpCtx, Role};
use aegis_proto::deception::v1::{
    AssignedDecky, AssignedService, Assignment, AttachRequest, HostedService, SensorHello, SensorStatus,
    attach_request::Item, sensor_control_service_client::SensorControlServiceClient,
    sensor_control_service_server::SensorControlServiceServer,
};
use aegis_rpc::RpcService;
use aegis_testkit::ctx;
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, body::Body};
use tower::ServiceExt;
use uuid::Uuid;

use crate::{app::App, domain::archetypes::SERVICES, rpc::Rpc};

/// A sensor that is attached until it is dropped.
pub(crate) struct Sensor {
    pub(crate) id: Uuid,
    heard: Arc<Mutex<Vec<Assignment>>>,
    task: JoinHandle<Result<(), Status>>,
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn client(app: &Arc<App>, ctx: OpCtx) -> SensorControlServiceClient<RpcService> {
    let server = SensorControlServiceServer::new(Rpc::new(Arc::clone(app)));
    SensorControlServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(ctx.clone());
        request
    })))
}

fn says(item: Item) -> AttachRequest {
    AttachRequest { item: Some(item) }
}

pub(crate) fn hello(id: Uuid, name: &str) -> AttachRequest {
    says(Item::Hello(SensorHello {
        sensor_id: id.to_string(),
        name: name.to_owned(),
        version: "0.1.0".to_owned(),
        services: SERVICES.map(|(service, _)| service.to_owned()).to_vec(),
    }))
}

/// What a sensor says of a service: that it runs, or why not.
pub(crate) type Answers = fn(&AssignedDecky, &AssignedService) -> Result<(), &'static str>;

pub(crate) fn runs(_: &AssignedDecky, _: &AssignedService) -> Result<(), &'static str> {
    Ok(())
}

fn status(assignment: &Assignment, answers: Answers) -> AttachRequest {
    let mut services = Vec::new();
    for decky in &assignment.deckies {
        for service in &decky.services {
            let (status, detail) = match answers(decky, service) {
                Ok(()) => ("running", ""),
                Err(why) => ("failed", why),
            };
            services.push(HostedService {
                decky_id: decky.id.clone(),
                service: service.name.clone(),
                status: status.to_owned(),
                address: format!("{}:{}", decky.ip, service.port),
                detail: detail.to_owned(),
            });
        }
    }
    says(Item::Status(SensorStatus { generation: assignment.generation, services, buffered: 0, open_sessions: 0 }))
}

/// Attaches a sensor to `app`.
pub(crate) async fn attach(app: &Arc<App>, id: Uuid, name: &str, answers: Answers) -> Sensor {
    let (say, said) = mpsc::channel(16);
    say.send(hello(id, name)).await.unwrap();
    let mut client = client(app, ctx(Role::Sensor, "sensor"));
    let mut stream = client.attach(ReceiverStream::new(said)).await.unwrap().into_inner();
    let heard: Arc<Mutex<Vec<Assignment>>> = Arc::default();
    // The first assignment comes with the attachment.
    let first = stream.message().await.unwrap().unwrap().assignment.unwrap();
    heard.lock().unwrap().push(first.clone());
    let hearing = Arc::clone(&heard);
    let task = tokio::spawn(async move {
        let mut assignment = first;
        loop {
            if say.send(status(&assignment, answers)).await.is_err() {
                return Ok(());
            }
            let Some(next) = stream.message().await? else { return Ok(()) };
            assignment = next.assignment.unwrap();
            hearing.lock().unwrap().push(assignment.clone());
        }
    });
    Sensor { id, heard, task }
}

impl Sensor {
    /// What it is to host now.
    pub(crate) fn hosts(&self) -> Assignment {
        self.heard.lock().unwrap().last().cloned().unwrap()
    }

    /// Waits until what it is to host is so.
    pub(crate) async fn until(&self, what: impl Fn(&Assignment) -> bool) -> Assignment {
        for _ in 0..500 {
            let hosts = self.hosts();
            if what(&hosts) {
                return hosts;
            }
            sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("it never comes to that: {:?}", self.hosts());
    }

    /// How its stream ended.
    pub(crate) async fn ended(mut self) -> Result<(), Status> {
        (&mut self.task).await.unwrap()
    }

    /// Leaves, and waits until that is known.
    pub(crate) async fn leave(self, app: &Arc<App>) {
        let id = self.id;
        drop(self);
        for _ in 0..500 {
            let (sensors, _) = crate::store::sensors::list(&app.db, 100, 0, aegis_db::now()).await.unwrap();
            if sensors.iter().all(|sensor| sensor.id != id || !sensor.attached) {
                return;
            }
            sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the sensor stays");
    }
}
