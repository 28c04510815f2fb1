//! SQL of attackers: their profiles, what they are found by, and the logs that are listed with them.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, contains_pattern, on, read};
use sqlx::{QueryBuilder, types::Json};
use uuid::Uuid;

use crate::domain::{
    behavior::Timing,
    fingerprint,
    profile::{Profile, Shown, Term},
    search::{Key, Search},
};

/// Rows of one statement; the statement of whole chunks is made once.
const ROWS: usize = 500;

/// So many of a filter are found first and then put in order; of more, the first in order are looked for.
const FEW: i64 = 2_000;

/// What is listed with an attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Command,
    File,
}

impl Kind {
    fn number(self) -> i64 {
        match self {
            Kind::Command => 1,
            Kind::File => 2,
        }
    }
}

/// An attacker as it is told.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) ip: String,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    pub(crate) event_count: i64,
    pub(crate) decky_count: i64,
    pub(crate) bounty_count: i64,
    pub(crate) credential_count: i64,
    pub(crate) command_count: i64,
    pub(crate) file_count: i64,
    pub(crate) profile: Json<Shown>,
}

#[derive(sqlx::FromRow)]
struct Stored {
    #[sqlx(flatten)]
    row: Row,
    timing: Vec<u8>,
}

macro_rules! columns {
    () => {
        "a.id, a.ip, a.first_seen, a.last_seen, a.event_count, a.decky_count, a.bounty_count, a.credential_count, \
         a.command_count, a.file_count, a.profile"
    };
}

/// The profiles of those who have these addresses.
pub(crate) async fn by_ips(db: &Db, ips: &[String]) -> Result<Vec<Profile>> {
    let mut profiles = Vec::with_capacity(ips.len());
    for ips in ips.chunks(ROWS) {
        let rows: Vec<Stored> = read!(db, |pool| {
            let mut query = QueryBuilder::new(concat!(
                "SELECT ",
                columns!(),
                ", t.timing FROM attacker a JOIN attacker_timing t ON t.attacker_id = a.id WHERE a.ip IN ("
            ));
            let mut values = query.separated(", ");
            for ip in ips {
                values.push_bind(ip.clone());
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(pool).await
        })?;
        for Stored { row, timing } in rows {
            let timing = Timing::decode(&timing).unwrap_or_else(|| {
                tracing::error!(attacker = %row.id, "the timing of an attacker cannot be read and begins anew");
                Timing::default()
            });
            profiles.push(Profile {
                id: row.id,
                ip: row.ip,
                new: false,
                timing,
                shown: row.profile.0,
                decky_count: row.decky_count,
                bounty_count: row.bounty_count,
                credential_count: row.credential_count,
                command_count: row.command_count,
                file_count: row.file_count,
            });
        }
    }
    Ok(profiles)
}

/// Writes profiles, new ones and changed ones.
pub(crate) async fn write(tx: &mut Tx, profiles: &[&Profile]) -> Result<()> {
    for profiles in profiles.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO attacker (id, ip, first_seen, last_seen, event_count, service_count, decky_count, \
                 bounty_count, credential_count, command_count, file_count, behavior_class, os_guess, profile, \
                 search_text) ",
            );
            query.push_values(profiles, |mut row, profile| {
                let (first, last) = profile.timing.span().unwrap_or_default();
                row.push_bind(profile.id)
                    .push_bind(&profile.ip)
                    .push_bind(first)
                    .push_bind(last)
                    .push_bind(i64::try_from(profile.timing.events()).unwrap_or(i64::MAX))
                    .push_bind(i64::try_from(profile.shown.services.len()).unwrap_or(i64::MAX))
                    .push_bind(profile.decky_count)
                    .push_bind(profile.bounty_count)
                    .push_bind(profile.credential_count)
                    .push_bind(profile.command_count)
                    .push_bind(profile.file_count)
                    .push_bind(profile.shown.class.as_str())
                    .push_bind(profile.shown.os_guess().to_owned())
                    .push_bind(Json(&profile.shown))
                    .push_bind(profile.search_text());
            });
            query.push(
                " ON CONFLICT (id) DO UPDATE SET first_seen = excluded.first_seen, last_seen = excluded.last_seen, \
                 event_count = excluded.event_count, service_count = excluded.service_count, \
                 decky_count = excluded.decky_count, bounty_count = excluded.bounty_count, \
                 credential_count = excluded.credential_count, command_count = excluded.command_count, \
                 file_count = excluded.file_count, behavior_class = excluded.behavior_class, \
                 os_guess = excluded.os_guess, profile = excluded.profile, search_text = excluded.search_text",
            );
            query.build().persistent(profiles.len() == ROWS).execute(c).await.map(|_| ())
        })?;
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO attacker_timing (attacker_id, timing) ");
            query.push_values(profiles, |mut row, profile| {
                row.push_bind(profile.id).push_bind(profile.timing.encode());
            });
            query.push(" ON CONFLICT (attacker_id) DO UPDATE SET timing = excluded.timing");
            query.build().persistent(profiles.len() == ROWS).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Adds what attackers are found by from now on.
