//! The gRPC side of deception.

pub(crate) mod alert;
pub(crate) mod attacker;
pub(crate) mod fleet;
pub(crate) mod intake;
pub(crate) mod log;
pub(crate) mod observation;
pub(crate) mod sensor_control;
pub(crate) mod settings;

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::app::App;

/// The server of all of deception's gRPC services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rpc {
    pub(crate) app: Arc<App>,
}

impl Rpc {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Rpc { app }
    }
}

/// A moment on the wire.
pub(crate) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}

/// A moment off the wire, in the microseconds that are kept; nothing outside of the calendar.
pub(crate) fn moment(at: &prost_types::Timestamp) -> Option<DateTime<Utc>> {
    let micros = u32::try_from(at.nanos).ok()? / 1_000 * 1_000;
    DateTime::from_timestamp(at.seconds, micros)
}
