//! Data sources: listed, read, changed.

use aegis_auth::{OpCtx, Role};
use aegis_db::{now, page};
use aegis_error::{Failure, Fields};
use aegis_events::Audit;
use serde_json::{Map, Value, json};

use super::{App, OPERATORS};
use crate::{
    domain::source::PUBLISHED,
    error::Error,
    fetch::{FetchError, FetchLimits, ID, Location},
    store::source::{self, Key, Source},
};

/// Rows of a page at most; also the default.
const MAX_PAGE: i64 = 1000;

/// A page of data sources.
pub(crate) struct SourcePage {
    pub sources: Vec<Source>,
    pub next_page_token: String,
    pub total: i64,
}

/// What is to be changed of a data source; what is absent stays.
#[derive(Debug, Default)]
pub(crate) struct SourceEdit {
    pub url: Option<String>,
    pub enabled: Option<bool>,
    pub schedule: Option<String>,
    pub companion_url: Option<String>,
    /// Takes the schedule away.
    pub clear_schedule: bool,
}

impl App {
    pub(crate) async fn list_sources(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
    ) -> Result<SourcePage, Error> {
        ctx.require(OPERATORS)?;
        let limit = page::size(page_size, MAX_PAGE, MAX_PAGE)?;
        let offset = page::offset(page_token, 0)?;
        let total = source::count(self.db()).await?;
        let sources = source::list(self.db(), limit, offset).await?;
        Ok(SourcePage { next_page_token: page::next_offset(offset, sources.len(), total), sources, total })
    }

    pub(crate) async fn get_source(&self, ctx: &OpCtx, id: &str) -> Result<Source, Error> {
        ctx.require(OPERATORS)?;
        let key = Key::from(id);
        let found = source::get(self.db(), &key).await?;
        found.ok_or_else(|| Error::NoSource(key.to_string()))
    }

    pub(crate) async fn update_source(&self, ctx: &OpCtx, id: &str, edit: SourceEdit) -> Result<Source, Error> {
        ctx.require(&[Role::Admin])?;
        let edit = self.checked(edit)?;
        let key = Key::from(id);
        let mut tx = self.db().begin().await?;
        let before = source::lock(&mut tx, &key).await?.ok_or_else(|| Error::NoSource(key.to_string()))?;
        ctx.expect_version(before.version)?;
        let mut after = before.clone();
        if let Some(url) = edit.url {
            after.url = url;
        }
        if let Some(url) = edit.companion_url {
            if !has_companion(&before) {
                let problem = format!("{} has one document only", before.name);
                return Err(Failure::invalid("companion_url", problem).into());
            }
            after.companion_url = Some(url);
        }
        if let Some(enabled) = edit.enabled {
            after.enabled = enabled;
        }
        if edit.clear_schedule {
            after.schedule = None;
        } else if edit.schedule.is_some() {
            after.schedule = edit.schedule;
        }
        let (old, new) = differences(&before, &after);
        if new.is_empty() {
            return Ok(before);
        }
        if after.url != before.url || after.companion_url != before.companion_url {
            (after.etag, after.companion_etag) = (None, None);
        }
        after.updated_at = now();
        if !source::update(&mut tx, &after).await? {
            return Err(Error::Raced);
        }
        after.version += 1;
        let audit = Audit {
            action: "update_data_source",
            entity_type: "data_source",
            entity_id: after.id.to_string(),
            details: json!({ "name": after.name, "before": old, "after": new }),
        };
        self.outbox().audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// The edit as it is to be stored, or everything that is wrong with it.
    fn checked(&self, mut edit: SourceEdit) -> Result<SourceEdit, Error> {
        let mut fields = Fields::default();
        if let Some(url) = edit.url.as_mut() {
            match location(url, &self.0.limits) {
                Ok(_) => *url = url.trim().to_owned(),
                Err(error) => {
                    fields.add("url", error.public());
                }
            }
        }
        if let Some(url) = edit.companion_url.as_mut() {
            match companion_location(url, &self.0.limits) {
                Ok(_) => *url = url.trim().to_owned(),
                Err(error) => {
                    fields.add("companion_url", error.public());
                }
            }
        }
        if let Some(text) = edit.schedule.as_mut() {
            fields.check(!edit.clear_schedule, "schedule", "is either given or cleared, not both");
            match aegis_schedule::parse(text) {
                Ok(schedule) => *text = schedule,
                Err(problem) => {
                    fields.add("schedule", problem);
                }
            }
        }
        fields.finish()?;
        Ok(edit)
    }
}

/// Where a url leads, if it may lead there.
pub(super) fn location(url: &str, limits: &FetchLimits) -> Result<Location, FetchError> {
    let location = Location::parse(url)?;
    location.check(limits)?;
    Ok(location)
}

/// The same of a second document, which may be one for each technique.
pub(super) fn companion_location(url: &str, limits: &FetchLimits) -> Result<Location, FetchError> {
    location(&url.replace(ID, "T1000"), limits)
}

/// Whether the source is one of two documents.
pub(super) fn has_companion(source: &Source) -> bool {
    PUBLISHED.iter().any(|published| published.name == source.name && published.companion_url.is_some())
}

/// The fields that differ, as they were and as they are.
fn differences(before: &Source, after: &Source) -> (Map<String, Value>, Map<String, Value>) {
    let shown = |source: &Source| {
        [
            ("url", json!(source.url)),
            ("companion_url", json!(source.companion_url)),
            ("enabled", json!(source.enabled)),
            ("schedule", json!(source.schedule)),
        ]
    };
    let mut old = Map::new();
    let mut new = Map::new();
    for ((name, was), (_, is)) in shown(before).into_iter().zip(shown(after)) {
        if was != is {
            old.insert(name.to_owned(), was);
            new.insert(name.to_owned(), is);
        }
    }
    (old, new)
}
