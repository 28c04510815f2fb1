//! Links: who may read what until when, and that every reading is recorded.

use std::sync::Arc;

use aegis_auth::{OpCtx, Role};
use aegis_blob::{Blobs, S3Options};
use aegis_db::now;
use aegis_error::{Code, Failure};
use aegis_proto::evidence::v1::{
    DownloadEvidenceRequest, DownloadHead, GetEvidenceRequest, ListEvidenceRequest, download_evidence_response::Part,
};
use aegis_testkit::{ctx, user_id};
use secrecy::SecretString;
use url::Url;
use uuid::Uuid;

use super::{CHUNK, World, app, client, content, file, header, identity::Fate, nobody, worlds};
use crate::store::{self, Evidence};

pub(crate) fn request(download_url: &str) -> DownloadEvidenceRequest {
    let url = Url::parse("http://gateway").unwrap().join(download_url).unwrap();
    let path: Vec<_> = url.path().split('/').collect();
    let ["", "api", "v1", "evidence", id, "download"] = path[..] else { panic!("{download_url}") };
    let part = |name| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    DownloadEvidenceRequest {
        id: id.to_owned(),
        expires: part("expires").parse().unwrap(),
        user_id: part("user"),
        signature: part("signature"),
        range: None,
    }
}

pub(crate) async fn download(
    world: &World,
    ctx: OpCtx,
    request: DownloadEvidenceRequest,
) -> Result<(DownloadHead, Vec<u8>), Failure> {
    let mut stream = world.client(ctx).download_evidence(request).await?.into_inner();
    let Some(Part::Head(head)) = stream.message().await?.unwrap().part else { panic!("no head") };
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        let Some(Part::Chunk(chunk)) = message.part else { panic!("no chunk") };
        assert!((1..=CHUNK).contains(&chunk.len()));
        bytes.extend(chunk);
    }
    Ok((head, bytes))
}

#[tokio::test]
async fn a_link_reads_the_same_bytes_and_is_recorded() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let bytes = content(700_001);
        let kept = world.upload(ctx(Role::RedTech, "rita"), file(header(test, "захват.pcap"), &bytes)).await.unwrap();
        let link = world.get(&kept.id).await;
        let (head, read) = download(&world, nobody(), request(&link.download_url)).await.unwrap();
        assert_eq!((head.file_name.as_str(), head.size_bytes), ("захват.pcap", 700_001));
        assert_eq!((head.offset, head.length), (0, 700_001));
        assert_eq!(head.sha256_hash, kept.sha256_hash);
        assert!(read == bytes);

        let audit = world.audit().await;
        let (actor, record) = audit.last().unwrap();
        assert_eq!((record.action.as_str(), &record.entity_id), ("download_evidence", &kept.id));
        assert_eq!((&actor.user_id, actor.address.as_str()), (&user_id("vera").to_string(), "198.51.100.7"));
        world.close().await;
    }
}

#[tokio::test]
async fn a_link_that_is_altered_or_old_reads_nothing() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let red = || ctx(Role::RedTech, "rita");
        let kept = world.upload(red(), file(header(test, "a.txt"), &content(10))).await.unwrap();
        let other = world.upload(red(), file(header(test, "b.txt"), &content(20))).await.unwrap();
        let good = request(&kept.download_url);
        download(&world, nobody(), good.clone()).await.unwrap();

        let mut flipped = good.signature.clone().into_bytes();
        flipped[5] = if flipped[5] == b'A' { b'B' } else { b'A' };
        let altered = [
            DownloadEvidenceRequest { id: other.id.clone(), ..good.clone() },
            DownloadEvidenceRequest { expires: good.expires + 1, ..good.clone() },
            DownloadEvidenceRequest { user_id: user_id("mallory").to_string(), ..good.clone() },
            DownloadEvidenceRequest { user_id: "mallory".into(), ..good.clone() },
            DownloadEvidenceRequest { signature: String::from_utf8(flipped).unwrap(), ..good.clone() },
            DownloadEvidenceRequest { signature: String::new(), ..good.clone() },
        ];
        let downloads =
            async || world.audit().await.into_iter().filter(|(_, record)| record.action == "download_evidence").count();
        for one in altered {
            // A token does not help: the link is what counts.
            for who in [nobody(), ctx(Role::Admin, "ada")] {
                let failure = download(&world, who, one.clone()).await.unwrap_err();
                assert_eq!(failure.code(), Code::Forbidden, "{one:?}");
                assert!(failure.message().contains("not valid"));
            }
        }
        let expires = now().timestamp() - 1;
        let signature = world.app.signer().sign(kept.id.parse().unwrap(), user_id("rita"), expires);
        let old = DownloadEvidenceRequest { expires, signature, ..good.clone() };
        let failure = download(&world, nobody(), old).await.unwrap_err();
        assert_eq!(failure.code(), Code::Forbidden);
        assert!(failure.message().contains("has expired"));
        let failure = download(&world, nobody(), DownloadEvidenceRequest { id: "1".into(), ..good }).await.unwrap_err();
        assert_eq!(failure.code(), Code::Validation);
        assert_eq!(downloads().await, 1);
        world.close().await;
    }
}

