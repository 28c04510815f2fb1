//! Messages from and to what the service works with.

use aegis_proto::testing::v1::{self as pb, change_tests_request::Change};
use chrono::{DateTime, SubsecRound, Utc};
use prost_types::Timestamp;
use uuid::Uuid;

use crate::{
    app::{AssignmentEdit, Ballot, BlueEdit, BulkChange, ListQuery, NewTest, RedEdit, RemediationEdit, TestEdit},
    store::{test::Test, timeline::Entry},
};

/// A time as messages carry it.
pub fn timestamp(at: DateTime<Utc>) -> Option<Timestamp> {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).ok()?;
    Some(Timestamp { seconds: at.timestamp(), nanos })
}

/// A time that may be missing, as messages carry it.
pub fn timestamp_of(at: Option<DateTime<Utc>>) -> Option<Timestamp> {
    at.and_then(timestamp)
}

/// A time from a message, in the microseconds that the databases keep; none when it is outside the calendar.
pub fn chrono_of(at: Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(at.nanos).ok()?;
    DateTime::from_timestamp(at.seconds, nanos).map(|at| at.trunc_subsecs(6))
}

/// A time that somebody gave. One outside the calendar becomes one that validation refuses.
fn given(at: Option<Timestamp>) -> Option<DateTime<Utc>> {
    at.map(|at| chrono_of(at).unwrap_or(DateTime::<Utc>::MIN_UTC))
}

fn text(id: Option<Uuid>) -> Option<String> {
    id.map(|id| id.to_string())
}

/// A test as a message.
pub fn test(test: Test) -> pb::Test {
    pb::Test {
        id: test.id.to_string(),
        technique_id: test.technique_id.to_string(),
        mitre_id: test.mitre_id,
        technique_name: test.technique_name,
        name: test.name,
        description: test.description,
        platform: test.platform,
        procedure_text: test.procedure_text,
        tool_used: test.tool_used,
        template_id: text(test.template_id),
        state: test.state.as_str().to_owned(),
        created_by: test.created_by.to_string(),
        created_by_username: test.created_by_username,
        created_at: timestamp(test.created_at),
        updated_at: timestamp(test.updated_at),
        execution_date: timestamp_of(test.execution_date),
        executed_by: text(test.executed_by),
        attack_success: test.attack_success,
        red_summary: test.red_summary,
        executed_at: timestamp_of(test.executed_at),
        detection_result: test.detection_result,
        blue_summary: test.blue_summary,
        detected_at: timestamp_of(test.detected_at),
        responded_at: timestamp_of(test.responded_at),
        contained_at: timestamp_of(test.contained_at),
        red_validation_status: test.red_validation_status.as_str().to_owned(),
        red_validation_notes: test.red_validation_notes,
        red_validated_by: text(test.red_validated_by),
        red_validated_at: timestamp_of(test.red_validated_at),
        blue_validation_status: test.blue_validation_status.as_str().to_owned(),
        blue_validation_notes: test.blue_validation_notes,
        blue_validated_by: text(test.blue_validated_by),
        blue_validated_at: timestamp_of(test.blue_validated_at),
        validated_at: timestamp_of(test.validated_at),
        remediation_steps: test.remediation_steps,
        remediation_status: test.remediation_status,
        remediation_assignee: text(test.remediation_assignee),
        remediation_completed_at: timestamp_of(test.remediation_completed_at),
        retest_of: text(test.retest_of),
        chain_id: test.chain_id.to_string(),
        version: test.version,
        red_assignee: text(test.red_assignee),
        blue_assignee: text(test.blue_assignee),
        remediation_due_date: timestamp_of(test.remediation_due_date),
        executed_at_source: test.executed_at_source,
        detected_at_source: test.detected_at_source,
        responded_at_source: test.responded_at_source,
        contained_at_source: test.contained_at_source,
        red_submitted_at: timestamp_of(test.red_submitted_at),
        blue_submitted_at: timestamp_of(test.blue_submitted_at),
    }
}

