//! One trace from a change over REST, through gRPC and the bus, to all projections.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Api, Kind, Mode, PASSWORD, Product, Span, eventually, send, spans};

const ROUTE: &str = "/api/v1/tests";
const RPC: &str = "aegis.testing.v1.TestingService/CreateTest";
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn scenario(product: &mut Product) {
    let red = product.someone("red_tech").await;
    let admin = product.admin().await;
    let technique = admin.get("/techniques/T1190").await.json(200)["id"].clone();
    let me = red.get("/auth/me").await.json(200)["id"].as_str().unwrap().to_owned();

    let trace = Traced::new();
    let body = json!({"technique_id": technique, "name": "Traced", "platform": "linux"});
    let created = trace.send(red.request(Method::POST, "/tests").json(&body)).await;
    let test = created.json(201)["id"].as_str().unwrap().to_owned();
    let answered = created.header("traceparent");
    assert!(answered.starts_with(&format!("00-{}-", trace.id)) && answered.ends_with("-01"), "{answered}");

    // Everyone who hears of it, in both ways that there are.
    let wanted: BTreeSet<(&str, &str)> = [
        ("analytics", "testing.test.changed"),
        ("identity", "testing.test.changed"),
        ("evidence", "testing.test.changed"),
        ("catalog", "testing.test.changed"),
        ("identity", "audit.recorded"),
    ]
    .into();
    let all = eventually("all consumers are in the trace", PATIENCE, || async {
        let all = trace.spans();
        let heard: BTreeSet<(&str, &str)> = all
            .iter()
            .filter(|span| span.kind == Kind::Consumer)
            .map(|span| (span.get("messaging.consumer.group.name"), span.get("messaging.destination.name")))
            .collect();
        // Of several processes each sends its spans when it likes, and what is around others ends after them.
        let around = ["POST /api/v1/tests", "transaction", "publish testing.test.changed", "publish audit.recorded"];
        let whole = around.iter().all(|name| all.iter().any(|span| span.name == *name));
        match whole && served(&all) && heard.is_superset(&wanted) {
            true => Ok(all.clone()),
            false => Err(format!("{heard:?} of {}", told(&all))),
        }
    })
    .await;
    chain(product, &trace, &all, &created, &me);

    // What a service refuses is seen too, and is no failure of it.
    let refused = Traced::new();
    let viewer = product.someone("viewer").await;
    refused.send(viewer.request(Method::POST, "/tests").json(&body)).await.error(403, "FORBIDDEN");
    let all = eventually("the refusal is in its trace", PATIENCE, || async {
        let all = refused.spans();
        match served(&all) && all.iter().any(|span| span.name == format!("POST {ROUTE}")) {
            true => Ok(all),
            false => Err(told(&all)),
        }
    })
    .await;
    let rpc = one(&all, |span| span.name == RPC && span.kind == Kind::Server);
    assert_eq!(rpc.get("rpc.response.status_code"), "PERMISSION_DENIED", "{rpc:?}");
    assert!(!rpc.failed, "{rpc:?}");
    let request = one(&all, |span| span.name == format!("POST {ROUTE}"));
    assert_eq!(request.get("http.response.status_code"), "403", "{request:?}");

    trace.send(red.request(Method::DELETE, &format!("/tests/{test}"))).await;
    no_secrets(product, &[&red, &admin, &viewer]);
    product.assert_alive();
}

fn served(all: &[Span]) -> bool {
    all.iter().any(|span| span.name == RPC && span.kind == Kind::Server)
}

