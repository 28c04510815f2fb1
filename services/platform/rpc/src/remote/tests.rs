use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::stream::{self, BoxStream};
use tokio::runtime::Runtime;
use tonic::{
    Request,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};

use super::*;

/// A process with a method to call, which is the health question about something that has a name.
struct Process {
    /// Of its own, so that it goes with everything that it has open, as a process does that is killed.
    runtime: Option<Runtime>,
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

struct Answers {
    calls: Arc<AtomicUsize>,
    serves: bool,
    pause: Duration,
}

#[tonic::async_trait]
impl Health for Answers {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let asked = !request.get_ref().service.is_empty();
        tokio::time::sleep(self.pause).await;
        self.calls.fetch_add(usize::from(asked), Ordering::SeqCst);
        let status = if asked || self.serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let first = HealthCheckResponse { status: ServingStatus::Serving.into() };
        let answers = futures::StreamExt::chain(stream::iter([Ok(first)]), stream::pending());
        Ok(tonic::Response::new(Box::pin(answers)))
    }
}

impl Process {
    fn start(address: &str, serves: bool) -> Process {
        Process::slow(address, serves, Duration::ZERO)
    }

    /// It takes its time for each answer.
    fn slow(address: &str, serves: bool, pause: Duration) -> Process {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let incoming = {
            let _entered = runtime.enter();
            TcpIncoming::bind(address.parse().unwrap()).unwrap()
        };
        let address = incoming.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let answers = Answers { calls: Arc::clone(&calls), serves, pause };
        runtime.spawn(Server::builder().add_service(HealthServer::new(answers)).serve_with_incoming(incoming));
        Process { runtime: Some(runtime), address, calls }
    }

    fn new() -> Process {
        Process::start("127.0.0.1:0", true)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn client(urls: &[String]) -> HealthClient<RpcService> {
    HealthClient::new(remote(&urls.join(",")).unwrap())
}

/// A method that changes something, as far as the name says.
async fn ask(client: &HealthClient<RpcService>) -> Result<(), Status> {
    let question = HealthCheckRequest { service: "anything".into() };
    client.clone().check(question).await.map(drop)
}

#[tokio::test]
async fn a_service_that_ends_while_it_answers_is_unavailable() {
    let mut process = Process::new();
    let mut client = client(&[process.url()]);
    let mut answer = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(answer.message().await.unwrap().is_some());
    process.kill();
    let status = answer.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn calls_are_spread_and_a_dead_process_is_not_missed() {
    let (one, mut other) = (Process::new(), Process::new());
    let client = client(&[one.url(), other.url()]);
    for _ in 0..40 {
        ask(&client).await.unwrap();
    }
    assert!(one.calls() > 5 && other.calls() > 5, "{} and {}", one.calls(), other.calls());

    let address = other.address.to_string();
    other.kill();
    // What was on its way is over; a new call never leaves for it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..40 {
        ask(&client).await.unwrap();
    }
    let back = Process::start(&address, true);
    for _ in 0..500 {
        ask(&client).await.unwrap();
        if back.calls() > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the one that is back is never asked");
}

#[tokio::test]
async fn who_does_not_serve_or_does_not_answer_is_left_out() {
    // It takes connections and says nothing, as a process does that is frozen.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute_url = format!("http://{}", mute.local_addr().unwrap());
    let (starting, good) = (Process::start("127.0.0.1:0", false), Process::new());
    let gone = "http://127.0.0.1:1".to_owned();
    let client = client(&[mute_url, starting.url(), good.url(), gone]);
    for _ in 0..20 {
        ask(&client).await.unwrap();
    }
    assert_eq!((starting.calls(), good.calls()), (0, 20));
}

#[tokio::test]
async fn who_was_lost_and_is_alone_is_used_again() {
    let process = Process::new();
    let pool = Arc::new(Pool::new(parse(&process.url()).unwrap(), ClientTls::default()).unwrap());
    pool.peers()[0].set(pool::Health::Lost);
    let watching = tokio::spawn(watch::watch(Arc::downgrade(&pool)));
    for _ in 0..500 {
        if pool.peers()[0].health() == pool::Health::Serving {
            watching.abort();
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody asks it");
}

#[tokio::test]
async fn a_passed_deadline_is_told_as_such() {
    let slow = Process::slow("127.0.0.1:0", true, Duration::from_secs(1));
    let mut request = Request::new(HealthCheckRequest { service: "anything".into() });
    request.set_timeout(Duration::from_millis(100));
    let status = client(&[slow.url()]).check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn all_are_asked_where_none_serves() {
    let processes = [Process::start("127.0.0.1:0", false), Process::start("127.0.0.1:0", false)];
    let client = client(&[processes[0].url(), processes[1].url()]);
    for _ in 0..40 {
        ask(&client).await.unwrap();
    }
    assert!(processes.iter().all(|process| process.calls() > 0));
}

#[tokio::test]
async fn a_name_leads_to_its_process() {
    let process = Process::new();
    let client = client(&[format!("http://localhost:{}", process.address.port())]);
    ask(&client).await.unwrap();
    assert_eq!(process.calls(), 1);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    for urls in
        [vec!["http://127.0.0.1:1"], vec!["http://127.0.0.1:1", "http://127.0.0.1:2"], vec!["http://no.invalid:1"]]
    {
        let urls: Vec<String> = urls.into_iter().map(str::to_owned).collect();
        assert_eq!(ask(&client(&urls)).await.unwrap_err().code(), Code::Unavailable, "{urls:?}");
    }
}
