//! One statement of a client.

use super::*;

impl Client<'_> {
    pub(super) fn tell(&self, statement: &str) {
        let statement = text(cut(statement.trim(), 4_096).as_bytes());
        let fields =
            [("query", statement.as_str()), ("database", self.database.as_str()), ("username", self.user.as_str())];
        self.session.emit(EventType::Query, cut(&statement, 200), &fields);
    }

    /// One statement.
    pub(super) async fn statement(&mut self, statement: &str) -> Result<Answer, Refusal> {
        self.tell(statement);
        self.keep(statement).await;
        self.perform(statement).await
    }

    pub(super) async fn perform(&mut self, statement: &str) -> Result<Answer, Refusal> {
        let words = sql::words(statement, 64);
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        let done = |tag: &str| Ok(Answer::Done(tag.to_owned()));
        if word(0).is_empty() {
            return Ok(Answer::Empty);
        }
        if self.failed && !matches!(word(0), "rollback" | "commit" | "end" | "abort") {
            return Err(Refusal::new(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        match (word(0), word(1)) {
            ("begin", _) | ("start", "transaction") => {
                if self.undo.is_none() {
                    self.undo = Some(self.of.engine.with(|catalog| catalog.begin(&self.database)));
                }
                return done(if word(0) == "begin" { "BEGIN" } else { "START TRANSACTION" });
            }
            ("commit" | "end", _) => {
                let undo = self.undo.take();
                if std::mem::take(&mut self.failed) {
                    if let Some(undo) = undo {
                        self.of.engine.with(|catalog| catalog.undo(&undo));
                    }
                    return done("ROLLBACK");
                }
                return done("COMMIT");
            }
            ("rollback", "to") => {
                self.failed = false;
                return done("ROLLBACK");
            }
            ("rollback" | "abort", _) => {
                if let Some(undo) = self.undo.take() {
                    self.of.engine.with(|catalog| catalog.undo(&undo));
                }
                self.failed = false;
                return done("ROLLBACK");
            }
            ("savepoint", _) => return done("SAVEPOINT"),
            ("release", _) => return done("RELEASE"),
            ("set", _) => {
                self.set(&words);
                return done("SET");
            }
            ("show", name) => {
                let shown = self.context(|context| copy::show(&self.server, context, name));
                return match shown {
                    Ok(rows) => Ok(Answer::Rows(rows, "SHOW".to_owned())),
                    Err(fault) => Err(refusal(&fault, statement)),
                };
            }
            ("copy", _) => {
                let whom = (self.user.as_str(), self.database.as_str());
                return copy::copy(self.of, &self.server, self.session, whom, statement).map(Answer::Copy);
            }
            ("explain", _) => {
                let rows = vec![vec!["Result  (cost=0.00..0.01 rows=1 width=4)".into()]];
                return Ok(Answer::Rows(Relation::of(&[("QUERY PLAN", Kind::Text)], rows), "EXPLAIN".to_owned()));
            }
            ("do", _) => return done("DO"),
            ("grant", _) => return done(if words.iter().any(|word| word == "on") { "GRANT" } else { "GRANT ROLE" }),
            ("revoke", _) => return done("REVOKE"),
            ("lock", _) => return done("LOCK TABLE"),
            ("discard", _) => return done("DISCARD ALL"),
            (
                "vacuum" | "analyze" | "checkpoint" | "reset" | "listen" | "unlisten" | "notify" | "comment"
                | "reindex" | "cluster" | "load" | "reassign" | "security" | "call",
                verb,
            ) => {
                let _ = verb;
                return done(&word(0).to_uppercase());
            }
            ("deallocate", _) => return done("DEALLOCATE"),
            ("create" | "alter" | "drop", _) => {
                let mut rest = words.iter().skip(1).map(String::as_str).filter(|word| {
                    !matches!(
                        *word,
                        "or" | "replace"
                            | "trusted"
                            | "temp"
                            | "temporary"
                            | "unlogged"
                            | "unique"
                            | "global"
                            | "local"
                            | "recursive"
                            | "constraint"
                            | "event"
                    )
                });
                let kind = rest.next().unwrap_or("");
                let kind = match kind {
                    "user" => "role",
                    "foreign" | "text" | "access" | "materialized" | "default" | "large" => "",
                    other => other,
                };
                if kind == "function"
                    && let Some(refused) = copy::library(statement, &self.server.build)
                {
                    return Err(refused);
                }
                let own = matches!(kind, "table" | "database" | "schema" | "view")
                    && !(word(0) == "alter" && kind != "table");
                if !own {
                    let kind = if kind.is_empty() { word(1).to_owned() } else { kind.to_owned() };
                    if kind.chars().all(|c| c.is_ascii_alphabetic()) && kind.len() > 3 {
                        return done(&format!("{} {}", word(0), kind).to_uppercase());
                    }
                }
            }
            _ => {}
        }
        self.run(statement).await
    }

    pub(super) async fn run(&mut self, statement: &str) -> Result<Answer, Refusal> {
        let mut undo = self.undo.take();
        let outcome = self.of.engine.with(|catalog| {
            let runner =
                Runner { facts: &self.server, dialect: Dialect::Postgres, user: &self.user, database: &self.database };
            runner.run(catalog, statement, undo.as_mut())
        });
        self.undo = undo;
        let done = outcome.map_err(|fault| refusal(&fault, statement))?;
        if done.delay > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(done.delay)).await;
        }
        Ok(match done.rows {
            Some(rows) => Answer::Rows(rows, done.tag),
            None => Answer::Done(done.tag),
        })
    }

    /// `SET name TO value`.
    pub(super) fn set(&mut self, words: &[String]) {
        let words: Vec<&String> =
            words.iter().skip(1).filter(|word| !matches!(word.as_str(), "session" | "local" | "=" | "to")).collect();
        let (Some(name), Some(value)) = (words.first(), words.get(1)) else { return };
        let (name, value) = match name.as_str() {
            "names" => ("client_encoding", sql::unquote(value)),
            "time" => ("TimeZone", words.get(2).map(|word| sql::unquote(word)).unwrap_or_default()),
            "datestyle" => {
                ("DateStyle", format!("{}, MDY", sql::unquote(value).to_uppercase().split(',').next().unwrap_or("ISO")))
            }
            "timezone" => ("TimeZone", sql::unquote(value)),
            other => (other, sql::unquote(value)),
        };
        let value = cut(&value, 256).to_owned();
        if matches!(name, "client_encoding" | "application_name" | "DateStyle" | "TimeZone" | "IntervalStyle") {
            self.changed.push((name.to_owned(), value.clone()));
        }
        if name == "application_name" {
            self.server.application.clone_from(&value);
        }
        let name = name.to_owned();
        self.server.settings.retain(|(known, _)| *known != name);
        if self.server.settings.len() < MOST_SETTINGS {
            self.server.settings.push((name, value));
        }
    }

    /// Files that come in pieces of large objects are kept.
    pub(super) async fn keep(&self, statement: &str) {
        let lower = cut(statement, 4_096).to_lowercase();
        if !["lo_from_bytea", "lo_put", "lowrite", "pg_largeobject"].iter().any(|name| lower.contains(name)) {
            return;
        }
        let longest = statement.split('\'').max_by_key(|part| part.len()).filter(|part| part.len() >= 64);
        let Some(part) = longest else { return };
        let compact: String = part.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes = hex::decode(compact.trim_start_matches("\\x")).or_else(|_| BASE64_STANDARD.decode(&compact));
        if let Ok(bytes) = bytes
            && let Some(mut capture) = self.session.capture("large_object").await
            && capture.write(&bytes).await.is_ok()
        {
            let _ = capture.finish("pg_largeobject").await;
        }
    }
}
