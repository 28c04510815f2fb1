//! What PostgreSQL says of what it refuses.

use super::{build::Build, wire::zero};
use crate::decoys::{sql::Fault, wire::cut};

type Place = (&'static str, &'static str, &'static str, &'static str);

/// An error as it is told.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) severity: &'static str,
    pub(super) state: &'static str,
    pub(super) message: String,
    pub(super) detail: String,
    pub(super) hint: &'static str,
    /// Counted in characters from 1; 0 for none.
    pub(super) position: usize,
    /// Folder, file, line and routine in the source.
    pub(super) place: Box<Place>,
}

impl Refusal {
    pub(super) fn new(state: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            severity: "ERROR",
            state,
            message: message.into(),
            detail: String::new(),
            hint: "",
            position: 0,
            place: Box::new(("tcop", "postgres.c", "1081", "exec_simple_query")),
        }
    }

    pub(super) fn fatal(state: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { severity: "FATAL", ..Refusal::new(state, message) }
    }

    pub(super) fn at(
        self,
        folder: &'static str,
        file: &'static str,
        line: &'static str,
        routine: &'static str,
    ) -> Refusal {
        Refusal { place: Box::new((folder, file, line, routine)), ..self }
    }

    pub(super) fn detail(self, detail: impl Into<String>) -> Refusal {
        Refusal { detail: detail.into(), ..self }
    }

    pub(super) fn hint(self, hint: &'static str) -> Refusal {
        Refusal { hint, ..self }
    }

    /// The fields of the message.
    pub(super) fn body(&self, build: &Build) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |letter: u8, text: &str| {
            if !text.is_empty() {
                out.push(letter);
                out.extend(zero(cut(text, 1_024)));
            }
        };
        put(b'S', self.severity);
        if build.number >= 90_600 {
            put(b'V', self.severity);
        }
        put(b'C', self.state);
        put(b'M', &self.message);
        put(b'D', &self.detail);
        put(b'H', self.hint);
        if self.position > 0 {
            put(b'P', &self.position.to_string());
        }
        let (folder, file, line, routine) = *self.place;
        put(b'F', &build.place(folder, file));
        put(b'L', line);
        put(b'R', routine);
        out.push(0);
        out
    }
}

/// Where a word stands in a statement, counted in characters from 1.
fn position(statement: &str, word: &str) -> usize {
    let lower = statement.to_lowercase();
    let word = word.to_lowercase();
    let inner = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut from = 0;
    while let Some(found) = lower.get(from..).and_then(|rest| rest.find(&word)) {
        let at = from + found;
        let before = lower.get(..at).and_then(|before| before.chars().next_back());
        let after = lower.get(at + word.len()..).and_then(|after| after.chars().next());
        if !inner(before) && !inner(after) {
            return lower.get(..at).map_or(0, |before| before.chars().count()) + 1;
        }
        from = at + word.len().max(1);
    }
    0
}