pub(crate) async fn add_terms(tx: &mut Tx, terms: &[(Uuid, Term)]) -> Result<()> {
    for terms in terms.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO attacker_term (attacker_id, key, value) ");
            query.push_values(terms, |mut row, (id, (key, value))| {
                row.push_bind(*id).push_bind(*key).push_bind(value);
            });
            // A name of a profile that is full is new each time.
            query.push(" ON CONFLICT DO NOTHING");
            query.build().persistent(terms.len() == ROWS).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Adds services that attackers met, and commands that they gave there.
pub(crate) async fn add_services(tx: &mut Tx, services: &[(Uuid, String, i64)]) -> Result<()> {
    for services in services.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO attacker_service (attacker_id, service, command_count) ");
            query.push_values(services, |mut row, (id, service, commands)| {
                row.push_bind(*id).push_bind(service).push_bind(*commands);
            });
            query.push(
                " ON CONFLICT (attacker_id, service) DO UPDATE \
                 SET command_count = attacker_service.command_count + excluded.command_count",
            );
            query.build().persistent(services.len() == ROWS).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// A log that is listed with its attacker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) attacker_id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) log_id: i64,
    pub(crate) service: String,
}

/// Adds logs that are listed.
pub(crate) async fn add_logs(tx: &mut Tx, logs: &[Listed]) -> Result<()> {
    for logs in logs.chunks(ROWS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("INSERT INTO attacker_log (attacker_id, kind, log_id, service) ");
            query.push_values(logs, |mut row, log| {
                row.push_bind(log.attacker_id)
                    .push_bind(log.kind.number())
                    .push_bind(log.log_id)
                    .push_bind(&log.service);
            });
            query.build().persistent(logs.len() == ROWS).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// In which order attackers are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Last seen first.
    Recent,
    /// Most events first.
    Active,
    /// Most deckies first.
    Traversals,
}

/// What attackers to list.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) search: Search,
    /// Or empty.
    pub(crate) service: String,
}

/// A condition on one attacker `a`: SQL with its values between.
enum Piece {
    Sql(&'static str),
    Text(String),
    Id(Uuid),
}

/// The conditions of a filter, with `AND` before each.
struct Conditions {
    pieces: Vec<Piece>,
    /// Whether each attacker in turn is asked, or those are looked up that it holds for. The one is right when it holds
    /// for many, the other when it holds for few.
    each: bool,
}

impl Conditions {
    fn of(filter: &Filter, each: bool) -> Self {
        let mut conditions = Conditions { pieces: Vec::new(), each };
        if !filter.service.is_empty() {
            conditions.service(&filter.service);
        }
        for (key, value) in &filter.search.keyed {
            match key {
                Key::Decky => conditions.term("decky", value),
                Key::Service => conditions.service(value),
                Key::EventType => conditions.term("event", value),
                Key::Technique => conditions.term("technique", value),
                Key::AttackerIp => conditions.text(" AND a.ip = ", value, ""),
                Key::Session => {
                    conditions.text(" AND a.id IN (SELECT attacker_id FROM attacker_session WHERE id = ", value, ")")
                }
                // An attacker has no one port.
                Key::AttackerPort => conditions.nothing(),
                Key::Field(name) => conditions.field(name, value),
            }
        }
        for word in &filter.search.anywhere {
            conditions.text(" AND a.search_text LIKE ", &contains_pattern(word), " ESCAPE '\\'");
        }
        conditions
    }

    fn text(&mut self, before: &'static str, value: &str, after: &'static str) {
        self.pieces.extend([Piece::Sql(before), Piece::Text(value.to_owned()), Piece::Sql(after)]);
    }

    fn nothing(&mut self) {
        self.pieces.push(Piece::Sql(" AND FALSE"));
    }

    fn service(&mut self, service: &str) {
        if self.each {
            const EACH: &str =
                " AND EXISTS (SELECT 1 FROM attacker_service s WHERE s.attacker_id = a.id AND s.service = ";
            self.text(EACH, service, ")");
        } else {
            self.text(" AND a.id IN (SELECT attacker_id FROM attacker_service WHERE service = ", service, ")");
        }
    }

    fn term(&mut self, key: &str, value: &str) {
        if self.each {
            const EACH: &str = " AND EXISTS (SELECT 1 FROM attacker_term t WHERE t.attacker_id = a.id AND t.key = ";
            self.text(EACH, key, " AND t.value = ");
        } else {
            self.text(" AND a.id IN (SELECT attacker_id FROM attacker_term WHERE key = ", key, " AND value = ");
        }
        self.text("", value, ")");
    }

    fn field(&mut self, name: &str, value: &str) {
        const USERNAME: &str =
            " AND a.id IN (SELECT attacker_id FROM bounty WHERE bounty_type = 'credential' AND subject = ";
        const PASSWORD: &str =
            " AND a.id IN (SELECT attacker_id FROM bounty WHERE bounty_type = 'credential' AND content = ";
        const NAME: &str = " AND a.id IN (SELECT attacker_id FROM bounty WHERE bounty_type = 'payload' AND subject = ";
        const SHA256: &str =
            " AND a.id IN (SELECT attacker_id FROM bounty WHERE bounty_type = 'payload' AND content = ";
        match name {
            "ip" => self.text(" AND a.ip = ", value, ""),
            "uuid" | "id" => match value.parse() {
                Ok(id) => self.pieces.extend([Piece::Sql(" AND a.id = "), Piece::Id(id)]),
                Err(_) => self.nothing(),
            },
            "behavior" | "behavior_class" => self.text(" AND a.behavior_class = ", value, ""),
            "os" | "os_guess" => self.text(" AND a.os_guess = ", value, ""),
            "tool" | "tool_guess" => self.term("tool", value),
            "username" => self.text(USERNAME, value, ")"),
            "password" => self.text(PASSWORD, value, ")"),
            "name" => self.text(NAME, value, ")"),
            "sha256" => self.text(SHA256, value, ")"),
            other => match fingerprint::kind(other) {
                Some(kind) => self.term(kind, value),
                None => self.nothing(),
            },
        }
    }
}

macro_rules! push {
    ($query:ident, $pieces:expr) => {
        for piece in $pieces {
            match piece {
                Piece::Sql(sql) => $query.push(*sql),
                Piece::Text(text) => $query.push_bind(text.clone()),
                Piece::Id(id) => $query.push_bind(*id),
            };
        }
    };
}

/// How many attackers a filter finds.
async fn total(db: &Db, filter: &Filter, few: &Conditions) -> Result<i64> {
    if filter.search.is_empty() && filter.service.is_empty() {
        return super::follow::attackers(db).await;
    }
    if filter.search.is_empty() {
        const SQL: &str = "SELECT COUNT(*) FROM attacker_service WHERE service = $1";
        let service = filter.service.as_str();
        return Ok(read!(db, |pool| sqlx::query_scalar(SQL).bind(service).fetch_one(pool).await)?);
    }
    Ok(read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM attacker a WHERE TRUE");
        push!(query, &few.pieces);
        query.build_query_scalar().fetch_one(pool).await
    })?)
}

