//! Five hundred deckies in one sensor: how long they take, what they need; then SSH sessions with some of them.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::time::sleep;

use super::{
    super::{
        client::Client,
        figures::Figures,
        home::Home,
        product::{Floor, PASSWORD, Product, child_of, memory_mb},
    },
    ssh::{self, Sessions},
};

const DECKIES: usize = 500;
/// What they serve, in turn.
const SERVICES: [&str; 6] = [
    "ssh,http,mysql",
    "ssh,ftp,smtp",
    "telnet,http,redis",
    "ssh,https,postgres",
    "mongodb,mqtt,elasticsearch",
    "ldap,snmp,vnc",
];
/// Of each decky.
const EACH: usize = 3;
/// Deckies that sessions are held with: the first with these services.
const HOSTS: usize = 4;
/// How long a sensor may take to attach.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures all of it.
pub async fn measure(home: &Home, load: Duration, figures: &mut Figures) -> Result<()> {
    let (product, _) = Product::start(home).await?;
    let admin = product.login("admin", PASSWORD).await?;
    attached(&admin).await?;
    let sensor = child_of(product.pid()?, "sensor")?;
    let mut client = admin.another().await?;
    figures.add("a sensor that hosts nothing", memory_mb(sensor, "VmRSS")?, "MB", None);

    let limit = json!({ "deployment_limit": DECKIES });
    client.send("PUT", "/api/v1/config/deployment-limit", Some(&limit), 200).await?;
    let began = Instant::now();
    let answer = client.send("POST", "/api/v1/deckies/deploy", Some(&json!({ "ini_content": ini() })), 200).await?;
    let took = began.elapsed().as_secs_f64();
    let deployed = answer["deckies"].as_array().map_or(0, Vec::len);
    if deployed != DECKIES {
        bail!("{deployed} deckies are new, not {DECKIES}");
    }
    figures.add("500 deckies with 3 services each deployed", took, "s", None);
    sleep(Duration::from_secs(5)).await;
    // The program's own pages count, though the product has them in memory too.
    figures.add("  the sensor that hosts them", memory_mb(sensor, "VmRSS")?, "MB", Some(("<", 300.0)));
    figures.add("  of that, its own memory", memory_mb(sensor, "RssAnon")?, "MB", None);
    let deckies = client.get("/api/v1/deckies?limit=1000").await?;
    let rows = deckies.as_array().context("the list of deckies is no array")?;
    let running = rows.iter().filter_map(|decky| decky["ports"].as_object()).map(serde_json::Map::len).sum::<usize>();
    figures.add("  services that run", running as f64, "services", Some((">", (DECKIES * EACH) as f64)));

    let hosts = rows.iter().filter_map(|decky| decky["ports"]["ssh"].as_str()).take(HOSTS).map(str::to_owned).collect();
    sessions(&product, sensor, hosts, load, figures).await?;
    figures.add("  the sensor after all of them", memory_mb(sensor, "VmRSS")?, "MB", None);
    product.stop().await
}

/// The deployment.
fn ini() -> String {
    let mut ini = String::from("[general]\nnet = 127.0.0.0/8\n");
    for number in 0..DECKIES {
        let services = SERVICES[number % SERVICES.len()];
        // Writing to a text does not fail.
        let _ =
            write!(ini, "\n[d{number:03}]\nip = 127.77.{}.{}\nservices = {services}\n", number / 250, number % 250 + 1);
        if services.starts_with("ssh") {
            // Its sessions run a command that Windows does not have.
            let _ =
                write!(ini, "nmap_os = linux\n\n[d{number:03}.ssh]\ncredentials = {}:{}\n", ssh::USER, ssh::PASSWORD);
        }
    }
    ini
}

/// Waits until there is a sensor.
pub async fn attached(admin: &Client) -> Result<()> {
    let mut client = admin.another().await?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let sensors = client.get("/api/v1/sensors").await?;
        if sensors.as_array().is_some_and(|sensors| sensors.iter().any(|sensor| sensor["attached"] == true)) {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    bail!("no sensor has attached")
}

/// Sessions with the decoys, then with a bare server.
async fn sessions(
    product: &Product,
    sensor: u32,
    hosts: Vec<String>,
    load: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let began = Instant::now();
    for host in &hosts {
        ssh::session(host).await.with_context(|| format!("the first session with {host}"))?;
    }
    let first = began.elapsed().as_secs_f64() / hosts.len() as f64;
    figures.add("the first SSH session with a decky, which makes its host keys", first, "s", None);

    let floor = Floor::ssh().await?;
    let bare_hosts = vec![floor.address.clone()];
    ssh::session(&floor.address).await.context("the first session with the bare server")?;
    let (bare_pid, others) = (floor.pid()?, [product.pid()?]);
    let (mut ours, mut bare) = (Sessions::default(), Sessions::default());
    // Twice, in turn, so that a busy moment of the machine meets both.
    for _ in 0..2 {
        bare.add(ssh::many(&bare_hosts, bare_pid, &[], load).await?);
        ours.add(ssh::many(&hosts, sensor, &others, load).await?);
    }
    floor.stop().await?;

    let name = format!("full SSH sessions a second, {} at once", ssh::AT_ONCE);
    figures.add(&name, ours.rate(), "sessions/s", Some((">", 150.0)));
    figures.add("  a session, p50", ours.percentile(50.0), "ms", None);
    figures.add("  a session, p99", ours.percentile(99.0), "ms", None);
    figures.add("  the sensor's processor time for one", ours.server_ms(), "ms", None);
    figures.add("  deception's, which stores what it tells", ours.others_ms(), "ms", None);
    figures.add("  that of this program, the client", ours.client_ms(), "ms", None);
    figures.add("  a bare russh server, the same session", bare.rate(), "sessions/s", None);
    figures.add("  its processor time for one", bare.server_ms(), "ms", None);
    figures.add("  ratio of processor times", bare.server_ms() / ours.server_ms() * 100.0, "%", None);
    figures.note(
        "a session: connect, curve25519-sha256 with an Ed25519 host key, chacha20-poly1305, password, `uname -a`, its \
         output to the end, disconnect; clients, sensor and product share the same processors",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_names_every_decky_once() {
        let ini = ini();
        assert_eq!(ini.matches("\nservices = ").count(), DECKIES);
        assert!(ini.len() < 512 * 1024 && ini.contains("[d499]\nip = 127.77.1.250\n"), "{ini}");
        assert!(SERVICES.iter().all(|services| services.split(',').count() == EACH));
    }
}