/// An entry of a timeline as a message.
pub fn entry(entry: Entry) -> pb::TimelineEntry {
    pb::TimelineEntry {
        id: entry.id.to_string(),
        time: timestamp(entry.at),
        kind: entry.kind,
        actor_id: text(entry.actor_id).unwrap_or_default(),
        actor: entry.actor,
        details_json: entry.details.0.to_string(),
    }
}

impl From<pb::ListTestsRequest> for ListQuery {
    fn from(request: pb::ListTestsRequest) -> Self {
        ListQuery {
            page_size: request.page_size,
            page_token: request.page_token,
            skip: request.skip,
            state: request.state,
            technique_id: request.technique_id,
            platform: request.platform,
            created_by: request.created_by,
            pending_validation_side: request.pending_validation_side,
            assignee: request.assignee,
            incomplete: request.incomplete,
            campaign_id: request.campaign_id,
            remediation_status: request.remediation_status,
            overdue: request.overdue,
        }
    }
}

impl From<pb::CreateTestRequest> for NewTest {
    fn from(request: pb::CreateTestRequest) -> Self {
        NewTest {
            technique_id: request.technique_id,
            name: request.name,
            description: request.description,
            platform: request.platform,
            procedure_text: request.procedure_text,
            tool_used: request.tool_used,
            template_id: request.template_id,
            mitre_id: request.mitre_id,
        }
    }
}

impl From<pb::UpdateTestRequest> for TestEdit {
    fn from(request: pb::UpdateTestRequest) -> Self {
        TestEdit {
            id: request.id,
            name: request.name,
            description: request.description,
            platform: request.platform,
            procedure_text: request.procedure_text,
            tool_used: request.tool_used,
            clear: request.clear,
        }
    }
}

impl From<pb::UpdateRedRequest> for RedEdit {
    fn from(request: pb::UpdateRedRequest) -> Self {
        RedEdit {
            id: request.id,
            procedure_text: request.procedure_text,
            tool_used: request.tool_used,
            attack_success: request.attack_success,
            red_summary: request.red_summary,
            executed_at: given(request.executed_at),
            clear: request.clear,
        }
    }
}

impl From<pb::UpdateBlueRequest> for BlueEdit {
    fn from(request: pb::UpdateBlueRequest) -> Self {
        BlueEdit {
            id: request.id,
            detection_result: request.detection_result,
            blue_summary: request.blue_summary,
            detected_at: given(request.detected_at),
            responded_at: given(request.responded_at),
            contained_at: given(request.contained_at),
            clear: request.clear,
        }
    }
}

impl From<pb::UpdateRemediationRequest> for RemediationEdit {
    fn from(request: pb::UpdateRemediationRequest) -> Self {
        RemediationEdit {
            id: request.id,
            remediation_steps: request.remediation_steps,
            remediation_status: request.remediation_status,
            remediation_assignee: request.remediation_assignee,
            remediation_due_date: given(request.remediation_due_date),
            clear: request.clear,
        }
    }
}

impl From<pb::Assignment> for AssignmentEdit {
    fn from(request: pb::Assignment) -> Self {
        AssignmentEdit {
            red_assignee: request.red_assignee,
            blue_assignee: request.blue_assignee,
            remediation_assignee: request.remediation_assignee,
            clear: request.clear,
        }
    }
}

impl From<Option<Change>> for BulkChange {
    fn from(change: Option<Change>) -> Self {
        match change {
            Some(Change::Assign(assignment)) => BulkChange::Assign(assignment.into()),
            Some(Change::Move(name)) => BulkChange::Move(name),
            Some(Change::Delete(true)) => BulkChange::Delete,
            Some(Change::Delete(false)) | None => BulkChange::Missing,
        }
    }
}

impl From<pb::CastVoteRequest> for Ballot {
    fn from(request: pb::CastVoteRequest) -> Self {
        Ballot {
            id: request.id,
            side: request.side,
            approve: request.approve,
            notes: request.notes,
            result: request.result,
        }
    }
}
