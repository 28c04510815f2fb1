//! The follower: reads the log in the order of its ids and makes of it what is derived, attackers first of all.
//!
//! One process at a time does it (a lease). It reads a batch, works everything out, and writes that together with how far
//! it has come in one transaction, which holds only if nobody else has moved on and nothing was purged meanwhile. So each
//! log counts exactly once, whatever fails, and all of it can be made anew from the logs. Whoever stores logs is never
//! held up by this but for the length of that transaction.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use aegis_db::{Tx, now};
use aegis_error::{Code, Failure};
use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{App, alerts, bounty, observations, sessions};
use crate::{
    domain::{
        alert::Scanner,
        event::Log,
        facts::Facts,
        patterns::Track,
        profile::{Profile, Seen, Term},
        sigma::Set,
    },
    error::Error,
    figures,
    store::{
        self,
        attackers::{Kind, Listed},
        follow::Place,
    },
};

/// Logs of one transaction, and how many it is not worth going below.
const BATCH: i64 = 2_000;
const FEWEST: i64 = 100;
/// A transaction holds up those who store logs for about so long.
const HOLD: Duration = Duration::from_millis(40);
/// How long the lease is held, and when it is asked for anew.
const LEASE: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(3);
/// Logs of other processes are looked for this often.
const POLL: Duration = Duration::from_millis(500);
/// Between two batches that are not full: together they cost less.
const GATHER: Duration = Duration::from_millis(100);
/// Others hear of techniques that were observed at most this often.
const TELL: Duration = Duration::from_secs(1);
/// While somebody else follows.
const WAIT: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Profiles and tracks that are kept from one batch to the next take about so many bytes.
const MAX_KEPT: usize = 48 * 1024 * 1024;
/// What is remembered of those of whom nothing is seen any more goes so often, and after so long by the events' own time.
/// Longer than any pattern.
const FORGET: Duration = Duration::from_secs(600);
const REMEMBERED: i64 = 3 * 24 * 3600 * 1_000_000;
/// What an event has for an address when nobody knows it.
const NOBODY: &str = "0.0.0.0";

/// Logs in the order in which they were stored, and whose they are.
pub(crate) struct Batch {
    pub(crate) logs: Vec<Log>,
    /// By address: all attackers of the logs.
    pub(crate) profiles: HashMap<String, Profile>,
}

/// What follows from the logs of a batch, besides profiles.
#[derive(Default)]
struct Gathered {
    terms: Vec<(Uuid, Term)>,
    services: HashMap<(Uuid, String), i64>,
    listed: Vec<Listed>,
    sessions: sessions::Gathered,
    bounties: bounty::Gathered,
    signals: alerts::Gathered,
    observations: observations::Gathered,
    /// Everybody of the batch, each with the moment of the last event: tracks remember each of them.
    tracked: HashMap<Uuid, i64>,
}

/// What one process that follows has in mind.
pub(crate) struct Follower {
    process: Uuid,
    /// Holds the lease until then.
    leased: Option<Instant>,
    place: Option<Place>,
    /// Of those who were seen lately, by address. Right as long as nobody else has moved on.
    profiles: HashMap<String, Profile>,
    /// What is remembered of the same, by attacker.
    tracks: HashMap<Uuid, Track>,
    /// When others were last forgotten.
    forgotten: Option<Instant>,
    raised: alerts::Raised,
    /// Fewer logs at once while one of them makes the batch fail.
    batch: i64,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There may be more at once.
    Full,
    /// Nothing more for now.
    Done,
    /// Somebody else follows.
    Other,
}

impl Follower {
    pub(crate) fn new() -> Self {
        Follower {
            process: Uuid::now_v7(),
            leased: None,
            place: None,
            profiles: HashMap::new(),
            tracks: HashMap::new(),
            forgotten: None,
            raised: alerts::Raised::default(),
            batch: BATCH,
        }
    }

    /// Nothing that is in mind holds any more.
    fn forget(&mut self) {
        self.leased = None;
        self.place = None;
        self.profiles.clear();
        self.tracks.clear();
        self.raised = alerts::Raised::default();
    }

    /// Takes the next logs in.
    pub(crate) async fn step(&mut self, app: &App) -> Result<Step, Error> {
        let result = self.try_step(app).await;
        if result.is_err() {
            self.forget();
        }
        result
    }

