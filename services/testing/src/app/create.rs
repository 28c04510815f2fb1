//! Making a test, from nothing or from a template.

use aegis_auth::OpCtx;
use aegis_db::{Tx, now};
use aegis_error::{Code, Failure};
use aegis_proto::catalog::v1::{
    GetTechniqueRequest, GetTemplateRequest, Technique, Template, get_technique_request::Key,
};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    App,
    input::{Checker, MAX_DESCRIPTION, MAX_PROCEDURE, MAX_SUMMARY, MAX_TOOL, NewTest},
    permitted,
    record::{Author, Step, notes},
};
use crate::{
    domain::{permissions::Operation, workflow::Progress},
    error::Error,
    store::test::Test,
};

/// Longest ATT&CK id that is asked for.
const MAX_MITRE_ID: usize = 32;

/// A draft that is to be made, with all that is known of it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are those of the API's Test, described there")]
pub(in crate::app) struct NewDraft {
    pub id: Uuid,
    /// The technique as the catalogue has it now.
    pub technique_id: Uuid,
    pub mitre_id: String,
    pub technique_name: String,
    pub name: String,
    pub description: Option<String>,
    pub platform: Option<String>,
    pub procedure_text: Option<String>,
    pub tool_used: Option<String>,
    pub template_id: Option<Uuid>,
    pub remediation_steps: Option<String>,
    /// Whose test it is; not always who made it.
    pub created_by: Uuid,
    pub created_by_username: String,
    /// The test that it tests again, and the chain of both.
    pub retest: Option<(Uuid, Uuid)>,
    /// What else its timeline and the audit trail say of its making, such as the campaign.
    pub said: Map<String, Value>,
}

impl NewDraft {
    /// The procedure of a test that there is, to be gone through once more.
    pub fn again(test: &Test) -> Self {
        NewDraft {
            id: Uuid::now_v7(),
            technique_id: test.technique_id,
            mitre_id: test.mitre_id.clone(),
            technique_name: test.technique_name.clone(),
            name: test.name.clone(),
            description: test.description.clone(),
            platform: test.platform.clone(),
            procedure_text: test.procedure_text.clone(),
            tool_used: test.tool_used.clone(),
            template_id: test.template_id,
            remediation_steps: None,
            created_by: test.created_by,
            created_by_username: test.created_by_username.clone(),
            retest: None,
            said: Map::new(),
        }
    }

    fn into_test(self, at: DateTime<Utc>) -> Test {
        let start = Progress::draft();
        Test {
            id: self.id,
            technique_id: self.technique_id,
            mitre_id: self.mitre_id,
            technique_name: self.technique_name,
            name: self.name,
            description: self.description,
            platform: self.platform,
            procedure_text: self.procedure_text,
            tool_used: self.tool_used,
            template_id: self.template_id,
            state: start.state,
            created_by: self.created_by,
            created_by_username: self.created_by_username,
            created_at: at,
            updated_at: at,
            execution_date: start.execution_date,
            executed_by: start.executed_by,
            attack_success: None,
            red_summary: None,
            executed_at: None,
            executed_at_source: None,
            detection_result: start.detection_result,
            blue_summary: None,
            detected_at: None,
            detected_at_source: None,
            responded_at: None,
            responded_at_source: None,
            contained_at: None,
            contained_at_source: None,
            red_validation_status: start.red.vote,
            red_validation_notes: start.red.notes,
            red_validated_by: start.red.by,
            red_validated_at: start.red.at,
            blue_validation_status: start.blue.vote,
            blue_validation_notes: start.blue.notes,
            blue_validated_by: start.blue.by,
            blue_validated_at: start.blue.at,
            validated_at: start.validated_at,
            remediation_steps: self.remediation_steps,
            remediation_status: None,
            remediation_assignee: None,
            remediation_completed_at: None,
            retest_of: self.retest.map(|(of, _)| of),
            chain_id: self.retest.map_or(self.id, |(_, chain)| chain),
            version: 1,
            red_assignee: None,
            blue_assignee: None,
            remediation_due_date: None,
            red_submitted_at: start.red_submitted_at,
            blue_submitted_at: start.blue_submitted_at,
        }
    }
}

