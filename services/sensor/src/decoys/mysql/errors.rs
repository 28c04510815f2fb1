//! What MySQL and MariaDB say of a statement that they refuse.

use super::build::Build;
use crate::decoys::{sql::Fault, wire::cut};

/// Number, state and text of an error.
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) state: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(code: u16, state: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, state, message: message.into() }
    }

    /// As a packet.
    pub(super) fn packet(&self) -> Vec<u8> {
        let mut out = vec![0xff];
        out.extend(self.code.to_le_bytes());
        out.push(b'#');
        out.extend(self.state.bytes());
        out.extend(cut(&self.message, 512).bytes());
        out
    }
}

/// The words for what is wrong.
pub(super) fn refusal(fault: &Fault, build: &Build, database: &str) -> Refusal {
    let of = |schema: &Option<String>| schema.clone().unwrap_or_else(|| database.to_owned());
    match fault {
        Fault::Syntax { rest, line, .. } => Refusal::new(
            1064,
            "42000",
            format!(
                "You have an error in your SQL syntax; check the manual that corresponds to your {} server version for \
                 the right syntax to use near '{}' at line {line}",
                build.product(),
                cut(rest, 80)
            ),
        ),
        Fault::NoTable { schema, name } => {
            Refusal::new(1146, "42S02", format!("Table '{}.{name}' doesn't exist", of(schema)))
        }
        Fault::NoColumn { table: Some(table), name } => {
            Refusal::new(1054, "42S22", format!("Unknown column '{table}.{name}' in 'field list'"))
        }
        Fault::NoColumn { name, .. } => Refusal::new(1054, "42S22", format!("Unknown column '{name}' in 'field list'")),
        Fault::NoFunction { name, .. } if database.is_empty() => {
            Refusal::new(1305, "42000", format!("FUNCTION {name} does not exist"))
        }
        Fault::NoFunction { name, .. } => {
            Refusal::new(1305, "42000", format!("FUNCTION {database}.{name} does not exist"))
        }
        Fault::NoDatabase(name) | Fault::NoSchema(name) => {
            Refusal::new(1049, "42000", format!("Unknown database '{name}'"))
        }
        Fault::NoDatabaseSelected => Refusal::new(1046, "3D000", "No database selected"),
        Fault::NoVariable(name) => Refusal::new(1193, "HY000", format!("Unknown system variable '{name}'")),
        Fault::TableExists(name) => Refusal::new(1050, "42S01", format!("Table '{name}' already exists")),
        Fault::DatabaseExists(name) | Fault::SchemaExists(name) => {
            Refusal::new(1007, "HY000", format!("Can't create database '{name}'; database exists"))
        }
        Fault::ColumnExists { column, .. } => Refusal::new(1060, "42S21", format!("Duplicate column name '{column}'")),
        Fault::ValueCount { row, .. } => {
            Refusal::new(1136, "21S01", format!("Column count doesn't match value count at row {row}"))
        }
        Fault::NullValue { column, .. } => Refusal::new(1048, "23000", format!("Column '{column}' cannot be null")),
        Fault::DuplicateKey { value, key, .. } => {
            // MariaDB names the key without its table.
            let key = if build.maria { key.rsplit('.').next().unwrap_or(key) } else { key };
            Refusal::new(1062, "23000", format!("Duplicate entry '{value}' for key '{key}'"))
        }
        Fault::BadInput { kind: "regular expression", text } => {
            Refusal::new(1139, "42000", format!("Got error 'pattern {text}' from regexp"))
        }
        Fault::BadInput { kind, text } => {
            Refusal::new(1366, "HY000", format!("Incorrect {kind} value: '{}' at row 1", cut(text, 64)))
        }
        Fault::DivisionByZero => Refusal::new(1365, "22012", "Division by 0"),
        Fault::ManyRows => Refusal::new(1242, "21000", "Subquery returns more than 1 row"),
        Fault::ManyColumns => Refusal::new(1117, "HY000", "Too many columns"),
        Fault::Misuse("SELECT * with no tables specified is not valid") => {
            Refusal::new(1096, "HY000", "No tables used")
        }
        Fault::Misuse("subquery must return only one column") => {
            Refusal::new(1241, "21000", "Operand should contain 1 column(s)")
        }
        Fault::Misuse("each UNION query must have the same number of columns") => {
            Refusal::new(1222, "21000", "The used SELECT statements have a different number of columns")
        }
        Fault::Misuse(what) if what.starts_with("aggregate") => {
            Refusal::new(1111, "HY000", "Invalid use of group function")
        }
        Fault::Misuse(_) => Refusal::new(
            1235,
            "42000",
            format!("This version of {} doesn't yet support 'this construct'", build.product()),
        ),
        Fault::ReadOnly(name) => {
            Refusal::new(1044, "42000", format!("Access denied for user 'root'@'%' to database '{name}'"))
        }
        Fault::TooComplex => Refusal::new(
            1436,
            "HY000",
            "Thread stack overrun:  246104 bytes used of a 262144 byte stack, and 20000 bytes needed.  Use 'mysqld \
             --thread_stack=#' to specify a bigger stack.",
        ),
        Fault::TooMuch => {
            Refusal::new(1038, "HY001", "Out of sort memory, consider increasing server sort buffer size")
        }
        Fault::Full => Refusal::new(
            1021,
            "HY000",
            "Disk full (/tmp/#sql); waiting for someone to free some space... (errno: 28 \"No space left on device\")",
        ),
        Fault::Own(code, state, message) => Refusal::new(*code, state, message.clone()),
    }
}
