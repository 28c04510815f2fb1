//! What the answers show of a test.

use aegis_proto::testing::v1 as proto;
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    routes::evidence::Evidence,
    values::{DetectionResult, RemediationStatus, TestState, TimeSource, Vote, filled, time, time_always},
};

/// A test.
#[derive(Serialize, ToSchema)]
#[schema(example = example)]
pub struct Test {
    #[schema(value_type = Uuid)]
    id: String,
    #[schema(value_type = Uuid)]
    technique_id: String,
    /// ATT&CK id of the technique.
    mitre_id: String,
    technique_name: String,
    name: String,
    description: Option<String>,
    platform: Option<String>,
    procedure_text: Option<String>,
    tool_used: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    template_id: Option<String>,
    #[schema(value_type = TestState)]
    state: String,
    #[schema(value_type = Uuid)]
    created_by: String,
    created_by_username: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Whose turn it is to run it. Nobody else is kept from it.
    #[schema(value_type = Option<Uuid>)]
    red_assignee: Option<String>,
    /// Whose turn it is to evaluate it.
    #[schema(value_type = Option<Uuid>)]
    blue_assignee: Option<String>,
    /// When the execution was started.
    execution_date: Option<DateTime<Utc>>,
    /// Who started it.
    #[schema(value_type = Option<Uuid>)]
    executed_by: Option<String>,
    attack_success: Option<bool>,
    red_summary: Option<String>,
    executed_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<TimeSource>)]
    executed_at_source: Option<String>,
    #[schema(value_type = Option<DetectionResult>)]
    detection_result: Option<String>,
    blue_summary: Option<String>,
    detected_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<TimeSource>)]
    detected_at_source: Option<String>,
    responded_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<TimeSource>)]
    responded_at_source: Option<String>,
    contained_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<TimeSource>)]
    contained_at_source: Option<String>,
    #[schema(value_type = Option<Vote>)]
    red_validation_status: Option<String>,
    red_validation_notes: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    red_validated_by: Option<String>,
    red_validated_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<Vote>)]
    blue_validation_status: Option<String>,
    blue_validation_notes: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    blue_validated_by: Option<String>,
    blue_validated_at: Option<DateTime<Utc>>,
    validated_at: Option<DateTime<Utc>>,
    remediation_steps: Option<String>,
    #[schema(value_type = Option<RemediationStatus>)]
    remediation_status: Option<String>,
    /// A user.
    #[schema(value_type = Option<Uuid>)]
    remediation_assignee: Option<String>,
    remediation_due_date: Option<DateTime<Utc>>,
    remediation_completed_at: Option<DateTime<Utc>>,
    /// The test that this one tests again.
    #[schema(value_type = Option<Uuid>)]
    retest_of: Option<String>,
}

impl From<proto::Test> for Test {
    fn from(t: proto::Test) -> Test {
        Test {
            id: t.id,
            technique_id: t.technique_id,
            mitre_id: t.mitre_id,
            technique_name: t.technique_name,
            name: t.name,
            description: t.description,
            platform: t.platform,
            procedure_text: t.procedure_text,
            tool_used: t.tool_used,
            template_id: t.template_id,
            state: t.state,
            created_by: t.created_by,
            created_by_username: t.created_by_username,
            created_at: time_always(t.created_at),
            updated_at: time_always(t.updated_at),
            red_assignee: t.red_assignee,
            blue_assignee: t.blue_assignee,
            execution_date: time(t.execution_date),
            executed_by: t.executed_by,
            attack_success: t.attack_success,
            red_summary: t.red_summary,
            executed_at: time(t.executed_at),
            executed_at_source: t.executed_at_source,
            detection_result: t.detection_result,
            blue_summary: t.blue_summary,
            detected_at: time(t.detected_at),
            detected_at_source: t.detected_at_source,
            responded_at: time(t.responded_at),
            responded_at_source: t.responded_at_source,
            contained_at: time(t.contained_at),
            contained_at_source: t.contained_at_source,
            red_validation_status: filled(t.red_validation_status),
            red_validation_notes: t.red_validation_notes,
            red_validated_by: t.red_validated_by,
            red_validated_at: time(t.red_validated_at),
            blue_validation_status: filled(t.blue_validation_status),
            blue_validation_notes: t.blue_validation_notes,
            blue_validated_by: t.blue_validated_by,
            blue_validated_at: time(t.blue_validated_at),
            validated_at: time(t.validated_at),
            remediation_steps: t.remediation_steps,
            remediation_status: t.remediation_status,
            remediation_assignee: t.remediation_assignee,
            remediation_due_date: time(t.remediation_due_date),
            remediation_completed_at: time(t.remediation_completed_at),
            retest_of: t.retest_of,
        }
    }
}

/// A test and its evidence.
#[derive(Serialize, ToSchema)]
#[schema(example = example_with_evidence)]
pub struct TestWithEvidence {
    #[serde(flatten)]
    pub test: Test,
    /// Oldest first.
    pub evidences: Vec<Evidence>,
}

/// A test, and the one that its remediation has made.
#[derive(Serialize, ToSchema)]
#[schema(example = example_with_retest)]
pub struct RemediatedTest {
    #[serde(flatten)]
    pub test: Test,
    /// The draft that tests it again: made when this request completed the remediation of a test that was not fully
    /// detected, else null.
    pub retest: Option<Test>,
}

/// A test of a chain of retests.
#[derive(Serialize, ToSchema)]
#[schema(example = example_with_regression)]
pub struct ChainedTest {
    #[serde(flatten)]
    pub test: Test,
    /// Its result is worse than that of the validated one before it.
    pub regression: bool,
}

/// What a request for many tests has changed.
#[derive(Serialize, ToSchema)]
#[schema(example = example_of_many)]
pub struct ChangedTests {
    /// How many.
    pub changed: i32,
    /// As they are now, in the order of `ids`; none after a deletion.
    pub tests: Vec<Test>,
}

fn example() -> Value {
    let moment = Some(Timestamp { seconds: 1_704_067_200, nanos: 0 });
    let ana = "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a99";
    let test = Test::from(proto::Test {
        id: "0190b7a2-6a00-7b1d-8c55-0f3a9d2b7c01".into(),
        technique_id: "0190b7a2-5f00-7c3e-9d2a-3f6d1c0e8a11".into(),
        mitre_id: "T1059.001".into(),
        technique_name: "PowerShell".into(),
        name: "Encoded command".into(),
        description: Some("Runs an encoded command".into()),
        platform: Some("windows".into()),
        procedure_text: Some("Step by step …".into()),
        tool_used: Some("Atomic Red Team".into()),
        state: "draft".into(),
        created_by: ana.into(),
        created_by_username: "ana".into(),
        created_at: moment,
        updated_at: moment,
        red_assignee: Some(ana.into()),
        red_validation_status: "pending".into(),
        blue_validation_status: "pending".into(),
        ..proto::Test::default()
    });
    serde_json::to_value(test).unwrap_or_default()
}

fn example_and(name: &str, value: Value) -> Value {
    let mut test = example();
    test[name] = value;
    test
}

fn example_with_evidence() -> Value {
    example_and("evidences", json!([]))
}

fn example_with_retest() -> Value {
    example_and("retest", Value::Null)
}

fn example_with_regression() -> Value {
    example_and("regression", json!(false))
}

fn example_of_many() -> Value {
    json!({"changed": 1, "tests": [example()]})
}
