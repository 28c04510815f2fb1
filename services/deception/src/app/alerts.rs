//! Alerts: derived from logs and raised, listed; who may scan without one.

use std::collections::{HashMap, HashSet, VecDeque};

use aegis_auth::{OpCtx, Role};
use aegis_db::{Tx, now, page};
use aegis_error::{Code, Failure, Fields};
use aegis_events::{Audit, system_actor};
use aegis_proto::events::v1::AlertRaised;
use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use super::{App, follow::Batch};
use crate::{
    NAME,
    domain::{
        alert::{self, Alert, FLOOD, FLOOD_TIME, Kind, MAX_SCANNERS, SCAN, Scanner, Signal, told},
        event::Log,
        profile::{Change, Profile, Seen},
    },
    error::Error,
    store::{self, alerts as rows},
};

/// What of a batch belongs to alerts, by attacker and kind.
#[derive(Default)]
pub(super) struct Gathered(HashMap<(Uuid, Kind), Signal>);

/// What was raised lately by this process.
#[derive(Default)]
pub(super) struct Raised {
    /// When, in microseconds.
    times: VecDeque<i64>,
    /// The alerts that stand for many, and when they were opened.
    floods: HashMap<Kind, (Uuid, i64)>,
}

impl Raised {
    /// Whether another alert may be raised that stands for one attacker only.
    fn room(&mut self, at: i64) -> bool {
        while self.times.front().is_some_and(|time| *time <= at.saturating_sub(FLOOD_TIME)) {
            self.times.pop_front();
        }
        self.floods.retain(|_, (_, opened)| *opened > at.saturating_sub(FLOOD_TIME));
        self.times.len() < FLOOD
    }
}

impl Gathered {
    /// Adds an event to the alerts that it belongs to, if any.
    pub(super) fn add(
        &mut self,
        profile: &mut Profile,
        change: &Change,
        seen: &Seen<'_>,
        log: &Log,
        scanners: &[Scanner],
    ) {
        let contact = profile.shown.contact_alert;
        let during_scan = contact.is_none_or(|(_, until)| seen.at <= until);
        let kind = Kind::of(seen.event_type);
        if !during_scan && kind.is_none() && !change.traversed {
            return;
        }
        let approved = || {
            let ip = log.attacker_ip.parse();
            ip.is_ok_and(|ip| scanners.iter().any(|scanner| scanner.approves(ip, log.attacker_port, log.at)))
        };
        if !scanners.is_empty() && approved() {
            return;
        }
        if contact.is_none() {
            // Which one it is turns out when it is written.
            profile.shown.contact_alert = Some((Uuid::nil(), seen.at.saturating_add(SCAN)));
        }
        let kinds = [during_scan.then_some(Kind::FirstContact), kind, change.traversed.then_some(Kind::Traversal)];
        for kind in kinds.into_iter().flatten() {
            let signal = self.0.entry((profile.id, kind)).or_insert_with(|| Signal {
                kind,
                attacker_id: profile.id,
                attacker_ip: profile.ip.clone(),
                deckies: Vec::new(),
                detail: detail(kind, profile, seen),
                count: 0,
                first_seen: seen.at,
                last_seen: seen.at,
                first_log: log.id,
            });
            signal.add(seen.decky, seen.at);
        }
    }

    /// Writes and raises them. Whether one was raised.
    pub(super) async fn write(
        &mut self,
        tx: &mut Tx,
        app: &App,
        raised: &mut Raised,
        batch: &mut Batch,
    ) -> Result<bool, Error> {
        let mut signals: Vec<Signal> = std::mem::take(&mut self.0).into_values().collect();
        if signals.is_empty() {
            return Ok(false);
        }
        signals.sort_by_key(|signal| (signal.first_seen, signal.first_log, signal.kind));
        let mut alerts = Alerts::open(tx, &signals, raised, batch).await?;
        for signal in &signals {
            alerts.take(signal, raised, batch);
        }
        let Alerts { all, changed, new, .. } = alerts;
        let changed: Vec<&Alert> = changed.iter().filter_map(|id| all.get(id)).collect();
        rows::write(tx, &changed).await?;
        let events: Vec<(String, AlertRaised)> = new.iter().filter_map(|id| all.get(id)).map(event).collect();
        app.outbox.publish_all_as(tx, &system_actor(NAME), &events).await?;
        Ok(!events.is_empty())
    }
}

fn event(alert: &Alert) -> (String, AlertRaised) {
    let event = AlertRaised {
        alert_id: alert.id.to_string(),
        kind: alert.kind.clone(),
        attacker_ip: alert.attacker_ip.clone(),
        title: alert.title(),
        message: alert.message(),
    };
    (event.alert_id.clone(), event)
}

/// The alerts that a batch may add to.
struct Alerts {
    all: HashMap<Uuid, Alert>,
    /// Of each attacker and kind, the oldest first.
    of: HashMap<(Uuid, String), Vec<Uuid>>,
    changed: HashSet<Uuid>,
    new: Vec<Uuid>,
}

