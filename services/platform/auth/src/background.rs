//! Contexts for work that no user asked for just now: a short-lived token of the process itself.

use std::{sync::Arc, time::Duration};

use aegis_error::Failure;
use futures::future::BoxFuture;
use tokio::{sync::Mutex, time::Instant};
use uuid::Uuid;

use crate::{OpCtx, Origin};

/// A token is asked for anew when it has less than this left.
const MARGIN: Duration = Duration::from_secs(60);

/// Asks identity for a service token; answers the token and how long it holds.
pub type IssueToken = Arc<dyn Fn() -> BoxFuture<'static, Result<(String, Duration), Failure>> + Send + Sync>;

/// Gives contexts for background work. Cheap to clone; clones share the token.
#[derive(Clone)]
pub struct Background {
    issue: IssueToken,
    held: Arc<Mutex<Option<(String, Instant)>>>,
}

impl Background {
    /// Tokens come from `issue`.
    pub fn new(issue: IssueToken) -> Self {
        Background { issue, held: Arc::default() }
    }

    /// A context whose calls carry the process's own token, with a request id of its own and no deadline.
    pub async fn ctx(&self) -> Result<OpCtx, Failure> {
        let mut held = self.held.lock().await;
        let token = match held.as_ref() {
            Some((token, until)) if *until > Instant::now() => token.clone(),
            _ => {
                let (token, lasts) = (self.issue)().await?;
                *held = Some((token.clone(), Instant::now() + lasts.saturating_sub(MARGIN)));
                token
            }
        };
        let origin = Origin { request_id: Uuid::now_v7().to_string(), ..Origin::default() };
        Ok(OpCtx::new(None, Some(token), origin, None))
    }
}
