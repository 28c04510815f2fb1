//! How well controls of frameworks are covered, and what is behind it.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use aegis_auth::OpCtx;
use aegis_db::{now, page};
use aegis_error::{Failure, Fields};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::App;
use crate::{
    domain::{
        compliance::{self, Assessed, Counts, Filter, Known, Verdict},
        matrix::{Control, Framework, Matrix, MatrixTechnique},
        score::{Score, count, users},
    },
    error::Error,
    store::behind::{self, Behind},
};

/// Controls of a page at most, and by default.
const MAX_CONTROLS: i64 = 5_000;
const CONTROLS: i64 = 1_000;
/// Gaps of a page at most, and by default.
const MAX_GAPS: i64 = 1_000;
const GAPS: i64 = 100;
/// Missing techniques that a gap names.
const MISSING: usize = 50;
/// Tests that a technique names.
const TESTS: i64 = 5;
/// Characters of what is searched.
const MAX_TEXT: usize = 200;

/// A control and its verdict.
pub(crate) struct ControlRow {
    pub(crate) control: Control,
    pub(crate) verdict: Verdict,
    pub(crate) techniques: i64,
    pub(crate) covered: i64,
    pub(crate) percentage: Option<f64>,
    pub(crate) score: Option<f64>,
}

/// A technique behind a verdict.
pub(crate) struct TechniqueRow {
    pub(crate) technique: MatrixTechnique,
    pub(crate) score: f64,
    pub(crate) users: i64,
    /// The newest first; only of a single control.
    pub(crate) tests: Vec<Behind>,
}

/// A control that is a gap or partial.
pub(crate) struct GapRow {
    pub(crate) control: ControlRow,
    pub(crate) missing: Vec<TechniqueRow>,
    pub(crate) missing_count: i64,
    pub(crate) priority: f64,
}

/// What is asked of the controls of a framework.
#[derive(Clone, Debug, Default)]
pub(crate) struct ControlQuery {
    pub(crate) framework_id: String,
    pub(crate) page_size: i32,
    pub(crate) page_token: String,
    pub(crate) skip: i32,
    pub(crate) search: Option<String>,
    pub(crate) mitre_technique_id: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) family: Option<String>,
}

