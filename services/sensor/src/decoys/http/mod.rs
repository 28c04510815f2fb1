//! Web servers: nginx, Apache, IIS and lighttpd as the deckies' systems have them, each with a site.

pub(crate) mod build;
mod pages;
mod site;
mod upload;
pub(crate) mod wire;

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use self::{
    build::{Build, How},
    site::Site,
    wire::{Incoming, Problem, Request},
};
use super::{
    Options,
    lines::Buffered,
    tls::{Spoken, Tls},
};
use crate::{
    persona::Persona,
    protocol::{Protocol, Server},
    session::{EventType, Session, Stream, escaped},
};

/// What is told of a body.
const TOLD: usize = 2048;
/// Requests of one connection, as nginx and Apache have it by default (1,000 and 100).
const REQUESTS: u32 = 100;

/// A web server, with TLS or without.
pub(crate) struct Http {
    build: Build,
    site: Site,
    hostname: String,
    tls: Option<Tls>,
}

/// HTTP.
pub(crate) fn server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let build = Build::of(persona, options)?;
    let site = Site::new(persona, options, build)?;
    Ok(Server::Connections(Arc::new(Http { build, site, hostname: persona.hostname.clone(), tls: None })))
}

/// HTTP over TLS.
pub(crate) fn tls_server(persona: &Arc<Persona>, options: &Options) -> Result<Server, String> {
    let build = Build::of(persona, options)?;
    let site = Site::new(persona, options, build)?;
    let tls = Some(Tls::new(persona, &["http/1.1"]));
    Ok(Server::Connections(Arc::new(Http { build, site, hostname: persona.hostname.clone(), tls })))
}

#[async_trait]
impl Protocol for Http {
    async fn serve(self: Arc<Self>, stream: Stream, session: Session) -> io::Result<()> {
        stream.limit_idle(Duration::from_secs(60));
        let Some(tls) = &self.tls else {
            return self.talk(Buffered::new(stream), &session).await;
        };
        match tls.accept(stream, &session).await? {
            Spoken::Tls(stream) => self.talk(Buffered::new(stream), &session).await,
            Spoken::Plain(stream) => {
                let mut conn = Buffered::new(stream);
                if let Incoming::Request(request) = wire::head(&mut conn, self.build.rules()).await? {
                    self.tell(&session, &request, "400");
                    let how = self.how(&request, &session, 0);
                    if let Some(answer) = self.build.plain(&how) {
                        conn.write(&answer).await?;
                    }
                } else {
                    session.emit(EventType::Scan, "no TLS hello", &[("kind", "malformed")]);
                }
                conn.close().await;
                Ok(())
            }
        }
    }
}

