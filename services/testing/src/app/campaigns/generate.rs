//! Filling a campaign: drafts for what a threat actor does, from the best templates.

use std::collections::{HashMap, HashSet};

use aegis_auth::OpCtx;
use aegis_error::{Code, Failure, Fields};
use aegis_proto::catalog::v1::{
    ListLinksRequest, ListTacticsRequest, ListTechniquesRequest, PickTemplatesRequest, Technique, Template,
};
use uuid::Uuid;

use super::{
    CampaignView, Cause, Told, id_of, makes_tests, no_campaign,
    places::{room, settled},
    progress_of, unarchived, write,
};
use crate::{
    app::{
        App,
        create::NewDraft,
        input::{Checker, MAX_DESCRIPTION, MAX_NAME, MAX_PROCEDURE, MAX_SUMMARY, MAX_TOOL},
        record::Author,
    },
    domain::campaign::{MAX_TESTS, TacticOrder, WRITERS},
    error::Error,
    store::{
        campaign,
        campaign_test::{self, Made, Place},
    },
};

/// Templates of a technique at most.
const MAX_PER_TECHNIQUE: i32 = 20;
/// Tests that are generated where nobody says how many at most.
const TESTS: usize = 1_000;
/// Rows of a page of what the catalogue is asked for.
const PAGE: i32 = 5_000;
/// Templates that are asked for at once: few enough that their texts fit into an answer.
const TEMPLATES: usize = 400;

/// What to generate.
#[derive(Clone, Debug, Default)]
pub struct GenerateOrder {
    /// The campaign.
    pub campaign_id: String,
    /// Templates of a technique at most; 0 for one.
    pub per_technique: i32,
    /// Only templates for it.
    pub platform: Option<String>,
    /// Tests at most; 0 for the default.
    pub limit: i32,
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The campaign with it.
    pub view: CampaignView,
    /// New tests.
    pub created: usize,
    /// Techniques with nothing left to make.
    pub already_there: usize,
    /// ATT&CK ids of those with a draft and no template.
    pub without_template: Vec<String>,
}

/// A technique and the best templates of it, or none.
struct Candidate {
    technique: Technique,
    id: Uuid,
    templates: Vec<(Option<Uuid>, Option<Template>)>,
}

impl App {
    /// Makes drafts for the techniques of the campaign's threat actor, in the order of an attack. What is there already
    /// is not made again.
    pub async fn generate_campaign(&self, ctx: &OpCtx, order: GenerateOrder) -> Result<Generated, Error> {
        let user = ctx.require(WRITERS)?;
        let mut fields = Fields::default();
        let per_technique = order.per_technique.max(1);
        fields.check((0..=MAX_PER_TECHNIQUE).contains(&order.per_technique), "per_technique", "must be 1 to 20");
        let limit = if order.limit == 0 { TESTS } else { usize::try_from(order.limit).unwrap_or(0) };
        fields.check((1..=MAX_TESTS).contains(&limit), "limit", "must be 1 to 2,000");
        fields.finish()?;
        let mut check = Checker::default();
        let platform = check.platform(order.platform);
        check.finish()?;
        let id = id_of("campaign_id", &order.campaign_id)?;

        let known = campaign::get(&self.db, id).await?.ok_or_else(|| no_campaign(id))?;
        makes_tests(user, &known)?;
        unarchived(&known)?;
        let Some(actor) = known.threat_actor_id else {
            let text = "the campaign has no threat_actor_id: set one, and its techniques are what is generated";
            return Err(Failure::new(Code::InvalidState, text).into());
        };
        let there: HashSet<Made> = campaign_test::made(&self.db, id).await?.into_iter().collect();
        let candidates = self.candidates(ctx, actor, per_technique, platform.as_deref(), limit, &there).await?;

        let mut tx = self.db.begin().await?;
        let before = self.held_campaign(&mut tx, ctx, id, |campaign| makes_tests(user, campaign)).await?;
        unarchived(&before)?;
        if before.threat_actor_id != Some(actor) {
            let text = "the campaign was given another threat actor at the same moment; generate again";
            return Err(Failure::new(Code::Conflict, text).into());
        }
        // Somebody may have generated the same meanwhile.
        let mut there: HashSet<Made> = campaign_test::made_in(&mut tx, id).await?.into_iter().collect();
        let places = campaign_test::places(&mut tx, id).await?;
        let author = Author::of(ctx)?;
        let (mut drafts, mut phases) = (Vec::new(), Vec::new());
        let (mut already_there, mut without_template) = (0, Vec::new());
        for candidate in candidates {
            let Candidate { technique, id: technique_id, templates } = candidate;
            let bare = templates.iter().all(|(template, _)| template.is_none());
            let (all, before) = (templates.len(), drafts.len());
            let mut known = 0;
            for (template_id, template) in templates {
                if there.contains(&(technique_id, template_id)) {
                    known += 1;
                } else if drafts.len() < limit {
                    there.insert((technique_id, template_id));
                    let mut draft = draft(&technique, technique_id, template, platform.as_deref());
                    draft.created_by = user.user_id;
                    draft.created_by_username = user.username.clone();
                    draft.said.insert("campaign_id".to_owned(), id.to_string().into());
                    drafts.push(draft);
                    phases.push(Some(technique.tactic.clone()).filter(|tactic| !tactic.is_empty()));
                }
            }
            already_there += usize::from(known == all);
            if bare && (known == all || drafts.len() > before) {
                without_template.push(technique.mitre_id);
            }
        }
        without_template.sort();
        let created = drafts.len();
        if created == 0 {
            let progress = progress_of(&mut tx, id).await?;
            tx.rollback().await?;
            let view = CampaignView { campaign: before, progress };
            return Ok(Generated { view, created, already_there, without_template });
        }
        room(places.len(), created, "limit")?;
        self.outbox.claim(&mut tx, ctx, &id.to_string()).await?;
        let tests = self.insert_drafts(&mut tx, &author, drafts).await?;
        let last = places.last().map_or(0, |place| place.position);
        let added: Vec<Place> = tests
            .iter()
            .zip(phases)
            .zip(last + 1..)
            .map(|((test, phase), position)| Place { test_id: test.id, position, phase })
            .collect();
        campaign_test::add(&mut tx, id, &added).await?;
        let progress = progress_of(&mut tx, id).await?;
        let after = settled(&before, &progress, aegis_db::now());
        let told = Told { created_tests: created, ..Told::new("generated", "generate_campaign") };
        let told = told.with("without_template", without_template.len()).with("already_there", already_there);
        let campaign = write(&self.outbox, &mut tx, Cause::Caller(ctx), &before, after, told).await?;
        tx.commit().await?;
        Ok(Generated { view: CampaignView { campaign, progress }, created, already_there, without_template })
    }

