//! Tables of `pg_catalog` that are about tables and roles.

use super::*;

impl Server {
    pub(super) fn roles(&self) -> Relation {
        let mut rows = vec![role("postgres", OWNER, true)];
        for (at, name) in self.roles.iter().filter(|name| *name != "postgres").enumerate() {
            rows.push(role(name, 16_600 + i64::try_from(at).unwrap_or(0), true));
        }
        for (at, name) in
            ["pg_monitor", "pg_read_all_settings", "pg_read_all_stats", "pg_execute_server_program"].iter().enumerate()
        {
            rows.push(role(name, 3_373 + i64::try_from(at).unwrap_or(0), false));
        }
        Relation::of(
            &[
                ("rolname", Kind::Name),
                ("rolsuper", Kind::Bool),
                ("rolinherit", Kind::Bool),
                ("rolcreaterole", Kind::Bool),
                ("rolcreatedb", Kind::Bool),
                ("rolcanlogin", Kind::Bool),
                ("rolreplication", Kind::Bool),
                ("rolconnlimit", Kind::Int),
                ("rolpassword", Kind::Text),
                ("rolvaliduntil", Kind::Timestamp),
                ("rolbypassrls", Kind::Bool),
                ("rolconfig", Kind::Text),
                ("oid", Kind::Oid),
            ],
            rows,
        )
    }

    pub(super) fn pg_class(&self, context: &Context<'_>) -> Relation {
        let mut rows = Vec::new();
        for (schema, name, table) in self.tables(context) {
            let namespace = self.schema_oid(context, schema);
            let keys = Self::keys(table);
            rows.push(class(table.oid, name, namespace, "r", table.columns.len(), table.rows.len(), !keys.is_empty()));
            for (at, column) in &keys {
                let oid = table.oid + 2 + i64::try_from(*at).unwrap_or(0).min(4);
                rows.push(class(oid, &Self::key_name(name, column), namespace, "i", 1, table.rows.len(), false));
            }
            for column in table.columns.iter().filter(|column| column.counts) {
                rows.push(class(table.oid - 1, &format!("{name}_{}_seq", column.name), namespace, "S", 3, 1, false));
            }
        }
        Relation::of(
            &[
                ("oid", Kind::Oid),
                ("relname", Kind::Name),
                ("relnamespace", Kind::Oid),
                ("reltype", Kind::Oid),
                ("reloftype", Kind::Oid),
                ("relowner", Kind::Oid),
                ("relam", Kind::Oid),
                ("relfilenode", Kind::Oid),
                ("reltablespace", Kind::Oid),
                ("relpages", Kind::Int),
                ("reltuples", Kind::Float),
                ("reltoastrelid", Kind::Oid),
                ("relhasindex", Kind::Bool),
                ("relisshared", Kind::Bool),
                ("relpersistence", Kind::Char),
                ("relkind", Kind::Char),
                ("relnatts", Kind::Int),
                ("relchecks", Kind::Int),
                ("relhasrules", Kind::Bool),
                ("relhastriggers", Kind::Bool),
                ("relhassubclass", Kind::Bool),
                ("relrowsecurity", Kind::Bool),
                ("relforcerowsecurity", Kind::Bool),
                ("relispopulated", Kind::Bool),
                ("relreplident", Kind::Char),
                ("relispartition", Kind::Bool),
                ("relacl", Kind::Text),
                ("reloptions", Kind::Text),
                ("relpartbound", Kind::Text),
                ("relhasoids", Kind::Bool),
            ],
            rows,
        )
    }

    pub(super) fn pg_attribute(&self, context: &Context<'_>) -> Relation {
        let mut rows = Vec::new();
        for (_, _, table) in self.tables(context) {
            for (at, column) in table.columns.iter().enumerate() {
                let (kind, modifier) = type_of(&column.declared);
                let collation = i64::from(matches!(kind, 25 | 1_042 | 1_043)) * 100;
                rows.push(vec![
                    Value::Int(table.oid),
                    text(&column.name),
                    Value::Int(kind),
                    int(at + 1),
                    Value::Int(modifier),
                    column.not_null.into(),
                    (column.counts || column.default.is_some()).into(),
                    text(""),
                    text(""),
                    false.into(),
                    Value::Int(collation),
                    Value::Int(-1),
                    Value::Null,
                    text("x"),
                    text(""),
                    Value::Null,
                ]);
            }
        }
        Relation::of(
            &[
                ("attrelid", Kind::Oid),
                ("attname", Kind::Name),
                ("atttypid", Kind::Oid),
                ("attnum", Kind::Int),
                ("atttypmod", Kind::Int),
                ("attnotnull", Kind::Bool),
                ("atthasdef", Kind::Bool),
                ("attidentity", Kind::Char),
                ("attgenerated", Kind::Char),
                ("attisdropped", Kind::Bool),
                ("attcollation", Kind::Oid),
                ("attlen", Kind::Int),
                ("attacl", Kind::Text),
                ("attstorage", Kind::Char),
                ("attcompression", Kind::Char),
                ("attfdwoptions", Kind::Text),
            ],
            rows,
        )
    }

