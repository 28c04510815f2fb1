//! Statements: what they answer, and what they change.

mod tables;

use std::collections::{BTreeMap, BTreeSet};

use sqlparser::{
    ast::{
        AlterTableOperation, AssignmentTarget, ColumnDef, ColumnOption, CreateTable, Delete, Expr, FromTable, Insert,
        ObjectName, ObjectType, OnInsert, RenameTableNameKind, SchemaName, Statement, TableConstraint, TableFactor,
        TableObject, TableWithJoins, Update,
    },
    keywords::Keyword,
    tokenizer::Token,
};

use super::{
    Catalog, Column, Context, Dialect, Facts, Fault, Kind, Relation, Table, Undo, Value,
    expr::{Env, NOTHING, last},
    parse, select,
    store::row_size,
};

/// What a statement did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// As PostgreSQL tells it, such as `INSERT 0 1`.
    pub(crate) tag: String,
    /// How many rows.
    pub(crate) affected: usize,
    /// The last number that a column counted up to.
    pub(crate) last_id: i64,
    /// How many seconds it shall seem to have taken.
    pub(crate) delay: f64,
    /// The answer, when it is rows.
    pub(crate) rows: Option<Relation>,
}

/// What a statement did, or why it was refused.
pub(crate) type Outcome = Result<Done, Fault>;

/// Who runs a statement where.
pub(crate) struct Runner<'a> {
    /// What the server knows.
    pub(crate) facts: &'a dyn Facts,
    /// Whose SQL it is.
    pub(crate) dialect: Dialect,
    /// Who asks.
    pub(crate) user: &'a str,
    /// The database that is used; empty when none is.
    pub(crate) database: &'a str,
}

impl<'a> Runner<'a> {
    fn context<'c>(&'c self, catalog: &'c Catalog) -> Context<'c> {
        Context::new(catalog, self.facts, self.dialect, self.user, self.database)
    }

    /// Runs one statement.
    pub(crate) fn run(&self, catalog: &mut Catalog, text: &str, mut undo: Option<&mut Undo>) -> Outcome {
        let statement = parse::statement(text, self.dialect)?;
        let mut touch = |schema: &str, name: &str| {
            if let Some(undo) = undo.as_deref_mut()
                && undo.touched.len() < 256
            {
                undo.touched.push((schema.to_owned(), name.to_owned()));
            }
        };
        match statement {
            Statement::Query(query) => {
                let context = self.context(catalog);
                let rows = select::query(&context, &query, &NOTHING)?;
                Ok(Done {
                    tag: format!("SELECT {}", rows.rows.len()),
                    affected: rows.rows.len(),
                    delay: context.delay.get(),
                    rows: Some(rows),
                    ..Done::default()
                })
            }
            Statement::Insert(insert) => self.insert(catalog, &insert, &mut touch),
            Statement::Update(update) => self.update(catalog, &update, &mut touch),
            Statement::Delete(delete) => self.delete(catalog, &delete, &mut touch),
            Statement::CreateTable(create) => self.create(catalog, &create, &mut touch),
            Statement::CreateView(view) => {
                let rows = select::query(&self.context(catalog), &view.query, &NOTHING)?;
                let (database, schema, name) = self.place(&view.name)?;
                touch(&schema, &name);
                catalog.create_table(&database, &schema, &name, self.made_of(rows))?;
                Ok(Done { tag: "CREATE VIEW".to_owned(), ..Done::default() })
            }
            Statement::Drop { object_type, if_exists, names, .. } => {
                self.drop(catalog, object_type, if_exists, &names, &mut touch)
            }
            Statement::Truncate(truncate) => {
                for target in &truncate.table_names {
                    let (database, schema, name) = self.place(&target.name)?;
                    touch(&schema, &name);
                    let table = self.changed(catalog, &database, &schema, &name)?;
                    let size: usize = table.rows.iter().map(|row| row_size(row)).sum();
                    table.rows = Vec::new();
                    catalog.give(size);
                }
                Ok(Done { tag: "TRUNCATE TABLE".to_owned(), ..Done::default() })
            }
            Statement::AlterTable(alter) => {
                let (database, schema, name) = self.place(&alter.name)?;
                touch(&schema, &name);
                for operation in &alter.operations {
                    self.alter(catalog, (&database, &schema, &name), operation)?;
                }
                Ok(Done { tag: "ALTER TABLE".to_owned(), ..Done::default() })
            }
            Statement::CreateDatabase { db_name, if_not_exists, .. } => {
                let (_, name) = select::named(&db_name, self.dialect);
                let schema = if self.dialect == Dialect::MySql { "" } else { "public" };
                match catalog.create_database(&name, schema) {
                    Err(Fault::DatabaseExists(_)) if if_not_exists => {}
                    other => other?,
                }
                Ok(Done { tag: "CREATE DATABASE".to_owned(), affected: 1, ..Done::default() })
            }
            Statement::CreateSchema { schema_name, if_not_exists, .. } => {
                let name = match &schema_name {
                    SchemaName::Simple(name) | SchemaName::NamedAuthorization(name, _) => {
                        select::named(name, self.dialect).1
                    }
                    SchemaName::UnnamedAuthorization(name) => name.value.clone(),
                };
                let made = match self.dialect {
                    Dialect::MySql => catalog.create_database(&name, ""),
                    Dialect::Postgres => catalog.create_schema(self.database, &name),
                };
                match made {
                    Err(Fault::DatabaseExists(_) | Fault::SchemaExists(_)) if if_not_exists => {}
                    other => other?,
                }
                Ok(Done { tag: "CREATE SCHEMA".to_owned(), affected: 1, ..Done::default() })
            }
            other => {
                // What has no effect that could be seen.
                let words = parse::words(&other.to_string(), 2);
                let quiet = ["create", "alter", "drop"].contains(&words.first().map_or("", String::as_str));
                let count = if quiet { 2 } else { 1 };
                let tag = words.iter().take(count).map(|word| word.to_uppercase()).collect::<Vec<_>>().join(" ");
                Ok(Done { tag, ..Done::default() })
            }
        }
    }

