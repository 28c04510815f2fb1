//! SSH sessions, as many as go; and a bare server to hold the same with.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use russh::{
    Channel, ChannelId, ChannelMsg, Disconnect, Preferred, cipher, client, kex,
    keys::{
        Algorithm, PrivateKey, PublicKeyOrCertificate,
        ssh_key::private::{Ed25519Keypair, KeypairData},
    },
    server,
};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

use super::super::{
    figures::percentile,
    product::{SSH, cpu_seconds},
};

/// Who logs in.
pub const USER: &str = "root";
/// With what.
pub const PASSWORD: &str = "bench-walrus";
/// Sessions at a time.
pub const AT_ONCE: usize = 16;
/// What is run, and how what it says begins.
const COMMAND: (&str, &str) = ("uname -a", "Linux ");
/// A session that is not over by then is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// What sessions took.
#[derive(Default)]
pub struct Sessions {
    milliseconds: Vec<f64>,
    seconds: f64,
    /// Processor seconds of the server, of others beside it, of this program.
    spent: [f64; 3],
}

impl Sessions {
    /// Adds those of another time.
    pub fn add(&mut self, mut more: Sessions) {
        self.milliseconds.append(&mut more.milliseconds);
        self.seconds += more.seconds;
        for (to, from) in self.spent.iter_mut().zip(more.spent) {
            *to += from;
        }
    }

    /// How many.
    pub fn count(&self) -> f64 {
        self.milliseconds.len() as f64
    }

    /// How many a second.
    pub fn rate(&self) -> f64 {
        self.milliseconds.len() as f64 / self.seconds
    }

    /// How long so many percent of them took at most.
    pub fn percentile(&self, percent: f64) -> f64 {
        percentile(&mut self.milliseconds.clone(), percent)
    }

    /// Processor time of the server for one, in milliseconds.
    pub fn server_ms(&self) -> f64 {
        self.each(self.spent[0])
    }

    /// The same of others beside it.
    pub fn others_ms(&self) -> f64 {
        self.each(self.spent[1])
    }

    /// The same of this program.
    pub fn client_ms(&self) -> f64 {
        self.each(self.spent[2])
    }

    fn each(&self, seconds: f64) -> f64 {
        seconds * 1000.0 / self.milliseconds.len() as f64
    }
}

/// Holds sessions with these hosts for some time; `server` and `others` are the processes whose time is looked at.
pub async fn many(hosts: &[String], server: u32, others: &[u32], span: Duration) -> Result<Sessions> {
    let spent = || -> Result<[f64; 3]> {
        let others = others.iter().map(|pid| cpu_seconds(*pid)).sum::<Result<f64>>()?;
        Ok([cpu_seconds(server)?, others, cpu_seconds(std::process::id())?])
    };
    let before = spent()?;
    let began = Instant::now();
    let mut loops = JoinSet::new();
    for worker in 0..AT_ONCE {
        let hosts = hosts.to_vec();
        loops.spawn(async move {
            let mut times = Vec::new();
            for host in hosts.iter().cycle().skip(worker) {
                if began.elapsed() >= span {
                    break;
                }
                let asked = Instant::now();
                session(host).await?;
                times.push(asked.elapsed().as_secs_f64() * 1000.0);
            }
            anyhow::Ok(times)
        });
    }
    let mut milliseconds = Vec::new();
    while let Some(done) = loops.join_next().await {
        milliseconds.extend(done??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = spent()?;
    let spent = [after[0] - before[0], after[1] - before[1], after[2] - before[2]];
    Ok(Sessions { milliseconds, seconds, spent })
}

/// One session, from the connection to its end.
pub async fn session(host: &str) -> Result<()> {
    timeout(PATIENCE, whole_session(host)).await.with_context(|| format!("a session with {host} took too long"))?
}

async fn whole_session(host: &str) -> Result<()> {
    let config = client::Config { preferred: preferred(false), nodelay: true, ..client::Config::default() };
    let mut session = client::connect(Arc::new(config), host, Anybody).await?;
    let answer = session.authenticate_password(USER, PASSWORD).await?;
    ensure!(answer.success(), "{host} does not let {USER} in");
    let mut channel = session.channel_open_session().await?;
    let (command, begins) = COMMAND;
    channel.exec(true, command).await?;
    let mut said = Vec::new();
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => said.extend_from_slice(&data),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    ensure!(said.starts_with(begins.as_bytes()), "{host} said {}", String::from_utf8_lossy(&said));
    session.disconnect(Disconnect::ByApplication, "", "").await?;
    // However it ends, it is over.
    let _ = session.await;
    Ok(())
}

/// The algorithms that both servers have.
fn preferred(server: bool) -> Preferred {
    let strict = match server {
        true => kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        false => kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    };
    Preferred {
        kex: Cow::Owned(vec![kex::CURVE25519, kex::CURVE25519_PRE_RFC_8731, strict]),
        key: Cow::Owned(vec![Algorithm::Ed25519]),
        cipher: Cow::Owned(vec![cipher::CHACHA20_POLY1305]),
        ..Preferred::DEFAULT
    }
}

/// A client that believes every host.
struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// A server that does nothing but what a session needs.
struct Bare;

impl server::Handler for Bare {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<server::Auth, Self::Error> {
        Ok(match (user, password) {
            (USER, PASSWORD) => server::Auth::Accept,
            _ => server::Auth::reject(),
        })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<server::Msg>,
        reply: server::ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut server::Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        let says =
            b"Linux srv-07 6.1.0-18-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01) x86_64 GNU/Linux\n";
        session.data(channel, says.as_slice())?;
        session.exit_status_request(channel, 0)?;
        session.eof(channel)?;
        session.close(channel)
    }
}

/// Serves bare sessions until the process ends.
pub async fn serve() -> Result<()> {
    let key = KeypairData::from(Ed25519Keypair::from_seed(&[7; 32]));
    let config = Arc::new(server::Config {
        keys: vec![PrivateKey::new(key, "bench")?],
        preferred: preferred(true),
        auth_rejection_time_initial: Some(Duration::ZERO),
        nodelay: true,
        ..server::Config::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{SSH}{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let config = config.clone();
        tokio::spawn(async move {
            // A client that leaves is no concern of the others.
            if let Ok(session) = server::run_stream(config, stream, Bare).await {
                let _ = session.await;
            }
        });
    }
}
