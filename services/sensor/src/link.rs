//! The one connection that goes out: to the deception service.

use std::time::Duration;

use aegis_proto::deception::v1::{
    intake_service_client::IntakeServiceClient, sensor_control_service_client::SensorControlServiceClient,
};
use aegis_rpc::{MAX_MESSAGE, RpcService};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, metadata::MetadataValue};

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// How deception is reached. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    service: RpcService,
    token: watch::Receiver<Option<SecretString>>,
}

impl Link {
    pub(crate) fn new(service: RpcService, token: watch::Receiver<Option<SecretString>>) -> Self {
        Link { service, token }
    }

    pub(crate) fn control(&self) -> SensorControlServiceClient<RpcService> {
        SensorControlServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn intake(&self) -> IntakeServiceClient<RpcService> {
        IntakeServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// A request with the token of now.
    pub(crate) fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        let token = self.token.borrow().clone();
        if let Some(token) = token {
            let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))
                .map_err(|_| Status::unauthenticated("the token has characters that no token has"))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Pauses between tries: longer with each failure, each a little different, the reason logged when it is another.
pub(crate) struct Backoff {
    what: &'static str,
    pause: Duration,
    last: Option<Code>,
}

impl Backoff {
    pub(crate) fn new(what: &'static str) -> Self {
        Backoff { what, pause: PAUSES.0, last: None }
    }

    /// It went well.
    pub(crate) fn good(&mut self) {
        if self.last.take().is_some() {
            tracing::info!("{}: goes on", self.what);
        }
        self.pause = PAUSES.0;
    }

    /// It did not; waits.
    pub(crate) async fn failed(&mut self, status: &Status, stop: &CancellationToken) {
        if self.last != Some(status.code()) {
            tracing::warn!(code = ?status.code(), reason = status.message(), "{}: trying again", self.what);
            self.last = Some(status.code());
        }
        let pause = self.pause.mul_f64(rand::random_range(0.7..1.3));
        self.pause = (self.pause * 2).min(PAUSES.1);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}
