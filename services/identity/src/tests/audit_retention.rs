//! Old audit records go, and the rest can still be proved.

use chrono::{DateTime, TimeDelta, Utc};

use super::{audit::entry, *};
use crate::{domain::chain::Link, store};

fn days_ago(days: i64) -> DateTime<Utc> {
    aegis_db::now() - TimeDelta::days(days)
}

impl Bench {
    async fn append(&self, ages: &[i64]) {
        let mut tx = self.db.begin().await.unwrap();
        for (n, days) in ages.iter().enumerate() {
            let mut entry = entry(n as i64);
            entry.at = days_ago(*days);
            entry.action = if *days > 30 { "old" } else { "new" }.to_owned();
            store::audit::append(&mut tx, &[entry]).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    async fn prune(&self) -> i64 {
        self.app.prune_audit(&CancellationToken::new()).await.unwrap()
    }
}

async fn keeping(days: u32, test: impl AsyncFn(Bench)) {
    for home in fresh().await {
        println!("on {}", home.name);
        let bench = Bench::new(&home.db, Config { audit_retention_days: days, ..config() }).await;
        bench.run("DELETE FROM outbox").await;
        test(bench).await;
        home.close().await;
    }
}

#[tokio::test]
async fn old_records_go_and_the_rest_is_proved() {
    keeping(30, async |bench| {
        let ctx = bench.admin_ctx();
        assert_eq!(bench.prune().await, 0);
        // The one that came late stands behind a young one, and stays until that goes.
        bench.append(&[50, 45, 40, 10, 60, 5]).await;
        let all = bench.app.list_audit(&ctx, AuditQuery::default()).await.unwrap().0;
        let third = all.iter().find(|record| record.seq == 3).unwrap().hash;
        assert_eq!(bench.prune().await, 3);
        assert_eq!(bench.prune().await, 0);

        let verdict = bench.walked().await;
        assert_eq!((verdict.records, verdict.broken), (4, None));
        assert_eq!(verdict.anchor, Link { seq: 3, hash: third });
        assert!(verdict.pruned_at.is_some());
        assert_eq!(bench.listed(AuditQuery::default()).await, (vec![7, 6, 4, 5], 4));
        let records = bench.app.list_audit(&ctx, AuditQuery::default()).await.unwrap().0;
        let told = &records[0].entry;
        assert_eq!((told.action.as_str(), told.username.as_str()), ("prune_audit_log", "system:identity"));
        let details: serde_json::Value = serde_json::from_str(&told.details).unwrap();
        assert_eq!(details["through_seq"], 3);
        assert_eq!(details["removed"], 3);
        assert_eq!(details["through_hash"], hex::encode(third));
        // The first that is left follows one that is gone.
        let first = records.iter().find(|record| record.seq == 4).unwrap();
        assert_eq!(first.prev_hash, Some(third));
        assert_eq!(bench.app.audit_actions(&ctx).await.unwrap(), ["new", "old", "prune_audit_log"]);
    })
    .await;
}

#[tokio::test]
async fn nothing_goes_where_all_is_kept() {
    keeping(0, async |bench| {
        bench.append(&[4000, 50]).await;
        assert_eq!(bench.prune().await, 0);
        assert_eq!(bench.walked().await.records, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_housekeepers_remove_each_record_once() {
    keeping(30, async |bench| {
        bench.append(&[50; 20]).await;
        let bench = Arc::new(bench);
        let keepers = (0..4).map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let mut removed = 0;
                for _ in 0..20 {
                    removed += bench.app.prune_batch(days_ago(30), 3).await.unwrap();
                }
                removed
            })
        });
        let mut removed = 0;
        for keeper in keepers.collect::<Vec<_>>() {
            removed += keeper.await.unwrap();
        }
        assert_eq!(removed, 20);
        // Seven records tell of it; the newest of them is what the walk believes.
        let verdict = bench.walked().await;
        assert_eq!((verdict.records, verdict.anchor.seq, verdict.broken), (7, 20, None));
        assert_eq!(bench.app.audit_actions(&bench.admin_ctx()).await.unwrap(), ["prune_audit_log"]);
    })
    .await;
}

#[tokio::test]
async fn a_beginning_that_nothing_tells_of_is_a_break() {
    keeping(30, async |bench| {
        bench.append(&[50, 45, 40, 10, 9, 8]).await;
        assert_eq!(bench.app.prune_batch(days_ago(30), 2).await.unwrap(), 2);
        assert_eq!(bench.walked().await.broken, None);
        // Somebody removes one more, and moves the anchor.
        bench.run("UPDATE audit_anchor SET seq = 3, hash = (SELECT hash FROM audit_record WHERE seq = 3)").await;
        bench.run("DELETE FROM audit_record WHERE seq = 3").await;
        let broken = bench.walked().await.broken.unwrap();
        assert_eq!((broken.seq, broken.reason.contains("another place")), (7, true));
        // Housekeeping does not make it good.
        assert_eq!(bench.prune().await, 0);
        bench.run("UPDATE audit_anchor SET seq = 0").await;
        assert_eq!(bench.walked().await.broken.unwrap().seq, 1);
    })
    .await;
}

#[tokio::test]
async fn what_was_forged_is_not_removed() {
    keeping(30, async |bench| {
        bench.append(&[50, 45, 40, 10]).await;
        bench.run("UPDATE audit_record SET record = hash WHERE seq = 2").await;
        assert_eq!(bench.prune().await, 0);
        assert_eq!(bench.number("SELECT COUNT(*) FROM audit_record").await, 4);
        assert_eq!(bench.walked().await.broken.unwrap().seq, 2);
    })
    .await;
}