impl Alerts {
    async fn open(tx: &mut Tx, signals: &[Signal], raised: &Raised, batch: &Batch) -> aegis_db::Result<Self> {
        let others = signals.iter().filter(|signal| signal.kind != Kind::FirstContact);
        let attackers: HashSet<Uuid> = others.map(|signal| signal.attacker_id).collect();
        let contacts = signals.iter().filter(|signal| signal.kind == Kind::FirstContact);
        let mut ids: HashSet<Uuid> = contacts
            .filter_map(|signal| batch.profiles.get(&signal.attacker_ip)?.shown.contact_alert)
            .map(|(id, _)| id)
            .collect();
        ids.extend(raised.floods.values().map(|(id, _)| *id));
        ids.remove(&Uuid::nil());
        let since = signals.iter().map(|signal| signal.first_seen).min().unwrap_or(0).saturating_sub(alert::QUIET);
        let attackers: Vec<Uuid> = attackers.into_iter().collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let mut found = rows::open(tx, &attackers, since, &ids).await?;
        found.sort_by_key(|alert| alert.id);
        let mut alerts = Alerts { all: HashMap::new(), of: HashMap::new(), changed: HashSet::new(), new: Vec::new() };
        for alert in found {
            if let Some(attacker_id) = alert.attacker_id {
                alerts.of.entry((attacker_id, alert.kind.clone())).or_default().push(alert.id);
            }
            alerts.all.insert(alert.id, alert);
        }
        Ok(alerts)
    }

    fn take(&mut self, signal: &Signal, raised: &mut Raised, batch: &mut Batch) {
        let mut contact = match signal.kind {
            Kind::FirstContact => {
                let profile = batch.profiles.get_mut(&signal.attacker_ip);
                profile.and_then(|profile| profile.shown.contact_alert.as_mut()).map(|(id, _)| id)
            }
            _ => None,
        };
        let known = match &contact {
            Some(id) if !id.is_nil() => Some(**id),
            Some(_) => None,
            None => {
                let of = self.of.get(&(signal.attacker_id, signal.kind.as_str().to_owned()));
                let takes = |id: &&Uuid| self.all.get(*id).is_some_and(|alert| alert.takes(signal));
                of.and_then(|ids| ids.iter().rev().find(takes)).copied()
            }
        };
        let id = match known {
            Some(id) => {
                // Nothing where it was taken away: it is not raised twice.
                if let Some(alert) = self.all.get_mut(&id) {
                    alert.join(signal);
                    self.changed.insert(id);
                }
                id
            }
            None => self.raise(signal, raised),
        };
        if let Some(contact) = &mut contact {
            **contact = id;
        }
    }

    /// Raises an alert of its own, or one for many where too many come at once.
    fn raise(&mut self, signal: &Signal, raised: &mut Raised) -> Uuid {
        let at = now().timestamp_micros();
        let id = Uuid::now_v7();
        let alert = if raised.room(at) {
            raised.times.push_back(at);
            Alert::raised(id, signal)
        } else {
            let flood = raised.floods.get(&signal.kind).and_then(|(id, _)| self.all.get_mut(id));
            if let Some(flood) = flood {
                flood.join(signal);
                flood.attackers += 1;
                self.changed.insert(flood.id);
                return flood.id;
            }
            raised.floods.insert(signal.kind, (id, at));
            Alert::flood(id, signal)
        };
        if let Some(attacker_id) = alert.attacker_id {
            self.of.entry((attacker_id, alert.kind.clone())).or_default().push(id);
        }
        self.all.insert(id, alert);
        self.changed.insert(id);
        self.new.push(id);
        id
    }
}

/// What the first event of an alert was, in a sentence.
fn detail(kind: Kind, profile: &Profile, seen: &Seen<'_>) -> String {
    let Seen { decky, service, facts, .. } = *seen;
    let ip = &profile.ip;
    match kind {
        Kind::FirstContact => format!("{ip} was never seen before: it came to {decky} ({service})."),
        Kind::CredentialWorks => match &facts.username {
            Some(username) => format!("{ip} logged in to {service} on {decky} as \"{}\".", told(username)),
            None => format!("{ip} logged in to {service} on {decky}."),
        },
        Kind::FileCaptured => {
            let name = facts.name.as_deref().or(facts.path.as_deref()).unwrap_or("?");
            let digest = facts.sha256.as_deref().map(|sha256| format!(" (SHA-256 {})", told(sha256)));
            format!("{ip} left the file \"{}\"{} on {decky}.", told(name), digest.unwrap_or_default())
        }
        Kind::Traversal => {
            let mut others = profile.shown.deckies.iter().filter(|contact| contact.acted && contact.decky != decky);
            let before = others.next_back().map_or("another decky", |contact| contact.decky.as_str());
            format!("{ip} acted on {before} and went on to {decky} ({service}).")
        }
    }
}

