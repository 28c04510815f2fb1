//! Documentation pages that work without a network, and the probes.

use serde_json::Value;

use crate::harness::{Api, Product};

pub async fn scenario(product: &mut Product) {
    let nobody = product.anonymous();
    document(&nobody).await;
    for page in ["docs", "redoc"] {
        self_contained(&nobody, page).await;
    }
    probes(product).await;
}

async fn document(nobody: &Api) {
    let answer = nobody.get("//openapi.json").await;
    let document = answer.json(200);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{}", document["openapi"]);
    assert!(answer.header("content-type").starts_with("application/json"));
    // Every reference leads somewhere.
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads outside"));
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => references.push(text.clone()),
                    _ => collect(value, references),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

/// The page and everything that it loads come from the product itself.
async fn self_contained(nobody: &Api, page: &str) {
    let mut place = url::Url::parse(&format!("{}/{page}", nobody.base)).unwrap();
    let mut answer = nobody.get(place.as_str()).await;
    if matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        place = place.join(&answer.header("location")).unwrap();
        answer = nobody.get(place.as_str()).await;
    }
    assert_eq!(answer.status, 200, "{answer}");
    assert!(answer.header("content-type").starts_with("text/html"), "{page}: {:?}", answer.headers);
    let html = String::from_utf8(answer.body).unwrap();
    let mut loaded = 0;
    for attribute in ["src=\"", "src='", "href=\"", "href='", "spec-url=\"", "spec-url='"] {
        let quote = attribute.chars().last().unwrap();
        for rest in html.split(attribute).skip(1) {
            let link = rest.split(quote).next().unwrap();
            if link.starts_with('#') || link.starts_with("data:") {
                continue;
            }
            let target = place.join(link).unwrap();
            assert_eq!(target.origin(), place.origin(), "/{page} loads {link}");
            let got = nobody.get(target.as_str()).await;
            assert_eq!(got.status, 200, "/{page} loads {link}");
            loaded += 1;
        }
    }
    assert!(loaded > 0, "/{page} loads nothing: {html}");
    for outside in ["<script src=\"http", "<script src='http", "@import", "fonts.googleapis", "cdn."] {
        assert!(!html.contains(outside), "/{page} has {outside}");
    }
}

async fn probes(product: &Product) {
    let nobody = product.anonymous();
    for name in product.processes() {
        let address = product.address_of(name);
        assert_eq!(nobody.get(&format!("{address}/livez")).await.status, 200, "{name}");
        let ready = nobody.get(&format!("{address}/readyz")).await.json(200);
        assert_eq!(ready["ready"], true, "{name}: {ready}");
        let metrics = nobody.get(&format!("{address}/metrics")).await;
        assert_eq!(metrics.status, 200, "{name}");
        let text = String::from_utf8(metrics.body).unwrap();
        assert!(text.lines().any(|line| line.starts_with("# TYPE ")), "{name} has no metrics: {text}");
    }
}
