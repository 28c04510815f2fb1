//! Scores: of a technique, a tactic, a threat actor and of all, what would raise them, and what the parts count.

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Code, Failure, Fields};
use aegis_events::Audit;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::App;
use crate::{
    domain::{
        Status, actor,
        matrix::{Actor, Matrix, MatrixTechnique},
        plan,
        score::{self, Part, Score, Sum, TacticScore, Weights, words, words::ShownPart},
        view::{self, Filter, View},
    },
    error::Error,
    store::{
        snapshots::{self, Point},
        weights::{self, Version},
    },
};

/// The matrices.
const DOMAINS: [&str; 3] = ["enterprise", "mobile", "ics"];
/// Tests of a plan when nobody says.
const PLANNED: usize = 10;
/// Versions of a page at most, and by default.
const MAX_PAGE: i64 = 100;
const PAGE: i64 = 50;
/// Points of a history at most: a year has 53 weeks, and people take snapshots besides.
const MAX_POINTS: i64 = 2_000;
/// Characters of an id, a name or a tactic that somebody asks for.
const MAX_TEXT: usize = 100;

/// A score with its parts.
pub(crate) struct Detailed {
    pub(crate) technique: MatrixTechnique,
    pub(crate) score: f64,
    pub(crate) parts: Vec<ShownPart>,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

/// A technique in a list of scores.
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) mitre_id: Arc<str>,
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) score: f64,
}

impl Row {
    pub(crate) fn of((technique, score): &(&MatrixTechnique, Score)) -> Row {
        Row {
            id: technique.id,
            mitre_id: Arc::clone(&technique.mitre_id),
            name: technique.name.clone(),
            status: technique.status,
            score: score.value(),
        }
    }
}

/// A mean over techniques.
pub(crate) struct Mean {
    pub(crate) score: Option<f64>,
    pub(crate) techniques: i64,
    pub(crate) tactics: Vec<TacticScore>,
    /// Empty where there are no techniques.
    pub(crate) parts: Vec<ShownPart>,
    pub(crate) weights: Weights,
    /// Lowest score first.
    pub(crate) rows: Vec<Row>,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

/// How well a threat actor's techniques are covered.
pub(crate) struct ActorView {
    pub(crate) id: Uuid,
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) score: Option<f64>,
    pub(crate) covered: Vec<Row>,
    pub(crate) partial: Vec<Row>,
    pub(crate) uncovered: Vec<Row>,
    pub(crate) tactics: Vec<TacticScore>,
    pub(crate) unknown: Vec<String>,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

/// The tests that raise a score most.
pub(crate) struct PlanView {
    /// Empty for the organisation.
    pub(crate) actor: String,
    pub(crate) score: Option<f64>,
    pub(crate) score_after: Option<f64>,
    pub(crate) tests: Vec<PlannedRow>,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

/// A test of a plan.
pub(crate) struct PlannedRow {
    pub(crate) technique: Row,
    pub(crate) score_after: f64,
    pub(crate) gain: f64,
    pub(crate) platform: String,
    pub(crate) retest: bool,
    pub(crate) reason: String,
}

/// A page of the history of weights.
pub(crate) struct VersionPage {
    pub(crate) versions: Vec<Version>,
    pub(crate) next_page_token: String,
    pub(crate) total: i64,
}

/// What a part is to count, in percent; absent ones are left alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WeightsChange {
    pub(crate) tests: Option<f64>,
    pub(crate) detection_rules: Option<f64>,
    pub(crate) d3fend: Option<f64>,
    pub(crate) freshness: Option<f64>,
    pub(crate) platform_diversity: Option<f64>,
}

/// Which part of the matrix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// Empty means enterprise, `all` all three.
    pub(crate) domain: String,
    pub(crate) threat_actor_id: Option<String>,
    pub(crate) platform: Option<String>,
    pub(crate) tactic: Option<String>,
    pub(crate) compare: Option<String>,
}

/// A part of the matrix, with what it is a part of.
pub(crate) struct Viewed {
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) view: View,
    /// As it was understood.
    pub(crate) domain: String,
    pub(crate) actor_name: String,
    pub(crate) snapshot_name: String,
}