/// A page of attackers, and how many there are.
pub(crate) async fn list(db: &Db, filter: &Filter, order: Order, limit: i64, offset: i64) -> Result<(Vec<Row>, i64)> {
    let few = Conditions::of(filter, false);
    let total = total(db, filter, &few).await?;
    if offset >= total {
        return Ok((Vec::new(), total));
    }
    let rows = read!(db, |pool| {
        let mut query = QueryBuilder::new(concat!("SELECT ", columns!(), " FROM attacker a WHERE "));
        if total <= FEW {
            // So that nobody walks along an index for its order until the few are found.
            query.push("a.id IN (SELECT a.id FROM attacker a WHERE TRUE");
            push!(query, &few.pieces);
            query.push(")");
        } else {
            query.push("TRUE");
            push!(query, &Conditions::of(filter, true).pieces);
        }
        query.push(match order {
            Order::Recent => " ORDER BY a.last_seen DESC, a.id DESC LIMIT ",
            Order::Active => " ORDER BY a.event_count DESC, a.id DESC LIMIT ",
            Order::Traversals => " ORDER BY a.decky_count DESC, a.last_seen DESC, a.id DESC LIMIT ",
        });
        query.push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    Ok((rows, total))
}

/// One attacker.
pub(crate) async fn find(db: &Db, id: Uuid) -> Result<Option<Row>> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM attacker a WHERE a.id = $1");
    Ok(read!(db, |pool| sqlx::query_as(SQL).bind(id).fetch_optional(pool).await)?)
}

/// A technique that an attacker showed. Moments are microseconds since 1970.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Technique {
    pub(crate) attacker_id: Uuid,
    pub(crate) technique: String,
    pub(crate) count: i64,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    pub(crate) rules: Json<Vec<String>>,
}

