//! The API of a container engine that somebody left open: all of it is told, nothing of it is run.

mod engine;
mod machine;
mod wire;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};

use self::{engine::Engine, machine::Machine, wire::Reply};
use super::{
    Options, http,
    http::wire::{Incoming, Problem, Request, Rules, body, head},
    lines::Buffered,
};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream, escaped},
};

/// Requests of one connection.
const REQUESTS: u32 = 1000;
/// What a client may send to a program that it is attached to, and what is told of it.
const TYPED: usize = 64 * 1024;

struct DockerApi {
    machine: Machine,
    engine: Mutex<Option<Engine>>,
}

/// The API of Docker.
pub(crate) fn server(persona: &Arc<Persona>, _: &Options) -> Result<Server, String> {
    Ok(Server::Connections(Arc::new(DockerApi { machine: Machine::new(persona), engine: Mutex::new(None) })))
}

#[async_trait]
impl Protocol for DockerApi {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()> {
        stream.limit_idle(Duration::from_secs(120));
        let rules = Rules { eager: false, simple: false, body: 64 << 20 };
        let mut conn = Buffered::new(stream);
        for _ in 0..REQUESTS {
            match head(&mut conn, rules).await? {
                Incoming::Request(mut request) => {
                    if !body(&mut conn, &mut request, rules).await? {
                        conn.write(&wire::bad("400 Bad Request")).await?;
                        break;
                    }
                    let reply = self.answer(&request, &session);
                    http::tell(&session, &request, &reply.status.to_string());
                    self.kept(&request, &session).await;
                    conn.write(&reply.bytes(&self.machine, &request)).await?;
                    if let Some(output) = reply.attached {
                        self.attached(&mut conn, &session, &output).await?;
                        break;
                    }
                    if !request.keeps() {
                        break;
                    }
                }
                Incoming::Bad(problem, request, seen) => {
                    if request.target.is_empty() || problem == Problem::Malformed {
                        session.emit(EventType::Scan, "no HTTP request", &[("kind", "malformed"), ("detail", &seen)]);
                    } else {
                        http::tell(&session, &request, "400");
                    }
                    conn.write(&wire::bad(match problem {
                        Problem::NoHost => "400 Bad Request: missing required Host header",
                        Problem::Version => "505 HTTP Version Not Supported: unsupported protocol version",
                        Problem::FieldTooLong => "431 Request Header Fields Too Large",
                        Problem::Coding => "501 Not Implemented: unsupported transfer encoding",
                        _ => "400 Bad Request",
                    }))
                    .await?;
                    break;
                }
                Incoming::Simple(_) => break,
                Incoming::End(rest) => {
                    if !rest.is_empty() {
                        session.emit(EventType::Unknown, "no HTTP request", &[("data", &escaped(&rest, 512))]);
                    }
                    break;
                }
            }
        }
        conn.close().await;
        Ok(())
    }
}

