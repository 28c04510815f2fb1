//! Swaps a decky's services for others of its archetype: on request, and by the scheduler on time.

use std::{sync::Arc, time::Duration};

use aegis_auth::{OpCtx, Role};
use aegis_db::{Tx, now};
use aegis_events::{Audit, system_actor};
use aegis_proto::events::v1::FleetChanged;
use aegis_runtime::Shutdown;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::fleet::{deployed, named, not_started};
use crate::{
    NAME,
    app::App,
    domain::{
        archetypes,
        fleet::{Decky, Service, ServiceStatus, others},
        settings::Interval,
    },
    error::Error,
    store::{
        fleet::{self, Which},
        sensors, settings,
    },
};

/// How long a mutation on request waits for its services to run.
const WAIT: Duration = Duration::from_secs(5);
/// How long a process does the scheduled work of the fleet without a sign of life.
const LEASE: TimeDelta = TimeDelta::seconds(15);
/// How often is looked what is due.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// How often containers are compared with deckies, and old sensors forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A deployment that goes on for so much longer than it may has lost its process.
const LEFT_OVER: TimeDelta = TimeDelta::seconds(60);
/// A sensor that hosts nothing is forgotten after this.
const FORGET: TimeDelta = TimeDelta::days(30);

/// What one look brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) leads: bool,
    /// Deckies that were mutated.
    pub(crate) mutated: usize,
    /// When something is due next.
    pub(crate) next: Option<DateTime<Utc>>,
}

impl App {
    /// Mutates a decky now. A service that does not start is taken back. Administrators.
    pub(crate) async fn mutate_decky(self: &Arc<Self>, ctx: &OpCtx, name: &str) -> Result<Decky, Error> {
        ctx.require(&[Role::Admin])?;
        let mut tx = self.db.begin().await?;
        let generation = fleet::next_generation(&mut tx).await?;
        let before = named(&mut tx, name).await?;
        deployed(&before)?;
        ctx.expect_version(before.version)?;
        let (before, after) = (before.clone(), self.swapped(before));
        fleet::replace_services(&mut tx, std::slice::from_ref(&after)).await?;
        fleet::set_mutated(&mut tx, &[after.id], now()).await?;
        let event = FleetChanged { generation, change: "mutated".to_owned(), deckies: vec![after.name.clone()] };
        self.outbox.publish(&mut tx, ctx, &after.id.to_string(), &event).await?;
        self.outbox.audit(&mut tx, ctx, audit(&before, &after)).await?;
        self.ring_on_commit(&mut tx);
        tx.commit().await?;

        if before.sensor_alive {
            let (app, ctx, after) = (Arc::clone(self), ctx.clone(), after.clone());
            // Goes on when the caller leaves: what does not start must not stay.
            let waiting = tokio::spawn(async move { app.keep_or_take_back(&ctx, &before, &after, generation).await });
            waiting.await.map_err(aegis_error::Failure::internal)??;
        }
        let mut tx = self.db.begin_read().await?;
        let decky = named(&mut tx, name).await;
        tx.rollback().await?;
        decky
    }

    async fn keep_or_take_back(
        &self,
        ctx: &OpCtx,
        before: &Decky,
        after: &Decky,
        generation: i64,
    ) -> Result<(), Error> {
        let until = Instant::now() + WAIT.min(self.config.deploy_timeout);
        let failed = match self.settled(std::slice::from_ref(after), generation, until).await? {
            Some(unsettled) if !unsettled.failed.is_empty() => unsettled.failed,
            // What nobody says anything of yet starts when its sensor comes to it.
            _ => return Ok(()),
        };
        let failure = not_started("the mutation failed and was taken back", &failed);
        let mut tx = self.db.begin().await?;
        fleet::next_generation(&mut tx).await?;
        match named(&mut tx, &after.name).await {
            Ok(current) if current.id == after.id && current.version == after.version + 1 => {}
            // It was changed again, or is gone.
            _ => {
                tx.rollback().await?;
                return Err(failure.into());
            }
        }
        fleet::replace_services(&mut tx, std::slice::from_ref(before)).await?;
        fleet::set_last_mutated(&mut tx, before.id, before.last_mutated).await?;
        let mut refused = audit(after, before);
        if let Value::Object(details) = &mut refused.details {
            details.insert("why".to_owned(), failure.message().into());
        }
        self.outbox.audit_as(&mut tx, aegis_events::actor(ctx), refused, false).await?;
        self.ring_on_commit(&mut tx);
        tx.commit().await?;
        Err(failure.into())
    }