impl App {
    /// The score of a technique; for everyone who is signed in.
    pub(crate) async fn technique_score(&self, ctx: &OpCtx, mitre_id: &str) -> Result<Detailed, Error> {
        ctx.user()?;
        let mitre_id = mitre_id.trim().to_ascii_uppercase();
        let matrix = self.matrix().await?;
        let Some(technique) = matrix.find(&mitre_id) else { return Err(no_technique(&matrix, &mitre_id).into()) };
        let now = now();
        let score = Score::of(technique, &matrix.knowledge, matrix.weights, now);
        let parts = words::of_technique(technique, &matrix.knowledge, matrix.weights, &score, now);
        Ok(Detailed { technique: technique.clone(), score: score.value(), parts, as_of: matrix.as_of })
    }

    /// The mean score of a tactic; for everyone who is signed in.
    pub(crate) async fn tactic_score(&self, ctx: &OpCtx, tactic: &str, domain: &str) -> Result<Mean, Error> {
        ctx.user()?;
        let domain = some_domain(domain)?;
        let matrix = self.matrix().await?;
        if !view::has_tactic(&matrix, domain, tactic) {
            return Err(Failure::not_found("tactic", tactic).into());
        }
        let mut scored: Vec<_> = score::scored(&matrix, domain, now())
            .filter(|(technique, _)| technique.tactics.iter().any(|name| name == tactic))
            .collect();
        scored.sort_by_key(|(_, score)| score.hundredths());
        let rows = scored.iter().map(Row::of).collect();
        Ok(mean(&matrix, &[tactic], &scored, rows))
    }

    /// How well a threat actor's techniques are covered; for everyone who is signed in.
    pub(crate) async fn actor_score(&self, ctx: &OpCtx, id: &str) -> Result<ActorView, Error> {
        ctx.user()?;
        let matrix = self.matrix().await?;
        let actor = known_actor(&matrix, id)?;
        let score = actor::score(&matrix, actor, now());
        let rows = |list: &[(&MatrixTechnique, Score)]| list.iter().map(Row::of).collect();
        Ok(ActorView {
            id: actor.id,
            key: actor.key.clone(),
            name: actor.name.clone(),
            score: score.score,
            covered: rows(&score.covered),
            partial: rows(&score.partial),
            uncovered: rows(&score.uncovered),
            tactics: score.tactics,
            unknown: score.unknown.into_iter().map(str::to_owned).collect(),
            as_of: matrix.as_of,
        })
    }

    /// The mean over all techniques; for everyone who is signed in.
    pub(crate) async fn organization_score(&self, ctx: &OpCtx, domain: &str) -> Result<Mean, Error> {
        ctx.user()?;
        let domain = some_domain(domain)?;
        let matrix = self.matrix().await?;
        let scored: Vec<_> = score::scored(&matrix, domain, now()).collect();
        Ok(mean(&matrix, &score::tactic_names(&matrix.knowledge, domain), &scored, Vec::new()))
    }

    /// What the organisation's score was, the oldest first; for everyone who is signed in.
    pub(crate) async fn score_history(
        &self,
        ctx: &OpCtx,
        period: &str,
    ) -> Result<(Vec<Point>, Option<DateTime<Utc>>), Error> {
        ctx.user()?;
        let days = match period {
            "30d" => 30,
            "" | "90d" => 90,
            "1y" => 365,
            _ => return Err(Failure::invalid("period", "must be one of 30d, 90d, 1y").into()),
        };
        let points = snapshots::points(&self.db, now() - TimeDelta::days(days), MAX_POINTS).await?;
        Ok((points, self.matrix().await?.as_of))
    }

    /// The tests that raise the score most; for everyone who is signed in.
    pub(crate) async fn score_plan(
        &self,
        ctx: &OpCtx,
        threat_actor_id: Option<&str>,
        tests: i32,
        domain: &str,
    ) -> Result<PlanView, Error> {
        ctx.user()?;
        let domain = some_domain(domain)?.map(str::to_owned);
        let tests = match usize::try_from(tests) {
            Ok(0) => PLANNED,
            Ok(tests) if tests <= plan::MAX_TESTS => tests,
            _ => return Err(Failure::invalid("tests", format!("must be 1 to {}", plan::MAX_TESTS)).into()),
        };
        let matrix = self.matrix().await?;
        let actor = threat_actor_id.map(|id| known_actor(&matrix, id).cloned()).transpose()?;
        let now = now();
        // With thousands of missed tests it takes some tens of milliseconds.
        let planned =
            tokio::task::spawn_blocking(move || planned(&matrix, actor.as_ref(), domain.as_deref(), tests, now));
        Ok(planned.await.map_err(Failure::internal)?)
    }