    async fn try_step(&mut self, app: &App) -> Result<Step, Error> {
        let Some(place) = self.lead(app).await? else {
            figures::BEHIND.set(&[], 0.0);
            return Ok(Step::Other);
        };
        let logs = store::logs::after(&app.db, place.position, self.batch).await?;
        let (Some(last), full) = (logs.last().map(|log| log.id), logs.len() as i64 >= self.batch) else {
            figures::BEHIND.set(&[], 0.0);
            return Ok(Step::Done);
        };
        let (taken, mut behind) = (logs.len() as i64, logs.len() as i64);
        if full {
            let head = store::logs::head(&app.db).await?;
            behind = head.last_id - place.position.max(head.purged_id);
        }
        figures::BEHIND.set(&[], behind as f64);
        let profiles = self.profiles_of(app, &logs).await?;
        let scanners = alerts::scanners(app).await?;
        let (mut tracks, sigma) = (std::mem::take(&mut self.tracks), app.sigma.now());
        let work = tokio::task::spawn_blocking(move || {
            let (batch, gathered) = gather(logs, profiles, &mut tracks, &scanners, &sigma);
            (batch, gathered, tracks)
        });
        let (mut batch, mut gathered, tracks) = work.await.map_err(Failure::internal)?;

        let mut tx = app.db.begin().await?;
        let begun = Instant::now();
        let new = batch.profiles.values().filter(|profile| profile.new).count();
        if !store::follow::advance(&mut tx, self.process, place, last, new).await? {
            tx.rollback().await?;
            self.forget();
            return Ok(Step::Full);
        }
        gathered.bounties.write(&mut tx, &mut batch).await?;
        let urgent = gathered.signals.write(&mut tx, app, &mut self.raised, &mut batch).await?;
        store::sessions::add(&mut tx, &gathered.sessions.into_rows()).await?;
        store::attackers::add_logs(&mut tx, &gathered.listed).await?;
        store::attackers::add_terms(&mut tx, &gathered.terms).await?;
        let services: Vec<_> =
            gathered.services.into_iter().map(|((id, service), commands)| (id, service, commands)).collect();
        store::attackers::add_services(&mut tx, &services).await?;
        gathered.observations.write(&mut tx).await?;
        self.write_tracks(&mut tx, &gathered.tracked, &tracks).await?;
        let profiles: Vec<&Profile> = batch.profiles.values().collect();
        store::attackers::write(&mut tx, &profiles).await?;
        if urgent {
            // An alert that went out must not be raised again after a power cut.
            tx.commit().await?;
        } else {
            tx.commit_relaxed().await?;
        }
        figures::BEHIND.set(&[], (behind - taken).max(0) as f64);
        figures::FOLLOWED.add(&[], u64::try_from(taken).unwrap_or(0));
        self.place = Some(Place { position: last, ..place });
        self.tracks = tracks;
        self.keep(batch.profiles);
        self.batch = next_batch(self.batch, taken, begun.elapsed());
        Ok(if full { Step::Full } else { Step::Done })
    }

    /// How far it has come, if this process follows.
    async fn lead(&mut self, app: &App) -> Result<Option<Place>, Error> {
        if let (Some(until), Some(place)) = (self.leased, self.place)
            && until > Instant::now() + LEASE - RENEW
        {
            return Ok(Some(place));
        }
        let asked = Instant::now();
        let at = now().timestamp_micros();
        let until = at.saturating_add(i64::try_from(LEASE.as_micros()).unwrap_or(i64::MAX));
        let place = store::follow::lease(&app.db, self.process, at, until).await?;
        if place.is_none() || self.place != place {
            self.forget();
        }
        self.leased = place.map(|_| asked + LEASE);
        self.place = place;
        Ok(place)
    }

    /// The profiles of the attackers of these logs: those in mind, those that are stored, new ones.
    async fn profiles_of(&mut self, app: &App, logs: &[Log]) -> Result<HashMap<String, Profile>, Error> {
        let mut profiles = HashMap::new();
        let mut missing = HashSet::new();
        for log in logs {
            let ip = &log.attacker_ip;
            if ip == NOBODY || profiles.contains_key(ip) || missing.contains(ip) {
                continue;
            }
            match self.profiles.remove(ip) {
                Some(profile) => {
                    profiles.insert(ip.clone(), profile);
                }
                None => {
                    missing.insert(ip.clone());
                }
            }
        }
        let wanted: Vec<String> = missing.iter().cloned().collect();
        let stored = store::attackers::by_ips(&app.db, &wanted).await?;
        let ids: Vec<Uuid> = stored.iter().map(|profile| profile.id).collect();
        self.tracks.extend(store::tracks::of_attackers(&app.db, &ids).await?);
        for profile in stored {
            missing.remove(&profile.ip);
            profiles.insert(profile.ip.clone(), profile);
        }
        for ip in missing {
            profiles.insert(ip.clone(), Profile::new(Uuid::now_v7(), ip));
        }
        Ok(profiles)
    }