/// Those who may scan without an alert.
pub(super) async fn scanners(app: &App) -> Result<Vec<Scanner>, Error> {
    let (rows, _) = rows::scanners(&app.db, MAX_SCANNERS, 0).await?;
    Ok(rows.into_iter().filter_map(scanner).collect())
}

fn scanner(row: rows::Scanner) -> Option<Scanner> {
    Some(Scanner {
        network: alert::network(&row.network)?,
        name: row.name,
        ports: row.ports.0,
        starts_at: row.starts_at,
        ends_at: row.ends_at,
    })
}

fn parse_id(id: &str) -> Result<Uuid, Failure> {
    id.parse().map_err(|_| Failure::invalid("id", "must be a UUID"))
}

/// Somebody to be approved, as asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewScanner {
    pub(crate) name: String,
    pub(crate) network: String,
    pub(crate) ports: Vec<u32>,
    pub(crate) starts_at: Option<DateTime<Utc>>,
    pub(crate) ends_at: Option<DateTime<Utc>>,
}

impl App {
    /// A page of alerts, newest first; the token of the next one; how many there are.
    pub(crate) async fn list_alerts(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<(Vec<Alert>, String, i64), Error> {
        ctx.user()?;
        let limit = page::size(page_size, 100, 1_000)?;
        let offset = page::offset(page_token, skip)?;
        let (alerts, total) = rows::list(&self.db, limit, offset).await?;
        let next = page::next_offset(offset, alerts.len(), total);
        Ok((alerts, next, total))
    }

    /// One alert.
    pub(crate) async fn get_alert(&self, ctx: &OpCtx, id: &str) -> Result<Alert, Error> {
        ctx.user()?;
        let id = parse_id(id)?;
        Ok(rows::find(&self.db, id).await?.ok_or_else(|| Failure::not_found("alert", id))?)
    }

    /// One of those who may scan.
    pub(crate) async fn get_approved_scanner(&self, ctx: &OpCtx, id: &str) -> Result<rows::Scanner, Error> {
        ctx.user()?;
        let id = parse_id(id)?;
        let found = rows::scanner(&self.db, id).await?;
        Ok(found.ok_or_else(|| Failure::not_found("approved scanner", id))?)
    }

    /// A page of those who may scan, by name; the token of the next one; how many there are.
    pub(crate) async fn list_approved_scanners(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<(Vec<rows::Scanner>, String, i64), Error> {
        ctx.user()?;
        let limit = page::size(page_size, 1_000, 5_000)?;
        let offset = page::offset(page_token, skip)?;
        let (scanners, total) = rows::scanners(&self.db, limit, offset).await?;
        let next = page::next_offset(offset, scanners.len(), total);
        Ok((scanners, next, total))
    }

    /// Approves a scanner: what comes from it raises no alert from now on. Administrators.
    pub(crate) async fn create_approved_scanner(&self, ctx: &OpCtx, new: NewScanner) -> Result<rows::Scanner, Error> {
        let by = ctx.require(&[Role::Admin])?.username.clone();
        let mut fields = Fields::default();
        let NewScanner { name, network, ports, starts_at, ends_at } = new;
        let read = Scanner::new(&mut fields, &name, &network, &ports, starts_at, ends_at);
        fields.finish()?;
        let read = read.ok_or_else(|| Failure::internal("a scanner without a fault that is none"))?;
        let row = rows::Scanner {
            id: Uuid::now_v7(),
            name: read.name,
            network: read.network.to_string(),
            ports: Json(read.ports),
            starts_at: read.starts_at,
            ends_at: read.ends_at,
            created_by: by,
            created_at: now(),
            version: 1,
        };
        let mut tx = self.db.begin().await?;
        if store::alerts::count_scanners(&mut tx).await? >= MAX_SCANNERS {
            let text = format!("there are {MAX_SCANNERS} approved scanners already: delete some first");
            return Err(Failure::new(Code::Conflict, text).into());
        }
        rows::insert_scanner(&mut tx, &row).await?;
        self.outbox.audit(&mut tx, ctx, audit("create_approved_scanner", "after", &row)).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Takes an approval back. Administrators.
    pub(crate) async fn delete_approved_scanner(&self, ctx: &OpCtx, id: &str) -> Result<(), Error> {
        ctx.require(&[Role::Admin])?;
        let id = parse_id(id)?;
        let mut tx = self.db.begin().await?;
        let found = rows::delete_scanner(&mut tx, id).await?;
        let row = found.ok_or_else(|| Failure::not_found("approved scanner", id))?;
        ctx.expect_version(row.version)?;
        self.outbox.audit(&mut tx, ctx, audit("delete_approved_scanner", "before", &row)).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn audit(action: &'static str, side: &str, row: &rows::Scanner) -> Audit<'static> {
    let facts = json!({
        "name": row.name,
        "network": row.network,
        "ports": row.ports.0,
        "starts_at": row.starts_at,
        "ends_at": row.ends_at,
    });
    Audit { action, entity_type: "approved_scanner", entity_id: row.id.to_string(), details: json!({ side: facts }) }
}
