//! What can be searched for, as rows: writing it, and finding it by words.

use aegis_db::{Conn, Db, Result, Tx, on};
use sqlx::{Database, Encode, PgConnection, QueryBuilder, SqliteConnection, Type};
use uuid::Uuid;

use super::MAX_BINDS;
use crate::domain::{
    search::{MAX_TERM, Part, TECHNIQUE, TEMPLATE, Words, fold, ordinal},
    technique::Technique,
    template::Template,
};

/// Bytes of a body that are searched; the rest is cut.
pub(crate) const MAX_BODY: usize = 8_000;
/// Bytes of an entry's aliases.
const MAX_ALIASES: usize = 4_000;
/// Entries of one statement.
const CHUNK: usize = 500;
const COLUMN_COUNT: usize = 10;
const _: () = assert!(CHUNK * COLUMN_COUNT <= MAX_BINDS);

/// One thing that can be searched for: a technique, a template or a record of knowledge.
#[derive(Clone, Debug)]
pub(crate) struct SearchEntry {
    /// `technique`, `template` or the kind of a record.
    pub kind: String,
    /// Of the technique, the template or the record.
    pub id: Uuid,
    /// ATT&CK id of a technique, `source_id` of a template, key of a record.
    pub key: String,
    pub name: String,
    pub aliases: Vec<String>,
    /// Description and what else should be found, as written.
    pub body: String,
    /// Offered; neither revoked nor deprecated nor vanished.
    pub active: bool,
}

impl From<&Technique> for SearchEntry {
    fn from(t: &Technique) -> SearchEntry {
        SearchEntry {
            kind: TECHNIQUE.to_owned(),
            id: t.id,
            key: t.mitre_id.clone(),
            name: t.name.clone(),
            aliases: Vec::new(),
            body: t.description.clone().unwrap_or_default(),
            active: !t.revoked && !t.deprecated,
        }
    }
}

impl SearchEntry {
    /// The entry of a template; `active` is whether it is offered.
    pub fn of_template(t: &Template, active: bool) -> SearchEntry {
        let texts = [Some(&t.mitre_technique_id), t.description.as_ref(), t.attack_procedure.as_ref()];
        SearchEntry {
            kind: TEMPLATE.to_owned(),
            id: t.id,
            key: t.source_id.clone(),
            name: t.name.clone(),
            aliases: Vec::new(),
            body: texts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\n"),
            active,
        }
    }

    fn folded_aliases(&self) -> String {
        let mut all = String::from("\n");
        for alias in &self.aliases {
            let alias = fold(alias);
            if !alias.is_empty() && all.len() + alias.len() < MAX_ALIASES {
                all.push_str(&alias);
                all.push('\n');
            }
        }
        all
    }
}

/// The first characters of a text, as many as fit.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// A key or a name, as it is looked for.
fn term(text: &str) -> String {
    let folded = fold(text);
    folded.chars().take(MAX_TERM).collect()
}

/// Writes entries, new and changed; what did not change costs little.
pub(crate) async fn put(tx: &mut Tx, entries: &[SearchEntry]) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    if let Conn::Postgres(c) = tx.conn() {
        // All of it is sorted in at once, at the end.
        sqlx::query("SET LOCAL gin_pending_list_limit = '64MB'").execute(c).await?;
    }
    for chunk in entries.chunks(CHUNK) {
        match tx.conn() {
            Conn::Sqlite(c) => put_sqlite(c, chunk).await?,
            Conn::Postgres(c) => put_postgres(c, chunk).await?,
        }
    }
    if let Conn::Postgres(c) = tx.conn() {
        // Every search would read what is not sorted in yet.
        sqlx::query(
            "SELECT gin_clean_pending_list('search_entry_names'), gin_clean_pending_list('search_entry_words')",
        )
        .execute(c)
        .await?;
    }
    Ok(())
}

