//! What a MySQL server knows of itself: variables, functions, the tables of `information_schema` and `mysql`.

use std::sync::Arc;

use chrono::Utc;

use super::build::Build;
use crate::{
    decoys::sql::{Context, Facts, Fault, Kind, Relation, Table, Value},
    persona::Persona,
};

/// A server and one connection to it.
pub(super) struct Server {
    pub(super) persona: Arc<Persona>,
    pub(super) build: Build,
    pub(super) connection: u32,
    /// Where the client is.
    pub(super) host: String,
    pub(super) port: u16,
    /// `LAST_INSERT_ID()`, `ROW_COUNT()`.
    pub(super) last_id: i64,
    pub(super) rows: i64,
}

impl Server {
    pub(super) fn uptime(&self) -> i64 {
        (Utc::now() - self.started()).num_seconds().max(1)
    }

    /// A service starts some seconds after its machine.
    fn started(&self) -> chrono::DateTime<Utc> {
        self.persona.booted_at + chrono::TimeDelta::seconds(9)
    }

    /// The server's own number, of its data folder.
    fn uuid(&self) -> String {
        let bytes = self.persona.secret("mysql uuid");
        let mut short = [0; 16];
        short.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        uuid::Builder::from_random_bytes(short).into_uuid().to_string()
    }