    /// Keeps what was written just now in mind, and of the others as many as there is room for.
    fn keep(&mut self, written: HashMap<String, Profile>) {
        let mut room = MAX_KEPT;
        let others = std::mem::take(&mut self.profiles);
        for (ip, mut profile) in written.into_iter().chain(others) {
            let weight = profile.weight() + self.tracks.get(&profile.id).map_or(0, Track::weight);
            if weight > room {
                break;
            }
            room -= weight;
            profile.new = false;
            self.profiles.insert(ip, profile);
        }
        let kept: HashSet<Uuid> = self.profiles.values().map(|profile| profile.id).collect();
        self.tracks.retain(|id, _| kept.contains(id));
    }

    /// Writes what is remembered of these attackers, each with the moment of its last event.
    async fn write_tracks(
        &mut self,
        tx: &mut Tx,
        tracked: &HashMap<Uuid, i64>,
        tracks: &HashMap<Uuid, Track>,
    ) -> Result<(), Error> {
        let mut rows: Vec<(Uuid, i64, &Track)> =
            tracked.iter().filter_map(|(id, at)| Some((*id, *at, tracks.get(id)?))).collect();
        // In one order, whoever writes.
        rows.sort_unstable_by_key(|(id, ..)| *id);
        store::tracks::put(tx, &rows).await?;
        if let Some(newest) = tracked.values().max()
            && self.forgotten.is_none_or(|at| at.elapsed() >= FORGET)
        {
            self.forgotten = Some(Instant::now());
            // Logs may be old when they are taken in: what was written just now stays. Clocks of sensors may be ahead.
            let newest = now().timestamp_micros().min(*newest);
            store::tracks::forget(tx, newest - REMEMBERED).await?;
        }
        Ok(())
    }
}

/// How many logs the next batch has after one of `batch` at most, in which `taken` took so long to write.
fn next_batch(batch: i64, taken: i64, held: Duration) -> i64 {
    let grown = (batch * 2).min(BATCH);
    if taken < batch && held <= HOLD {
        // What a few logs take says little of many.
        return if batch < FEWEST { grown } else { batch };
    }
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let fits = taken * micros(HOLD) / micros(held).max(1_000);
    // Fewer than this only while one of them makes the batch fail.
    fits.max(FEWEST).min(grown)
}

/// Works out what follows from the logs.
fn gather(
    logs: Vec<Log>,
    profiles: HashMap<String, Profile>,
    tracks: &mut HashMap<Uuid, Track>,
    scanners: &[Scanner],
    sigma: &Set,
) -> (Batch, Gathered) {
    let mut batch = Batch { logs, profiles };
    let mut gathered = Gathered::default();
    // In the order in which they happened: sensors hand in one after the other what happened side by side.
    let mut order: Vec<&Log> = batch.logs.iter().collect();
    order.sort_by_key(|log| (log.at, log.id));
    for log in order {
        let Some(profile) = batch.profiles.get_mut(&log.attacker_ip) else { continue };
        let facts = Facts::read(log.fields.json());
        let id = profile.id;
        let mut seen = Seen {
            at: log.at.timestamp_micros(),
            decky: &log.decky,
            service: &log.service,
            event_type: log.event_type,
            techniques: &log.techniques,
            facts: &facts,
        };
        let held = tracks.entry(id).or_default().take(&seen);
        let last = gathered.tracked.entry(id).or_insert(seen.at);
        *last = seen.at.max(*last);
        let shown = observations::shown(log, &held);
        seen.techniques = &shown;
        let change = profile.take(&seen);
        gathered.signals.add(profile, &change, &seen, log, scanners);
        gathered.terms.extend(change.terms.into_iter().map(|term| (id, term)));
        let commands = i64::from(seen.is_command());
        if change.new_service || commands > 0 {
            *gathered.services.entry((id, log.service.clone())).or_default() += commands;
        }
        let kind = seen.is_command().then_some(Kind::Command).or(seen.is_file().then_some(Kind::File));
        gathered.listed.extend(kind.map(|kind| Listed {
            attacker_id: id,
            kind,
            log_id: log.id,
            service: log.service.clone(),
        }));
        gathered.sessions.add(id, &seen, log);
        gathered.observations.add(id, &facts, log, &held, sigma);
        gathered.bounties.add(profile, &seen, log);
    }
    for profile in batch.profiles.values_mut() {
        profile.settle();
    }
    (batch, gathered)
}