    /// The decky with other services. Its version stays for the caller to count up.
    fn swapped(&self, mut decky: Decky) -> Decky {
        let names = decky.service_names();
        let known = archetypes::archetype(&decky.archetype);
        let archetype = known.unwrap_or_else(|| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            archetypes::fitting(&names, Some(&decky.system))
        });
        let offset = self.config.loopback_port_offset;
        let service = |name: &'static str| Service {
            name: name.to_owned(),
            port: decky.port(name, offset),
            status: ServiceStatus::Pending,
            address: String::new(),
            detail: String::new(),
        };
        decky.services = others(archetype, &names, &mut rand::rng()).into_iter().map(service).collect();
        decky
    }

    fn ring_on_commit(&self, tx: &mut Tx) {
        let changed = self.fleet_changed.clone();
        tx.on_commit(move || changed.ring());
    }

    /// Does the scheduled work of the fleet whenever no other process does, until the stop.
    pub(crate) async fn keep_fleet(self: Arc<Self>, stop: Shutdown) {
        let process = Uuid::new_v4();
        let mut swept: Option<Instant> = None;
        loop {
            let look = self.look_after(process, now());
            let pause = match aegis_telemetry::job("deception_fleet", look).await {
                Ok(look) => {
                    if look.leads && swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
                        swept = Some(Instant::now());
                        if let Err(error) = self.sweep().await {
                            tracing::warn!(%error, "the fleet's leftovers stay for now");
                        }
                    }
                    let next = look.next.map(|next| (next - now()).to_std().unwrap_or_default());
                    next.unwrap_or(LOOK_EVERY).clamp(SHORTEST_PAUSE, LOOK_EVERY)
                }
                Err(error) => {
                    tracing::warn!(%error, "nobody can look which deckies are due");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
        // The next one need not wait for the lease to end.
        if let Err(error) = fleet::release_lease(&self.db, process).await {
            tracing::warn!(%error, "the lease on the fleet could not be given back");
        }
    }

    async fn sweep(&self) -> Result<(), Error> {
        sensors::forget(&self.db, now() - FORGET).await?;
        self.runtime.sweep().await
    }

    /// Looks once: keeps the lease, removes what a deployment left whose process is gone, mutates what is due.
    pub(crate) async fn look_after(&self, process: Uuid, at: DateTime<Utc>) -> Result<Look, Error> {
        if !fleet::take_lease(&self.db, process, at, at + LEASE).await? {
            return Ok(Look::default());
        }
        self.remove_left_over(process, at).await?;
        let global = self.global_interval().await?;
        let clocks = fleet::clocks(&self.db).await?;
        let due_at = |clock: &fleet::Clock| {
            let own = clock.mutate_interval.as_deref().and_then(|text| text.parse().ok());
            due(own.as_ref(), &global, clock.last_mutated, clock.created_at)
        };
        let ids: Vec<Uuid> =
            clocks.iter().filter(|clock| due_at(clock).is_some_and(|due| due <= at)).map(|clock| clock.id).collect();
        let mutated = if ids.is_empty() { 0 } else { self.mutate_due(process, &ids, &global, at).await? };
        let later = clocks.iter().filter_map(due_at).filter(|due| *due > at);
        Ok(Look { leads: true, mutated, next: later.min() })
    }

    async fn global_interval(&self) -> Result<Interval, Error> {
        Ok(settings::settings(&self.db).await?.settings()?.global_mutation_interval)
    }

    /// Mutates all that is due in one transaction, whatever else changed them meanwhile.
    async fn mutate_due(
        &self,
        process: Uuid,
        ids: &[Uuid],
        global: &Interval,
        at: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let mut tx = self.db.begin().await?;
        if !fleet::leads(&mut tx, process, at).await? {
            return Ok(0);
        }
        let generation = fleet::next_generation(&mut tx).await?;
        let mut before = fleet::deckies(&mut tx, Which::Ids(ids), at).await?;
        before.retain(|decky| {
            let due = due(decky.mutate_interval.as_ref(), global, decky.last_mutated, decky.created_at);
            decky.deployed && due.is_some_and(|due| due <= at)
        });
        if before.is_empty() {
            tx.rollback().await?;
            return Ok(0);
        }
        let after: Vec<Decky> = before.iter().map(|decky| self.swapped(decky.clone())).collect();
        let ids: Vec<Uuid> = after.iter().map(|decky| decky.id).collect();
        fleet::replace_services(&mut tx, &after).await?;
        fleet::set_mutated(&mut tx, &ids, at).await?;
        let names = after.iter().map(|decky| decky.name.clone()).collect();
        let event = FleetChanged { generation, change: "mutated".to_owned(), deckies: names };
        let actor = system_actor(NAME);
        self.outbox.publish_as(&mut tx, actor.clone(), "fleet", &event).await?;
        let audits = before.iter().zip(&after).map(|(before, after)| audit(before, after)).collect();
        self.outbox.audit_all_as(&mut tx, &actor, audits).await?;
        self.ring_on_commit(&mut tx);
        tx.commit().await?;
        Ok(after.len())
    }

    /// Takes back deployments whose process ended in the middle of them.
    async fn remove_left_over(&self, process: Uuid, at: DateTime<Utc>) -> Result<(), Error> {
        let longest = TimeDelta::from_std(self.config.deploy_timeout).unwrap_or(LEFT_OVER) + LEFT_OVER;
        let ids = fleet::left_over(&self.db, at - longest).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        if !fleet::leads(&mut tx, process, at).await? {
            return Ok(());
        }
        fleet::next_generation(&mut tx).await?;
        // One that was deployed after all is no leftover any more.
        let mut left = fleet::deckies(&mut tx, Which::Ids(&ids), at).await?;
        left.retain(|decky| !decky.deployed);
        let ids: Vec<Uuid> = left.iter().map(|decky| decky.id).collect();
        let names: Vec<&str> = left.iter().map(|decky| decky.name.as_str()).collect();
        fleet::delete(&mut tx, &ids).await?;
        let audit = Audit {
            action: "deploy_fleet",
            entity_type: "fleet",
            entity_id: String::new(),
            details: json!({ "deckies": names, "why": "the process ended in the middle of it" }),
        };
        self.outbox.audit_as(&mut tx, system_actor(NAME), audit, false).await?;
        self.ring_on_commit(&mut tx);
        tx.commit().await?;
        self.runtime.stop(&ids).await;
        Ok(())
    }
}

/// When a decky is due: an interval after it was mutated, or made. Past the end of the calendar never.
fn due(
    own: Option<&Interval>,
    global: &Interval,
    last_mutated: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    own.unwrap_or(global).after(last_mutated.unwrap_or(created_at))
}

fn audit<'a>(before: &Decky, after: &Decky) -> Audit<'a> {
    Audit {
        action: "mutate_decky",
        entity_type: "decky",
        entity_id: after.id.to_string(),
        details: json!({
            "name": after.name,
            "before": { "services": before.service_names() },
            "after": { "services": after.service_names() },
        }),
    }
}