    /// All variables with their values.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let build = &self.build;
        let text = str::to_owned;
        let (charset, collation) = build.charset_name;
        let host = if build.compiled_for == "Win64" {
            self.persona.hostname.to_uppercase()
        } else {
            self.persona.hostname.clone()
        };
        let mut all = vec![
            ("auto_increment_increment", text("1")),
            ("auto_increment_offset", text("1")),
            ("autocommit", text("ON")),
            ("basedir", text(build.base)),
            ("bind_address", text("0.0.0.0")),
            ("character_set_client", text("utf8mb4")),
            ("character_set_connection", text("utf8mb4")),
            ("character_set_database", text(charset)),
            ("character_set_filesystem", text("binary")),
            ("character_set_results", text("utf8mb4")),
            ("character_set_server", text(charset)),
            ("character_set_system", text(if build.maria { "utf8" } else { "utf8mb3" })),
            ("collation_connection", text(collation)),
            ("collation_database", text(collation)),
            ("collation_server", text(collation)),
            ("connect_timeout", text("10")),
            ("datadir", text(build.data)),
            ("default_storage_engine", text("InnoDB")),
            ("event_scheduler", text(if build.maria { "OFF" } else { "ON" })),
            ("general_log", text("OFF")),
            ("general_log_file", format!("{}{host}.log", build.data)),
            ("have_ssl", text(if build.maria { "DISABLED" } else { "YES" })),
            ("hostname", host.clone()),
            ("init_connect", String::new()),
            ("innodb_buffer_pool_size", text("134217728")),
            ("innodb_version", build.version.split('-').next().unwrap_or("").to_owned()),
            ("interactive_timeout", text("28800")),
            ("license", text("GPL")),
            ("local_infile", text(if build.maria { "ON" } else { "OFF" })),
            ("log_bin", text(if build.maria { "OFF" } else { "ON" })),
            ("lower_case_table_names", text(if build.compiled_for == "Win64" { "1" } else { "0" })),
            ("max_allowed_packet", super::packet::LONGEST.to_string()),
            ("max_connections", text("151")),
            ("net_buffer_length", text("16384")),
            ("net_write_timeout", text("60")),
            ("performance_schema", text(if build.maria { "OFF" } else { "ON" })),
            ("plugin_dir", text(build.plugins)),
            ("port", text("3306")),
            ("protocol_version", text("10")),
            ("query_cache_size", text("0")),
            ("query_cache_type", text("OFF")),
            ("read_only", text("OFF")),
            ("secure_file_priv", text(build.files.unwrap_or(""))),
            ("server_id", text("1")),
            ("session_track_system_variables", text("time_zone,autocommit,character_set_client")),
            ("skip_networking", text("OFF")),
            ("slow_query_log", text("OFF")),
            ("socket", text("/run/mysqld/mysqld.sock")),
            ("sql_mode", text(build.mode)),
            ("system_time_zone", text("UTC")),
            ("time_zone", text("SYSTEM")),
            ("tmpdir", text("/tmp")),
            ("tx_isolation", text("REPEATABLE-READ")),
            ("transaction_isolation", text("REPEATABLE-READ")),
            ("transaction_read_only", text("OFF")),
            ("version", text(build.version)),
            ("version_comment", text(build.comment)),
            ("version_compile_machine", text("x86_64")),
            ("version_compile_os", text(build.compiled_for)),
            ("wait_timeout", text("28800")),
        ];
        if build.maria {
            all.retain(|(name, _)| !matches!(*name, "transaction_isolation" | "transaction_read_only"));
        } else {
            all.retain(|(name, _)| !matches!(*name, "query_cache_size" | "query_cache_type" | "tx_isolation"));
            all.push(("server_uuid", self.uuid()));
            all.push(("admin_port", text("33062")));
            all.push(("mysqlx_port", text("33060")));
            all.sort_unstable();
        }
        all
    }

    /// The status counters that people look at.
    pub(super) fn status(&self) -> Vec<(&'static str, String)> {
        let uptime = self.uptime();
        let questions = uptime / 3 + 40;
        vec![
            ("Aborted_clients", "0".to_owned()),
            ("Aborted_connects", (uptime / 40_000).to_string()),
            ("Bytes_received", (questions * 212).to_string()),
            ("Bytes_sent", (questions * 1_870).to_string()),
            ("Com_insert", (questions / 9).to_string()),
            ("Com_select", (questions / 2).to_string()),
            ("Com_update", (questions / 14).to_string()),
            ("Connections", self.connection.to_string()),
            ("Open_tables", "61".to_owned()),
            ("Opened_tables", "142".to_owned()),
            ("Queries", (questions + 2).to_string()),
            ("Questions", questions.to_string()),
            ("Slow_queries", "0".to_owned()),
            ("Ssl_cipher", String::new()),
            ("Threads_cached", "1".to_owned()),
            ("Threads_connected", "1".to_owned()),
            ("Threads_created", "3".to_owned()),
            ("Threads_running", "2".to_owned()),
            ("Uptime", uptime.to_string()),
            ("Uptime_since_flush_status", uptime.to_string()),
        ]
    }

    /// The names of all databases in their order.
    pub(super) fn databases(&self, context: &Context<'_>) -> Vec<String> {
        let mut all: Vec<String> = context.catalog.databases.keys().cloned().collect();
        all.extend(["information_schema", "mysql", "performance_schema", "sys"].map(str::to_owned));
        if ["10.5", "10.3", "5.5"].iter().any(|old| self.build.version.starts_with(old)) {
            all.retain(|name| name != "sys");
        }
        all.sort();
        all.dedup();
        all
    }

    /// Whether there is such a database.
    pub(super) fn has(&self, context: &Context<'_>, database: &str) -> bool {
        self.databases(context).iter().any(|known| known.eq_ignore_ascii_case(database))
    }

    fn tables(&self, context: &Context<'_>) -> Vec<(String, String, Arc<Table>)> {
        let mut all = Vec::new();
        for (database, of) in &context.catalog.databases {
            for (name, table) in of.schemas.values().flatten() {
                all.push((database.clone(), name.clone(), table.clone()));
            }
        }
        all
    }

    fn information(&self, context: &Context<'_>, name: &str) -> Option<Relation> {
        let (charset, collation) = self.build.charset_name;
        let text = |text: &str| Value::Text(text.to_owned());
        Some(match name {
            "schemata" => Relation::texts(
                &["CATALOG_NAME", "SCHEMA_NAME", "DEFAULT_CHARACTER_SET_NAME", "DEFAULT_COLLATION_NAME", "SQL_PATH"],
                self.databases(context)
                    .into_iter()
                    .map(|name| vec![text("def"), name.into(), text(charset), text(collation), Value::Null])
                    .collect(),
            ),
            "tables" => Relation::of(
                &[
                    ("TABLE_CATALOG", Kind::Varchar),
                    ("TABLE_SCHEMA", Kind::Varchar),
                    ("TABLE_NAME", Kind::Varchar),
                    ("TABLE_TYPE", Kind::Varchar),
                    ("ENGINE", Kind::Varchar),
                    ("VERSION", Kind::BigInt),
                    ("ROW_FORMAT", Kind::Varchar),
                    ("TABLE_ROWS", Kind::BigInt),
                    ("AVG_ROW_LENGTH", Kind::BigInt),
                    ("DATA_LENGTH", Kind::BigInt),
                    ("MAX_DATA_LENGTH", Kind::BigInt),
                    ("INDEX_LENGTH", Kind::BigInt),
                    ("DATA_FREE", Kind::BigInt),
                    ("AUTO_INCREMENT", Kind::BigInt),
                    ("CREATE_TIME", Kind::Timestamp),
                    ("UPDATE_TIME", Kind::Timestamp),
                    ("TABLE_COLLATION", Kind::Varchar),
                    ("TABLE_COMMENT", Kind::Varchar),
                ],
                self.tables(context)
                    .into_iter()
                    .map(|(database, name, table)| {
                        let counts = table.columns.iter().any(|column| column.counts);
                        vec![
                            text("def"),
                            database.into(),
                            name.into(),
                            text("BASE TABLE"),
                            text("InnoDB"),
                            Value::Int(10),
                            text("Dynamic"),
                            table.rows.len().into(),
                            Value::Int(136),
                            Value::Int(16_384),
                            Value::Int(0),
                            Value::Int(0),
                            Value::Int(0),
                            if counts { Value::Int(table.next) } else { Value::Null },
                            self.installed(),
                            Value::Null,
                            text(collation),
                            text(""),
                        ]
                    })
                    .collect(),
            ),
            "columns" => {
                let mut rows = Vec::new();
                for (database, table_name, table) in self.tables(context) {
                    for (at, column) in table.columns.iter().enumerate() {
                        let base = column.declared.split('(').next().unwrap_or("");
                        rows.push(vec![
                            text("def"),
                            database.clone().into(),
                            table_name.clone().into(),
                            column.name.clone().into(),
                            (at + 1).into(),
                            column.default.clone().unwrap_or(Value::Null),
                            text(if column.not_null { "NO" } else { "YES" }),
                            text(base),
                            self.shown_type(&column.declared).into(),
                            text(column.key),
                            text(if column.counts { "auto_increment" } else { "" }),
                            text(""),
                        ]);
                    }
                }
                Relation::of(
                    &[
                        ("TABLE_CATALOG", Kind::Varchar),
                        ("TABLE_SCHEMA", Kind::Varchar),
                        ("TABLE_NAME", Kind::Varchar),
                        ("COLUMN_NAME", Kind::Varchar),
                        ("ORDINAL_POSITION", Kind::BigInt),
                        ("COLUMN_DEFAULT", Kind::Text),
                        ("IS_NULLABLE", Kind::Varchar),
                        ("DATA_TYPE", Kind::Varchar),
                        ("COLUMN_TYPE", Kind::Text),
                        ("COLUMN_KEY", Kind::Varchar),
                        ("EXTRA", Kind::Varchar),
                        ("COLUMN_COMMENT", Kind::Text),
                    ],
                    rows,
                )
            }
            "processlist" => self.processes(context),
            "global_variables" | "session_variables" | "global_status" | "session_status" => {
                let all = if name.ends_with("variables") { self.variables() } else { self.status() };
                Relation::texts(
                    &["VARIABLE_NAME", "VARIABLE_VALUE"],
                    all.into_iter().map(|(name, value)| vec![text(name), value.into()]).collect(),
                )
            }
            "user_privileges" => Relation::texts(
                &["GRANTEE", "TABLE_CATALOG", "PRIVILEGE_TYPE", "IS_GRANTABLE"],
                [
                    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "RELOAD", "SHUTDOWN", "PROCESS", "FILE",
                    "SUPER",
                ]
                .iter()
                .map(|right| vec![format!("'{}'@'%'", context.user).into(), text("def"), text(right), text("YES")])
                .collect(),
            ),
            "engines" => self.engines(),
            "plugins" => self.plugins(),
            "routines"
            | "triggers"
            | "views"
            | "events"
            | "statistics"
            | "key_column_usage"
            | "table_constraints"
            | "schema_privileges"
            | "files"
            | "partitions"
            | "parameters"
            | "referential_constraints" => {
                Relation::texts(&["TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME"], Vec::new())
            }
            "character_sets" => Relation::of(
                &[
                    ("CHARACTER_SET_NAME", Kind::Varchar),
                    ("DEFAULT_COLLATE_NAME", Kind::Varchar),
                    ("DESCRIPTION", Kind::Varchar),
                    ("MAXLEN", Kind::BigInt),
                ],
                vec![
                    vec![text("latin1"), text("latin1_swedish_ci"), text("cp1252 West European"), Value::Int(1)],
                    vec![text("utf8mb4"), text("utf8mb4_general_ci"), text("UTF-8 Unicode"), Value::Int(4)],
                ],
            ),
            _ => return None,
        })
    }

    /// When its tables were made: long before the last start.
    pub(super) fn installed(&self) -> Value {
        let days = i64::try_from(self.persona.number("mysql installed", 400)).unwrap_or(0) + 30;
        let time = self.persona.booted_at - chrono::TimeDelta::days(days);
        Value::Text(time.format("%Y-%m-%d %H:%M:%S").to_string())
    }

    /// A type as `DESCRIBE` shows it: MariaDB still has the width of numbers.
    pub(super) fn shown_type(&self, declared: &str) -> String {
        match declared {
            "int" if self.build.maria => "int(11)".to_owned(),
            "bigint" if self.build.maria => "bigint(20)".to_owned(),
            "smallint" if self.build.maria => "smallint(6)".to_owned(),
            other => other.to_owned(),
        }
    }

    pub(super) fn processes(&self, context: &Context<'_>) -> Relation {
        let mut rows = Vec::new();
        if !self.build.maria {
            rows.push(vec![
                Value::Int(5),
                "event_scheduler".into(),
                "localhost".into(),
                Value::Null,
                "Daemon".into(),
                Value::Int(self.uptime()),
                "Waiting on empty queue".into(),
                Value::Null,
            ]);
        }
        rows.push(vec![
            Value::Int(i64::from(self.connection)),
            context.user.into(),
            format!("{}:{}", self.host, self.port).into(),
            if context.database.is_empty() { Value::Null } else { context.database.into() },
            "Query".into(),
            Value::Int(0),
            if self.build.maria { "starting" } else { "init" }.into(),
            "show processlist".into(),
        ]);
        Relation::of(
            &[
                ("Id", Kind::BigInt),
                ("User", Kind::Varchar),
                ("Host", Kind::Varchar),
                ("db", Kind::Varchar),
                ("Command", Kind::Varchar),
                ("Time", Kind::Int),
                ("State", Kind::Varchar),
                ("Info", Kind::Text),
            ],
            rows,
        )
    }

    pub(super) fn engines(&self) -> Relation {
        let row = |row: [&str; 6]| row.iter().map(|cell| Value::from(*cell)).collect::<Vec<_>>();
        let mut rows = vec![
            row(["MEMORY", "YES", "Hash based, stored in memory, useful for temporary tables", "NO", "NO", "NO"]),
            row([
                "CSV",
                "YES",
                if self.build.maria { "Stores tables as CSV files" } else { "CSV storage engine" },
                "NO",
                "NO",
                "NO",
            ]),
            row(["PERFORMANCE_SCHEMA", "YES", "Performance Schema", "NO", "NO", "NO"]),
        ];
        if self.build.maria {
            rows.insert(0, row(["MRG_MyISAM", "YES", "Collection of identical MyISAM tables", "NO", "NO", "NO"]));
            rows.push(row([
                "Aria",
                "YES",
                "Crash-safe tables with MyISAM heritage. Used for internal temporary tables and privilege tables",
                "NO",
                "NO",
                "NO",
            ]));
            rows.push(row([
                "MyISAM",
                "YES",
                "Non-transactional engine with good performance and small data footprint",
                "NO",
                "NO",
                "NO",
            ]));
            rows.push(row([
                "InnoDB",
                "DEFAULT",
                "Supports transactions, row-level locking, foreign keys and encryption for tables",
                "YES",
                "YES",
                "YES",
            ]));
        } else {
            rows.push(row([
                "InnoDB",
                "DEFAULT",
                "Supports transactions, row-level locking, and foreign keys",
                "YES",
                "YES",
                "YES",
            ]));
            rows.push(row(["MyISAM", "YES", "MyISAM storage engine", "NO", "NO", "NO"]));
            rows.push(row([
                "BLACKHOLE",
                "YES",
                "/dev/null storage engine (anything you write to it disappears)",
                "NO",
                "NO",
                "NO",
            ]));
            rows.push(row(["ARCHIVE", "YES", "Archive storage engine", "NO", "NO", "NO"]));
        }
        Relation::texts(&["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"], rows)
    }

    pub(super) fn plugins(&self) -> Relation {
        let mut names = vec![("binlog", "STORAGE ENGINE"), ("mysql_native_password", "AUTHENTICATION")];
        if self.build.maria {
            names.push(("mysql_old_password", "AUTHENTICATION"));
        } else {
            names.extend([("sha256_password", "AUTHENTICATION"), ("caching_sha2_password", "AUTHENTICATION")]);
        }
        names.extend([
            ("CSV", "STORAGE ENGINE"),
            ("MEMORY", "STORAGE ENGINE"),
            ("InnoDB", "STORAGE ENGINE"),
            ("MyISAM", "STORAGE ENGINE"),
        ]);
        let row =
            |(name, kind): (&str, &str)| vec![name.into(), "ACTIVE".into(), kind.into(), Value::Null, "GPL".into()];
        Relation::texts(&["Name", "Status", "Type", "Library", "License"], names.into_iter().map(row).collect())
    }

    fn own(&self, context: &Context<'_>, name: &str) -> Option<Relation> {
        let yes = || Value::from("Y");
        Some(match name {
            "user" => {
                let hash = |user: &str| {
                    let bytes = self.persona.secret(&format!("mysql hash {user}"));
                    format!("*{}", hex::encode_upper(bytes).chars().take(40).collect::<String>())
                };
                let row = |host: &str, user: &str, locked: bool| {
                    let secret = if locked { "invalid".to_owned() } else { hash(user) };
                    vec![
                        host.into(),
                        user.into(),
                        yes(),
                        yes(),
                        yes(),
                        yes(),
                        yes(),
                        yes(),
                        yes(),
                        yes(),
                        self.build.plugin.into(),
                        secret.into(),
                    ]
                };
                let mut rows = vec![row("localhost", "root", true), row("%", context.user, false)];
                if self.build.maria {
                    rows.push(row("localhost", "mariadb.sys", true));
                    rows.push(row("localhost", "mysql", true));
                } else {
                    rows.push(row("localhost", "mysql.infoschema", true));
                    rows.push(row("localhost", "mysql.session", true));
                    rows.push(row("localhost", "mysql.sys", true));
                    rows.push(row("localhost", "debian-sys-maint", false));
                }
                Relation::texts(
                    &[
                        "Host",
                        "User",
                        "Select_priv",
                        "Insert_priv",
                        "Update_priv",
                        "Delete_priv",
                        "Create_priv",
                        "Drop_priv",
                        "File_priv",
                        "Super_priv",
                        "plugin",
                        "authentication_string",
                    ],
                    rows,
                )
            }
            "db" => Relation::texts(&["Host", "Db", "User", "Select_priv"], Vec::new()),
            "func" => Relation::texts(&["name", "ret", "dl", "type"], Vec::new()),
            "plugin" => Relation::texts(&["name", "dl"], Vec::new()),
            "proc" | "event" | "servers" | "tables_priv" | "columns_priv" => {
                Relation::texts(&["db", "name"], Vec::new())
            }
            _ => return None,
        })
    }
}