#[tokio::test]
async fn a_link_of_somebody_who_is_disabled_or_gone_reads_nothing() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        for (who, fate) in [("rita", Fate::Disabled), ("ron", Fate::Deleted)] {
            let bytes = content(who.len());
            let kept = world.upload(ctx(Role::RedTech, who), file(header(test, "a.txt"), &bytes)).await.unwrap();
            let link = request(&kept.download_url);
            download(&world, nobody(), link.clone()).await.unwrap();
            world.users.lose(user_id(who), fate);
            // Somebody else's token does not help.
            for caller in [nobody(), ctx(Role::Admin, "ada")] {
                let failure = download(&world, caller, link.clone()).await.unwrap_err();
                assert_eq!(failure.code(), Code::Forbidden);
                assert!(failure.message().contains("disabled or gone"), "{failure}");
            }
        }
        world.close().await;
    }
}

#[tokio::test]
async fn a_file_whose_bytes_are_gone_is_not_served() {
    for world in worlds().await {
        let test = world.tests.add(&["draft"]);
        let kept = world.upload(ctx(Role::Admin, "ada"), file(header(test, "a.txt"), b"bytes")).await.unwrap();
        world.blobs.delete(&format!("evidence/{test}/{}", kept.id)).await.unwrap();
        let failure = download(&world, nobody(), request(&kept.download_url)).await.unwrap_err();
        assert_eq!(failure.code(), Code::Internal);
        assert!(world.audit().await.iter().all(|(_, record)| record.action != "download_evidence"));
        world.close().await;
    }
}

#[tokio::test]
async fn unknown_files_and_ids_are_told() {
    for world in worlds().await {
        let mut client = world.client(ctx(Role::Viewer, "vera"));
        for (id, code) in [(Uuid::now_v7().to_string(), Code::NotFound), ("T1059".into(), Code::Validation)] {
            let status = client.get_evidence(GetEvidenceRequest { id }).await.unwrap_err();
            assert_eq!(Failure::from(status).code(), code);
        }
        let mut stranger = world.client(nobody());
        let status = stranger.get_evidence(GetEvidenceRequest { id: Uuid::now_v7().to_string() }).await.unwrap_err();
        assert_eq!(Failure::from(status).code(), Code::Unauthenticated);
        world.close().await;
    }
}

#[tokio::test]
async fn links_of_the_store_itself_are_recorded_when_they_are_given_out() {
    for world in worlds().await {
        let key = |text: &str| Some(SecretString::from(text));
        // Signing needs no server.
        let options = S3Options {
            endpoint: Some("http://s3.example:9000".into()),
            access_key_id: key("key"),
            secret_access_key: key("secret"),
            ..S3Options::default()
        };
        let blobs = Blobs::s3("s3://bucket/files", &options).unwrap();
        let app = Arc::new(app(&world.test.db, &blobs, &world.tests, &world.users));
        let row = Evidence {
            id: Uuid::now_v7(),
            test_id: world.tests.add(&["draft"]),
            file_name: "a.txt".into(),
            sha256: "00".repeat(32),
            size_bytes: 5,
            team: None,
            notes: None,
            uploaded_by: user_id("rita"),
            uploaded_by_username: "rita".into(),
            uploaded_at: now(),
        };
        let mut tx = world.test.db.begin().await.unwrap();
        assert_eq!(store::insert(&mut tx, &row).await.unwrap(), None);
        tx.commit().await.unwrap();

        let mut client = client(&app, ctx(Role::Viewer, "vera"));
        let request = GetEvidenceRequest { id: row.id.to_string() };
        let evidence = client.get_evidence(request).await.unwrap().into_inner().evidence.unwrap();
        let url = Url::parse(&evidence.download_url).unwrap();
        assert_eq!(url.host_str(), Some("s3.example"));
        assert_eq!(url.path(), format!("/bucket/files/evidence/{}/{}", row.test_id, row.id));
        let expires = evidence.download_url_expires_at.unwrap().seconds - now().timestamp();
        assert!((800..=900).contains(&expires), "{expires}");

        let request = ListEvidenceRequest { test_id: row.test_id.to_string(), ..Default::default() };
        assert_eq!(client.list_evidence(request).await.unwrap().into_inner().evidence.len(), 1);
        let audit = world.audit().await;
        let given: Vec<_> = audit
            .iter()
            .map(|(actor, record)| (actor.username.as_str(), record.action.as_str(), record.entity_id.clone()))
            .collect();
        assert_eq!(
            given,
            [
                ("vera", "issue_evidence_link", row.id.to_string()),
                ("vera", "issue_evidence_link", row.test_id.to_string())
            ]
        );
        world.close().await;
    }
}
