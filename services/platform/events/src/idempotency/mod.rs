//! A change that is asked for twice is made once: requests with an `Idempotency-Key`.
//!
//! The key is used up in the database of the service that makes the change, in the transaction of the change, so that
//! both are there or neither is, whatever ends when. The answer is added right after. The same request sent again
//! within 24 hours gets that answer; another one with the key is refused (422). Where the process ended between the
//! change and its answer, or the answer holds a secret, the repetition hears what was made (409 with its id).
//!
//! A request that failed and changed nothing has not used its key. One that failed after it had changed something (a
//! sync whose document cannot be read) has; its failure is the answer, unless that was a passing one.

mod answer;
mod claim;
mod methods;
pub(crate) mod store;

use std::{
    convert::Infallible,
    panic,
    task::{Context, Poll},
    time::Duration,
};

use aegis_auth::{IdempotencyKey, OpCtx, Principal, Role};
use aegis_db::{Db, now};
use aegis_error::{Code, Failure};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument;

use answer::Answer;
use claim::Fingerprints;
use methods::Method;
use store::{Kept, Use, Used};

pub use claim::Claim;

/// Largest request that is read, bytes: what a service takes at most, and the frame around it.
const MAX_REQUEST: usize = 16 * 1024 * 1024 + 1024;
/// How long a repetition waits for the first answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// A request goes on this long after its caller stopped waiting, to bring its answer to where a repetition finds it.
const GRACE: Duration = Duration::from_secs(5);

/// Puts [`Idempotent`] around a service, inside of its [`aegis_auth::AuthLayer`].
#[derive(Clone)]
pub struct IdempotencyLayer {
    db: Db,
    fingerprints: Fingerprints,
}

impl IdempotencyLayer {
    /// Over the database of the service, which has the tables of [`crate::migrations`]. Fingerprints of requests are
    /// keyed with `secret`, which all replicas share.
    pub fn new(db: Db, secret: &SecretString) -> Self {
        IdempotencyLayer { db, fingerprints: Fingerprints::new(secret.expose_secret().as_bytes()) }
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotent<S>;

    fn layer(&self, inner: S) -> Idempotent<S> {
        Idempotent { inner, layer: self.clone() }
    }
}

/// See [`IdempotencyLayer`].
#[derive(Clone)]
pub struct Idempotent<S> {
    inner: S,
    layer: IdempotencyLayer,
}

impl<S> Service<Request<Body>> for Idempotent<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let Some(keyed) = Keyed::of(&self.layer, &request) else {
            return Box::pin(inner.call(request));
        };
        // Of its own: whoever sends a key sends again when no answer comes, and is to find one then.
        let until = keyed.ctx.deadline().map(|deadline| Instant::from_std(deadline) + GRACE);
        let run = async move {
            let run = keyed.run(inner, request);
            let answer = match until {
                Some(until) => tokio::time::timeout_at(until, run).await,
                None => Ok(run.await),
            };
            match answer {
                Ok(Ok(response)) => response,
                Ok(Err(failure)) => Status::from(failure).into_http(),
                Err(_) => Status::deadline_exceeded("the deadline passed").into_http(),
            }
        };
        let run = tokio::spawn(run.instrument(tracing::Span::current()));
        Box::pin(async move {
            match run.await {
                Ok(response) => Ok(response),
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                Err(_) => Ok(Status::unavailable("the process is about to stop").into_http()),
            }
        })
    }
}

/// A request that came with a key, by someone who is signed in, for a change.
struct Keyed {
    db: Db,
    fingerprints: Fingerprints,
    method: Method,
    ctx: OpCtx,
    key_hash: Vec<u8>,
}

impl Keyed {
    fn of(layer: &IdempotencyLayer, request: &Request<Body>) -> Option<Keyed> {
        let ctx = request.extensions().get::<OpCtx>()?;
        let key = ctx.idempotency_key()?;
        let user = ctx.anyone().filter(|user| user.role != Role::Service)?;
        let path = request.uri().path();
        Some(Keyed {
            db: layer.db.clone(),
            fingerprints: layer.fingerprints.clone(),
            method: methods::method(path)?,
            ctx: ctx.clone(),
            key_hash: key_hash(user, path, key),
        })
    }

