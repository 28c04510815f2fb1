//! The engine as clients see it: its containers and images, kept in memory and bounded.

use std::collections::VecDeque;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{machine::Machine, wire::Reply};
use crate::session::{EventType, Session};

/// Containers, images and programs that clients make: the oldest goes.
const MOST: usize = 32;

/// A container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) created: DateTime<Utc>,
    pub(super) started: Option<DateTime<Utc>>,
    pub(super) port: Option<u16>,
    pub(super) asked: Value,
}

struct Exec {
    id: String,
    container: String,
    command: Vec<String>,
    ran: bool,
}

/// What clients see and change.
pub(super) struct Engine {
    containers: VecDeque<Container>,
    images: VecDeque<(String, String, u64, DateTime<Utc>)>,
    execs: VecDeque<Exec>,
}

pub(super) fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A new id as the engine gives them.
pub(super) fn id() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

pub(super) fn short(id: &str) -> String {
    id.get(..12).unwrap_or(id).to_owned()
}

/// A name of an image with its tag.
pub(super) fn tagged(name: &str) -> String {
    if name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// Whether a version of the API is newer than another.
pub(super) fn newer(version: &str, than: &str) -> bool {
    let parts = |text: &str| text.split('.').map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
    parts(version) > parts(than)
}

/// A list of texts, or a text that is one.
pub(super) fn words(value: &Value, name: &str) -> Vec<String> {
    match value.get(name) {
        Some(Value::Array(items)) => {
            items.iter().take(64).filter_map(Value::as_str).map(|word| word.chars().take(4096).collect()).collect()
        }
        Some(Value::String(text)) => vec![text.chars().take(4096).collect()],
        _ => Vec::new(),
    }
}

/// What of such a list is kept.
fn kept(words: Vec<String>) -> Vec<String> {
    words.into_iter().take(16).map(|word| word.chars().take(512).collect()).collect()
}

/// Tells of what a container is to do: its command, and what of the machine it wants.
pub(super) fn tell_container(session: &Session, asked: &Value, name: &str) {
    let image = asked.get("Image").and_then(Value::as_str).unwrap_or_default();
    let command = [words(asked, "Entrypoint"), words(asked, "Cmd")].concat().join(" ");
    let host = asked.get("HostConfig").unwrap_or(&Value::Null);
    let binds = words(host, "Binds").join(",");
    let privileged = host.get("Privileged").and_then(Value::as_bool).unwrap_or(false);
    let network = host.get("NetworkMode").and_then(Value::as_str).unwrap_or_default();
    let pid = host.get("PidMode").and_then(Value::as_str).unwrap_or_default();
    let mut line = "docker run".to_owned();
    for (flag, value) in [("--name", name), ("-v", binds.as_str()), ("--network", network), ("--pid", pid)] {
        if !value.is_empty() {
            line.push_str(&format!(" {flag} {value}"));
        }
    }
    if privileged {
        line.push_str(" --privileged");
    }
    line.push_str(&format!(" {image} {command}"));
    let fields = [
        ("command", line.as_str()),
        ("kind", "container"),
        ("image", image),
        ("binds", binds.as_str()),
        ("privileged", if privileged { "true" } else { "false" }),
    ];
    session.emit(EventType::Command, line.clone(), &fields);
    tell_downloads(session, &command);
}

/// Tells of addresses that a command would fetch from.
pub(super) fn tell_downloads(session: &Session, command: &str) {
    let tool = ["wget", "curl"].into_iter().find(|tool| command.contains(tool));
    let Some(tool) = tool else { return };
    let urls = command.split(|sign: char| sign.is_whitespace() || "'\"`;|&()<>".contains(sign));
    for url in urls
        .filter(|word| word.starts_with("http://") || word.starts_with("https://") || word.starts_with("ftp://"))
        .take(4)
    {
        session.emit(
            EventType::DownloadAttempt,
            format!("told to fetch {url}"),
            &[("url", url), ("tool", tool), ("command", command)],
        );
    }
}

/// What a program says, of the few whose answer is known; the others say nothing.
pub(super) fn said(machine: &Machine, command: &str, container: &str) -> String {
    let bare = command.trim().trim_start_matches("/bin/").trim_start_matches("sh -c ").trim_start_matches("bash -c ");
    match bare.trim_matches(['"', '\'']) {
        "id" => "uid=0(root) gid=0(root) groups=0(root)\n".to_owned(),
        "whoami" => "root\n".to_owned(),
        "hostname" => format!("{}\n", short(container)),
        "pwd" => "/\n".to_owned(),
        "uname" => "Linux\n".to_owned(),
        "uname -r" => format!("{}\n", machine.kernel),
        "uname -a" => format!("Linux {} {} #1 SMP x86_64 GNU/Linux\n", short(container), machine.kernel),
        "nproc" => format!("{}\n", machine.cpus),
        "ls" | "ls /" => {
            "bin\ndev\netc\nhome\nlib\nmedia\nmnt\nopt\nproc\nroot\nrun\nsbin\nsrv\nsys\ntmp\nusr\nvar\n".to_owned()
        }
        "ls /mnt" | "ls /host" => {
            "bin\nboot\ndev\netc\nhome\nlib\nlib64\nmedia\nmnt\nopt\nproc\nroot\nrun\nsbin\nsrv\nsys\ntmp\nusr\nvar\n"
                .to_owned()
        }
        "cat /etc/hostname" => format!("{}\n", short(container)),
        other => {
            other.strip_prefix("echo ").map(|text| format!("{}\n", text.trim_matches(['"', '\'']))).unwrap_or_default()
        }
    }
}

impl Engine {
    pub(super) fn new(machine: &Machine) -> Engine {
        Engine {
            containers: machine.containers.clone().into(),
            images: machine.images.clone().into(),
            execs: VecDeque::new(),
        }
    }

    pub(super) fn find(&self, id: &str) -> Option<&Container> {
        let id = id.trim_start_matches('/');
        let named = self.containers.iter().find(|container| container.name == id);
        named.or_else(|| self.containers.iter().find(|container| id.len() >= 4 && container.id.starts_with(id)))
    }

    fn find_mut(&mut self, id: &str) -> Option<&mut Container> {
        let id = self.find(id)?.id.clone();
        self.containers.iter_mut().find(|container| container.id == id)
    }

    fn image_of(&self, name: &str) -> Option<&(String, String, u64, DateTime<Utc>)> {
        let (full, id) = (tagged(name), name.trim_start_matches("sha256:"));
        self.images.iter().find(|(known, hash, ..)| *known == full || (id.len() >= 6 && hash.starts_with(id)))
    }

    pub(super) fn info(&self, machine: &Machine) -> Value {
        let running = self.containers.iter().filter(|container| container.started.is_some()).count();
        json!({
            "ID": machine.id, "Containers": self.containers.len(), "ContainersRunning": running, "ContainersPaused": 0, "ContainersStopped": self.containers.len() - running,
            "Images": self.images.len(), "Driver": "overlay2",
            "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"], ["Native Overlay Diff", "true"], ["userxattr", "false"]],
            "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"], "Authorization": null, "Log": ["awslogs", "fluentd", "gcplogs", "gelf", "journald", "json-file", "local", "logentries", "splunk", "syslog"]},
            "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true, "CPUSet": true, "PidsLimit": true,
            "IPv4Forwarding": true, "BridgeNfIptables": true, "BridgeNfIp6tables": true, "Debug": false, "NFd": 24 + running * 9, "OomKillDisable": false, "NGoroutines": 36 + running * 4,
            "SystemTime": now(), "LoggingDriver": "json-file", "CgroupDriver": "systemd", "CgroupVersion": "2", "NEventsListener": 0,
            "KernelVersion": machine.kernel, "OperatingSystem": machine.system, "OSVersion": "", "OSType": "linux", "Architecture": "x86_64", "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {"AllowNondistributableArtifactsCIDRs": [], "AllowNondistributableArtifactsHostnames": [], "InsecureRegistryCIDRs": ["127.0.0.0/8"], "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true}}, "Mirrors": []},
            "NCPU": machine.cpus, "MemTotal": machine.memory, "GenericResources": null, "DockerRootDir": "/var/lib/docker", "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
            "Name": machine.hostname, "Labels": [], "ExperimentalBuild": false, "ServerVersion": machine.version,
            "Runtimes": {"io.containerd.runc.v2": {"path": "runc"}, "runc": {"path": "runc"}}, "DefaultRuntime": "runc",
            "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null},
            "LiveRestoreEnabled": false, "Isolation": "", "InitBinary": "docker-init", "SecurityOptions": ["name=apparmor", "name=seccomp,profile=default", "name=cgroupns"], "Warnings": ["WARNING: API is accessible on http://0.0.0.0:2375 without encryption.\n         Access to the remote API is equivalent to root access on the host. Refer\n         to the 'Docker daemon attack surface' section in the documentation for\n         more information: https://docs.docker.com/go/attack-surface/"]
        })
    }

    pub(super) fn images(&self) -> Value {
        let show = |(name, id, size, made): &(String, String, u64, DateTime<Utc>)| json!({"Containers": -1, "Created": made.timestamp(), "Id": format!("sha256:{id}"), "Labels": null, "ParentId": "", "RepoDigests": [], "RepoTags": [name], "SharedSize": -1, "Size": size, "VirtualSize": size});
        Value::Array(self.images.iter().map(show).collect())
    }

    pub(super) fn image(&self, name: &str) -> Reply {
        match self.image_of(name) {
            Some((name, id, size, made)) => Reply::json(
                200,
                &json!({"Id": format!("sha256:{id}"), "RepoTags": [name], "RepoDigests": [], "Parent": "", "Comment": "", "Created": made.to_rfc3339_opts(SecondsFormat::Nanos, true), "Architecture": "amd64", "Os": "linux", "Size": size, "VirtualSize": size, "Config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]}, "RootFS": {"Type": "layers", "Layers": [format!("sha256:{id}")]}}),
            ),
            None => Reply::error(404, format!("No such image: {}", tagged(name))),
        }
    }

    /// An image that was "pulled": it is there from now on. Its id.
    pub(super) fn pulled(&mut self, name: &str) -> String {
        if let Some((_, id, ..)) = self.image_of(name) {
            return id.clone();
        }
        let id = id();
        if self.images.len() >= MOST {
            self.images.pop_front();
        }
        self.images.push_back((
            tagged(name),
            id.clone(),
            5_000_000 + rand::random::<u64>() % 90_000_000,
            Utc::now() - TimeDelta::days(12),
        ));
        id
    }

    pub(super) fn create(&mut self, machine: &Machine, asked: &Value, name: &str) -> Reply {
        let Some(image) = asked.get("Image").and_then(Value::as_str).filter(|image| !image.is_empty()) else {
            return Reply::error(400, "no image specified in Config.Image".to_owned());
        };
        if self.image_of(image).is_none() {
            return Reply::error(404, format!("No such image: {}", tagged(image)));
        }
        let good = name.chars().all(|sign| sign.is_ascii_alphanumeric() || "_.-".contains(sign)) && name.len() <= 128;
        if !good {
            return Reply::error(
                400,
                format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
            );
        }
        if !name.is_empty()
            && let Some(known) = self.find(name)
        {
            return Reply::error(
                409,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
                    known.id
                ),
            );
        }
        let id = id();
        let own = machine.containers.len();
        if self.containers.len() >= MOST.max(own + 1) {
            // The machine's own containers are the first.
            self.containers.remove(own);
        }
        let command = kept([words(asked, "Entrypoint"), words(asked, "Cmd")].concat());
        let pet = ["quirky", "bold", "eager", "silly", "brave", "happy"];
        let name = match name {
            "" => format!(
                "{}_{}",
                pet.get(usize::from(rand::random::<u8>()) % pet.len()).copied().unwrap_or("bold"),
                id.get(..6).unwrap_or_default()
            ),
            name => name.to_owned(),
        };
        // Only what is shown again is kept of what was asked for.
        let asked = json!({"Binds": kept(words(asked.get("HostConfig").unwrap_or(&Value::Null), "Binds")), "Env": kept(words(asked, "Env"))});
        self.containers.push_back(Container {
            id: id.clone(),
            name,
            image: image.chars().take(256).collect(),
            command,
            created: Utc::now(),
            started: None,
            port: None,
            asked,
        });
        Reply::json(201, &json!({"Id": id, "Warnings": []}))
    }

    pub(super) fn list(&self, all: bool) -> Value {
        let show = |container: &Container| {
            let (state, status) = match container.started {
                Some(started) => ("running", format!("Up {}", ago(Utc::now() - started))),
                None => ("created", "Created".to_owned()),
            };
            let ports = container
                .port
                .map(|port| json!([{"IP": "0.0.0.0", "PrivatePort": port, "PublicPort": port, "Type": "tcp"}]));
            json!({"Id": container.id, "Names": [format!("/{}", container.name)], "Image": container.image, "ImageID": self.image_of(&container.image).map(|(_, id, ..)| format!("sha256:{id}")), "Command": container.command.join(" "), "Created": container.created.timestamp(), "Ports": ports.unwrap_or_else(|| json!([])), "Labels": {}, "State": state, "Status": status, "HostConfig": {"NetworkMode": "default"}, "NetworkSettings": {"Networks": {"bridge": {"IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": "", "EndpointID": "", "Gateway": "172.17.0.1", "IPAddress": "172.17.0.2", "IPPrefixLen": 16}}}, "Mounts": []})
        };
        Value::Array(
            self.containers.iter().rev().filter(|container| all || container.started.is_some()).map(show).collect(),
        )
    }

    pub(super) fn inspect(&self, id: &str) -> Reply {
        let Some(container) = self.find(id) else {
            return Reply::no_container(id);
        };
        let time = |time: Option<DateTime<Utc>>| {
            time.map_or("0001-01-01T00:00:00Z".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Nanos, true))
        };
        let running = container.started.is_some();
        Reply::json(
            200,
            &json!({"Id": container.id, "Created": time(Some(container.created)), "Path": container.command.first(), "Args": container.command.get(1..), "State": {"Status": if running { "running" } else { "created" }, "Running": running, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false, "Pid": if running { 2117 } else { 0 }, "ExitCode": 0, "Error": "", "StartedAt": time(container.started), "FinishedAt": time(None)}, "Image": self.image_of(&container.image).map(|(_, id, ..)| format!("sha256:{id}")), "Name": format!("/{}", container.name), "RestartCount": 0, "Driver": "overlay2", "Platform": "linux", "HostConfig": {"Binds": container.asked.get("Binds"), "NetworkMode": "default", "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}, "Config": {"Hostname": short(&container.id), "Env": container.asked.get("Env"), "Cmd": container.command, "Image": container.image, "Tty": false}, "NetworkSettings": {"IPAddress": "172.17.0.2", "Gateway": "172.17.0.1", "Ports": {}}, "Mounts": []}),
        )
    }

    pub(super) fn run(&mut self, id: &str, up: bool) -> Reply {
        let Some(container) = self.find_mut(id) else {
            return Reply::no_container(id);
        };
        if container.started.is_some() == up {
            return Reply::empty(304);
        }
        container.started = up.then(Utc::now);
        Reply::empty(204)
    }

    pub(super) fn remove(&mut self, id: &str, force: bool) -> Reply {
        let Some(container) = self.find(id) else {
            return Reply::no_container(id);
        };
        let id = container.id.clone();
        if container.started.is_some() && !force {
            return Reply::error(
                409,
                format!(
                    "You cannot remove a running container {id}. Stop the container before attempting removal or force remove"
                ),
            );
        }
        self.containers.retain(|container| container.id != id);
        Reply::empty(204)
    }

    pub(super) fn logs(&self, id: &str) -> Reply {
        match self.find(id) {
            Some(container) if container.port.is_some() => {
                let time = container.started.unwrap_or(container.created).format("%Y/%m/%d %H:%M:%S");
                Reply::output(&format!("{time} [notice] 1#1: start worker processes\n"))
            }
            Some(_) => Reply::output(""),
            None => Reply::no_container(id),
        }
    }

    pub(super) fn top(&self, id: &str) -> Reply {
        match self.find(id) {
            Some(container) if container.started.is_some() => Reply::json(
                200,
                &json!({"Processes": [["root", "2117", "2096", "0", "08:12", "?", "00:00:01", container.command.join(" ")]], "Titles": ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]}),
            ),
            Some(container) => Reply::error(409, format!("Container {} is not running", container.id)),
            None => Reply::no_container(id),
        }
    }

    pub(super) fn exec(&mut self, id: &str, command: Vec<String>) -> Reply {
        let (container, running) = match self.find(id) {
            Some(container) => (container.id.clone(), container.started.is_some()),
            None => return Reply::no_container(id),
        };
        if !running {
            return Reply::error(409, format!("Container {container} is not running"));
        }
        if command.is_empty() {
            return Reply::error(400, "No exec command specified".to_owned());
        }
        if self.execs.len() >= MOST {
            self.execs.pop_front();
        }
        let exec = self::id();
        self.execs.push_back(Exec { id: exec.clone(), container, command: kept(command), ran: false });
        Reply::json(201, &json!({ "Id": exec }))
    }

    pub(super) fn start_exec(&mut self, id: &str) -> Option<Vec<String>> {
        let exec = self.execs.iter_mut().find(|exec| exec.id == id)?;
        exec.ran = true;
        Some(exec.command.clone())
    }

    pub(super) fn inspect_exec(&self, id: &str) -> Reply {
        match self.execs.iter().find(|exec| exec.id == id) {
            Some(exec) => Reply::json(
                200,
                &json!({"ID": exec.id, "Running": false, "ExitCode": if exec.ran { json!(0) } else { Value::Null }, "ProcessConfig": {"tty": false, "entrypoint": exec.command.first(), "arguments": exec.command.get(1..), "privileged": false}, "OpenStdin": false, "OpenStderr": true, "OpenStdout": true, "CanRemove": false, "ContainerID": exec.container, "DetachKeys": "", "Pid": 0}),
            ),
            None => Reply::error(404, format!("No such exec instance: {id}")),
        }
    }

    pub(super) fn usage(&self) -> Value {
        let size: u64 = self.images.iter().map(|(_, _, size, _)| size).sum();
        json!({"LayersSize": size, "Images": self.images(), "Containers": self.list(true), "Volumes": [], "BuildCache": []})
    }
}

/// How long ago, as `docker ps` shows it.
fn ago(time: TimeDelta) -> String {
    match (time.num_weeks(), time.num_days(), time.num_hours(), time.num_minutes(), time.num_seconds()) {
        (weeks @ 2.., ..) => format!("{weeks} weeks"),
        (_, days @ 2.., ..) => format!("{days} days"),
        (_, _, hours @ 2.., ..) => format!("{hours} hours"),
        (_, _, 1, ..) => "About an hour".to_owned(),
        (_, _, _, minutes @ 2.., _) => format!("{minutes} minutes"),
        (_, _, _, 1, _) => "About a minute".to_owned(),
        (.., seconds) => format!("{} seconds", seconds.max(1)),
    }
}
