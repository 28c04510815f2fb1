//! Looks after a pool: which addresses its names have, and which of its processes serve.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use tonic::{Code, metadata::MetadataValue};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::pool::{Health, Peer, Pool};

/// How often the processes are asked, where there are several.
const ASK: Duration = Duration::from_secs(1);
/// How often names are looked up.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// So often no answer, one after the other: calls that wait are told so.
const LOST: u32 = 3;
/// A trace of its own that nobody keeps: one a second would be most of all that is kept.
const NOT_RECORDED: &str = "00-00000000000000000000000000000001-0000000000000001-00";
/// Between two rounds at least, however many failures ask for one.
const BREATH: Duration = Duration::from_millis(100);

/// Rounds until nobody uses the pool any more.
pub(crate) async fn watch(pool: Weak<Pool>) {
    let mut looked_up: Option<Instant> = None;
    let mut silent: Vec<(Weak<Peer>, u32)> = Vec::new();
    loop {
        let Some(alive) = pool.upgrade() else { return };
        let look = Arc::clone(&alive.look);
        let missing = alive.peers().iter().any(|peer| peer.health() >= Health::Silent) || alive.peers().is_empty();
        if missing || looked_up.is_none_or(|at| at.elapsed() >= LOOK_UP) {
            alive.resolve().await;
            looked_up = Some(Instant::now());
        }
        let peers = alive.peers();
        // One process is asked by its calls; one that is lost gets none.
        let asks = peers.len() > 1 || peers.iter().any(|peer| peer.health() == Health::Lost);
        if asks {
            silent.retain(|(peer, _)| peer.strong_count() > 0);
            let mut answers: FuturesUnordered<_> =
                peers.iter().map(|peer| async move { (peer, ask(peer).await) }).collect();
            // Who answers at once does not wait for who does not.
            while let Some((peer, answer)) = answers.next().await {
                note(peer, answer, &mut silent);
                alive.looked();
            }
        }
        alive.looked();
        let wait = if asks || peers.is_empty() { ASK } else { LOOK_UP };
        drop((alive, peers));
        tokio::time::sleep(BREATH).await;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = look.notified() => {}
        }
    }
}

/// One that was found wanting by a call counts on from there.
fn note(peer: &Arc<Peer>, answer: Health, silent: &mut Vec<(Weak<Peer>, u32)>) {
    let at = silent.iter().position(|(known, _)| known.as_ptr() == Arc::as_ptr(peer));
    if answer < Health::Silent {
        if let Some(at) = at {
            silent.swap_remove(at);
        }
        peer.set(answer);
        return;
    }
    let times = match at {
        Some(at) => {
            silent[at].1 = silent[at].1.saturating_add(1);
            silent[at].1
        }
        None => {
            silent.push((Arc::downgrade(peer), 1));
            1
        }
    };
    peer.set(if times >= LOST { Health::Lost } else { Health::Silent });
}

/// The standard health question. Whoever answers anything else is there.
async fn ask(peer: &Peer) -> Health {
    let mut client = HealthClient::new(peer.channel());
    let mut question = tonic::Request::new(HealthCheckRequest::default());
    question.metadata_mut().insert("traceparent", MetadataValue::from_static(NOT_RECORDED));
    match tokio::time::timeout(PATIENCE, client.check(question)).await {
        Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => Health::Serving,
        Ok(Ok(_)) => Health::NotServing,
        Ok(Err(status)) => match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal | Code::Cancelled => {
                Health::Silent
            }
            _ => Health::Serving,
        },
        Err(_) => Health::Silent,
    }
}
