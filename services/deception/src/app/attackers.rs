//! Attackers: listed, looked at.

use aegis_auth::OpCtx;
use aegis_db::page;
use aegis_error::{Failure, Fields};
use uuid::Uuid;

use super::App;
use crate::{
    domain::{event::Log, search::Search},
    error::Error,
    store::{
        self,
        attackers::{Filter, Kind, Order, Row, Technique},
    },
};

/// The orders, as they are asked for.
const ORDERS: [&str; 3] = ["recent", "active", "traversals"];
/// Longest name of a service.
const MAX_SERVICE: usize = 64;

/// Most techniques of each attacker in a list.
const TECHNIQUES_IN_LISTS: i64 = 20;
/// Most techniques of one attacker.
const MAX_TECHNIQUES: i64 = 1_000;

/// An attacker, and what it showed of ATT&CK.
pub(crate) type Told = (Row, Vec<Technique>);

/// The id of an attacker as it is asked for.
pub(super) fn parse_id(uuid: &str) -> Result<Uuid, Failure> {
    uuid.parse().map_err(|_| Failure::invalid("uuid", "must be a UUID"))
}

/// What to look for.
pub(super) fn parse_search(search: &str) -> Result<Search, Failure> {
    // No database looks for a NUL.
    let parsed = if search.contains('\0') { Err("must have no NUL".to_owned()) } else { Search::parse(search) };
    parsed.map_err(|problem| Failure::invalid("search", problem))
}

impl App {
    /// A page of attackers; the token of the next one; how many there are.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the request")]
    pub(crate) async fn list_attackers(
        &self,
        ctx: &OpCtx,
        page_size: i32,
        page_token: &str,
        skip: i32,
        search: &str,
        service: &str,
        sort_by: &str,
    ) -> Result<(Vec<Told>, String, i64), Error> {
        ctx.user()?;
        let limit = page::size(page_size, 50, 1_000)?;
        let offset = page::offset(page_token, skip)?;
        let mut fields = Fields::default();
        fields.text("service", service, 0, MAX_SERVICE);
        if !sort_by.is_empty() {
            fields.one_of("sort_by", sort_by, &ORDERS);
        }
        fields.finish()?;
        let order = match sort_by {
            "active" => Order::Active,
            "traversals" => Order::Traversals,
            _ => Order::Recent,
        };
        let search = parse_search(search)?;
        let filter = Filter { search, service: service.to_owned() };
        let (rows, total) = store::attackers::list(&self.db, &filter, order, limit, offset).await?;
        let next = page::next_offset(offset, rows.len(), total);
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut techniques = store::attackers::techniques(&self.db, &ids, TECHNIQUES_IN_LISTS).await?;
        let told = |row: Row| {
            let techniques = techniques.remove(&row.id).unwrap_or_default();
            (row, techniques)
        };
        Ok((rows.into_iter().map(told).collect(), next, total))
    }

    /// One attacker.
    pub(crate) async fn get_attacker(&self, ctx: &OpCtx, uuid: &str) -> Result<Told, Error> {
        ctx.user()?;
        let row = self.attacker(parse_id(uuid)?).await?;
        let mut techniques = store::attackers::techniques(&self.db, &[row.id], MAX_TECHNIQUES).await?;
        let techniques = techniques.remove(&row.id).unwrap_or_default();
        Ok((row, techniques))
    }

    /// One attacker, for somebody who may.
    pub(super) async fn attacker(&self, id: Uuid) -> Result<Row, Error> {
        let found = store::attackers::find(&self.db, id).await?;
        Ok(found.ok_or_else(|| Failure::not_found("attacker", id))?)
    }

    /// A page of an attacker's commands and queries, newest first; the token of the next one; how many there are.
    pub(crate) async fn list_attacker_commands(
        &self,
        ctx: &OpCtx,
        uuid: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
        service: &str,
    ) -> Result<(Vec<Log>, String, i64), Error> {
        ctx.user()?;
        let limit = page::size(page_size, 50, 200)?;
        let offset = page::offset(page_token, skip)?;
        let mut fields = Fields::default();
        fields.text("service", service, 0, MAX_SERVICE);
        fields.finish()?;
        let attacker = self.attacker(parse_id(uuid)?).await?;
        let total = match service {
            "" => attacker.command_count,
            service => store::attackers::commands_on(&self.db, attacker.id, service).await?,
        };
        self.listed(&attacker, Kind::Command, service, limit, offset, total).await
    }

    /// A page of the logs of an attacker's files, newest first; the token of the next one; how many there are.
    pub(crate) async fn list_attacker_artifacts(
        &self,
        ctx: &OpCtx,
        uuid: &str,
        page_size: i32,
        page_token: &str,
        skip: i32,
    ) -> Result<(Vec<Log>, String, i64), Error> {
        ctx.user()?;
        let limit = page::size(page_size, 1_000, 5_000)?;
        let offset = page::offset(page_token, skip)?;
        let attacker = self.attacker(parse_id(uuid)?).await?;
        let total = attacker.file_count;
        self.listed(&attacker, Kind::File, "", limit, offset, total).await
    }

    async fn listed(
        &self,
        attacker: &Row,
        kind: Kind,
        service: &str,
        limit: i64,
        offset: i64,
        total: i64,
    ) -> Result<(Vec<Log>, String, i64), Error> {
        let ids = store::attackers::logs(&self.db, attacker.id, kind, service, limit, offset).await?;
        let logs = store::logs::by_ids(&self.db, &ids).await?;
        let next = page::next_offset(offset, ids.len(), total);
        Ok((logs, next, total))
    }
}
