//! The gRPC services: messages in and out.

mod api_key;
mod audit;
mod identity;
mod notification;

use std::{future::Future, sync::Arc};

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::identity::v1::{
    api_key_service_server::ApiKeyServiceServer, audit_service_server::AuditServiceServer,
    identity_service_server::IdentityServiceServer, notification_service_server::NotificationServiceServer,
};
use aegis_rpc::MAX_MESSAGE;
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use tonic::{Response, Status, service::Routes};

use crate::{app::App, error::Error};

/// Methods that need no token.
pub const PUBLIC_METHODS: &[&str] = &[
    "/aegis.identity.v1.IdentityService/Login",
    "/aegis.identity.v1.IdentityService/GetJwks",
    "/aegis.identity.v1.IdentityService/ListRevocations",
    "/aegis.identity.v1.IdentityService/IssueServiceToken",
    "/aegis.identity.v1.IdentityService/RedeemStreamTicket",
    "/aegis.identity.v1.IdentityService/ResolveApiKey",
];

/// The use cases as gRPC services.
#[derive(Clone)]
struct Rpc(Arc<App>);

pub(crate) fn routes(app: Arc<App>) -> Routes {
    let rpc = Rpc(app);
    let limit = MAX_MESSAGE;
    Routes::new(
        IdentityServiceServer::new(rpc.clone()).max_decoding_message_size(limit).max_encoding_message_size(limit),
    )
    .add_service(
        NotificationServiceServer::new(rpc.clone()).max_decoding_message_size(limit).max_encoding_message_size(limit),
    )
    .add_service(
        ApiKeyServiceServer::new(rpc.clone()).max_decoding_message_size(limit).max_encoding_message_size(limit),
    )
    .add_service(AuditServiceServer::new(rpc).max_decoding_message_size(limit).max_encoding_message_size(limit))
}

impl Rpc {
    /// The answer of a use case as that of a method; a refusal goes into the audit trail.
    async fn answer<T, M>(
        &self,
        ctx: &OpCtx,
        method: &str,
        result: impl Future<Output = Result<T, Error>>,
        message: impl FnOnce(T) -> M,
    ) -> Result<Response<M>, Status> {
        let result = result.await;
        let value = self.0.outbox.audited(&self.0.db, ctx, method, result).await?;
        Ok(Response::new(message(value)))
    }
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}

fn date(field: &str, timestamp: Option<Timestamp>) -> Result<Option<DateTime<Utc>>, Failure> {
    let Some(t) = timestamp else { return Ok(None) };
    let at = u32::try_from(t.nanos).ok().and_then(|nanos| DateTime::from_timestamp(t.seconds, nanos));
    // Both databases know the years that people write.
    at.filter(|at| (0..=9999).contains(&chrono::Datelike::year(at)))
        .map(Some)
        .ok_or_else(|| Failure::invalid(field, "must be a date of the years 0 to 9999"))
}