impl App {
    /// Makes a draft.
    pub async fn create_test(&self, ctx: &OpCtx, mut new: NewTest) -> Result<Test, Error> {
        let user = permitted(ctx, Operation::Create)?;
        let mut check = Checker::default();
        let from_template = new.template_id.is_some();
        let named = from_template || new.mitre_id.is_some();
        let technique = Some(new.technique_id.as_str()).filter(|id| !(id.is_empty() && named));
        let technique_id = check.id_of("technique_id", technique);
        let template_id = check.id_of("template_id", new.template_id.as_deref());
        if !(new.name.is_empty() && from_template) {
            new.name = check.name(&new.name);
        }
        check_texts(&mut check, &mut new);
        let mut mitre_id = new.mitre_id.take();
        check.text("mitre_id", mitre_id.as_deref(), MAX_MITRE_ID);
        check.finish()?;

        let mut remediation_steps = None;
        if let Some(id) = template_id {
            let template = self.template(ctx, id).await?;
            if !template.is_active {
                return Err(Error::InactiveTemplate(template.name));
            }
            if new.name.is_empty() {
                new.name = template.name;
            }
            new.description = new.description.or(template.description);
            new.platform = new.platform.or(template.platform);
            new.procedure_text = new.procedure_text.or(template.attack_procedure);
            new.tool_used = new.tool_used.or(template.tool_suggested);
            remediation_steps = template.suggested_remediation;
            mitre_id = mitre_id.or(Some(template.mitre_technique_id));
            // Again, with what the template brought.
            let mut check = Checker::default();
            new.name = check.name(&new.name);
            check_texts(&mut check, &mut new);
            check.text("remediation_steps", remediation_steps.as_deref(), MAX_SUMMARY);
            check.finish()?;
        }
        let key = match (technique_id, mitre_id) {
            (Some(id), _) => Key::Id(id.to_string()),
            (None, Some(mitre_id)) => Key::MitreId(mitre_id),
            (None, None) => return Err(Failure::invalid("technique_id", "must be a UUID").into()),
        };
        let technique = self.technique(ctx, key).await?;
        let technique_id = Uuid::try_parse(&technique.id).map_err(Failure::internal)?;

        let author = Author::of(ctx)?;
        let draft = NewDraft {
            id: Uuid::now_v7(),
            technique_id,
            mitre_id: technique.mitre_id,
            technique_name: technique.name,
            name: new.name,
            description: new.description,
            platform: new.platform,
            procedure_text: new.procedure_text,
            tool_used: new.tool_used,
            template_id,
            remediation_steps,
            created_by: user.user_id,
            created_by_username: user.username.clone(),
            retest: None,
            said: Map::new(),
        };
        let mut tx = self.db.begin().await?;
        self.outbox.claim(&mut tx, ctx, &draft.id.to_string()).await?;
        let tests = self.insert_drafts(&mut tx, &author, vec![draft]).await?;
        tx.commit().await?;
        tests.into_iter().next().ok_or_else(|| Failure::internal("a draft was made and is not there").into())
    }

    /// Makes many drafts in one go, inside the caller's transaction: their rows, timelines, lines of the audit trail
    /// and events, each in statements of many rows. They are answered in the order of `drafts`.
    ///
    /// Asks for no right and checks no field: the caller has authorised, has put texts within their bounds
    /// ([`super::input`]; what comes of a catalogue's template as [`App::create_test`] does), and has used up the
    /// request's conditions ([`aegis_events::Outbox::claim`], or a `publish` or `audit` with its context).
    pub(in crate::app) async fn insert_drafts(
        &self,
        tx: &mut Tx,
        author: &Author,
        drafts: Vec<NewDraft>,
    ) -> Result<Vec<Test>, Error> {
        let notes: &[&str] = match drafts.iter().any(|draft| draft.retest.is_some()) {
            true => &[notes::RETEST_CREATED],
            false => &[],
        };
        let at = now();
        let (mut tests, mut steps) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for mut draft in drafts {
            let said = std::mem::take(&mut draft.said);
            let test = draft.into_test(at);
            let mut step = Step::new("created", "create_test")
                .with("technique_id", test.technique_id.to_string())
                .with("mitre_id", test.mitre_id.clone())
                .with("to", test.state.as_str());
            step.extra.extend(said);
            tests.push(test);
            steps.push(step);
        }
        self.write_new(tx, author, &tests, steps, notes).await?;
        Ok(tests)
    }

    async fn template(&self, ctx: &OpCtx, id: Uuid) -> Result<Template, Failure> {
        let request = ctx.outgoing(GetTemplateRequest { id: id.to_string() });
        let answer = self.templates.clone().get_template(request).await;
        answer
            .map_err(|status| named(status.into(), "template", &id.to_string()))?
            .into_inner()
            .template
            .ok_or_else(|| Failure::internal("the catalogue answered without a template"))
    }

    /// The technique, if tests may still be made for it.
    async fn technique(&self, ctx: &OpCtx, key: Key) -> Result<Technique, Failure> {
        let (Key::Id(id) | Key::MitreId(id)) = key.clone();
        let answer = self.catalog.clone().get_technique(ctx.outgoing(GetTechniqueRequest { key: Some(key) })).await;
        let technique = answer
            .map_err(|status| named(status.into(), "technique", &id))?
            .into_inner()
            .technique
            .ok_or_else(|| Failure::internal("the catalogue answered without a technique"))?;
        if !technique.revoked && !technique.deprecated {
            return Ok(technique);
        }
        let what = if technique.revoked { "revoked" } else { "deprecated" };
        let mitre_id = technique.mitre_id;
        Err(match technique.revoked_by {
            Some(successor) => {
                Failure::invalid("technique_id", format!("{mitre_id} is {what}; its successor is {successor}"))
                    .with("successor", successor)
            }
            None => Failure::invalid("technique_id", format!("{mitre_id} is {what} and has no successor")),
        })
    }
}

fn check_texts(check: &mut Checker, new: &mut NewTest) {
    new.platform = check.platform(new.platform.take());
    check.text("description", new.description.as_deref(), MAX_DESCRIPTION);
    check.text("procedure_text", new.procedure_text.as_deref(), MAX_PROCEDURE);
    check.text("tool_used", new.tool_used.as_deref(), MAX_TOOL);
}

/// Says what was not found as this service's callers know it.
fn named(failure: Failure, kind: &str, id: &str) -> Failure {
    if failure.code() == Code::NotFound { Failure::not_found(kind, id) } else { failure }
}