impl App {
    /// Follows the log until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut follower = Follower::new();
        let mut committed = self.logs_committed.listen();
        let mut pause = Duration::from_millis(200);
        let mut told = Instant::now();
        while !stop.is_cancelled() {
            committed.borrow_and_update();
            let began = Instant::now();
            let wait = match aegis_telemetry::job("deception_follower", follower.step(&self)).await {
                Ok(step) => {
                    if step != Step::Other && told.elapsed() >= TELL {
                        told = Instant::now();
                        if let Err(error) = self.tell_observations().await {
                            tracing::warn!(%error, "what was observed is told later");
                        }
                    }
                    self.parts.attackers.ok();
                    pause = Duration::from_millis(200);
                    match step {
                        // Who is behind gives way to those who store.
                        Step::Full => began.elapsed() / 2,
                        Step::Other => WAIT,
                        Step::Done => {
                            tokio::select! {
                                _ = committed.changed() => {}
                                () = tokio::time::sleep(POLL) => {}
                                () = stop.cancelled() => {}
                            }
                            GATHER
                        }
                    }
                }
                Err(error) => self.stumble(&mut follower, error, &mut pause).await,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
        if let Err(error) = store::follow::release(&self.db, follower.process).await {
            tracing::warn!(%error, "the follower's lease could not be given back");
        }
    }

    /// After a failure: waits when the database is away, else looks for the log that is the cause and leaves it out, so
    /// that the others do not wait for it for ever.
    async fn stumble(&self, follower: &mut Follower, error: Error, pause: &mut Duration) -> Duration {
        let failure = Failure::from(error);
        let fault = failure.code() == Code::Internal;
        if fault && follower.batch == 1 {
            tracing::error!(%failure, "a log is left out of what is derived");
            if let Err(error) = self.pass_over(follower).await {
                tracing::warn!(%error, "the follower cannot go on");
            }
        } else {
            tracing::warn!(%failure, logs = follower.batch, "what follows from logs comes later");
            follower.batch = if fault { (follower.batch / 8).max(1) } else { follower.batch };
        }
        self.parts.attackers.failed("profiles of attackers are behind");
        let wait = *pause;
        *pause = (*pause * 2).min(MAX_PAUSE);
        if fault { Duration::from_millis(200) } else { wait }
    }

    async fn pass_over(&self, follower: &mut Follower) -> Result<(), Error> {
        let Some(place) = follower.lead(self).await? else { return Ok(()) };
        let Some(log) = store::logs::after(&self.db, place.position, 1).await?.pop() else { return Ok(()) };
        let mut tx = self.db.begin().await?;
        store::follow::advance(&mut tx, follower.process, place, log.id, 0).await?;
        tx.commit().await?;
        follower.forget();
        follower.batch = 2;
        Ok(())
    }
}

/// A moment from the microseconds in which derived data has it.
pub(crate) fn at(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_as_many_logs_as_can_be_written_without_holding_others_up() {
        let after = |batch, taken, millis| next_batch(batch, taken, Duration::from_millis(millis));
        assert_eq!(after(2_000, 2_000, 160), 500, "four times as long as it may be");
        assert_eq!(after(500, 500, 38), 526);
        assert_eq!(after(500, 500, 10), 1_000, "not more than twice as many");
        assert_eq!(after(BATCH, BATCH, 0), BATCH);
        assert_eq!(after(2_000, 2_000, 60_000), FEWEST);
        assert_eq!(after(2_000, 300, 80), 150, "too long, though it was not full");
        assert_eq!(after(2_000, 3, 5), 2_000, "few logs say nothing of many");
        // After failures it was made smaller than is worth while.
        assert_eq!((after(1, 1, 1), after(2, 1, 1), after(2, 2, 900)), (2, 4, 4));
    }

    #[test]
    fn what_is_kept_in_mind_is_bounded_with_all_that_belongs_to_it() {
        let facts = Facts { password: Some("x".into()), ..Facts::default() };
        let mut track = Track::default();
        for n in 0..40 {
            let (decky, name) = (format!("web-{n}"), Some(format!("user{n}")));
            let facts = Facts { username: name, ..facts.clone() };
            let seen = Seen {
                at: n,
                decky: &decky,
                service: "ssh",
                event_type: "auth_success",
                techniques: "",
                facts: &facts,
            };
            track.take(&seen);
        }
        let mut follower = Follower::new();
        let mut written = HashMap::new();
        for n in 0..40_000_u128 {
            let (id, ip) = (Uuid::from_u128(n), n.to_string());
            follower.tracks.insert(id, track.clone());
            written.insert(ip.clone(), Profile::new(id, ip));
        }
        follower.keep(written);
        let profiles: usize = follower.profiles.values().map(Profile::weight).sum();
        let tracks: usize = follower.tracks.values().map(Track::weight).sum();
        assert!(profiles + tracks <= MAX_KEPT && profiles + tracks > MAX_KEPT / 2, "{profiles} and {tracks}");
        assert_eq!(follower.tracks.len(), follower.profiles.len());
    }
}
