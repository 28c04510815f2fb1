//! What the answers show of a campaign.

use aegis_proto::testing::v1 as proto;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::values::{
    CampaignStatus, CampaignType, DetectionResult, RunStatus, RunTrigger, TestState, filled, time, time_always,
};

/// A campaign.
#[derive(Serialize, ToSchema)]
#[schema(example = example)]
pub struct Campaign {
    #[schema(value_type = Uuid)]
    pub id: String,
    name: String,
    description: Option<String>,
    #[serde(rename = "type")]
    #[schema(value_type = CampaignType)]
    kind: String,
    #[schema(value_type = CampaignStatus)]
    status: String,
    #[schema(value_type = Option<Uuid>)]
    threat_actor_id: Option<String>,
    /// As it was when the actor was set.
    threat_actor_name: Option<String>,
    #[schema(value_type = Uuid)]
    created_by: String,
    created_by_username: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// weekly | monthly | quarterly | a cron expression
    schedule: Option<String>,
    /// IANA name; the clocks that the schedule goes by.
    time_zone: Option<String>,
    schedule_enabled: bool,
    /// Null where no run is to come.
    next_run_at: Option<DateTime<Utc>>,
    last_run_at: Option<DateTime<Utc>>,
    /// How many of its tests are in which state.
    progress: StateCounts,
    test_count: i32,
}

/// Tests by state.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "draft": 3, "red_executing": 1, "blue_evaluating": 0, "in_review": 0, "validated": 8, "rejected": 0
}))]
pub struct StateCounts {
    draft: i32,
    red_executing: i32,
    blue_evaluating: i32,
    in_review: i32,
    validated: i32,
    rejected: i32,
}

/// A campaign and its tests.
#[derive(Serialize, ToSchema)]
#[schema(example = example_detail)]
pub struct CampaignDetail {
    #[serde(flatten)]
    pub campaign: Campaign,
    /// In their order.
    pub tests: Vec<CampaignTest>,
}

/// A test in its place.
#[derive(Serialize, ToSchema)]
#[schema(example = example_test)]
pub struct CampaignTest {
    #[schema(value_type = Uuid)]
    test_id: String,
    /// 1 for the first.
    position: i32,
    /// Such as a tactic's short name, or a step of one's own.
    phase: Option<String>,
    name: String,
    #[schema(value_type = Uuid)]
    technique_id: String,
    /// ATT&CK id of the technique.
    mitre_id: String,
    technique_name: String,
    platform: Option<String>,
    #[schema(value_type = TestState)]
    state: String,
    #[schema(value_type = Option<DetectionResult>)]
    detection_result: Option<String>,
    validated_at: Option<DateTime<Utc>>,
}

/// What ran, when, and what came of it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0190b7a2-c200-7a52-8a10-4d6b8c9e0f01", "campaign_id": "0190b7a2-c100-7e0b-b3a4-6a1d9f2e7c01",
    "trigger": "scheduled", "due_at": "2024-02-01T08:00:00Z", "started_at": "2024-02-01T08:00:00Z",
    "started_by": null, "started_by_username": null, "status": "created", "error": null, "test_count": 12,
    "progress": {
        "draft": 3, "red_executing": 1, "blue_evaluating": 0, "in_review": 0, "validated": 8, "rejected": 0
    },
    "detected": 5, "partially_detected": 2, "not_detected": 1, "deleted": 0
}))]
pub struct CampaignRun {
    #[schema(value_type = Uuid)]
    pub id: String,
    #[schema(value_type = Uuid)]
    campaign_id: String,
    #[schema(value_type = RunTrigger)]
    trigger: String,
    /// When it was due; of a run that was missed, when it was due at last.
    due_at: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    /// A user; null for the schedule.
    #[schema(value_type = Option<Uuid>)]
    started_by: Option<String>,
    started_by_username: Option<String>,
    #[schema(value_type = RunStatus)]
    status: String,
    /// Why it failed.
    error: Option<String>,
    /// Tests that it made.
    test_count: i32,
    /// In which state those are now.
    progress: StateCounts,
    /// What was seen of those that are validated.
    detected: i32,
    partially_detected: i32,
    not_detected: i32,
    /// Those that were deleted since.
    deleted: i32,
}