    /// Where a table of that name is: database, schema, name.
    fn place(&self, name: &ObjectName) -> Result<(String, String, String), Fault> {
        let (schema, name) = select::named(name, self.dialect);
        match self.dialect {
            Dialect::MySql => {
                let database = schema.unwrap_or_else(|| self.database.to_owned());
                if database.is_empty() {
                    return Err(Fault::NoDatabaseSelected);
                }
                if ["information_schema", "performance_schema", "sys"].contains(&database.to_lowercase().as_str()) {
                    return Err(Fault::ReadOnly(database));
                }
                Ok((database, String::new(), name))
            }
            Dialect::Postgres => {
                let schema = schema.unwrap_or_else(|| "public".to_owned());
                if schema == "pg_catalog" || schema == "information_schema" {
                    return Err(Fault::ReadOnly(name));
                }
                Ok((self.database.to_owned(), schema, name))
            }
        }
    }

    fn missing(&self, database: &str, schema: &str, name: &str) -> Fault {
        let schema = match self.dialect {
            Dialect::MySql => Some(database.to_owned()),
            Dialect::Postgres if schema == "public" => None,
            Dialect::Postgres => Some(schema.to_owned()),
        };
        Fault::NoTable { schema, name: name.to_owned() }
    }

    fn changed<'c>(
        &self,
        catalog: &'c mut Catalog,
        database: &str,
        schema: &str,
        name: &str,
    ) -> Result<&'c mut Table, Fault> {
        if !catalog.databases.contains_key(database) {
            return Err(Fault::NoDatabase(database.to_owned()));
        }
        catalog.table_mut(database, schema, name).ok_or_else(|| self.missing(database, schema, name))
    }

    fn insert(&self, catalog: &mut Catalog, insert: &Insert, touch: &mut dyn FnMut(&str, &str)) -> Outcome {
        let TableObject::TableName(name) = &insert.table else {
            return Err(Fault::Misuse("this target is not supported"));
        };
        let (database, schema, name) = self.place(name)?;
        let table = catalog.table(&database, &schema, &name).cloned();
        let table = table.ok_or_else(|| self.missing(&database, &schema, &name))?;
        let mut wanted: Vec<String> = insert.columns.iter().map(|column| last(column).to_owned()).collect();
        let context = self.context(catalog);
        let mut given = if insert.assignments.is_empty() {
            match &insert.source {
                Some(query) => select::query(&context, query, &NOTHING)?.rows,
                None => vec![Vec::new()],
            }
        } else {
            let mut row = Vec::new();
            for assignment in &insert.assignments {
                if let AssignmentTarget::ColumnName(column) = &assignment.target {
                    wanted.push(last(column).to_owned());
                    row.push(context.eval(&assignment.value, &NOTHING)?);
                }
            }
            vec![row]
        };
        if wanted.is_empty() && insert.source.is_some() {
            wanted = table.columns.iter().map(|column| column.name.clone()).collect();
            if self.dialect == Dialect::Postgres {
                wanted.truncate(given.first().map_or(0, Vec::len).max(1));
            }
        }
        let mut places = Vec::new();
        for column in &wanted {
            let at =
                table.at(column).ok_or_else(|| Fault::NoColumn { table: Some(name.clone()), name: column.clone() })?;
            places.push(at);
        }
        let (mut rows, mut next) = (Vec::with_capacity(given.len()), table.next.max(1));
        let mut last_id = 0;
        for (at, values) in given.drain(..).enumerate() {
            if values.len() != places.len() {
                return Err(Fault::ValueCount { more: values.len() > places.len(), row: at + 1 });
            }
            let mut row = vec![None; table.columns.len()];
            for (place, value) in places.iter().zip(values) {
                if let Some(cell) = row.get_mut(*place) {
                    *cell = Some(value);
                }
            }
            let mut made = Vec::with_capacity(row.len());
            for (column, value) in table.columns.iter().zip(row) {
                let fresh = value.is_none() || (column.counts && matches!(value, Some(Value::Null)));
                let value = if column.counts && fresh {
                    next += 1;
                    last_id = next - 1;
                    Value::Int(last_id)
                } else {
                    value.map_or_else(|| self.default(&context, column), Ok)?
                };
                if column.counts
                    && !fresh
                    && let Value::Int(number) = value
                {
                    next = next.max(number.saturating_add(1));
                }
                made.push(self.fit(&context, &name, column, value)?);
            }
            rows.push(made);
        }
        let (ignore, replace) = match &insert.on {
            Some(OnInsert::DuplicateKeyUpdate(_)) => (false, true),
            Some(OnInsert::OnConflict(conflict)) => {
                let nothing = matches!(conflict.action, sqlparser::ast::OnConflictAction::DoNothing);
                (nothing, !nothing)
            }
            _ => (insert.ignore, insert.replace_into),
        };
        let kept = unique(&table, &name, rows, ignore, replace, self.dialect)?;
        let shown = match &insert.returning {
            Some(items) => {
                let mut relation = Relation::from(table.as_ref());
                relation.rows.clone_from(&kept.new);
                Some(select::returning(&context, items, &name, relation)?)
            }
            None => None,
        };
        drop(context);
        catalog.take(kept.new.iter().map(|row| row_size(row)).sum())?;
        touch(&schema, &name);
        let affected = kept.new.len();
        let table = self.changed(catalog, &database, &schema, &name)?;
        if !kept.gone.is_empty() {
            let mut at = 0;
            table.rows.retain(|_| {
                at += 1;
                !kept.gone.contains(&(at - 1))
            });
        }
        table.rows.extend(kept.new);
        table.next = next;
        Ok(Done { tag: format!("INSERT 0 {affected}"), affected, last_id, rows: shown, ..Done::default() })
    }

    fn default(&self, context: &Context<'_>, column: &Column) -> Result<Value, Fault> {
        match &column.default {
            Some(Value::Text(text)) if text == "CURRENT_TIMESTAMP" => context.call("now", &[]),
            Some(value) => Ok(value.clone()),
            None => Ok(Value::Null),
        }
    }

    /// A value as its column keeps it.
    fn fit(&self, context: &Context<'_>, table: &str, column: &Column, value: Value) -> Result<Value, Fault> {
        if value == Value::Null {
            if column.not_null {
                return Err(Fault::NullValue { column: column.name.clone(), table: table.to_owned() });
            }
            return Ok(value);
        }
        match (self.dialect, column.kind, &value) {
            (Dialect::MySql, Kind::Int | Kind::BigInt, Value::Text(text)) if text.trim().parse::<f64>().is_err() => {
                Err(Fault::BadInput { kind: "integer", text: text.clone() })
            }
            (_, Kind::Varchar | Kind::Text | Kind::Timestamp | Kind::Bytes | Kind::Numeric | Kind::Date, _)
                if matches!(value, Value::Text(_) | Value::Bytes(_)) =>
            {
                Ok(value)
            }
            _ => context.cast(value, &column.declared),
        }
    }

    fn target<'t>(&self, tables: &'t [TableWithJoins]) -> Result<(&'t ObjectName, Option<String>), Fault> {
        match tables.first().map(|table| &table.relation) {
            Some(TableFactor::Table { name, alias, .. }) => {
                Ok((name, alias.as_ref().map(|alias| alias.name.value.clone())))
            }
            _ => Err(Fault::Misuse("this target is not supported")),
        }
    }

    fn update(&self, catalog: &mut Catalog, update: &Update, touch: &mut dyn FnMut(&str, &str)) -> Outcome {
        let (name, alias) = self.target(std::slice::from_ref(&update.table))?;
        let (database, schema, name) = self.place(name)?;
        let table = catalog.table(&database, &schema, &name).cloned();
        let table = table.ok_or_else(|| self.missing(&database, &schema, &name))?;
        let context = self.context(catalog);
        let relation = Relation::from(table.as_ref());
        let cols: Vec<_> = relation
            .cols
            .iter()
            .map(|col| select::Col { table: alias.clone().unwrap_or_else(|| name.clone()), ..col.clone() })
            .collect();
        let most = self.limit(&context, update.limit.as_ref())?;
        let (mut rows, mut affected, mut grown, mut shrunk) = (relation.rows, 0, 0, 0);
        for row in &mut rows {
            context.step()?;
            let old = row.clone();
            let env = Env { cols: &cols, row: &old, group: None, outer: None };
            let hit = update.selection.as_ref().map_or(Ok(true), |condition| context.holds(condition, &env))?;
            if !hit || affected >= most {
                continue;
            }
            for assignment in &update.assignments {
                let AssignmentTarget::ColumnName(column) = &assignment.target else {
                    return Err(Fault::Misuse("this assignment is not supported"));
                };
                let no_column = || Fault::NoColumn { table: Some(name.clone()), name: last(column).to_owned() };
                let at = table.at(last(column)).ok_or_else(no_column)?;
                let value = context.eval(&assignment.value, &env)?;
                if let (Some(cell), Some(column)) = (row.get_mut(at), table.columns.get(at)) {
                    *cell = self.fit(&context, &name, column, value)?;
                }
            }
            affected += 1;
            shrunk += row_size(&old);
            grown += row_size(row);
        }
        drop(context);
        touch(&schema, &name);
        catalog.give(shrunk);
        catalog.take(grown)?;
        self.changed(catalog, &database, &schema, &name)?.rows = rows;
        Ok(Done { tag: format!("UPDATE {affected}"), affected, ..Done::default() })
    }

    fn limit(&self, context: &Context<'_>, limit: Option<&Expr>) -> Result<usize, Fault> {
        let Some(limit) = limit else { return Ok(usize::MAX) };
        Ok(usize::try_from(context.eval(limit, &NOTHING)?.int()).unwrap_or(0))
    }

    fn delete(&self, catalog: &mut Catalog, delete: &Delete, touch: &mut dyn FnMut(&str, &str)) -> Outcome {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        let (name, alias) = self.target(from)?;
        let (database, schema, name) = self.place(name)?;
        let table = catalog.table(&database, &schema, &name).cloned();
        let table = table.ok_or_else(|| self.missing(&database, &schema, &name))?;
        let context = self.context(catalog);
        let relation = Relation::from(table.as_ref());
        let cols: Vec<_> = relation
            .cols
            .iter()
            .map(|col| select::Col { table: alias.clone().unwrap_or_else(|| name.clone()), ..col.clone() })
            .collect();
        let most = self.limit(&context, delete.limit.as_ref())?;
        let (mut kept, mut affected, mut shrunk) = (Vec::new(), 0, 0);
        for row in relation.rows {
            context.step()?;
            let env = Env { cols: &cols, row: &row, group: None, outer: None };
            let hit = delete.selection.as_ref().map_or(Ok(true), |condition| context.holds(condition, &env))?;
            if hit && affected < most {
                affected += 1;
                shrunk += row_size(&row);
            } else {
                kept.push(row);
            }
        }
        drop(context);
        touch(&schema, &name);
        catalog.give(shrunk);
        self.changed(catalog, &database, &schema, &name)?.rows = kept;
        Ok(Done { tag: format!("DELETE {affected}"), affected, ..Done::default() })
    }
}

