//! First start, logins and their limits, one's own password, service tokens.

use std::time::Duration;

use secrecy::ExposeSecret;

use crate::LoginLimits;

use super::*;

#[tokio::test]
async fn the_first_start_makes_one_administrator() {
    for home in fresh().await {
        println!("on {}", home.name);
        let replica = || {
            let app = App::new(home.db.clone(), Cache::memory(), Config { admin_password: None, ..config() });
            async move { app.set_up().await.unwrap() }
        };
        let made = futures::future::join_all((0..6).map(|_| replica())).await;
        let mut passwords = made.into_iter().flatten();
        let password = passwords.next().expect("one replica made it");
        assert!(passwords.next().is_none(), "and only one");
        assert_eq!(password.expose_secret().len(), 20);

        // Settings mean nothing for an administrator who exists.
        let bench = Bench::new(&home.db, config()).await;
        assert_eq!(bench.number("SELECT COUNT(*) FROM users").await, 1);
        assert_eq!(bench.number("SELECT COUNT(*) FROM signing_key").await, 1);
        assert!(bench.app.login(&from("::1"), "admin", &secret(PASSWORD)).await.is_err());
        let signed_in = bench.app.login(&from("::1"), "admin", &password).await.unwrap();
        assert!(signed_in.must_change_password);
        home.close().await;
    }
}

#[tokio::test]
async fn a_given_password_is_not_flagged_and_has_to_be_one() {
    each(async |bench| {
        let signed_in = bench.app.login(&from("::1"), "admin", &secret(PASSWORD)).await.unwrap();
        assert!(!signed_in.must_change_password);
    })
    .await;
    for home in fresh().await {
        for bad in ["", "short", &"x".repeat(129)] {
            let app =
                App::new(home.db.clone(), Cache::memory(), Config { admin_password: Some(bad.into()), ..config() });
            let refused = failure(app.set_up().await);
            assert_eq!(refused.fields()[0].field, "admin_password");
        }
        home.close().await;
    }
}