    async fn run<S>(self, mut inner: S, request: Request<Body>) -> Result<Response<Body>, Failure>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let (mut head, body) = request.into_parts();
        let (body, fingerprint) = match self.method.streamed {
            true => (body, None),
            false => {
                let bytes = Limited::new(body, MAX_REQUEST).collect().await.map_err(unreadable)?.to_bytes();
                let fingerprint = self.fingerprints.of(&[&bytes]);
                (Body::new(Full::new(bytes)), Some(fingerprint))
            }
        };
        // Who must change the password first gets nothing from memory: the service refuses.
        let used = match self.ctx.anyone() {
            Some(user) if user.must_change_password => None,
            _ => store::find(&self.db, &self.key_hash, now()).await?,
        };
        let repeat = used.is_some();
        if let (Some(used), Some(fingerprint)) = (used, &fingerprint) {
            return self.first_answer(used, fingerprint).await;
        }
        let claim = Claim::new(self.key_hash.clone(), self.fingerprints.clone(), fingerprint, repeat);
        head.extensions.insert(self.ctx.clone().with_extension(claim.clone()));
        let response = match inner.call(Request::from_parts(head, body)).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let answer = Answer::read(response).await.map_err(Failure::from)?;
        match answer.failure() {
            None => self.succeeded(&claim, answer).await,
            Some(failure) => self.failed(&claim, &failure, answer).await,
        }
    }

    async fn succeeded(&self, claim: &Claim, answer: Answer) -> Result<Response<Body>, Failure> {
        let kept = answer.kept().filter(|_| !self.method.secret);
        if claim.committed() {
            if let Some(kept) = kept {
                self.keep(claim, &kept).await;
            }
            return Ok(answer.into_response());
        }
        // There was nothing to change. Again: the key stands for this answer from now on.
        let Some(fingerprint) = claim.fingerprint() else { return Ok(answer.into_response()) };
        let row = Use { key_hash: claim.key_hash(), fingerprint, claim: claim.id(), entity_id: "" };
        let mut tx = self.db.begin().await?;
        if store::insert(&mut tx, &row, kept.as_ref(), now()).await? {
            tx.commit_relaxed().await?;
            return Ok(answer.into_response());
        }
        tx.rollback().await?;
        // There was nothing to change any more: the same request had done it in the meantime.
        match store::find(&self.db, claim.key_hash(), now()).await? {
            Some(used) => self.first_answer(used, fingerprint).await,
            None => Ok(answer.into_response()),
        }
    }

    async fn failed(&self, claim: &Claim, failure: &Failure, answer: Answer) -> Result<Response<Body>, Failure> {
        if claim.committed() {
            if let Some(kept) = answer.kept().filter(|_| !failure.is_transient()) {
                self.keep(claim, &kept).await;
            }
            return Ok(answer.into_response());
        }
        // Maybe because the same request was faster: what it changed is there now, and its key with it.
        if let Some(fingerprint) = claim.fingerprint().filter(|_| failure.code() != Code::PasswordChangeRequired)
            && let Some(used) = store::find(&self.db, claim.key_hash(), now()).await?
        {
            return self.first_answer(used, fingerprint).await;
        }
        Ok(answer.into_response())
    }

    /// Adds the answer to the claim. It can be lost: then a repetition hears that the change was made.
    async fn keep(&self, claim: &Claim, kept: &Kept) {
        let kept: aegis_db::Result<()> = async {
            let mut tx = self.db.begin().await?;
            store::finish(&mut tx, claim.key_hash(), claim.id(), kept).await?;
            tx.commit_relaxed().await
        }
        .await;
        if let Err(error) = kept {
            tracing::warn!(%error, "the answer to a request with an Idempotency-Key could not be kept");
        }
    }

    /// The answer of the request that used the key, for one with this fingerprint.
    async fn first_answer(&self, mut used: Used, fingerprint: &[u8]) -> Result<Response<Body>, Failure> {
        let mut until = Instant::now() + PATIENCE;
        if let Some(deadline) = self.ctx.deadline() {
            // In time to say so.
            until = until.min(Instant::from_std(deadline) - 2 * LOOK);
        }
        loop {
            if used.fingerprint != fingerprint {
                let text = "this Idempotency-Key was used with another request in the last 24 hours: take a new one";
                return Err(Failure::new(Code::Unprocessable, text));
            }
            if let Some(kept) = used.kept() {
                return Ok(answer::again(kept));
            }
            if self.method.secret || Instant::now() >= until {
                return Err(self.unanswered(&used));
            }
            tokio::time::sleep(LOOK).await;
            match store::find(&self.db, &self.key_hash, now()).await? {
                Some(now) => used = now,
                None => return Err(self.unanswered(&used)),
            }
        }
    }

    fn unanswered(&self, used: &Used) -> Failure {
        let text = match self.method.secret {
            true => {
                "the first request with this Idempotency-Key was carried out; its answer holds a secret and is given once"
            }
            false => {
                "the first request with this Idempotency-Key was carried out, but its answer is not there: it is still \
                 on its way, or was lost"
            }
        };
        let failure = Failure::new(Code::Conflict, text);
        if used.entity_id.is_empty() { failure } else { failure.with("id", used.entity_id.clone()) }
    }
}

fn key_hash(user: &Principal, path: &str, key: &IdempotencyKey) -> Vec<u8> {
    // The role, because a user's API key of a lesser one must not be given the answer to a greater one. None of the
    // parts holds a line break.
    let texts = [user.role.as_str(), path, key.as_str()].join("\n");
    Sha256::new().chain_update(user.user_id.as_bytes()).chain_update(texts).finalize().to_vec()
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    match error.downcast::<Status>() {
        Ok(status) => (*status).into(),
        Err(error) if error.is::<LengthLimitError>() => {
            Failure::new(Code::TooLarge, format!("the request is larger than {MAX_REQUEST} bytes"))
        }
        Err(error) => Failure::internal(error),
    }
}
