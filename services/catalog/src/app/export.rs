//! What projections of other services need of what is known of techniques, and the texts of rules.

use aegis_auth::{OpCtx, Role};
use aegis_error::Fields;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Catalog;
use crate::{
    domain::knowledge::{PROJECTED, TACTIC, THREAT_ACTOR},
    error::Error,
    store::{export, knowledge, tactics},
};

/// Records of one page.
const RECORDS: i64 = 1_000;
/// Rules that are read at once: each may have a megabyte.
const RULES: i64 = 100;
/// Bytes of rules of one message, unless one alone has more.
const RULE_BYTES: usize = 8 * 1024 * 1024;
/// Log sources that may be asked for.
const LOG_SOURCES: usize = 100;

/// What is known of one thing, or a column of a matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Known {
    pub kind: &'static str,
    pub key: String,
    pub id: Uuid,
    pub name: String,
    pub collection: String,
    pub implemented: bool,
    /// ATT&CK ids.
    pub techniques: Vec<String>,
    pub parent: String,
    pub family: String,
    pub version: String,
    pub attack_version: String,
    pub mapping_source: String,
    pub position: i64,
    pub mitre_id: String,
    pub aliases: Vec<String>,
}

/// Which kinds are asked for; checked.
pub(crate) fn kinds(ctx: &OpCtx, kinds: &[String]) -> Result<Vec<&'static str>, Error> {
    ctx.require(&[Role::Service, Role::Admin])?;
    let mut fields = Fields::default();
    let known = kinds.len() <= PROJECTED.len() && kinds.iter().all(|kind| PROJECTED.contains(&kind.as_str()));
    fields.check(known, "kinds", &format!("may name {}, each once", PROJECTED.join(", ")));
    fields.finish()?;
    Ok(PROJECTED.into_iter().filter(|known| kinds.is_empty() || kinds.iter().any(|kind| kind == known)).collect())
}

/// A page of the records of a kind after a key, and the key after which the next begins.
pub(crate) async fn page(
    catalog: &Catalog,
    kind: &'static str,
    after: &str,
) -> Result<(Vec<Known>, Option<String>), Error> {
    if kind == TACTIC {
        return Ok((columns(catalog).await?, None));
    }
    let rows = export::after(&catalog.db, kind, after, RECORDS).await?;
    let last = rows.last().filter(|_| rows.len() as i64 == RECORDS).map(|row| row.key.clone());
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let mut techniques = match kind {
        "framework" => Default::default(),
        _ => knowledge::techniques_of(&catalog.db, kind, &keys).await?,
    };
    let known = |row: export::Row| {
        let attributes: Option<Map<String, Value>> = row.attributes.and_then(|text| serde_json::from_str(&text).ok());
        let said = |name: &str| attributes.as_ref()?.get(name)?.as_str().map(str::to_owned);
        Known {
            kind,
            techniques: techniques.remove(&row.key).unwrap_or_default(),
            id: row.id,
            name: row.name,
            collection: row.collection.unwrap_or_default(),
            implemented: row.implemented,
            parent: said("parent").unwrap_or_default(),
            family: said("family").unwrap_or_default(),
            version: said("version").unwrap_or_default(),
            attack_version: said("attack_version").unwrap_or_default(),
            mapping_source: match kind {
                "framework" => said("source").unwrap_or(row.source),
                _ => String::new(),
            },
            aliases: if kind == THREAT_ACTOR { row.aliases.0 } else { Vec::new() },
            key: row.key,
            ..Known::default()
        }
    };
    Ok((rows.into_iter().map(known).collect(), last))
}

/// The columns of all matrices, by key, each once.
async fn columns(catalog: &Catalog) -> Result<Vec<Known>, Error> {
    let releases = tactics::releases(&catalog.db).await?;
    let known = |tactic: crate::domain::technique::Tactic| Known {
        kind: TACTIC,
        key: format!("{}:{}", tactic.domain.as_str(), tactic.short_name),
        id: tactic.id,
        name: tactic.name,
        collection: tactic.domain.as_str().to_owned(),
        attack_version: releases.get(&tactic.domain).cloned().unwrap_or_default(),
        position: tactic.position,
        mitre_id: tactic.mitre_id,
        ..Known::default()
    };
    let mut columns: Vec<Known> = tactics::list(&catalog.db, None).await?.into_iter().map(known).collect();
    columns.sort_by(|a, b| a.key.cmp(&b.key).then(a.position.cmp(&b.position)));
    columns.dedup_by(|a, b| a.key == b.key);
    Ok(columns)
}