impl DockerApi {
    fn with<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        act(engine.get_or_insert_with(|| Engine::new(&self.machine)))
    }

    /// Keeps contexts of builds and archives that are put into containers.
    async fn kept(&self, request: &Request, session: &Session) {
        let path = path(request).1;
        let archive = path.ends_with("/archive") && request.method == "PUT";
        if request.body.is_empty() || !(archive || matches!(path.as_str(), "/build" | "/images/load")) {
            return;
        }
        if let Some(mut capture) = session.capture("context.tar").await
            && capture.write(&request.body).await.is_ok()
        {
            // A file that cannot be kept is no fault of the client's.
            let _ = capture.finish(&request.target).await;
        }
    }

    /// A program that the client is attached to: says what it says, and listens to what is typed.
    async fn attached(&self, conn: &mut Buffered<Stream>, session: &Session, output: &str) -> io::Result<()> {
        if !output.is_empty() {
            conn.write(&wire::frame(output)).await?;
        } else {
            let mut typed = Vec::new();
            while typed.len() < TYPED {
                if conn.unread().is_empty() && !conn.more().await? {
                    break;
                }
                typed.extend_from_slice(conn.unread());
                let all = conn.unread().len();
                conn.used(all);
                while let Some(end) = typed.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                    let line: Vec<u8> = typed.drain(..=end).collect();
                    let line = escaped(line.trim_ascii(), 2048);
                    if line == "exit" {
                        return Ok(());
                    }
                    if !line.is_empty() {
                        session.emit(EventType::Command, line.clone(), &[("command", &line)]);
                        let said = engine::said(&self.machine, &line, "container");
                        conn.write(&wire::frame(&said)).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request, session: &Session) -> Reply {
        let (version, path) = path(request);
        if let Some(version) = version {
            if engine::newer(&version, self.machine.api) {
                return Reply::error(
                    400,
                    format!(
                        "client version {version} is too new. Maximum supported API version is {}",
                        self.machine.api
                    ),
                );
            }
            if engine::newer("1.12", &version) {
                return Reply::error(
                    400,
                    format!(
                        "client version {version} is too old. Minimum supported API version is 1.12, please upgrade your client to a newer version"
                    ),
                );
            }
        }
        let method = if request.method == "HEAD" { "GET" } else { request.method.as_str() };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let query = Request::form(request.query().as_bytes());
        let asked =
            |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default();
        let on = |name: &str| matches!(asked(name).as_str(), "1" | "true" | "True");
        match (method, parts.as_slice()) {
            ("GET", ["_ping"]) => Reply::ping(),
            ("OPTIONS", _) => Reply::empty(200),
            ("GET", ["version"]) => Reply::ordered(self.machine.version()),
            ("GET", ["info"]) => Reply::json(200, &self.with(|engine| engine.info(&self.machine))),
            ("POST", ["auth"]) => {
                let given = parsed(request);
                let text = |name: &str| given.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                session.emit(
                    EventType::AuthFail,
                    "login to a registry",
                    &[("username", &text("username")), ("password", &text("password")), ("method", "registry")],
                );
                Reply::error(500, "Get \"https://registry-1.docker.io/v2/\": unauthorized: incorrect username or password".to_owned())
            }
            ("GET", ["images", "json"]) => Reply::json(200, &self.with(|engine| engine.images())),
            ("POST", ["images", "create"]) => self.pull(&asked("fromImage"), &asked("tag"), &asked("fromSrc"), session),
            ("GET", ["images", "search"]) => Reply::json(200, &json!([])),
            ("GET", ["images", name @ .., "json"]) => self.with(|engine| engine.image(&name.join("/"))),
            ("GET", ["images", name @ .., "history"]) => self.with(|engine| engine.image(&name.join("/"))),
            ("DELETE", ["images", name @ ..]) => Reply::error(404, format!("No such image: {}", engine::tagged(&name.join("/")))),
            ("POST", ["images", "load"]) => Reply::json(200, &json!({"stream": "Loaded image\n"})),
            ("POST", ["build"]) => {
                session.emit(EventType::Command, "docker build", &[("command", &format!("docker build {}", request.query()))]);
                let id = engine::short(&engine::id());
                Reply::stream(format!("{}\r\n{}\r\n", json!({"stream": "Step 1/1 : FROM scratch\n"}), json!({"stream": format!("Successfully built {id}\n")})))
            }
            ("GET", ["containers", "json"]) => Reply::json(200, &self.with(|engine| engine.list(on("all")))),
            ("POST", ["containers", "create"]) => {
                let asked_for = parsed(request);
                engine::tell_container(session, &asked_for, &asked("name"));
                self.with(|engine| engine.create(&self.machine, &asked_for, &asked("name")))
            }
            ("POST", ["containers", "prune"]) => Reply::json(200, &json!({"ContainersDeleted": null, "SpaceReclaimed": 0})),
            ("DELETE", ["containers", id]) => self.with(|engine| engine.remove(id, on("force"))),
            ("GET" | "POST" | "PUT", ["containers", id, what]) => self.container(method, id, what, request, session),
            ("POST", ["exec", id, "start"]) => self.started(id, request),
            ("POST", ["exec", _, "resize"]) => Reply::empty(200),
            ("GET", ["exec", id, "json"]) => self.with(|engine| engine.inspect_exec(id)),
            ("GET", ["networks"]) => Reply::json(200, &self.machine.networks()),
            ("GET", ["volumes"]) => Reply::json(200, &json!({"Volumes": [], "Warnings": null})),
            ("POST", ["volumes", "create"]) => {
                let name = parsed(request).get("Name").and_then(Value::as_str).map_or_else(engine::id, str::to_owned);
                let name: String = name.chars().filter(|sign| sign.is_ascii_alphanumeric() || "-_.".contains(*sign)).take(64).collect();
                Reply::json(201, &json!({"CreatedAt": engine::now(), "Driver": "local", "Labels": null, "Mountpoint": format!("/var/lib/docker/volumes/{name}/_data"), "Name": name, "Options": null, "Scope": "local"}))
            }
            ("GET", ["system", "df"]) => Reply::json(200, &self.with(|engine| engine.usage())),
            ("GET", ["plugins"]) => Reply::json(200, &json!([])),
            ("GET", ["events"]) => Reply::stream(String::new()),
            ("GET", ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs", ..]) => {
                Reply::error(503, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.".to_owned())
            }
            ("POST", ["swarm", "init" | "join"]) => {
                let text = escaped(&request.body, 2048);
                session.emit(EventType::Command, "docker swarm", &[("command", &format!("docker swarm {text}"))]);
                Reply::error(400, "could not choose an IP address to advertise since this system has multiple addresses on different interfaces - specify one with --advertise-addr".to_owned())
            }
            _ => Reply::error(404, "page not found".to_owned()),
        }
    }

    /// What one container is asked for.
    fn container(&self, method: &str, id: &str, what: &str, request: &Request, session: &Session) -> Reply {
        match (method, what) {
            ("GET", "json") => self.with(|engine| engine.inspect(id)),
            ("GET", "logs") => self.with(|engine| engine.logs(id)),
            ("GET", "top") => self.with(|engine| engine.top(id)),
            ("GET", "changes" | "stats" | "archive") => match self.with(|engine| engine.find(id).is_some()) {
                true if what == "archive" => Reply::error(404, "Could not find the file in container".to_owned()),
                true => Reply::json(200, &json!([])),
                false => Reply::no_container(id),
            },
            ("PUT", "archive") => match self.with(|engine| engine.find(id).is_some()) {
                true => Reply::empty(200),
                false => Reply::no_container(id),
            },
            ("POST", "start" | "restart" | "unpause") => {
                let reply = self.with(|engine| engine.run(id, true));
                if reply.status == 204
                    && let Some(command) = self.with(|engine| engine.find(id).map(|found| found.command.join(" ")))
                {
                    session.emit(
                        EventType::Command,
                        format!("container started: {command}"),
                        &[("command", &command), ("kind", "container")],
                    );
                }
                reply
            }
            ("POST", "stop" | "kill" | "pause") => self.with(|engine| engine.run(id, false)),
            ("POST", "wait") => match self.with(|engine| engine.find(id).is_some()) {
                true => Reply::json(200, &json!({"StatusCode": 0})),
                false => Reply::no_container(id),
            },
            ("POST", "attach") => match self.with(|engine| {
                engine.find(id).map(|found| engine::said(&self.machine, &found.command.join(" "), &found.id))
            }) {
                Some(output) => Reply::attached(request, output),
                None => Reply::no_container(id),
            },
            ("POST", "exec") => {
                let asked = parsed(request);
                let command = engine::words(&asked, "Cmd");
                let text = command.join(" ");
                session.emit(EventType::Command, text.clone(), &[("command", &text), ("kind", "exec")]);
                engine::tell_downloads(session, &text);
                self.with(|engine| engine.exec(id, command))
            }
            ("POST", "rename" | "resize" | "update") => match self.with(|engine| engine.find(id).is_some()) {
                true if what == "update" => Reply::json(200, &json!({"Warnings": null})),
                true => Reply::empty(if what == "rename" { 204 } else { 200 }),
                false => Reply::no_container(id),
            },
            _ => Reply::error(404, "page not found".to_owned()),
        }
    }

    fn started(&self, id: &str, request: &Request) -> Reply {
        let Some(command) = self.with(|engine| engine.start_exec(id)) else {
            return Reply::error(404, format!("No such exec instance: {id}"));
        };
        if parsed(request).get("Detach").and_then(Value::as_bool).unwrap_or(false) {
            return Reply::empty(200);
        }
        let shell =
            matches!(command.as_slice(), [shell] if matches!(shell.rsplit('/').next(), Some("sh" | "bash" | "ash")));
        let output = if shell { String::new() } else { engine::said(&self.machine, &command.join(" "), id) };
        let output = if output.is_empty() && !shell { "\n".to_owned() } else { output };
        Reply::attached(request, output)
    }

    fn pull(&self, image: &str, tag: &str, from: &str, session: &Session) -> Reply {
        let from = if image.is_empty() { from } else { image };
        let tag = if tag.is_empty() { "latest" } else { tag };
        let name = if from.contains(':') { from.to_owned() } else { format!("{from}:{tag}") };
        session.emit(
            EventType::DownloadAttempt,
            format!("told to pull {name}"),
            &[("url", &name), ("tool", "docker pull"), ("command", &format!("docker pull {name}"))],
        );
        if from.is_empty() || name.len() > 256 || name.contains(|sign: char| !sign.is_ascii_graphic()) {
            return Reply::error(400, "invalid reference format".to_owned());
        }
        let id = self.with(|engine| engine.pulled(&name));
        let short = name.split(':').next().unwrap_or_default();
        let layer = id.get(..12).unwrap_or_default();
        let lines = [
            json!({"status": format!("Pulling from {}", if short.contains('/') { short.to_owned() } else { format!("library/{short}") }), "id": tag}),
            json!({"status": "Pulling fs layer", "progressDetail": {}, "id": layer}),
            json!({"status": "Download complete", "progressDetail": {}, "id": layer}),
            json!({"status": "Pull complete", "progressDetail": {}, "id": layer}),
            json!({"status": format!("Digest: sha256:{id}")}),
            json!({"status": format!("Status: Downloaded newer image for {name}")}),
        ];
        Reply::stream(lines.iter().map(|line| format!("{line}\r\n")).collect())
    }
}

/// The version of the API that is asked for, and the path without it.
fn path(request: &Request) -> (Option<String>, String) {
    let path = request.path().unwrap_or_default();
    if let Some(rest) = path.strip_prefix("/v")
        && let Some((version, rest)) = rest.split_once('/')
        && version.len() <= 6
        && version.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return (Some(version.to_owned()), format!("/{rest}"));
    }
    (None, path)
}

/// The body as JSON; null when it is none. serde_json bounds its depth.
fn parsed(request: &Request) -> Value {
    serde_json::from_slice(request.body.get(..request.body.len().min(256 * 1024)).unwrap_or_default())
        .unwrap_or(Value::Null)
}