    /// What the parts count now; for administrators.
    pub(crate) async fn score_config(&self, ctx: &OpCtx) -> Result<Version, Error> {
        ctx.require(&[Role::Admin])?;
        let newest = weights::list(&self.db, 1, 0).await?;
        Ok(newest.into_iter().next().ok_or_else(|| Failure::internal("there are no weights"))?)
    }

    /// What the parts counted, the newest first; for administrators.
    pub(crate) async fn score_configs(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<VersionPage, Error> {
        ctx.require(&[Role::Admin])?;
        let limit = page::size(page_size, PAGE, MAX_PAGE)?;
        let offset = page::offset(page_token, skip)?;
        let total = weights::count(&self.db).await?;
        let versions = weights::list(&self.db, limit, offset).await?;
        Ok(VersionPage { next_page_token: page::next_offset(offset, versions.len(), total), versions, total })
    }

    /// Changes what the parts count; for administrators.
    pub(crate) async fn update_score_config(&self, ctx: &OpCtx, change: WeightsChange) -> Result<Version, Error> {
        let caller = ctx.require(&[Role::Admin])?.username.clone();
        let changed = hundredths(change)?;
        let mut tx = self.db.begin().await?;
        let before = weights::newest(&mut tx).await?;
        ctx.expect_version(before.version)?;
        let mut after = before.weights.hundredths();
        for (part, weight) in changed {
            after[part as usize] = weight;
        }
        let after = Weights::new(after).ok_or_else(|| not_100(after))?;
        if after == before.weights {
            self.outbox.claim(&mut tx, ctx, "score_config").await?;
            tx.commit().await?;
            return Ok(before);
        }
        let next = Version { weights: after, version: before.version + 1, updated_by: caller, updated_at: Some(now()) };
        if !weights::insert(&mut tx, &next).await? {
            let text = "the weights were changed by someone else at the same moment; read them again";
            return Err(Failure::new(Code::Conflict, text).into());
        }
        let details = json!({
            "version": next.version, "before": shown(before.weights), "after": shown(next.weights),
        });
        let audit = Audit {
            action: "update_score_config",
            entity_type: "score_config",
            entity_id: "score_config".to_owned(),
            details,
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        self.coverage().renew_on_commit(&mut tx);
        tx.commit().await?;
        Ok(next)
    }

    /// A part of the matrix with all that is drawn or written of it; for everyone who is signed in.
    pub(crate) async fn view(&self, ctx: &OpCtx, ask: Ask) -> Result<Viewed, Error> {
        ctx.user()?;
        let domain = match ask.domain.as_str() {
            "" => Some(DOMAINS[0]),
            "all" => None,
            other => some_domain(other)?,
        };
        let platform = ask.platform.map(|platform| platform.trim().to_lowercase());
        let compared = match &ask.compare {
            Some(id) => Some(self.snapshot_with_states("compare", id).await?),
            None => None,
        };
        let matrix = self.matrix().await?;
        let actor = ask.threat_actor_id.as_deref().map(|id| known_actor(&matrix, id)).transpose()?;
        let mut fields = Fields::default();
        if let Some(tactic) = &ask.tactic {
            fields.check(view::has_tactic(&matrix, domain, tactic), "tactic", "is no tactic of this matrix");
        }
        if let Some(platform) = &platform {
            let known = view::has_platform(&matrix, domain, platform);
            fields.check(known, "platform", "is a platform of no technique of this matrix");
        }
        fields.finish()?;
        let filter = Filter { domain, actor, platform: platform.as_deref(), tactic: ask.tactic.as_deref() };
        let states = compared.as_ref().map(|(_, states)| states.as_slice());
        let view = view::view(&matrix, filter, now(), states);
        Ok(Viewed {
            domain: domain.unwrap_or("all").to_owned(),
            actor_name: actor.map(|actor| actor.name.clone()).unwrap_or_default(),
            snapshot_name: compared.map(|(snapshot, _)| snapshot.name).unwrap_or_default(),
            view,
            matrix,
        })
    }
}

/// The domain that is asked for; none is all.
fn some_domain(domain: &str) -> Result<Option<&'static str>, Failure> {
    if domain.is_empty() {
        return Ok(None);
    }
    let known = DOMAINS.into_iter().find(|known| *known == domain);
    let wrong = || Failure::invalid("domain", format!("must be one of {}", DOMAINS.join(", ")));
    known.map(Some).ok_or_else(wrong)
}

fn known_actor<'a>(matrix: &'a Matrix, id: &str) -> Result<&'a Actor, Failure> {
    let found = (id.chars().count() <= MAX_TEXT).then(|| actor::find(&matrix.knowledge, id.trim())).flatten();
    found.ok_or_else(|| Failure::not_found("threat actor", id))
}

