//! What the workflow does not let happen, and what it does by itself: moves, bulk changes, retests, campaigns, evidence.

mod campaigns;
mod evidence;
mod moves;

use serde_json::json;

use crate::{
    conventions::{fresh, id},
    harness::{Api, Product},
};

/// Techniques that no other scenario has tests of.
const MOVED: &str = "T1082";
const RETESTED: &str = "T1083";
const CAMPAIGN: &str = "T1087";
const PROVED: &str = "T1105";

/// Everyone who has a part in it. Nobody of them is in another scenario.
struct Team {
    admin: Api,
    red: Api,
    blue: Api,
    red_lead: Api,
    other_red_lead: Api,
    blue_lead: Api,
    viewer: Api,
}

pub async fn scenario(product: &mut Product) {
    let team = Team {
        red: product.user("red_tech", "flow-red").await,
        blue: product.user("blue_tech", "flow-blue").await,
        red_lead: product.user("red_lead", "flow-red-lead").await,
        other_red_lead: product.user("red_lead", "flow-red-lead-2").await,
        blue_lead: product.user("blue_lead", "flow-blue-lead").await,
        viewer: product.user("viewer", "flow-viewer").await,
        admin: product.admin().await,
    };
    moves::refused(&team).await;
    moves::two_leads_at_once(&team).await;
    moves::gone(&team).await;
    moves::long_texts(&team).await;
    moves::all_or_nothing(&team).await;
    moves::tested_again(&team).await;
    campaigns::schedules(&team).await;
    campaigns::runs(&team).await;
    evidence::names(&team).await;
    evidence::parts_and_links(product, &team).await;
    evidence::removed(&team).await;
    evidence::verified(product, &team).await;
    let verdict = team.admin.get("/audit-logs/verify").await.json(200);
    assert_eq!(verdict["valid"], true, "{verdict}");
    product.assert_alive();
}

impl Team {
    /// A draft of the red technician.
    async fn draft(&self, mitre_id: &str) -> String {
        let technique = self.admin.get(&format!("/techniques/{mitre_id}")).await.json(200)["id"].clone();
        let body = json!({"technique_id": technique, "name": format!("Workflow {}", fresh()), "platform": "linux"});
        id(&self.red.post("/tests", &body).await)
    }

    /// A draft that went as far as this.
    async fn test_in(&self, mitre_id: &str, state: &str) -> String {
        let test = self.draft(mitre_id).await;
        self.bring(&test, state).await;
        test
    }

    /// Brings a draft as far as this.
    async fn bring(&self, test: &str, state: &str) {
        let path = |name: &str| format!("/tests/{test}/{name}");
        let way = ["draft", "red_executing", "blue_evaluating", "in_review"];
        let steps = way.iter().position(|step| *step == state).unwrap_or(way.len() - 1);
        for name in &["start-execution", "submit-red", "submit-blue"][..steps] {
            let who = if *name == "submit-blue" { &self.blue } else { &self.red };
            who.act(&path(name)).await.json(200);
        }
        let reached = match state {
            "validated" => self.admin.post(&path("validate"), &json!({"result": "detected"})).await.json(200),
            "rejected" => self.admin.act(&path("reject")).await.json(200),
            _ => self.admin.get(&format!("/tests/{test}")).await.json(200),
        };
        assert_eq!(reached["state"], state, "{reached}");
    }
}
