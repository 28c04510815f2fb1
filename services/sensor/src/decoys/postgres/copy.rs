//! `COPY`: from and to the client, files and programs.

use super::{
    Postgres,
    build::Build,
    catalog::Server,
    errors::{Refusal, refusal},
    files,
};
use crate::{
    decoys::{
        sql::{self, Context, Dialect, Fault, Relation, Runner, Value},
        wire::cut,
    },
    session::{EventType, Session},
};

/// What a `COPY` comes to.
pub(super) enum Copied {
    /// Rows go to the client.
    Out(Vec<String>, usize),
    /// Rows come from the client, into these columns of a table.
    In { target: String, columns: usize },
    /// That many rows were taken.
    Done(usize),
}

/// A table with its columns as they stand in the statement, such as `t(a, b)`.
fn target(words: &[String]) -> String {
    let end = words.iter().position(|word| word == "from" || word == "to").unwrap_or(words.len());
    words.get(1..end).unwrap_or_default().concat()
}

fn literal(words: &[String], after: &[&str]) -> Option<String> {
    let at = words.iter().position(|word| after.contains(&word.as_str()))?;
    let word = words.get(at + 1)?;
    // An `E'…'` is two words.
    let word = if word.len() == 1 && words.get(at + 2).is_some_and(|next| next.starts_with('\'')) {
        words.get(at + 2)?
    } else {
        word
    };
    word.starts_with('\'').then(|| sql::unquote(word).replace("''", "'"))
}

fn cell(value: &Value) -> String {
    match value.show(Dialect::Postgres) {
        None => "\\N".to_owned(),
        Some(text) => text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r"),
    }
}

/// A text between a statement's first two matching parentheses.
fn inner(statement: &str) -> Option<&str> {
    let begin = statement.find('(')?;
    let mut depth = 0_usize;
    for (at, c) in statement.char_indices().skip_while(|(at, _)| *at < begin) {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return statement.get(begin + 1..at);
        }
    }
    None
}

/// Does what a `COPY` asks for.
pub(super) fn copy(
    of: &Postgres,
    server: &Server,
    session: &Session,
    (user, database): (&str, &str),
    statement: &str,
) -> Result<Copied, Refusal> {
    let words = words_of(statement);
    let runner = Runner { facts: server, dialect: Dialect::Postgres, user, database };
    let run = |text: &str| -> Result<Relation, Refusal> {
        let done = of.engine.with(|catalog| runner.run(catalog, text, None));
        done.map(|done| done.rows.unwrap_or_default()).map_err(|fault| refusal(&fault, statement))
    };
    let query = words.get(1).is_some_and(|word| word == "(");
    let to = words.iter().rposition(|word| word == "to");
    let rows = |statement: &str| match inner(statement).filter(|_| query) {
        Some(text) => run(text),
        None => {
            let target = target(&words);
            match target.split_once('(') {
                Some((table, columns)) => run(&format!("SELECT {} FROM {table}", columns.trim_end_matches(')'))),
                None => run(&format!("SELECT * FROM {target}")),
            }
        }
    };
    if let Some(command) = literal(&words, &["program"]) {
        tell(session, &command);
        let printed = files::run(&of.persona, &server.build, &command);
        let table = if query { None } else { Some(target(&words)) };
        if to.is_some() && !words.iter().any(|word| word == "from") {
            let found = rows(statement)?;
            return Ok(Copied::Done(found.rows.len()));
        }
        let columns = run(&format!("SELECT * FROM {} LIMIT 0", table.as_deref().unwrap_or("")))?.cols.len();
        return match printed {
            Ok(printed) => {
                let lines: Vec<String> = printed.lines().map(str::to_owned).collect();
                take(of, server, (user, database), table.as_deref().unwrap_or(""), columns, &lines).map(Copied::Done)
            }
            Err(why) => Err(Refusal::new("38000", format!("program \"{command}\" failed")).detail(why).at(
                "commands",
                "copyfrom.c",
                "1622",
                "ClosePipeFromProgram",
            )),
        };
    }
    let end = words.iter().any(|word| word == "stdin" || word == "stdout");
    if !end {
        let path = literal(&words, &["from", "to"]).unwrap_or_default();
        if to.is_some() {
            session.emit(
                EventType::Query,
                format!("would write {}", cut(&path, 200)),
                &[("path", &path), ("query", cut(statement, 2_048))],
            );
            return Err(Refusal::new(
                "42501",
                format!("could not open file \"{path}\" for writing: Permission denied"),
            )
            .at("commands", "copyto.c", "761", "BeginCopyTo"));
        }
        let columns = run(&format!("SELECT * FROM {} LIMIT 0", target(&words)))?.cols.len();
        return match files::content(&of.persona, &server.build, &path) {
            Some(content) => {
                let lines: Vec<String> = content.lines().map(str::to_owned).collect();
                take(of, server, (user, database), &target(&words), columns, &lines).map(Copied::Done)
            }
            None => Err(refusal(&files::missing(&path, "could not open file", " for reading"), statement)
                .hint("COPY FROM instructs the PostgreSQL server process to read a file. You may want a client-side facility \
                       such as psql's \\copy.")
                .at("commands", "copyfrom.c", "1523", "BeginCopyFrom")),
        };
    }
    if to.is_some() {
        let found = rows(statement)?;
        let lines = found.rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join("\t") + "\n").collect();
        return Ok(Copied::Out(lines, found.cols.len()));
    }
    let target = target(&words);
    let columns = match target.split_once('(') {
        Some((_, columns)) => columns.split(',').count(),
        None => run(&format!("SELECT * FROM {target} LIMIT 0"))?.cols.len(),
    };
    Ok(Copied::In { target, columns })
}