/// The words for what is wrong with a statement.
pub(super) fn refusal(fault: &Fault, statement: &str) -> Refusal {
    let at = |refusal: Refusal, word: &str| Refusal { position: position(statement, word), ..refusal };
    match fault {
        Fault::Syntax { near, at, .. } => {
            let message = if near.is_empty() {
                "syntax error at end of input".to_owned()
            } else {
                format!("syntax error at or near \"{near}\"")
            };
            Refusal { position: *at, ..Refusal::new("42601", message) }.at(
                "parser",
                "scan.l",
                "1188",
                "scanner_yyerror",
            )
        }
        Fault::NoTable { schema, name } => {
            let full = schema.as_ref().map_or_else(|| name.clone(), |schema| format!("{schema}.{name}"));
            at(Refusal::new("42P01", format!("relation \"{full}\" does not exist")), &full).at(
                "parser",
                "parse_relation.c",
                "1392",
                "parserOpenTable",
            )
        }
        Fault::NoColumn { table, name } => {
            let message = match table {
                Some(table) => format!("column {table}.{name} does not exist"),
                None => format!("column \"{name}\" does not exist"),
            };
            at(Refusal::new("42703", message), name).at("parser", "parse_relation.c", "3665", "errorMissingColumn")
        }
        Fault::NoFunction { name, arguments } => {
            let message = format!("function {name}({}) does not exist", arguments.join(", "));
            at(Refusal::new("42883", message), name)
                .hint(
                    "No function matches the given name and argument types. You might need to add explicit type casts.",
                )
                .at("parser", "parse_func.c", "629", "ParseFuncOrColumn")
        }
        Fault::NoDatabase(name) => Refusal::new("3D000", format!("database \"{name}\" does not exist")).at(
            "commands",
            "dbcommands.c",
            "1571",
            "dropdb",
        ),
        Fault::NoSchema(name) => Refusal::new("3F000", format!("schema \"{name}\" does not exist")).at(
            "catalog",
            "namespace.c",
            "3090",
            "get_namespace_oid",
        ),
        Fault::NoDatabaseSelected => Refusal::new("3D000", "no database selected"),
        Fault::NoVariable(name) => Refusal::new("42704", format!("unrecognized configuration parameter \"{name}\""))
            .at("utils\\misc", "guc.c", "9900", "GetConfigOptionByName"),
        Fault::TableExists(name) => Refusal::new("42P07", format!("relation \"{name}\" already exists")).at(
            "catalog",
            "heap.c",
            "1164",
            "heap_create_with_catalog",
        ),
        Fault::DatabaseExists(name) => Refusal::new("42P04", format!("database \"{name}\" already exists")).at(
            "commands",
            "dbcommands.c",
            "1242",
            "createdb",
        ),
        Fault::SchemaExists(name) => Refusal::new("42P06", format!("schema \"{name}\" already exists")).at(
            "catalog",
            "pg_namespace.c",
            "62",
            "NamespaceCreate",
        ),
        Fault::ColumnExists { column, table } => {
            Refusal::new("42701", format!("column \"{column}\" of relation \"{table}\" already exists"))
        }
        Fault::ValueCount { more: true, .. } => Refusal::new(
            "42601",
            "INSERT has more expressions than target columns",
        )
        .at("parser", "analyze.c", "1017", "transformInsertRow"),
        Fault::ValueCount { more: false, .. } => Refusal::new(
            "42601",
            "INSERT has more target columns than expressions",
        )
        .at("parser", "analyze.c", "1030", "transformInsertRow"),
        Fault::NullValue { column, table } => Refusal::new(
            "23502",
            format!("null value in column \"{column}\" of relation \"{table}\" violates not-null constraint"),
        )
        .at("executor", "execMain.c", "2023", "ExecConstraints"),
        Fault::DuplicateKey { value, key, column } => {
            Refusal::new("23505", format!("duplicate key value violates unique constraint \"{key}\""))
                .detail(format!("Key ({column})=({value}) already exists."))
                .at("access\\nbtree", "nbtinsert.c", "664", "_bt_check_unique")
        }
        Fault::BadInput { kind, text } if *kind == "regular expression" => {
            Refusal::new("2201B", format!("invalid regular expression: {}", cut(text, 80)))
        }
        Fault::BadInput { kind, text } => at(
            Refusal::new("22P02", format!("invalid input syntax for type {kind}: \"{}\"", cut(text, 200))),
            text,
        )
        .at("utils\\adt", "numutils.c", "232", "pg_strtoint32"),
        Fault::DivisionByZero => Refusal::new("22012", "division by zero").at("utils\\adt", "int.c", "869", "int4div"),
        Fault::ManyRows => Refusal::new("21000", "more than one row returned by a subquery used as an expression").at(
            "executor",
            "nodeSubplan.c",
            "1156",
            "ExecSetParamPlan",
        ),
        Fault::ManyColumns => Refusal::new("54011", "tables can have at most 1600 columns"),
        Fault::Misuse(what) => Refusal::new("42601", *what),
        Fault::ReadOnly(name) => Refusal::new("42501", format!("permission denied: \"{name}\" is a system catalog"))
            .at("commands", "tablecmds.c", "3601", "RangeVarCallbackForDropRelation"),
        Fault::TooComplex => Refusal::new("54001", "stack depth limit exceeded")
            .hint(
                "Increase the configuration parameter \"max_stack_depth\" (currently 2048kB), after ensuring the \
                   platform's stack depth limit is adequate.",
            )
            .at("tcop", "postgres.c", "3554", "check_stack_depth"),
        Fault::TooMuch => Refusal::new("53200", "out of memory")
            .detail("Failed on request of size 8388608 in memory context \"ExprContext\"."),
        Fault::Full => Refusal::new("53100", "could not extend file \"base/16384/24601\": No space left on device")
            .hint("Check free disk space.")
            .at("storage\\smgr", "md.c", "469", "mdextend"),
        Fault::Own(_, state, message) => Refusal::new(state, message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persona::Os;

    #[test]
    fn a_protocol_is_refused_as_the_real_server_does_it() {
        // What a PostgreSQL 15.18 of Debian 12 sends.
        let real = b"SFATAL\x00VFATAL\x00C0A000\x00Munsupported frontend protocol 65363.19778: server supports 3.0 to 3.0\x00Fpostmaster.c\x00L2222\x00RProcessStartupPacket\x00\x00";
        let build = Build::of(Os::Debian12);
        let made = Refusal::fatal("0A000", "unsupported frontend protocol 65363.19778: server supports 3.0 to 3.0")
            .at("postmaster", "postmaster.c", build.line, "ProcessStartupPacket")
            .body(&build);
        assert_eq!(made, real);
    }

    #[test]
    fn words_are_found_as_a_whole() {
        assert_eq!(position("select xnope, nope from t", "nope"), 15);
        assert_eq!(position("ä nope", "nope"), 3);
        assert_eq!(position("x", ""), 0);
    }
}