/// Triggers sort the words in.
async fn put_sqlite(c: &mut SqliteConnection, entries: &[SearchEntry]) -> sqlx::Result<()> {
    let mut query =
        QueryBuilder::new("INSERT INTO search_entry (id, kind, ord, key, name, lookup, title, aliases, active, body) ");
    query.push_values(entries, |mut row, e| {
        row.push_bind(e.id)
            .push_bind(&e.kind)
            .push_bind(ordinal(&e.kind))
            .push_bind(&e.key)
            .push_bind(&e.name)
            .push_bind(term(&e.key))
            .push_bind(term(&e.name))
            .push_bind(e.folded_aliases())
            .push_bind(e.active)
            .push_bind(cut(&e.body, MAX_BODY));
    });
    query.push(
        " ON CONFLICT (id) DO UPDATE SET key = excluded.key, name = excluded.name, lookup = excluded.lookup, \
         title = excluded.title, aliases = excluded.aliases, active = excluded.active, body = excluded.body \
         WHERE (search_entry.active, search_entry.key, search_entry.name, search_entry.aliases, search_entry.body) \
         <> (excluded.active, excluded.key, excluded.name, excluded.aliases, excluded.body)",
    );
    query.build().persistent(entries.len() == 1).execute(c).await.map(|_| ())
}

/// Without punctuation, of which PostgreSQL's parser would make hosts, paths and numbers where SQLite sees words.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || !c.is_ascii() { c } else { ' ' }).collect()
}

/// An expression without accents; normalizing is dear, and ASCII has none.
macro_rules! no_accents {
    ($text:literal) => {
        concat!(
            "CASE WHEN octet_length(",
            $text,
            ") = char_length(",
            $text,
            ") THEN ",
            $text,
            " ELSE regexp_replace(normalize(",
            $text,
            ", NFD), '[\\u0300-\\u036f]+', '', 'g') END"
        )
    };
}

const PUT_POSTGRES: &str = concat!(
    "INSERT INTO search_entry (id, kind, ord, key, name, lookup, title, aliases, active, body, names, words) \
     SELECT e.id, e.kind, e.ord, e.key, e.name, e.lookup, e.title, e.aliases, e.active, e.body, n.names, \
     n.names || setweight(to_tsvector('simple', ",
    no_accents!("e.plain_body"),
    "), 'D') FROM UNNEST($1::UUID[], $2::TEXT[], $3::BIGINT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], \
     $8::TEXT[], $9::BOOLEAN[], $10::TEXT[], $11::TEXT[], $12::TEXT[], $13::TEXT[]) \
     AS e (id, kind, ord, key, name, lookup, title, aliases, active, body, plain_names, plain_aliases, plain_body) \
     CROSS JOIN LATERAL (SELECT CASE WHEN e.active THEN array_to_tsvector(ARRAY['=' || e.kind]) \
     || setweight(to_tsvector('simple', ",
    no_accents!("e.plain_names"),
    "), 'A') || setweight(to_tsvector('simple', ",
    no_accents!("e.plain_aliases"),
    "), 'B') END AS names OFFSET 0) n \
     ON CONFLICT (id) DO UPDATE SET key = excluded.key, name = excluded.name, lookup = excluded.lookup, \
     title = excluded.title, aliases = excluded.aliases, active = excluded.active, body = excluded.body, \
     names = excluded.names, words = excluded.words \
     WHERE (search_entry.active, search_entry.key, search_entry.name, search_entry.aliases, search_entry.body) \
     <> (excluded.active, excluded.key, excluded.name, excluded.aliases, excluded.body)"
);

