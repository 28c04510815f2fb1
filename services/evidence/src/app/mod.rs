//! The use cases: bring a file, read about files, read a file, verify it, remove it; clear away what was left behind.

mod download;
mod hash;
mod housekeeping;
mod look;
mod manifest;
mod read;
mod remove;
mod upload;
mod verify;

use std::time::Duration;

use aegis_auth::{Background, OpCtx};
use aegis_blob::Blobs;
use aegis_db::Db;
use aegis_error::Failure;
use aegis_events::Outbox;
use aegis_proto::{
    identity::v1::identity_service_client::IdentityServiceClient,
    testing::v1::{GetTestRequest, Test, testing_service_client::TestingServiceClient},
};
use aegis_rpc::RpcService;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use crate::{Config, Deps, domain::LinkSigner, error::Error, store::Evidence};

pub(crate) use download::{Download, Shown};
pub(crate) use read::Page;
pub(crate) use upload::{Header, Part};
pub(crate) use verify::Verified;

/// Files of one test at most: as many as one list and one manifest show.
pub(crate) const MAX_FILES: i64 = 1_000;
/// The state in which a test takes no evidence and gives none away.
const VALIDATED: &str = "validated";
/// A download that goes on this long after its last beginning is another one.
const SAME_DOWNLOAD: Duration = Duration::from_secs(5 * 60);
/// Links that are remembered to have been used.
const MAX_DOWNLOADS: u64 = 10_000;

/// What the use cases stand on.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    blobs: Blobs,
    testing: TestingServiceClient<RpcService>,
    identity: IdentityServiceClient<RpcService>,
    background: Background,
    signer: LinkSigner,
    config: Config,
    /// Links that were used not long ago: the file, the user, the end of the link.
    downloads: moka::sync::Cache<(Uuid, Uuid, i64), ()>,
    verifying: Semaphore,
    /// There are blobs to be removed.
    pub(crate) left: Notify,
}

/// A file with a link that reads it.
pub(crate) struct Linked {
    pub(crate) evidence: Evidence,
    pub(crate) link: Link,
}

/// See [`Linked`].
pub(crate) struct Link {
    pub(crate) url: String,
    pub(crate) expires_at: DateTime<Utc>,
    /// The store serves it itself, so that we do not see when it is used.
    direct: bool,
}

impl App {
    pub(crate) fn new(deps: Deps, outbox: Outbox) -> Result<Self, Failure> {
        let Deps { db, bus: _, blobs, testing, identity, background, config } = deps;
        config.check()?;
        let signer = LinkSigner::new(config.link_secret.expose_secret().as_bytes())
            .ok_or_else(|| Failure::invalid("link_secret", "cannot sign links"))?;
        let testing = testing.max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
        Ok(App {
            db,
            outbox,
            blobs,
            testing,
            identity,
            background,
            signer,
            config,
            downloads: moka::sync::Cache::builder().max_capacity(MAX_DOWNLOADS).time_to_live(SAME_DOWNLOAD).build(),
            verifying: Semaphore::new(verify::AT_ONCE),
            left: Notify::new(),
        })
    }

    #[cfg(test)]
    pub(crate) fn signer(&self) -> &LinkSigner {
        &self.signer
    }

    /// The test, as it is now.
    async fn test(&self, ctx: &OpCtx, test_id: Uuid) -> Result<Test, Error> {
        let request = ctx.outgoing(GetTestRequest { id: test_id.to_string() });
        let answer = self.testing.clone().get_test(request).await.map_err(Failure::from)?;
        Ok(answer.into_inner().test.ok_or_else(|| Failure::not_found("test", test_id))?)
    }

    /// Fails unless the test exists and still takes evidence.
    async fn check_test(&self, ctx: &OpCtx, test_id: Uuid) -> Result<(), Error> {
        match self.test(ctx, test_id).await?.state == VALIDATED {
            true => Err(Error::Validated),
            false => Ok(()),
        }
    }

    /// A link that reads a file, made for `user`.
    async fn link(&self, evidence: &Evidence, user: Uuid) -> Result<Link, Error> {
        let lifetime = self.config.link_lifetime;
        let now = Utc::now();
        let lasts = TimeDelta::from_std(lifetime).unwrap_or(TimeDelta::MAX);
        let expires = now.checked_add_signed(lasts).unwrap_or(DateTime::<Utc>::MAX_UTC).timestamp();
        let expires_at = DateTime::from_timestamp(expires, 0).unwrap_or(now);
        let presigned = self.blobs.presign(&evidence.blob_key(), lifetime).await?;
        let direct = presigned.is_some();
        let url = match presigned {
            Some(url) => url.into(),
            None => {
                let signature = self.signer.sign(evidence.id, user, expires);
                let (path, id) = (&self.config.public_path, evidence.id);
                format!("{path}/{id}/download?expires={expires}&user={user}&signature={signature}")
            }
        };
        Ok(Link { url, expires_at, direct })
    }
}
