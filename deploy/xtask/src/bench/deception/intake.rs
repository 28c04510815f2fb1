//! A sensor's side of intake: batches over gRPC, several on their way, each acknowledged when it is stored.

use std::time::Instant;

use aegis_proto::deception::v1::{self as proto, HandInRequest, intake_service_client::IntakeServiceClient};
use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, metadata::MetadataValue, transport::Endpoint};

use super::{
    super::client::Client,
    sample::{self, Event},
};

/// Most events of a batch.
pub const BATCH: usize = 5_000;
/// Batches that are on the way, as the product's own sensors have them.
const IN_FLIGHT: u64 = 4;

/// The text of an API key that is good for handing events in, got as an administrator gets one.
pub async fn key(admin: &Client) -> Result<String> {
    let mut client = admin.another().await?;
    let me = client.get("/api/v1/auth/me").await?;
    let path = format!("/api/v1/users/{}/api-keys", me["id"].as_str().context("nobody is signed in")?);
    let made = client.send("POST", &path, Some(&json!({ "name": "bench", "role": "sensor" })), 201).await?;
    Ok(made["key"].as_str().context("an API key has no text")?.to_owned())
}

/// A sensor that hands events in.
pub struct Sensor {
    id: String,
    requests: mpsc::Sender<HandInRequest>,
    acknowledged: watch::Receiver<u64>,
    answers: JoinHandle<Result<()>>,
    /// Sequence number of the next event.
    next: u64,
    /// The last ones of the batches that are not acknowledged yet.
    on_the_way: std::collections::VecDeque<u64>,
}

impl Sensor {
    /// Opens its stream; the number tells sensors apart.
    pub async fn attach(address: &str, key: &str, number: u64) -> Result<Sensor> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .tcp_nodelay(true)
            .connect()
            .await?;
        let (requests, messages) = mpsc::channel(1);
        let mut request = Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {key}"))?);
        let mut answers = IntakeServiceClient::new(channel).hand_in(request).await?.into_inner();
        let (seen, acknowledged) = watch::channel(0);
        let answers = tokio::spawn(async move {
            while let Some(answer) = answers.message().await? {
                seen.send_replace(answer.acknowledged);
            }
            anyhow::Ok(())
        });
        let random = sample::mix(number ^ u64::from(std::process::id()));
        let id = format!("{:08x}-bebc-4000-8000-{:012x}", random as u32, (random >> 16) & 0xffff_ffff_ffff);
        Ok(Sensor { id, requests, acknowledged, answers, next: 1, on_the_way: std::collections::VecDeque::new() })
    }

    /// Waits until another batch may go.
    pub async fn ready(&mut self) -> Result<()> {
        self.until(IN_FLIGHT - 1).await
    }

    /// Hands a batch in, which may have to wait for those before it.
    pub async fn hand_in(&mut self, events: Vec<Event>) -> Result<()> {
        self.ready().await?;
        let (first_sequence, count) = (self.next, events.len() as u64);
        self.next += count;
        self.on_the_way.push_back(self.next - 1);
        let events = events.into_iter().map(message).collect();
        let request = HandInRequest { sensor_id: self.id.clone(), first_sequence, events };
        if self.requests.send(request).await.is_err() {
            return self.failed().await;
        }
        Ok(())
    }

    /// Waits until everything is acknowledged; when that was.
    pub async fn settle(&mut self) -> Result<Instant> {
        self.until(0).await?;
        Ok(Instant::now())
    }

    async fn until(&mut self, most: u64) -> Result<()> {
        loop {
            let upto = *self.acknowledged.borrow_and_update();
            self.on_the_way.retain(|last| *last > upto);
            if self.on_the_way.len() as u64 <= most {
                return Ok(());
            }
            if self.acknowledged.changed().await.is_err() {
                return self.failed().await;
            }
        }
    }

    /// Why the stream ended.
    async fn failed(&mut self) -> Result<()> {
        (&mut self.answers).await?.context("the product ended the stream of events")?;
        bail!("the product ended the stream of events")
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

fn message(event: Event) -> proto::Event {
    let timestamp = prost_types::Timestamp {
        seconds: event.at.div_euclid(1_000_000),
        nanos: i32::try_from(event.at.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    };
    proto::Event {
        id: event.id.to_vec(),
        timestamp: Some(timestamp),
        decky: event.decky,
        service: event.service.to_owned(),
        event_type: event.event_type.to_owned(),
        attacker_ip: event.attacker_ip,
        attacker_port: u32::from(event.attacker_port),
        session_id: event.session_id,
        msg: event.msg,
        fields_json: event.fields,
    }
}
