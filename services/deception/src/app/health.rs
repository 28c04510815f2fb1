//! How the parts are.

use std::sync::{Mutex, PoisonError};

use aegis_db::now;

use crate::{app::App, store};

/// One part, as everyone is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    pub(crate) name: &'static str,
    /// What is wrong; public, so it names no cause.
    pub(crate) problem: Option<String>,
}

/// The workers of this process. What runs says here when it fails, and when it goes again.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Stores events that come in.
    pub(crate) ingestion: Part,
    /// Derives attackers and the like.
    pub(crate) attackers: Part,
}

/// Whether one worker is well. Public: `detail` must name no cause that is ours alone.
#[derive(Debug, Default)]
pub(crate) struct Part(Mutex<Option<String>>);

impl Part {
    /// It works.
    pub(crate) fn ok(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It does not, and why.
    pub(crate) fn failed(&self, detail: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(detail.into());
    }

    fn problem(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App {
    /// How the parts are; for everyone.
    pub(crate) async fn health(&self) -> Vec<Component> {
        let sensors = match self.db.ping().await {
            Ok(()) => store::sensors::summary(&self.db, now()).await,
            Err(error) => Err(error),
        };
        let runtime = self.runtime.look().await.err();
        let (database, collector, sniffer) = match sensors {
            Ok(sensors) => {
                let away = (sensors.away > 0).then(|| match sensors.away {
                    1 => "a sensor that hosts deckies is away".to_owned(),
                    away => format!("{away} sensors that host deckies are away"),
                });
                let none = sensors.away > 0 && sensors.alive == 0;
                (None, away, none.then(|| "no sensor is attached".to_owned()))
            }
            Err(error) => {
                tracing::warn!(%error, "the database does not answer");
                let text = "the database does not answer".to_owned();
                (Some(text.clone()), Some(text.clone()), Some(text))
            }
        };
        // What cannot reach the database stores nothing either.
        let ingestion = database.clone().or_else(|| self.parts.ingestion.problem());
        let attackers = database.clone().or_else(|| self.parts.attackers.problem());
        vec![
            Component { name: "database", problem: database },
            Component { name: "docker", problem: runtime },
            Component { name: "ingestion_worker", problem: ingestion },
            Component { name: "collector_worker", problem: collector },
            Component { name: "attacker_worker", problem: attackers },
            Component { name: "sniffer_worker", problem: sniffer },
        ]
    }
}
