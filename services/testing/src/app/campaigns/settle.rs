//! Campaigns that are over with their last test, or no longer.
//!
//! Reacts to the service's own events of tests, so that no move of a test has to hold a campaign: an event is there
//! when the move is, and is taken in once. What counts is what the database says then, not the event, so that events
//! of an older state do no harm.

use aegis_db::{Tx, now};
use aegis_error::Failure;
use aegis_events::Outbox;
use aegis_proto::events::v1::TestChanged;
use uuid::Uuid;

use super::{Cause, Told, places::settled, write};
use crate::{
    domain::{
        campaign::{Status, is_through},
        workflow::State,
    },
    store::campaign,
};

/// Takes in what happened to a test.
pub async fn settle(outbox: &Outbox, tx: &mut Tx, changed: &TestChanged) -> Result<(), Failure> {
    let test_id = Uuid::try_parse(&changed.test_id).map_err(Failure::internal)?;
    let through = |name: &str| State::try_from(name.to_owned()).is_ok_and(is_through);
    let (was, is) = (through(&changed.previous_state), through(&changed.state));
    let concerned = if changed.deleted {
        // Nothing says any more which campaigns had it.
        campaign::through(tx).await?
    } else {
        match (was, is) {
            (false, true) => campaign::with_test(tx, test_id, Status::Active).await?,
            (true, false) => campaign::with_test(tx, test_id, Status::Completed).await?,
            _ => return Ok(()),
        }
    };
    if concerned.is_empty() {
        return Ok(());
    }
    let at = now();
    let held = campaign::get_many_for_update(tx, &concerned).await?;
    let progress = campaign::progress_in(tx, &concerned).await?;
    // A test is in few campaigns, and each of those that change is told of.
    for before in held {
        let after = settled(&before, progress.get(&before.id).unwrap_or(&Default::default()), at);
        if after.status != before.status {
            let told = Told::new("updated", "settle_campaign").with("test_id", changed.test_id.clone());
            write(outbox, tx, Cause::System, &before, after, told).await?;
        }
    }
    Ok(())
}
