//! Making a test, from nothing or from a template.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::{Code, Failure};
use aegis_proto::catalog::v1::{
    GetTechniqueRequest, GetTemplateRequest, Technique, Template, get_technique_request::Key,
};
use uuid::Uuid;

use super::{
    App,
    input::{Checker, MAX_DESCRIPTION, MAX_PROCEDURE, MAX_SUMMARY, MAX_TOOL, NewTest},
    permitted,
    record::Step,
};
use crate::{
    domain::{
        permissions::Operation,
        workflow::{State, Vote},
    },
    error::Error,
    store::test::Test,
};

impl App {
    /// Makes a draft.
    pub async fn create_test(&self, ctx: &OpCtx, mut new: NewTest) -> Result<Test, Error> {
        let user = permitted(ctx, Operation::Create)?;
        let mut check = Checker::default();
        let from_template = new.template_id.is_some();
        let technique = Some(new.technique_id.as_str()).filter(|id| !(id.is_empty() && from_template));
        let technique_id = check.id_of("technique_id", technique);
        let template_id = check.id_of("template_id", new.template_id.as_deref());
        if !(new.name.is_empty() && from_template) {
            new.name = check.name(&new.name);
        }
        check_texts(&mut check, &mut new);
        check.finish()?;

        let mut remediation_steps = None;
        let mut template_technique = None;
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
            template_technique = Some(template.mitre_technique_id);
            // Again, with what the template brought.
            let mut check = Checker::default();
            new.name = check.name(&new.name);
            check_texts(&mut check, &mut new);
            check.text("remediation_steps", remediation_steps.as_deref(), MAX_SUMMARY);
            check.finish()?;
        }
        let key = match (technique_id, template_technique) {
            (Some(id), _) => Key::Id(id.to_string()),
            (None, Some(mitre_id)) => Key::MitreId(mitre_id),
            (None, None) => return Err(Failure::invalid("technique_id", "must be a UUID").into()),
        };
        let technique = self.technique(ctx, key).await?;
        let technique_id = Uuid::try_parse(&technique.id).map_err(Failure::internal)?;

        let at = now();
        let id = Uuid::now_v7();
        let test = Test {
            id,
            technique_id,
            mitre_id: technique.mitre_id,
            technique_name: technique.name,
            name: new.name,
            description: new.description,
            platform: new.platform,
            procedure_text: new.procedure_text,
            tool_used: new.tool_used,
            template_id,
            state: State::Draft,
            created_by: user.user_id,
            created_by_username: user.username.clone(),
            created_at: at,
            updated_at: at,
            execution_date: None,
            executed_by: None,
            attack_success: None,
            red_summary: None,
            executed_at: None,
            executed_at_source: None,
            detection_result: None,
            blue_summary: None,
            detected_at: None,
            detected_at_source: None,
            responded_at: None,
            responded_at_source: None,
            contained_at: None,
            contained_at_source: None,
            red_validation_status: Vote::Pending,
            red_validation_notes: None,
            red_validated_by: None,
            red_validated_at: None,
            blue_validation_status: Vote::Pending,
            blue_validation_notes: None,
            blue_validated_by: None,
            blue_validated_at: None,
            validated_at: None,
            remediation_steps,
            remediation_status: None,
            remediation_assignee: None,
            remediation_completed_at: None,
            retest_of: None,
            chain_id: id,
            version: 1,
        };
        let step = Step::new("created", "create_test")
            .with("technique_id", technique_id.to_string())
            .with("mitre_id", test.mitre_id.clone())
            .with("to", test.state.as_str());
        let tx = self.db.begin().await?;
        self.save_new(tx, ctx, user, test, step).await
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
