//! What a PostgreSQL server knows of itself: settings, functions, the tables of `pg_catalog` and `information_schema`.

mod listed;
mod tables;

use std::sync::Arc;

use chrono::{TimeDelta, Utc};

use super::{build::Build, files};
use crate::{
    decoys::sql::{Column, Context, Facts, Fault, Kind, Relation, Table, Value},
    persona::Persona,
};

/// The number of the one who owns all, and of the schemas.
const OWNER: i64 = 10;
const CATALOG: i64 = 11;
const PUBLIC: i64 = 2_200;
const INFORMATION: i64 = 13_375;

/// A server and one connection to it.
pub(super) struct Server {
    pub(super) persona: Arc<Persona>,
    pub(super) build: Build,
    pub(super) process: i64,
    pub(super) client: (String, u16),
    pub(super) application: String,
    /// Settings that the client made.
    pub(super) settings: Vec<(String, String)>,
    /// What it calls itself by its roles.
    pub(super) roles: Vec<String>,
}

fn int(number: usize) -> Value {
    number.into()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// The number and the modifier of a type as it was declared.
fn type_of(declared: &str) -> (i64, i64) {
    let inner = |text: &str| -> Vec<i64> {
        text.split(['(', ')']).nth(1).unwrap_or("").split(',').filter_map(|number| number.trim().parse().ok()).collect()
    };
    let numbers = inner(declared);
    let first = numbers.first().copied();
    match declared.split('(').next().unwrap_or("").trim() {
        "boolean" => (16, -1),
        "bytea" => (17, -1),
        "name" => (19, -1),
        "bigint" => (20, -1),
        "smallint" => (21, -1),
        "integer" => (23, -1),
        "oid" => (26, -1),
        "json" => (114, -1),
        "real" => (700, -1),
        "double precision" => (701, -1),
        "character" => (1_042, first.map_or(-1, |length| length.saturating_add(4))),
        "character varying" => (1_043, first.map_or(-1, |length| length.saturating_add(4))),
        "date" => (1_082, -1),
        "timestamp without time zone" => (1_114, -1),
        "timestamp with time zone" => (1_184, -1),
        "numeric" => match numbers.as_slice() {
            [precision, scale, ..] => (1_700, ((precision & 0xffff) << 16 | (scale & 0xffff)) + 4),
            _ => (1_700, -1),
        },
        "uuid" => (2_950, -1),
        "jsonb" => (3_802, -1),
        _ => (25, -1),
    }
}

/// All types with a name, their number and their size.
const TYPES: [(&str, i64, i64, &str); 20] = [
    ("bool", 16, 1, "boolean"),
    ("bytea", 17, -1, "bytea"),
    ("char", 18, 1, "\"char\""),
    ("name", 19, 64, "name"),
    ("int8", 20, 8, "bigint"),
    ("int2", 21, 2, "smallint"),
    ("int4", 23, 4, "integer"),
    ("text", 25, -1, "text"),
    ("oid", 26, 4, "oid"),
    ("json", 114, -1, "json"),
    ("float4", 700, 4, "real"),
    ("float8", 701, 8, "double precision"),
    ("bpchar", 1_042, -1, "character"),
    ("varchar", 1_043, -1, "character varying"),
    ("date", 1_082, 4, "date"),
    ("timestamp", 1_114, 8, "timestamp without time zone"),
    ("timestamptz", 1_184, 8, "timestamp with time zone"),
    ("numeric", 1_700, -1, "numeric"),
    ("uuid", 2_950, 16, "uuid"),
    ("jsonb", 3_802, -1, "jsonb"),
];

fn format_type(oid: i64, modifier: i64) -> String {
    let name = TYPES.iter().find(|known| known.1 == oid).map_or("text", |known| known.3);
    match oid {
        1_042 | 1_043 if modifier > 4 => format!("{name}({})", modifier - 4),
        1_700 if modifier > 4 => format!("{name}({},{})", (modifier - 4) >> 16, (modifier - 4) & 0xffff),
        _ => name.to_owned(),
    }
}

impl Server {
    fn schema_oid(&self, context: &Context<'_>, name: &str) -> i64 {
        match name {
            "public" => PUBLIC,
            "pg_catalog" => CATALOG,
            "information_schema" => INFORMATION,
            _ => {
                let of = context.catalog.databases.get(context.database);
                let at = of.and_then(|of| of.schemas.keys().position(|known| known == name)).unwrap_or(0);
                16_300 + i64::try_from(at).unwrap_or(0)
            }
        }
    }

    fn tables<'c>(&self, context: &'c Context<'_>) -> Vec<(&'c str, &'c str, &'c Table)> {
        let of = context.catalog.databases.get(context.database);
        of.into_iter()
            .flat_map(|of| &of.schemas)
            .flat_map(|(schema, tables)| {
                tables.iter().map(|(name, table)| (schema.as_str(), name.as_str(), table.as_ref()))
            })
            .collect()
    }

    fn keys(table: &Table) -> Vec<(usize, &Column)> {
        table.columns.iter().enumerate().filter(|(_, column)| !column.key.is_empty()).collect()
    }

    fn key_name(name: &str, column: &Column) -> String {
        if column.key == "PRI" { format!("{name}_pkey") } else { format!("{name}_{}_key", column.name) }
    }

    /// Settings with their values.
    pub(super) fn all_settings(&self, context: &Context<'_>) -> Vec<(String, String)> {
        let build = &self.build;
        let of = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut all = of(&[
            ("application_name", &self.application),
            ("archive_mode", "off"),
            ("autovacuum", "on"),
            ("block_size", "8192"),
            ("client_encoding", "UTF8"),
            ("client_min_messages", "notice"),
            ("cluster_name", ""),
            ("config_file", &format!("{}/postgresql.conf", build.settings)),
            ("data_checksums", "off"),
            ("data_directory", build.data),
            ("DateStyle", "ISO, MDY"),
            ("default_transaction_isolation", "read committed"),
            ("default_transaction_read_only", "off"),
            ("dynamic_library_path", "$libdir"),
            ("extra_float_digits", "1"),
            ("hba_file", &format!("{}/pg_hba.conf", build.settings)),
            ("hot_standby", "on"),
            ("in_hot_standby", "off"),
            ("integer_datetimes", "on"),
            ("IntervalStyle", "postgres"),
            ("is_superuser", "on"),
            ("lc_collate", build.locale),
            ("lc_ctype", build.locale),
            ("lc_messages", build.locale),
            ("lc_monetary", build.locale),
            ("listen_addresses", "*"),
            ("log_destination", "stderr"),
            ("log_statement", "none"),
            ("logging_collector", "off"),
            ("max_connections", "100"),
            ("max_identifier_length", "63"),
            ("max_wal_size", "1GB"),
            (
                "password_encryption",
                if build.scram {
                    "scram-sha-256"
                } else if build.number < 100_000 {
                    "on"
                } else {
                    "md5"
                },
            ),
            ("port", "5432"),
            ("search_path", "\"$user\", public"),
            ("server_encoding", "UTF8"),
            ("server_version", build.version),
            ("server_version_num", &build.number.to_string()),
            ("session_authorization", context.user),
            ("shared_buffers", "128MB"),
            ("shared_preload_libraries", ""),
            ("ssl", if build.tls { "on" } else { "off" }),
            ("standard_conforming_strings", "on"),
            ("statement_timeout", "0"),
            ("superuser_reserved_connections", "3"),
            ("synchronous_commit", "on"),
            ("TimeZone", "Etc/UTC"),
            ("transaction_isolation", "read committed"),
            ("transaction_read_only", "off"),
            ("wal_level", "replica"),
            ("work_mem", "4MB"),
        ]);
        for (name, value) in &self.settings {
            match all.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some(known) => known.1.clone_from(value),
                None => all.push((name.clone(), value.clone())),
            }
        }
        all
    }

    /// One setting.
    pub(super) fn setting(&self, context: &Context<'_>, name: &str) -> Option<String> {
        self.all_settings(context)
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn started(&self) -> chrono::DateTime<Utc> {
        self.persona.booted_at + TimeDelta::seconds(11)
    }

    fn own_function(&self, context: &Context<'_>, name: &str, arguments: &[Value]) -> Option<Result<Value, Fault>> {
        let get = |at: usize| arguments.get(at).unwrap_or(&Value::Null);
        let table_of = |oid: i64| self.tables(context).into_iter().find(|(_, _, table)| table.oid == oid);
        Some(Ok(match name {
            "version" => text(self.build.full),
            "current_database" | "current_catalog" => text(context.database),
            "current_user" | "session_user" | "user" | "current_role" => text(context.user),
            "current_schema" => text("public"),
            "current_schemas" => text("{pg_catalog,public}"),
            "current_setting" => match self.setting(context, &get(0).text()) {
                Some(value) => value.into(),
                None if get(1).truth() == Some(true) => Value::Null,
                None => return Some(Err(Fault::NoVariable(get(0).text()))),
            },
            "set_config" => get(1).clone(),
            "pg_get_userbyid" => match get(0).int() {
                6_171 => text("pg_database_owner"),
                _ => text("postgres"),
            },
            "pg_table_is_visible" | "pg_type_is_visible" | "pg_function_is_visible" => true.into(),
            "pg_is_in_recovery" | "pg_is_other_temp_schema" => false.into(),
            "has_table_privilege"
            | "has_database_privilege"
            | "has_schema_privilege"
            | "has_column_privilege"
            | "pg_has_role"
            | "has_function_privilege"
            | "pg_reload_conf"
            | "pg_rotate_logfile" => true.into(),
            "pg_encoding_to_char" => text("UTF8"),
            "format_type" if *get(0) == Value::Null => Value::Null,
            "format_type" => format_type(get(0).int(), if *get(1) == Value::Null { -1 } else { get(1).int() }).into(),
            "pg_get_expr" => get(0).clone(),
            "pg_get_indexdef" | "pg_get_constraintdef" => {
                let oid = get(0).int();
                let mut found = Value::Null;
                for (schema, name_of, table) in self.tables(context) {
                    for (at, column) in Self::keys(table) {
                        let index = table.oid + 2 + i64::try_from(at).unwrap_or(0).min(4);
                        if name == "pg_get_indexdef" && index == oid {
                            let key = Self::key_name(name_of, column);
                            found = format!(
                                "CREATE UNIQUE INDEX {key} ON {schema}.{name_of} USING btree ({})",
                                column.name
                            )
                            .into();
                        } else if name == "pg_get_constraintdef" && index + 2_000 == oid {
                            let kind = if column.key == "PRI" { "PRIMARY KEY" } else { "UNIQUE" };
                            found = format!("{kind} ({})", column.name).into();
                        }
                    }
                }
                found
            }
            "obj_description"
            | "col_description"
            | "shobj_description"
            | "pg_get_viewdef"
            | "pg_tablespace_location"
            | "pg_relation_is_publishable"
            | "pg_get_statisticsobjdef_columns"
            | "pg_get_partkeydef" => Value::Null,
            "pg_backend_pid" => Value::Int(self.process),
            "pg_postmaster_start_time" | "pg_conf_load_time" => {
                self.started().format("%Y-%m-%d %H:%M:%S%.6f+00").to_string().into()
            }
            "inet_server_addr" => self.persona.ip.to_string().into(),
            "inet_server_port" => Value::Int(5_432),
            "inet_client_addr" => text(&self.client.0),
            "inet_client_port" => Value::Int(i64::from(self.client.1)),
            "txid_current" => Value::Int(733 + (Utc::now() - self.started()).num_minutes()),
            "pg_database_size" => Value::Int(8_758_051),
            "pg_total_relation_size" | "pg_relation_size" | "pg_table_size" => {
                let rows = table_of(get(0).int()).map_or(0, |(_, _, table)| table.size());
                Value::Int(i64::try_from(rows / 8_192 + 2).unwrap_or(2) * 8_192)
            }
            "pg_size_pretty" => {
                let bytes = get(0).int();
                match bytes {
                    0..10_240 => format!("{bytes} bytes").into(),
                    10_240..10_485_760 => format!("{} kB", bytes / 1_024).into(),
                    _ => format!("{} MB", bytes / 1_048_576).into(),
                }
            }
            "nextval" | "currval" | "setval" => Value::Int(1),
            "pg_read_file" | "pg_read_binary_file" => {
                let path = get(0).text();
                match files::content(&self.persona, &self.build, &path) {
                    Some(content) => content.into(),
                    None => return Some(Err(files::missing(&path, "could not open file", " for reading"))),
                }
            }
            "pg_stat_file" | "pg_ls_dir" => {
                let path = get(0).text();
                return Some(Err(files::missing(&path, "could not open directory", "")));
            }
            "lo_import" => {
                let path = get(0).text();
                match files::content(&self.persona, &self.build, &path) {
                    Some(_) => Value::Int(16_900 + i64::try_from(path.len()).unwrap_or(0)),
                    None => return Some(Err(files::missing(&path, "could not open server file", ""))),
                }
            }
            "lo_export" => Value::Int(1),
            "lo_create" | "lo_creat" | "lo_from_bytea" => {
                let wanted = get(0).int();
                Value::Int(if wanted > 0 { wanted } else { 16_871 })
            }
            "lo_open" => Value::Int(0),
            "lo_put" | "lo_write" | "lowrite" | "lo_close" | "lo_unlink" => Value::Int(1),
            "pg_terminate_backend" | "pg_cancel_backend" => true.into(),
            "::regclass" | "::regtype" | "::regproc" | "::regnamespace" | "::regrole" => {
                let value = get(0);
                match value {
                    Value::Int(oid) if name == "::regclass" => {
                        table_of(*oid).map_or_else(|| value.text().into(), |(_, name, _)| text(name))
                    }
                    Value::Int(oid) if name == "::regtype" => format_type(*oid, -1).into(),
                    Value::Int(oid) => oid.to_string().into(),
                    other if name == "::regclass" => {
                        let wanted = other.text();
                        let wanted = wanted.trim_matches('"');
                        let plain = wanted.rsplit('.').next().unwrap_or(wanted);
                        if plain.starts_with("pg_") || plain.parse::<i64>().is_ok() {
                            return Some(Ok(other.clone()));
                        }
                        match self.tables(context).into_iter().find(|(_, known, _)| *known == plain) {
                            Some((_, _, table)) => Value::Int(table.oid),
                            None => return Some(Err(Fault::NoTable { schema: None, name: wanted.to_owned() })),
                        }
                    }
                    other => other.clone(),
                }
            }
            _ => return None,
        }))
    }
}

impl Facts for Server {
    fn table(&self, context: &Context<'_>, schema: Option<&str>, name: &str) -> Option<Relation> {
        match schema {
            None | Some("pg_catalog") => self.catalog(context, name),
            Some("information_schema") => self.information(context, name),
            Some("()") if name == "pg_ls_dir" || name == "pg_get_keywords" => {
                Some(Relation::texts(&[name], Vec::new()))
            }
            _ => None,
        }
    }

    fn function(&self, context: &Context<'_>, name: &str, arguments: &[Value]) -> Option<Result<Value, Fault>> {
        self.own_function(context, name, arguments)
    }

    fn variable(&self, context: &Context<'_>, name: &str) -> Option<Value> {
        self.setting(context, name).map(Value::Text)
    }
}
