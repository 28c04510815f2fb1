//! Sessions of attackers: derived from logs, listed, played back.

use std::collections::HashMap;

use aegis_auth::OpCtx;
use aegis_db::page;
use aegis_error::Failure;
use uuid::Uuid;

use super::{App, artifacts::Chunks, attackers::parse_id};
use crate::{
    domain::{alert::told, event::Log, profile::Seen},
    error::Error,
    store::{self, sessions::Session},
};

/// Most characters of a name that logged in.
const MAX_USERNAME: usize = 128;

/// Sessions of a batch.
#[derive(Default)]
pub(super) struct Gathered(HashMap<(Uuid, String), Session>);

impl Gathered {
    /// Adds an event to its session.
    pub(super) fn add(&mut self, attacker_id: Uuid, seen: &Seen<'_>, log: &Log) {
        if log.session_id.is_empty() {
            return;
        }
        let session = self.0.entry((attacker_id, log.session_id.clone())).or_insert_with(|| Session {
            attacker_id,
            id: log.session_id.clone(),
            decky: log.decky.clone(),
            service: log.service.clone(),
            started_at: seen.at,
            last_at: seen.at,
            ended_at: None,
            event_count: 0,
            command_count: 0,
            username: None,
        });
        session.started_at = session.started_at.min(seen.at);
        session.last_at = session.last_at.max(seen.at);
        session.event_count += 1;
        session.command_count += i64::from(seen.is_command());
        match seen.event_type {
            "disconnect" => session.ended_at = Some(seen.at),
            "auth_success" if session.username.is_none() => {
                session.username = seen.facts.username.as_deref().map(|name| name.chars().take(MAX_USERNAME).collect());
            }
            _ => {}
        }
    }

    pub(super) fn into_rows(self) -> Vec<Session> {
        self.0.into_values().collect()
    }
}

/// A session, and whether it was recorded.
pub(crate) type Told = (Session, bool);

impl App {
    /// A page of an attacker's sessions, the latest first; the token of the next one; how many there are.
    pub(crate) async fn list_attacker_sessions(
        &self,
        ctx: &OpCtx,
        uuid: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<(Vec<Told>, String, i64), Error> {
        ctx.user()?;
        let limit = page::size(page_size, 50, 200)?;
        let offset = page::offset(page_token, skip)?;
        let attacker = self.attacker(parse_id(uuid)?).await?;
        let (rows, total) = store::sessions::list(&self.db, attacker.id, limit, offset).await?;
        let next = page::next_offset(offset, rows.len(), total);
        let ids: Vec<String> = rows.iter().map(|session| session.id.clone()).collect();
        let recorded = store::artifacts::recorded(&self.db, &ids).await?;
        let rows = rows.into_iter().map(|session| {
            let recorded = recorded.contains(&session.id);
            (session, recorded)
        });
        Ok((rows.collect(), next, total))
    }

    /// The bytes of a recorded session: asciicast v2.
    pub(crate) async fn read_recording(&self, ctx: &OpCtx, uuid: &str, session_id: &str) -> Result<Chunks, Error> {
        ctx.user()?;
        let attacker = self.attacker(parse_id(uuid)?).await?;
        let unknown = || Failure::not_found("recording of a session", told(session_id));
        // Nothing else is an id, and some of it no database takes.
        if !session_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unknown().into());
        }
        store::sessions::find(&self.db, attacker.id, session_id).await?.ok_or_else(unknown)?;
        Ok(self.recording(session_id).await?.ok_or_else(unknown)?)
    }
}
