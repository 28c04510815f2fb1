//! What projections of other services need of what is known of techniques.

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