impl Facts for Server {
    fn table(&self, context: &Context<'_>, schema: Option<&str>, name: &str) -> Option<Relation> {
        let schema = schema.unwrap_or(context.database).to_lowercase();
        let name = name.to_lowercase();
        match schema.as_str() {
            "" if name == "dual" => Some(Relation { cols: Vec::new(), rows: vec![Vec::new()] }),
            "information_schema" => self.information(context, &name),
            "performance_schema" if name.ends_with("variables") || name.ends_with("status") => {
                self.information(context, &name)
            }
            "mysql" => self.own(context, &name),
            _ if name == "dual" => Some(Relation { cols: Vec::new(), rows: vec![Vec::new()] }),
            _ => None,
        }
    }

    fn function(&self, context: &Context<'_>, name: &str, _: &[Value]) -> Option<Result<Value, Fault>> {
        Some(Ok(match name {
            "version" => self.build.version.into(),
            "database" | "schema" if context.database.is_empty() => Value::Null,
            "database" | "schema" => context.database.into(),
            "user" | "session_user" | "system_user" => format!("{}@{}", context.user, self.host).into(),
            "current_user" => format!("{}@%", context.user).into(),
            "current_role" => Value::Null,
            "connection_id" => Value::Int(i64::from(self.connection)),
            "last_insert_id" => Value::Int(self.last_id),
            "row_count" => Value::Int(self.rows),
            "found_rows" => Value::Int(0),
            _ => return None,
        }))
    }

    fn variable(&self, _: &Context<'_>, name: &str) -> Option<Value> {
        let found = self.variables().into_iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        Some(match (name, found) {
            ("secure_file_priv", Some(value)) if value.is_empty() => Value::Null,
            ("autocommit", _) => Value::Int(1),
            ("version_ssl_library", _) => "OpenSSL 3.0.2 15 Mar 2022".into(),
            ("warning_count" | "error_count" | "identity" | "insert_id" | "profiling" | "have_profiling", _) => {
                Value::Int(0)
            }
            ("log_bin" | "local_infile" | "read_only" | "general_log" | "slow_query_log", Some(value)) => {
                Value::Int(i64::from(value == "ON"))
            }
            (_, Some(value)) => value.parse().map_or(Value::Text(value), Value::Int),
            _ => return None,
        })
    }
}
