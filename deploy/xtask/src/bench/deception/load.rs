//! Events coming in as fast as is asked, and faster; how soon those who watch see them; 2,000 who watch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    super::{
        client::Client,
        figures::{Figures, grouped, percentile},
        home::Home,
        product::{PASSWORD, Product, cpu_seconds},
        seed,
    },
    intake::{self, BATCH, Sensor},
    sample::{self, Event},
    stream::{self, Look, Reader, Whose},
};

/// Events a second that are asked for.
const ASKED: (u64, u64) = (20_000, 30_000);
/// Sensors that hand in at a time.
const SENSORS: u64 = 2;
/// Attackers that these events are of.
const ATTACKERS: u64 = 500;
/// How often a second a sensor hands in what happened.
const TICKS: u64 = 20;
/// Who watches at a time.
const READERS: usize = 2_000;
/// Readers that connect at a time.
const OPENING: usize = 16;
/// How long to wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where events are handed in, and which come next.
#[derive(Clone)]
pub struct Feed {
    address: String,
    key: String,
    epoch: Instant,
    /// Microseconds since 1970.
    began: i64,
    next: Arc<AtomicU64>,
    sensors: Arc<AtomicU64>,
}

/// How events come.
#[derive(Clone, Copy)]
pub enum Pace {
    /// So many of each sensor, so often a second.
    Steady { events: usize, ticks: u64 },
    /// As many as are taken.
    Full,
}

/// What was handed in, acknowledged, and how long that took.
pub struct Handed {
    pub events: u64,
    seconds: f64,
}

impl Handed {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

impl Feed {
    /// To who listens at this address.
    pub async fn to(address: &str, admin: &Client) -> Result<Feed> {
        let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros();
        Ok(Feed {
            address: address.to_owned(),
            key: intake::key(admin).await?,
            epoch: Instant::now(),
            began: i64::try_from(began)?,
            next: Arc::default(),
            sensors: Arc::default(),
        })
    }

    async fn sensor(&self) -> Result<Sensor> {
        Sensor::attach(&self.address, &self.key, self.sensors.fetch_add(1, Ordering::Relaxed)).await
    }

    /// The next events, which happen now.
    fn batch(&self, count: usize) -> Vec<Event> {
        let first = self.next.fetch_add(count as u64, Ordering::Relaxed);
        let elapsed = self.epoch.elapsed().as_micros() as u64;
        let at = self.began + elapsed as i64;
        (first..first + count as u64).map(|number| sample::event(number, at, ATTACKERS, elapsed)).collect()
    }

    /// Hands events in for some time.
    pub async fn run(&self, pace: Pace, span: Duration) -> Result<Handed> {
        let mut sensors = JoinSet::new();
        let before = self.next.load(Ordering::Relaxed);
        let mut ready = Vec::new();
        for _ in 0..SENSORS {
            ready.push(self.sensor().await?);
        }
        let began = Instant::now();
        for mut sensor in ready {
            let feed = self.clone();
            sensors.spawn(async move {
                match pace {
                    Pace::Full => {
                        while began.elapsed() < span {
                            sensor.ready().await?;
                            sensor.hand_in(feed.batch(BATCH)).await?;
                        }
                    }
                    Pace::Steady { events, ticks } => {
                        for turn in 0.. {
                            let due = Duration::from_secs_f64(turn as f64 / ticks as f64);
                            if due >= span {
                                break;
                            }
                            sleep_until((began + due).into()).await;
                            sensor.ready().await?;
                            sensor.hand_in(feed.batch(events)).await?;
                        }
                    }
                }
                sensor.settle().await
            });
        }
        let mut last = began;
        while let Some(done) = sensors.join_next().await {
            last = last.max(done??);
        }
        let events = self.next.load(Ordering::Relaxed) - before;
        Ok(Handed { events, seconds: (last - began).as_secs_f64() })
    }