fn no_technique(matrix: &Matrix, mitre_id: &str) -> Failure {
    let inactive = matrix.techniques.iter().find(|technique| *technique.mitre_id == *mitre_id);
    match inactive.map(|technique| technique.revoked_by.as_deref()) {
        Some(Some(successor)) => {
            Failure::new(Code::NotFound, format!("technique '{mitre_id}' was revoked by {successor} and has no score"))
                .with("revoked_by", successor)
        }
        Some(None) => {
            Failure::new(Code::NotFound, format!("technique '{mitre_id}' is no longer in use and has no score"))
        }
        None => Failure::not_found("technique", mitre_id),
    }
}

fn mean(matrix: &Matrix, tactics: &[&str], scored: &[(&MatrixTechnique, Score)], rows: Vec<Row>) -> Mean {
    let sum: Sum = scored.iter().map(|(_, score)| score).collect();
    Mean {
        score: sum.mean(),
        techniques: sum.n,
        tactics: score::by_tactic(tactics, scored),
        parts: match sum.n {
            0 => Vec::new(),
            _ => words::of_many(scored, &matrix.knowledge, matrix.weights, now()),
        },
        weights: matrix.weights,
        rows,
        as_of: matrix.as_of,
    }
}

fn planned(matrix: &Matrix, actor: Option<&Actor>, domain: Option<&str>, tests: usize, now: DateTime<Utc>) -> PlanView {
    let scored: Vec<_> = score::scored(matrix, domain, now)
        .filter(|(technique, _)| actor.is_none_or(|actor| actor.techniques.contains(&technique.mitre_id)))
        .collect();
    let plan = plan::plan(&scored, &matrix.knowledge, matrix.weights, tests);
    let row = |test: plan::Planned<'_>| PlannedRow {
        technique: Row {
            id: test.technique.id,
            mitre_id: Arc::clone(&test.technique.mitre_id),
            name: test.technique.name.clone(),
            status: test.technique.status,
            score: test.score,
        },
        score_after: test.score_after,
        gain: test.gain,
        platform: test.platform,
        retest: test.retest,
        reason: test.reason,
    };
    PlanView {
        actor: actor.map(|actor| actor.name.clone()).unwrap_or_default(),
        score: plan.score,
        score_after: plan.score_after,
        tests: plan.tests.into_iter().map(row).collect(),
        as_of: matrix.as_of,
    }
}

/// What is to change, in hundredths of a percent.
fn hundredths(change: WeightsChange) -> Result<Vec<(Part, i64)>, Failure> {
    let mut fields = Fields::default();
    let mut changed = Vec::new();
    for (part, weight) in [
        (Part::Tests, change.tests),
        (Part::DetectionRules, change.detection_rules),
        (Part::D3fend, change.d3fend),
        (Part::Freshness, change.freshness),
        (Part::PlatformDiversity, change.platform_diversity),
    ] {
        let Some(weight) = weight else { continue };
        let whole = (weight * 100.0).round();
        if !(0.0..=100.0).contains(&weight) || (whole / 100.0 - weight).abs() > 1e-9 {
            fields.add(part.as_str(), "must be 0 to 100, with two decimals at most");
        }
        // Checked to be one of 0 to 10,000.
        changed.push((part, whole as i64));
    }
    fields.finish()?;
    Ok(changed)
}

fn not_100(weights: [i64; 5]) -> Failure {
    let sum = score::points(weights.iter().sum());
    let problem = format!("all five must sum to 100, not {sum}");
    let mut fields = Fields::default();
    for part in Part::ALL {
        fields.add(part.as_str(), problem.clone());
    }
    fields.into_failure(Code::Validation)
}

fn shown(weights: Weights) -> Value {
    let weight = |part: Part| (part.as_str().to_owned(), json!(weights.percent(part)));
    Value::Object(Part::ALL.map(weight).into_iter().collect())
}