impl Http {
    async fn talk<S>(&self, mut conn: Buffered<S>, session: &Session) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let rules = self.build.rules();
        for left in (0..REQUESTS).rev() {
            if left + 1 < REQUESTS && conn.unread().is_empty() {
                let idle = Duration::from_secs(self.build.keep_alive());
                match tokio::time::timeout(idle, conn.more()).await {
                    Ok(Ok(true)) => {}
                    _ => break,
                }
            }
            match wire::head(&mut conn, rules).await? {
                Incoming::Request(mut request) => {
                    if !wire::body(&mut conn, &mut request, rules).await? {
                        self.wrong(&mut conn, session, Problem::Coding, &request, "").await?;
                        break;
                    }
                    learn(session, &request);
                    let how = self.how(&request, session, left);
                    let page = self.site.answer(&request, session, &how, self.tls.is_some());
                    let page = self.build.conditional(page, |name| request.field(name).map(str::to_owned));
                    self.tell(session, &request, &page.status.to_string());
                    upload::keep(session, &request).await;
                    conn.write(&self.build.render(page, &how)).await?;
                    if !how.keep {
                        break;
                    }
                }
                Incoming::Simple(target) => {
                    let request = Request { method: "GET".to_owned(), target, ..Request::default() };
                    let how = self.how(&request, session, 0);
                    let page = self.site.answer(&request, session, &how, self.tls.is_some());
                    self.tell(session, &request, &page.status.to_string());
                    conn.write(&page.body).await?;
                    break;
                }
                Incoming::Bad(problem, request, seen) => {
                    self.wrong(&mut conn, session, problem, &request, &seen).await?;
                    break;
                }
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

    /// Answers what is no proper request.
    async fn wrong<S>(
        &self,
        conn: &mut Buffered<S>,
        session: &Session,
        problem: Problem,
        request: &Request,
        seen: &str,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        if request.target.is_empty() || problem == Problem::Malformed {
            session.emit(
                EventType::Scan,
                format!("no HTTP request: {problem:?}"),
                &[("kind", "malformed"), ("detail", seen)],
            );
        } else {
            let status = match problem {
                Problem::LineTooLong => "414",
                Problem::BodyTooLarge => "413",
                _ => "400",
            };
            self.tell(session, request, status);
        }
        let how = self.how(request, session, 0);
        conn.write(&self.build.problem(problem, &request.method, &how)).await
    }

    fn how(&self, request: &Request, session: &Session, left: u32) -> How {
        How {
            host: request.host().unwrap_or(&self.hostname).to_owned(),
            port: if self.tls.is_some() { advertised(session, 443) } else { advertised(session, 80) },
            minor: request.minor,
            head: request.method == "HEAD",
            keep: request.keeps() && left > 0,
            asked: request.field("connection").is_some_and(|wish| wish.eq_ignore_ascii_case("keep-alive")),
            left,
        }
    }

    fn tell(&self, session: &Session, request: &Request, status: &str) {
        tell(session, request, status);
    }
}

/// The port that answers name: where the client came in, or the usual one when that is where the fleet moved it from.
fn advertised(session: &Session, usual: u16) -> u16 {
    let port = session.local().port();
    // Without the right to bind low ports a fleet listens higher by a fixed offset; a server would name its own.
    if port >= 1024 && port % 1000 == usual { usual } else { port }
}

/// What a request says of its client: known before the answer, so that a login carries it.
fn learn(session: &Session, request: &Request) {
    if let Some(agent) = request.field("user-agent") {
        session.learn("user_agent", agent);
    }
}

/// Tells of a request.
pub(crate) fn tell(session: &Session, request: &Request, status: &str) {
    learn(session, request);
    let agent = request.field("user-agent").unwrap_or_default();
    let version = format!("HTTP/1.{}", request.minor.min(1));
    let body = escaped(&request.body, TOLD);
    let mut fields = vec![
        ("method", request.method.as_str()),
        ("path", request.target.as_str()),
        ("version", version.as_str()),
        ("status", status),
    ];
    for (name, field) in [
        ("host", "host"),
        ("user_agent", "user-agent"),
        ("content_type", "content-type"),
        ("authorization", "authorization"),
        ("referer", "referer"),
        ("x_forwarded_for", "x-forwarded-for"),
        ("cookie", "cookie"),
    ] {
        if let Some(value) = request.field(field) {
            fields.push((name, value));
        }
    }
    if !body.is_empty() {
        fields.push(("body", &body));
    }
    session.emit(EventType::Request, format!("{} {} {status}", request.method, request.target), &fields);
    let known = matches!(request.method.as_str(), "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH");
    if agent.contains("Nmap Scripting Engine") || request.target.starts_with("/nice%20ports%2C/") {
        session.emit(EventType::Scan, "a probe of nmap", &[("kind", "nmap_probe"), ("detail", &request.target)]);
    } else if !known && !request.method.is_empty() {
        let detail = format!("{} {}", request.method, request.target);
        session.emit(EventType::Scan, "an unusual HTTP method", &[("kind", "http_method"), ("detail", &detail)]);
    }
}
