//! The machine whose engine is open: its version, its system, its own images and containers.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::engine::Container;
use crate::persona::{Os, Persona};

/// What the machine and its engine are.
pub(super) struct Machine {
    pub(super) version: &'static str,
    pub(super) api: &'static str,
    pub(super) go: &'static str,
    pub(super) commit: &'static str,
    pub(super) kernel: &'static str,
    pub(super) system: &'static str,
    pub(super) hostname: String,
    pub(super) id: String,
    pub(super) cpus: u64,
    pub(super) memory: u64,
    pub(super) booted_at: DateTime<Utc>,
    pub(super) images: Vec<(String, String, u64, DateTime<Utc>)>,
    pub(super) containers: Vec<Container>,
}

impl Machine {
    pub(super) fn new(persona: &Persona) -> Machine {
        let (version, api, go, commit) = match persona.os {
            Os::Debian12 => ("20.10.24+dfsg1", "1.41", "go1.19.8", "5d6db84"),
            Os::Debian11 => ("20.10.5+dfsg1", "1.41", "go1.15.15", "363e9a8"),
            Os::Ubuntu2204 | Os::Ubuntu2004 => ("24.0.7", "1.43", "go1.20.10", "311b9ff"),
            Os::Rocky9 => ("24.0.7", "1.43", "go1.20.10", "311b9ff"),
            _ => ("20.10.24", "1.41", "go1.19.7", "5d6db84"),
        };
        let (kernel, system) = match persona.os {
            Os::Debian12 => ("6.1.0-18-amd64", "Debian GNU/Linux 12 (bookworm)"),
            Os::Debian11 => ("5.10.0-28-amd64", "Debian GNU/Linux 11 (bullseye)"),
            Os::Ubuntu2204 => ("5.15.0-97-generic", "Ubuntu 22.04.4 LTS"),
            Os::Ubuntu2004 => ("5.4.0-172-generic", "Ubuntu 20.04.6 LTS"),
            Os::Rocky9 => ("5.14.0-362.8.1.el9_3.x86_64", "Rocky Linux 9.3 (Blue Onyx)"),
            _ => ("3.10.0-1160.el7.x86_64", "CentOS Linux 7 (Core)"),
        };
        let part = |label: &str| hex::encode(persona.secret(label));
        let upper = part("docker id").to_ascii_uppercase();
        let groups: Vec<String> =
            upper.as_bytes().chunks(4).take(12).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
        let day = |label: &str, most| TimeDelta::days(i64::try_from(persona.number(label, most)).unwrap_or(0));
        let all = [
            ("nginx:1.25", 187_000_000u64, Some(80u16), "nginx -g 'daemon off;'"),
            ("postgres:15", 412_000_000, Some(5432), "postgres"),
            ("redis:7-alpine", 41_000_000, Some(6379), "redis-server"),
            ("grafana/grafana:10.2.3", 399_000_000, Some(3000), ""),
            ("registry:2", 25_400_000, Some(5000), "/etc/docker/registry/config.yml"),
            (
                "gitlab/gitlab-runner:latest",
                744_000_000,
                None,
                "run --user=gitlab-runner --working-directory=/home/gitlab-runner",
            ),
            ("python:3.11-slim", 131_000_000, None, ""),
            ("alpine:3.18", 7_340_000, None, ""),
        ];
        let (mut images, mut containers) = (Vec::new(), Vec::new());
        for (name, size, port, command) in all {
            if persona.number(&format!("image {name}"), 3) == 0 {
                continue;
            }
            let made = persona.booted_at - TimeDelta::days(20) - day(&format!("image of {name}"), 200);
            let size = size + persona.number(&format!("size {name}"), 900_000);
            images.push((name.to_owned(), part(&format!("image id {name}")), size, made));
            if !command.is_empty() && persona.number(&format!("container {name}"), 4) > 0 {
                let plain = name.split([':', '/']).next().unwrap_or_default();
                containers.push(Container {
                    id: part(&format!("container id {name}")),
                    name: format!(
                        "{plain}{}",
                        ["", "-1", "_prod", "_main"]
                            .get(usize::try_from(persona.number(plain, 4)).unwrap_or(0))
                            .copied()
                            .unwrap_or_default()
                    ),
                    image: name.to_owned(),
                    command: command.split(' ').map(str::to_owned).collect(),
                    created: persona.booted_at - day(&format!("made {name}"), 19),
                    started: Some(persona.booted_at + TimeDelta::seconds(21)),
                    port,
                    asked: Value::Null,
                });
            }
        }
        Machine {
            version,
            api,
            go,
            commit,
            kernel,
            system,
            hostname: persona.hostname.clone(),
            id: groups.join(":"),
            cpus: 2 << persona.number("cpus", 3),
            memory: (4 << persona.number("docker memory", 3)) * 1_021_000_000,
            booted_at: persona.booted_at,
            images,
            containers,
        }
    }

