//! What one wants to be notified of.

use std::collections::BTreeMap;

use aegis_auth::OpCtx;
use aegis_error::Fields;
use aegis_events::Audit;
use serde_json::{Map, Value, json};

use crate::{domain::notice::KINDS, error::Error, store, store::preferences::Preferences};

use super::{App, notifications::owner};

/// Most characters of an unknown kind that are told back.
const MAX_TOLD: usize = 60;

/// A change of preferences; what is absent stays.
#[derive(Debug, Default)]
pub(crate) struct PreferencesPatch {
    pub(crate) mute_own_actions: Option<bool>,
    pub(crate) kinds: BTreeMap<String, bool>,
    /// `mute_own_actions` has its default again.
    pub(crate) reset_mute_own_actions: bool,
    /// These kinds have their defaults again.
    pub(crate) reset_kinds: Vec<String>,
    /// All kinds have, those in `kinds` excepted.
    pub(crate) reset_all_kinds: bool,
}

impl Preferences {
    /// Of every kind there is, whether it is wanted.
    pub(crate) fn kinds(&self) -> BTreeMap<&'static str, bool> {
        KINDS.iter().map(|kind| (kind.name, self.choices.get(kind.name).copied().unwrap_or(kind.by_default))).collect()
    }

    fn facts(&self) -> Map<String, Value> {
        let mute = ("mute_own_actions".to_owned(), Value::from(self.mute_own_actions));
        let kinds = self.kinds().into_iter().map(|(kind, wanted)| (format!("kinds.{kind}"), Value::from(wanted)));
        std::iter::once(mute).chain(kinds).collect()
    }
}

impl App {
    /// The caller's preferences.
    pub(crate) async fn notification_preferences(&self, ctx: &OpCtx) -> Result<Preferences, Error> {
        Ok(store::preferences::of(&self.db, owner(ctx)?).await?)
    }

    /// Changes the caller's preferences. What is said of a kind holds for what happens from now on.
    pub(crate) async fn update_notification_preferences(
        &self,
        ctx: &OpCtx,
        patch: PreferencesPatch,
    ) -> Result<Preferences, Error> {
        let user_id = owner(ctx)?;
        let mut fields = Fields::default();
        for kind in patch.kinds.keys().chain(&patch.reset_kinds) {
            if !KINDS.iter().any(|known| known.name == kind) {
                let told: String = kind.chars().filter(|c| !c.is_control()).take(MAX_TOLD).collect();
                let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
                fields.add(format!("kinds.{told}"), format!("is not known; known here: {}", known.join(", ")));
            }
        }
        fields.finish()?;

        let mut tx = self.db.begin().await?;
        let before = store::preferences::lock(&mut tx, user_id).await?;
        ctx.expect_version(before.version)?;
        let mut after = before.clone();
        if patch.reset_mute_own_actions {
            after.mute_own_actions = false;
        }
        after.mute_own_actions = patch.mute_own_actions.unwrap_or(after.mute_own_actions);
        after.choices.retain(|kind, _| !patch.reset_all_kinds && !patch.reset_kinds.contains(kind));
        after.choices.extend(patch.kinds);
        if after == before {
            tx.rollback().await?;
            return Ok(before);
        }
        after.version += 1;
        store::preferences::write(&mut tx, user_id, &after).await?;
        let (mut was, mut is) = (before.facts(), after.facts());
        was.retain(|key, value| is.get(key) != Some(value));
        is.retain(|key, _| was.contains_key(key));
        let audit = Audit {
            action: "update_notification_preferences",
            entity_type: "notification_preferences",
            entity_id: user_id.to_string(),
            details: json!({ "before": was, "after": is }),
        };
        self.outbox.audit(&mut tx, ctx, audit).await?;
        tx.commit().await?;
        Ok(after)
    }
}
