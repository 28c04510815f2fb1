//! What `SHOW` and `DESCRIBE` answer.

use std::sync::Arc;

use super::facts::Server;
use crate::decoys::sql::{Context, Fault, Kind, Relation, Table, Value, like, looks_like, unquote};

/// The answer to a statement that shows something; none when it is no such statement.
pub(super) fn show(server: &Server, context: &Context<'_>, words: &[String]) -> Option<Result<Relation, Fault>> {
    let first = words.first().map(String::as_str)?;
    match first {
        "show" => shown(server, context, words.get(1..)?),
        "desc" | "describe" | "explain" => {
            let name = words.get(1)?;
            if ["select", "insert", "update", "delete", "format", "extended", "analyze"].contains(&name.as_str()) {
                return Some(Ok(plan()));
            }
            Some(columns(server, context, name, None, false, None))
        }
        _ => None,
    }
}

fn plan() -> Relation {
    let row = [
        Value::Int(1),
        "SIMPLE".into(),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
        "No tables used".into(),
    ];
    Relation::texts(
        &["id", "select_type", "table", "type", "possible_keys", "key", "key_len", "ref", "rows", "Extra"],
        vec![row.to_vec()],
    )
}

fn after<'a>(words: &'a [String], mark: &[&str]) -> Option<&'a String> {
    let at = words.iter().position(|word| mark.contains(&word.as_str()))?;
    words.get(at + 1)
}

