//! API keys and tickets for streams: what they open, for how long, and what ends them.

use aegis_auth::Bearer;
use aegis_db::now;
use chrono::TimeDelta;
use secrecy::ExposeSecret;

use super::*;

/// A key of `user`, made by `by`: its id and its text.
async fn key(bench: &Bench, by: &OpCtx, user: Uuid, role: &str) -> Result<(Uuid, String), Failure> {
    let made = bench.app.create_api_key(by, &user.to_string(), "nightly export", Some(role), None).await;
    let (key, text) = made.map_err(Failure::from)?;
    Ok((key.id, text.expose_secret().to_owned()))
}

async fn whose(bench: &Bench, text: &str) -> Result<Principal, Failure> {
    bench.verifier.refresh().await.unwrap();
    bench.verifier.verify(text).await.map(|principal| (*principal).clone())
}

#[tokio::test]
async fn a_key_acts_in_its_owners_name_until_it_is_revoked() {
    each(async |bench| {
        let ana = bench.user("ana", Role::RedTech).await;
        let ctx = bench.sign_in("ana", PASSWORD).await;
        let (id, text) = key(&bench, &ctx, ana.id, "red_tech").await.unwrap();
        let principal = whose(&bench, &text).await.unwrap();
        assert_eq!((principal.user_id, principal.role, principal.jti), (ana.id, Role::RedTech, id));
        assert_eq!(principal.bearer, Bearer::ApiKey);

        // It does what its role does, but neither makes keys nor touches the owner's password and sessions.
        let machine = as_principal(principal, text.clone());
        assert_eq!(bench.app.me(&machine).await.unwrap().id, ana.id);
        assert_eq!(failure(key(&bench, &machine, ana.id, "viewer").await).code(), Code::Forbidden);
        let change = bench.app.change_password(&machine, &secret(PASSWORD), &secret("another-good-one")).await;
        assert_eq!(failure(change).code(), Code::Forbidden);
        assert_eq!(failure(bench.app.logout(&machine).await).code(), Code::Forbidden);
        let own = ana.id.to_string();
        assert_eq!(failure(bench.app.revoke_api_key(&machine, &own, &id.to_string()).await).code(), Code::Forbidden);

        let (keys, _, total) = bench.app.list_api_keys(&ctx, &own, 0, "", 0).await.unwrap();
        assert_eq!((keys.len(), total), (1, 1));
        assert!(text.starts_with(&keys[0].prefix) && keys[0].last_used_at.is_some());
        bench.app.revoke_api_key(&ctx, &own, &id.to_string()).await.unwrap();
        bench.app.revoke_api_key(&ctx, &own, &id.to_string()).await.unwrap();
        assert_eq!(failure(whose(&bench, &text).await).code(), Code::Unauthenticated);
        // Also where it was never seen before.
        let replica = Bench::new(&bench.db, config()).await;
        assert_eq!(failure(whose(&replica, &text).await).code(), Code::Unauthenticated);
        let trail = bench.trail().await;
        let actions: Vec<_> =
            trail.iter().map(|r| r.entry.action.as_str()).filter(|a| a.ends_with("api_key")).collect();
        assert_eq!(actions, ["create_api_key", "revoke_api_key"]);
        assert!(trail.iter().all(|r| !r.entry.details.contains(&text)));
        assert_eq!(bench.number("SELECT COUNT(*) FROM api_key WHERE LENGTH(key_hash) = 32").await, 1);
    })
    .await;
}

