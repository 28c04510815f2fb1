//! The live stream of one's own notifications, over gRPC, as its callers see it.

use std::time::Duration;

use aegis_auth::AuthLayer;
use aegis_events::{Handler, system_actor};
use aegis_proto::{
    events::v1::{Envelope, TestChanged},
    identity::v1::{
        MarkAllReadRequest, WatchNotificationsRequest, WatchNotificationsResponse,
        notification_service_client::NotificationServiceClient, watch_notifications_response::Item,
    },
};
use aegis_rpc::{RpcService, local};
use prost::Message;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tower::Layer;

use crate::PUBLIC_METHODS;

use super::*;

/// More than any of this takes; what must not come is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The service of a bench, with the task that brings what is new.
struct Live {
    bench: Bench,
    client: NotificationServiceClient<RpcService>,
    stop: CancellationToken,
    hub: tokio::task::JoinHandle<()>,
}

impl Live {
    fn new(bench: Bench) -> Live {
        let routes = crate::rpc::routes(Arc::clone(&bench.app)).prepare();
        let edge = local(AuthLayer::new(bench.verifier.clone(), PUBLIC_METHODS).layer(routes));
        let stop = CancellationToken::new();
        let hub = tokio::spawn(bench.app.hub.clone().run(bench.db.clone(), stop.clone()));
        Live { bench, client: NotificationServiceClient::new(edge), stop, hub }
    }

    async fn close(self) {
        self.stop.cancel();
        self.hub.await.unwrap();
    }

    async fn open(&self, ctx: &OpCtx, after_seq: Option<i64>) -> Result<Watched, Status> {
        let request = ctx.outgoing(WatchNotificationsRequest { after_seq });
        Ok(Watched(self.client.clone().watch_notifications(request).await?.into_inner()))
    }

