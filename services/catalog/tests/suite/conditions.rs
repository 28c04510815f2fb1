//! Changes of the version that was read.

use aegis_auth::{Conditions, IfMatch};

use super::*;

impl World {
    /// An administrator who read this version.
    fn having_read(&self, version: i64) -> As {
        let conditions = Conditions { if_match: Some(IfMatch::Versions(vec![version])), idempotency_key: None };
        As(ctx(Role::Admin, "ada").under(conditions))
    }
}

#[tokio::test]
async fn no_change_is_made_of_an_older_version() {
    for world in World::all().await {
        world.published().await;
        let before = world.technique("T1059").await;
        let update = |version: i64, name: &str| {
            let mut client = CatalogServiceClient::with_interceptor(world.routes.clone(), world.having_read(version));
            let change =
                pb::UpdateTechniqueRequest { mitre_id: "T1059".into(), name: Some(name.into()), ..Default::default() };
            async move { client.update_technique(change).await }
        };
        let review = |version: i64| {
            let mut client = CatalogServiceClient::with_interceptor(world.routes.clone(), world.having_read(version));
            async move { client.review_technique(pb::ReviewTechniqueRequest { mitre_id: "T1059".into() }).await }
        };
        let stale = before.version - 1;
        assert_eq!(refusal(update(stale, "Ours").await).0, Code::PreconditionFailed);
        assert_eq!(refusal(review(stale).await).0, Code::PreconditionFailed);
        // What would change nothing is checked too.
        assert_eq!(refusal(update(stale, &before.name).await).0, Code::PreconditionFailed);
        assert_eq!(world.technique("T1059").await, before);
        assert!(world.published().await.is_empty());
        let after = update(before.version, "Ours").await.unwrap().into_inner().technique.unwrap();
        assert_eq!(after.version, before.version + 1);
        assert_eq!(refusal(update(before.version, "Mine").await).0, Code::PreconditionFailed);
        review(after.version).await.unwrap();

        let list = pb::ListTemplatesRequest { page_size: 1, ..Default::default() };
        let template =
            world.templates(Role::Admin).list_templates(list).await.unwrap().into_inner().templates.remove(0);
        let toggle = |version: i64| {
            let mut client = TemplateServiceClient::with_interceptor(world.routes.clone(), world.having_read(version));
            let id = template.id.clone();
            async move { client.toggle_template_active(pb::ToggleTemplateActiveRequest { id }).await }
        };
        assert_eq!(refusal(toggle(template.version + 1).await).0, Code::PreconditionFailed);
        let toggled = toggle(template.version).await.unwrap().into_inner().template.unwrap();
        assert_eq!((toggled.is_active, toggled.version), (!template.is_active, template.version + 1));
        world.home.close().await;
    }
}
