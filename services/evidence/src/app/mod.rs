//! The use cases: bring a file, read about files, read a file, clear away what was left behind.

mod download;
mod housekeeping;
mod read;
mod upload;

use aegis_auth::OpCtx;
use aegis_blob::Blobs;
use aegis_db::Db;
use aegis_error::Failure;
use aegis_events::Outbox;
use aegis_proto::testing::v1::{GetTestRequest, testing_service_client::TestingServiceClient};
use aegis_rpc::RpcService;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::{Config, Deps, domain::LinkSigner, error::Error, store::Evidence};

pub(crate) use download::Download;
pub(crate) use read::Page;
pub(crate) use upload::{Header, Part};

/// What the use cases stand on.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    blobs: Blobs,
    testing: TestingServiceClient<RpcService>,
    signer: LinkSigner,
    config: Config,
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
        let Deps { db, bus: _, blobs, testing, config } = deps;
        config.check()?;
        let signer = LinkSigner::new(config.link_secret.expose_secret().as_bytes())
            .ok_or_else(|| Failure::invalid("link_secret", "cannot sign links"))?;
        let testing = testing.max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
        Ok(App { db, outbox, blobs, testing, signer, config })
    }

    #[cfg(test)]
    pub(crate) fn signer(&self) -> &LinkSigner {
        &self.signer
    }

    /// Fails unless the test exists and still takes evidence.
    async fn check_test(&self, ctx: &OpCtx, test_id: Uuid) -> Result<(), Error> {
        let request = ctx.outgoing(GetTestRequest { id: test_id.to_string() });
        let answer = self.testing.clone().get_test(request).await.map_err(Failure::from)?;
        match answer.into_inner().test {
            Some(test) if test.state == "validated" => Err(Error::Validated),
            Some(_) => Ok(()),
            None => Err(Failure::not_found("test", test_id).into()),
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
