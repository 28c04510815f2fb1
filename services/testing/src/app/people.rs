//! Whether those whom somebody gives something to do are still let in.

use std::collections::BTreeSet;

use aegis_auth::OpCtx;
use aegis_error::{Code, Failure};
use aegis_proto::identity::v1::GetUserRequest;
use futures::future::try_join_all;
use uuid::Uuid;

use super::{
    App,
    input::{Checker, Set},
};

impl App {
    /// Notes each of these fields that names somebody who is not there or may no longer sign in.
    pub(super) async fn check_users(
        &self,
        ctx: &OpCtx,
        check: &mut Checker,
        fields: &[(&'static str, &Set<Uuid>)],
    ) -> Result<(), Failure> {
        let caller = ctx.user()?.user_id;
        let named = |set: &Set<Uuid>| match set {
            // Nil is what has been noted as no id; whoever asks is let in.
            Set::To(id) if !id.is_nil() && *id != caller => Some(*id),
            _ => None,
        };
        let ids: BTreeSet<Uuid> = fields.iter().filter_map(|(_, set)| named(set)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let found =
            try_join_all(ids.into_iter().map(|id| async move { Ok::<_, Failure>((id, self.fault(id).await?)) }));
        for (id, fault) in found.await? {
            let Some(fault) = fault else { continue };
            for (field, _) in fields.iter().filter(|(_, set)| named(set) == Some(id)) {
                check.wrong(field, fault);
            }
        }
        Ok(())
    }

    /// Why nothing can be given to a user, if that is so.
    async fn fault(&self, id: Uuid) -> Result<Option<&'static str>, Failure> {
        // Only administrators and services may read about users.
        let own = self.background.ctx().await?;
        let answer = self.identity.clone().get_user(own.outgoing(GetUserRequest { id: id.to_string() })).await;
        match answer.map_err(Failure::from) {
            Ok(answer) if answer.get_ref().user.as_ref().is_some_and(|user| user.is_active) => Ok(None),
            Ok(_) => Ok(Some("is a user who is disabled")),
            Err(failure) if failure.code() == Code::NotFound => Ok(Some("is no user")),
            Err(failure) => Err(failure),
        }
    }
}
