//! Reads certificates again when their files change, and says in time that one ends.

use std::time::Duration;

use aegis_runtime::Shutdown;
use aegis_telemetry::{Counters, Gauges};
use anyhow::{Result, bail};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use super::{
    Tls,
    load::{Source, Validity},
};

/// How often the files are looked at. A change counts when it has stood still for that long: certificate and key are
/// two files, and seldom written at once.
const LOOK: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(3) };
/// How often a certificate that ends is spoken of.
const REMIND: Duration = Duration::from_secs(12 * 3600);

/// The certificate of the socket, in logs and metrics.
pub const SOCKET: &str = "socket";
/// The certificate that other processes are shown, in logs and metrics.
pub const PEERS: &str = "peers";

static UNTIL: Gauges = Gauges::new(
    "aegis_tls_not_after_timestamp_seconds",
    "When the certificate in use ends, Unix time.",
    &["certificate"],
);
static LOADS: Counters = Counters::new(
    "aegis_tls_loads_total",
    "Times that certificates were read anew, by how that ended.",
    &["certificate", "result"],
);

/// A certificate is in use from now on.
fn tell(certificate: &'static str, validity: Validity, now: DateTime<Utc>) {
    LOADS.inc(&[certificate, "taken"]);
    UNTIL.set(&[certificate], validity.until.timestamp() as f64);
    tracing::info!(certificate, until = %validity.until, "a certificate is in use");
    remind(certificate, validity, now);
}

/// Says that it ends soon, or has ended.
fn remind(certificate: &'static str, validity: Validity, now: DateTime<Utc>) {
    if now < validity.from {
        tracing::error!(certificate, from = %validity.from, "the certificate does not hold yet: is the clock right?");
    } else if now >= validity.until {
        tracing::error!(certificate, until = %validity.until, "the certificate has ended: clients refuse it");
    } else if validity.ends_soon(now) {
        tracing::warn!(certificate, until = %validity.until, "the certificate ends soon: put a new one into its file");
    }
}

/// One use of certificates, and the files that it is made of.
#[derive(Clone)]
pub struct Part {
    name: &'static str,
    sources: Vec<Source>,
    /// What was read last, good or not.
    seen: [u8; 32],
    /// What was there a moment ago and may still change.
    changed: Option<[u8; 32]>,
    validity: Option<Validity>,
}

/// Follows the files until the process is to stop. SIGHUP has them read at once.
pub async fn watch(tls: Tls, shutdown: Shutdown) {
    let mut parts = tls.parts.clone();
    if parts.is_empty() {
        return;
    }
    // Whoever names no file is ended by a SIGHUP, as usual.
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be heard; files are looked at nevertheless");
            None
        }
    };
    let mut reminded = Instant::now();
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(LOOK) => false,
            () = heard(&mut hangup) => true,
            () = shutdown.cancelled() => return,
        };
        if asked {
            tracing::info!("SIGHUP: reading certificates again");
        }
        for part in &mut parts {
            let sources = part.sources.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || digest(&sources)).await else { continue };
            if part.is_due(now, asked) {
                part.take(&tls);
            }
        }
        if reminded.elapsed() >= REMIND {
            reminded = Instant::now();
            for (name, validity) in parts.iter().filter_map(|part| Some((part.name, part.validity?))) {
                remind(name, validity, Utc::now());
            }
        }
    }
}

async fn heard(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

impl Part {
    /// To be made before its files are read: what is put into them from then on is found to be new.
    pub fn new(name: &'static str, sources: Vec<Source>) -> Part {
        Part { name, seen: digest(&sources), sources, changed: None, validity: None }
    }

    /// The files that are followed.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// What was read is in use from now on.
    pub fn uses(&mut self, validity: Option<Validity>) {
        self.validity = validity;
        if let Some(validity) = validity {
            tell(self.name, validity, Utc::now());
        }
    }

    /// Whether what is there now is to be taken.
    fn is_due(&mut self, now: [u8; 32], asked: bool) -> bool {
        if now == self.seen && !asked {
            self.changed = None;
            return false;
        }
        if !asked && self.changed != Some(now) {
            self.changed = Some(now);
            return false;
        }
        self.changed = None;
        self.seen = now;
        true
    }

    fn take(&mut self, tls: &Tls) {
        let taken = match self.name {
            SOCKET => self.socket(tls),
            _ => peers(tls),
        };
        match taken {
            Ok(validity) => {
                self.uses(validity);
                if validity.is_none() {
                    tracing::info!(certificate = self.name, "other roots are believed from now on");
                }
            }
            Err(error) => {
                LOADS.inc(&[self.name, "refused"]);
                let why = crate::sentence(&error);
                tracing::error!(
                    certificate = self.name,
                    why,
                    "the new certificate is not taken; the one before stays in use"
                );
            }
        }
    }

    fn socket(&self, tls: &Tls) -> Result<Option<Validity>> {
        let (Some(server), Some((config, validity))) = (&tls.server, tls.files.server()?) else { return Ok(None) };
        refuse_ended(validity)?;
        server.replace(config);
        Ok(Some(validity))
    }
}

fn peers(tls: &Tls) -> Result<Option<Validity>> {
    let (config, validity) = tls.files.client()?;
    validity.map(refuse_ended).transpose()?;
    tls.peers.replace(config);
    Ok(validity)
}

/// An old certificate put back by mistake is not better than the one in use.
fn refuse_ended(validity: Validity) -> Result<()> {
    if validity.until <= Utc::now() {
        bail!("it has ended on {}", validity.until);
    }
    Ok(())
}

/// Of all that is in the files; one that cannot be read is as if it were empty.
fn digest(sources: &[Source]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for source in sources {
        let bytes = source.read().unwrap_or_default();
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(&bytes);
    }
    digest.finalize().into()
}
