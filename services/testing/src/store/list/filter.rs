//! What a list is filtered by, the index that each combination of it walks, and the SQL of that walk.

use aegis_db::{Conn, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::workflow::{Side, State};

/// Which tests a list is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// Of this technique.
    pub technique_id: Option<Uuid>,
    /// On this platform.
    pub platform: Option<String>,
    /// Made by this user.
    pub created_by: Option<Uuid>,
    /// In review, and this side has not voted.
    pub pending: Option<Side>,
    /// Red, blue or remediation is this user's.
    pub assignee: Option<Uuid>,
    /// Validated without a detection result.
    pub incomplete: bool,
    /// In this campaign.
    pub campaign_id: Option<Uuid>,
    /// With this state of the remediation.
    pub remediation_status: Option<String>,
    /// The remediation was due before this moment, and is neither completed nor without object.
    pub overdue_at: Option<DateTime<Utc>>,
}

/// How the tests of a list are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The members of a campaign, which are never many.
    Campaign(Uuid),
    /// Three indexes at once, one for each way of being assigned.
    Assignee(Uuid),
    /// An index in the order of the list.
    Index(&'static str),
}

impl Walk {
    /// Whether the number of tests that it leads to is kept. What is without one is short: a campaign holds 2,000 tests
    /// at most, a technique has a share of all, and what is due does not stay open for ever.
    pub fn has_tally(self) -> bool {
        !matches!(self, Walk::Campaign(_) | Walk::Index("test_technique" | "test_due"))
    }
}

impl Filter {
    /// Whether no test can ever fit.
    pub fn contradicts_itself(&self) -> bool {
        let wanted = [self.state, self.pending.map(|_| State::InReview), self.incomplete.then_some(State::Validated)];
        let mut wanted = wanted.into_iter().flatten();
        let first = wanted.next();
        wanted.any(|state| Some(state) != first)
    }

    /// The walk that examines the fewest tests besides those that fit.
    pub fn walk(&self) -> Walk {
        if let Some(campaign) = self.campaign_id {
            return Walk::Campaign(campaign);
        }
        if self.technique_id.is_some() {
            return Walk::Index("test_technique");
        }
        if self.overdue_at.is_some() {
            return Walk::Index("test_due");
        }
        match self.pending {
            Some(Side::Red) => return Walk::Index("test_red_pending"),
            Some(Side::Blue) => return Walk::Index("test_blue_pending"),
            None => {}
        }
        if self.incomplete {
            return Walk::Index("test_incomplete");
        }
        if let Some(user) = self.assignee {
            return Walk::Assignee(user);
        }
        if self.remediation_status.is_some() {
            return Walk::Index("test_remediation");
        }
        Walk::Index(match (self.created_by.is_some(), self.state.is_some(), self.platform.is_some()) {
            (false, false, false) => "test_created",
            (false, false, true) => "test_platform",
            (false, true, false) => "test_state",
            (false, true, true) => "test_state_platform",
            (true, false, false) => "test_created_by",
            (true, false, true) => "test_created_by_platform",
            (true, true, false) => "test_created_by_state",
            (true, true, true) => "test_created_by_state_platform",
        })
    }
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    after: Option<(DateTime<Utc>, Uuid)>,
    skip: i64,
    rows: i64,
    /// Whether `skip` counts from the oldest test.
    from_the_end: bool,
}

impl Span {
    /// So many rows after a key, without the first `skip` of them.
    pub fn after(key: (DateTime<Utc>, Uuid), skip: i64, rows: i64) -> Self {
        Span { after: Some(key), skip, rows, from_the_end: false }
    }

    /// So many rows, without the first `skip`.
    pub fn from_the_start(skip: i64, rows: i64) -> Self {
        Span { after: None, skip, rows, from_the_end: false }
    }

    /// So many rows of the `total`, without the first `skip`: from the end that is nearer. None where there are none.
    pub fn of(total: i64, skip: i64, rows: i64) -> Option<Self> {
        let left = total.checked_sub(skip).filter(|left| *left > 0)?;
        let rows = rows.min(left);
        let behind = left - rows;
        let from_the_end = behind < skip;
        Some(Span { after: None, skip: if from_the_end { behind } else { skip }, rows, from_the_end })
    }
}

/// A value in a statement.
#[derive(Clone, Debug)]
pub enum Arg {
    /// An id.
    Id(Uuid),
    /// A text.
    Text(String),
    /// A moment.
    Time(DateTime<Utc>),
    /// A number of rows.
    Number(i64),
}

/// Binds the values of a statement to its query, of whichever database.
macro_rules! bound {
    ($query:expr, $args:expr) => {{
        let mut query = $query;
        for arg in $args {
            query = match arg {
                Arg::Id(id) => query.bind(id),
                Arg::Text(text) => query.bind(text),
                Arg::Time(at) => query.bind(at),
                Arg::Number(n) => query.bind(n),
            };
        }
        query
    }};
}
pub(in crate::store) use bound;

/// SQL put together of constants, and its values.
pub struct Statement {
    /// The text so far.
    pub sql: String,
    /// The values of `$1`, `$2` …
    pub args: Vec<Arg>,
    /// Which database it is for.
    pub sqlite: bool,
}

impl Statement {
    /// Empty yet.
    pub fn for_database_of(tx: &mut Tx) -> Self {
        Statement { sql: String::new(), args: Vec::new(), sqlite: matches!(tx.conn(), Conn::Sqlite(_)) }
    }

    /// Adds text.
    pub fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// Adds the place of a value.
    pub fn bind(&mut self, arg: Arg) {
        self.args.push(arg);
        self.sql.push('$');
        self.sql.push_str(&self.args.len().to_string());
    }

