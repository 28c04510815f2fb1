//! Deploys, lists and deletes deckies.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Code, Failure, Fields};
use aegis_events::Audit;
use aegis_proto::events::v1::FleetChanged;
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    app::App,
    domain::{
        fleet::{Decky, Terms, plan},
        ini::{self, Deployment, Problems},
        settings::Interval,
    },
    error::Error,
    runtime::{Host, NotStarted, sensor_name},
    store::{
        fleet::{self, Which},
        sensors, settings,
    },
};

/// Deckies of a page at most, and by default.
const MAX_PAGE: i64 = 5000;
const PAGE: i64 = 1000;
/// How often is looked what a sensor says, besides when it says something here.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a sensor has at least to answer a deployment.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the others have, after the first part failed, to be named with it.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Parts that a message names; the rest is counted.
const NAMED: usize = 20;

/// A page of deckies.
pub(crate) struct DeckyPage {
    pub(crate) deckies: Vec<Decky>,
    pub(crate) next_page_token: String,
    pub(crate) total: i64,
}

/// A page of sensors.
pub(crate) struct SensorPage {
    pub(crate) sensors: Vec<sensors::Sensor>,
    pub(crate) next_page_token: String,
    pub(crate) total: i64,
}

/// What does not run.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// What a sensor says it cannot do.
    pub(crate) failed: Vec<NotStarted>,
    /// What nobody says anything of.
    pub(crate) silent: Vec<NotStarted>,
}

impl App {
    /// Deploys or extends the fleet: all of it or nothing. Administrators.
    pub(crate) async fn deploy_fleet(self: &Arc<Self>, ctx: &OpCtx, ini: &str) -> Result<Vec<Decky>, Error> {
        ctx.require(&[Role::Admin])?;
        if ini.len() > ini::MAX_BYTES {
            let text = format!("must be at most {} KiB", ini::MAX_BYTES / 1024);
            return Err(Failure::invalid("ini_content", text).into());
        }
        let deployment = ini::parse(ini).map_err(conflict)?;
        let (app, ctx) = (Arc::clone(self), ctx.clone());
        // Goes on when the caller leaves, or half of it would stay.
        let deploying = async move { app.deploy(&ctx, &deployment).await };
        tokio::spawn(deploying.instrument(tracing::Span::current())).await.map_err(Failure::internal)?
    }

    async fn deploy(&self, ctx: &OpCtx, deployment: &Deployment) -> Result<Vec<Decky>, Error> {
        let until = Instant::now() + self.config.deploy_timeout;
        // What is wrong with it is told without waiting for a sensor.
        let mut tx = self.db.begin_read().await?;
        self.plan(&mut tx, deployment).await?;
        tx.rollback().await?;
        let host = self.runtime.host(deployment, until).await?;

        let mut tx = self.db.begin().await?;
        let generation = fleet::next_generation(&mut tx).await?;
        let mut deckies = self.plan(&mut tx, deployment).await?;
        for decky in &mut deckies {
            decky.sensor_id = match host {
                Host::Sensor(sensor) => sensor,
                Host::Own => decky.id,
            };
        }
        fleet::insert(&mut tx, &deckies).await?;
        if host == Host::Own {
            let expected: Vec<_> = deckies.iter().map(|decky| (decky.id, sensor_name(decky))).collect();
            sensors::expect(&mut tx, &expected, now()).await?;
        }
        let changed = self.fleet_changed.clone();
        tx.on_commit(move || changed.ring());
        tx.commit().await?;

        // Whoever waited long for a sensor waits a moment for its answer too.
        let until = until.max(Instant::now() + ANSWER.min(self.config.deploy_timeout));
        let started = match self.runtime.start(&deckies).await {
            Ok(()) => match self.settled(&deckies, generation, until).await {
                Ok(None) => self.deployed(ctx, &deckies, generation).await,
                Ok(Some(Unsettled { mut failed, silent })) => {
                    failed.extend(silent);
                    Err(not_started("the deployment failed and was taken back", &failed).into())
                }
                Err(error) => Err(error),
            },
            Err(failed) => Err(not_started("the deployment failed and was taken back", &failed).into()),
        };
        if let Err(error) = started {
            if let Err(error) = self.take_back(ctx, &deckies, &error).await {
                // The scheduler does it later.
                tracing::error!(%error, "a deployment that failed could not be taken back");
            }
            return Err(error);
        }
        let ids: Vec<Uuid> = deckies.iter().map(|decky| decky.id).collect();
        let mut tx = self.db.begin_read().await?;
        let deckies = fleet::deckies(&mut tx, Which::Ids(&ids), now()).await?;
        tx.rollback().await?;
        Ok(deckies)
    }

    async fn plan(&self, tx: &mut aegis_db::Tx, deployment: &Deployment) -> Result<Vec<Decky>, Error> {
        let terms = Terms {
            limit: settings::limit(tx).await?,
            default_net: self.config.default_net,
            loopback_offset: self.config.loopback_port_offset,
            runtime: self.runtime.name(),
            at: now(),
        };
        let existing = fleet::existing(tx).await?;
        plan(deployment, existing, &terms, rand::random).map_err(conflict)
    }