/// Each span of the chain, and that it follows from the one before.
fn chain(product: &Product, trace: &Traced, all: &[Span], created: &Answer, me: &str) {
    let process = |role: &str| match product.mode {
        Mode::Embedded => "aegis".to_owned(),
        Mode::Processes => format!("aegis-{role}"),
    };
    let request = one(all, |span| span.name == format!("POST {ROUTE}"));
    assert_eq!((request.kind, &request.parent), (Kind::Server, &trace.caller), "{request:?}");
    assert_eq!(request.service, process("gateway"));
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", ROUTE),
        ("http.response.status_code", "201"),
        ("request_id", created.request_id().as_str()),
        ("user.id", me),
    ] {
        assert_eq!(request.get(name), value, "{name} of {request:?}");
    }

    let rpc = one(all, |span| span.name == RPC && span.kind == Kind::Server);
    assert_eq!(rpc.service, process("testing"));
    for (name, value) in [("rpc.response.status_code", "OK"), ("user.id", me), ("rpc.system.name", "grpc")] {
        assert_eq!(rpc.get(name), value, "{name} of {rpc:?}");
    }
    if product.mode == Mode::Processes {
        let call = one(all, |span| span.name == RPC && span.kind == Kind::Client);
        assert_eq!((&call.service, &call.parent), (&process("gateway"), &request.id), "{call:?}");
        assert_eq!(rpc.parent, call.id, "{rpc:?}");
    } else {
        assert_eq!(rpc.parent, request.id, "{rpc:?}");
    }

    let transaction = one(all, |span| span.name == "transaction" && span.parent == rpc.id);
    assert_eq!((transaction.get("committed"), &transaction.service), ("true", &rpc.service), "{transaction:?}");

    for (event, consumers) in [
        ("testing.test.changed", &["analytics", "identity", "evidence", "catalog"][..]),
        ("audit.recorded", &["identity"]),
    ] {
        let published = one(all, |span| span.name == format!("publish {event}") && span.parent == transaction.id);
        assert_eq!((published.kind, &published.service), (Kind::Producer, &rpc.service), "{published:?}");
        assert!(published.began >= transaction.began, "{published:?}");
        for consumer in consumers {
            let taken_in = one(all, |span| {
                span.name == format!("process {event}") && span.get("messaging.consumer.group.name") == *consumer
            });
            assert_eq!((taken_in.kind, &taken_in.parent), (Kind::Consumer, &published.id), "{taken_in:?}");
            assert_eq!(taken_in.service, process(consumer));
            assert_eq!(taken_in.get("messaging.message.id"), published.get("messaging.message.id"));
            assert_eq!(taken_in.get("request_id"), created.request_id());
            assert!(!taken_in.failed, "{taken_in:?}");
        }
    }
}

/// Whoever reads traces reads no secret and no name; and nothing is recorded that nobody asked for.
fn no_secrets(product: &Product, people: &[&Api]) {
    let mut secrets = vec![PASSWORD.to_owned(), product.admin_password.clone(), "some-red-tech".to_owned()];
    secrets.extend(people.iter().filter_map(|api| api.token.clone()));
    for span in spans() {
        let texts = span.attributes.iter().chain(span.events.iter().flat_map(|(_, attributes)| attributes));
        for (name, value) in texts {
            for secret in &secrets {
                assert!(!value.contains(secret.as_str()), "{name} of {}", span.name);
            }
        }
        assert!(Traced::is_ours(&span.trace), "nobody asked for {span:?}");
    }
}

/// Spans with what they say of themselves, for messages.
fn told(all: &[Span]) -> String {
    all.iter().map(|span| format!("\n    {} {} {} < {}", span.service, span.name, span.id, span.parent)).collect()
}

#[track_caller]
fn one(all: &[Span], wanted: impl Fn(&Span) -> bool) -> &Span {
    let mut found = all.iter().filter(|span| wanted(span));
    match (found.next(), found.next()) {
        (Some(span), None) => span,
        (None, _) => panic!("no such span in{}", told(all)),
        (Some(_), Some(_)) => panic!("more than one such span in{}", told(all)),
    }
}

/// A trace that a caller began and wants recorded.
struct Traced {
    id: String,
    /// The caller's span.
    caller: String,
}

/// How the ids of our traces begin.
const OURS: &str = "00e2e0";

impl Traced {
    fn new() -> Traced {
        Traced {
            id: format!("{OURS}{:026x}", rand::random::<u128>() >> 24),
            caller: format!("{:016x}", rand::random::<u64>() | 1),
        }
    }

    fn is_ours(trace: &str) -> bool {
        trace.starts_with(OURS)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        send(request.header("traceparent", format!("00-{}-{}-01", self.id, self.caller))).await
    }

    fn spans(&self) -> Vec<Span> {
        spans().into_iter().filter(|span| span.trace == self.id).collect()
    }
}