/// Part of the list of frameworks.
pub(crate) struct Frameworks {
    pub(crate) rows: Vec<(Framework, Counts)>,
    pub(crate) next_page_token: String,
    pub(crate) total: i64,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

/// Part of a list of what one framework has.
pub(crate) struct Page<T> {
    pub(crate) framework: Framework,
    pub(crate) rows: Vec<T>,
    pub(crate) next_page_token: String,
    pub(crate) total: i64,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

/// A control with all that is behind its verdict.
pub(crate) struct ControlDetail {
    pub(crate) framework: Framework,
    pub(crate) control: ControlRow,
    pub(crate) techniques: Vec<TechniqueRow>,
    pub(crate) unknown: Vec<String>,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

/// Controls by verdict.
pub(crate) struct Summary {
    pub(crate) framework: Framework,
    pub(crate) counts: Counts,
    pub(crate) families: Vec<(String, Counts)>,
    pub(crate) as_of: Option<DateTime<Utc>>,
}

impl App {
    /// All frameworks, each with its counts; for everyone who is signed in.
    pub(crate) async fn list_frameworks(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<Frameworks, Error> {
        ctx.user()?;
        let limit = page::size(page_size, CONTROLS, MAX_CONTROLS)?;
        let offset = page::offset(page_token, skip)?;
        let matrix = self.matrix().await?;
        let known = Known::new(&matrix, now());
        let frameworks = &matrix.knowledge.frameworks;
        let total = count(frameworks.len());
        let rows: Vec<_> = part(frameworks, offset, limit)
            .iter()
            .map(|framework| {
                let controls = compliance::controls(&matrix.knowledge, &framework.key);
                let (counts, _) = compliance::summary(controls.map(|control| Assessed::of(control, &known)));
                (framework.clone(), counts)
            })
            .collect();
        let next_page_token = page::next_offset(offset, rows.len(), total);
        Ok(Frameworks { rows, next_page_token, total, as_of: matrix.as_of })
    }

    /// The controls of a framework that fit, in their order; for everyone who is signed in.
    pub(crate) async fn list_controls(&self, ctx: &OpCtx, query: ControlQuery) -> Result<Page<ControlRow>, Error> {
        ctx.user()?;
        let limit = page::size(query.page_size, CONTROLS, MAX_CONTROLS)?;
        let offset = page::offset(&query.page_token, query.skip)?;
        let filter = filter(&query)?;
        let matrix = self.matrix().await?;
        let framework = framework(&matrix, &query.framework_id)?;
        let known = Known::new(&matrix, now());
        let fitting: Vec<_> = compliance::controls(&matrix.knowledge, &framework.key)
            .map(|control| Assessed::of(control, &known))
            .filter(|assessed| filter.fits(assessed))
            .collect();
        let total = count(fitting.len());
        let rows: Vec<_> = part(&fitting, offset, limit).iter().map(control_row).collect();
        Ok(Page {
            framework: framework.clone(),
            next_page_token: page::next_offset(offset, rows.len(), total),
            rows,
            total,
            as_of: matrix.as_of,
        })
    }

    /// A control with the techniques and tests behind its verdict; for everyone who is signed in.
    pub(crate) async fn get_control(
        &self,
        ctx: &OpCtx,
        framework_id: &str,
        control_id: &str,
    ) -> Result<ControlDetail, Error> {
        ctx.user()?;
        let matrix = self.matrix().await?;
        let framework = framework(&matrix, framework_id)?;
        let found = compliance::controls(&matrix.knowledge, &framework.key)
            .find(|control| control.id.eq_ignore_ascii_case(control_id));
        let control = found.ok_or_else(|| Failure::not_found("control", control_id))?;
        let assessed = Assessed::of(control, &Known::new(&matrix, now()));
        let ids: Vec<Uuid> = assessed.techniques.iter().map(|(technique, _)| technique.id).collect();
        let mut tests: HashMap<Uuid, Vec<Behind>> = HashMap::new();
        for test in behind::newest(&self.db, &ids, TESTS).await? {
            tests.entry(test.technique_id).or_default().push(test);
        }
        let techniques = assessed.techniques.iter().map(|found| {
            let tests = tests.remove(&found.0.id).unwrap_or_default();
            TechniqueRow { tests, ..technique_row(&matrix, found) }
        });
        Ok(ControlDetail {
            framework: framework.clone(),
            techniques: techniques.collect(),
            control: control_row(&assessed),
            unknown: assessed.unknown.iter().map(|id| (*id).to_owned()).collect(),
            as_of: matrix.as_of,
        })
    }

    /// How many controls of a framework have which verdict; for everyone who is signed in.
    pub(crate) async fn compliance_summary(&self, ctx: &OpCtx, framework_id: &str) -> Result<Summary, Error> {
        ctx.user()?;
        let matrix = self.matrix().await?;
        let framework = framework(&matrix, framework_id)?;
        let known = Known::new(&matrix, now());
        let assessed =
            compliance::controls(&matrix.knowledge, &framework.key).map(|control| Assessed::of(control, &known));
        let (counts, families) = compliance::summary(assessed);
        Ok(Summary {
            framework: framework.clone(),
            counts,
            families: families.into_iter().map(|(family, counts)| (family.to_owned(), counts)).collect(),
            as_of: matrix.as_of,
        })
    }

    /// Controls of a framework that are gaps or partial, the most urgent first; for everyone who is signed in.
    pub(crate) async fn list_gaps(
        &self,
        ctx: &OpCtx,
        framework_id: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<Page<GapRow>, Error> {
        ctx.user()?;
        let limit = page::size(page_size, GAPS, MAX_GAPS)?;
        let offset = page::offset(page_token, skip)?;
        let matrix = self.matrix().await?;
        let framework = framework(&matrix, framework_id)?;
        let known = Known::new(&matrix, now());
        let assessed =
            compliance::controls(&matrix.knowledge, &framework.key).map(|control| Assessed::of(control, &known));
        let gaps = compliance::gaps(assessed, &matrix.knowledge);
        let total = count(gaps.len());
        let rows: Vec<GapRow> = part(&gaps, offset, limit)
            .iter()
            .map(|gap| GapRow {
                control: control_row(&gap.assessed),
                missing: gap.missing.iter().take(MISSING).map(|found| technique_row(&matrix, found)).collect(),
                missing_count: count(gap.missing.len()),
                priority: gap.priority(),
            })
            .collect();
        Ok(Page {
            framework: framework.clone(),
            next_page_token: page::next_offset(offset, rows.len(), total),
            rows,
            total,
            as_of: matrix.as_of,
        })
    }
}

fn framework<'a>(matrix: &'a Arc<Matrix>, key: &str) -> Result<&'a Framework, Failure> {
    compliance::framework(&matrix.knowledge, key).ok_or_else(|| Failure::not_found("framework", key))
}

fn filter(query: &ControlQuery) -> Result<Filter, Failure> {
    let mut fields = Fields::default();
    for (name, text) in
        [("search", &query.search), ("mitre_technique_id", &query.mitre_technique_id), ("family", &query.family)]
    {
        if let Some(text) = text {
            fields.text(name, text, 1, MAX_TEXT);
        }
    }
    if let Some(status) = &query.status {
        fields.one_of("status", status, &Verdict::ALL.map(Verdict::as_str));
    }
    fields.finish()?;
    Ok(Filter {
        search: query.search.as_ref().map(|term| term.trim().to_lowercase()),
        mitre_id: query.mitre_technique_id.as_ref().map(|id| id.trim().to_ascii_uppercase()),
        verdict: query.status.as_deref().and_then(Verdict::parse),
        family: query.family.clone(),
    })
}

/// A page of a list that is in memory.
fn part<T>(all: &[T], offset: i64, limit: i64) -> &[T] {
    let place = |n: i64| usize::try_from(n).unwrap_or(usize::MAX).min(all.len());
    &all[place(offset)..place(offset.saturating_add(limit))]
}

fn control_row(assessed: &Assessed<'_>) -> ControlRow {
    ControlRow {
        control: assessed.control.clone(),
        verdict: assessed.verdict,
        techniques: count(assessed.techniques.len()),
        covered: assessed.covered,
        percentage: assessed.percentage(),
        score: assessed.score(),
    }
}

fn technique_row(matrix: &Matrix, (technique, score): &(&MatrixTechnique, Score)) -> TechniqueRow {
    TechniqueRow {
        technique: (*technique).clone(),
        score: score.value(),
        users: users(&matrix.knowledge, technique),
        tests: Vec::new(),
    }
}