#[tokio::test]
async fn what_happens_to_the_owner_happens_to_the_key() {
    each(async |bench| {
        let admin = bench.admin().await;
        let lead = bench.user("lena", Role::RedLead).await;
        let (_, text) = key(&bench, &admin, lead.id, "red_lead").await.unwrap();
        assert_eq!(whose(&bench, &text).await.unwrap().role, Role::RedLead);

        // Another password ends the sessions, not the keys.
        let password = UserPatch { password: Some("another-good-one".into()), ..UserPatch::default() };
        bench.patch(&admin, lead.id, password).await.unwrap();
        assert_eq!(whose(&bench, &text).await.unwrap().role, Role::RedLead);
        // One that has to be changed holds the keys back as well.
        let flag = UserPatch { must_change_password: Some(true), ..UserPatch::default() };
        bench.patch(&admin, lead.id, flag).await.unwrap();
        assert!(whose(&bench, &text).await.unwrap().must_change_password);
        let unflag = UserPatch { must_change_password: Some(false), ..role(Role::BlueTech) };
        bench.patch(&admin, lead.id, unflag).await.unwrap();
        assert_eq!(whose(&bench, &text).await.unwrap().role, Role::Viewer, "its owner has lost the role");

        bench.patch(&admin, lead.id, active(false)).await.unwrap();
        assert_eq!(failure(whose(&bench, &text).await).code(), Code::Unauthenticated);
        // Enabled again, in a replica that remembers no refusal.
        bench.patch(&admin, lead.id, active(true)).await.unwrap();
        let replica = Bench::new(&bench.db, config()).await;
        assert!(whose(&replica, &text).await.is_ok());
        bench.app.delete_user(&admin, &lead.id.to_string()).await.unwrap();
        assert_eq!(failure(whose(&replica, &text).await).code(), Code::Unauthenticated);
        assert_eq!(bench.number("SELECT COUNT(*) FROM api_key").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_no_higher_than_its_owner_and_ends() {
    each(async |bench| {
        let admin = bench.admin().await;
        let ana = bench.user("ana", Role::RedTech).await;
        let bob = bench.user("bob", Role::Viewer).await;
        let (as_ana, as_bob) = (bench.sign_in("ana", PASSWORD).await, bench.sign_in("bob", PASSWORD).await);
        for role in ["admin", "red_lead", "blue_tech"] {
            let refused = failure(key(&bench, &as_ana, ana.id, role).await);
            assert_eq!((refused.code(), refused.fields()[0].field.as_str()), (Code::Validation, "role"), "{role}");
            // Whoever makes it: it is the owner's role that counts.
            assert_eq!(failure(key(&bench, &admin, ana.id, role).await).code(), Code::Validation);
        }
        assert_eq!(
            failure(key(&bench, &as_bob, bob.id, "viewer").await).code(),
            Code::Forbidden,
            "viewers write nothing"
        );
        assert_eq!(failure(key(&bench, &as_ana, bob.id, "viewer").await).code(), Code::Forbidden);
        let (_, text) = key(&bench, &admin, bob.id, "viewer").await.unwrap();
        assert_eq!(whose(&bench, &text).await.unwrap().username, "bob");
        assert_eq!(failure(key(&bench, &admin, Uuid::nil(), "viewer").await).code(), Code::NotFound);
        let others = bench.app.list_api_keys(&as_ana, &bob.id.to_string(), 0, "", 0).await;
        assert_eq!(failure(others).code(), Code::Forbidden);

        let long =
            bench.app.create_api_key(&as_ana, &ana.id.to_string(), "", None, Some(now() + TimeDelta::days(400))).await;
        let fields: Vec<_> = failure(long).fields().iter().map(|f| f.field.clone()).collect();
        assert_eq!(fields, ["name", "expires_at"]);
        let end = now() + TimeDelta::hours(1);
        let (_, text) = bench.app.create_api_key(&as_ana, &ana.id.to_string(), "x", None, Some(end)).await.unwrap();
        let text = text.expose_secret();
        assert!(whose(&bench, text).await.is_ok());
        bench.run("UPDATE api_key SET expires_at = '2024-01-01T00:00:00Z'").await;
        let replica = Bench::new(&bench.db, config()).await;
        assert_eq!(failure(whose(&replica, text).await).code(), Code::Unauthenticated);
        bench.app.purge().await.unwrap();
        assert_eq!(bench.number("SELECT COUNT(*) FROM api_key").await, 0);
    })
    .await;
}

#[tokio::test]
async fn there_are_not_more_keys_than_a_user_may_have() {
    each(async |bench| {
        let ana = bench.user("ana", Role::RedTech).await;
        let ctx = bench.sign_in("ana", PASSWORD).await;
        let tries = (0..60).map(|_| key(&bench, &ctx, ana.id, "viewer"));
        let made = futures::future::join_all(tries).await;
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 50);
        for refused in made.into_iter().filter(Result::is_err) {
            assert_eq!(failure(refused).code(), Code::Conflict);
        }
    })
    .await;
}

#[tokio::test]
async fn a_ticket_opens_streams_once() {
    each(async |bench| {
        bench.user("ana", Role::RedLead).await;
        let ctx = bench.sign_in("ana", PASSWORD).await;
        let ticket = bench.app.create_stream_ticket(&ctx).await.unwrap();
        let token = bench.app.redeem_stream_ticket(&ticket).await.unwrap();
        let principal = bench.verifier.verify(&token.text).await.unwrap();
        assert_eq!((principal.username.as_str(), principal.role), ("ana", Role::Viewer), "it reads, no more");
        assert_eq!(principal.expires_at, ctx.user().unwrap().expires_at);
        for replayed in [&ticket, &secret(""), &secret("aegis_st_"), &secret(&"x".repeat(100_000))] {
            assert_eq!(failure(bench.app.redeem_stream_ticket(replayed).await).code(), Code::Unauthenticated);
        }

        // Two at once: one gets in.
        let ticket = bench.app.create_stream_ticket(&ctx).await.unwrap();
        let both = tokio::join!(bench.app.redeem_stream_ticket(&ticket), bench.app.redeem_stream_ticket(&ticket));
        assert_eq!(u8::from(both.0.is_ok()) + u8::from(both.1.is_ok()), 1);

        // With the token that asked, what came of its tickets ends.
        let ticket = bench.app.create_stream_ticket(&ctx).await.unwrap();
        bench.app.logout(&ctx).await.unwrap();
        let late = bench.app.redeem_stream_ticket(&ticket).await.unwrap();
        bench.verifier.refresh().await.unwrap();
        for token in [token, late] {
            assert_eq!(failure(bench.verifier.verify(&token.text).await).code(), Code::Unauthenticated);
        }
    })
    .await;
}

#[tokio::test]
async fn who_must_change_the_password_gets_no_ticket() {
    each(async |bench| {
        let ana = bench.user("ana", Role::RedLead).await;
        let flag = UserPatch { must_change_password: Some(true), ..UserPatch::default() };
        bench.patch(&bench.admin().await, ana.id, flag).await.unwrap();
        let ctx = bench.sign_in("ana", PASSWORD).await;
        assert_eq!(failure(bench.app.create_stream_ticket(&ctx).await).code(), Code::PasswordChangeRequired);
        assert_eq!(failure(bench.app.create_stream_ticket(&from("::1")).await).code(), Code::Unauthenticated);
        let key = key(&bench, &ctx, ana.id, "viewer").await;
        assert_eq!(failure(key).code(), Code::PasswordChangeRequired);
    })
    .await;
}
