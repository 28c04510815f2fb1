//! Tickets for event streams: a browser's EventSource sends no headers, and a token in a URL ends up in logs. A ticket
//! holds for a minute and works once.

use std::time::Duration;

use aegis_auth::{AUDIENCE, Claims, ISSUER, OpCtx, Role};
use aegis_cache::CacheError;
use aegis_db::now;
use aegis_error::{Code, Failure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::error::Error;

use super::{App, tokens::Token};

/// How a ticket begins.
const PREFIX: &str = "aegis_st_";
/// How long it holds.
pub(crate) const LIFETIME: Duration = Duration::from_secs(60);
/// Longest text that is looked at.
const MAX_TICKET: usize = 128;

impl App {
    /// A ticket for one stream. For everybody who is signed in and has nothing left to do before working.
    pub(crate) async fn create_stream_ticket(&self, ctx: &OpCtx) -> Result<SecretString, Error> {
        let principal = ctx.user()?;
        if principal.role == Role::Service {
            return Err(Failure::forbidden("a process needs no ticket").into());
        }
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: principal.user_id,
            name: principal.username.clone(),
            // A stream is read; the ticket opens nothing more, whoever it falls to.
            role: Role::Viewer,
            // With the token that asked, or its user's tokens, the stream ends too.
            jti: principal.jti,
            iat: now().timestamp(),
            exp: principal.expires_at.timestamp(),
            epoch: principal.epoch,
            pwd: false,
        };
        let ticket = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        let value = serde_json::to_vec(&claims).map_err(Failure::internal)?;
        self.cache.set(&key(&ticket), &value, LIFETIME).await.map_err(away)?;
        Ok(ticket.into())
    }

    /// Exchanges a ticket for a token, once. For everybody who has one.
    pub(crate) async fn redeem_stream_ticket(&self, ticket: &SecretString) -> Result<Token, Error> {
        let refused = || Failure::new(Code::Unauthenticated, "the ticket does not hold: get a new one for each stream");
        let ticket = ticket.expose_secret();
        if ticket.len() > MAX_TICKET || !ticket.starts_with(PREFIX) {
            return Err(refused().into());
        }
        let value = self.cache.take(&key(ticket)).await.map_err(away)?.ok_or_else(refused)?;
        let claims: Claims = serde_json::from_slice(&value).map_err(Failure::internal)?;
        self.tokens.sign(claims).await
    }
}

/// What is kept of a ticket: who reads the cache cannot use it.
fn key(ticket: &str) -> String {
    format!("ticket:{}", hex::encode(Sha256::digest(ticket)))
}

fn away(error: CacheError) -> Failure {
    Failure::unavailable("the cache").with_source(error)
}