    /// What an actor does, in the order of an attack, each with its best templates: as much as it takes for `limit`
    /// tests that are not there.
    async fn candidates(
        &self,
        ctx: &OpCtx,
        actor: Uuid,
        per_technique: i32,
        platform: Option<&str>,
        limit: usize,
        there: &HashSet<Made>,
    ) -> Result<Vec<Candidate>, Failure> {
        let actor = self.actor(ctx, &actor.to_string()).await?;
        let (used, techniques, order) =
            futures::try_join!(self.used_by(ctx, actor.key), self.techniques(ctx), self.tactics(ctx))?;
        let mut techniques: Vec<Technique> =
            techniques.into_iter().filter(|technique| used.contains(&technique.mitre_id)).collect();
        fn key(t: &Technique) -> (&str, &str, &str) {
            (&t.domain, &t.tactic, &t.mitre_id)
        }
        techniques.sort_by(|a, b| order.compare(key(a), key(b)));

        let (mut candidates, mut new) = (Vec::with_capacity(techniques.len()), 0);
        let at_once = (TEMPLATES / usize::try_from(per_technique).unwrap_or(1)).max(1);
        for techniques in techniques.chunks(at_once) {
            if new >= limit {
                break;
            }
            let mut picked = self.pick(ctx, techniques, per_technique, platform).await?;
            for technique in techniques {
                let id = Uuid::try_parse(&technique.id).map_err(Failure::internal)?;
                let mut templates = Vec::new();
                for template in picked.remove(&technique.mitre_id).unwrap_or_default() {
                    let template_id = Uuid::try_parse(&template.id).map_err(Failure::internal)?;
                    templates.push((Some(template_id), Some(template)));
                }
                if templates.is_empty() {
                    templates.push((None, None));
                }
                new += templates.iter().filter(|(template, _)| !there.contains(&(id, *template))).count();
                candidates.push(Candidate { technique: technique.clone(), id, templates });
            }
        }
        Ok(candidates)
    }

