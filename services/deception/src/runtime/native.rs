//! Decoys in a sensor process, each on its own address. Nothing has to be started: the sensor that is chosen binds what
//! it is assigned.

use std::time::Duration;

use aegis_db::{Db, now};
use aegis_error::{Code, Failure};
use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Host, NotStarted, Runtime};
use crate::{
    domain::{
        fleet::Decky,
        ini::{Deployment, Wanted},
    },
    error::Error,
    store::{
        fleet,
        sensors::{self, Candidate},
    },
};

/// How often is looked for a sensor while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The sensors that attached by themselves.
pub(crate) struct Native {
    db: Db,
}

impl Native {
    pub(crate) fn new(db: Db) -> Self {
        Native { db }
    }

    async fn candidate(&self, deployment: &Deployment) -> Result<Option<Uuid>, Error> {
        let services = deployment.deckies.iter().flat_map(|Wanted { services, .. }| services.iter().flatten());
        let services: std::collections::BTreeSet<&str> = services.copied().collect();
        let fits = |candidate: &Candidate| {
            let named = deployment.sensor.as_ref().is_none_or(|name| *name == candidate.name);
            named && services.iter().all(|service| candidate.services.iter().any(|can| can == service))
        };
        let mut fitting = sensors::candidates(&self.db, now()).await?;
        fitting.retain(fits);
        // Deckies of one net are where the others of that net are.
        if let Some(net) = deployment.net {
            let known = fleet::sensors_of(&self.db, &net.to_string()).await?;
            if let Some(neighbour) = fitting.iter().find(|candidate| known.contains(&candidate.id)) {
                return Ok(Some(neighbour.id));
            }
        }
        Ok(fitting.first().map(|candidate| candidate.id))
    }
}

#[async_trait]
impl Runtime for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    async fn host(&self, deployment: &Deployment, until: Instant) -> Result<Host, Error> {
        loop {
            if let Some(sensor) = self.candidate(deployment).await? {
                return Ok(Host::Sensor(sensor));
            }
            if Instant::now() >= until {
                let text = match &deployment.sensor {
                    Some(name) => {
                        format!("nothing was deployed: no sensor '{name}' is attached that has these services")
                    }
                    None => "nothing was deployed: no sensor is attached that has these services".to_owned(),
                };
                return Err(Failure::new(Code::Internal, text).into());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn start(&self, _deckies: &[Decky]) -> Result<(), Vec<NotStarted>> {
        Ok(())
    }

    async fn stop(&self, _deckies: &[Uuid]) {}

    async fn sweep(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn look(&self) -> Result<(), String> {
        let summary = sensors::summary(&self.db, now()).await.map_err(|error| {
            tracing::warn!(%error, "the database does not answer");
            "the database does not answer".to_owned()
        })?;
        // Without deckies nothing has to run.
        match summary {
            sensors::Summary { alive: 0, away: 1.. } => Err("no sensor is attached: no decoy answers".to_owned()),
            _ => Ok(()),
        }
    }
}