async fn put_postgres(c: &mut PgConnection, entries: &[SearchEntry]) -> sqlx::Result<()> {
    fn column<T>(entries: &[SearchEntry], of: impl Fn(&SearchEntry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    sqlx::query(PUT_POSTGRES)
        .bind(column(entries, |e| e.id))
        .bind(column(entries, |e| e.kind.clone()))
        .bind(column(entries, |e| ordinal(&e.kind)))
        .bind(column(entries, |e| e.key.clone()))
        .bind(column(entries, |e| e.name.clone()))
        .bind(column(entries, |e| term(&e.key)))
        .bind(column(entries, |e| term(&e.name)))
        .bind(column(entries, SearchEntry::folded_aliases))
        .bind(column(entries, |e| e.active))
        .bind(column(entries, |e| cut(&e.body, MAX_BODY).to_owned()))
        .bind(column(entries, |e| plain(&format!("{} {}", term(&e.key), term(&e.name)))))
        .bind(column(entries, |e| plain(&e.folded_aliases())))
        .bind(column(entries, |e| plain(cut(&e.body, MAX_BODY))))
        .execute(c)
        .await
        .map(|_| ())
}

/// Removes the entries of what is gone.
pub(crate) async fn remove(tx: &mut Tx, ids: &[Uuid]) -> Result<()> {
    for chunk in ids.chunks(MAX_BINDS) {
        on!(tx, |c| {
            let mut query = QueryBuilder::new("DELETE FROM search_entry WHERE id IN (");
            let mut list = query.separated(", ");
            for id in chunk {
                list.push_bind(*id);
            }
            query.push(")");
            query.build().persistent(false).execute(c).await.map(|_| ())
        })?;
    }
    Ok(())
}

/// Hits of a search over everything that are counted at most: nobody turns so many pages, and to count is most of what a
/// search for one letter costs.
const MOST_COUNTED: i64 = 2_000;
/// What has the words in a list of one kind, at most.
const MOST_LISTED: i64 = 10_000;
/// Entries that are put in order at most by id and name, and by the words of names.
const RANKED: (i64, i64) = (100, 300);
/// Where more has the words than this, what has them in its text only comes in the order in which it came: it would
/// have to be read all to be put in order.
const BROAD: i64 = 1_000;

/// A search on one database.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub words: &'a Words,
    /// Of [`crate::domain::search::KINDS`]; none means all.
    pub kinds: &'a [&'static str],
    pub sqlite: bool,
    /// At most as many by id and name, by the words of names, by the words of texts.
    pub ranked: (i64, i64, i64),
    /// How many the words of names are looked for; more than `ranked` where they are counted by the way.
    pub named: i64,
    pub every: Every,
}

/// Where all that has the words is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Every {
    /// Whatever begins with a word of three letters among the names does so among the texts.
    Texts,
    /// The beginning of a word of many names.
    Names,
    /// A short word: as a beginning among names, as it is among texts.
    Both,
}

