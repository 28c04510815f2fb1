//! What attackers left: derived from logs, listed.

use std::collections::HashMap;

use aegis_auth::OpCtx;
use aegis_db::{Tx, page};
use aegis_error::Fields;
use ring::digest::{Context, SHA256};
use serde_json::json;

use super::{App, attackers::parse_search, follow::Batch};
use crate::{
    domain::{
        event::Log,
        facts::cut,
        fingerprint,
        profile::{Profile, Seen},
    },
    error::Error,
    store::{
        self,
        bounty::{Bounty, Filter, Hash},
    },
};

/// The types, as they are told.
pub(crate) const TYPES: [&str; 3] = ["credential", "fingerprint", "payload"];
const CREDENTIAL: &str = TYPES[0];
const FINGERPRINT: &str = TYPES[1];
const PAYLOAD: &str = TYPES[2];

/// Bounties of a batch.
#[derive(Default)]
pub(super) struct Gathered(HashMap<Hash, Bounty>);

impl Gathered {
    /// Adds what an event has of it.
    pub(super) fn add(&mut self, profile: &Profile, seen: &Seen<'_>, log: &Log) {
        let facts = seen.facts;
        if seen.event_type.starts_with("auth_")
            // A key is no secret of which anything is known.
            && (facts.password.is_some() || (facts.username.is_some() && !facts.is_public_key()))
        {
            let username = cut(facts.username.as_deref().unwrap_or_default());
            let password = cut(facts.password.as_deref().unwrap_or_default());
            self.note(profile, seen, log, CREDENTIAL, username, password, None);
        }
        for (kind, value) in fingerprint::of(facts) {
            self.note(profile, seen, log, FINGERPRINT, kind.to_owned(), value, None);
        }
        if seen.is_file()
            && let Some(sha256) = &facts.sha256
        {
            let name = facts.name.as_deref().or(facts.path.as_deref()).unwrap_or_default();
            let details = json!({
                "path": facts.path, "size": facts.size, "stored_as": facts.stored_as,
            });
            self.note(profile, seen, log, PAYLOAD, cut(name), cut(sha256), Some(details.to_string()));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the columns")]
    fn note(
        &mut self,
        profile: &Profile,
        seen: &Seen<'_>,
        log: &Log,
        bounty_type: &'static str,
        subject: String,
        content: String,
        details: Option<String>,
    ) {
        // The same credential on another service is another one; the same file under another name is not.
        let (place, name) = match bounty_type {
            CREDENTIAL => (log.service.as_str(), subject.as_str()),
            FINGERPRINT => ("", subject.as_str()),
            _ => ("", ""),
        };
        let hash = hash(&[
            bounty_type.as_bytes(),
            profile.id.as_bytes(),
            place.as_bytes(),
            name.as_bytes(),
            content.as_bytes(),
        ]);
        let bounty = self.0.entry(hash).or_insert_with(|| Bounty {
            id: 0,
            bounty_type: bounty_type.to_owned(),
            attacker_id: profile.id,
            attacker_ip: profile.ip.clone(),
            decky: log.decky.clone(),
            service: log.service.clone(),
            subject,
            content,
            details,
            first_seen: seen.at,
            last_seen: seen.at,
            count: 0,
        });
        bounty.count += 1;
        bounty.first_seen = bounty.first_seen.min(seen.at);
        bounty.last_seen = bounty.last_seen.max(seen.at);
    }

    /// Writes them, and counts the new ones in the profiles.
    pub(super) async fn write(&mut self, tx: &mut Tx, batch: &mut Batch) -> aegis_db::Result<()> {
        let rows: Vec<(Hash, Bounty)> = std::mem::take(&mut self.0).into_iter().collect();
        let new = store::bounty::add(tx, &rows).await?;
        let rows: HashMap<Hash, Bounty> = rows.into_iter().collect();
        for bounty in new.iter().filter_map(|hash| rows.get(hash)) {
            if let Some(profile) = batch.profiles.get_mut(&bounty.attacker_ip) {
                profile.bounty_count += 1;
                profile.credential_count += i64::from(bounty.bounty_type == CREDENTIAL);
            }
        }
        Ok(())
    }
}

/// A digest of texts, each told from the next by its length.
fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = Hash::default();
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}

impl Bounty {
    /// What was left, as a flat JSON object of texts.
    pub(crate) fn payload_json(&self) -> String {
        let (subject, content) = (&self.subject, &self.content);
        match self.bounty_type.as_str() {
            CREDENTIAL => json!({ "username": subject, "password": content }).to_string(),
            FINGERPRINT => json!({ "kind": subject, "value": content }).to_string(),
            _ => {
                let mut payload = json!({ "name": subject, "sha256": content });
                let details = self.details.as_deref().and_then(|details| serde_json::from_str(details).ok());
                if let (Some(payload), Some(serde_json::Value::Object(details))) = (payload.as_object_mut(), details) {
                    payload.extend(details.into_iter().filter(|(_, value)| value.is_string()));
                }
                payload.to_string()
            }
        }
    }
}

impl App {
    /// A page of what attackers left, last seen first; the token of the next one; how many there are.
    pub(crate) async fn list_bounty(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
        bounty_type: &str,
        search: &str,
    ) -> Result<(Vec<Bounty>, String, i64), Error> {
        ctx.user()?;
        let limit = page::size(page_size, 50, 1_000)?;
        let offset = page::offset(page_token, skip)?;
        let mut fields = Fields::default();
        if !bounty_type.is_empty() {
            fields.one_of("bounty_type", bounty_type, &TYPES);
        }
        fields.finish()?;
        let search = parse_search(search)?;
        let filter = Filter { search, bounty_type: bounty_type.to_owned() };
        let (rows, total) = store::bounty::list(&self.db, &filter, limit, offset).await?;
        let next = page::next_offset(offset, rows.len(), total);
        Ok((rows, next, total))
    }
}
