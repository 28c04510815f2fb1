//! What the stories of campaigns have in common.

use std::time::Duration;

use aegis_auth::{OpCtx, Role};
use aegis_db::on;
use aegis_error::Failure;
use aegis_events::{Event, decode};
use aegis_proto::{
    events::v1::CampaignChanged,
    testing::v1::{campaign_service_client::CampaignServiceClient, *},
};
use aegis_rpc::RpcService;
use aegis_runtime::{Shutdown, Task};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use uuid::Uuid;

use crate::world::*;

pub type Campaigns = CampaignServiceClient<RpcService>;

/// A time of a message.
pub fn time(at: Option<Timestamp>) -> DateTime<Utc> {
    let at = at.unwrap();
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).unwrap()).unwrap()
}

impl World {
    pub fn campaigns(&self, (role, username): (Role, &str)) -> Campaigns {
        self.campaigns_with(aegis_testkit::ctx(role, username))
    }

    pub fn campaigns_with(&self, ctx: OpCtx) -> Campaigns {
        CampaignServiceClient::new(self.service_with(ctx)).max_decoding_message_size(aegis_rpc::MAX_MESSAGE)
    }

    /// A campaign by rita.
    pub async fn campaign(&self, name: &str, actor: Option<&str>) -> Campaign {
        let request = CreateCampaignRequest {
            name: name.into(),
            threat_actor_id: actor.map(str::to_owned),
            ..CreateCampaignRequest::default()
        };
        self.campaigns(RED_TECH).create_campaign(request).await.unwrap().into_inner().campaign.unwrap()
    }

    /// One with that many drafts.
    pub async fn campaign_of(&self, name: &str, tests: usize) -> (Campaign, Vec<String>) {
        let campaign = self.campaign(name, None).await;
        let mut ids = Vec::new();
        for _ in 0..tests {
            ids.push(self.draft().await.id);
        }
        let campaign = if tests == 0 { campaign } else { self.place(RED_TECH, &campaign.id, &ids, 0).await.unwrap() };
        (campaign, ids)
    }

    pub async fn get_campaign(&self, id: &str) -> Campaign {
        let request = GetCampaignRequest { id: id.into() };
        self.campaigns(VIEWER).get_campaign(request).await.unwrap().into_inner().campaign.unwrap()
    }

    pub async fn place(
        &self,
        who: (Role, &str),
        campaign_id: &str,
        ids: &[String],
        position: i32,
    ) -> Result<Campaign, Failure> {
        let place = |id: &String| CampaignPlace { test_id: id.clone(), phase: None };
        let tests = ids.iter().map(place).collect();
        let request = AddCampaignTestsRequest { campaign_id: campaign_id.into(), tests, position };
        let answer = self.campaigns(who).add_campaign_tests(request).await?;
        Ok(answer.into_inner().campaign.unwrap())
    }

    pub async fn set_status(&self, who: (Role, &str), id: &str, status: &str) -> Result<Campaign, Failure> {
        let request =
            UpdateCampaignRequest { id: id.into(), status: Some(status.into()), ..UpdateCampaignRequest::default() };
        Ok(self.campaigns(who).update_campaign(request).await?.into_inner().campaign.unwrap())
    }

    pub async fn schedule(&self, id: &str, schedule: &str, zone: &str, enabled: bool) -> Result<Campaign, Failure> {
        let request =
            SetCampaignScheduleRequest { id: id.into(), schedule: schedule.into(), time_zone: zone.into(), enabled };
        Ok(self.campaigns(BLUE_TECH).set_campaign_schedule(request).await?.into_inner().campaign.unwrap())
    }

    pub async fn run(&self, who: (Role, &str), id: &str) -> Result<CampaignRun, Failure> {
        let request = RunCampaignRequest { id: id.into() };
        Ok(self.campaigns(who).run_campaign(request).await?.into_inner().run.unwrap())
    }

    /// The tests of a campaign, or of one of its runs.
    pub async fn placed(&self, campaign_id: &str, run_id: Option<&str>) -> Vec<CampaignTest> {
        let (mut tests, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListCampaignTestsRequest {
                campaign_id: campaign_id.into(),
                run_id: run_id.map(str::to_owned),
                page_token,
                ..ListCampaignTestsRequest::default()
            };
            let page = self.campaigns(VIEWER).list_campaign_tests(request).await.unwrap().into_inner();
            tests.extend(page.tests);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                assert_eq!(i64::try_from(tests.len()).unwrap(), page.total_size);
                return tests;
            }
        }
    }

    pub async fn runs(&self, campaign_id: &str) -> Vec<CampaignRun> {
        let request = ListCampaignRunsRequest { campaign_id: campaign_id.into(), ..ListCampaignRunsRequest::default() };
        let page = self.campaigns(VIEWER).list_campaign_runs(request).await.unwrap().into_inner();
        // Counted after the page was read, so there may be more by then.
        assert!(page.total_size >= i64::try_from(page.runs.len()).unwrap());
        page.runs
    }

    /// What was told of campaigns, in order.
    pub async fn campaign_changes(&self) -> Vec<CampaignChanged> {
        let outbox = self.outbox().await;
        outbox.iter().filter(|e| e.r#type == CampaignChanged::KIND).map(|e| decode(e).unwrap()).collect()
    }

    /// Makes a campaign due at a time, by a schedule that was set at another.
    pub async fn due_since(&self, id: &str, due: DateTime<Utc>, set: DateTime<Utc>) {
        let mut tx = self.db.begin().await.unwrap();
        on!(tx, |c| sqlx::query("UPDATE campaign SET next_run_at = $1, schedule_set_at = $2 WHERE id = $3")
            .bind(due)
            .bind(set)
            .bind(Uuid::parse_str(id).unwrap())
            .execute(c)
            .await
            .map(|_| ()))
        .unwrap();
        tx.commit().await.unwrap();
    }

    /// Brings a test to its end; both leads approve or one does not.
    pub async fn through(&self, id: &str, approve: bool, result: &str) {
        self.go(RED_TECH, id, "start_execution").await.unwrap();
        self.go(RED_TECH, id, "submit_red").await.unwrap();
        let edit =
            UpdateBlueRequest { id: id.into(), detection_result: Some(result.into()), ..UpdateBlueRequest::default() };
        self.by(BLUE_TECH).update_blue(edit).await.unwrap();
        self.go(BLUE_TECH, id, "submit_blue").await.unwrap();
        self.vote(ADMIN, id, "own", approve).await.unwrap();
    }
}

/// Lets background work go on until something is so.
pub async fn until(what: &str, tasks: Vec<Task>, mut so: impl AsyncFnMut() -> bool) {
    let stop = Shutdown::new();
    for task in tasks {
        task.spawn(&stop);
    }
    for _ in 0..400 {
        if so().await {
            assert!(stop.drain(Duration::from_secs(20)).await, "background work goes on after the stop");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}");
}

/// The tasks with these names.
pub fn named(tasks: &mut Vec<Task>, names: &[&str]) -> Vec<Task> {
    tasks.extract_if(.., |task| names.contains(&task.name)).collect()
}
