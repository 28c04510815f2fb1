//! The settings of deception.

use std::{net::SocketAddr, time::Duration};

use aegis_error::{Failure, Fields};
use ipnet::{IpNet, Ipv4Net};
use secrecy::{ExposeSecret, SecretString};

/// What can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The net of a deployment that names none. Loopback, where decoys can be tried out without root.
    pub default_net: IpNet,
    /// What is added to the standard port of a service (22, 80 …) on a loopback address, which is for trying out: low
    /// ports need no root then, and nothing collides with what the machine itself runs. 0 for the standard ports.
    pub loopback_port_offset: u16,
    /// How long a deployment waits for its decoys to start.
    pub deploy_timeout: Duration,
    /// Whether what was collected may be purged.
    pub developer: bool,
    /// Days that events are kept after they came in; 0: for ever.
    pub event_retention_days: u32,
    /// The newest events that are kept; 0: all.
    pub events_kept: u64,
    /// Where syslog is taken in over TCP.
    pub syslog_listen: Option<SocketAddr>,
    /// Where decoys run in containers.
    pub docker: Option<DockerConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            default_net: IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
            loopback_port_offset: 20_000,
            deploy_timeout: Duration::from_secs(20),
            developer: false,
            event_retention_days: 0,
            events_kept: 100_000_000,
            syslog_listen: None,
            docker: None,
        }
    }
}

/// A container engine that runs the decoys in place of sensor processes.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// The socket of its API, such as `/var/run/docker.sock`.
    pub socket: String,
    /// The image with the product in it; it is run as `sensor`.
    pub image: String,
    /// Where containers reach deception, as seen from the control network.
    pub control_url: String,
    /// The internal network over which they do; made where it is not there.
    pub control_network: String,
    /// What they sign in with: an API key with the role `sensor`.
    pub token: SecretString,
}

impl DockerConfig {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let mut fields = Fields::default();
        for (name, value) in [
            ("docker_socket", &self.socket),
            ("docker_image", &self.image),
            ("docker_control_url", &self.control_url),
            ("docker_control_network", &self.control_network),
        ] {
            fields.text(name, value, 1, 1000);
        }
        fields.check(!self.token.expose_secret().is_empty(), "docker_sensor_token", "must be there");
        fields.finish()
    }
}
