//! What a client of SSH asks for, before it has a channel and about channels.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty,
    keys::HashAlg,
    server::{self, Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Response},
};

use super::{build::Build, channel};
use crate::{
    decoys::credentials::Credentials,
    session::{EventType, Session, escaped},
    shell::Machine,
};

/// Failed tries after which sshd has enough.
const MAX_TRIES: u32 = 6;
/// Channels of one connection: `MaxSessions`.
const MAX_SESSIONS: usize = 10;
/// Longest user name or password that is told of.
const MAX_TEXT: usize = 512;

/// One client.
pub struct Client {
    session: Session,
    machine: Arc<Machine>,
    credentials: Credentials,
    keyboard: bool,
    handle: Arc<OnceLock<Handle>>,
    failures: u32,
    user: String,
    open: Vec<ChannelId>,
}

impl Client {
    /// A client that has just connected; `handle` is set as soon as there is one.
    pub fn new(
        session: &Session,
        machine: &Arc<Machine>,
        credentials: &Credentials,
        build: &Build,
        handle: Arc<OnceLock<Handle>>,
    ) -> Client {
        Client {
            session: session.clone(),
            machine: machine.clone(),
            credentials: credentials.clone(),
            keyboard: build.keyboard,
            handle,
            failures: 0,
            user: String::new(),
            open: Vec::new(),
        }
    }

    /// A try that failed; after the sixth sshd ends the connection.
    async fn failed(&mut self) -> Auth {
        self.failures += 1;
        if self.failures >= MAX_TRIES
            && let Some(handle) = self.handle.get()
        {
            let _ = handle
                .disconnect(Disconnect::ProtocolError, "Too many authentication failures".to_owned(), String::new())
                .await;
        }
        self.reject()
    }

    /// No, and what can be tried next: the same as before.
    fn reject(&self) -> Auth {
        Auth::Reject { proceed_with_methods: Some(super::methods(self.keyboard)), partial_success: false }
    }

    async fn password(&mut self, user: &str, password: &str, method: &str) -> Auth {
        let accepted = self.credentials.accepts(user, password) && !user.is_empty();
        let (user, password) = (escaped(user.as_bytes(), MAX_TEXT), escaped(password.as_bytes(), MAX_TEXT));
        let fields = [("username", user.as_str()), ("password", password.as_str()), ("method", method)];
        if accepted {
            self.session.emit(EventType::AuthSuccess, format!("{user} logged in"), &fields);
            self.user = user;
            return Auth::Accept;
        }
        self.session.emit(EventType::AuthFail, format!("login failed for {user}"), &fields);
        // As long as PAM takes, give or take.
        tokio::time::sleep(Duration::from_millis(1500 + rand::random_range(0..900_u64))).await;
        self.failed().await
    }

    fn forward(&self, kind: &str, target: &str) {
        let target = escaped(target.as_bytes(), MAX_TEXT);
        self.session.emit(
            EventType::DownloadAttempt,
            format!("{kind} to {target} was asked for"),
            &[("url", &format!("tcp://{target}")), ("tool", "ssh"), ("command", kind)],
        );
    }
}

/// What sshd says where forwarding is switched off.
fn prohibited() -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: 1, reason: "open failed".to_owned() }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        Ok(self.reject())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        Ok(self.password(user, password, "password").await)
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        let fingerprint = offer.public_key.fingerprint(HashAlg::Sha256).to_string();
        let user = escaped(user.as_bytes(), MAX_TEXT);
        self.session.emit(
            EventType::AuthAttempt,
            format!("{user} offered a key"),
            &[("username", &user), ("method", "publickey"), ("public_key", &fingerprint)],
        );
        Ok(self.failed().await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        if !self.keyboard {
            return Ok(self.reject());
        }
        let Some(mut response) = response else {
            let host = &self.machine.persona().hostname;
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![(format!("Password for {}@{host}:", escaped(user.as_bytes(), 64)).into(), false)].into(),
            });
        };
        let password = response.next().unwrap_or_default();
        let password = String::from_utf8_lossy(&password).into_owned();
        Ok(self.password(user, &password, "keyboard-interactive").await)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        if self.open.len() >= MAX_SESSIONS {
            reply.reject(prohibited()).await;
            return Ok(());
        }
        self.open.push(channel.id());
        reply.accept().await;
        tokio::spawn(channel::run(channel, self.session.clone(), self.machine.clone(), self.user.clone()));
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut server::Session) -> Result<(), Self::Error> {
        self.open.retain(|open| *open != channel);
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.forward("direct-tcpip", &format!("{host}:{port}"));
        reply.reject(prohibited()).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.forward("direct-streamlocal", path);
        reply.reject(prohibited()).await;
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        host: &str,
        port: &mut u32,
        _: &mut server::Session,
    ) -> Result<bool, Self::Error> {
        self.forward("tcpip-forward", &format!("{host}:{port}"));
        Ok(false)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        self.session.learn("terminal", escaped(term.as_bytes(), 64));
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        _: &str,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        if channel::accepted(name) { session.channel_success(channel) } else { session.channel_failure(channel) }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut server::Session) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        if name == "sftp" { session.channel_success(channel) } else { session.channel_failure(channel) }
    }

    async fn window_change_request(
        &mut self,
        _: ChannelId,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}