/// What a campaign was filled with.
#[derive(Serialize, ToSchema)]
#[schema(example = example_generated)]
pub struct Generated {
    pub campaign: Campaign,
    /// Tests that were made.
    pub created: i32,
    /// Techniques whose every template is in the campaign already.
    pub already_there: i32,
    /// ATT&CK ids of the techniques without a template; for each there is a draft without a procedure.
    pub without_template: Vec<String>,
}

impl From<proto::Campaign> for Campaign {
    fn from(c: proto::Campaign) -> Campaign {
        Campaign {
            id: c.id,
            name: c.name,
            description: c.description,
            kind: c.r#type,
            status: c.status,
            threat_actor_id: c.threat_actor_id,
            threat_actor_name: c.threat_actor_name,
            created_by: c.created_by,
            created_by_username: c.created_by_username,
            created_at: time_always(c.created_at),
            updated_at: time_always(c.updated_at),
            schedule: c.schedule,
            time_zone: c.time_zone,
            schedule_enabled: c.schedule_enabled,
            next_run_at: time(c.next_run_at),
            last_run_at: time(c.last_run_at),
            progress: c.progress.unwrap_or_default().into(),
            test_count: c.test_count,
        }
    }
}

impl From<proto::StateCounts> for StateCounts {
    fn from(counts: proto::StateCounts) -> StateCounts {
        StateCounts {
            draft: counts.draft,
            red_executing: counts.red_executing,
            blue_evaluating: counts.blue_evaluating,
            in_review: counts.in_review,
            validated: counts.validated,
            rejected: counts.rejected,
        }
    }
}

impl From<proto::CampaignTest> for CampaignTest {
    fn from(t: proto::CampaignTest) -> CampaignTest {
        CampaignTest {
            test_id: t.test_id,
            position: t.position,
            phase: t.phase,
            name: t.name,
            technique_id: t.technique_id,
            mitre_id: t.mitre_id,
            technique_name: t.technique_name,
            platform: t.platform,
            state: t.state,
            detection_result: t.detection_result,
            validated_at: time(t.validated_at),
        }
    }
}

impl From<proto::CampaignRun> for CampaignRun {
    fn from(r: proto::CampaignRun) -> CampaignRun {
        CampaignRun {
            id: r.id,
            campaign_id: r.campaign_id,
            trigger: r.trigger,
            due_at: time(r.due_at),
            started_at: time(r.started_at),
            started_by: r.started_by.and_then(filled),
            started_by_username: filled(r.started_by_username),
            status: r.status,
            error: r.error.and_then(filled),
            test_count: r.test_count,
            progress: r.progress.unwrap_or_default().into(),
            detected: r.detected,
            partially_detected: r.partially_detected,
            not_detected: r.not_detected,
            deleted: r.deleted,
        }
    }
}

fn example() -> Value {
    json!({
        "id": "0190b7a2-c100-7e0b-b3a4-6a1d9f2e7c01", "name": "APT28 in spring",
        "description": "What they did to others", "type": "apt_emulation", "status": "active",
        "threat_actor_id": "0190b7a2-9000-7c3e-9d2a-3f6d1c0e8a28", "threat_actor_name": "APT28",
        "created_by": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99", "created_by_username": "ana",
        "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z", "schedule": "monthly",
        "time_zone": "Europe/Berlin", "schedule_enabled": true, "next_run_at": "2024-02-01T08:00:00Z",
        "last_run_at": null,
        "progress": {
            "draft": 3, "red_executing": 1, "blue_evaluating": 0, "in_review": 0, "validated": 8, "rejected": 0
        },
        "test_count": 12
    })
}

fn example_test() -> Value {
    json!({
        "test_id": "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01", "position": 1, "phase": "execution",
        "name": "Encoded command", "technique_id": "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11", "mitre_id": "T1059.001",
        "technique_name": "PowerShell", "platform": "windows", "state": "draft", "detection_result": null,
        "validated_at": null
    })
}

fn example_detail() -> Value {
    let mut detail = example();
    detail["tests"] = json!([example_test()]);
    detail
}

fn example_generated() -> Value {
    json!({"campaign": example(), "created": 12, "already_there": 0, "without_template": ["T1583.001"]})
}
