//! Whether stored bytes are still those that were brought, and manifests that say what those were.

use aegis_auth::Role;
use aegis_blob::BlobMeta;
use aegis_error::{Code, Failure};
use aegis_proto::evidence::v1::{GetManifestRequest, UploadHeader, VerifyEvidenceRequest, VerifyEvidenceResponse};
use aegis_testkit::{ctx, user_id};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{World, content, file, header, nobody, stores, worlds};
use crate::store;

async fn verify(world: &World, id: &str) -> VerifyEvidenceResponse {
    let request = VerifyEvidenceRequest { id: id.to_owned() };
    world.client(ctx(Role::Viewer, "vera")).verify_evidence(request).await.unwrap().into_inner()
}

async fn overwrite(world: &World, key: &str, bytes: &[u8]) {
    let mut writer = world.blobs.writer(key, &BlobMeta::default()).await.unwrap();
    writer.write(bytes.to_vec().into()).await.unwrap();
    writer.finish().await.unwrap();
}

#[tokio::test]
async fn bytes_are_intact_altered_or_missing() {
    for world in stores().await {
        let test = world.tests.add(&["validated"]);
        world.tests.set(test, &["draft", "draft", "validated"]);
        let mut bytes = content(600_000);
        let kept = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a"), &bytes)).await.unwrap();
        let key = store::blob_key(test, kept.id.parse().unwrap());
        let before = world.events().await.len();

        let intact = verify(&world, &kept.id).await;
        assert_eq!((intact.status.as_str(), intact.id), ("intact", kept.id.clone()));
        assert_eq!((&intact.expected_sha256, intact.expected_size), (&kept.sha256_hash, 600_000));
        assert_eq!((intact.actual_sha256, intact.actual_size), (Some(kept.sha256_hash.clone()), Some(600_000)));
        assert!(intact.checked_at.is_some());

        bytes[300_000] ^= 1;
        for altered in [&bytes[..], &bytes[..599_999], b"x"] {
            overwrite(&world, &key, altered).await;
            let found = verify(&world, &kept.id).await;
            assert_eq!((found.status.as_str(), &found.expected_sha256), ("altered", &kept.sha256_hash));
            assert_eq!(found.actual_sha256, Some(hex::encode(Sha256::digest(altered))));
            assert_eq!(found.actual_size, Some(altered.len() as i64));
        }
        world.blobs.delete(&key).await.unwrap();
        let missing = verify(&world, &kept.id).await;
        assert_eq!((missing.status.as_str(), missing.actual_sha256, missing.actual_size), ("missing", None, None));
        // It is a look, and nothing else.
        assert_eq!(world.events().await.len(), before);

        let mut client = world.client(ctx(Role::Viewer, "vera"));
        for (id, code) in [("1".to_owned(), Code::Validation), (Uuid::now_v7().to_string(), Code::NotFound)] {
            let status = client.verify_evidence(VerifyEvidenceRequest { id }).await.unwrap_err();
            assert_eq!(Failure::from(status).code(), code);
        }
        let status = world.client(nobody()).verify_evidence(VerifyEvidenceRequest { id: kept.id }).await.unwrap_err();
        assert_eq!(Failure::from(status).code(), Code::Unauthenticated);
        world.close().await;
    }
}

async fn manifest(world: &World, test: Uuid) -> String {
    let request = GetManifestRequest { test_id: test.to_string() };
    world.client(ctx(Role::Viewer, "vera")).get_manifest(request).await.unwrap().into_inner().manifest_json
}

fn decoded(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

/// As one who has nothing but the document.
fn holds(signed: &Value) -> bool {
    let Ok(public) = <[u8; 32]>::try_from(decoded(&signed["header"]["jwk"]["x"])) else { return false };
    let Ok(signature) = Signature::from_slice(&decoded(&signed["signature"])) else { return false };
    let message = format!("{}.{}", signed["protected"].as_str().unwrap(), signed["payload"].as_str().unwrap());
    VerifyingKey::from_bytes(&public).unwrap().verify(message.as_bytes(), &signature).is_ok()
}

#[tokio::test]
async fn a_manifest_says_what_was_brought_and_holds_until_a_byte_is_altered() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let about = UploadHeader { notes: Some("the \"beacon\"\n".into()), ..header(test, "журнал.log") };
        let first = world.upload(ctx(Role::RedTech, "rita"), file(about, &content(10))).await.unwrap();
        let second = world.upload(ctx(Role::BlueTech, "bo"), file(header(test, "b"), &content(20))).await.unwrap();
        let before = world.events().await.len();

        let text = manifest(&world, test).await;
        let signed: Value = serde_json::from_str(&text).unwrap();
        let payload = decoded(&signed["payload"]);
        // What people read is what was signed, byte for byte.
        assert!(text.contains(std::str::from_utf8(&payload).unwrap()));
        let document: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(document, signed["manifest"]);
        let head: Value = serde_json::from_slice(&decoded(&signed["protected"])).unwrap();
        assert_eq!((&head["typ"], &document["kind"]), (&"aegis-evidence-manifest".into(), &head["typ"]));
        assert_eq!(document["version"], 1);
        assert_eq!(document["test"]["id"], test.to_string());
        assert_eq!(document["test"]["name"], "Encoded command");
        assert_eq!((&document["test"]["mitre_id"], &document["test"]["state"]), (&"T1059.001".into(), &"draft".into()));
        assert_eq!(
            (&document["generated_by"], &document["product_version"]),
            (&"vera".into(), &env!("CARGO_PKG_VERSION").into())
        );
        let files = document["files"].as_array().unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!((&files[0]["id"], &files[1]["id"]), (&first.id.as_str().into(), &second.id.as_str().into()));
        assert_eq!((&files[0]["file_name"], &files[0]["size_bytes"]), (&"журнал.log".into(), &10.into()));
        assert_eq!(files[0]["sha256"], first.sha256_hash);
        assert_eq!((&files[0]["team"], &files[0]["notes"]), (&"red".into(), &"the \"beacon\"\n".into()));
        assert_eq!(files[0]["uploaded_by"], user_id("rita").to_string());
        assert_eq!((&files[0]["uploaded_by_username"], &files[1]["notes"]), (&"rita".into(), &Value::Null));
        assert_eq!(world.events().await.len(), before);

        assert!(holds(&signed));
        for field in ["payload", "protected", "signature"] {
            let bytes = decoded(&signed[field]);
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 1;
                let mut other = signed.clone();
                other[field] = URL_SAFE_NO_PAD.encode(altered).into();
                assert!(!holds(&other), "{field} {at}");
            }
        }
        // But for the time it is the same each time.
        let again: Value = serde_json::from_str(&manifest(&world, test).await).unwrap();
        assert_eq!(again["manifest"]["files"], signed["manifest"]["files"]);
        world.close().await;
    }
}

#[tokio::test]
async fn a_manifest_of_nothing_and_of_no_test() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let signed: Value = serde_json::from_str(&manifest(&world, test).await).unwrap();
        assert!(holds(&signed));
        assert_eq!(signed["manifest"]["files"], Value::Array(Vec::new()));
        let mut client = world.client(ctx(Role::Viewer, "vera"));
        for (test_id, code) in [("1".to_owned(), Code::Validation), (Uuid::now_v7().to_string(), Code::NotFound)] {
            let status = client.get_manifest(GetManifestRequest { test_id }).await.unwrap_err();
            assert_eq!(Failure::from(status).code(), code);
        }
        world.close().await;
    }
}