/// Words of a `COPY`, quoted texts as they are.
fn words_of(statement: &str) -> Vec<String> {
    sql::words(statement, 256)
}

/// A program that an attacker starts.
fn tell(session: &Session, command: &str) {
    session.emit(EventType::Command, cut(command, 200), &[("command", command)]);
    for address in files::addresses(command) {
        let tool = ["curl", "wget"].into_iter().find(|tool| command.contains(tool)).unwrap_or("program");
        let fields = [("url", address.as_str()), ("tool", tool), ("command", command)];
        session.emit(EventType::DownloadAttempt, format!("would fetch {}", cut(&address, 200)), &fields);
    }
}

/// Takes lines into a table.
pub(super) fn take(
    of: &Postgres,
    server: &Server,
    (user, database): (&str, &str),
    target: &str,
    columns: usize,
    lines: &[String],
) -> Result<usize, Refusal> {
    let runner = Runner { facts: server, dialect: Dialect::Postgres, user, database };
    let mut taken = 0;
    for chunk in lines.chunks(200) {
        let mut rows = Vec::new();
        for (at, line) in chunk.iter().enumerate() {
            let cells: Vec<String> =
                if columns <= 1 { vec![line.clone()] } else { line.split('\t').map(str::to_owned).collect() };
            if cells.len() != columns.max(1) {
                let (state, message) = if cells.len() < columns {
                    ("22P04", "missing data for column".to_owned())
                } else {
                    ("22P04", "extra data after last expected column".to_owned())
                };
                return Err(Refusal::new(state, message)
                    .detail(format!("COPY {target}, line {}: \"{}\"", taken + at + 1, cut(line, 100)))
                    .at("commands", "copyfromparse.c", "941", "NextCopyFrom"));
            }
            let quoted = cells.iter().map(|cell| match cell.as_str() {
                "\\N" => "NULL".to_owned(),
                text => format!("'{}'", text.replace('\'', "''")),
            });
            rows.push(format!("({})", quoted.collect::<Vec<_>>().join(",")));
        }
        if rows.is_empty() {
            continue;
        }
        let statement = format!("INSERT INTO {target} VALUES {}", rows.join(","));
        let done = of.engine.with(|catalog| runner.run(catalog, &statement, None));
        taken += done.map_err(|fault| refusal(&fault, &statement))?.affected;
    }
    Ok(taken)
}

/// Whether the server could load a library: no library is there.
pub(super) fn library(statement: &str, build: &Build) -> Option<Refusal> {
    let words = sql::words(statement, 256);
    let c = words
        .windows(2)
        .any(|pair| matches!(pair, [language, c] if language == "language" && (c == "c" || c == "'C'" || c == "'c'")));
    if !c {
        return None;
    }
    let at = words.iter().rposition(|word| word == "as")?;
    let path = sql::unquote(words.get(at + 1)?);
    let _ = build;
    Some(Refusal::new("58P01", format!("could not access file \"{path}\": No such file or directory")).at(
        "utils\\fmgr",
        "dfmgr.c",
        "207",
        "internal_load_library",
    ))
}

/// The value of a setting as `SHOW` shows it.
pub(super) fn show(server: &Server, context: &Context<'_>, name: &str) -> Result<Relation, Fault> {
    if name == "all" {
        let rows =
            server.all_settings(context).into_iter().map(|(name, value)| vec![name.into(), value.into(), "".into()]);
        return Ok(Relation::texts(&["name", "setting", "description"], rows.collect()));
    }
    let name = match name {
        "transaction" => "transaction_isolation",
        "time" => "TimeZone",
        other => other,
    };
    let value = server.setting(context, name).ok_or_else(|| Fault::NoVariable(name.to_owned()))?;
    Ok(Relation::texts(&[name], vec![vec![value.into()]]))
}
