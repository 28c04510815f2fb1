//! The tables that the server makes up, by their names.

use super::*;

impl Server {
    pub(super) fn catalog(&self, context: &Context<'_>, name: &str) -> Option<Relation> {
        let empty = |cols: &[&str]| Relation::texts(cols, Vec::new());
        let databases = || context.catalog.databases.iter();
        Some(match name {
            "pg_class" => self.pg_class(context),
            "pg_attribute" => self.pg_attribute(context),
            "pg_index" => self.indexes(context, false),
            "pg_constraint" => self.indexes(context, true),
            "pg_namespace" => {
                let mut rows = vec![
                    vec![Value::Int(99), text("pg_toast"), Value::Int(OWNER), Value::Null],
                    vec![
                        Value::Int(CATALOG),
                        text("pg_catalog"),
                        Value::Int(OWNER),
                        text("{postgres=UC/postgres,=U/postgres}"),
                    ],
                    vec![
                        Value::Int(INFORMATION),
                        text("information_schema"),
                        Value::Int(OWNER),
                        text("{postgres=UC/postgres,=U/postgres}"),
                    ],
                ];
                for schema in
                    context.catalog.databases.get(context.database).into_iter().flat_map(|of| of.schemas.keys())
                {
                    let owner = if schema == "public" && self.build.number >= 150_000 { 6_171 } else { OWNER };
                    rows.push(vec![
                        Value::Int(self.schema_oid(context, schema)),
                        text(schema),
                        Value::Int(owner),
                        Value::Null,
                    ]);
                }
                Relation::of(
                    &[("oid", Kind::Oid), ("nspname", Kind::Name), ("nspowner", Kind::Oid), ("nspacl", Kind::Text)],
                    rows,
                )
            }
            "pg_database" => Relation::of(
                &[
                    ("oid", Kind::Oid),
                    ("datname", Kind::Name),
                    ("datdba", Kind::Oid),
                    ("encoding", Kind::Int),
                    ("datlocprovider", Kind::Char),
                    ("datistemplate", Kind::Bool),
                    ("datallowconn", Kind::Bool),
                    ("datconnlimit", Kind::Int),
                    ("dattablespace", Kind::Oid),
                    ("datcollate", Kind::Text),
                    ("datctype", Kind::Text),
                    ("daticulocale", Kind::Text),
                    ("datacl", Kind::Text),
                ],
                databases()
                    .map(|(name, of)| {
                        let template = name.starts_with("template");
                        vec![
                            Value::Int(of.oid),
                            text(name),
                            Value::Int(OWNER),
                            Value::Int(6),
                            text("c"),
                            template.into(),
                            (name != "template0").into(),
                            Value::Int(-1),
                            Value::Int(1_663),
                            text(self.build.locale),
                            text(self.build.locale),
                            Value::Null,
                            if template { text("{=c/postgres,postgres=CTc/postgres}") } else { Value::Null },
                        ]
                    })
                    .collect(),
            ),
            "pg_roles" | "pg_authid" => self.roles(),
            "pg_user" | "pg_shadow" => Relation::of(
                &[
                    ("usename", Kind::Name),
                    ("usesysid", Kind::Oid),
                    ("usecreatedb", Kind::Bool),
                    ("usesuper", Kind::Bool),
                    ("userepl", Kind::Bool),
                    ("usebypassrls", Kind::Bool),
                    ("passwd", Kind::Text),
                    ("valuntil", Kind::Timestamp),
                ],
                std::iter::once("postgres")
                    .chain(self.roles.iter().map(String::as_str).filter(|name| *name != "postgres"))
                    .map(|user| {
                        let secret = hex::encode(self.persona.secret(&format!("postgres password {user}")));
                        let shown = if name == "pg_user" {
                            "********".to_owned()
                        } else if self.build.scram {
                            use base64::{Engine as _, prelude::BASE64_STANDARD};
                            let part = |label: &str, size: usize| {
                                let bytes = self.persona.secret(&format!("postgres {label} {user}"));
                                BASE64_STANDARD.encode(bytes.get(..size).unwrap_or_default())
                            };
                            format!(
                                "SCRAM-SHA-256$4096:{}${}:{}",
                                part("salt", 16),
                                part("stored", 32),
                                part("server", 32)
                            )
                        } else {
                            format!("md5{}", secret.get(..32).unwrap_or(""))
                        };
                        vec![
                            text(user),
                            Value::Int(OWNER),
                            true.into(),
                            true.into(),
                            true.into(),
                            true.into(),
                            shown.into(),
                            Value::Null,
                        ]
                    })
                    .collect(),
            ),
            "pg_tables" => Relation::texts(
                &[
                    "schemaname",
                    "tablename",
                    "tableowner",
                    "tablespace",
                    "hasindexes",
                    "hasrules",
                    "hastriggers",
                    "rowsecurity",
                ],
                self.tables(context)
                    .into_iter()
                    .map(|(schema, name, table)| {
                        let keys = !Self::keys(table).is_empty();
                        vec![
                            text(schema),
                            text(name),
                            text("postgres"),
                            Value::Null,
                            keys.into(),
                            false.into(),
                            false.into(),
                            false.into(),
                        ]
                    })
                    .collect(),
            ),
            "pg_stat_user_tables" | "pg_stat_all_tables" => Relation::of(
                &[
                    ("relid", Kind::Oid),
                    ("schemaname", Kind::Name),
                    ("relname", Kind::Name),
                    ("seq_scan", Kind::BigInt),
                    ("n_live_tup", Kind::BigInt),
                    ("n_dead_tup", Kind::BigInt),
                ],
                self.tables(context)
                    .into_iter()
                    .map(|(schema, name, table)| {
                        vec![
                            Value::Int(table.oid),
                            text(schema),
                            text(name),
                            Value::Int(14),
                            int(table.rows.len()),
                            Value::Int(0),
                        ]
                    })
                    .collect(),
            ),
            "pg_settings" => Relation::texts(
                &["name", "setting", "unit", "category", "context", "source"],
                self.all_settings(context)
                    .into_iter()
                    .map(|(name, value)| {
                        vec![
                            name.into(),
                            value.into(),
                            Value::Null,
                            text("Preset Options"),
                            text("internal"),
                            text("default"),
                        ]
                    })
                    .collect(),
            ),
            "pg_stat_activity" => Relation::of(
                &[
                    ("datid", Kind::Oid),
                    ("datname", Kind::Name),
                    ("pid", Kind::Int),
                    ("usesysid", Kind::Oid),
                    ("usename", Kind::Name),
                    ("application_name", Kind::Text),
                    ("client_addr", Kind::Text),
                    ("client_port", Kind::Int),
                    ("backend_start", Kind::Timestamp),
                    ("state", Kind::Text),
                    ("query", Kind::Text),
                    ("backend_type", Kind::Text),
                ],
                vec![vec![
                    Value::Int(5),
                    text(context.database),
                    Value::Int(self.process),
                    Value::Int(OWNER),
                    text(context.user),
                    text(&self.application),
                    text(&self.client.0),
                    Value::Int(i64::from(self.client.1)),
                    Value::Text(Utc::now().format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()),
                    text("active"),
                    text(""),
                    text("client backend"),
                ]],
            ),
            "pg_type" => Relation::of(
                &[
                    ("oid", Kind::Oid),
                    ("typname", Kind::Name),
                    ("typnamespace", Kind::Oid),
                    ("typlen", Kind::Int),
                    ("typtype", Kind::Char),
                    ("typcategory", Kind::Char),
                    ("typrelid", Kind::Oid),
                    ("typelem", Kind::Oid),
                    ("typarray", Kind::Oid),
                    ("typbasetype", Kind::Oid),
                    ("typtypmod", Kind::Int),
                    ("typnotnull", Kind::Bool),
                    ("typcollation", Kind::Oid),
                    ("typdelim", Kind::Char),
                    ("typinput", Kind::Text),
                    ("typowner", Kind::Oid),
                ],
                TYPES
                    .iter()
                    .map(|(name, oid, size, _)| {
                        let collation = i64::from(matches!(oid, 25 | 1_042 | 1_043)) * 100;
                        vec![
                            Value::Int(*oid),
                            text(name),
                            Value::Int(CATALOG),
                            Value::Int(*size),
                            text("b"),
                            text("U"),
                            Value::Int(0),
                            Value::Int(0),
                            Value::Int(0),
                            Value::Int(0),
                            Value::Int(-1),
                            false.into(),
                            Value::Int(collation),
                            text(","),
                            Value::Text(format!("{name}in")),
                            Value::Int(OWNER),
                        ]
                    })
                    .collect(),
            ),
            "pg_attrdef" => {
                let mut rows = Vec::new();
                for (_, name, table) in self.tables(context) {
                    for (at, column) in table.columns.iter().enumerate() {
                        let shown = match &column.default {
                            _ if column.counts => format!("nextval('{name}_{}_seq'::regclass)", column.name),
                            Some(Value::Text(text)) if text == "CURRENT_TIMESTAMP" => "CURRENT_TIMESTAMP".to_owned(),
                            Some(Value::Text(text)) => format!("'{text}'::{}", column.declared),
                            Some(other) => other.text(),
                            None => continue,
                        };
                        rows.push(vec![Value::Int(table.oid + 1), Value::Int(table.oid), int(at + 1), shown.into()]);
                    }
                }
                Relation::of(
                    &[("oid", Kind::Oid), ("adrelid", Kind::Oid), ("adnum", Kind::Int), ("adbin", Kind::Text)],
                    rows,
                )
            }
            "pg_am" => Relation::of(
                &[("oid", Kind::Oid), ("amname", Kind::Name), ("amhandler", Kind::Text), ("amtype", Kind::Char)],
                vec![
                    vec![Value::Int(2), text("heap"), text("heap_tableam_handler"), text("t")],
                    vec![Value::Int(403), text("btree"), text("bthandler"), text("i")],
                ],
            ),
            "pg_extension" => Relation::of(
                &[
                    ("oid", Kind::Oid),
                    ("extname", Kind::Name),
                    ("extowner", Kind::Oid),
                    ("extnamespace", Kind::Oid),
                    ("extversion", Kind::Text),
                ],
                vec![vec![Value::Int(13_570), text("plpgsql"), Value::Int(OWNER), Value::Int(CATALOG), text("1.0")]],
            ),
            "pg_language" => Relation::of(
                &[
                    ("oid", Kind::Oid),
                    ("lanname", Kind::Name),
                    ("lanowner", Kind::Oid),
                    ("lanispl", Kind::Bool),
                    ("lanpltrusted", Kind::Bool),
                ],
                [("internal", false, 12), ("c", false, 13), ("sql", true, 14), ("plpgsql", true, 13_572)]
                    .iter()
                    .map(|(name, trusted, oid)| {
                        vec![
                            Value::Int(*oid),
                            text(name),
                            Value::Int(OWNER),
                            (*name == "plpgsql").into(),
                            (*trusted).into(),
                        ]
                    })
                    .collect(),
            ),
            "pg_tablespace" => Relation::of(
                &[
                    ("oid", Kind::Oid),
                    ("spcname", Kind::Name),
                    ("spcowner", Kind::Oid),
                    ("spcacl", Kind::Text),
                    ("spcoptions", Kind::Text),
                ],
                vec![
                    vec![Value::Int(1_663), text("pg_default"), Value::Int(OWNER), Value::Null, Value::Null],
                    vec![Value::Int(1_664), text("pg_global"), Value::Int(OWNER), Value::Null, Value::Null],
                ],
            ),
            "pg_collation" => Relation::of(
                &[("oid", Kind::Oid), ("collname", Kind::Name), ("collnamespace", Kind::Oid)],
                vec![vec![Value::Int(100), text("default"), Value::Int(CATALOG)]],
            ),
            "pg_description" | "pg_shdescription" => empty(&["objoid", "classoid", "objsubid", "description"]),
            "pg_proc" => {
                empty(&["oid", "proname", "pronamespace", "proowner", "prolang", "prorettype", "prosrc", "probin"])
            }
            "pg_largeobject_metadata" | "pg_largeobject" => empty(&["oid", "loid", "lomowner", "pageno", "data"]),
            "pg_locks" => empty(&["locktype", "database", "relation", "pid", "mode", "granted"]),
            "pg_auth_members" => empty(&["roleid", "member", "grantor", "admin_option"]),
            "pg_inherits" => empty(&["inhrelid", "inhparent", "inhseqno", "inhdetachpending"]),
            "pg_views" => empty(&["schemaname", "viewname", "viewowner", "definition"]),
            "pg_available_extensions" => Relation::texts(
                &["name", "default_version", "installed_version", "comment"],
                vec![vec![text("plpgsql"), text("1.0"), text("1.0"), text("PL/pgSQL procedural language")]],
            ),
            "pg_hba_file_rules" => Relation::texts(
                &["line_number", "type", "database", "user_name", "address", "netmask", "auth_method"],
                vec![vec![
                    Value::Int(97),
                    text("host"),
                    text("{all}"),
                    text("{all}"),
                    text("0.0.0.0"),
                    text("0.0.0.0"),
                    text(if self.build.scram { "scram-sha-256" } else { "md5" }),
                ]],
            ),
            other if other.starts_with("pg_") => empty(&["oid"]),
            _ => return None,
        })
    }

