//! The gRPC side of analytics.

mod compliance;
mod coverage;
mod operational;
mod score;
mod snapshot;
mod view;

use std::sync::Arc;

use aegis_auth::OpCtx;
use aegis_proto::analytics::v1 as pb;
use chrono::{DateTime, SubsecRound, Utc};
use tonic::{Response, Status};

use crate::{app::App, domain::Counts, error::Error};

/// The server of all of the service's gRPC services.
#[derive(Clone)]
pub(crate) struct Rpc {
    pub(super) app: Arc<App>,
}

impl Rpc {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Rpc { app }
    }

    /// Answers; a refusal goes into the audit trail on the way.
    async fn answer<T>(&self, ctx: &OpCtx, method: &str, result: Result<T, Error>) -> Result<Response<T>, Status> {
        self.app.outbox.audited(&self.app.db, ctx, method, result).await.map(Response::new)
    }
}

fn coverage(counts: &Counts) -> pb::Coverage {
    pb::Coverage {
        total: counts.total,
        validated: counts.validated,
        partial: counts.partial,
        not_covered: counts.not_covered,
        in_progress: counts.in_progress,
        not_evaluated: counts.not_evaluated,
    }
}

pub(crate) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}

/// In the microseconds that databases keep; absent where it is no moment.
pub(crate) fn chrono_of(at: prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?).map(|at| at.trunc_subsecs(6))
}
