//! The databases of a decky in memory, with a bound on what attackers may add.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Fault, Kind, Value};

/// What attackers may add to a decky's databases in all.
const ROOM: usize = 2 << 20;
/// The most tables of a database, the most databases.
const MOST_TABLES: usize = 256;
const MOST_DATABASES: usize = 32;
/// The most columns of a table.
const MOST_COLUMNS: usize = 64;
/// Transactions that remember how it was, at once.
const MOST_UNDO: usize = 8;
/// After so long without anybody, the databases are again as at first.
const FORGET: Duration = Duration::from_secs(6 * 3_600);

/// A column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// The kind of its values.
    pub(crate) kind: Kind,
    /// Its type as the server shows it.
    pub(crate) declared: String,
    /// Whether null is refused.
    pub(crate) not_null: bool,
    /// `PRI`, `UNI` or nothing.
    pub(crate) key: &'static str,
    /// What it is when nothing is said.
    pub(crate) default: Option<Value>,
    /// Whether it counts up by itself.
    pub(crate) counts: bool,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Its number, as PostgreSQL has one.
    pub(crate) oid: i64,
    /// In their order.
    pub(crate) columns: Vec<Column>,
    /// Its rows.
    pub(crate) rows: Vec<Vec<Value>>,
    /// The next number of a column that counts.
    pub(crate) next: i64,
}

impl Table {
    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        512 + self.columns.len() * 128 + self.rows.iter().map(|row| row_size(row)).sum::<usize>()
    }

    /// Where a column is.
    pub(crate) fn at(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }
}

/// About how much memory a row takes.
pub(crate) fn row_size(row: &[Value]) -> usize {
    row.iter().map(Value::size).sum::<usize>() + 32
}

/// The tables of a database by schema and name; MySQL has only the schema with the empty name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    /// Its number, as PostgreSQL has one.
    pub(crate) oid: i64,
    /// Schemas with their tables.
    pub(crate) schemas: BTreeMap<String, BTreeMap<String, Arc<Table>>>,
}

/// All databases of a decky.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// By name.
    pub(crate) databases: BTreeMap<String, Database>,
    pub(super) next_oid: i64,
    room: usize,
    undo: Arc<()>,
}

/// How the tables of a database were when a transaction began.
pub(crate) struct Undo {
    database: String,
    before: Option<(Database, Arc<()>)>,
    pub(super) touched: Vec<(String, String)>,
}

impl Catalog {
    /// With these databases.
    pub(crate) fn new(databases: BTreeMap<String, Database>, next_oid: i64) -> Catalog {
        Catalog { databases, next_oid, room: ROOM, undo: Arc::default() }
    }

    /// The next free number; those around it are for a table's sequence and keys.
    pub(crate) fn oid(&mut self) -> i64 {
        self.next_oid += 8;
        self.next_oid
    }

    /// A table, as it is now.
    pub(crate) fn table(&self, database: &str, schema: &str, name: &str) -> Option<&Arc<Table>> {
        self.databases.get(database)?.schemas.get(schema)?.get(name)
    }

    /// A table, to change it.
    pub(crate) fn table_mut(&mut self, database: &str, schema: &str, name: &str) -> Option<&mut Table> {
        self.databases.get_mut(database)?.schemas.get_mut(schema)?.get_mut(name).map(Arc::make_mut)
    }

    /// Takes room for new data.
    pub(crate) fn take(&mut self, size: usize) -> Result<(), Fault> {
        self.room = self.room.checked_sub(size).ok_or(Fault::Full)?;
        Ok(())
    }

    /// Gives room back.
    pub(crate) fn give(&mut self, size: usize) {
        self.room = self.room.saturating_add(size).min(ROOM);
    }

    /// A new database.
    pub(crate) fn create_database(&mut self, name: &str, schema: &str) -> Result<(), Fault> {
        if self.databases.contains_key(name) {
            return Err(Fault::DatabaseExists(name.to_owned()));
        }
        if self.databases.len() >= MOST_DATABASES {
            return Err(Fault::Full);
        }
        self.take(1_024)?;
        let oid = self.oid();
        let schemas = BTreeMap::from([(schema.to_owned(), BTreeMap::new())]);
        self.databases.insert(name.to_owned(), Database { oid, schemas });
        Ok(())
    }