    pub(super) fn information(&self, context: &Context<'_>, name: &str) -> Option<Relation> {
        let database = || text(context.database);
        Some(match name {
            "schemata" => Relation::texts(
                &["catalog_name", "schema_name", "schema_owner"],
                ["pg_catalog", "information_schema"]
                    .into_iter()
                    .chain(
                        context
                            .catalog
                            .databases
                            .get(context.database)
                            .into_iter()
                            .flat_map(|of| of.schemas.keys().map(String::as_str)),
                    )
                    .map(|schema| vec![database(), text(schema), text("postgres")])
                    .collect(),
            ),
            "tables" => Relation::texts(
                &["table_catalog", "table_schema", "table_name", "table_type", "is_insertable_into"],
                self.tables(context)
                    .into_iter()
                    .map(|(schema, name, _)| {
                        vec![database(), text(schema), text(name), text("BASE TABLE"), text("YES")]
                    })
                    .collect(),
            ),
            "columns" => {
                let mut rows = Vec::new();
                for (schema, name, table) in self.tables(context) {
                    for (at, column) in table.columns.iter().enumerate() {
                        let plain = column.declared.split('(').next().unwrap_or("").to_owned();
                        rows.push(vec![
                            database(),
                            text(schema),
                            text(name),
                            text(&column.name),
                            int(at + 1),
                            Value::Null,
                            text(if column.not_null { "NO" } else { "YES" }),
                            plain.into(),
                        ]);
                    }
                }
                Relation::of(
                    &[
                        ("table_catalog", Kind::Name),
                        ("table_schema", Kind::Name),
                        ("table_name", Kind::Name),
                        ("column_name", Kind::Name),
                        ("ordinal_position", Kind::Int),
                        ("column_default", Kind::Text),
                        ("is_nullable", Kind::Varchar),
                        ("data_type", Kind::Varchar),
                    ],
                    rows,
                )
            }
            "views" | "routines" | "triggers" | "table_constraints" | "key_column_usage" | "role_table_grants" => {
                Relation::texts(&["table_catalog", "table_schema", "table_name"], Vec::new())
            }
            _ => return None,
        })
    }
}
