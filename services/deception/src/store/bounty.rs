//! SQL of what attackers left: credentials, fingerprints, files.

use std::collections::HashMap;

use aegis_db::{Db, Result, Tx, contains_pattern, on, read};
use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::domain::{
    fingerprint,
    search::{Key, Search},
};

/// Rows of one statement; the statement of whole chunks is made once.
const ROWS: usize = 500;

/// So many of a filter are found first and then put in order; of more, the first in order are looked for.
const FEW: i64 = 2_000;

/// What makes a bounty one: a digest of its type, attacker and content.
pub(crate) type Hash = [u8; 16];

/// Something that an attacker left. Moments are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Bounty {
    /// 0 before it is stored.
    pub(crate) id: i64,
    pub(crate) bounty_type: String,
    pub(crate) attacker_id: Uuid,
    pub(crate) attacker_ip: String,
    /// Where it was left first.
    pub(crate) decky: String,
    pub(crate) service: String,
    pub(crate) subject: String,
    pub(crate) content: String,
    /// JSON.
    pub(crate) details: Option<String>,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    pub(crate) count: i64,
}

/// Adds to what is known. The new ones.
pub(crate) async fn add(tx: &mut Tx, bounties: &[(Hash, Bounty)]) -> Result<Vec<Hash>> {
    let mut new = Vec::new();
    for bounties in bounties.chunks(ROWS) {
        let counts: Vec<(Vec<u8>, i64)> = on!(tx, |c| {
            let mut query = QueryBuilder::new(
                "INSERT INTO bounty (hash, bounty_type, attacker_id, attacker_ip, decky, service, subject, content, \
                 details, first_seen, last_seen, count) ",
            );
            query.push_values(bounties, |mut row, (hash, bounty)| {
                row.push_bind(hash.to_vec())
                    .push_bind(&bounty.bounty_type)
                    .push_bind(bounty.attacker_id)
                    .push_bind(&bounty.attacker_ip)
                    .push_bind(&bounty.decky)
                    .push_bind(&bounty.service)
                    .push_bind(&bounty.subject)
                    .push_bind(&bounty.content)
                    .push_bind(&bounty.details)
                    .push_bind(bounty.first_seen)
                    .push_bind(bounty.last_seen)
                    .push_bind(bounty.count);
            });
            query.push(
                " ON CONFLICT (hash) DO UPDATE SET count = bounty.count + excluded.count, \
                 first_seen = CASE WHEN excluded.first_seen < bounty.first_seen \
                 THEN excluded.first_seen ELSE bounty.first_seen END, \
                 last_seen = CASE WHEN excluded.last_seen > bounty.last_seen \
                 THEN excluded.last_seen ELSE bounty.last_seen END \
                 RETURNING hash, count",
            );
            query.build_query_as().persistent(bounties.len() == ROWS).fetch_all(c).await
        })?;
        let added: HashMap<&[u8], i64> =
            bounties.iter().map(|(hash, bounty)| (hash.as_slice(), bounty.count)).collect();
        for (hash, count) in counts {
            // What was there before has more than was added now.
            if added.get(hash.as_slice()) == Some(&count)
                && let Ok(hash) = Hash::try_from(hash)
            {
                new.push(hash);
            }
        }
    }
    Ok(new)
}

/// What bounties to list.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) search: Search,
    /// Or empty.
    pub(crate) bounty_type: String,
}

/// SQL with its values between.
enum Piece {
    Sql(&'static str),
    Text(String),
}

impl Filter {
    /// The conditions, with `AND` before each.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut same = |sql: &'static str, value: &str| {
            pieces.push(Piece::Sql(sql));
            pieces.push(Piece::Text(value.to_owned()));
        };
        if !self.bounty_type.is_empty() {
            same(" AND bounty_type = ", &self.bounty_type);
        }
        let mut nothing = false;
        for (key, value) in &self.search.keyed {
            match key {
                Key::Decky => same(" AND decky = ", value),
                Key::Service => same(" AND service = ", value),
                Key::AttackerIp => same(" AND attacker_ip = ", value),
                Key::Field(name) => match name.as_str() {
                    "type" | "bounty_type" => same(" AND bounty_type = ", value),
                    "username" => same(" AND bounty_type = 'credential' AND subject = ", value),
                    "password" => same(" AND bounty_type = 'credential' AND content = ", value),
                    "kind" => same(" AND bounty_type = 'fingerprint' AND subject = ", value),
                    "value" => same(" AND bounty_type = 'fingerprint' AND content = ", value),
                    "name" => same(" AND bounty_type = 'payload' AND subject = ", value),
                    "sha256" => same(" AND bounty_type = 'payload' AND content = ", value),
                    other => match fingerprint::kind(other) {
                        Some(kind) => {
                            same(" AND bounty_type = 'fingerprint' AND content = ", value);
                            same(" AND subject = ", kind);
                        }
                        None => nothing = true,
                    },
                },
                // No bounty has any of these.
                Key::EventType | Key::AttackerPort | Key::Session | Key::Technique => nothing = true,
            }
        }
        if nothing {
            pieces.push(Piece::Sql(" AND FALSE"));
        }
        for word in &self.search.anywhere {
            pieces.push(Piece::Sql(
                " AND LOWER(subject || ' ' || content || ' ' || attacker_ip || ' ' || decky || ' ' || service || ' ' || \
                 bounty_type || ' ' || COALESCE(details, '')) LIKE ",
            ));
            pieces.push(Piece::Text(contains_pattern(word)));
            pieces.push(Piece::Sql(" ESCAPE '\\'"));
        }
        pieces
    }
}

macro_rules! push {
    ($query:ident, $pieces:expr) => {
        for piece in $pieces {
            match piece {
                Piece::Sql(sql) => $query.push(*sql),
                Piece::Text(text) => $query.push_bind(text.clone()),
            };
        }
    };
}

/// A page of bounties, last seen first, and how many there are.
pub(crate) async fn list(db: &Db, filter: &Filter, limit: i64, offset: i64) -> Result<(Vec<Bounty>, i64)> {
    let pieces = filter.pieces();
    let total: i64 = read!(db, |pool| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM bounty WHERE TRUE");
        push!(query, &pieces);
        query.build_query_scalar().fetch_one(pool).await
    })?;
    if offset >= total {
        return Ok((Vec::new(), total));
    }
    let rows = read!(db, |pool| {
        let mut query = QueryBuilder::new(
            "SELECT id, bounty_type, attacker_id, attacker_ip, decky, service, \
         subject, content, details, first_seen, last_seen, count \
         FROM bounty WHERE TRUE",
        );
        if total <= FEW {
            // So that nobody walks along an index for its order until the few are found.
            query.push(" AND id IN (SELECT id FROM bounty WHERE TRUE");
            push!(query, &pieces);
            query.push(")");
        } else {
            push!(query, &pieces);
        }
        query.push(" ORDER BY last_seen DESC, id DESC LIMIT ").push_bind(limit).push(" OFFSET ").push_bind(offset);
        query.build_query_as().fetch_all(pool).await
    })?;
    Ok((rows, total))
}