    /// Removes a database.
    pub(crate) fn drop_database(&mut self, name: &str) -> bool {
        let Some(gone) = self.databases.remove(name) else { return false };
        self.give(gone.schemas.values().flat_map(BTreeMap::values).map(|table| table.size()).sum::<usize>() + 1_024);
        true
    }

    /// A new schema.
    pub(crate) fn create_schema(&mut self, database: &str, schema: &str) -> Result<(), Fault> {
        self.take(256)?;
        let of = self.databases.get_mut(database).ok_or_else(|| Fault::NoDatabase(database.to_owned()))?;
        if of.schemas.contains_key(schema) {
            return Err(Fault::SchemaExists(schema.to_owned()));
        }
        if of.schemas.len() >= MOST_DATABASES {
            return Err(Fault::Full);
        }
        of.schemas.insert(schema.to_owned(), BTreeMap::new());
        Ok(())
    }

    /// A new table, which must not exist.
    pub(crate) fn create_table(
        &mut self,
        database: &str,
        schema: &str,
        name: &str,
        mut table: Table,
    ) -> Result<(), Fault> {
        if table.columns.len() > MOST_COLUMNS {
            return Err(Fault::ManyColumns);
        }
        self.take(table.size())?;
        table.oid = self.oid();
        let of = self.databases.get_mut(database).ok_or_else(|| Fault::NoDatabase(database.to_owned()))?;
        if of.schemas.values().map(BTreeMap::len).sum::<usize>() >= MOST_TABLES {
            return Err(Fault::Full);
        }
        let tables = of.schemas.get_mut(schema).ok_or_else(|| Fault::NoSchema(schema.to_owned()))?;
        if tables.contains_key(name) {
            return Err(Fault::TableExists(name.to_owned()));
        }
        tables.insert(name.to_owned(), Arc::new(table));
        Ok(())
    }

    /// Removes a table.
    pub(crate) fn drop_table(&mut self, database: &str, schema: &str, name: &str) -> Option<Arc<Table>> {
        let gone = self.databases.get_mut(database)?.schemas.get_mut(schema)?.remove(name)?;
        self.give(gone.size());
        Some(gone)
    }

    /// Puts a table under a name, as it is.
    pub(crate) fn put_table(&mut self, database: &str, schema: &str, name: &str, table: Arc<Table>) {
        if let Some(tables) = self.databases.get_mut(database).and_then(|of| of.schemas.get_mut(schema)) {
            tables.insert(name.to_owned(), table);
        }
    }

    /// A transaction begins.
    pub(crate) fn begin(&self, database: &str) -> Undo {
        let remembered = Arc::strong_count(&self.undo) <= MOST_UNDO;
        let before = self.databases.get(database).filter(|_| remembered).cloned();
        Undo {
            database: database.to_owned(),
            before: before.map(|before| (before, self.undo.clone())),
            touched: Vec::new(),
        }
    }

    /// A transaction is taken back: the tables that it touched are as they were.
    pub(crate) fn undo(&mut self, undo: &Undo) {
        let Some((before, _)) = &undo.before else { return };
        for (schema, name) in &undo.touched {
            let old = before.schemas.get(schema).and_then(|tables| tables.get(name)).cloned();
            let new = self.drop_table(&undo.database, schema, name);
            if let Some(old) = old {
                let _ = self.take(if new.is_some() { old.size() } else { 0 });
                self.put_table(&undo.database, schema, name, old);
            }
        }
    }
}

type Make = dyn Fn() -> Catalog + Send + Sync;

/// The databases, made when first somebody asks for them.
pub(crate) struct Engine {
    make: Box<Make>,
    state: Mutex<Option<(Catalog, Instant)>>,
}

impl Engine {
    /// Databases that are made by this.
    pub(crate) fn new(make: impl Fn() -> Catalog + Send + Sync + 'static) -> Engine {
        Engine { make: Box::new(make), state: Mutex::new(None) }
    }

    /// Does something with the databases.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Catalog) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.as_ref().is_some_and(|(_, used)| used.elapsed() > FORGET) {
            *state = None;
        }
        let (catalog, used) = state.get_or_insert_with(|| ((self.make)(), Instant::now()));
        *used = Instant::now();
        act(catalog)
    }
}
