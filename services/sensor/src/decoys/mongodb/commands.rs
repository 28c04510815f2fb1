//! What a MongoDB server answers to a command.

mod documents;

use std::{net::IpAddr, sync::PoisonError, time::Instant};

use chrono::Utc;

use super::{
    Mongo,
    bson::{Bson, Doc},
    build::Build,
    store::{self, FORGET, Store, compare, fits, projected, updated},
};
use crate::{
    decoys::scram::Scram,
    shell::{Facts, Machine},
};
use documents::full;

/// The most documents of one answer, and its size.
const MOST_DOCS: usize = 1_000;
const MOST_BYTES: usize = 1 << 20;
/// How many documents a command may look at, all its stages together.
const MOST_LOOKED: usize = 50_000;

/// One client.
pub(super) struct Client<'a> {
    pub(super) of: &'a Mongo,
    pub(super) build: Build,
    pub(super) number: i32,
    pub(super) peer: (IpAddr, u16),
    pub(super) scram: Option<Scram>,
    /// Whether the client wants no empty last step of a login.
    pub(super) skips: bool,
    /// Whose login is done: user and database.
    pub(super) user: Option<(String, String)>,
}

/// `ok`.
pub(super) fn good(doc: Doc) -> Doc {
    doc.with("ok", 1.0)
}

/// An error.
pub(super) fn bad(code: i32, name: &str, message: impl Into<String>) -> Doc {
    Doc::default().with("ok", 0.0).with("errmsg", message.into()).with("code", code).with("codeName", name)
}

fn date(time: chrono::DateTime<Utc>) -> Bson {
    Bson::Date(time.timestamp_millis())
}

fn cursor(database: &str, collection: &str, docs: Vec<Doc>) -> Doc {
    let mut size = 0;
    let docs = docs.into_iter().take(MOST_DOCS).take_while(|doc| {
        size += doc.size();
        size < MOST_BYTES
    });
    let docs: Vec<Bson> = docs.map(Bson::Doc).collect();
    let cursor =
        Doc::default().with("firstBatch", docs).with("id", 0_i64).with("ns", format!("{database}.{collection}"));
    good(Doc::default().with("cursor", cursor))
}