fn shown(server: &Server, context: &Context<'_>, words: &[String]) -> Option<Result<Relation, Fault>> {
    let words = match words.first().map(String::as_str) {
        Some("global" | "session" | "local" | "extended") => words.get(1..)?,
        _ => words,
    };
    let (full, words) = match words.first().map(String::as_str) {
        Some("full") => (true, words.get(1..)?),
        _ => (false, words),
    };
    let pattern = after(words, &["like"]).map(|word| Value::Text(unquote(word)));
    // `WHERE Variable_name = 'x'`, the way of the drivers of Java.
    let wanted: Option<Vec<String>> = words.iter().any(|word| word == "where").then(|| {
        words.iter().filter(|word| word.starts_with('\'') || word.starts_with('"')).map(|word| unquote(word)).collect()
    });
    let fits = |name: &str| {
        pattern.as_ref().is_none_or(|pattern| like(&name.into(), pattern, true) == Some(true))
            && wanted.as_ref().is_none_or(|wanted| {
                wanted.is_empty() || wanted.iter().any(|w| like(&name.into(), &w.as_str().into(), true) == Some(true))
            })
    };
    let within = after(words, &["from", "in"]).map(|word| unquote(word));
    let database = || within.clone().unwrap_or_else(|| context.database.to_owned());
    let text = |text: &str| Value::Text(text.to_owned());
    let suffix = pattern.as_ref().map(|pattern| format!(" ({})", pattern.text())).unwrap_or_default();
    let empty = |cols: &[&str]| Some(Ok(Relation::texts(cols, Vec::new())));
    let what = words.first().map(String::as_str)?;
    match what {
        "databases" | "schemas" => {
            let names = server.databases(context).into_iter().filter(|name| fits(name));
            Some(Ok(Relation::texts(&[&format!("Database{suffix}")], names.map(|name| vec![name.into()]).collect())))
        }
        "tables" => {
            let database = database();
            if database.is_empty() {
                return Some(Err(Fault::NoDatabaseSelected));
            }
            if !server.has(context, &database) {
                return Some(Err(Fault::NoDatabase(database)));
            }
            let mut cols = vec![format!("Tables_in_{database}{suffix}")];
            if full {
                cols.push("Table_type".to_owned());
            }
            let kind = if context.catalog.databases.contains_key(&database) { "BASE TABLE" } else { "SYSTEM VIEW" };
            let rows = names(context, &database).into_iter().filter(|name| fits(name)).map(|name| {
                let mut row = vec![name.into()];
                if full {
                    row.push(text(kind));
                }
                row
            });
            let rows = rows.collect();
            let cols: Vec<&str> = cols.iter().map(String::as_str).collect();
            Some(Ok(Relation::texts(&cols, rows)))
        }
        "columns" | "fields" => {
            let table = within.clone()?;
            let later = words.iter().rposition(|word| word == "from" || word == "in");
            let database =
                later.and_then(|at| words.get(at + 1)).map(|word| unquote(word)).filter(|name| *name != table);
            Some(columns(server, context, &table, database.as_deref(), full, pattern.as_ref()))
        }
        "create" => create(server, context, words.get(1..)?),
        "variables" => Some(Ok(pairs(server.variables(), fits))),
        "status" => Some(Ok(pairs(server.status(), fits))),
        "processlist" => Some(Ok(server.processes(context))),
        "engines" | "storage" => Some(Ok(server.engines())),
        "plugins" => Some(Ok(server.plugins())),
        "grants" => {
            let by = if server.build.maria {
                format!(
                    " IDENTIFIED BY PASSWORD '*{}'",
                    hex::encode_upper(server.persona.secret("mysql hash")).chars().take(40).collect::<String>()
                )
            } else {
                String::new()
            };
            let user = context.user;
            let quote = if server.build.version.starts_with("5.5") { '\'' } else { '`' };
            Some(Ok(Relation::texts(
                &[&format!("Grants for {user}@%")],
                vec![vec![
                    format!(
                        "GRANT ALL PRIVILEGES ON *.* TO {quote}{user}{quote}@{quote}%{quote}{by} WITH GRANT OPTION"
                    )
                    .into(),
                ]],
            )))
        }
        "warnings" | "errors" => empty(&["Level", "Code", "Message"]),
        "count" => Some(Ok(Relation::of(&[("@@session.warning_count", Kind::BigInt)], vec![vec![Value::Int(0)]]))),
        "triggers" => empty(&["Trigger", "Event", "Table", "Statement", "Timing", "Created", "sql_mode", "Definer"]),
        "events" => empty(&["Db", "Name", "Definer", "Time zone", "Type", "Status"]),
        "procedure" | "function" => {
            empty(&["Db", "Name", "Type", "Definer", "Modified", "Created", "Security_type", "Comment"])
        }
        "index" | "indexes" | "keys" => Some(index(server, context, &within.clone()?)),
        "slave" | "replica" => empty(&["Slave_IO_State", "Master_Host", "Master_User", "Master_Port"]),
        "master" | "binary" if server.build.maria => empty(&["File", "Position", "Binlog_Do_DB", "Binlog_Ignore_DB"]),
        "master" | "binary" => Some(Ok(Relation::texts(
            &["File", "Position", "Binlog_Do_DB", "Binlog_Ignore_DB", "Executed_Gtid_Set"],
            vec![vec![text("binlog.000041"), text("157"), text(""), text(""), text("")]],
        ))),
        "open" => empty(&["Database", "Table", "In_use", "Name_locked"]),
        "privileges" => Some(Ok(Relation::texts(
            &["Privilege", "Context", "Comment"],
            vec![
                vec![text("Alter"), text("Tables"), text("To alter the table")],
                vec![text("Create"), text("Databases,Tables,Indexes"), text("To create new databases and tables")],
                vec![text("File"), text("File access on server"), text("To read and write files on the server")],
            ],
        ))),
        "charset" | "character" => Some(Ok(Relation::texts(
            &["Charset", "Description", "Default collation", "Maxlen"],
            [
                ("latin1", "cp1252 West European", "latin1_swedish_ci", "1"),
                ("utf8mb4", "UTF-8 Unicode", server.build.charset_name.1, "4"),
            ]
            .iter()
            .filter(|row| fits(row.0))
            .map(|row| vec![text(row.0), text(row.1), text(row.2), text(row.3)])
            .collect(),
        ))),
        "collation" => Some(Ok(Relation::texts(
            &["Collation", "Charset", "Id", "Default", "Compiled", "Sortlen"],
            [("latin1_swedish_ci", "latin1", "8"), ("utf8mb4_general_ci", "utf8mb4", "45")]
                .iter()
                .filter(|row| fits(row.0))
                .map(|row| vec![text(row.0), text(row.1), text(row.2), text("Yes"), text("Yes"), text("1")])
                .collect(),
        ))),
        "table" if looks_like(words, &["table", "status"]) => {
            let database = database();
            if database.is_empty() {
                return Some(Err(Fault::NoDatabaseSelected));
            }
            Some(Ok(table_status(server, context, &database, &fits)))
        }
        _ => None,
    }
}