    /// Adds `FROM … WHERE …` of a walk; for one by assignee see `keys`.
    pub fn walked(&mut self, walk: &Walk, filter: &Filter) {
        match walk {
            Walk::Campaign(campaign) => {
                self.push(" FROM (SELECT test_id AS member FROM campaign_test WHERE campaign_id = ");
                self.bind(Arg::Id(*campaign));
                self.push(") AS members CROSS JOIN test WHERE id = member");
            }
            Walk::Index(name) => {
                self.indexed(name);
                // So that every condition can begin with AND.
                self.push(" WHERE 1 = 1");
            }
            Walk::Assignee(_) => self.push(" FROM test WHERE 1 = 1"),
        }
        self.conditions(filter);
        if let Some(user) = filter.assignee {
            self.push(" AND (red_assignee = ");
            self.bind(Arg::Id(user));
            self.push(" OR blue_assignee = ");
            self.bind(Arg::Id(user));
            self.push(" OR remediation_assignee = ");
            self.bind(Arg::Id(user));
            self.push(")");
        }
    }

    /// Adds a query of the keys `listed_at` and `listed_id` of a part of the list, newest first, and of the number of
    /// all where it comes with them: the members of a campaign are put in order, so they are all there.
    pub fn keys(&mut self, filter: &Filter, span: &Span) {
        const KEYS: &str = "SELECT created_at AS listed_at, id AS listed_id, CAST(NULL AS BIGINT) AS listed_total";
        if span.from_the_end {
            self.push("SELECT listed_at, listed_id, listed_total FROM (");
        }
        let total = span.after.is_none() && !span.from_the_end;
        match filter.walk() {
            Walk::Assignee(user) => {
                for (n, column) in ASSIGNEES.iter().enumerate() {
                    self.push(if n == 0 { KEYS } else { " UNION ALL SELECT created_at, id, NULL" });
                    self.indexed(column.index);
                    self.push(" WHERE ");
                    self.push(column.name);
                    self.push(" = ");
                    self.bind(Arg::Id(user));
                    // A test that is this user's twice is in the list once.
                    for earlier in &ASSIGNEES[..n] {
                        self.push(" AND ");
                        self.push(earlier.name);
                        self.push(" IS DISTINCT FROM ");
                        self.bind(Arg::Id(user));
                    }
                    self.conditions(filter);
                    self.after(span);
                }
            }
            walk => {
                self.push(match walk {
                    Walk::Campaign(_) if total => {
                        "SELECT created_at AS listed_at, id AS listed_id, COUNT(*) OVER () AS listed_total"
                    }
                    _ => KEYS,
                });
                self.walked(&walk, filter);
                self.after(span);
            }
        }
        self.push(match span.from_the_end {
            true => " ORDER BY listed_at, listed_id LIMIT ",
            false => " ORDER BY listed_at DESC, listed_id DESC LIMIT ",
        });
        self.bind(Arg::Number(span.rows));
        self.push(" OFFSET ");
        self.bind(Arg::Number(span.skip));
        if span.from_the_end {
            // The limit leaves nothing out; without one SQLite may take the order for an idle wish.
            self.push(") AS backwards ORDER BY listed_at DESC, listed_id DESC LIMIT ");
            self.bind(Arg::Number(span.rows));
        }
    }

    /// Adds `FROM test` by way of an index. SQLite is told which, for it knows no statistics of a new database;
    /// PostgreSQL finds it by its own.
    fn indexed(&mut self, index: &str) {
        self.push(" FROM test");
        if self.sqlite {
            self.push(" INDEXED BY ");
            self.push(index);
        }
    }

    fn after(&mut self, span: &Span) {
        if let Some((at, id)) = span.after {
            self.push(" AND (created_at, id) < (");
            self.bind(Arg::Time(at));
            self.push(", ");
            self.bind(Arg::Id(id));
            self.push(")");
        }
    }

    /// Adds every condition but those of the campaign and the assignee. Those that a partial index has are constant,
    /// word for word as they are there.
    fn conditions(&mut self, filter: &Filter) {
        if let Some(id) = filter.technique_id {
            self.push(" AND technique_id = ");
            self.bind(Arg::Id(id));
        }
        match filter.pending {
            Some(Side::Red) => self.push(" AND state = 'in_review' AND red_validation_status = 'pending'"),
            Some(Side::Blue) => self.push(" AND state = 'in_review' AND blue_validation_status = 'pending'"),
            None => {}
        }
        if filter.incomplete {
            self.push(" AND state = 'validated' AND detection_result IS NULL");
        }
        // The others say it already; what contradicts them is never asked for.
        if let (Some(state), None, false) = (filter.state, filter.pending, filter.incomplete) {
            self.push(" AND state = ");
            self.bind(Arg::Text(state.as_str().to_owned()));
        }
        if let Some(platform) = &filter.platform {
            self.push(" AND platform = ");
            self.bind(Arg::Text(platform.clone()));
        }
        if let Some(id) = filter.created_by {
            self.push(" AND created_by = ");
            self.bind(Arg::Id(id));
        }
        if let Some(status) = &filter.remediation_status {
            self.push(" AND remediation_status = ");
            self.bind(Arg::Text(status.clone()));
        }
        if let Some(at) = filter.overdue_at {
            self.push(
                " AND remediation_due_date IS NOT NULL \
                 AND COALESCE(remediation_status, 'pending') IN ('pending', 'in_progress') AND remediation_due_date < ",
            );
            self.bind(Arg::Time(at));
        }
    }
}

struct Assignee {
    name: &'static str,
    index: &'static str,
}

const ASSIGNEES: [Assignee; 3] = [
    Assignee { name: "red_assignee", index: "test_red_assignee" },
    Assignee { name: "blue_assignee", index: "test_blue_assignee" },
    Assignee { name: "remediation_assignee", index: "test_remediation_assignee" },
];