    /// One event of an attacker whom nobody has seen before.
    async fn one(&self, attacker_ip: &str) -> Result<()> {
        let mut batch = self.batch(1);
        batch.iter_mut().for_each(|event| event.attacker_ip = attacker_ip.to_owned());
        let mut sensor = self.sensor().await?;
        sensor.hand_in(batch).await?;
        sensor.settle().await?;
        Ok(())
    }
}

/// Measures all of it, and leaves what came in.
pub async fn measure(home: &Home, load: Duration, figures: &mut Figures) -> Result<()> {
    let (product, _) = Product::start(home).await?;
    let admin = product.login("admin", PASSWORD).await?;
    let feed = Feed::to(&product.address, &admin).await?;
    let asked = if home.is_postgres() { ASKED.1 } else { ASKED.0 };
    // Statements are made, pages are mapped.
    feed.run(Pace::Steady { events: 100, ticks: TICKS }, Duration::from_secs(2)).await?;

    steady(&product, &admin, &feed, asked, load * 4, figures).await?;
    crowd(&product, &admin, &feed, asked, figures).await?;
    let rate = full(&product, &feed, asked, load * 2, figures).await?;
    product.stop().await?;
    floor(home, load, rate, figures).await
}

/// At the rate that is asked for, and one who watches everything.
async fn steady(
    product: &Product,
    admin: &Client,
    feed: &Feed,
    asked: u64,
    span: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let reader = stream::read(&Whose::of(admin)?, "", feed.epoch, Look::Each).await?;
    begun(std::slice::from_ref(&reader)).await?;
    let (pid, own) = (product.pid()?, std::process::id());
    let before = (cpu_seconds(pid)?, cpu_seconds(own)?);
    let pace = Pace::Steady { events: usize::try_from(asked / SENSORS / TICKS)?, ticks: TICKS };
    let handed = feed.run(pace, span).await?;
    let spent = (cpu_seconds(pid)? - before.0, cpu_seconds(own)? - before.1);
    got(std::slice::from_ref(&reader), handed.events).await?;

    let kept = Some((">", asked as f64 * 0.98));
    figures.add(
        &format!("events handed in at {} a second", grouped(usize::try_from(asked)?)),
        handed.rate(),
        "events/s",
        kept,
    );
    let mut late = reader.heard.take_late();
    figures.add("  from handed in to the stream, p50", percentile(&mut late, 50.0), "ms", None);
    figures.add("  from handed in to the stream, p99", percentile(&mut late, 99.0), "ms", Some(("<", 200.0)));
    figures.add("  longest", percentile(&mut late, 100.0), "ms", None);
    let each = |seconds: f64| seconds * 1e6 / handed.events as f64;
    figures.add("  the product's processor time, 1,000 events", each(spent.0), "ms", None);
    figures.add("  that of this program, which hands in and reads", each(spent.1), "ms", None);
    drop(reader);

    let took = profile(admin, feed, "192.0.2.77").await?;
    figures.add("  attackers are up to date after it, s", took, "s", None);
    let took = profile(admin, feed, "192.0.2.78").await?;
    figures.add("a new attacker has a profile after", took, "s", Some(("<", 2.0)));
    Ok(())
}

/// Seconds from an event of a new attacker until the attacker is listed.
async fn profile(admin: &Client, feed: &Feed, ip: &str) -> Result<f64> {
    let mut client = admin.another().await?;
    let began = Instant::now();
    feed.one(ip).await?;
    while began.elapsed() < PATIENCE {
        let page = client.get(&format!("/api/v1/attackers?limit=1&search=attacker:{ip}")).await?;
        if page["total"] == 1 {
            return Ok(began.elapsed().as_secs_f64());
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("the attacker {ip} never had a profile")
}

/// Many who watch: all of everything, then each one decky at the full rate.
async fn crowd(product: &Product, admin: &Client, feed: &Feed, asked: u64, figures: &mut Figures) -> Result<()> {
    let many = grouped(READERS);
    let idle = product.memory_mb("RssAnon")?;
    let readers = open(admin, feed, READERS, |_| String::new()).await?;
    let load = feed.run(Pace::Steady { events: 5, ticks: 10 }, Duration::from_secs(10));
    let (handed, peak) = product.peak_mb(load).await?;
    let full = got(&readers, handed.events).await.unwrap_or_default();
    let name = format!("{many} readers of everything: got all");
    figures.add(&name, full as f64, "readers", Some((">", READERS as f64)));
    figures.add("  events handed in meanwhile", handed.rate(), "events/s", None);
    let mut late: Vec<f64> = readers.iter().flat_map(|reader| reader.heard.take_late()).collect();
    figures.add("  from handed in to the stream, p99", percentile(&mut late, 99.0), "ms", Some(("<", 200.0)));
    figures.add("  memory above idle", peak - idle, "MB", None);
    drop(readers);
    sleep(Duration::from_secs(2)).await;

    let readers = open(admin, feed, READERS, |number| format!("?search=decky:decky-{:03}", number % 500)).await?;
    let pace = Pace::Steady { events: usize::try_from(asked / SENSORS / TICKS)?, ticks: TICKS };
    let (handed, peak) = product.peak_mb(feed.run(pace, Duration::from_secs(10))).await?;
    sleep(Duration::from_secs(1)).await;
    let stayed = readers.iter().filter(|reader| !reader.heard.ended.load(Ordering::Relaxed)).count();
    let name = format!("{many} readers of one decky each: events handed in");
    figures.add(&name, handed.rate(), "events/s", None);
    figures.add("  readers that were not let go", stayed as f64, "readers", None);
    let mut late: Vec<f64> = readers.iter().flat_map(|reader| reader.heard.take_late()).collect();
    figures.add("  from handed in to the stream, p99", percentile(&mut late, 99.0), "ms", None);
    figures.add("  memory above idle", peak - idle, "MB", None);
    figures.note(
        "2,000 readers of everything at the full rate would be 20 GB/s of JSON: they read everything at 100 events/s, and \
         one decky each at the full rate; readers are of this program, on the same processors",
    );
    drop(readers);
    sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Opens many streams, and waits until each has begun.
pub async fn open(admin: &Client, feed: &Feed, many: usize, query: impl Fn(usize) -> String) -> Result<Vec<Reader>> {
    let room = Arc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    let whose = Whose::of(admin)?;
    for number in 0..many {
        let (room, query, epoch) = (Arc::clone(&room).acquire_owned().await?, query(number), feed.epoch);
        let whose = whose.clone();
        opening.spawn(async move {
            let reader = stream::read(&whose, &query, epoch, Look::First).await;
            drop(room);
            reader
        });
    }
    let mut readers = Vec::with_capacity(many);
    while let Some(reader) = opening.join_next().await {
        readers.push(reader??);
    }
    begun(&readers).await?;
    Ok(readers)
}

/// Waits until all of them have heard what there was.
async fn begun(readers: &[Reader]) -> Result<()> {
    let began = Instant::now();
    while !readers.iter().all(|reader| reader.heard.begun.load(Ordering::Relaxed)) {
        if began.elapsed() > PATIENCE {
            bail!("not all streams have begun");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Waits until all of them have so many events; how many have, when nothing comes any more.
async fn got(readers: &[Reader], events: u64) -> Result<usize> {
    let rows = || readers.iter().map(|reader| reader.heard.rows.load(Ordering::Relaxed));
    let mut last = (0, Instant::now());
    loop {
        if rows().all(|rows| rows == events) {
            return Ok(readers.len());
        }
        let all = rows().sum::<u64>();
        if all != last.0 {
            last = (all, Instant::now());
        }
        if last.1.elapsed() > Duration::from_secs(10) {
            let full = rows().filter(|rows| *rows == events).count();
            if readers.len() == 1 {
                bail!("the stream has {all} of {events} events");
            }
            return Ok(full);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// As many as are taken.
async fn full(product: &Product, feed: &Feed, asked: u64, span: Duration, figures: &mut Figures) -> Result<f64> {
    let (pid, own) = (product.pid()?, std::process::id());
    let before = (cpu_seconds(pid)?, cpu_seconds(own)?);
    let (handed, peak) = product.peak_mb(feed.run(Pace::Full, span)).await?;
    let spent = (cpu_seconds(pid)? - before.0, cpu_seconds(own)? - before.1);
    let name = format!("events stored and acknowledged, {SENSORS} sensors, as many as go in");
    figures.add(&name, handed.rate(), "events/s", Some((">", asked as f64)));
    let each = |seconds: f64| seconds * 1e6 / handed.events as f64;
    figures.add("  the product's processor time, 1,000 events", each(spent.0), "ms", None);
    figures.add("  that of this program, which hands in", each(spent.1), "ms", None);
    figures.add("  most memory of the product meanwhile", peak, "MB", None);
    Ok(handed.rate())
}

/// A bare program writes the same rows into the same kind of store.
async fn floor(home: &Home, span: Duration, ours: f64, figures: &mut Figures) -> Result<()> {
    /// As many as the product puts into one transaction.
    const AT_ONCE: u64 = 20_000;
    let mut writer = seed::Bare::open(home).await?;
    let (mut rows, mut took) = (0, Duration::ZERO);
    while took < span {
        let events: Vec<Event> = (rows..rows + AT_ONCE).map(|n| sample::event(n, n as i64, ATTACKERS, n)).collect();
        let began = Instant::now();
        writer.write(rows + 1, &events).await.context("the floor of intake")?;
        took += began.elapsed();
        rows += AT_ONCE;
    }
    writer.close().await?;
    let bare = rows as f64 / took.as_secs_f64();
    let how = if home.is_postgres() { "COPY" } else { "INSERT into a file with WAL and fsync" };
    figures.add(&format!("  the same rows by a bare {how}"), bare, "events/s", None);
    figures.add("  ratio", ours / bare * 100.0, "%", None);
    figures.note("the bare program writes rows of events that it has in memory: it decodes, tags and indexes nothing");
    Ok(())
}
