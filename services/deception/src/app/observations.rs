//! Which techniques attackers show: derived from logs, told to others, asked for.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use aegis_auth::{OpCtx, Role};
use aegis_db::{Tx, page};
use aegis_error::{Failure, Fields};
use aegis_events::system_actor;
use aegis_proto::events::v1::{ObservedFacts, TechniquesObserved};
use sqlx::types::Json;
use uuid::Uuid;

use super::{App, follow};
use crate::{
    NAME,
    domain::{
        event::Log,
        facts::{Facts, cut},
        patterns::{self, Held},
        sigma::Set,
        tagging,
    },
    error::Error,
    store::observations::{self as store, Act, Observed, Row},
};

/// Names in one list of an observation at most.
const MAX_NAMES: usize = 200;
/// Acts that a procedure names.
const STEPS: i64 = 40;
/// Observations of a page, at most and by default.
const MAX_PAGE: i64 = 5_000;
const PAGE: i64 = 1_000;

/// What tags events, as it is listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaggingRule {
    pub(crate) id: String,
    /// ATT&CK ids.
    pub(crate) techniques: Vec<String>,
    pub(crate) reason: String,
    /// builtin | sigma
    pub(crate) source: &'static str,
    /// Of a rule of the catalogue, as the next two.
    pub(crate) name: String,
    pub(crate) author: String,
    pub(crate) licence: String,
    /// Why it tags nothing; empty where it is in use.
    pub(crate) problem: String,
}

/// What the logs of a batch show.
#[derive(Default)]
pub(crate) struct Gathered {
    rows: HashMap<(Uuid, String), Row>,
    acts: BTreeMap<(String, String, String), (i64, i64)>,
}

impl Gathered {
    /// Adds what one log shows of its attacker. Its techniques are those that it was stored with: rules that came later
    /// change nothing of the past. To these come the techniques of what it shows together with those before it.
    pub(crate) fn add(&mut self, attacker_id: Uuid, facts: &Facts, log: &Log, held: &[Held], sigma: &Set) {
        let mut counted: Vec<&str> = log.techniques().collect();
        if !counted.is_empty() {
            let own = tagging::rules().of(log).into_iter().map(|rule| (&rule.id, &rule.techniques));
            let others = sigma.of(log).into_iter().map(|rule| (&rule.key, &rule.techniques));
            let rules: Vec<(&String, &Vec<String>)> = own.chain(others).collect();
            let act = act(facts, log);
            for technique in counted.iter().copied() {
                let of = rules.iter().filter(|(_, techniques)| techniques.iter().any(|of| of == technique));
                let row = self.row(attacker_id, technique, log);
                row.count += 1;
                of.for_each(|(id, _)| name(&mut row.rules.0, id));
                if let Some(act) = &act {
                    self.act(technique, act, log);
                }
            }
        }
        for Held { pattern, act } in held {
            for technique in &pattern.techniques {
                let row = self.row(attacker_id, technique, log);
                name(&mut row.rules.0, &pattern.id);
                // One event shows it once, however many reasons there are to say so.
                if !counted.contains(&technique.as_str()) {
                    counted.push(technique);
                    row.count += 1;
                }
                self.act(technique, act, log);
            }
        }
    }

    /// The row of a log's attacker and technique, with what the log says of it. Counting the log is the caller's.
    fn row(&mut self, attacker_id: Uuid, technique: &str, log: &Log) -> &mut Row {
        let at = log.at.timestamp_micros();
        let row = self.rows.entry((attacker_id, technique.to_owned())).or_insert_with(|| Row {
            technique: technique.to_owned(),
            attacker_id,
            attacker_ip: log.attacker_ip.clone(),
            count: 0,
            first_seen: at,
            last_seen: at,
            deckies: Json(BTreeSet::new()),
            services: Json(BTreeSet::new()),
            rules: Json(BTreeSet::new()),
            last_log_id: log.id,
            last_msg: String::new(),
        });
        row.first_seen = row.first_seen.min(at);
        if at >= row.last_seen {
            row.last_seen = at;
            row.last_log_id = log.id;
            row.last_msg = cut(&log.msg);
        }
        name(&mut row.deckies.0, &log.decky);
        name(&mut row.services.0, &log.service);
        row
    }

    fn act(&mut self, technique: &str, act: &str, log: &Log) {
        let at = log.at.timestamp_micros();
        let key = (technique.to_owned(), log.service.clone(), cut(act));
        let (count, last) = self.acts.entry(key).or_insert((0, at));
        *count += 1;
        *last = (*last).max(at);
    }