/// Which rules are asked for.
#[derive(Clone, Debug)]
pub(crate) struct RuleQuery {
    format: String,
    sources: Vec<LogSource>,
}

/// Where events come from, as Sigma says it, in small letters; empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSource {
    pub category: String,
    pub product: String,
    pub service: String,
}

impl LogSource {
    fn lower(self) -> LogSource {
        let lower = |text: String| text.trim().to_lowercase();
        LogSource { category: lower(self.category), product: lower(self.product), service: lower(self.service) }
    }

    /// Whether a rule with this log source is for such events: what it says is what they are.
    fn is_for(&self, events: &LogSource) -> bool {
        let fits = |rule: &str, events: &str| rule.is_empty() || rule == events;
        fits(&self.category, &events.category)
            && fits(&self.product, &events.product)
            && fits(&self.service, &events.service)
    }
}

/// A rule with its text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuleText {
    pub id: Uuid,
    pub key: String,
    pub source: String,
    pub name: String,
    pub author: String,
    pub licence: String,
    pub content: String,
    pub version: i64,
}

/// Which rules are asked for; checked.
pub(crate) fn rule_query(ctx: &OpCtx, format: &str, sources: Vec<LogSource>) -> Result<RuleQuery, Error> {
    ctx.require(&[Role::Service, Role::Admin])?;
    let mut fields = Fields::default();
    fields.text("rule_format", format.trim(), 1, 50);
    fields.check(sources.len() <= LOG_SOURCES, "log_sources", &format!("must have at most {LOG_SOURCES} entries"));
    fields.finish()?;
    let sources = sources.into_iter().map(LogSource::lower).collect();
    Ok(RuleQuery { format: format.trim().to_lowercase(), sources })
}

/// A page of the rules that are asked for after a key, and the key after which the next begins.
pub(crate) async fn rules(
    catalog: &Catalog,
    query: &RuleQuery,
    after: &str,
) -> Result<(Vec<RuleText>, Option<String>), Error> {
    let mut rows = export::rules_after(&catalog.db, after, RULES).await?;
    let full = rows.len() as i64 == RULES;
    let mut bytes = 0;
    let fits = rows.iter().take_while(|row| {
        bytes += row.content.len();
        bytes <= RULE_BYTES
    });
    let fitting = fits.count().max(1).min(rows.len());
    let more = full || fitting < rows.len();
    rows.truncate(fitting);
    let last = rows.last().filter(|_| more).map(|row| row.key.clone());
    Ok((rows.into_iter().filter_map(|row| query.text(row)).collect(), last))
}

impl RuleQuery {
    /// The rule, if it is one that is asked for.
    fn text(&self, row: export::RuleRow) -> Option<RuleText> {
        let attributes: Value = serde_json::from_str(&row.attributes).ok()?;
        let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let about = &attributes["logsource"];
        let source = LogSource {
            category: said(&about["category"]),
            product: said(&about["product"]),
            service: said(&about["service"]),
        };
        let source = source.lower();
        let asked = said(&attributes["rule_format"]) == self.format
            && (self.sources.is_empty() || self.sources.iter().any(|events| source.is_for(events)));
        asked.then(|| RuleText {
            id: row.id,
            key: row.key,
            source: row.source,
            name: row.name,
            author: said(&attributes["author"]),
            licence: said(&attributes["license"]),
            content: row.content,
            version: row.version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_for_events_of_which_it_says_nothing_wrong() {
        let source = |category: &str, product: &str, service: &str| {
            LogSource { category: category.into(), product: product.into(), service: service.into() }.lower()
        };
        let events = source("process_creation", "linux", "");
        for rule in [
            source("process_creation", "linux", ""),
            source("Process_Creation", "", ""),
            source("", " Linux", ""),
            LogSource::default(),
        ] {
            assert!(rule.is_for(&events), "{rule:?}");
        }
        for rule in
            [source("process_creation", "windows", ""), source("", "linux", "auditd"), source("webserver", "", "")]
        {
            assert!(!rule.is_for(&events), "{rule:?}");
        }
    }
}
