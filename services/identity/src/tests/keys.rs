//! Signing keys: changed while people work.

use aegis_db::now;
use serde_json::Value;

use crate::admin;

use super::*;

async fn published(bench: &Bench) -> Vec<String> {
    let jwks: Value = serde_json::from_str(&bench.app.jwks().await.unwrap()).unwrap();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn signed_with(ctx: &OpCtx) -> String {
    let token = ctx.outgoing(()).metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
    jsonwebtoken::decode_header(token.strip_prefix("Bearer ").unwrap()).unwrap().kid.unwrap()
}

#[tokio::test]
async fn a_rotation_logs_nobody_out() {
    each(async |bench| {
        let before = bench.admin().await;
        let old = signed_with(&before);
        let new = admin::rotate_keys(&bench.db, false).await.unwrap();
        assert_ne!(new, old);
        assert_eq!(published(&bench).await, [new.clone(), old.clone()]);

        // Verifiers hear of the new key before it signs anything.
        let during = bench.admin().await;
        assert_eq!(signed_with(&during), old);
        assert!(bench.holds(&before).await && bench.holds(&during).await);

        // Some seconds later, in a replica that has just read the keys.
        bench.run("UPDATE signing_key SET created_at = '2024-01-02T00:00:00Z' WHERE retire_at IS NULL").await;
        bench.run("UPDATE signing_key SET created_at = '2024-01-01T00:00:00Z' WHERE retire_at IS NOT NULL").await;
        let replica = Bench::new(&bench.db, config()).await;
        let after = replica.admin().await;
        assert_eq!(signed_with(&after), new);
        for verifier in [&bench, &replica] {
            assert!(verifier.holds(&before).await && verifier.holds(&during).await && verifier.holds(&after).await);
        }

        // The half that signs is kept of the new one alone.
        assert_eq!(bench.app.wipe_keys().await.unwrap(), 1);
        assert_eq!(bench.number("SELECT COUNT(*) FROM signing_key WHERE LENGTH(private_pkcs8) > 0").await, 1);
        assert!(bench.holds(&before).await);
        let keys = admin::list_keys(&bench.db).await.unwrap();
        assert_eq!(keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), [new.as_str(), old.as_str()]);
        assert!(keys[0].retire_at.is_none() && keys[1].retire_at.unwrap() > now() + chrono::TimeDelta::days(6));
        let trail = bench.trail().await;
        let record = trail.iter().find(|r| r.entry.action == "rotate_signing_key").unwrap();
        assert_eq!((record.entry.entity_id.as_str(), record.entry.username.as_str()), (new.as_str(), "system:cli"));
    })
    .await;
}

#[tokio::test]
async fn a_compromised_key_ends_every_token() {
    each(async |bench| {
        let before = bench.admin().await;
        assert!(bench.holds(&before).await);
        let new = admin::rotate_keys(&bench.db, true).await.unwrap();
        assert_eq!(published(&bench).await, std::slice::from_ref(&new));
        assert!(!bench.holds(&before).await);
        // There is no other key, so it signs at once.
        let replica = Bench::new(&bench.db, config()).await;
        let after = replica.admin().await;
        assert_eq!(signed_with(&after), new);
        assert!(bench.holds(&after).await);
    })
    .await;
}