    /// Writes it, in the transaction of the follower.
    pub(crate) async fn write(self, tx: &mut Tx) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let attackers: BTreeSet<Uuid> = self.rows.keys().map(|(id, _)| *id).collect();
        let held = store::of_attackers(tx, &attackers.into_iter().collect::<Vec<_>>()).await?;
        let mut held: HashMap<(Uuid, String), Row> =
            held.into_iter().map(|row| ((row.attacker_id, row.technique.clone()), row)).collect();
        let mut more: BTreeMap<String, Observed> = BTreeMap::new();
        let mut rows = Vec::with_capacity(self.rows.len());
        for (key, new) in self.rows {
            let all = more.entry(new.technique.clone()).or_insert_with(|| Observed {
                technique: new.technique.clone(),
                count: 0,
                attackers: 0,
                first_seen: new.first_seen,
                last_seen: new.last_seen,
                version: 0,
            });
            all.count += new.count;
            all.first_seen = all.first_seen.min(new.first_seen);
            all.last_seen = all.last_seen.max(new.last_seen);
            rows.push(match held.remove(&key) {
                Some(held) => merged(held, new),
                None => {
                    all.attackers += 1;
                    new
                }
            });
        }
        // In one order, whoever writes.
        rows.sort_by(|a, b| (a.attacker_id, &a.technique).cmp(&(b.attacker_id, &b.technique)));
        store::put(tx, &rows).await?;
        store::add(tx, &more.into_values().collect::<Vec<_>>()).await?;
        let acts: Vec<Act> = self
            .acts
            .into_iter()
            .map(|((technique, service, act), (count, last_seen))| Act { technique, service, act, count, last_seen })
            .collect();
        Ok(store::add_acts(tx, &acts).await?)
    }
}

/// What a log shows by itself and together with those before it: ATT&CK ids with spaces between them.
pub(crate) fn shown<'a>(log: &'a Log, held: &[Held]) -> Cow<'a, str> {
    if held.is_empty() {
        return Cow::from(&log.techniques);
    }
    let mut techniques: Vec<&str> = log.techniques().collect();
    for technique in held.iter().flat_map(|held| &held.pattern.techniques) {
        if !techniques.contains(&technique.as_str()) {
            techniques.push(technique);
        }
    }
    Cow::from(techniques.join(" "))
}

fn name(names: &mut BTreeSet<String>, name: &str) {
    if names.len() < MAX_NAMES && !names.contains(name) {
        names.insert(name.to_owned());
    }
}

fn merged(mut held: Row, new: Row) -> Row {
    held.count += new.count;
    held.first_seen = held.first_seen.min(new.first_seen);
    if new.last_seen >= held.last_seen {
        held.last_seen = new.last_seen;
        held.last_log_id = new.last_log_id;
        held.last_msg = new.last_msg;
    }
    for (names, others) in
        [(&mut held.deckies, new.deckies), (&mut held.services, new.services), (&mut held.rules, new.rules)]
    {
        others.0.iter().for_each(|other| name(&mut names.0, other));
    }
    held
}

/// What an attacker did, as a step that somebody can repeat; nothing where an event is not of the attacker's doing.
fn act(facts: &Facts, log: &Log) -> Option<String> {
    let field = |key: &str| log.field(key).unwrap_or_default();
    let text = match log.event_type {
        "command" => facts.command.clone()?,
        "query" => facts.query.clone()?,
        "request" => format!("{} {}", field("method"), field("path")),
        "download_attempt" => format!("fetch {}", field("url")),
        "file_captured" => format!("bring the file {}", facts.name.as_deref().unwrap_or_default()),
        // Not the passwords: a procedure is read by many.
        "auth_fail" | "auth_success" => format!("log in as {}", facts.username.as_deref().unwrap_or("nobody")),
        "publish" | "subscribe" => format!("{} {}", log.event_type, field("topic")),
        "rcpt_to" => format!("RCPT TO:<{}>", field("address")),
        "scan" => format!("scan: {}", facts.kind.as_deref().unwrap_or("unknown")),
        _ => return None,
    };
    Some(cut(text.trim())).filter(|text| !text.is_empty())
}

