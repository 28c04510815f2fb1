//! The use cases: who may, what is asked of the fields, which transaction, which event.

mod assign;
mod bulk;
pub mod campaigns;
mod comment;
mod create;
mod delete;
mod edit;
mod hot;
mod input;
mod moves;
mod people;
mod read;
mod record;
mod retest;
mod vote;

use aegis_auth::{Background, OpCtx, Principal};
use aegis_db::{Db, Tx};
use aegis_error::Failure;
use aegis_events::Outbox;
use aegis_proto::{
    catalog::v1::{
        catalog_service_client::CatalogServiceClient, knowledge_service_client::KnowledgeServiceClient,
        template_service_client::TemplateServiceClient,
    },
    identity::v1::identity_service_client::IdentityServiceClient,
};
use aegis_rpc::RpcService;
use uuid::Uuid;

pub use bulk::BulkChange;
pub use input::{AssignmentEdit, Ballot, BlueEdit, ListQuery, NewTest, RedEdit, RemediationEdit, TestEdit};

use crate::{
    Deps,
    config::Config,
    domain::permissions::{Operation, Relation, Verdict},
    error::Error,
    store::test::{self, Test},
};

/// The service's state. Cheap to clone.
#[derive(Clone)]
pub struct App {
    db: Db,
    outbox: Outbox,
    catalog: CatalogServiceClient<RpcService>,
    templates: TemplateServiceClient<RpcService>,
    knowledge: KnowledgeServiceClient<RpcService>,
    identity: IdentityServiceClient<RpcService>,
    background: Background,
    config: Config,
    hot: hot::TechniqueTests,
}

impl App {
    /// The use cases over these parts.
    pub fn new(deps: Deps, outbox: Outbox) -> Self {
        let Deps { db, bus: _, catalog, templates, knowledge, identity, background, config } = deps;
        let catalog = catalog.max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
        let templates = templates.max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
        let knowledge = knowledge.max_decoding_message_size(aegis_rpc::MAX_MESSAGE);
        let hot = hot::TechniqueTests::new();
        App { db, outbox, catalog, templates, knowledge, identity, background, config, hot }
    }

    /// Where events and the audit trail are written.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The service's database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The test, held until the transaction ends, if the one who asks may do `operation` to it and knows it as it is
    /// (`If-Match`). Also answers what they have to do with it.
    async fn held(
        &self,
        tx: &mut Tx,
        ctx: &OpCtx,
        user: &Principal,
        operation: Operation,
        id: Uuid,
    ) -> Result<(Test, Relation), Error> {
        let test = test::get_for_update(tx, id).await?.ok_or(Error::NoTest(id))?;
        let relation = looked_at(ctx, user, operation, &test)?;
        Ok((test, relation))
    }
}

/// Whether the one who asks may do `operation` to the test that the transaction holds, and knows it as it is
/// (`If-Match`). Answers what they have to do with it.
fn looked_at(ctx: &OpCtx, user: &Principal, operation: Operation, test: &Test) -> Result<Relation, Error> {
    let relation = relation(user, test);
    if !operation.allowed(user.role, relation) {
        return Err(Failure::forbidden(operation.refusal()).into());
    }
    ctx.expect_version(test.version)?;
    Ok(relation)
}

/// The one who asks, unless the role alone forbids `operation`. What depends on the test is asked later.
fn permitted(ctx: &OpCtx, operation: Operation) -> Result<&Principal, Failure> {
    let user = ctx.user()?;
    match operation.by_role(user.role) {
        Verdict::Allowed | Verdict::Depends => Ok(user),
        Verdict::Refused => ctx.require(operation.rule().roles),
    }
}

fn relation(user: &Principal, test: &Test) -> Relation {
    // A service has the nil id, which no test names.
    Relation {
        creator: test.created_by == user.user_id,
        executor: test.executed_by == Some(user.user_id),
        assignee: test.remediation_assignee == Some(user.user_id),
    }
}