    /// `count` notifications for `user`, in one transaction, as another replica would make them if it is another's
    /// service.
    async fn notify(&self, app: &App, user: &User, count: usize) {
        let intake = Intake::new(app.hub.clone());
        let mut tx = self.bench.db.begin().await.unwrap();
        for _ in 0..count {
            let test = TestChanged {
                test_id: Uuid::now_v7().to_string(),
                name: "Dump LSASS".into(),
                created_by: user.id.to_string(),
                previous_state: "in_review".into(),
                state: "rejected".into(),
                ..TestChanged::default()
            };
            let event = Envelope {
                id: Uuid::now_v7().to_string(),
                r#type: "testing.test.changed".into(),
                actor: Some(system_actor("testing")),
                data: test.encode_to_vec(),
                ..Envelope::default()
            };
            intake.handle(&mut tx, &event).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    async fn until_streams(&self, count: usize) {
        timeout(PATIENCE, async {
            while self.bench.app.hub.streams() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}

struct Watched(Streaming<WatchNotificationsResponse>);

impl Watched {
    /// What comes next; nothing after the end.
    async fn next(&mut self) -> Option<Item> {
        let item = timeout(PATIENCE, self.0.message()).await.unwrap().unwrap();
        item.map(|item| item.item.unwrap())
    }

    /// The position of the next notification.
    async fn seq(&mut self) -> i64 {
        loop {
            match self.next().await {
                Some(Item::Notification(notification)) => return notification.seq,
                Some(Item::Unread(_)) => {}
                other => panic!("{other:?} instead of a notification"),
            }
        }
    }

    /// The next count of unread notifications, and where the stream has come to.
    async fn unread(&mut self) -> (i64, i64) {
        loop {
            match self.next().await {
                Some(Item::Unread(unread)) => return (unread.unread_count, unread.seq),
                Some(Item::Notification(_)) => {}
                other => panic!("{other:?} instead of a count"),
            }
        }
    }

    async fn end(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Item::Ended(ended)) => {
                    assert_eq!(self.next().await, None);
                    return ended.code;
                }
                Some(_) => {}
                None => panic!("it ended without a word"),
            }
        }
    }
}

/// Runs a test on each database.
async fn live(config: Config, test: impl AsyncFn(&Live)) {
    for home in fresh().await {
        println!("on {}", home.name);
        let live = Live::new(Bench::new(&home.db, config.clone()).await);
        test(&live).await;
        live.close().await;
        home.close().await;
    }
}

#[tokio::test]
async fn one_sees_ones_own_as_they_come_and_goes_on_where_one_was() {
    live(config(), async |live| {
        let (ana, ben) = (live.bench.user("ana", Role::Viewer).await, live.bench.user("ben", Role::Viewer).await);
        let (ana_ctx, ben_ctx) = (live.bench.sign_in("ana", PASSWORD).await, live.bench.sign_in("ben", PASSWORD).await);
        let app = &live.bench.app;
        live.notify(app, &ana, 2).await;

        let mut hers = live.open(&ana_ctx, None).await.unwrap();
        let mut his = live.open(&ben_ctx, None).await.unwrap();
        assert_eq!(hers.unread().await, (2, 2));
        assert_eq!(his.unread().await, (0, 2));
        live.notify(app, &ben, 1).await;
        live.notify(app, &ana, 3).await;
        for seq in [4, 5, 6] {
            assert_eq!(hers.seq().await, seq);
        }
        assert_eq!(hers.unread().await, (5, 6));
        // He had one of his own and none of hers.
        assert_eq!(his.seq().await, 3);
        assert_eq!(his.unread().await, (1, 3));

        // Marking is told, also when another replica did it.
        let replica = App::new(live.bench.db.clone(), Cache::memory(), config());
        assert_eq!(replica.mark_all_read(&ana_ctx).await.unwrap(), 5);
        assert_eq!(hers.unread().await, (0, 6));
        live.client.clone().mark_all_read(ben_ctx.outgoing(MarkAllReadRequest {})).await.unwrap();
        assert_eq!(his.unread().await, (0, 3));
        // So is what another replica adds.
        live.notify(&replica, &ana, 1).await;
        let new = hers.seq().await;

        drop(hers);
        live.until_streams(1).await;
        live.notify(app, &ana, 2).await;
        let mut hers = live.open(&ana_ctx, Some(5)).await.unwrap();
        assert_eq!(hers.unread().await, (3, 5));
        for seq in [6, new, new + 1, new + 2] {
            assert_eq!(hers.seq().await, seq);
        }
        live.notify(app, &ana, 1).await;
        assert_eq!(hers.seq().await, new + 3);
        // A position of another database is the present.
        let mut ahead = live.open(&ana_ctx, Some(1_000_000)).await.unwrap();
        assert_eq!(ahead.unread().await, (4, new + 3));
        live.notify(app, &ana, 1).await;
        assert_eq!(ahead.seq().await, new + 4);
        assert_eq!(hers.seq().await, new + 4);
        assert_eq!(Failure::from(live.open(&ana_ctx, Some(-1)).await.err().unwrap()).code(), Code::Validation);

        drop((hers, his, ahead));
        live.until_streams(0).await;
    })
    .await;
}

#[tokio::test]
async fn who_reads_late_loses_nothing_and_who_never_catches_up_is_told() {
    live(config(), async |live| {
        let ana = live.bench.user("ana", Role::Viewer).await;
        let ctx = live.bench.sign_in("ana", PASSWORD).await;
        let app = &live.bench.app;
        let mut late = live.open(&ctx, None).await.unwrap();
        assert_eq!(late.unread().await, (0, 0));
        // A second one, read at once, says when all was handed out.
        let mut prompt = live.open(&ctx, None).await.unwrap();
        let mut last = 0;
        let mut bring = async |count: i64| {
            for _ in 0..count / 100 {
                live.notify(app, &ana, 100).await;
                for _ in 0..100 {
                    last = prompt.seq().await;
                }
            }
        };
        bring(1300).await;
        for seq in 1..=1300 {
            assert_eq!(late.seq().await, seq);
        }
        assert_eq!(late.unread().await.0, 1300);

        // Whenever it has read what it missed, more has come than its queue holds.
        let (mut rounds, mut seen) = (0, 1300);
        let code = loop {
            assert!(rounds < 6, "it is never told");
            if seen >= 1300 + rounds * 300 {
                bring(300).await;
                rounds += 1;
            }
            match late.next().await.unwrap() {
                Item::Notification(notification) => {
                    seen += 1;
                    assert_eq!(notification.seq, seen);
                }
                Item::Unread(_) => {}
                Item::Ended(ended) => break ended.code,
            }
        };
        assert_eq!(code, "SLOW_READER");
        drop(late);
        live.until_streams(1).await;

        // Who comes back after a long time has the newest thousand.
        drop(prompt);
        let mut back = live.open(&ctx, Some(1)).await.unwrap();
        let first = last - 999;
        assert_eq!(back.unread().await, (last, first - 1));
        for seq in first..=last {
            assert_eq!(back.seq().await, seq);
        }
    })
    .await;
}

#[tokio::test]
async fn streams_are_counted_and_end_with_the_service() {
    let config = Config { notification_streams_per_user: 2, notification_streams: 3, ..config() };
    live(config, async |live| {
        for name in ["ana", "ben"] {
            live.bench.user(name, Role::Viewer).await;
        }
        let (ana, ben) = (live.bench.sign_in("ana", PASSWORD).await, live.bench.sign_in("ben", PASSWORD).await);
        let first = live.open(&ana, None).await.unwrap();
        let mut second = live.open(&ana, None).await.unwrap();
        let refused = Failure::from(live.open(&ana, None).await.err().unwrap());
        assert_eq!(refused.code(), Code::RateLimited);
        assert!(refused.retry_after().is_some());
        let mut his = live.open(&ben, None).await.unwrap();
        assert_eq!(Failure::from(live.open(&ben, None).await.err().unwrap()).code(), Code::RateLimited);
        drop(first);
        live.until_streams(2).await;
        let _again = live.open(&ana, None).await.unwrap();

        let nobody = from("192.0.2.1");
        assert_eq!(Failure::from(live.open(&nobody, None).await.err().unwrap()).code(), Code::Unauthenticated);
        live.stop.cancel();
        assert_eq!(second.end().await, "SERVICE_UNAVAILABLE");
        assert_eq!(his.end().await, "SERVICE_UNAVAILABLE");
    })
    .await;
}

#[tokio::test]
async fn who_must_change_the_password_sees_nothing() {
    live(config(), async |live| {
        let new = NewUser {
            username: "new".into(),
            email: None,
            password: PASSWORD.into(),
            role: Role::Viewer.to_string(),
            must_change_password: true,
        };
        live.bench.app.create_user(&live.bench.admin().await, new).await.unwrap();
        let ctx = live.bench.sign_in("new", PASSWORD).await;
        let refused = Failure::from(live.open(&ctx, None).await.err().unwrap());
        assert_eq!(refused.code(), Code::PasswordChangeRequired);
        assert_eq!(live.bench.app.hub.streams(), 0);
    })
    .await;
}
