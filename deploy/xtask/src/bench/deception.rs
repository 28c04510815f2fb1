//! Deception: events coming in and being found, streams with many readers, a large fleet in one sensor, SSH sessions.

mod fleet;
mod intake;
mod load;
mod reads;
mod sample;
mod ssh;
mod stream;

use std::time::Duration;

use anyhow::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use fleet::attached;
pub use intake::key;
pub use load::{Feed, Pace, open};
pub use sample::{Event, event};
pub use ssh::{
    PASSWORD as SSH_PASSWORD, USER as SSH_USER, many as ssh_sessions, serve as serve_ssh, session as ssh_session,
};

use super::{
    figures::Figures,
    home::{Ground, Home},
};

/// Measures all of it, with products of its own.
pub async fn measure(ground: &Ground, load: Duration, figures: &mut Figures) -> Result<()> {
    let home = Home::make(ground).await?;
    load::measure(&home, load, figures).await?;
    // What came in there stays: it is what the many events are made beside.
    reads::measure(&home, ground.events, figures).await?;
    home.remove().await?;

    let home = Home::make(ground).await?;
    fleet::measure(&home, load, figures).await?;
    home.remove().await
}

/// Lets this program, and those that it starts, have as many files open as the system allows: 2,000 readers of a stream
/// are 2,000 of them on either side.
pub fn room_for_streams() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