/// Techniques that are told of together, as an event.
fn facts(techniques: Vec<Observed>) -> TechniquesObserved {
    let techniques = techniques.into_iter().map(|observed| ObservedFacts {
        mitre_id: observed.technique,
        count: observed.count,
        attackers: observed.attackers,
        first_seen: Some(crate::rpc::timestamp(follow::at(observed.first_seen))),
        last_seen: Some(crate::rpc::timestamp(follow::at(observed.last_seen))),
        version: observed.version,
    });
    TechniquesObserved { techniques: techniques.collect() }
}

impl App {
    /// Tells others of what has changed since the last time.
    pub(crate) async fn tell_observations(&self) -> Result<(), Error> {
        if !store::untold(&self.db).await? {
            return Ok(());
        }
        let mut tx = self.db.begin().await?;
        let changed = store::tell(&mut tx).await?;
        if !changed.is_empty() {
            self.outbox.publish_as(&mut tx, system_actor(NAME), "observations", &facts(changed)).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Those who showed a technique, newest first; the token of the next page; how many they are.
    pub(crate) async fn list_observations(
        &self,
        ctx: &OpCtx,
        mitre_id: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<(Vec<Row>, String, i64), Error> {
        ctx.user()?;
        let limit = page::size(page_size, PAGE, MAX_PAGE)?;
        let offset = page::offset(page_token, skip)?;
        let mitre_id = checked(mitre_id)?;
        let (rows, total) = store::of_technique(&self.db, &mitre_id, limit, offset).await?;
        let next = page::next_offset(offset, rows.len(), total);
        Ok((rows, next, total))
    }

    /// What an attacker showed, the most often shown first.
    pub(crate) async fn list_attacker_techniques(&self, ctx: &OpCtx, uuid: &str) -> Result<Vec<Row>, Error> {
        let (attacker, _) = self.get_attacker(ctx, uuid).await?;
        Ok(store::of_attacker(&self.db, attacker.id).await?)
    }

    /// What tags events: our own rules in their order, what several events show together, the catalogue's rules by key.
    pub(crate) fn list_tagging_rules(&self, ctx: &OpCtx) -> Result<Vec<TaggingRule>, Error> {
        ctx.user()?;
        let built_in = |id: &str, techniques: &[String], reason: &str| TaggingRule {
            id: id.to_owned(),
            techniques: techniques.to_vec(),
            reason: reason.to_owned(),
            source: "builtin",
            ..TaggingRule::default()
        };
        let own = tagging::rules().all().iter().map(|rule| built_in(&rule.id, &rule.techniques, &rule.reason));
        let patterns = patterns::patterns().iter();
        let patterns = patterns.map(|pattern| built_in(&pattern.id, &pattern.techniques, &pattern.reason));
        let sigma = self.sigma.now();
        let sigma = sigma.all().iter().map(|rule| TaggingRule {
            id: rule.key.clone(),
            techniques: rule.techniques.clone(),
            reason: rule.reason.clone(),
            source: "sigma",
            name: rule.name.clone(),
            author: rule.author.clone(),
            licence: rule.licence.clone(),
            problem: rule.problem.clone().unwrap_or_default(),
        });
        Ok(own.chain(patterns).chain(sigma).collect())
    }

    /// What attackers did to show a technique, as text, and what is known of it over all of them; for those who make
    /// tests of that.
    pub(crate) async fn observed_procedure(
        &self,
        ctx: &OpCtx,
        mitre_id: &str,
    ) -> Result<(String, Option<Observed>), Error> {
        ctx.require(&[Role::Admin, Role::RedTech])?;
        let mitre_id = checked(mitre_id)?;
        let observed = store::one(&self.db, &mitre_id).await?.filter(|observed| observed.count > 0);
        let mut acts = store::acts(&self.db, &mitre_id, STEPS).await?;
        // In the order in which it was done, the newest last.
        acts.reverse();
        let steps = acts.iter().map(|act| {
            let times = if act.count > 1 { format!(" ({} times)", act.count) } else { String::new() };
            format!("{}: {}{times}\n", act.service, act.act)
        });
        Ok((steps.collect(), observed))
    }

    /// Everything that is known over all attackers. For processes of the product.
    pub(crate) async fn export_observations(&self, ctx: &OpCtx) -> Result<Vec<Observed>, Error> {
        ctx.require(&[Role::Admin, Role::Service])?;
        Ok(store::all(&self.db).await?)
    }
}

fn checked(mitre_id: &str) -> Result<String, Failure> {
    let mut fields = Fields::default();
    fields.text("mitre_id", mitre_id, 1, 32);
    fields.finish()?;
    Ok(mitre_id.trim().to_ascii_uppercase())
}
