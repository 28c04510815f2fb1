//! What analytics makes of the tests: scores, heatmaps, snapshots, compliance, times, reports. Each figure is reckoned
//! here once more, from the formulas and from what other routes say.

mod compliance;
mod figures;
mod heatmap;
mod reports;
mod scores;
mod snapshots;
mod steady;

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    conventions::{fresh, id},
    harness::{Answer, Api, Mode, Product, eventually},
};

const PATIENCE: Duration = Duration::from_secs(10);
/// Techniques that no other scenario has tests of.
const DETECTED: &str = "T1491.001";
const MISSED: &str = "T1491.002";
const WORSENED: &str = "T1561.001";
const IMPROVED: &str = "T1561.002";
const STEADY: &str = "T1489";
/// The tactic of all of them.
const TACTIC: &str = "impact";

/// Everyone who has a part in it. Nobody of them is in another scenario.
struct Team {
    admin: Api,
    red: Api,
    blue: Api,
    red_lead: Api,
    blue_lead: Api,
    viewer: Api,
}

/// When things happened, as people type it.
#[derive(Clone, Copy, Default)]
struct Times {
    executed: Option<&'static str>,
    detected: Option<&'static str>,
    contained: Option<&'static str>,
}

/// On the product that all share: it may have tests, rules, actors and controls already.
pub async fn scenario(product: &mut Product) {
    let team = Team::of(product).await;
    scores::of_two_tests(&team).await;
    scores::of_all(&team).await;
    scores::weights(&team).await;
    heatmap::layers(&team).await;
    heatmap::pictures(&team).await;
    snapshots::compared(&team).await;
    reports::defused(&team).await;
    if compliance::brought_in(&team).await {
        compliance::verdicts(&team).await;
        scores::of_an_actor(&team).await;
    }
    steady::dated(&team).await;
    steady::rebuilt(product, &team).await;
    product.assert_alive();
}

/// On a product of its own, where nothing has happened yet. (A second product of many processes would take the first
/// one's database, so it is of one process.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_of_a_new_product() {
    let mut product = Product::start(Mode::Embedded).await;
    let team = Team::of(&mut product).await;
    figures::of_nothing(&team).await;
    figures::of_typed_times(&team).await;
    reports::of_few(&team).await;
    scores::plan(&team).await;
    if let Some(data) = aegis_testkit::data_dir() {
        compliance::sync(&team, &data).await;
        scores::of_two_tests(&team).await;
        scores::of_all(&team).await;
        scores::of_an_actor(&team).await;
        compliance::verdicts(&team).await;
        heatmap::other_domains(&team).await;
    }
    steady::dated(&team).await;
    steady::rebuilt(&mut product, &team).await;
    product.assert_alive();
}

impl Team {
    async fn of(product: &mut Product) -> Team {
        Team {
            red: product.user("red_tech", "figures-red").await,
            blue: product.user("blue_tech", "figures-blue").await,
            red_lead: product.user("red_lead", "figures-red-lead").await,
            blue_lead: product.user("blue_lead", "figures-blue-lead").await,
            viewer: product.user("viewer", "figures-viewer").await,
            admin: product.admin().await,
        }
    }

    async fn get(&self, path: &str) -> Value {
        self.viewer.get(path).await.json(200)
    }

    async fn technique(&self, mitre_id: &str) -> Value {
        self.get(&format!("/techniques/{mitre_id}")).await
    }

    async fn score(&self, mitre_id: &str) -> Value {
        self.get(&format!("/scores/technique/{mitre_id}")).await
    }

    /// A draft of the red technician.
    async fn draft(&self, mitre_id: &str, platform: Option<&str>) -> String {
        let name = format!("Figures {}", fresh());
        self.draft_named(mitre_id, platform, &name).await
    }

    async fn draft_named(&self, mitre_id: &str, platform: Option<&str>, name: &str) -> String {
        let technique = self.technique(mitre_id).await["id"].clone();
        let body = json!({"technique_id": technique, "name": name, "platform": platform});
        id(&self.red.post("/tests", &body).await)
    }

    /// Walks a draft through the workflow until both leads have voted. Gives it as it is then.
    async fn validate(&self, test: &str, result: &str, times: Times) -> Value {
        let path = |name: &str| format!("/tests/{test}/{name}");
        self.red.act(&path("start-execution")).await.json(200);
        let said = json!({"attack_success": true, "red_summary": "It ran", "executed_at": times.executed});
        self.red.patch(&path("red"), &said).await.json(200);
        self.red.act(&path("submit-red")).await.json(200);
        let said = json!({
            "detection_result": result, "blue_summary": "Looked", "detected_at": times.detected,
            "contained_at": times.contained
        });
        self.blue.patch(&path("blue"), &said).await.json(200);
        self.blue.act(&path("submit-blue")).await.json(200);
        self.red_lead.post(&path("validate-red"), &json!({"red_validation_status": "approved"})).await.json(200);
        let done =
            self.blue_lead.post(&path("validate-blue"), &json!({"blue_validation_status": "approved"})).await.json(200);
        assert_eq!(done["state"], "validated", "{done}");
        done
    }

    /// A new test of a technique that is validated with this result.
    async fn validated(&self, mitre_id: &str, platform: Option<&str>, result: &str) -> Value {
        let test = self.draft(mitre_id, platform).await;
        self.validate(&test, result, Times::default()).await
    }

    /// Waits until the summary, which follows the catalogue, and the scores, which follow the tests, say this status.
    async fn status(&self, mitre_id: &str, status: &str) {
        eventually(&format!("{mitre_id} is {status}"), PATIENCE, || async {
            let score = self.score(mitre_id).await;
            if score["status"] == status { Ok(()) } else { Err(score.to_string()) }
        })
        .await;
    }
}

/// A number of an answer.
#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// An array of an answer.
#[track_caller]
fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no array: {value}"))
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Equal, up to what rounding to `step` twice can do.
#[track_caller]
fn close(found: f64, expected: f64, step: f64, what: &str) {
    assert!((found - expected).abs() <= step + 1e-9, "{what}: {found}, not {expected}");
}

/// The moment of the `X-As-Of` header.
#[track_caller]
fn as_of(answer: &Answer) -> chrono::DateTime<chrono::Utc> {
    let header = answer.header("x-as-of");
    assert!(header.ends_with('Z'), "X-As-Of is {header:?}: {answer}");
    header.parse().unwrap_or_else(|e| panic!("X-As-Of is {header:?} ({e}): {answer}"))
}
