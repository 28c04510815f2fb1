//! Exports of the audit trail, by the use case and over gRPC, and their check.

use aegis_auth::AuthLayer;
use aegis_proto::identity::v1::{ExportAuditLogsRequest, audit_service_client::AuditServiceClient};
use aegis_rpc::local;
use futures::TryStreamExt;
use tower::Layer;

use super::{audit::entry, *};
use crate::{
    PUBLIC_METHODS, admin,
    app::AuditFilter,
    domain::{audit::Entry, chain::CHUNK_RECORDS},
    rpc, store,
};

impl Bench {
    async fn appended(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut tx = self.db.begin().await.unwrap();
        store::audit::append(&mut tx, &entries.into_iter().collect::<Vec<_>>()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The file of an export.
    async fn exported(&self, filter: AuditFilter) -> Vec<u8> {
        let mut export = self.app.export_audit(&self.admin_ctx(), filter).await.unwrap();
        let mut file = Vec::new();
        while let Some(part) = export.next().await.unwrap() {
            assert_eq!(part.lines.iter().filter(|byte| **byte == b'\n').count() as i64, part.records);
            file.extend(part.lines);
        }
        assert_eq!(export.left(), 0);
        file
    }
}

fn seqs(file: &[u8]) -> Vec<i64> {
    let line = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).unwrap()["seq"].as_i64().unwrap();
    file.split(|byte| *byte == b'\n').filter(|part| !part.is_empty()).map(line).collect()
}

#[tokio::test]
async fn an_export_proves_itself() {
    each(async |bench| {
        bench.run("DELETE FROM outbox").await;
        assert!(bench.exported(AuditFilter::default()).await.is_empty());
        bench.settle().await;
        let many = CHUNK_RECORDS as i64 + 100;
        bench.appended((1..many).map(entry)).await;
        let file = bench.exported(AuditFilter::default()).await;
        assert_eq!(seqs(&file), (1..=many).collect::<Vec<_>>());
        let verdict = admin::verify_export(&file[..]).unwrap();
        assert_eq!((verdict.records, verdict.span, verdict.gaps), (many, Some((1, many)), 0));
        assert!(verdict.broken.is_none());
        assert_eq!(verdict.head, Some(hex::encode(bench.walked().await.head.hash)));

        let mut forged = file.clone();
        let at = file.len() / 2 + file[file.len() / 2..].windows(4).position(|w| w == b"curl").unwrap();
        forged[at] = b'k';
        assert!(admin::verify_export(&forged[..]).unwrap().broken.is_some());
        let cut = admin::verify_export(&file[..file.len() - 20]).unwrap();
        assert_eq!((cut.records, cut.broken.unwrap().0), (many - 1, many as u64));

        // Both exports are records, with what was asked for.
        bench.settle().await;
        let query = AuditFilter { action: Some("export_audit_log".into()), ..AuditFilter::default() };
        let file = bench.exported(query).await;
        assert_eq!(seqs(&file), [1, many + 1]);
        let last: serde_json::Value = serde_json::from_slice(file.split(|b| *b == b'\n').nth(1).unwrap()).unwrap();
        assert_eq!(last["details"]["through_seq"], many);
        assert_eq!(last["username"], "root");
        assert_eq!(last["entity_type"], "audit_log");
        let verdict = admin::verify_export(&file[..]).unwrap();
        assert_eq!((verdict.records, verdict.gaps, verdict.first_gap), (2, 1, Some(2)));
        assert!(verdict.broken.is_none());
    })
    .await;
}

#[tokio::test]
async fn an_export_has_what_passes_and_what_is_left() {
    each(async |bench| {
        bench.run("DELETE FROM outbox").await;
        let mut entries: Vec<_> = (0..10).map(entry).collect();
        entries[4].action = "delete".into();
        entries[7].action = "delete".into();
        // Came late.
        entries[8].at = entries[0].at;
        let (from, to) = (entries[2].at, entries[7].at);
        bench.appended(entries).await;
        let filter = || AuditFilter::default();
        assert_eq!(seqs(&bench.exported(AuditFilter { action: Some("delete".into()), ..filter() }).await), [5, 8]);
        let range = AuditFilter { start_date: Some(from), end_date: Some(to), ..filter() };
        assert_eq!(seqs(&bench.exported(range).await), [3, 4, 5, 6, 7, 8]);
        let range = AuditFilter { end_date: Some(from), ..filter() };
        assert_eq!(seqs(&bench.exported(range).await), [1, 2, 3, 9]);
        assert!(bench.exported(AuditFilter { entity_type: Some("x".into()), ..filter() }).await.is_empty());

        // After a removal, also under an export that has begun.
        let mut export = bench.app.export_audit(&bench.admin_ctx(), filter()).await.unwrap();
        assert_eq!(bench.app.prune_batch(to, 2).await.unwrap(), 2);
        let mut file = Vec::new();
        while let Some(part) = export.next().await.unwrap() {
            file.extend(part.lines);
        }
        assert_eq!(seqs(&file), (3..=10).collect::<Vec<_>>());
        assert!(admin::verify_export(&file[..]).unwrap().broken.is_none());
        let file = bench.exported(filter()).await;
        assert_eq!(seqs(&file), (3..=11).collect::<Vec<_>>());
        assert!(admin::verify_export(&file[..]).unwrap().broken.is_none());
    })
    .await;
}

#[tokio::test]
async fn only_administrators_export_and_a_stream_outlives_the_deadline_of_its_head() {
    each(async |bench| {
        bench.user("vera", Role::Viewer).await;
        let (viewer, admin) = (bench.sign_in("vera", PASSWORD).await, bench.admin().await);
        bench.settle().await;
        bench.run("DELETE FROM outbox").await;
        let layer = AuthLayer::new(bench.verifier.clone(), PUBLIC_METHODS);
        let edge = local(layer.layer(rpc::routes(Arc::clone(&bench.app)).prepare()));
        let mut audit = AuditServiceClient::new(edge);
        let request = || ExportAuditLogsRequest { action: Some("login".into()), ..ExportAuditLogsRequest::default() };
        let refused = audit.export_audit_logs(viewer.outgoing(request())).await.unwrap_err();
        assert_eq!(Failure::from(refused).code(), Code::Forbidden);
        let bad = ExportAuditLogsRequest { user_id: Some("x".into()), ..request() };
        let refused = Failure::from(audit.export_audit_logs(admin.outgoing(bad)).await.unwrap_err());
        assert_eq!((refused.code(), refused.fields()[0].field.as_str()), (Code::Validation, "user_id"));
        assert_eq!(bench.number("SELECT COUNT(*) FROM outbox").await, 1, "the refusal alone is recorded");

        let mut short = admin.outgoing(request());
        short.set_timeout(std::time::Duration::from_millis(500));
        let parts = audit.export_audit_logs(short).await.unwrap().into_inner();
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        let parts: Vec<_> = parts.try_collect().await.unwrap();
        let lines: Vec<u8> = parts.into_iter().flat_map(|part| part.lines).collect();
        assert!(seqs(&lines).len() >= 2);
        assert!(admin::verify_export(&lines[..]).unwrap().broken.is_none());
    })
    .await;
}
