//! One of the clients: asks for what comes to its mind, again and again where no answer comes, and writes down what was
//! answered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::model::{Act, Role, State};
use crate::{
    conventions::{IDEMPOTENCY_KEY, post, version},
    harness::{Answer, Api, try_send},
};

/// How long a client waits for an answer of a process that may be dead.
const IMPATIENCE: Duration = Duration::from_secs(10);
/// How long it goes on asking.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it asks for an answer of which it hears that it is on its way or lost.
const LOST: usize = 4;
const RESULTS: [&str; 3] = ["detected", "partially_detected", "not_detected"];

/// One who asks.
#[derive(Clone)]
pub struct Person {
    pub username: String,
    pub id: String,
    pub role: Role,
    pub api: Api,
}

/// What is known of a test while all go on.
#[derive(Clone)]
pub struct Known {
    pub id: String,
    pub state: State,
    pub version: u64,
    pub creator: usize,
}

/// What was accepted.
#[derive(Clone, Debug)]
pub enum Done {
    /// A new test; its technique.
    Created(usize),
    /// A new test that tests another one again: by hand, of that one.
    Retest {
        of: String,
    },
    /// A change, and the version after it; none where the answer was lost.
    Changed(Act, Option<u64>),
    Comment,
}

/// One accepted request.
#[derive(Clone, Debug)]
pub struct Entry {
    pub test: String,
    pub who: usize,
    pub done: Done,
}

/// What all clients share.
pub struct Game {
    pub people: Vec<Person>,
    pub techniques: Vec<String>,
    /// Tests that are still to be made.
    pub to_make: AtomicUsize,
    pub tests: Mutex<Vec<Known>>,
    pub journal: Mutex<Vec<Entry>>,
    pub accepted: AtomicU64,
    /// Nobody asks for more once so much was accepted.
    pub limit: AtomicU64,
    pub refused: AtomicU64,
    /// Requests that were sent more than once.
    pub repeated: AtomicU64,
    pub stop: AtomicBool,
    numbers: AtomicUsize,
}

impl Game {
    pub fn new(people: Vec<Person>, techniques: Vec<String>, tests: usize) -> Game {
        Game {
            people,
            techniques,
            to_make: AtomicUsize::new(tests),
            tests: Mutex::default(),
            journal: Mutex::default(),
            accepted: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            numbers: AtomicUsize::new(0),
        }
    }

    fn write(&self, test: &str, who: usize, done: Done) {
        self.journal.lock().unwrap().push(Entry { test: test.to_owned(), who, done });
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }

    /// Keeps the newest that anybody heard.
    fn heard(&self, id: &str, state: State, version: u64, creator: usize) {
        let mut tests = self.tests.lock().unwrap();
        match tests.iter_mut().find(|test| test.id == id) {
            Some(known) if known.version < version => (known.state, known.version) = (state, version),
            Some(_) => {}
            None => tests.push(Known { id: id.to_owned(), state, version, creator }),
        }
    }

    fn number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// What somebody wants to do with a test.
enum Wish {
    Change(Act),
    Comment,
    Retest,
}

pub async fn play(game: Arc<Game>, me: usize, mut random: StdRng) {
    let client = Client { game: &game, me, person: game.people[me].clone() };
    while !game.stop.load(Ordering::SeqCst) {
        if game.accepted.load(Ordering::SeqCst) >= game.limit.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let creates = matches!(client.person.role, Role::RedTech | Role::Admin);
        if creates && random.random_bool(0.4) && client.takes_ticket() {
            let technique = random.random_range(0..game.techniques.len());
            client.create(technique).await;
            continue;
        }
        let Some((test, wish)) = client.choose(&mut random) else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        match wish {
            Wish::Change(act) => client.change(&test, act).await,
            Wish::Comment => client.comment(&test).await,
            Wish::Retest => client.retest(&test).await,
        }
    }
}

struct Client<'a> {
    game: &'a Game,
    me: usize,
    person: Person,
}

