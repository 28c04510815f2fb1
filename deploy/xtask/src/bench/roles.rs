//! What one operation costs each role and each store, where each role is a process of its own: the time of a processor
//! that the system says they used, less what they use when nobody asks for anything.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::{
    client::Client,
    deception::{self, Feed, Pace},
    evidence,
    figures::Figures,
    measure,
    product::{cpu_seconds, memory_mb},
};
use crate::{proc::Proc, tree, up::System};

/// Who ask at a time.
const CLIENTS: usize = 4;
/// Of each kind, before it is measured: statements are made, connections opened.
const WARM: usize = 20;
/// Bytes of a file of evidence.
const FILE: u64 = 1024 * 1024;
/// Readers of the stream of everything.
const READERS: usize = 200;
/// How long what follows from a load may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether anything still goes on.
const LOOK: Duration = Duration::from_millis(500);
/// What costs less than this part of an operation is not told.
const WORTH_TELLING: f64 = 0.01;

/// What people ask for.
#[derive(Clone, Copy)]
enum Request {
    Technique,
    Summary,
    Tests,
    SignIn,
    Validated,
    Evidence,
}

impl Request {
    const ALL: [(Request, &str); 6] = [
        (Request::SignIn, "sign-ins"),
        (Request::Validated, "tests from draft to validated, five requests each"),
        (Request::Tests, "pages of 50 tests"),
        (Request::Technique, "a technique, read"),
        (Request::Summary, "the summary of coverage, read"),
        (Request::Evidence, "files of 1 MiB as evidence"),
    ];
}

/// What requests are about.
struct Site {
    gateway: String,
    password: String,
    techniques: Vec<String>,
    /// Evidence is of this one.
    test: String,
    next: AtomicUsize,
}

impl Site {
    async fn ask(&self, request: Request, client: &mut Client) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match request {
            Request::Technique => drop(client.get_bytes("/api/v1/techniques/T1059.001").await?),
            Request::Summary => drop(client.get_bytes("/api/v1/metrics/summary").await?),
            Request::Tests => drop(client.get_bytes("/api/v1/tests?limit=50").await?),
            Request::SignIn => {
                let body = json!({ "username": "admin", "password": self.password });
                client.send("POST", "/api/v1/auth/login", Some(&body), 200).await?;
            }
            Request::Validated => {
                let technique = &self.techniques[number % self.techniques.len()];
                measure::validated(client, technique).await?;
            }
            Request::Evidence => {
                evidence::up(&self.gateway, client, &self.test, FILE, number as u64).await?;
            }
        }
        Ok(())
    }
}

/// Seconds of a processor, by who used them.
type Spent = BTreeMap<String, f64>;

/// The processes that are looked at.
struct Watched {
    first: Vec<(String, u32)>,
    /// In a second in which nobody asks for anything.
    idle: Spent,
}

impl Watched {
    fn spent(&self) -> Result<Spent> {
        let mut all = Spent::new();
        for (name, pid) in &self.first {
            let own = cpu_seconds(*pid).with_context(|| format!("{name} has ended"))?;
            // Of what it has started one may have ended meanwhile, which counts nothing: pools keep their connections
            // for longer than a load.
            let others: f64 = tree::members(*pid).into_iter().skip(1).filter_map(|pid| cpu_seconds(pid).ok()).sum();
            let seconds = own + others;
            *all.entry(name.clone()).or_default() += seconds;
        }
        Ok(all)
    }

    /// What was used since then.
    fn since(&self, before: &Spent) -> Result<Spent> {
        let now = self.spent()?;
        Ok(now.into_iter().map(|(name, seconds)| (name.clone(), seconds - before.get(&name).unwrap_or(&0.0))).collect())
    }

    /// Looks at what is used when nothing happens, and tells it.
    async fn rest(&mut self, load: Duration, figures: &mut Figures) -> Result<()> {
        let before = self.spent()?;
        sleep(load).await;
        self.idle = self.since(&before)?;
        self.idle.values_mut().for_each(|seconds| *seconds /= load.as_secs_f64());
        figures.add("processor time in a second without requests", self.idle.values().sum::<f64>() * 1e3, "ms", None);
        for (name, seconds) in &self.idle {
            figures.add(&format!("  {name}"), seconds * 1e3, "ms", None);
        }
        Ok(())
    }