impl Client<'_> {
    fn with<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.of.store.lock().unwrap_or_else(PoisonError::into_inner);
        if store.as_ref().is_some_and(|store| store.used.elapsed() > FORGET) {
            *store = None;
        }
        let store = store.get_or_insert_with(|| Store::of(&self.of.persona));
        store.used = Instant::now();
        act(store)
    }

    fn uptime(&self) -> i64 {
        (Utc::now() - self.of.persona.booted_at).num_seconds().max(20) - 14
    }

    /// Whether a command needs no login.
    fn is_free(name: &str) -> bool {
        matches!(
            name,
            "hello"
                | "ismaster"
                | "isMaster"
                | "ping"
                | "buildInfo"
                | "buildinfo"
                | "saslStart"
                | "saslContinue"
                | "logout"
                | "authenticate"
                | "getnonce"
                | "connectionStatus"
                | "whatsmyuri"
                | "endSessions"
        )
    }

    /// The answer to a command.
    pub(super) fn command(&mut self, database: &str, command: &Doc, legacy: bool) -> Doc {
        let Some((name, first)) = command.0.first() else {
            return bad(59, "CommandNotFound", "no such command: ''");
        };
        let collection = match first {
            Bson::Text(text) => text.as_str(),
            _ => "",
        };
        if legacy && self.build.wire > 13 && !matches!(name.as_str(), "hello" | "ismaster" | "isMaster") {
            return bad(
                352,
                "UnsupportedOpQueryCommand",
                format!(
                    "Unsupported OP_QUERY command: {name}. The client driver may require an upgrade. For more details see \
                         https://dochub.mongodb.org/core/legacy-opcode-removal"
                ),
            );
        }
        if self.of.guarded && self.user.is_none() && !Self::is_free(name) {
            return bad(13, "Unauthorized", format!("command {name} requires authentication"));
        }
        match name.as_str() {
            "hello" | "ismaster" | "isMaster" => self.hello(name, command),
            "ping" | "endSessions" | "killCursors" | "logout" | "refreshSessions" | "abortTransaction"
            | "commitTransaction" | "startSession" | "killSessions" | "fsync" | "setParameter" | "profile"
            | "validate" | "compact" | "reIndex" => good(Doc::default()),
            "buildInfo" | "buildinfo" => good(self.build_info()),
            "serverStatus" => good(self.status()),
            "hostInfo" => good(self.host()),
            "whatsmyuri" => good(Doc::default().with("you", format!("{}:{}", self.peer.0, self.peer.1))),
            "connectionStatus" => {
                let users: Vec<Bson> = self
                    .user
                    .iter()
                    .map(|(user, db)| Doc::default().with("user", user.as_str()).with("db", db.as_str()).into())
                    .collect();
                let info =
                    Doc::default().with("authenticatedUsers", users).with("authenticatedUserRoles", Vec::<Bson>::new());
                good(Doc::default().with("authInfo", info))
            }
            "getLog" => self.log(collection),
            "getCmdLineOpts" => {
                let net = Doc::default().with("bindIp", "0.0.0.0").with("port", 27_017);
                let parsed = Doc::default()
                    .with("config", self.build.config)
                    .with("net", net)
                    .with("storage", Doc::default().with("dbPath", self.build.data));
                let argv: Vec<Bson> = ["/usr/bin/mongod", "--config", self.build.config].map(Bson::from).to_vec();
                good(Doc::default().with("argv", argv).with("parsed", parsed))
            }
            "getParameter" => {
                let known = Doc::default().with(
                    "featureCompatibilityVersion",
                    Doc::default().with("version", format!("{}.{}", self.build.numbers[0], self.build.numbers[1])),
                );
                good(known)
            }
            "getFreeMonitoringStatus" => good(Doc::default().with("state", "undecided")),
            "isdbgrid" | "replSetGetStatus" if name == "replSetGetStatus" => {
                bad(76, "NoReplicationEnabled", "not running with --replSet")
            }
            "listDatabases" if database != "admin" => {
                bad(13, "Unauthorized", "listDatabases may only be run against the admin database.")
            }
            "listDatabases" => self.databases(command),
            "listCollections" => self.collections(database, command),
            "find" => self.find(database, collection, command),
            "getMore" => bad(43, "CursorNotFound", format!("cursor id {} not found", first.whole().unwrap_or(0))),
            "count" => {
                let filter = command.doc("query").cloned().unwrap_or_default();
                let count =
                    self.with(|store| store.docs(database, collection).iter().filter(|doc| fits(doc, &filter)).count());
                good(Doc::default().with("n", i32::try_from(count).unwrap_or(i32::MAX)))
            }
            "distinct" => {
                let (key, filter) =
                    (command.text("key").unwrap_or(""), command.doc("query").cloned().unwrap_or_default());
                let mut values: Vec<Bson> = Vec::new();
                self.with(|store| {
                    for doc in store.docs(database, collection).iter().filter(|doc| fits(doc, &filter)) {
                        if let Some(value) = doc.path(key)
                            && values.len() < MOST_DOCS
                            && !values.contains(value)
                        {
                            values.push(value.clone());
                        }
                    }
                });
                good(Doc::default().with("values", values))
            }
            "aggregate" => self.aggregate(database, collection, command),
            "insert" => self.insert(database, collection, command),
            "update" => self.update(database, collection, command),
            "delete" => self.delete(database, collection, command),
            "findAndModify" | "findandmodify" => good(Doc::default().with("value", Bson::Null)),
            "create" => {
                let made = self.with(|store| store.collection(database, collection).is_some());
                if made { good(Doc::default()) } else { full() }
            }
            "drop" => self.with(|store| {
                let gone = store.databases.get_mut(database).and_then(|collections| collections.remove(collection));
                match gone {
                    Some(gone) => {
                        store.give(gone.docs.iter().map(Doc::size).sum());
                        good(Doc::default().with("nIndexesWas", 1).with("ns", format!("{database}.{collection}")))
                    }
                    None => bad(26, "NamespaceNotFound", "ns not found"),
                }
            }),
            "dropDatabase" => self.with(|store| match store.databases.remove(database) {
                Some(gone) => {
                    store.give(gone.values().flat_map(|collection| &collection.docs).map(Doc::size).sum());
                    good(Doc::default().with("dropped", database))
                }
                None => good(Doc::default()),
            }),
            "renameCollection" => good(Doc::default()),
            "createIndexes" => good(
                Doc::default()
                    .with("numIndexesBefore", 1)
                    .with("numIndexesAfter", 2)
                    .with("createdCollectionAutomatically", false),
            ),
            "listIndexes" => {
                if self.with(|store| !store.databases.get(database).is_some_and(|of| of.contains_key(collection))) {
                    return bad(26, "NamespaceNotFound", format!("ns does not exist: {database}.{collection}"));
                }
                let index = Doc::default().with("v", 2).with("key", Doc::default().with("_id", 1)).with("name", "_id_");
                cursor(database, collection, vec![index])
            }
            "dbStats" | "dbstats" => {
                let (collections, docs, size) = self.with(|store| {
                    let of = store.databases.get(database);
                    let docs = || of.into_iter().flatten().flat_map(|(_, collection)| &collection.docs);
                    (of.map_or(0, |of| of.len()), docs().count(), docs().map(Doc::size).sum::<usize>())
                });
                let number = |number: usize| Bson::Long(i64::try_from(number).unwrap_or(0));
                good(
                    Doc::default()
                        .with("db", database)
                        .with("collections", number(collections))
                        .with("views", 0_i64)
                        .with("objects", number(docs))
                        .with("dataSize", number(size))
                        .with("indexes", number(collections)),
                )
            }
            "usersInfo" => good(Doc::default().with("users", Vec::<Bson>::new())),
            "rolesInfo" => good(Doc::default().with("roles", Vec::<Bson>::new())),
            "createUser" | "createRole" | "grantRolesToUser" | "updateUser" | "dropUser" => good(Doc::default()),
            "shutdown" => bad(13, "Unauthorized", "shutdown must run from localhost when running db without auth"),
            "eval" | "$eval" | "mapReduce" | "mapreduce" | "copydb" if self.build.wire > 7 => {
                bad(59, "CommandNotFound", format!("no such command: '{name}'"))
            }
            "top" | "currentOp" => good(Doc::default().with("inprog", Vec::<Bson>::new())),
            other => bad(59, "CommandNotFound", format!("no such command: '{other}'")),
        }
    }

    fn hello(&self, name: &str, command: &Doc) -> Doc {
        let mut doc = Doc::default();
        if command.get("helloOk").is_some() && self.build.wire >= 9 {
            doc = doc.with("helloOk", true);
        }
        doc = doc.with(if name == "hello" { "isWritablePrimary" } else { "ismaster" }, true);
        if self.build.wire >= 9 {
            let mut id = [0; 12];
            id.iter_mut().zip(self.of.persona.secret("mongodb process")).for_each(|(to, from)| *to = from);
            let version = Doc::default().with("processId", Bson::Id(id)).with("counter", 0_i64);
            doc = doc.with("topologyVersion", version);
        }
        doc = doc
            .with("maxBsonObjectSize", 16_777_216)
            .with("maxMessageSizeBytes", 48_000_000)
            .with("maxWriteBatchSize", 100_000)
            .with("localTime", date(Utc::now()))
            .with("logicalSessionTimeoutMinutes", 30)
            .with("connectionId", self.number)
            .with("minWireVersion", 0)
            .with("maxWireVersion", self.build.wire)
            .with("readOnly", false);
        if command.get("saslSupportedMechs").is_some() {
            doc = doc.with("saslSupportedMechs", vec!["SCRAM-SHA-1".into(), Bson::from("SCRAM-SHA-256")]);
        }
        good(doc)
    }

    fn build_info(&self) -> Doc {
        let build = &self.build;
        let (distmod, os) = build.target;
        let openssl = Doc::default().with("running", build.openssl).with("compiled", build.openssl);
        let environment = Doc::default()
            .with("distmod", distmod)
            .with("distarch", "x86_64")
            .with(
                "cc",
                if os == "windows" {
                    "cl: Microsoft (R) C/C++ Optimizing Compiler"
                } else {
                    "/opt/mongodbtoolchain/v3/bin/gcc: gcc (GCC) 8.5.0"
                },
            )
            .with("target_arch", "x86_64")
            .with("target_os", os);
        Doc::default()
            .with("version", build.version)
            .with("gitVersion", build.git)
            .with("modules", Vec::<Bson>::new())
            .with("allocator", build.allocator)
            .with("javascriptEngine", "mozjs")
            .with("sysInfo", "deprecated")
            .with("versionArray", build.numbers.map(Bson::Int).to_vec())
            .with("openssl", openssl)
            .with("buildEnvironment", environment)
            .with("bits", 64)
            .with("debug", false)
            .with("maxBsonObjectSize", 16_777_216)
            .with("storageEngines", ["devnull", "ephemeralForTest", "wiredTiger"].map(Bson::from).to_vec())
    }

    fn status(&self) -> Doc {
        let uptime = self.uptime();
        let connections = Doc::default()
            .with("current", 1)
            .with("available", 51_199)
            .with("totalCreated", self.number)
            .with("active", 1);
        let memory =
            Doc::default().with("bits", 64).with("resident", 118).with("virtual", 1_562).with("supported", true);
        Doc::default()
            .with("host", self.of.persona.hostname.as_str())
            .with("version", self.build.version)
            .with("process", if self.build.target.1 == "windows" { "mongod.exe" } else { "mongod" })
            .with("pid", Bson::Long(i64::try_from(self.of.persona.number("mongodb pid", 900)).unwrap_or(0) + 560))
            .with("uptime", Bson::Double(f64::from(i32::try_from(uptime).unwrap_or(i32::MAX))))
            .with("uptimeMillis", uptime * 1_000)
            .with("uptimeEstimate", uptime)
            .with("localTime", date(Utc::now()))
            .with("connections", connections)
            .with("mem", memory)
            .with("storageEngine", Doc::default().with("name", "wiredTiger").with("persistent", true))
    }

    fn host(&self) -> Doc {
        let machine = Machine::of(&self.of.persona);
        let memory = i64::try_from(machine.memory() / 1_024).unwrap_or(0);
        let cores = i32::try_from(machine.processors()).unwrap_or(2);
        let system = Doc::default()
            .with("currentTime", date(Utc::now()))
            .with("hostname", self.of.persona.hostname.as_str())
            .with("cpuAddrSize", 64)
            .with("memSizeMB", memory)
            .with("numCores", cores)
            .with("cpuArch", "x86_64")
            .with("numaEnabled", false);
        let facts = Facts::of(self.of.persona.os);
        let version =
            if facts.id == "ubuntu" { facts.version_id.to_owned() } else { format!("Kernel {}", facts.kernel) };
        let name =
            if facts.id == "debian" { format!("PRETTY_NAME=\"{}\"", facts.pretty) } else { facts.pretty.to_owned() };
        let kind = if self.build.target.1 == "windows" { "Windows" } else { facts.kernel_name };
        let os = Doc::default().with("type", kind).with("name", name).with("version", version);
        Doc::default().with("system", system).with("os", os).with("extra", Doc::default())
    }

    fn log(&self, which: &str) -> Doc {
        let lines: Vec<Bson> = if which == "startupWarnings" && !self.of.guarded {
            let time = self.of.persona.booted_at.format("%Y-%m-%dT%H:%M:%S%.3f+00:00");
            let warning = format!(
                "{{\"t\":{{\"$date\":\"{time}\"}},\"s\":\"W\",  \"c\":\"CONTROL\",  \"id\":22120,   \"ctx\":\"initandlisten\",\
                 \"msg\":\"Access control is not enabled for the database. Read and write access to data and configuration is \
                 unrestricted\",\"tags\":[\"startupWarnings\"]}}\n"
            );
            vec![warning.into()]
        } else {
            Vec::new()
        };
        let count = i32::try_from(lines.len()).unwrap_or(0);
        good(Doc::default().with("totalLinesWritten", count).with("log", lines))
    }

    fn databases(&self, command: &Doc) -> Doc {
        let names_only = command.number("nameOnly").unwrap_or(0) != 0;
        let (mut all, mut total) = (Vec::new(), 0_i64);
        self.with(|store| {
            for (name, collections) in &store.databases {
                let size: usize = collections.values().flat_map(|collection| &collection.docs).map(Doc::size).sum();
                let size = i64::try_from((size / 4_096 + 1 + collections.len() * 9) * 4_096).unwrap_or(0);
                total += size;
                let mut doc = Doc::default().with("name", name.as_str());
                if !names_only {
                    doc = doc.with("sizeOnDisk", size).with("empty", false);
                }
                all.push(Bson::Doc(doc));
            }
        });
        let mut doc = Doc::default().with("databases", all);
        if !names_only {
            doc = doc.with("totalSize", total).with("totalSizeMb", total / 1_048_576);
        }
        good(doc)
    }

    fn collections(&self, database: &str, command: &Doc) -> Doc {
        let filter = command.doc("filter").cloned().unwrap_or_default();
        let mut all = Vec::new();
        self.with(|store| {
            for (name, collection) in store.databases.get(database).into_iter().flatten() {
                let info =
                    Doc::default().with("readOnly", false).with("uuid", Bson::Binary(4, collection.uuid.to_vec()));
                let index = Doc::default().with("v", 2).with("key", Doc::default().with("_id", 1)).with("name", "_id_");
                let doc = Doc::default()
                    .with("name", name.as_str())
                    .with("type", "collection")
                    .with("options", Doc::default())
                    .with("info", info)
                    .with("idIndex", index);
                if fits(&doc, &filter) {
                    all.push(doc);
                }
            }
        });
        cursor(database, "$cmd.listCollections", all)
    }
}
