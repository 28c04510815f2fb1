//! gRPC from outside: health for everyone, reflection and calls with a token.

use aegis_proto::catalog::v1::{ListTechniquesRequest, catalog_service_client::CatalogServiceClient};
use tonic::{
    Code, Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::Product;

pub async fn scenario(product: &mut Product) {
    let token = product.someone("viewer").await.token.expect("a token");
    for name in product.processes() {
        let channel = channel(&product.address_of(name)).await;
        health(channel.clone(), name).await;
        reflection(channel, &token).await;
    }
    catalogue(channel(&product.address_of("catalog")).await, &token).await;
}

async fn channel(address: &str) -> Channel {
    Endpoint::from_shared(address.to_owned()).unwrap().connect().await.expect("the address speaks HTTP/2")
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

async fn health(channel: Channel, name: &str) {
    let mut client = HealthClient::new(channel);
    let mut services = vec![String::new()];
    if !matches!(name, "aegis" | "gateway") {
        services.push(format!("aegis.{name}"));
    }
    for service in services {
        let answer = client.check(HealthCheckRequest { service: service.clone() }).await;
        let answer = answer.unwrap_or_else(|status| panic!("health of {name} {service}: {status}")).into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name} {service}");
    }
    let unknown = client.check(HealthCheckRequest { service: "no.such.Service".into() }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
}

async fn reflection(channel: Channel, token: &str) {
    let ask = || ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let refused = client.server_reflection_info(futures::stream::iter([ask()])).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let forged = client.server_reflection_info(with_token(futures::stream::iter([ask()]), "a.b.c")).await;
    assert_eq!(forged.unwrap_err().code(), Code::Unauthenticated);

    let symbol = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("aegis.testing.v1.TestingService".into())),
    };
    let asked = futures::stream::iter([ask(), symbol]);
    let mut answers = client.server_reflection_info(with_token(asked, token)).await.expect("reflection").into_inner();
    let mut listed = Vec::new();
    let mut files = 0;
    while let Some(answer) = answers.message().await.expect("an answer") {
        match answer.message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                listed = list.service.into_iter().map(|service| service.name).collect();
            }
            Some(MessageResponse::FileDescriptorResponse(response)) => files += response.file_descriptor_proto.len(),
            other => panic!("{other:?}"),
        }
    }
    for name in [
        "aegis.identity.v1.IdentityService",
        "aegis.catalog.v1.CatalogService",
        "aegis.testing.v1.TestingService",
        "aegis.evidence.v1.EvidenceService",
        "aegis.intel.v1.IntelService",
        "aegis.analytics.v1.AnalyticsService",
        "aegis.deception.v1.FleetSettingsService",
    ] {
        assert!(listed.iter().any(|service| service == name), "no {name} in {listed:?}");
    }
    assert!(files > 0, "the symbol has no file");
}

async fn catalogue(channel: Channel, token: &str) {
    let mut client = CatalogServiceClient::new(channel);
    let ask = || ListTechniquesRequest { page_size: 3, tactic: Some("execution".into()), ..Default::default() };
    let refused = client.list_techniques(ask()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let answer = client.list_techniques(with_token(ask(), token)).await.expect("techniques").into_inner();
    assert_eq!(answer.techniques.len(), 3);
    assert!(answer.total_size > 40, "{}", answer.total_size);
    assert!(answer.techniques.iter().all(|technique| technique.tactics.iter().any(|tactic| tactic == "execution")));
    // The rest of the list follows by its token.
    let rest = ListTechniquesRequest { page_token: answer.next_page_token, ..ask() };
    let rest = client.list_techniques(with_token(rest, token)).await.expect("the next page").into_inner();
    assert!(rest.techniques.iter().all(|technique| answer.techniques.iter().all(|first| first.id != technique.id)));
    // Rights hold here as they do over REST.
    let body = aegis_proto::catalog::v1::ReviewTechniqueRequest { mitre_id: "T1059".into() };
    let refused = client.review_technique(with_token(body, token)).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}
