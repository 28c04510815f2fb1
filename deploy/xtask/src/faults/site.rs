//! The people who work while things happen, and what they work with.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::client::{Ask, Client};
use super::journal::VERDICTS;
use super::world::World;
use crate::ports;

/// Of everybody but the administrator.
pub const PASSWORD: &str = "faults-9-Walrus-rides";

/// One of them.
#[derive(Clone, Debug)]
pub struct Person {
    /// With a token.
    pub client: Client,
    /// Its name.
    pub username: &'static str,
    /// Its id.
    pub id: String,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Site {
    /// Who may do everything.
    pub admin: Person,
    /// Makes tests.
    pub red: Person,
    /// Comments and submits.
    pub blue: Person,
    /// Is told.
    pub red_lead: Person,
    /// Is told.
    pub blue_lead: Person,
    /// Signs in again and again.
    pub visitor: Person,
    /// ATT&CK id and id of those that tests are of: as many for each case as there are verdicts.
    pub techniques: Vec<(String, String)>,
    /// Of whom the lines of other honeypots tell.
    pub attacker: String,
    /// A file that is there from the beginning.
    pub evidence: String,
    /// Where a decoy of ours speaks HTTP.
    pub decoy: Option<SocketAddr>,
}

impl Site {
    /// The same with techniques and an attacker that no other case has, so that what is known of them tells of this one.
    pub fn of_case(&self, number: usize) -> Site {
        let skipped = number * VERDICTS.len();
        let techniques = self.techniques.iter().skip(skipped).take(VERDICTS.len()).cloned().collect();
        Site { techniques, attacker: format!("2001:db8::{:x}", number + 1), ..self.clone() }
    }
}

/// The people of the product of many processes, with a sensor and a decoy, and what so many cases need.
pub async fn settle(world: &mut World, cases: usize) -> Result<Site> {
    let mut site = people(world.gateway(), &world.password.clone(), cases).await?;
    let admin = site.admin.client.clone();
    let wish = json!({"name": "faults", "role": "sensor"});
    let key = admin.must(&Ask::post(format!("/users/{}/api-keys", site.admin.id), &wish)).await?;
    world.start_sensor(key["key"].as_str().context("an API key has no text")?)?;
    let since = Instant::now();
    let attached = |sensors: &Value| rows(sensors).iter().any(|sensor| sensor["attached"] == true);
    while !attached(&admin.must(&Ask::get("/sensors")).await?) {
        if since.elapsed() > Duration::from_secs(60) {
            bail!("the sensor is not attached after a minute");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // An address of the loopback network that hardly anybody else uses.
    let port = ports::free()?;
    let ini = format!("[bait]\nip = 127.77.{}.{}\nservices = http\n", port / 256, port % 256);
    admin
        .must(&Ask::post("/deckies/deploy", &json!({"ini_content": ini})))
        .await
        .context("no decoy can be deployed")?;
    let decky = admin.must(&Ask::get("/deckies/bait")).await?;
    let address = decky["ports"]["http"].as_str().with_context(|| format!("the decoy has no HTTP: {decky}"))?;
    site.decoy = Some(address.parse()?);
    Ok(site)
}

/// Signs everybody in, after making who is not there, and finds what so many cases need.
pub async fn people(gateway: SocketAddr, password: &str, cases: usize) -> Result<Site> {
    let nobody = Client { address: gateway, token: None };
    let admin = sign_in(&nobody, "admin", password).await?;
    let mut made = Vec::new();
    for (username, role) in [
        ("faults-red", "red_tech"),
        ("faults-blue", "blue_tech"),
        ("faults-red-lead", "red_lead"),
        ("faults-blue-lead", "blue_lead"),
        ("faults-visitor", "viewer"),
    ] {
        let wish = json!({"username": username, "password": PASSWORD, "role": role});
        admin.client.must(&Ask::post("/users", &wish)).await?;
        made.push(sign_in(&nobody, username, PASSWORD).await?);
    }
    let [red, blue, red_lead, blue_lead, visitor] =
        <[Person; 5]>::try_from(made).map_err(|_| anyhow::anyhow!("five people"))?;
    // One more for the test that is there from the beginning.
    let wanted = cases * VERDICTS.len() + 1;
    let unknown = format!("/techniques?status=not_evaluated&sort=mitre_id&limit={wanted}");
    let mut techniques = Vec::new();
    for row in rows(&admin.client.must(&Ask::get(unknown)).await?) {
        techniques.push((text(&row, "mitre_id")?, text(&row, "id")?));
    }
    ensure!(techniques.len() == wanted, "{wanted} techniques are needed, the catalogue has {}", techniques.len());
    let (_, technique) = techniques.pop().context("the catalogue is empty")?;
    let test = json!({"technique_id": technique, "name": "there from the beginning", "platform": "linux"});
    let test = red.client.must(&Ask::post("/tests", &test)).await?;
    let path = format!("/tests/{}/evidence", text(&test, "id")?);
    let file = red.client.must(&Ask::upload(path, "first.txt", b"there from the beginning")).await?;
    let evidence = text(&file, "id")?;
    let attacker = String::new();
    Ok(Site { admin, red, blue, red_lead, blue_lead, visitor, techniques, attacker, evidence, decoy: None })
}

async fn sign_in(nobody: &Client, username: &'static str, password: &str) -> Result<Person> {
    let body = json!({"username": username, "password": password});
    let answer = nobody.must(&Ask::post("/auth/login", &body)).await?;
    let client = nobody.with_token(&text(&answer, "access_token")?);
    let id = text(&client.must(&Ask::get("/auth/me")).await?, "id")?;
    Ok(Person { client, username, id })
}

/// A text of a document.
pub fn text(value: &Value, field: &str) -> Result<String> {
    Ok(value[field].as_str().with_context(|| format!("no {field} in {value}"))?.to_owned())
}

/// The rows of a list, bare or in an envelope.
pub fn rows(value: &Value) -> Vec<Value> {
    value
        .as_array()
        .or_else(|| value["items"].as_array())
        .or_else(|| value["data"].as_array())
        .cloned()
        .unwrap_or_default()
}