impl Client<'_> {
    fn takes_ticket(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.game.to_make.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    /// A test and what to do with it: mostly something that should go, sometimes anything.
    fn choose(&self, random: &mut StdRng) -> Option<(Known, Wish)> {
        let tests = self.game.tests.lock().unwrap();
        if tests.is_empty() {
            return None;
        }
        let any = random.random_bool(0.2);
        for _ in 0..20 {
            let test = &tests[random.random_range(0..tests.len())];
            let wish = match random.random_range(0..100) {
                0..4 => Wish::Comment,
                4..7 => Wish::Retest,
                _ => Wish::Change(self.act(random)),
            };
            let good = match &wish {
                Wish::Change(Act::Remediate(_)) => random.random_bool(0.5) || test.state == State::Validated,
                Wish::Change(act) => act.open_to(self.person.role, test.creator == self.me) && act.fits(test.state),
                Wish::Comment => true,
                Wish::Retest => test.state == State::Validated,
            };
            if any || good {
                return Some((test.clone(), wish));
            }
        }
        None
    }

    fn act(&self, random: &mut StdRng) -> Act {
        let result = RESULTS[random.random_range(0..3)];
        let yes = random.random_bool(0.75);
        match random.random_range(0..22) {
            0..3 => Act::Start,
            3..6 => Act::SubmitRed,
            6..9 => Act::SubmitBlue,
            9 => Act::Reopen,
            10..12 => Act::VoteRed(yes),
            12..14 => Act::VoteBlue(yes),
            14 => Act::Validate(result),
            15 => Act::Reject,
            16 => Act::Edit,
            17..19 => Act::EditRed,
            19..21 => Act::EditBlue(result),
            _ => Act::Remediate(["pending", "in_progress", "completed"][random.random_range(0..3)]),
        }
    }

    async fn create(&self, technique: usize) {
        let name = format!("chaos {}", self.game.number());
        let body = json!({"technique_id": self.game.techniques[technique], "name": name, "platform": "linux"});
        let (answer, _) = self.keyed(|| self.person.api.request(Method::POST, "/tests").json(&body)).await;
        let id = match answer.status {
            201 => answer.value()["id"].as_str().unwrap().to_owned(),
            // The answer was lost, what was made was not.
            409 => self.lost(&answer),
            _ => panic!("{answer}"),
        };
        self.game.heard(&id, State::Draft, 1, self.me);
        self.game.write(&id, self.me, Done::Created(technique));
    }

    async fn comment(&self, test: &Known) {
        let body = json!({"text": format!("seen {}", self.game.number())});
        let path = format!("/tests/{}/comments", test.id);
        let (answer, _) = self.keyed(|| self.person.api.request(Method::POST, &path).json(&body)).await;
        assert!(matches!(answer.status, 201 | 409), "{answer}");
        if answer.status == 409 {
            self.lost(&answer);
        }
        self.game.write(&test.id, self.me, Done::Comment);
    }

    async fn retest(&self, test: &Known) {
        let path = format!("/tests/{}/retest", test.id);
        let (answer, _) = self.keyed(|| self.person.api.request(Method::POST, &path)).await;
        let id = match answer.status {
            201 => answer.value()["id"].as_str().unwrap().to_owned(),
            409 if is_lost(&answer) => self.lost(&answer),
            400 | 403 | 409 => return self.refused(&answer),
            _ => panic!("{answer}"),
        };
        assert_ne!(id, test.id, "a retest is another test");
        self.game.heard(&id, State::Draft, 1, self.me);
        self.game.write(&id, self.me, Done::Retest { of: test.id.clone() });
    }

    async fn change(&self, test: &Known, act: Act) {
        let (path, body) = request(act, self.game.number());
        let path = format!("/tests/{}/{path}", test.id);
        match act {
            Act::Edit | Act::EditRed | Act::EditBlue(_) | Act::Remediate(_) => {
                self.patch(test, act, &path, &body).await
            }
            _ => {
                let sent = Some(&body).filter(|body| !body.is_null());
                let (answer, _) = self.keyed(|| post(&self.person.api, &path, sent)).await;
                match answer.status {
                    200 => self.changed(test, act, &answer),
                    409 if is_lost(&answer) => self.game.write(&test.id, self.me, Done::Changed(act, None)),
                    400 | 403 | 409 => self.refused(&answer),
                    _ => panic!("{answer}"),
                }
            }
        }
    }

    /// A PATCH has no key. With the version that it is for it is made once as well; whether it was made shows in the
    /// timeline.
    async fn patch(&self, test: &Known, act: Act, path: &str, body: &Value) {
        let path = path.trim_end_matches('/');
        let tag = format!("\"{}-0000000000000000\"", test.version);
        let ask = || self.person.api.request(Method::PATCH, path).header("if-match", &tag).json(body);
        let (answer, attempts) = self.answered(ask).await;
        match answer.status {
            200 => {
                assert_eq!(version(&answer), test.version + 1, "{answer}");
                self.changed(test, act, &answer);
            }
            412 if attempts > 1 && self.is_in_timeline(&test.id, body).await => {
                self.game.write(&test.id, self.me, Done::Changed(act, Some(test.version + 1)));
            }
            412 => {
                let current = answer.value()["context"]["version"].as_str().and_then(|text| text.parse().ok());
                let current: u64 = current.unwrap_or_else(|| panic!("{answer}"));
                assert!(current > test.version, "{answer}");
                self.refused(&answer);
                self.read(&test.id).await;
            }
            400 | 403 | 409 => self.refused(&answer),
            _ => panic!("{answer}"),
        }
    }

    fn changed(&self, test: &Known, act: Act, answer: &Answer) {
        let (body, version) = (answer.value(), version(answer));
        let state = State::parse(body["state"].as_str().unwrap());
        self.game.heard(&test.id, state, version, test.creator);
        if let Some(retest) = body["retest"]["id"].as_str() {
            let creator = self.game.people.iter().position(|person| body["retest"]["created_by"] == person.id.as_str());
            self.game.heard(retest, State::Draft, 1, creator.unwrap());
        }
        self.game.write(&test.id, self.me, Done::Changed(act, Some(version)));
    }

    /// A refusal that tells where the test is has to fit the workflow.
    fn refused(&self, answer: &Answer) {
        self.game.refused.fetch_add(1, Ordering::SeqCst);
        let detail = &answer.value()["detail"];
        if detail["code"] == "INVALID_TRANSITION" {
            let state = |field: &str| State::parse(detail[field].as_str().unwrap());
            let (current, target) = (state("current_state"), state("target_state"));
            assert!(!current.next().contains(&target), "{answer}");
            let names: Vec<&str> = current.next().iter().map(|state| state.name()).collect();
            assert_eq!(detail["valid_transitions"], json!(names), "{answer}");
        }
    }

    async fn read(&self, id: &str) {
        let (answer, _) = self.answered(|| self.person.api.request(Method::GET, &format!("/tests/{id}"))).await;
        let body = answer.json(200);
        let creator = self.game.people.iter().position(|person| body["created_by"] == person.id.as_str()).unwrap();
        let state = State::parse(body["state"].as_str().unwrap());
        self.game.heard(id, state, version(&answer), creator);
    }

    /// Every edit has words that no other one has.
    async fn is_in_timeline(&self, id: &str, body: &Value) -> bool {
        let words = body.as_object().unwrap().values().find_map(|value| value.as_str().filter(|v| v.contains("edit ")));
        let words = words.unwrap();
        let path = format!("/tests/{id}/timeline?limit=1000");
        let (answer, _) = self.answered(|| self.person.api.request(Method::GET, &path)).await;
        answer
            .json(200)
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["details"]["after"].as_object().is_some_and(|after| after.values().any(|v| v == words)))
    }

    /// The id in the answer to a request whose first answer was lost.
    fn lost(&self, answer: &Answer) -> String {
        assert!(is_lost(answer), "{answer}");
        answer.value()["context"]["id"].as_str().unwrap_or_default().to_owned()
    }

    async fn keyed(&self, request: impl Fn() -> RequestBuilder) -> (Answer, usize) {
        let key = format!("chaos-{:032x}", rand::random::<u128>());
        let ask = || request().header(IDEMPOTENCY_KEY, &key);
        let mut attempts = 0;
        for _ in 0..LOST {
            let (answer, more) = self.answered(ask).await;
            attempts += more;
            let again = answer.status == 409 && (is_lost(&answer) || answer.text().contains("already being carried"));
            if !again {
                return (answer, attempts);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.answered(ask).await
    }

    /// Asks until there is an answer that is no dead process's.
    async fn answered(&self, request: impl Fn() -> RequestBuilder) -> (Answer, usize) {
        let since = Instant::now();
        for attempt in 1.. {
            let why = match try_send(request().timeout(IMPATIENCE)).await {
                Ok(answer) if !matches!(answer.status, 502..=504) => {
                    assert!(matches!(answer.status, 200..=299 | 400 | 403 | 409 | 412), "{answer}");
                    return (answer, attempt);
                }
                Ok(answer) => answer.to_string(),
                Err(error) => error.to_string(),
            };
            if attempt == 1 {
                self.game.repeated.fetch_add(1, Ordering::SeqCst);
            }
            assert!(since.elapsed() < PATIENCE, "no answer for {PATIENCE:?}; the last: {why}");
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        unreachable!()
    }
}

/// Whether the request was carried out before and its answer is not there.
fn is_lost(answer: &Answer) -> bool {
    answer.text().contains("was carried out")
}

/// Path and body of a change.
fn request(act: Act, number: usize) -> (&'static str, Value) {
    let vote = |yes: bool| if yes { "approved" } else { "rejected" };
    let words = format!("edit {number}");
    match act {
        Act::Start => ("start-execution", json!(null)),
        Act::SubmitRed => ("submit-red", json!(null)),
        Act::SubmitBlue => ("submit-blue", json!(null)),
        Act::Reopen => ("reopen", json!(null)),
        Act::VoteRed(yes) => ("validate-red", json!({"red_validation_status": vote(yes)})),
        Act::VoteBlue(yes) => ("validate-blue", json!({"blue_validation_status": vote(yes)})),
        Act::Validate(result) => ("validate", json!({"result": result})),
        Act::Reject => ("reject", json!({"comments": words})),
        Act::Edit => ("", json!({"description": words})),
        Act::EditRed => ("red", json!({"red_summary": words})),
        Act::EditBlue(result) => ("blue", json!({"detection_result": result, "blue_summary": words})),
        Act::Remediate(status) => ("remediation", json!({"remediation_status": status, "remediation_steps": words})),
    }
}