    pub(super) fn version(&self) -> String {
        let (version, api, go, commit, kernel) = (self.version, self.api, self.go, self.commit, self.kernel);
        let debian = version.contains("dfsg");
        let platform = if debian { "" } else { "Docker Engine - Community" };
        let (containerd, containerd_commit) = if debian {
            ("1.6.20~ds1", "1.6.20~ds1-1+b1")
        } else {
            ("1.6.26", "3dd1e886e55dd695541fdcd67420c2888645a495")
        };
        let (runc, runc_commit) =
            if debian { ("1.1.5+ds1", "1.1.5+ds1-1+deb12u1") } else { ("1.1.10", "v1.1.10-0-g18a0cb0") };
        let built = "2024-01-12T10:41:30.000000000+00:00";
        format!(
            "{{\"Platform\":{{\"Name\":\"{platform}\"}},\"Components\":[{{\"Name\":\"Engine\",\"Version\":\"{version}\",\"Details\":{{\"ApiVersion\":\"{api}\",\"Arch\":\"amd64\",\"BuildTime\":\"{built}\",\"Experimental\":\"false\",\"GitCommit\":\"{commit}\",\"GoVersion\":\"{go}\",\"KernelVersion\":\"{kernel}\",\"MinAPIVersion\":\"1.12\",\"Os\":\"linux\"}}}},{{\"Name\":\"containerd\",\"Version\":\"{containerd}\",\"Details\":{{\"GitCommit\":\"{containerd_commit}\"}}}},{{\"Name\":\"runc\",\"Version\":\"{runc}\",\"Details\":{{\"GitCommit\":\"{runc_commit}\"}}}},{{\"Name\":\"docker-init\",\"Version\":\"0.19.0\",\"Details\":{{\"GitCommit\":\"\"}}}}],\"Version\":\"{version}\",\"ApiVersion\":\"{api}\",\"MinAPIVersion\":\"1.12\",\"GitCommit\":\"{commit}\",\"GoVersion\":\"{go}\",\"Os\":\"linux\",\"Arch\":\"amd64\",\"KernelVersion\":\"{kernel}\",\"BuildTime\":\"{built}\"}}"
        )
    }

    pub(super) fn networks(&self) -> Value {
        let network = |name: &str, driver: &str, subnet: &str| {
            let config = if subnet.is_empty() {
                json!([])
            } else {
                json!([{"Subnet": subnet, "Gateway": subnet.replace(".0/16", ".1")}])
            };
            let id = hex::encode(ring::digest::digest(&ring::digest::SHA256, format!("{}{name}", self.id).as_bytes()));
            json!({"Name": name, "Id": id, "Created": self.booted_at.to_rfc3339_opts(SecondsFormat::Nanos, true), "Scope": "local", "Driver": driver, "EnableIPv6": false, "IPAM": {"Driver": "default", "Options": null, "Config": config}, "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": {}, "Options": {}, "Labels": {}})
        };
        json!([network("bridge", "bridge", "172.17.0.0/16"), network("host", "host", ""), network("none", "null", "")])
    }
}
