//! The use cases: read what holds for the fleet, change it.

use aegis_auth::{OpCtx, Role};
use aegis_db::now;
use aegis_error::{Failure, Fields};
use aegis_events::Audit;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    domain::settings::{self, BadInterval, FleetSettings, Interval},
    error::Error,
    store::settings as store,
};

/// What holds, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) settings: FleetSettings,
    pub(crate) version: i64,
    pub(crate) updated_at: DateTime<Utc>,
}

impl Settled {
    fn of(row: &store::Row) -> Result<Settled, Error> {
        Ok(Settled { settings: row.settings()?, version: row.version, updated_at: row.updated_at })
    }
}

impl App {
    /// What holds for the fleet; for everyone who is signed in.
    pub(crate) async fn fleet_settings(&self, ctx: &OpCtx) -> Result<Settled, Error> {
        ctx.user()?;
        Settled::of(&store::settings(&self.db).await?)
    }

    /// Sets how many deckies there may be at a time. Administrators.
    pub(crate) async fn set_deployment_limit(&self, ctx: &OpCtx, limit: i32) -> Result<Settled, Error> {
        ctx.require(&[Role::Admin])?;
        let mut fields = Fields::default();
        settings::check_deployment_limit(&mut fields, limit);
        fields.finish()?;
        self.change(ctx, |settings| settings.deployment_limit = limit).await
    }

    /// Sets how often deckies change that have no interval of their own. Administrators.
    pub(crate) async fn set_global_mutation_interval(&self, ctx: &OpCtx, interval: &str) -> Result<Settled, Error> {
        ctx.require(&[Role::Admin])?;
        let interval: Interval = interval
            .parse()
            .map_err(|bad: BadInterval| Error::from(Failure::invalid("global_mutation_interval", bad.to_string())))?;
        self.change(ctx, |settings| settings.global_mutation_interval = interval).await
    }

    /// Changes what holds. What holds already is no change: it makes no record.
    async fn change(&self, ctx: &OpCtx, change: impl FnOnce(&mut FleetSettings)) -> Result<Settled, Error> {
        let mut tx = self.db.begin().await?;
        let mut settled = Settled::of(&store::next_settings(&mut tx, now()).await?)?;
        ctx.expect_version(settled.version - 1)?;
        let before = settled.settings.clone();
        change(&mut settled.settings);
        if settled.settings == before {
            tx.rollback().await?;
            return Settled::of(&store::settings(&self.db).await?);
        }
        store::write_settings(&mut tx, &settled.settings).await?;
        let audit = Audit {
            action: "update_fleet_settings",
            entity_type: "fleet_settings",
            entity_id: String::new(),
            details: changes(&before, &settled.settings),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(settled)
    }
}

/// Before and after of what changed.
fn changes(before: &FleetSettings, after: &FleetSettings) -> Value {
    let (mut was, mut is) = (Map::new(), Map::new());
    let mut note = |name: &str, old: Value, new: Value| {
        if old != new {
            was.insert(name.to_owned(), old);
            is.insert(name.to_owned(), new);
        }
    };
    note("deployment_limit", before.deployment_limit.into(), after.deployment_limit.into());
    note(
        "global_mutation_interval",
        before.global_mutation_interval.as_str().into(),
        after.global_mutation_interval.as_str().into(),
    );
    json!({ "before": was, "after": is })
}