    /// Waits until all that follows from a load is done.
    async fn quiet(&self) -> Result<()> {
        let began = Instant::now();
        let idle = self.idle.values().sum::<f64>() * LOOK.as_secs_f64();
        while began.elapsed() < PATIENCE {
            let before = self.spent()?;
            sleep(LOOK).await;
            // The clock of these times moves in steps of 10 ms.
            if self.since(&before)?.values().sum::<f64>() < idle * 1.5 + 0.02 {
                return Ok(());
            }
        }
        bail!("what followed from a load was not done within {} s", PATIENCE.as_secs())
    }

    /// Does `work`, which says how many operations it was, and tells how many that is a second and what each has cost.
    async fn of(&self, name: &str, work: impl Future<Output = Result<f64>>, figures: &mut Figures) -> Result<()> {
        self.quiet().await?;
        let (before, began) = (self.spent()?, Instant::now());
        let count = work.await?;
        let took = began.elapsed().as_secs_f64();
        self.quiet().await?;
        let whole = began.elapsed().as_secs_f64();
        let spent = self.since(&before)?;
        let each: Vec<(&String, f64)> = spent
            .iter()
            .map(|(name, seconds)| (name, (seconds - self.idle.get(name).unwrap_or(&0.0) * whole).max(0.0)))
            .map(|(name, seconds)| (name, seconds * 1e3 / count))
            .collect();
        let all: f64 = each.iter().map(|(_, ms)| ms).sum();
        figures.add(name, count / took, "a second", None);
        let (unit, times) = if all < 1.0 { ("µs", 1e3) } else { ("ms", 1.0) };
        figures.add("  processor time of one, all", all * times, unit, None);
        for (name, ms) in each.into_iter().filter(|(_, ms)| *ms >= all * WORTH_TELLING) {
            figures.add(&format!("  {name}"), ms * times, unit, None);
        }
        Ok(())
    }
}

/// Measures all of it.
pub async fn measure(system: &System, binary: &Path, logs: &Path, load: Duration, figures: &mut Figures) -> Result<()> {
    figures.begin("roles");
    let gateway = system.address("gateway")?.to_string();
    let deception = system.address("deception")?.to_string();
    let admin = sign_in(&gateway, system.admin_password()).await?;
    let key = deception::key(&admin).await?;
    let data = tempfile::tempdir()?;
    let sensor = start_sensor(binary, &deception, &key, data.path(), &logs.join("sensor.log"))?;
    deception::attached(&admin).await?;
    let mut watched = Watched { first: system.pids(), idle: Spent::new() };
    watched.first.push(("sensor".to_owned(), sensor.id()));
    sleep(Duration::from_secs(5)).await;
    watched.rest(load * 2, figures).await?;

    let site = Arc::new(site(gateway, system.admin_password(), &admin).await?);
    for (request, name) in Request::ALL {
        let mut first = admin.another().await?;
        for _ in 0..WARM {
            site.ask(request, &mut first).await?;
        }
        let clients = async {
            let began = Instant::now();
            let mut loops = JoinSet::new();
            for _ in 0..CLIENTS {
                let (site, mut client) = (Arc::clone(&site), admin.another().await?);
                loops.spawn(async move {
                    let mut count = 0.0;
                    while began.elapsed() < load {
                        site.ask(request, &mut client).await?;
                        count += 1.0;
                    }
                    anyhow::Ok(count)
                });
            }
            let mut count = 0.0;
            while let Some(done) = loops.join_next().await {
                count += done??;
            }
            Ok(count)
        };
        watched.of(name, clients, figures).await?;
    }
    events(&watched, &deception, &admin, load, figures).await?;
    sessions(&watched, &admin, sensor.id(), load, figures).await?;

    let memory = |pid: &u32| tree::members(*pid).into_iter().filter_map(|pid| memory_mb(pid, "RssAnon").ok()).sum();
    figures.add(
        "own memory after all this",
        watched.first.iter().map(|(_, pid)| -> f64 { memory(pid) }).sum(),
        "MB",
        None,
    );
    for (name, pid) in &watched.first {
        figures.add(&format!("  {name}"), memory(pid), "MB", None);
    }
    figures.note(
        "processor time is that of user and system together, of the process and of all that it has started, less what it \
         uses when nobody asks; what follows from a request (events, projections, notifications) is in it",
    );
    figures.note("the S3 store is in the process that measures, and is not told; nor is what clients need");
    Ok(())
}