    /// ATT&CK ids of what an actor uses.
    async fn used_by(&self, ctx: &OpCtx, actor: String) -> Result<HashSet<String>, Failure> {
        let (mut used, mut page_token) = (HashSet::new(), String::new());
        loop {
            let request = ListLinksRequest {
                kind: "threat_actor".to_owned(),
                key: actor.clone(),
                other_kind: "technique".to_owned(),
                page_size: PAGE,
                page_token,
                ..ListLinksRequest::default()
            };
            let answer = self.knowledge.clone().list_links(ctx.outgoing(request)).await?.into_inner();
            let uses = answer.links.into_iter().filter(|link| link.relation == "uses" && link.outgoing);
            used.extend(uses.map(|link| link.key));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(used);
            }
        }
    }

    /// All techniques that tests may be made for.
    async fn techniques(&self, ctx: &OpCtx) -> Result<Vec<Technique>, Failure> {
        let (mut techniques, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListTechniquesRequest { page_size: PAGE, page_token, ..ListTechniquesRequest::default() };
            let answer = self.catalog.clone().list_techniques(ctx.outgoing(request)).await?.into_inner();
            techniques.extend(answer.techniques.into_iter().filter(|t| !t.revoked && !t.deprecated));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(techniques);
            }
        }
    }

    async fn tactics(&self, ctx: &OpCtx) -> Result<TacticOrder, Failure> {
        let answer = self.catalog.clone().list_tactics(ctx.outgoing(ListTacticsRequest::default())).await?;
        let tactics = answer.into_inner().tactics.into_iter();
        Ok(TacticOrder::new(tactics.map(|tactic| (tactic.domain, tactic.short_name))))
    }

    /// The best templates of techniques, by ATT&CK id.
    async fn pick(
        &self,
        ctx: &OpCtx,
        techniques: &[Technique],
        per_technique: i32,
        platform: Option<&str>,
    ) -> Result<HashMap<String, Vec<Template>>, Failure> {
        let request = PickTemplatesRequest {
            mitre_ids: techniques.iter().map(|technique| technique.mitre_id.clone()).collect(),
            per_technique,
            platform: platform.map(str::to_owned),
        };
        let answer = self.templates.clone().pick_templates(ctx.outgoing(request)).await?.into_inner();
        let mut picked: HashMap<String, Vec<Template>> = HashMap::new();
        for template in answer.templates {
            picked.entry(template.mitre_technique_id.clone()).or_default().push(template);
        }
        Ok(picked)
    }
}

/// A draft as a template has it; without one, without a procedure. What people may not write is left out of it.
fn draft(technique: &Technique, technique_id: Uuid, template: Option<Template>, platform: Option<&str>) -> NewDraft {
    let template_id = template.as_ref().and_then(|template| Uuid::try_parse(&template.id).ok());
    let template = template.unwrap_or_default();
    let name = clean(Some(template.name), MAX_NAME);
    let text = |text: Option<String>, most: usize| clean(text, most);
    NewDraft {
        id: Uuid::now_v7(),
        technique_id,
        mitre_id: technique.mitre_id.clone(),
        technique_name: technique.name.clone(),
        name: name.or_else(|| clean(Some(technique.name.clone()), MAX_NAME)).unwrap_or(technique.mitre_id.clone()),
        description: text(template.description, MAX_DESCRIPTION),
        platform: platform.map(str::to_owned).or_else(|| known_platform(template.platform)),
        procedure_text: text(template.attack_procedure, MAX_PROCEDURE),
        tool_used: text(template.tool_suggested, MAX_TOOL),
        template_id,
        remediation_steps: text(template.suggested_remediation, MAX_SUMMARY),
        created_by: Uuid::nil(),
        created_by_username: String::new(),
        retest: None,
        said: serde_json::Map::new(),
    }
}

/// The text within the bounds of what a person may write, if anything is left of it.
fn clean(text: Option<String>, most: usize) -> Option<String> {
    let writable = |c: &char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    let text: String = text?.trim().chars().filter(writable).take(most).collect();
    (!text.is_empty()).then_some(text)
}

fn known_platform(platform: Option<String>) -> Option<String> {
    let mut check = Checker::default();
    let platform = check.platform(platform);
    check.finish().ok().and(platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_of_anyone_makes_a_draft_within_bounds() {
        let technique = Technique { mitre_id: "T1059".into(), name: "Scripting".into(), ..Technique::default() };
        let template = Template {
            name: " \u{7} ".into(),
            platform: Some("win;dows".into()),
            attack_procedure: Some("ü\u{0}".repeat(MAX_PROCEDURE + 1)),
            tool_suggested: Some(String::new()),
            ..Template::default()
        };
        let made = draft(&technique, Uuid::nil(), Some(template), None);
        assert_eq!((made.name.as_str(), made.platform, made.tool_used), ("Scripting", None, None));
        assert_eq!(made.procedure_text, Some("ü".repeat(MAX_PROCEDURE)));
        let bare = draft(&technique, Uuid::nil(), None, Some("linux"));
        assert_eq!((bare.name.as_str(), bare.procedure_text, bare.template_id), ("Scripting", None, None));
        assert_eq!(bare.platform.as_deref(), Some("linux"));
    }
}
