//! The use cases on both databases.

mod api_keys;
mod audit;
mod audit_export;
mod audit_migration;
mod audit_retention;
mod keys;
mod login;
mod notifications;
mod service;
mod sign;
mod tokens;
mod users;
mod watch;

use std::sync::Arc;

use aegis_auth::{KeySource, News, OpCtx, Origin, Principal, Role, Verifier};
use aegis_cache::Cache;
use aegis_db::{Db, on, read};
use aegis_error::{Code, Failure};
use aegis_events::{Bus, Consumer};
use aegis_testkit::{TestDb, databases};
use async_trait::async_trait;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Config, SUBSCRIPTION,
    app::{App, AuditQuery, NewUser, UserPatch, UserQuery},
    domain::{audit::Record, user::User},
    events::Intake,
};

/// The administrator's password, and everybody's.
const PASSWORD: &str = "correct-horse-battery";

/// One service on a database of its own, after its first start.
struct Bench {
    app: Arc<App>,
    db: Db,
    bus: Bus,
    verifier: Verifier,
}

fn config() -> Config {
    Config { admin_password: Some(PASSWORD.into()), hashing_workers: 4, ..Config::default() }
}

async fn fresh() -> Vec<TestDb> {
    databases("identity", &[aegis_events::migrations(), crate::migrations()]).await
}

/// Runs a test on each database.
async fn each(test: impl AsyncFn(Bench)) {
    for home in fresh().await {
        println!("on {}", home.name);
        test(Bench::new(&home.db, config()).await).await;
        home.close().await;
    }
}

impl Bench {
    async fn new(db: &Db, config: Config) -> Bench {
        let app = App::new(db.clone(), Cache::memory(), config);
        app.set_up().await.unwrap();
        let bus = Bus::local();
        let _ = bus.subscribe(Consumer::new(SUBSCRIPTION, db.clone(), Arc::new(Intake::new(app.hub.clone()))));
        let verifier = Verifier::new(Arc::new(Source(Arc::clone(&app))));
        Bench { app, db: db.clone(), bus, verifier }
    }

    /// The administrator of the first start.
    async fn admin(&self) -> OpCtx {
        self.sign_in("admin", PASSWORD).await
    }

    /// A context with a real token.
    async fn sign_in(&self, username: &str, password: &str) -> OpCtx {
        let signed_in = self.app.login(&from("192.0.2.7"), username, &password.into()).await.unwrap();
        let principal = self.verifier.verify(&signed_in.token.text).await.unwrap();
        as_principal((*principal).clone(), signed_in.token.text)
    }

    async fn user(&self, username: &str, role: Role) -> User {
        let new = NewUser {
            username: username.into(),
            email: None,
            password: PASSWORD.into(),
            role: role.to_string(),
            must_change_password: false,
        };
        self.app.create_user(&self.admin().await, new).await.unwrap()
    }

    /// Whether the token of this context still holds.
    async fn holds(&self, ctx: &OpCtx) -> bool {
        self.verifier.refresh().await.unwrap();
        let token = ctx.outgoing(()).metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        match self.verifier.verify(token.strip_prefix("Bearer ").unwrap()).await {
            Ok(_) => true,
            Err(failure) => {
                assert_eq!(failure.code(), Code::Unauthenticated);
                false
            }
        }
    }

    /// Brings all committed events to their consumer.
    async fn settle(&self) {
        let stop = CancellationToken::new();
        stop.cancel();
        while self.number("SELECT COUNT(*) FROM outbox").await > 0 {
            self.app.outbox.clone().relay(self.db.clone(), self.bus.clone(), stop.clone()).await;
        }
        assert_eq!(self.number("SELECT COUNT(*) FROM dead_letter").await, 0);
    }

    /// All records of the audit trail, oldest first.
    async fn trail(&self) -> Vec<Record> {
        self.settle().await;
        let query = AuditQuery { page_size: 100, ..AuditQuery::default() };
        let (mut records, next, _) = self.app.list_audit(&self.admin().await, query).await.unwrap();
        assert_eq!(next, "");
        records.sort_by_key(|record| record.seq);
        records
    }

    async fn number(&self, sql: &'static str) -> i64 {
        read!(&self.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
    }

    async fn run(&self, sql: &'static str) {
        let mut tx = self.db.begin().await.unwrap();
        on!(tx, |c| sqlx::query(sql).execute(c).await.map(|_| ())).unwrap();
        tx.commit().await.unwrap();
    }

    async fn patch(&self, ctx: &OpCtx, id: Uuid, patch: UserPatch) -> Result<User, Failure> {
        self.app.update_user(ctx, &id.to_string(), patch).await.map_err(Failure::from)
    }
}

/// Keys and revocations straight from the use cases.
struct Source(Arc<App>);

#[async_trait]
impl KeySource for Source {
    async fn jwks(&self) -> Result<String, Failure> {
        Ok(self.0.jwks().await?)
    }

    async fn news(&self, after: i64) -> Result<News, Failure> {
        Ok(self.0.news(after).await?)
    }

    async fn api_key(&self, key: &str) -> Result<Principal, Failure> {
        Ok(self.0.resolve_api_key(key).await?)
    }
}

/// Nobody, from an address.
fn from(address: &str) -> OpCtx {
    let origin = Origin { address: address.into(), user_agent: "test".into(), request_id: "r-1".into() };
    OpCtx::new(None, None, origin, None)
}

fn as_principal(principal: Principal, token: String) -> OpCtx {
    OpCtx::new(Some(principal), Some(token), from("192.0.2.7").origin().clone(), None)
}

fn role(role: Role) -> UserPatch {
    UserPatch { role: Some(role.to_string()), ..UserPatch::default() }
}

fn active(is_active: bool) -> UserPatch {
    UserPatch { is_active: Some(is_active), ..UserPatch::default() }
}

fn secret(text: &str) -> SecretString {
    text.into()
}

/// The failure of a use case that must not work.
fn failure<T, E: Into<Failure>>(result: Result<T, E>) -> Failure {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => error.into(),
    }
}