    pub(super) fn indexes(&self, context: &Context<'_>, constraints: bool) -> Relation {
        let mut rows = Vec::new();
        for (schema, name, table) in self.tables(context) {
            for (at, column) in Self::keys(table) {
                let oid = table.oid + 2 + i64::try_from(at).unwrap_or(0).min(4);
                let primary = column.key == "PRI";
                rows.push(if constraints {
                    vec![
                        Value::Int(oid + 2_000),
                        text(&Self::key_name(name, column)),
                        Value::Int(self.schema_oid(context, schema)),
                        text(if primary { "p" } else { "u" }),
                        false.into(),
                        false.into(),
                        true.into(),
                        Value::Int(table.oid),
                        Value::Int(oid),
                        Value::Int(0),
                        Value::Int(0),
                        Value::Text(format!("{{{}}}", at + 1)),
                        Value::Null,
                    ]
                } else {
                    vec![
                        Value::Int(oid),
                        Value::Int(table.oid),
                        Value::Int(1),
                        true.into(),
                        primary.into(),
                        true.into(),
                        false.into(),
                        true.into(),
                        false.into(),
                        false.into(),
                        int(at + 1),
                        Value::Null,
                        Value::Null,
                    ]
                });
            }
        }
        if constraints {
            Relation::of(
                &[
                    ("oid", Kind::Oid),
                    ("conname", Kind::Name),
                    ("connamespace", Kind::Oid),
                    ("contype", Kind::Char),
                    ("condeferrable", Kind::Bool),
                    ("condeferred", Kind::Bool),
                    ("convalidated", Kind::Bool),
                    ("conrelid", Kind::Oid),
                    ("conindid", Kind::Oid),
                    ("conparentid", Kind::Oid),
                    ("confrelid", Kind::Oid),
                    ("conkey", Kind::Text),
                    ("confkey", Kind::Text),
                ],
                rows,
            )
        } else {
            Relation::of(
                &[
                    ("indexrelid", Kind::Oid),
                    ("indrelid", Kind::Oid),
                    ("indnatts", Kind::Int),
                    ("indisunique", Kind::Bool),
                    ("indisprimary", Kind::Bool),
                    ("indisvalid", Kind::Bool),
                    ("indisclustered", Kind::Bool),
                    ("indisready", Kind::Bool),
                    ("indisreplident", Kind::Bool),
                    ("indisexclusion", Kind::Bool),
                    ("indkey", Kind::Text),
                    ("indpred", Kind::Text),
                    ("indexprs", Kind::Text),
                ],
                rows,
            )
        }
    }
}

fn role(name: &str, oid: i64, login: bool) -> Vec<Value> {
    vec![
        text(name),
        login.into(),
        true.into(),
        login.into(),
        login.into(),
        login.into(),
        login.into(),
        Value::Int(-1),
        text("********"),
        Value::Null,
        login.into(),
        Value::Null,
        Value::Int(oid),
    ]
}

fn class(oid: i64, name: &str, namespace: i64, kind: &str, width: usize, rows: usize, indexed: bool) -> Vec<Value> {
    let am = match kind {
        "r" => 2,
        "i" => 403,
        _ => 0,
    };
    vec![
        Value::Int(oid),
        text(name),
        Value::Int(namespace),
        Value::Int(0),
        Value::Int(0),
        Value::Int(OWNER),
        Value::Int(am),
        Value::Int(oid),
        Value::Int(0),
        int(rows / 60 + 1),
        int(rows),
        Value::Int(0),
        indexed.into(),
        false.into(),
        text("p"),
        text(kind),
        int(width),
        Value::Int(0),
        false.into(),
        false.into(),
        false.into(),
        false.into(),
        false.into(),
        true.into(),
        text("d"),
        false.into(),
        Value::Null,
        Value::Null,
        Value::Null,
        false.into(),
    ]
}
