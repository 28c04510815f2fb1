//! Sigma rules of the catalogue: asked for at the start and whenever they change there, kept in the service's own tables,
//! from where every process of it reads them.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aegis_auth::Background;
use aegis_error::Failure;
use aegis_proto::catalog::v1::{
    ExportRulesRequest, LogSource, RuleText, knowledge_service_client::KnowledgeServiceClient,
};
use aegis_rpc::RpcService;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{App, Wake};
use crate::{
    domain::sigma::{MAX_RULES, MAX_TEXT, Set, Text, sources},
    error::Error,
    store::sigma::{self as store, Row},
};

/// What another process has changed is looked for this often.
const POLL: Duration = Duration::from_secs(2);
/// The catalogue is asked this often, whether it told of a change or not.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// Between two tries while it cannot be asked, and at least between two that went well.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The catalogue answers within this time.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of all rules together.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Who owns the rules.
pub(crate) struct Catalogue {
    pub(crate) knowledge: KnowledgeServiceClient<RpcService>,
    /// For what nobody waits for.
    pub(crate) background: Background,
}

impl Catalogue {
    /// The rules for our log sources, by key.
    async fn rules(&self) -> Result<Vec<Row>, Error> {
        let ctx = self.background.ctx().await?;
        let source = |source: &crate::domain::sigma::Source| LogSource {
            category: source.category.clone(),
            product: source.product.clone(),
            service: source.service.clone(),
        };
        let log_sources = sources().iter().map(source).collect();
        let mut request = ctx.outgoing(ExportRulesRequest { rule_format: "sigma".into(), log_sources });
        request.set_timeout(PATIENCE);
        let mut pages = self.knowledge.clone().export_rules(request).await.map_err(Failure::from)?.into_inner();
        let (mut rows, mut bytes): (Vec<Row>, usize) = (Vec::new(), 0);
        while let Some(page) = pages.message().await.map_err(Failure::from)? {
            for rule in page.rules {
                let row = row(rule)?;
                bytes += row.text.content.len();
                if rows.len() == MAX_RULES || bytes > MAX_BYTES {
                    tracing::warn!(
                        rules = rows.len(),
                        "there are more Sigma rules than are used; the first by key are"
                    );
                    return Ok(rows);
                }
                rows.push(row);
            }
        }
        Ok(rows)
    }
}

fn row(rule: RuleText) -> Result<Row, Failure> {
    let RuleText { id, key, name, author, licence, content, version, .. } = rule;
    let id = id.parse().map_err(|_| Failure::invalid("rules.id", "must be a UUID"))?;
    // It is told of, but cannot be used.
    let content = if content.len() > MAX_TEXT { String::new() } else { content };
    // No column of PostgreSQL takes a NUL.
    let plain = |text: String| if text.contains('\0') { text.replace('\0', "") } else { text };
    let text = Text { key, name: plain(name), author: plain(author), licence: plain(licence), content: plain(content) };
    Ok(Row { id, version, text })
}

/// The rules that are in use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rules(Arc<Inner>);

struct Inner {
    /// Of which generation, once they were read.
    held: RwLock<(Option<i64>, Arc<Set>)>,
    wake: Wake,
}

impl Rules {
    pub(crate) fn new() -> Self {
        Rules(Arc::new(Inner { held: RwLock::default(), wake: Wake::new() }))
    }

    /// As they are now.
    pub(crate) fn now(&self) -> Arc<Set> {
        Arc::clone(&self.0.held.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    /// Called when they have changed in the catalogue.
    pub(crate) fn changed(&self) {
        self.0.wake.ring();
    }

    fn generation(&self) -> Option<i64> {
        self.0.held.read().unwrap_or_else(PoisonError::into_inner).0
    }

    fn hold(&self, generation: i64, set: Set) {
        *self.0.held.write().unwrap_or_else(PoisonError::into_inner) = (Some(generation), Arc::new(set));
    }
}

impl App {
    /// Reads the rules anew if they have changed in the tables; how far these have come.
    pub(crate) async fn renew_sigma(&self) -> Result<store::State, Error> {
        let state = store::state(&self.db).await?;
        if self.sigma.generation() != Some(state.generation) {
            let (generation, texts) = store::all(&self.db).await?;
            // It is nothing but computing: other calls must not wait for it.
            let set = tokio::task::spawn_blocking(move || Set::compile(texts)).await.map_err(Failure::internal)?;
            let skipped = set.all().iter().filter(|rule| rule.problem.is_some()).count();
            tracing::info!(rules = set.all().len() - skipped, skipped, "Sigma rules are in use");
            self.sigma.hold(generation, set);
        }
        Ok(state)
    }

    /// Asks the catalogue, and keeps what it says.
    pub(crate) async fn pull_sigma(&self, catalogue: &Catalogue) -> Result<(), Error> {
        // What changes while it is asked is asked for again.
        let wanted = store::state(&self.db).await?.wanted;
        let rows = catalogue.rules().await?;
        let mut tx = self.db.begin().await?;
        store::replace(&mut tx, wanted, &rows).await?;
        Ok(tx.commit().await?)
    }

    /// Keeps the rules as the catalogue has them until `stop`.
    pub(crate) async fn keep_sigma(self: Arc<Self>, catalogue: Catalogue, stop: CancellationToken) {
        let mut wake = self.sigma.0.wake.listen();
        let (mut due, mut not_before, mut pause) = (Instant::now(), Instant::now(), PAUSE);
        loop {
            wake.borrow_and_update();
            let kept = async {
                let state = self.renew_sigma().await?;
                let at = Instant::now();
                if (at >= due || state.wanted > state.taken) && at >= not_before {
                    self.pull_sigma(&catalogue).await?;
                    let asked = Instant::now();
                    due = asked + AGAIN;
                    // However often they change there: half of the time at most is spent on asking.
                    not_before = asked + at.elapsed().max(PAUSE);
                    self.renew_sigma().await?;
                }
                Ok::<_, Error>(())
            };
            // The catalogue may be slow; whoever stops does not wait for it.
            let kept = stop.run_until_cancelled(aegis_telemetry::job("deception_rules", kept)).await;
            match kept {
                None => return,
                Some(Ok(())) => pause = PAUSE,
                Some(Err(error)) => {
                    let failure = Failure::from(error);
                    tracing::warn!(%failure, "Sigma rules are renewed later");
                    not_before = Instant::now() + pause;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
            tokio::select! {
                _ = wake.changed() => {}
                () = tokio::time::sleep(POLL) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