    /// The deployment is through.
    async fn deployed(&self, ctx: &OpCtx, deckies: &[Decky], generation: i64) -> Result<(), Error> {
        let ids: Vec<Uuid> = deckies.iter().map(|decky| decky.id).collect();
        let names: Vec<String> = deckies.iter().map(|decky| decky.name.clone()).collect();
        let mut tx = self.db.begin().await?;
        fleet::lock(&mut tx).await?;
        if fleet::set_deployed(&mut tx, &ids).await? != u64::try_from(ids.len()).unwrap_or(0) {
            let text = "the deployment took too long and was taken back";
            return Err(Failure::new(Code::Internal, text).into());
        }
        let event = FleetChanged { generation, change: "deployed".to_owned(), deckies: names.clone() };
        self.outbox.publish(&mut tx, ctx, "fleet", &event).await?;
        let audit = Audit {
            action: "deploy_fleet",
            entity_type: "fleet",
            entity_id: String::new(),
            details: json!({ "generation": generation, "deckies": names }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Writes the fleet as it was before a deployment that failed.
    async fn take_back(&self, ctx: &OpCtx, deckies: &[Decky], error: &Error) -> Result<(), Error> {
        let ids: Vec<Uuid> = deckies.iter().map(|decky| decky.id).collect();
        let names: Vec<&str> = deckies.iter().map(|decky| decky.name.as_str()).collect();
        let mut tx = self.db.begin().await?;
        fleet::next_generation(&mut tx).await?;
        fleet::delete(&mut tx, &ids).await?;
        let why = match error {
            Error::Failure(failure) => failure.message().to_owned(),
            _ => "a store failed".to_owned(),
        };
        let audit = Audit {
            action: "deploy_fleet",
            entity_type: "fleet",
            entity_id: String::new(),
            details: json!({ "deckies": names, "why": why }),
        };
        self.outbox.audit_as(&mut tx, aegis_events::actor(ctx), audit, false).await?;
        let changed = self.fleet_changed.clone();
        tx.on_commit(move || changed.ring());
        tx.commit().await?;
        self.runtime.stop(&ids).await;
        Ok(())
    }

    /// Waits until all services of these deckies run, as their sensor says that has taken in that generation; or until
    /// it is certain that they do not.
    pub(crate) async fn settled(
        &self,
        deckies: &[Decky],
        generation: i64,
        until: Instant,
    ) -> Result<Option<Unsettled>, Error> {
        let ids: Vec<Uuid> = deckies.iter().map(|decky| decky.id).collect();
        let mut reported = self.sensor_reported.listen();
        let mut until = until;
        let mut named = false;
        loop {
            reported.mark_unchanged();
            let said = sensors::hosted(&self.db, &ids, generation).await?;
            let said: HashMap<(Uuid, &str), &sensors::Hosted> =
                said.iter().map(|hosted| ((hosted.decky_id, hosted.service.as_str()), hosted)).collect();
            let mut unsettled = Unsettled::default();
            for decky in deckies {
                for service in &decky.services {
                    let not = |why: &str| NotStarted {
                        decky: decky.name.clone(),
                        service: service.name.clone(),
                        why: why.to_owned(),
                    };
                    match said.get(&(decky.id, service.name.as_str())) {
                        Some(hosted) if hosted.status == "running" => {}
                        Some(hosted) if hosted.status == "failed" => unsettled.failed.push(not(&hosted.detail)),
                        _ => unsettled.silent.push(not("its sensor did not say in time that it runs")),
                    }
                }
            }
            if unsettled.silent.is_empty() && unsettled.failed.is_empty() {
                return Ok(None);
            }
            if !unsettled.failed.is_empty() && !named {
                (named, until) = (true, until.min(Instant::now() + AFTER_FAILURE));
            }
            if unsettled.silent.is_empty() || Instant::now() >= until {
                return Ok(Some(unsettled));
            }
            tokio::select! {
                _ = reported.changed() => {}
                () = sleep(LOOK_EVERY) => {}
                () = self.stop.cancelled() => return Ok(Some(unsettled)),
            }
        }
    }

    /// All deckies, by name; for everyone who is signed in.
    pub(crate) async fn list_deckies(
        &self,
        ctx: &OpCtx,
        size: i32,
        token: &str,
        skip: i32,
    ) -> Result<DeckyPage, Error> {
        ctx.user()?;
        let limit = page::size(size, PAGE, MAX_PAGE)?;
        let offset = page::offset(token, skip)?;
        let mut tx = self.db.begin_read().await?;
        let deckies = fleet::deckies(&mut tx, Which::Page { limit, offset }, now()).await?;
        let total = fleet::count(&mut tx).await?;
        tx.rollback().await?;
        let next_page_token = page::next_offset(offset, deckies.len(), total);
        Ok(DeckyPage { deckies, next_page_token, total })
    }

    /// One decky; for everyone who is signed in.
    pub(crate) async fn decky(&self, ctx: &OpCtx, name: &str) -> Result<Decky, Error> {
        ctx.user()?;
        let mut tx = self.db.begin_read().await?;
        let decky = named(&mut tx, name).await;
        tx.rollback().await?;
        decky
    }

    /// Removes a decky; its events and artifacts stay. Administrators.
    pub(crate) async fn delete_decky(&self, ctx: &OpCtx, name: &str) -> Result<(), Error> {
        ctx.require(&[Role::Admin])?;
        let mut tx = self.db.begin().await?;
        let generation = fleet::next_generation(&mut tx).await?;
        let decky = named(&mut tx, name).await?;
        deployed(&decky)?;
        ctx.expect_version(decky.version)?;
        fleet::delete(&mut tx, &[decky.id]).await?;
        let event = FleetChanged { generation, change: "deleted".to_owned(), deckies: vec![decky.name.clone()] };
        self.outbox.publish(&mut tx, ctx, &decky.id.to_string(), &event).await?;
        let audit = Audit {
            action: "delete_decky",
            entity_type: "decky",
            entity_id: decky.id.to_string(),
            details: json!({ "name": decky.name, "ip": decky.ip, "services": decky.service_names() }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        let changed = self.fleet_changed.clone();
        tx.on_commit(move || changed.ring());
        tx.commit().await?;
        self.runtime.stop(&[decky.id]).await;
        Ok(())
    }

    /// Sets how often a decky is mutated; `None` leaves that to the fleet's own interval. Administrators.
    pub(crate) async fn set_mutate_interval(
        &self,
        ctx: &OpCtx,
        name: &str,
        interval: Option<&str>,
    ) -> Result<Decky, Error> {
        ctx.require(&[Role::Admin])?;
        let interval = interval.map(str::parse::<Interval>).transpose();
        let interval = interval.map_err(|bad| Failure::invalid("mutate_interval", bad.to_string()))?;
        let mut tx = self.db.begin().await?;
        fleet::lock(&mut tx).await?;
        let mut decky = named(&mut tx, name).await?;
        ctx.expect_version(decky.version)?;
        if decky.mutate_interval == interval {
            tx.rollback().await?;
            return Ok(decky);
        }
        let text = interval.as_ref().map(Interval::as_str);
        fleet::set_interval(&mut tx, decky.id, text).await?;
        let audit = Audit {
            action: "set_mutate_interval",
            entity_type: "decky",
            entity_id: decky.id.to_string(),
            details: json!({
                "name": decky.name,
                "before": { "mutate_interval": decky.mutate_interval.as_ref().map(Interval::as_str) },
                "after": { "mutate_interval": text },
            }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        decky.version += 1;
        decky.mutate_interval = interval;
        Ok(decky)
    }

    /// All sensors, by name; for everyone who is signed in.
    pub(crate) async fn list_sensors(
        &self,
        ctx: &OpCtx,
        size: i32,
        token: &str,
        skip: i32,
    ) -> Result<SensorPage, Error> {
        ctx.user()?;
        let limit = page::size(size, PAGE, MAX_PAGE)?;
        let offset = page::offset(token, skip)?;
        let (sensors, total) = sensors::list(&self.db, limit, offset, now()).await?;
        let next_page_token = page::next_offset(offset, sensors.len(), total);
        Ok(SensorPage { sensors, next_page_token, total })
    }
}

/// The decky of that name, as the transaction sees it.
pub(crate) async fn named(tx: &mut aegis_db::Tx, name: &str) -> Result<Decky, Error> {
    let mut found = fleet::deckies(tx, Which::Name(name), now()).await?;
    found.pop().ok_or_else(|| Failure::not_found("decky", name).into())
}

/// Fails while the deployment of the decky goes on.
pub(crate) fn deployed(decky: &Decky) -> Result<(), Failure> {
    if decky.deployed {
        return Ok(());
    }
    Err(Failure::new(Code::Conflict, format!("decky '{}' is being deployed: try again in a moment", decky.name)))
}

/// What is wrong with a deployment, as its caller is told (409), with the first place for programs.
fn conflict(problems: Problems) -> Error {
    let mut fields = Fields::default();
    let (line, section) = problems.first.first().map(|p| (p.line, p.section.clone())).unwrap_or_default();
    for problem in problems.first {
        let place = match problem.section.as_str() {
            "" => format!("line {}", problem.line),
            section => format!("line {} [{section}]", problem.line),
        };
        fields.add(place, problem.what);
    }
    if problems.more > 0 {
        fields.add("and more", format!("{} problems", problems.more));
    }
    fields.into_failure(Code::Conflict).with("line", line.to_string()).with("section", section).into()
}

/// What could not start, by name (500).
pub(crate) fn not_started(what: &str, parts: &[NotStarted]) -> Failure {
    let named = parts.iter().take(NAMED).map(|part| match part.service.as_str() {
        "" => format!("{} ({})", part.decky, part.why),
        service => format!("{} {service} ({})", part.decky, part.why),
    });
    let mut text = format!("{what}; what could not start: {}", named.collect::<Vec<_>>().join(", "));
    if parts.len() > NAMED {
        text.push_str(&format!(" and {} more", parts.len() - NAMED));
    }
    Failure::new(Code::Internal, text)
}
