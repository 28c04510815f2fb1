//! Reading campaigns: open to everyone who is signed in.

use aegis_auth::OpCtx;
use aegis_db::page;
use aegis_error::{Failure, Fields};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{CampaignView, RunView, id_of, no_campaign};
use crate::{
    app::App,
    domain::campaign::{Kind, MAX_TESTS, Status},
    error::Error,
    store::{
        campaign::{self, Filter},
        campaign_run,
        campaign_test::{self, Placed, Testing},
    },
};

const CAMPAIGNS: i64 = 1_000;
const MAX_CAMPAIGNS: i64 = 5_000;
const MAX_TECHNIQUES: usize = 1_000;
const TESTS: i64 = 1_000;
const RUNS: i64 = 200;
const MAX_RUNS: i64 = 1_000;

/// The sort key in a page token.
type Key = (DateTime<Utc>, Uuid);

/// Which campaigns to list.
#[derive(Clone, Debug, Default)]
pub struct CampaignQuery {
    /// Rows of a page; 0 for the default.
    pub page_size: i32,
    /// Where the page begins.
    pub page_token: String,
    /// Rows to leave out before it.
    pub skip: i32,
    /// Standing there.
    pub status: Option<String>,
    /// Of this type.
    pub kind: Option<String>,
    /// With this in the name or the description.
    pub search: Option<String>,
}

/// A page of campaigns.
pub struct CampaignPage {
    /// Newest first.
    pub campaigns: Vec<CampaignView>,
    /// Empty after the last page.
    pub next_page_token: String,
    /// Of all pages.
    pub total_size: i64,
}

/// A page of a campaign's tests.
pub struct PlacedPage {
    /// In their order; positions count from one.
    pub tests: Vec<Placed>,
    /// Empty after the last page.
    pub next_page_token: String,
    /// Of all pages.
    pub total_size: i64,
}

/// A page of a campaign's runs.
pub struct RunPage {
    /// Newest first.
    pub runs: Vec<RunView>,
    /// Empty after the last page.
    pub next_page_token: String,
    /// Of all pages.
    pub total_size: i64,
}

impl App {
    /// One campaign.
    pub async fn get_campaign(&self, ctx: &OpCtx, id: &str) -> Result<CampaignView, Error> {
        ctx.user()?;
        let id = id_of("id", id)?;
        let campaign = campaign::get(&self.db, id).await?.ok_or_else(|| no_campaign(id))?;
        let progress = campaign::progress(&self.db, &[id]).await?.remove(&id).unwrap_or_default();
        Ok(CampaignView { campaign, progress })
    }

    /// Campaigns, newest first.
    pub async fn list_campaigns(&self, ctx: &OpCtx, query: CampaignQuery) -> Result<CampaignPage, Error> {
        ctx.user()?;
        let mut fields = Fields::default();
        if let Some(status) = &query.status {
            fields.one_of("status", status, Status::NAMES);
        }
        if let Some(kind) = &query.kind {
            fields.one_of("type", kind, Kind::NAMES);
        }
        fields.text("search", query.search.as_deref().unwrap_or_default(), 0, 200);
        fields.finish()?;
        let size = page::size(query.page_size, CAMPAIGNS, MAX_CAMPAIGNS)?;
        let skip = page::skip(query.skip)?;
        let after: Option<Key> = page::key(&query.page_token)?;
        let search = query.search.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let filter = Filter { status: query.status, kind: query.kind, search };
        let (rows, more) = campaign::list(&self.db, &filter, after, skip, size).await?;
        let total_size = campaign::count(&self.db, &filter).await?;
        let next_page_token = match rows.last() {
            Some(last) if more => page::token(&(last.created_at, last.id)),
            _ => String::new(),
        };
        let ids: Vec<Uuid> = rows.iter().map(|campaign| campaign.id).collect();
        let mut progress = campaign::progress(&self.db, &ids).await?;
        let campaigns = rows.into_iter().map(|campaign| {
            let progress = progress.remove(&campaign.id).unwrap_or_default();
            CampaignView { campaign, progress }
        });
        Ok(CampaignPage { campaigns: campaigns.collect(), next_page_token, total_size })
    }

    /// The campaigns that test these techniques.
    pub async fn list_technique_campaigns(&self, ctx: &OpCtx, ids: &[String]) -> Result<Vec<Testing>, Error> {
        ctx.user()?;
        if ids.is_empty() || ids.len() > MAX_TECHNIQUES {
            return Err(Failure::invalid("technique_ids", format!("must be 1 to {MAX_TECHNIQUES}")).into());
        }
        let ids = ids.iter().map(|id| id_of("technique_ids", id)).collect::<Result<Vec<_>, _>>()?;
        Ok(campaign_test::of_techniques(&self.db, &ids, MAX_CAMPAIGNS).await?)
    }

    /// The tests of a campaign, or of one of its runs, in their order.
    pub async fn list_campaign_tests(
        &self,
        ctx: &OpCtx,
        campaign_id: &str,
        run_id: Option<&str>,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<PlacedPage, Error> {
        ctx.user()?;
        let id = id_of("campaign_id", campaign_id)?;
        let run = run_id.map(|run| id_of("run_id", run)).transpose()?;
        let size = page::size(page_size, TESTS, i64::try_from(MAX_TESTS).unwrap_or(i64::MAX))?;
        let offset = page::offset(page_token, skip)?;
        let (tests, total_size) = match run {
            Some(run) => {
                if !campaign_run::exists(&self.db, id, run).await? {
                    return Err(Failure::not_found("run of the campaign", run).into());
                }
                let tests = campaign_test::list_of_run(&self.db, run, size, offset).await?;
                (tests, campaign_test::count_of_run(&self.db, run).await?)
            }
            None => {
                self.known_campaign(id).await?;
                let mut tests = campaign_test::list(&self.db, id, size, offset).await?;
                for (test, place) in tests.iter_mut().zip(offset + 1..) {
                    test.position = place;
                }
                (tests, campaign_test::count(&self.db, id).await?)
            }
        };
        let next_page_token = page::next_offset(offset, tests.len(), total_size);
        Ok(PlacedPage { tests, next_page_token, total_size })
    }

    /// The runs of a campaign, newest first.
    pub async fn list_campaign_runs(
        &self,
        ctx: &OpCtx,
        campaign_id: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<RunPage, Error> {
        ctx.user()?;
        let id = id_of("campaign_id", campaign_id)?;
        let size = page::size(page_size, RUNS, MAX_RUNS)?;
        let skip = page::skip(skip)?;
        let after: Option<Key> = page::key(page_token)?;
        self.known_campaign(id).await?;
        let (rows, more) = campaign_run::list(&self.db, id, after, skip, size).await?;
        let total_size = campaign_run::count(&self.db, id).await?;
        let next_page_token = match rows.last() {
            Some(last) if more => page::token(&(last.started_at, last.id)),
            _ => String::new(),
        };
        let ids: Vec<Uuid> = rows.iter().map(|run| run.id).collect();
        let mut outcomes = campaign_run::outcomes(&self.db, &ids).await?;
        let runs = rows.into_iter().map(|run| {
            let outcome = outcomes.remove(&run.id).unwrap_or_default();
            RunView { run, outcome }
        });
        Ok(RunPage { runs: runs.collect(), next_page_token, total_size })
    }

    async fn known_campaign(&self, id: Uuid) -> Result<(), Error> {
        if campaign::exists(&self.db, id).await? { Ok(()) } else { Err(no_campaign(id).into()) }
    }
}