/// What these attackers showed, of each at most so many techniques, the most often shown first.
pub(crate) async fn techniques(db: &Db, ids: &[Uuid], most: i64) -> Result<HashMap<Uuid, Vec<Technique>>> {
    let mut all: HashMap<Uuid, Vec<Technique>> = HashMap::new();
    for ids in ids.chunks(ROWS) {
        let rows: Vec<Technique> = read!(db, |pool| {
            let mut query = QueryBuilder::new(
                "SELECT attacker_id, technique, count, first_seen, last_seen, rules FROM (SELECT attacker_id, technique, \
                 count, first_seen, last_seen, rules, ROW_NUMBER() OVER (PARTITION BY attacker_id \
                 ORDER BY count DESC, technique) AS place FROM observation WHERE attacker_id IN (",
            );
            let mut values = query.separated(", ");
            for id in ids {
                values.push_bind(*id);
            }
            query.push(")) AS ranked WHERE place <= ").push_bind(most);
            query.push(" ORDER BY attacker_id, place");
            query.build_query_as().persistent(false).fetch_all(pool).await
        })?;
        for row in rows {
            all.entry(row.attacker_id).or_default().push(row);
        }
    }
    Ok(all)
}

/// How many commands an attacker gave on a service.
pub(crate) async fn commands_on(db: &Db, id: Uuid, service: &str) -> Result<i64> {
    const SQL: &str = "SELECT command_count FROM attacker_service WHERE attacker_id = $1 AND service = $2";
    let count: Option<i64> =
        read!(db, |pool| sqlx::query_scalar(SQL).bind(id).bind(service).fetch_optional(pool).await)?;
    Ok(count.unwrap_or(0))
}

/// A page of the ids of logs that are listed with an attacker, newest first; on one service, or with an empty name on
/// all.
pub(crate) async fn logs(db: &Db, id: Uuid, kind: Kind, service: &str, limit: i64, offset: i64) -> Result<Vec<i64>> {
    const ALL: &str = "SELECT log_id FROM attacker_log WHERE attacker_id = $1 AND kind = $2 \
                       ORDER BY log_id DESC LIMIT $3 OFFSET $4";
    const ON_SERVICE: &str = "SELECT log_id FROM attacker_log WHERE attacker_id = $1 AND kind = $2 AND service = $5 \
                              ORDER BY log_id DESC LIMIT $3 OFFSET $4";
    Ok(read!(db, |pool| {
        let query = sqlx::query_scalar(if service.is_empty() { ALL } else { ON_SERVICE });
        let query = query.bind(id).bind(kind.number()).bind(limit).bind(offset);
        let query = if service.is_empty() { query } else { query.bind(service) };
        query.fetch_all(pool).await
    })?)
}