async fn sign_in(gateway: &str, password: &str) -> Result<Client> {
    let mut client = Client::connect(gateway, None).await?;
    let body = json!({ "username": "admin", "password": password });
    let answer = client.send("POST", "/api/v1/auth/login", Some(&body), 200).await?;
    let token = answer["access_token"].as_str().context("login gave no token")?;
    Client::connect(gateway, Some(token.to_owned())).await
}

async fn site(gateway: String, password: &str, admin: &Client) -> Result<Site> {
    let listed = admin.another().await?.get("/api/v1/techniques?limit=600").await?;
    let listed = listed.as_array().context("the list of techniques is no array")?;
    let techniques: Vec<String> = listed.iter().filter_map(|row| Some(row["id"].as_str()?.to_owned())).collect();
    if techniques.is_empty() {
        bail!("there is no technique");
    }
    let test = evidence::make_test(admin).await?;
    Ok(Site { gateway, password: password.to_owned(), techniques, test, next: AtomicUsize::new(0) })
}

fn start_sensor(binary: &Path, deception: &str, key: &str, data: &Path, log: &Path) -> Result<Proc> {
    let _ = fs::remove_file(log);
    File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut command = Command::new(binary);
    command
        .arg("sensor")
        .env("AEGIS_DECEPTION_URL", format!("http://{deception}"))
        .env("AEGIS_SENSOR_TOKEN", key)
        .env("AEGIS_DATA_DIR", data);
    Proc::spawn_again("sensor", &mut command, log, Signal::TERM)
}

/// Events of decoys, first with nobody who watches, then with many.
async fn events(
    watched: &Watched,
    deception: &str,
    admin: &Client,
    load: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let feed = Feed::to(deception, admin).await?;
    feed.run(Pace::Steady { events: 100, ticks: 10 }, Duration::from_secs(2)).await?;
    let handed_in = async {
        let handed = feed.run(Pace::Steady { events: 250, ticks: 10 }, load).await?;
        Ok(handed.events as f64 / 1e3)
    };
    watched.of("thousands of events of decoys, stored, searchable and followed", handed_in, figures).await?;

    let readers = deception::open(admin, &feed, READERS, |_| String::new()).await?;
    let heard = || readers.iter().map(|reader| reader.heard.rows.load(Ordering::Relaxed)).sum::<u64>() as f64;
    let told = async {
        let before = heard();
        feed.run(Pace::Steady { events: 10, ticks: 10 }, load).await?;
        // What is told last is still on its way.
        sleep(Duration::from_secs(1)).await;
        Ok((heard() - before) / 1e3)
    };
    watched.of(&format!("thousands of events told to {READERS} readers"), told, figures).await
}

/// SSH sessions with decoys.
async fn sessions(watched: &Watched, admin: &Client, sensor: u32, load: Duration, figures: &mut Figures) -> Result<()> {
    let mut client = admin.another().await?;
    let mut ini = String::new();
    for number in 1..=4 {
        ini += &format!(
            "[bench-{number}]\nip = 127.77.9.{number}\nservices = ssh\nnmap_os = linux\n\n\
             [bench-{number}.ssh]\ncredentials = {}:{}\n\n",
            deception::SSH_USER,
            deception::SSH_PASSWORD
        );
    }
    client.send("POST", "/api/v1/deckies/deploy", Some(&json!({ "ini_content": ini })), 200).await?;
    let deckies = client.get("/api/v1/deckies?limit=1000").await?;
    let rows = deckies.as_array().context("the list of deckies is no array")?;
    let hosts: Vec<String> = rows.iter().filter_map(|row| Some(row["ports"]["ssh"].as_str()?.to_owned())).collect();
    for host in &hosts {
        deception::ssh_session(host).await.with_context(|| format!("the first session with {host}"))?;
    }
    let held = async {
        let sessions = deception::ssh_sessions(&hosts, sensor, &[], load).await?;
        Ok(sessions.count())
    };
    watched.of("SSH sessions with decoys", held, figures).await
}