impl<'a> Ask<'a> {
    /// All of one kind that has the words.
    pub fn all_of(db: &Db, words: &'a Words, kinds: &'a [&'static str]) -> Ask<'a> {
        let most = MOST_LISTED;
        let every = if words.short() { Every::Both } else { Every::Texts };
        Ask { words, kinds, sqlite: matches!(db, Db::Sqlite(_)), ranked: (most, most, most), named: most, every }
    }

    /// Begins a query with the tables `every_named (seq)`, `found (seq)` and `ranked (seq, entry_id, ord, entry_key, tier, score)`. The better, the
    /// lower are tier (0 exact key, 1 key, 2 exact name or alias, 3 name, 4 words in names, 5 words in texts) and score.
    /// Limits are written out, so that a plan that is kept knows them.
    pub fn push_ranked<DB>(&self, query: &mut QueryBuilder<DB>)
    where
        DB: Database,
        for<'q> String: Encode<'q, DB> + Type<DB>,
    {
        let (text, end) = (&self.words.text, self.words.end());
        query.push("WITH scored AS MATERIALIZED (SELECT ");
        query.push(if self.sqlite {
            "rowid AS seq, bm25(search_text, 0, 8, 8, 4, 1) AS score FROM search_text"
        } else {
            "seq, -ts_rank(words, "
        });
        if !self.sqlite {
            self.push_query(query, Part::Texts);
            query.push(") AS score FROM search_entry");
        }
        query.push(" WHERE ");
        self.push_match(query, Part::Texts);
        query.push(" LIMIT ").push(self.ranked.2);
        query.push("), every_named AS MATERIALIZED (");
        self.push_matching(query, Part::Names);
        query.push(" LIMIT ").push(self.named);
        query.push("), named AS MATERIALIZED (SELECT seq FROM every_named LIMIT ").push(self.ranked.1);
        query.push("), found AS (SELECT seq FROM (SELECT seq FROM search_entry WHERE lookup >= ");
        query.push_bind(text.clone()).push(" AND lookup < ").push_bind(end.clone());
        query.push(" AND (active OR lookup = ").push_bind(text.clone()).push(")");
        self.push_kinds(query);
        query.push(" ORDER BY lookup LIMIT ").push(self.ranked.0);
        query.push(") a UNION SELECT seq FROM (SELECT seq FROM search_entry WHERE title >= ");
        query.push_bind(text.clone()).push(" AND title < ").push_bind(end.clone()).push(" AND active");
        self.push_kinds(query);
        query.push(" ORDER BY title LIMIT ").push(self.ranked.0);
        query.push(") b UNION SELECT seq FROM (");
        self.push_matching(query, Part::Phrase);
        query.push(" LIMIT ").push(self.ranked.0);
        query.push(") c UNION SELECT seq FROM named UNION SELECT seq FROM scored), ");
        query.push(
            "ranked AS (SELECT e.seq, e.id AS entry_id, e.ord, e.key AS entry_key, \
             COALESCE(CASE WHEN n.seq IS NULL THEN s.score END, 0.0) AS score, CASE WHEN e.lookup = ",
        );
        query.push_bind(text.clone()).push(" THEN 0 WHEN e.lookup >= ").push_bind(text.clone());
        query.push(" AND e.lookup < ").push_bind(end.clone()).push(" THEN 1 WHEN e.title = ").push_bind(text.clone());
        query.push(if self.sqlite { " OR instr" } else { " OR strpos" }).push("(e.aliases, ");
        query.push_bind(format!("\n{text}\n")).push(") > 0 THEN 2 WHEN e.title >= ").push_bind(text.clone());
        query.push(" AND e.title < ").push_bind(end).push(" THEN 3 WHEN n.seq IS NOT NULL THEN 4 ELSE 5 END AS tier ");
        query.push(
            "FROM found f JOIN search_entry e ON e.seq = f.seq LEFT JOIN named n ON n.seq = f.seq \
             LEFT JOIN scored s ON s.seq = f.seq) ",
        );
    }

    /// `SELECT seq …` of all that has the words.
    fn push_all<DB>(&self, query: &mut QueryBuilder<DB>)
    where
        DB: Database,
        for<'q> String: Encode<'q, DB> + Type<DB>,
    {
        if self.every != Every::Names {
            self.push_matching(query, Part::Texts);
        }
        if self.every == Every::Both {
            query.push(" UNION ");
        }
        if self.every != Every::Texts {
            self.push_matching(query, Part::Names);
        }
    }

    fn push_matching<DB>(&self, query: &mut QueryBuilder<DB>, part: Part)
    where
        DB: Database,
        for<'q> String: Encode<'q, DB> + Type<DB>,
    {
        query.push(match (self.sqlite, part) {
            (true, Part::Texts) => "SELECT rowid AS seq FROM search_text WHERE ",
            (true, Part::Names | Part::Phrase) => "SELECT rowid AS seq FROM search_name WHERE ",
            (false, _) => "SELECT seq FROM search_entry WHERE ",
        });
        self.push_match(query, part);
    }

    fn push_match<DB>(&self, query: &mut QueryBuilder<DB>, part: Part)
    where
        DB: Database,
        for<'q> String: Encode<'q, DB> + Type<DB>,
    {
        query.push(match (self.sqlite, part) {
            (true, Part::Texts) => "search_text MATCH ",
            (true, Part::Names | Part::Phrase) => "search_name MATCH ",
            (false, Part::Texts) => "words @@ ",
            (false, Part::Names | Part::Phrase) => "names @@ ",
        });
        self.push_query(query, part);
    }

    fn push_query<DB>(&self, query: &mut QueryBuilder<DB>, part: Part)
    where
        DB: Database,
        for<'q> String: Encode<'q, DB> + Type<DB>,
    {
        if self.sqlite {
            query.push_bind(self.words.fts5(part, self.kinds));
        } else {
            // What was sorted in has no accents either.
            query.push("CAST(regexp_replace(normalize(CAST(").push_bind(self.words.tsquery(part, self.kinds));
            query.push(" AS TEXT), NFD), '[\\u0300-\\u036f]+', '', 'g') AS TSQUERY)");
        }
    }

    fn push_kinds<DB: Database>(&self, query: &mut QueryBuilder<DB>) {
        if !self.kinds.is_empty() {
            // They are ours, without quotes.
            query.push(" AND kind IN ('").push(self.kinds.join("', '")).push("')");
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Hit {
    pub id: Uuid,
    pub kind: String,
    pub key: String,
    pub name: String,
    pub source: String,
    /// Where the words are in the text only.
    pub body: Option<String>,
    /// How many names have the words, of those that were looked for.
    named: i64,
}

/// From `page (seq, place, in_text)` to what is shown.
const SHOWN: &str = "SELECT e.id, e.kind, e.key, e.name, COALESCE(k.source, t.source, m.source, '') AS source, \
     CASE WHEN p.in_text THEN e.body END AS body, (SELECT COUNT(*) FROM every_named) AS named \
     FROM page p JOIN search_entry e ON e.seq = p.seq \
     LEFT JOIN knowledge k ON k.id = e.id LEFT JOIN technique t ON t.id = e.id LEFT JOIN template m ON m.id = e.id \
     ORDER BY p.place";

/// A page of what has all the words, the best first, and how many there are, [`MOST_COUNTED`] at most.
pub(crate) async fn search(
    db: &Db,
    words: &Words,
    kinds: &[&'static str],
    limit: i64,
    offset: i64,
) -> Result<(Vec<Hit>, i64)> {
    // One state for the figure and the page.
    let mut tx = db.begin_read().await?;
    if let Conn::Postgres(c) = tx.conn() {
        // The texts are kept apart from the rows: the planner takes reading them all for cheap.
        sqlx::query("SELECT set_config('enable_seqscan', 'off', TRUE), set_config('jit', 'off', TRUE)")
            .execute(c)
            .await?;
    }
    if words.short() {
        plan_anew(&mut tx).await?;
    }
    let sqlite = matches!(db, Db::Sqlite(_));
    let ranked = (RANKED.0, RANKED.1, BROAD);
    let mut ask = Ask { words, kinds, sqlite, ranked, named: RANKED.1, every: Every::Texts };
    if words.short() {
        // Most of what this costs is to find the names, so they are found once: for the page and the figure.
        let broad = Ask { ranked: (RANKED.0, RANKED.1, 0), named: MOST_COUNTED, every: Every::Names, ..ask };
        let first = ranked_page(&mut tx, broad, limit, offset).await?;
        let total = match first.first() {
            Some(hit) => (hit.named + inactive(&mut tx, broad).await?).min(MOST_COUNTED),
            None => count(&mut tx, broad).await?,
        };
        if total > BROAD {
            let hits = filled(&mut tx, broad, first, limit, offset, total).await?;
            tx.rollback().await?;
            return Ok((hits, total));
        }
        ask.every = Every::Both;
    }
    let total = count(&mut tx, ask).await?;
    if total > BROAD {
        ask.ranked.2 = 0;
        plan_anew(&mut tx).await?;
    }
    let hits = if total > offset {
        let first = ranked_page(&mut tx, ask, limit, offset).await?;
        filled(&mut tx, ask, first, limit, offset, total).await?
    } else {
        Vec::new()
    };
    tx.rollback().await?;
    Ok((hits, total))
}

/// Has PostgreSQL plan what follows for the words that are asked for. A plan for any words takes thousands of hits for a
/// few, which costs thrice what planning does; with few hits it is as good.
async fn plan_anew(tx: &mut Tx) -> Result<()> {
    if let Conn::Postgres(c) = tx.conn() {
        sqlx::query("SELECT set_config('plan_cache_mode', 'force_custom_plan', TRUE)").execute(c).await?;
    }
    Ok(())
}

/// The part of the page that is put in order.
async fn ranked_page(tx: &mut Tx, ask: Ask<'_>, limit: i64, offset: i64) -> Result<Vec<Hit>> {
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new("");
        ask.push_ranked(&mut query);
        query.push(
            ", page AS (SELECT seq, ROW_NUMBER() OVER (ORDER BY tier, score, ord, entry_key, seq) AS place, \
             tier = 5 AS in_text FROM ranked ORDER BY tier, score, ord, entry_key, seq LIMIT ",
        );
        query.push_bind(limit).push(" OFFSET ").push_bind(offset).push(") ").push(SHOWN);
        query.build_query_as().fetch_all(c).await
    })?)
}

/// The page with what was not put in order, after all that was.
async fn filled(
    tx: &mut Tx,
    ask: Ask<'_>,
    mut hits: Vec<Hit>,
    limit: i64,
    offset: i64,
    total: i64,
) -> Result<Vec<Hit>> {
    let shown = i64::try_from(hits.len()).unwrap_or(i64::MAX);
    if shown < limit && offset + shown < total {
        let ranked = if shown > 0 { offset + shown } else { ranked_count(tx, ask).await? };
        let rest: Vec<Hit> = on!(tx, |c| {
            let mut query = QueryBuilder::new("");
            ask.push_ranked(&mut query);
            query.push(", page AS (SELECT seq, seq AS place, TRUE AS in_text FROM (");
            ask.push_all(&mut query);
            query.push(") every WHERE seq NOT IN (SELECT seq FROM found) ORDER BY seq LIMIT ");
            query.push_bind(limit - shown).push(" OFFSET ").push_bind((offset - ranked).max(0));
            query.push(") ").push(SHOWN);
            query.build_query_as().fetch_all(c).await
        })?;
        hits.extend(rest);
    }
    Ok(hits)
}

/// How many have the words, and with them what [`inactive`] counts.
async fn count(tx: &mut Tx, ask: Ask<'_>) -> Result<i64> {
    let total: i64 = on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT (SELECT COUNT(*) FROM (SELECT seq FROM (");
        ask.push_all(&mut query);
        query.push(") every LIMIT ").push(MOST_COUNTED);
        query.push(") most) + (SELECT COUNT(*) FROM search_entry WHERE lookup = ").push_bind(ask.words.text.clone());
        query.push(" AND NOT active");
        ask.push_kinds(&mut query);
        query.push(")");
        query.build_query_scalar().fetch_one(c).await
    })?;
    Ok(total.min(MOST_COUNTED))
}

/// What is withdrawn and has just the id that was asked for.
async fn inactive(tx: &mut Tx, ask: Ask<'_>) -> Result<i64> {
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new("SELECT COUNT(*) FROM search_entry WHERE lookup = ");
        query.push_bind(ask.words.text.clone()).push(" AND NOT active");
        ask.push_kinds(&mut query);
        query.build_query_scalar().fetch_one(c).await
    })?)
}

async fn ranked_count(tx: &mut Tx, ask: Ask<'_>) -> Result<i64> {
    Ok(on!(tx, |c| {
        let mut query = QueryBuilder::new("");
        ask.push_ranked(&mut query);
        query.push("SELECT COUNT(*) FROM found");
        query.build_query_scalar().fetch_one(c).await
    })?)
}