fn pairs(all: Vec<(&'static str, String)>, fits: impl Fn(&str) -> bool) -> Relation {
    let rows = all.into_iter().filter(|(name, _)| fits(name)).map(|(name, value)| vec![name.into(), value.into()]);
    Relation::texts(&["Variable_name", "Value"], rows.collect())
}

fn names(context: &Context<'_>, database: &str) -> Vec<String> {
    if let Some(of) = context.catalog.databases.get(database) {
        return of.schemas.values().flat_map(|tables| tables.keys().cloned()).collect();
    }
    let known: &[&str] = match database.to_lowercase().as_str() {
        "mysql" => &[
            "columns_priv",
            "db",
            "event",
            "func",
            "general_log",
            "help_category",
            "help_keyword",
            "help_relation",
            "help_topic",
            "innodb_index_stats",
            "innodb_table_stats",
            "plugin",
            "proc",
            "procs_priv",
            "proxies_priv",
            "servers",
            "slow_log",
            "tables_priv",
            "time_zone",
            "time_zone_name",
            "user",
        ],
        "information_schema" => &[
            "CHARACTER_SETS",
            "COLUMNS",
            "ENGINES",
            "EVENTS",
            "FILES",
            "KEY_COLUMN_USAGE",
            "PARTITIONS",
            "PLUGINS",
            "PROCESSLIST",
            "ROUTINES",
            "SCHEMATA",
            "SCHEMA_PRIVILEGES",
            "STATISTICS",
            "TABLES",
            "TABLE_CONSTRAINTS",
            "TRIGGERS",
            "USER_PRIVILEGES",
            "VIEWS",
        ],
        "performance_schema" => &["global_status", "global_variables", "session_status", "session_variables"],
        _ => &[],
    };
    known.iter().map(|name| (*name).to_owned()).collect()
}

fn table(context: &Context<'_>, name: &str, within: Option<&str>) -> Result<(String, Arc<Table>), Fault> {
    let clean = name.replace('`', "");
    let (database, name) = match clean.split_once('.') {
        Some((database, name)) => (database.to_owned(), name.to_owned()),
        None => (within.unwrap_or(context.database).to_owned(), clean),
    };
    if database.is_empty() {
        return Err(Fault::NoDatabaseSelected);
    }
    let found = context.catalog.table(&database, "", &name).cloned();
    // Tables of the server itself have columns, too.
    let found = found.or_else(|| {
        let own = context.facts.table(context, Some(&database), &name)?;
        let columns = own.cols.into_iter().map(|col| crate::decoys::sql::Column {
            declared: if col.kind.is_number() { "bigint" } else { "varchar(255)" }.to_owned(),
            name: col.name,
            kind: col.kind,
            not_null: true,
            key: "",
            default: None,
            counts: false,
        });
        Some(Arc::new(Table { columns: columns.collect(), ..Table::default() }))
    });
    found.map(|table| (name.clone(), table)).ok_or(Fault::NoTable { schema: Some(database), name })
}

fn columns(
    server: &Server,
    context: &Context<'_>,
    name: &str,
    within: Option<&str>,
    full: bool,
    pattern: Option<&Value>,
) -> Result<Relation, Fault> {
    let (_, table) = table(context, name, within)?;
    let mut cols = vec!["Field", "Type", "Null", "Key", "Default", "Extra"];
    if full {
        cols = vec!["Field", "Type", "Collation", "Null", "Key", "Default", "Extra", "Privileges", "Comment"];
    }
    let mut rows = Vec::new();
    for column in &table.columns {
        if pattern.is_some_and(|pattern| like(&column.name.as_str().into(), pattern, true) != Some(true)) {
            continue;
        }
        let mut row: Vec<Value> = vec![
            column.name.as_str().into(),
            server.shown_type(&column.declared).into(),
            if column.not_null { "NO" } else { "YES" }.into(),
            column.key.into(),
            column.default.clone().unwrap_or(Value::Null),
            if column.counts { "auto_increment" } else { "" }.into(),
        ];
        if full {
            let collated = matches!(column.kind, Kind::Varchar | Kind::Text);
            row.insert(2, if collated { server.build.charset_name.1.into() } else { Value::Null });
            row.extend(["select,insert,update,references".into(), "".into()]);
        }
        rows.push(row);
    }
    Ok(Relation::texts(&cols, rows))
}

fn create(server: &Server, context: &Context<'_>, words: &[String]) -> Option<Result<Relation, Fault>> {
    let (charset, collation) = server.build.charset_name;
    let name = words.last()?;
    match words.first().map(String::as_str)? {
        "database" | "schema" => {
            let name = unquote(name);
            if !server.has(context, &name) {
                return Some(Err(Fault::NoDatabase(name)));
            }
            let made =
                format!("CREATE DATABASE `{name}` /*!40100 DEFAULT CHARACTER SET {charset} COLLATE {collation} */");
            Some(Ok(Relation::texts(&["Database", "Create Database"], vec![vec![name.into(), made.into()]])))
        }
        "table" => Some(table(context, name, None).map(|(name, table)| {
            let mut lines = Vec::new();
            for column in &table.columns {
                let mut line = format!("  `{}` {}", column.name, server.shown_type(&column.declared));
                if column.not_null {
                    line.push_str(" NOT NULL");
                }
                match &column.default {
                    Some(Value::Text(text)) if text == "CURRENT_TIMESTAMP" => {
                        line.push_str(" DEFAULT CURRENT_TIMESTAMP")
                    }
                    Some(value) => line.push_str(&format!(" DEFAULT '{}'", value.text())),
                    None if !column.not_null => line.push_str(" DEFAULT NULL"),
                    None => {}
                }
                if column.counts {
                    line.push_str(" AUTO_INCREMENT");
                }
                lines.push(line);
            }
            let primary: Vec<String> = table
                .columns
                .iter()
                .filter(|column| column.key == "PRI")
                .map(|column| format!("`{}`", column.name))
                .collect();
            if !primary.is_empty() {
                lines.push(format!("  PRIMARY KEY ({})", primary.join(",")));
            }
            for column in table.columns.iter().filter(|column| column.key == "UNI") {
                lines.push(format!("  UNIQUE KEY `{0}` (`{0}`)", column.name));
            }
            let counts = if table.columns.iter().any(|column| column.counts) {
                format!(" AUTO_INCREMENT={}", table.next)
            } else {
                String::new()
            };
            let made = format!(
                "CREATE TABLE `{name}` (\n{}\n) ENGINE=InnoDB{counts} DEFAULT CHARSET={charset} COLLATE={collation}",
                lines.join(",\n")
            );
            Relation::texts(&["Table", "Create Table"], vec![vec![name.into(), made.into()]])
        })),
        _ => None,
    }
}

fn index(server: &Server, context: &Context<'_>, name: &str) -> Result<Relation, Fault> {
    let (name, table) = table(context, name, None)?;
    let keys = table.columns.iter().filter(|column| !column.key.is_empty());
    let rows = keys.map(|column| {
        let primary = column.key == "PRI";
        vec![
            name.as_str().into(),
            Value::Int(0),
            if primary { "PRIMARY".into() } else { column.name.as_str().into() },
            Value::Int(1),
            column.name.as_str().into(),
            "A".into(),
            table.rows.len().into(),
            "BTREE".into(),
        ]
    });
    let _ = server;
    Ok(Relation::texts(
        &["Table", "Non_unique", "Key_name", "Seq_in_index", "Column_name", "Collation", "Cardinality", "Index_type"],
        rows.collect(),
    ))
}

fn table_status(server: &Server, context: &Context<'_>, database: &str, fits: &dyn Fn(&str) -> bool) -> Relation {
    let mut rows = Vec::new();
    if let Some(of) = context.catalog.databases.get(database) {
        for (name, table) in of.schemas.values().flatten().filter(|(name, _)| fits(name)) {
            rows.push(vec![
                name.as_str().into(),
                "InnoDB".into(),
                Value::Int(10),
                "Dynamic".into(),
                table.rows.len().into(),
                Value::Int(136),
                Value::Int(16_384),
                Value::Int(0),
                Value::Int(0),
                Value::Int(0),
                Value::Int(table.next),
                server.installed(),
                Value::Null,
                Value::Null,
                server.build.charset_name.1.into(),
                Value::Null,
                "".into(),
                "".into(),
            ]);
        }
    }
    Relation::texts(
        &[
            "Name",
            "Engine",
            "Version",
            "Row_format",
            "Rows",
            "Avg_row_length",
            "Data_length",
            "Max_data_length",
            "Index_length",
            "Data_free",
            "Auto_increment",
            "Create_time",
            "Update_time",
            "Check_time",
            "Collation",
            "Checksum",
            "Create_options",
            "Comment",
        ],
        rows,
    )
}
