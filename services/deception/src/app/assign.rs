//! What a sensor is to host, and what it says of that.

use aegis_auth::{OpCtx, Role};
use aegis_db::now;
use aegis_error::{Failure, Fields};
use aegis_events::Audit;
use serde_json::json;
use uuid::Uuid;

use crate::{
    app::App,
    domain::{
        archetypes::SERVICES,
        fleet::{Decky, is_address},
    },
    error::Error,
    store::{
        fleet::{self, Which},
        sensors::{self, Attaching, Hosted},
    },
};

/// What a sensor may say of at a time: all deckies with all services, and more than that.
const MAX_HOSTED: usize = 10_000;
const MAX_DETAIL: usize = 200;

/// A sensor that introduces itself.
pub(crate) struct Hello<'a> {
    pub(crate) sensor_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) services: &'a [String],
}

/// What a sensor says of itself and of what it hosts.
pub(crate) struct Report {
    pub(crate) generation: i64,
    pub(crate) buffered: i64,
    pub(crate) open_sessions: i64,
    pub(crate) hosted: Vec<Hosted>,
}

/// A stream that speaks for a sensor.
pub(crate) struct Attachment {
    sensor: Uuid,
    id: Uuid,
    /// What was written of it last, so that the same again costs little.
    said: Option<(i64, Vec<Hosted>)>,
}

impl App {
    /// A sensor attaches. Sensors.
    pub(crate) async fn attach(&self, ctx: &OpCtx, hello: Hello<'_>) -> Result<Attachment, Error> {
        ctx.require(&[Role::Sensor])?;
        let mut fields = Fields::default();
        let sensor = Uuid::parse_str(hello.sensor_id);
        fields.check(sensor.as_ref().is_ok_and(|id| !id.is_nil()), "sensor_id", "must be a UUID");
        fields.text("name", hello.name, 1, 100);
        fields.text("version", hello.version, 0, 64);
        let mut services: Vec<String> = hello.services.iter().take(MAX_HOSTED).cloned().collect();
        // Newer sensors may have services that we know nothing of.
        services.retain(|service| SERVICES.iter().any(|(known, _)| known == service));
        services.sort();
        services.dedup();
        fields.check(!services.is_empty(), "services", "must name services that there are");
        fields.finish()?;
        let sensor = sensor.map_err(|_| Failure::invalid("sensor_id", "must be a UUID"))?;

        let attaching = Attaching {
            id: sensor,
            name: hello.name.to_owned(),
            version: hello.version.to_owned(),
            services,
            attachment: Uuid::now_v7(),
        };
        let at = now();
        let mut tx = self.db.begin().await?;
        // Before the sensor, as whoever changes the fleet does.
        fleet::lock(&mut tx).await?;
        sensors::attach(&mut tx, &attaching, at).await?;
        if sensors::adopt(&mut tx, sensor, hello.name, at).await? {
            let generation = fleet::next_generation(&mut tx).await?;
            let audit = Audit {
                action: "adopt_deckies",
                entity_type: "sensor",
                entity_id: sensor.to_string(),
                details: json!({ "name": hello.name, "generation": generation }),
            };
            self.outbox.audit_as(&mut tx, aegis_events::actor(ctx), audit, true).await?;
        }
        let (changed, reported) = (self.fleet_changed.clone(), self.sensor_reported.clone());
        tx.on_commit(move || {
            changed.ring();
            reported.ring();
        });
        tx.commit().await?;
        Ok(Attachment { sensor, id: attaching.attachment, said: None })
    }

    /// The fleet's generation, by which a change is noticed; none when another stream speaks for the sensor by now.
    pub(crate) async fn generation(&self, attachment: &Attachment) -> Result<Option<i64>, Error> {
        Ok(sensors::generation(&self.db, attachment.sensor, attachment.id).await?)
    }

    /// All that the sensor is to host, and of which generation that is.
    pub(crate) async fn assignment(&self, attachment: &Attachment) -> Result<(i64, Vec<Decky>), Error> {
        // Read before the deckies: an assignment may be newer than it says, never older.
        let generation = fleet::generation(&self.db).await?;
        let mut tx = self.db.begin_read().await?;
        let deckies = fleet::deckies(&mut tx, Which::Sensor(attachment.sensor), now()).await?;
        tx.rollback().await?;
        Ok((generation, deckies))
    }

    /// Takes in what a sensor says. False when another stream speaks for it by now.
    pub(crate) async fn report(&self, attachment: &mut Attachment, report: Report) -> Result<bool, Error> {
        let Report { generation, buffered, open_sessions, mut hosted } = report;
        hosted.truncate(MAX_HOSTED);
        hosted.retain(|hosted| SERVICES.iter().any(|(known, _)| *known == hosted.service));
        for hosted in &mut hosted {
            if !is_address(&hosted.address) {
                hosted.address.clear();
            }
            hosted.detail = hosted.detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect();
        }
        hosted.sort_by(|a, b| (a.decky_id, &a.service).cmp(&(b.decky_id, &b.service)));
        hosted.dedup_by(|a, b| (a.decky_id, &a.service) == (b.decky_id, &b.service));
        let known = fleet::generation(&self.db).await?;
        let generation = generation.clamp(0, known);
        let mut tx = self.db.begin().await?;
        let counts = (buffered.max(0), open_sessions.max(0));
        if !sensors::seen(&mut tx, attachment.sensor, attachment.id, generation, counts, now()).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        let said = (generation, hosted);
        if attachment.said.as_ref() != Some(&said) {
            sensors::write_hosted(&mut tx, attachment.sensor, generation, &said.1).await?;
            let reported = self.sensor_reported.clone();
            tx.on_commit(move || reported.ring());
        }
        // It is said again in a moment.
        tx.commit_relaxed().await?;
        attachment.said = Some(said);
        Ok(true)
    }

    /// A sensor's stream ended.
    pub(crate) async fn detach(&self, attachment: &Attachment) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        sensors::detach(&mut tx, attachment.sensor, attachment.id).await?;
        let reported = self.sensor_reported.clone();
        tx.on_commit(move || reported.ring());
        tx.commit_relaxed().await?;
        Ok(())
    }
}