#[tokio::test]
async fn every_failed_login_looks_the_same_and_is_recorded() {
    each(async |bench| {
        let user = bench.user("ana", Role::Viewer).await;
        bench.user("off", Role::Viewer).await;
        let off =
            bench.app.list_users(&bench.admin().await, 0, "", 0, UserQuery::default()).await.unwrap().0.pop().unwrap();
        bench.patch(&bench.admin().await, off.id, active(false)).await.unwrap();
        let long = "x".repeat(100_000);
        let tries = [
            ("ana", "wrong-password", "wrong password"),
            ("ana", "", "wrong password"),
            ("ana", &long, "wrong password"),
            ("off", PASSWORD, "disabled"),
            ("nobody", PASSWORD, "unknown user"),
            ("no\0body'; --", PASSWORD, "unknown user"),
            (&long, PASSWORD, "unknown user"),
        ];
        for (username, password, _) in tries {
            let refused = failure(bench.app.login(&from("192.0.2.9"), username, &secret(password)).await);
            assert_eq!(refused.code(), Code::InvalidCredentials);
            assert_eq!(refused.message(), "wrong username or password");
            assert!(refused.fields().is_empty() && refused.retry_after().is_none());
        }
        bench.sign_in("ana", PASSWORD).await;

        let trail = bench.trail().await;
        let failed: Vec<_> = trail.iter().filter(|r| r.entry.action == "login_failed").collect();
        assert_eq!(failed.len(), tries.len());
        for (record, (_, _, reason)) in failed.iter().zip(tries) {
            assert!(!record.entry.success && record.entry.user_id.is_none());
            assert_eq!(record.entry.details, format!(r#"{{"reason":"{reason}"}}"#));
            assert_eq!(record.entry.address, "192.0.2.9");
            assert!(record.entry.username.chars().count() <= 64);
        }
        assert_eq!(failed[0].entry.entity_id, user.id.to_string());
        assert_eq!(failed[5].entry.username, "nobody'; --");
        let login = trail.iter().rev().find(|r| r.entry.username == "ana").unwrap();
        assert_eq!((login.entry.action.as_str(), login.entry.user_id), ("login", Some(user.id)));
    })
    .await;
}

async fn guess(bench: &Bench, address: &str, username: &str) -> Failure {
    failure(bench.app.login(&from(address), username, &secret("wrong-password")).await)
}

#[tokio::test]
async fn ten_failures_close_the_door_for_one_name_from_one_address() {
    each(async |bench| {
        for _ in 0..10 {
            assert_eq!(guess(&bench, "192.0.2.1", "ADMIN").await.code(), Code::InvalidCredentials);
        }
        // Also before the right password, and in any case of the name.
        let refused = failure(bench.app.login(&from("192.0.2.1"), "Admin", &secret(PASSWORD)).await);
        assert_eq!(refused.code(), Code::RateLimited);
        let after = refused.retry_after().unwrap();
        assert!(after > Duration::ZERO && after <= Duration::from_secs(300), "{after:?}");
        // Nobody else is locked out.
        assert!(bench.app.login(&from("192.0.2.2"), "admin", &secret(PASSWORD)).await.is_ok());
        assert_eq!(guess(&bench, "192.0.2.1", "other").await.code(), Code::InvalidCredentials);
        // The change of a password is no way around it.
        let admin = as_principal((*bench.admin().await.user().unwrap()).clone(), String::new());
        for _ in 0..10 {
            let wrong = bench.app.change_password(&admin, &secret("wrong"), &secret("a-new-password")).await;
            assert_eq!(failure(wrong).code(), Code::InvalidCredentials);
        }
        let refused = bench.app.change_password(&admin, &secret(PASSWORD), &secret("a-new-password")).await;
        assert_eq!(failure(refused).code(), Code::RateLimited);
    })
    .await;
}

#[tokio::test]
async fn names_and_addresses_have_limits_of_their_own() {
    for home in fresh().await {
        let limits = LoginLimits { per_address: 3, per_username: 2, ..LoginLimits::default() };
        let bench = Bench::new(&home.db, Config { login_limits: limits, ..config() }).await;
        for name in ["a", "b", "c"] {
            guess(&bench, "192.0.2.1", name).await;
        }
        assert_eq!(guess(&bench, "192.0.2.1", "d").await.code(), Code::RateLimited);
        for address in ["192.0.2.3", "192.0.2.4"] {
            guess(&bench, address, "e").await;
        }
        assert_eq!(guess(&bench, "192.0.2.5", "e").await.code(), Code::RateLimited);
        assert_eq!(guess(&bench, "192.0.2.5", "f").await.code(), Code::InvalidCredentials);
        home.close().await;
    }
}

#[tokio::test]
async fn replicas_count_together() {
    let home = fresh().await.remove(0);
    let mut caches = vec![(Cache::memory(), "192.0.2.1".to_owned())];
    match std::env::var("AEGIS_TEST_REDIS_URL") {
        // Others may count there too: the address is this run's own.
        Ok(url) => caches.push((Cache::redis(&url, None).unwrap(), format!("2001:db8::{:x}", rand::random::<u16>()))),
        Err(_) => println!("skipped on Redis: AEGIS_TEST_REDIS_URL names no server"),
    }
    for (cache, address) in caches {
        let replica = || App::new(home.db.clone(), cache.clone(), config());
        let replicas = [replica(), replica()];
        replicas[0].set_up().await.unwrap();
        for n in 0..10 {
            let refused = replicas[n % 2].login(&from(&address), "admin", &secret("wrong-password")).await;
            assert_eq!(failure(refused).code(), Code::InvalidCredentials);
        }
        for replica in &replicas {
            let refused = replica.login(&from(&address), "admin", &secret(PASSWORD)).await;
            assert_eq!(failure(refused).code(), Code::RateLimited);
        }
    }
    home.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guesses_at_the_same_time_do_not_slip_by() {
    let home = fresh().await.remove(0);
    let bench = Bench::new(&home.db, config()).await;
    let guesses = futures::future::join_all((0..40).map(|_| guess(&bench, "192.0.2.1", "admin"))).await;
    let heard = guesses.iter().filter(|f| f.code() == Code::InvalidCredentials).count();
    // Those that are being hashed when the limit is reached still get their answer.
    assert!((10..10 + 4).contains(&heard), "{heard}");
    home.close().await;
}

#[tokio::test]
async fn a_new_password_ends_the_flag_and_every_token() {
    each(async |bench| {
        let admin = bench.admin().await;
        let user = bench.user("ana", Role::RedTech).await;
        let flag = UserPatch { must_change_password: Some(true), ..UserPatch::default() };
        bench.patch(&admin, user.id, flag).await.unwrap();
        let (ana, elsewhere) = (bench.sign_in("ana", PASSWORD).await, bench.sign_in("ana", PASSWORD).await);
        assert_eq!(failure(bench.app.count_unread(&ana).await).code(), Code::PasswordChangeRequired);
        assert!(bench.app.me(&ana).await.unwrap().must_change_password);

        for (old, new, code) in [
            (PASSWORD, "short", Code::Validation),
            (PASSWORD, PASSWORD, Code::Validation),
            (PASSWORD, "password123", Code::Validation),
            ("wrong-password", "a-new-password", Code::InvalidCredentials),
        ] {
            let refused = failure(bench.app.change_password(&ana, &secret(old), &secret(new)).await);
            assert_eq!(refused.code(), code, "{refused}");
        }
        assert!(bench.holds(&ana).await);
        bench.app.change_password(&ana, &secret(PASSWORD), &secret("a-new-password")).await.unwrap();
        assert!(!bench.holds(&ana).await && !bench.holds(&elsewhere).await);
        assert!(bench.holds(&admin).await);
        let ana = bench.sign_in("ana", "a-new-password").await;
        assert!(bench.app.count_unread(&ana).await.is_ok());
        assert!(bench.app.me(&ana).await.unwrap().last_login_at.is_some());

        let trail = bench.trail().await;
        let changes: Vec<_> = trail.iter().filter(|r| r.entry.action == "change_password").collect();
        assert_eq!(changes.iter().map(|r| r.entry.success).collect::<Vec<_>>(), [false, true]);
        assert_eq!(changes[1].entry.user_id, Some(user.id));
    })
    .await;
}

#[tokio::test]
async fn processes_that_know_the_secret_get_short_tokens() {
    each(async |bench| {
        let config = Config { service_secret: secret("a-secret-of-many-letters"), ..config() };
        let bench = Bench::new(&bench.db, config).await;
        let right = secret("a-secret-of-many-letters");
        for bad in ["", "a-secret-of-many-letter", "a-secret-of-many-letterz"] {
            let refused = bench.app.issue_service_token(&from(""), "intel", &secret(bad)).await;
            assert_eq!(failure(refused).code(), Code::InvalidCredentials);
        }
        let refused = bench.app.issue_service_token(&from(""), "In tel", &right).await;
        assert_eq!(failure(refused).code(), Code::Validation);
        for _ in 0..10 {
            let _ = bench.app.issue_service_token(&from(""), "intel", &secret("guess")).await;
        }
        let refused = bench.app.issue_service_token(&from(""), "intel", &secret("guess")).await;
        assert_eq!(failure(refused).code(), Code::RateLimited);

        let token = bench.app.issue_service_token(&from(""), "intel", &right).await.unwrap();
        assert_eq!(token.expires_in, Duration::from_secs(300));
        let principal = bench.verifier.verify(&token.text).await.unwrap();
        assert_eq!((principal.username.as_str(), principal.role), ("system:intel", Role::Service));
        assert!(principal.user_id.is_nil());

        let trail = bench.trail().await;
        let failed = trail.iter().filter(|r| r.entry.action == "issue_service_token_failed").count();
        assert_eq!(failed, 10, "those held back are not recorded");
    })
    .await;
}
