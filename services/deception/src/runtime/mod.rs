//! What runs decoys: a sensor process, or containers with a sensor in each.
//!
//! Either way a sensor attaches and makes its assignment so. A runtime says who is to host a deployment, and sees to it
//! that there is something to host it.

pub(crate) mod docker;
pub(crate) mod native;

use std::sync::Arc;

use aegis_db::Db;
use aegis_error::Failure;
use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Config,
    domain::{fleet::Decky, ini::Deployment},
    error::Error,
};

/// A part of a deployment that could not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotStarted {
    pub(crate) decky: String,
    /// Empty for the decky as a whole.
    pub(crate) service: String,
    pub(crate) why: String,
}

/// Who is to host the deckies of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A sensor that is there.
    Sensor(Uuid),
    /// Each decky has a sensor of its own, which comes with it and is called as [`sensor_name`] says.
    Own,
}

/// What the sensor is called that hosts this decky alone. Whoever attaches by that name gets it.
pub(crate) fn sensor_name(decky: &Decky) -> String {
    format!("container of {}", decky.name)
}

/// What runs decoys.
#[async_trait]
pub(crate) trait Runtime: Send + Sync + 'static {
    /// `native` or `docker`.
    fn name(&self) -> &'static str;

    /// Who is to host the deployment. Waits until then for somebody who can.
    async fn host(&self, deployment: &Deployment, until: Instant) -> Result<Host, Error>;

    /// Starts what these deckies need besides a sensor that is there. After an error the caller asks for
    /// [`Runtime::stop`].
    async fn start(&self, deckies: &[Decky]) -> Result<(), Vec<NotStarted>>;

    /// Ends what [`Runtime::start`] began; what is not there is fine. What cannot be ended now is left to
    /// [`Runtime::sweep`].
    async fn stop(&self, deckies: &[Uuid]);

    /// Ends what no decky needs any more, and starts what one misses.
    async fn sweep(&self) -> Result<(), Error>;

    /// Whether it works; what is wrong is for everyone.
    async fn look(&self) -> Result<(), String>;
}

/// The runtime of the settings.
pub(crate) fn of(config: &Config, db: &Db) -> Result<Arc<dyn Runtime>, Failure> {
    Ok(match &config.docker {
        Some(docker) => Arc::new(docker::Containers::new(docker.clone(), db.clone())?),
        None => Arc::new(native::Native::new(db.clone())),
    })
}