struct Kept {
    new: Vec<Vec<Value>>,
    gone: BTreeSet<usize>,
}

/// New rows beside the old ones, with each key only once.
fn unique(
    table: &Table,
    name: &str,
    rows: Vec<Vec<Value>>,
    ignore: bool,
    replace: bool,
    dialect: Dialect,
) -> Result<Kept, Fault> {
    let places = |key: &str| -> Vec<usize> {
        (0..table.columns.len()).filter(|at| table.columns.get(*at).is_some_and(|column| column.key == key)).collect()
    };
    let mut keys: Vec<Vec<usize>> = places("UNI").into_iter().map(|at| vec![at]).collect();
    let primary = places("PRI");
    if !primary.is_empty() {
        keys.insert(0, primary);
    }
    let of = |row: &[Value], places: &[usize]| -> Option<String> {
        let values: Option<Vec<String>> = places
            .iter()
            .map(|at| row.get(*at).filter(|value| **value != Value::Null).map(|value| value.key(dialect)))
            .collect();
        values.map(|values| values.join("\u{1}"))
    };
    let mut known: Vec<BTreeMap<String, usize>> = keys
        .iter()
        .map(|places| table.rows.iter().enumerate().filter_map(|(at, row)| Some((of(row, places)?, at))).collect())
        .collect();
    let (mut new, mut gone) = (Vec::with_capacity(rows.len()), BTreeSet::new());
    'rows: for row in rows {
        for (places, known) in keys.iter().zip(&known) {
            let Some(key) = of(&row, places) else { continue };
            let Some(at) = known.get(&key) else { continue };
            if replace {
                gone.insert(*at);
            } else if ignore {
                continue 'rows;
            } else {
                let column = places.first().and_then(|at| table.columns.get(*at));
                let shown = |at: &usize| row.get(*at).map_or_else(String::new, Value::text);
                return Err(Fault::DuplicateKey {
                    value: places.iter().map(shown).collect::<Vec<_>>().join("-"),
                    key: match (dialect, column) {
                        (Dialect::MySql, Some(column)) if column.key == "UNI" => format!("{name}.{}", column.name),
                        (Dialect::MySql, _) => format!("{name}.PRIMARY"),
                        (Dialect::Postgres, Some(column)) if column.key == "UNI" => {
                            format!("{name}_{}_key", column.name)
                        }
                        _ => format!("{name}_pkey"),
                    },
                    column: column.map(|column| column.name.clone()).unwrap_or_default(),
                });
            }
        }
        for (places, known) in keys.iter().zip(&mut known) {
            if let Some(key) = of(&row, places) {
                known.insert(key, usize::MAX);
            }
        }
        new.push(row);
    }
    Ok(Kept { new, gone })
}
