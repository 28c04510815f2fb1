//! The sensor of the product in one process: a child of its own, which has none of the product's settings and secrets.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use aegis_runtime::Shutdown;
use tokio::{
    io::AsyncWriteExt,
    process::{ChildStdin, Command},
};

use crate::{keys::Tokens, settings::Settings};

/// The first pause before it is started again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// One that ran for this long is started again at once when it ends.
const STEADY: Duration = Duration::from_secs(60);
/// What it has to end itself.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long to wait when there is no token.
const NO_TOKEN: Duration = Duration::from_secs(2);
/// The shortest time between two tokens.
const SHORTEST: Duration = Duration::from_secs(10);

/// How the sensor is started.
pub struct Child {
    program: PathBuf,
    settings: Vec<(&'static str, OsString)>,
    tokens: Tokens,
}

impl Child {
    /// One that dials the product at `address`.
    pub fn new(settings: &Settings, address: SocketAddr, tokens: Tokens) -> Child {
        let at = |number: u32| OsString::from(number.to_string());
        Child {
            program: program(),
            settings: vec![
                ("AEGIS_DECEPTION_URL", format!("http://{}", reachable(address)).into()),
                ("AEGIS_DATA_DIR", settings.data_dir.clone().into()),
                ("AEGIS_SENSOR_NAME", settings.sensor_name.clone().into()),
                ("AEGIS_SENSOR_BUFFER_MIB", at(settings.sensor_buffer_mib)),
                ("AEGIS_SENSOR_CONNECTIONS", at(settings.sensor_connections)),
                ("AEGIS_SENSOR_CONNECTIONS_PER_ADDRESS", at(settings.sensor_connections_per_address)),
                ("AEGIS_SENSOR_IDLE_SECONDS", at(settings.sensor_idle_seconds)),
                ("AEGIS_SENSOR_SESSION_MINUTES", at(settings.sensor_session_minutes)),
                ("AEGIS_LOG", settings.log.clone().into()),
                ("AEGIS_LOG_FORMAT", settings.log_format.clone().into()),
            ],
            tokens,
        }
    }

    /// Keeps it running until the process is to stop.
    pub async fn keep(self, shutdown: Shutdown) {
        let mut pause = PAUSES.0;
        while !shutdown.is_cancelled() {
            let began = Instant::now();
            let ended = self.run(&shutdown).await;
            if shutdown.is_cancelled() {
                return;
            }
            match ended {
                Ok(how) => tracing::warn!(how, "the sensor ended; it is started again"),
                Err(error) => tracing::error!(%error, "the sensor cannot be started; trying again"),
            }
            if began.elapsed() >= STEADY {
                pause = PAUSES.0;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Runs it once; says how it ended.
    async fn run(&self, shutdown: &Shutdown) -> std::io::Result<String> {
        let mut child = Command::new(&self.program)
            .args(["sensor", "--child"])
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        // The end of its input is what tells it to end.
        let input = child.stdin.take();
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = self.hand_tokens(input) => None,
            () = shutdown.cancelled() => None,
        };
        let status = match ended {
            Some(status) => status?,
            None => match tokio::time::timeout(PATIENCE, child.wait()).await {
                Ok(status) => status?,
                Err(_) => {
                    tracing::warn!("the sensor does not end; it is killed");
                    child.kill().await?;
                    return Ok("killed".to_owned());
                }
            },
        };
        Ok(status.to_string())
    }

    /// A token now, and another before it ends; until the sensor takes none any more.
    async fn hand_tokens(&self, input: Option<ChildStdin>) {
        let Some(mut input) = input else { return };
        loop {
            let (token, lasts) = match self.tokens.issue().await {
                Ok(issued) => issued,
                Err(failure) => {
                    tracing::warn!(%failure, "there is no token for the sensor; trying again");
                    tokio::time::sleep(NO_TOKEN).await;
                    continue;
                }
            };
            if input.write_all(format!("{token}\n").as_bytes()).await.is_err() || input.flush().await.is_err() {
                return;
            }
            tokio::time::sleep((lasts / 2).max(SHORTEST)).await;
        }
    }
}

/// This very program, also when its file was replaced since.
fn program() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { own } else { std::env::current_exe().unwrap_or_else(|_| "aegis".into()) }
}

/// An address to dial for one that is listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_dialled_where_it_can_be_reached() {
        for (listens, dialled) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:8000", "[::1]:8000"), ("192.0.2.1:8000", "192.0.2.1:8000")]
        {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), dialled);
        }
    }

    #[test]
    fn services_are_known_to_the_sensor_and_to_deception_by_the_same_names() {
        // What deception may deploy is what a sensor can host.
        let mut sensor: Vec<&str> = aegis_sensor::decoys::NAMES.to_vec();
        let mut deception = aegis_deception::SERVICES.map(|(name, _)| name).to_vec();
        sensor.sort_unstable();
        deception.sort_unstable();
        assert_eq!(sensor, deception);
        let mut hosts = aegis_sensor::persona::Os::ALL.map(|(name, _)| name);
        let mut systems = aegis_deception::SYSTEMS.map(|(name, _)| name);
        hosts.sort_unstable();
        systems.sort_unstable();
        assert_eq!(hosts, systems);
    }
}
