//! Queries: from, where, group, having, order, limit.

mod from;
mod shown;

use std::{cmp::Ordering, collections::BTreeSet};

use sqlparser::ast::{
    Distinct, Expr, FunctionArg, FunctionArgExpr, GroupByExpr, Join, JoinConstraint, JoinOperator, LimitClause,
    ObjectName, OrderByExpr, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    SetOperator, SetQuantifier, TableAlias, TableFactor, TableWithJoins, Value as Literal,
};

use super::{
    Context, Dialect, Fault, Kind, Table, Value,
    expr::{Env, NOTHING, last},
    functions,
    store::row_size,
};
use from::from;
pub(super) use shown::returning;
use shown::{Shown, guess, has_aggregate, kind_of, shown};

/// The most rows that a query may have at once.
const MOST_ROWS: usize = 50_000;

/// A column of a result.
#[derive(Clone, Debug)]
pub(crate) struct Col {
    /// The table that it is of, as the query names it; empty when of none.
    pub(crate) table: String,
    /// Its name.
    pub(crate) name: String,
    /// The kind of its values.
    pub(crate) kind: Kind,
}

impl Col {
    /// Of no table.
    pub(crate) fn new(name: impl Into<String>, kind: Kind) -> Col {
        Col { table: String::new(), name: name.into(), kind }
    }

    pub(super) fn is_of(&self, table: &str) -> bool {
        self.table.eq_ignore_ascii_case(table)
    }
}

/// Rows with their columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relation {
    /// The columns.
    pub(crate) cols: Vec<Col>,
    /// The rows; each as long as there are columns.
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Relation {
    /// From names, kinds and rows.
    pub(crate) fn of(cols: &[(&str, Kind)], rows: Vec<Vec<Value>>) -> Relation {
        Relation { cols: cols.iter().map(|(name, kind)| Col::new(*name, *kind)).collect(), rows }
    }

    /// Texts only.
    pub(crate) fn texts(cols: &[&str], rows: Vec<Vec<Value>>) -> Relation {
        Relation { cols: cols.iter().map(|name| Col::new(*name, Kind::Varchar)).collect(), rows }
    }

    fn named(mut self, name: &str, columns: &[String]) -> Relation {
        for (at, col) in self.cols.iter_mut().enumerate() {
            name.clone_into(&mut col.table);
            if let Some(column) = columns.get(at) {
                col.name.clone_from(column);
            }
        }
        self
    }
}

impl From<&Table> for Relation {
    fn from(table: &Table) -> Relation {
        let cols = table.columns.iter().map(|column| Col::new(column.name.clone(), column.kind)).collect();
        Relation { cols, rows: table.rows.clone() }
    }
}

/// Where a column is.
pub(super) fn find(cols: &[Col], table: Option<&str>, name: &str) -> Option<usize> {
    cols.iter().position(|col| col.name.eq_ignore_ascii_case(name) && table.is_none_or(|table| col.is_of(table)))
}

fn charge(context: &Context<'_>, rows: &[Vec<Value>]) -> Result<(), Fault> {
    if rows.len() > MOST_ROWS {
        return Err(Fault::TooMuch);
    }
    context.grow(rows.iter().map(|row| row_size(row)).sum())
}

/// The rows of a query.
pub(crate) fn query(context: &Context<'_>, query: &Query, outer: &Env<'_>) -> Result<Relation, Fault> {
    let known = context.named.borrow().len();
    if let Some(with) = &query.with {
        for table in &with.cte_tables {
            let columns: Vec<String> = table.alias.columns.iter().map(|column| column.name.value.clone()).collect();
            let rows = context.deeper(|| self::query(context, &table.query, outer))?;
            let name = table.alias.name.value.clone();
            let rows = rows.named(&name, &columns);
            context.named.borrow_mut().push((name, rows));
        }
    }
    let done = body(context, query, outer);
    context.named.borrow_mut().truncate(known);
    done
}

fn body(context: &Context<'_>, query: &Query, outer: &Env<'_>) -> Result<Relation, Fault> {
    let order: &[OrderByExpr] = match query.order_by.as_ref().map(|order| &order.kind) {
        Some(OrderByKind::Expressions(order)) => order,
        _ => &[],
    };
    let mut relation = match query.body.as_ref() {
        SetExpr::Select(found) => select(context, found, order, outer)?,
        other => {
            let mut relation = set(context, other, outer)?;
            let mut keys = Vec::with_capacity(relation.rows.len());
            for row in &relation.rows {
                let env = Env { cols: &relation.cols, row, group: None, outer: Some(outer) };
                keys.push(order_key(context, order, &env, &relation.cols, row)?);
            }
            relation.rows = sorted(context, relation.rows, keys, order);
            relation
        }
    };
    let count = |expr: &Expr| {
        context.eval(expr, &NOTHING).map(|value| match value {
            Value::Null => None,
            value => usize::try_from(value.int().max(0)).ok(),
        })
    };
    let (skip, take) = match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => (
            offset.as_ref().map(|offset| count(&offset.value)).transpose()?.flatten(),
            limit.as_ref().map(count).transpose()?.flatten(),
        ),
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => (count(offset)?, count(limit)?),
        None => (None, None),
    };
    let fetch = query.fetch.as_ref().and_then(|fetch| fetch.quantity.as_ref()).map(count).transpose()?.flatten();
    if let Some(skip) = skip {
        relation.rows.drain(..skip.min(relation.rows.len()));
    }
    if let Some(take) = take.or(fetch) {
        relation.rows.truncate(take);
    }
    Ok(relation)
}

fn set(context: &Context<'_>, expr: &SetExpr, outer: &Env<'_>) -> Result<Relation, Fault> {
    match expr {
        SetExpr::Select(found) => select(context, found, &[], outer),
        SetExpr::Query(inner) => context.deeper(|| query(context, inner, outer)),
        SetExpr::Values(values) => {
            let mut relation = Relation::default();
            for row in &values.rows {
                let row = row.content.iter().map(|value| context.eval(value, outer)).collect::<Result<Vec<_>, _>>()?;
                relation.rows.push(row);
            }
            charge(context, &relation.rows)?;
            let width = relation.rows.first().map_or(0, Vec::len);
            if relation.rows.iter().any(|row| row.len() != width) {
                return Err(Fault::Misuse("VALUES lists must all be the same length"));
            }
            for at in 0..width {
                let kind = guess(relation.rows.iter().filter_map(|row| row.get(at)));
                relation.cols.push(Col::new(format!("column{}", at + 1), kind));
            }
            Ok(relation)
        }
        SetExpr::SetOperation { left, op, set_quantifier, right } => {
            let mut left = context.deeper(|| set(context, left, outer))?;
            let right = context.deeper(|| set(context, right, outer))?;
            if left.cols.len() != right.cols.len() {
                return Err(Fault::Misuse("each UNION query must have the same number of columns"));
            }
            let key = |row: &Vec<Value>| row_key(row, context.dialect);
            let all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
            match op {
                SetOperator::Union => left.rows.extend(right.rows),
                SetOperator::Intersect => {
                    let keys: BTreeSet<String> = right.rows.iter().map(key).collect();
                    left.rows.retain(|row| keys.contains(&key(row)));
                }
                SetOperator::Except | SetOperator::Minus => {
                    let keys: BTreeSet<String> = right.rows.iter().map(key).collect();
                    left.rows.retain(|row| !keys.contains(&key(row)));
                }
            }
            if !all {
                let mut seen = BTreeSet::new();
                left.rows.retain(|row| seen.insert(key(row)));
            }
            for (at, col) in left.cols.iter_mut().enumerate() {
                if col.kind == Kind::Unknown {
                    col.kind = right.cols.get(at).map_or(Kind::Unknown, |col| col.kind);
                }
            }
            charge(context, &left.rows)?;
            Ok(left)
        }
        SetExpr::Table(table) => {
            let name = table.table_name.as_deref().unwrap_or("");
            read(context, table.schema_name.as_deref(), name)
        }
        _ => Err(Fault::Misuse("not supported here")),
    }
}

fn row_key(row: &[Value], dialect: Dialect) -> String {
    row.iter().map(|value| value.key(dialect)).collect::<Vec<_>>().join("\u{1}")
}

/// A table by its name.
pub(crate) fn read(context: &Context<'_>, schema: Option<&str>, name: &str) -> Result<Relation, Fault> {
    if schema.is_none()
        && let Some((_, found)) =
            context.named.borrow().iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name))
    {
        return Ok(found.clone());
    }
    let (database, within) = place(context, schema);
    if let Some(table) = context.catalog.table(database, &within, name) {
        charge(context, &table.rows)?;
        return Ok(Relation::from(table.as_ref()));
    }
    if let Some(own) = context.facts.table(context, schema, name) {
        charge(context, &own.rows)?;
        return Ok(own);
    }
    if context.dialect == Dialect::MySql {
        if database.is_empty() {
            return Err(Fault::NoDatabaseSelected);
        }
        if !context.catalog.databases.contains_key(database) {
            return Err(Fault::NoDatabase(database.to_owned()));
        }
        return Err(Fault::NoTable { schema: Some(database.to_owned()), name: name.to_owned() });
    }
    Err(Fault::NoTable { schema: schema.map(str::to_owned), name: name.to_owned() })
}

/// The database and the schema in which a table is looked for.
pub(super) fn place<'a>(context: &Context<'a>, schema: Option<&'a str>) -> (&'a str, String) {
    match context.dialect {
        Dialect::MySql => (schema.unwrap_or(context.database), String::new()),
        Dialect::Postgres => (context.database, schema.unwrap_or("public").to_owned()),
    }
}

/// A name's schema and last part, as the dialect folds them.
pub(super) fn named(name: &ObjectName, dialect: Dialect) -> (Option<String>, String) {
    let part = |at: usize| {
        let ident = name.0.get(at).and_then(|part| part.as_ident())?;
        Some(match (dialect, ident.quote_style) {
            (Dialect::Postgres, None) => ident.value.to_lowercase(),
            _ => ident.value.clone(),
        })
    };
    let count = name.0.len();
    (count.checked_sub(2).and_then(part), count.checked_sub(1).and_then(part).unwrap_or_default())
}

fn select(context: &Context<'_>, select: &Select, order: &[OrderByExpr], outer: &Env<'_>) -> Result<Relation, Fault> {
    let mut source = from(context, &select.from, outer)?;
    if let Some(condition) = &select.selection {
        let mut kept = Vec::new();
        for row in std::mem::take(&mut source.rows) {
            if context.holds(condition, &Env { cols: &source.cols, row: &row, group: None, outer: Some(outer) })? {
                kept.push(row);
            }
        }
        source.rows = kept;
    }
    let shown = shown(context, &select.projection, &source.cols)?;
    let by: &[Expr] = match &select.group_by {
        GroupByExpr::Expressions(by, _) => by,
        GroupByExpr::All(_) => &[],
    };
    let aggregates = shown.iter().any(|item| matches!(item, Shown::Expr(expr, _) if has_aggregate(expr)))
        || select.having.as_ref().is_some_and(has_aggregate)
        || order.iter().any(|order| has_aggregate(&order.expr));
    let groups =
        if aggregates || !by.is_empty() { Some(grouped(context, &mut source, by, &shown, outer)?) } else { None };
    let mut cols: Vec<Col> = shown
        .iter()
        .map(|item| match item {
            Shown::Column(at) => source.cols.get(*at).cloned().unwrap_or_else(|| Col::new("", Kind::Unknown)),
            Shown::Expr(expr, name) => Col {
                table: String::new(),
                name: name.clone(),
                kind: kind_of(expr, &source.cols).unwrap_or(Kind::Unknown),
            },
        })
        .collect();
    let (mut rows, mut keys) = (Vec::new(), Vec::new());
    let mut one = |row: &[Value], group: Option<&[Vec<Value>]>| -> Result<(), Fault> {
        let env = Env { cols: &source.cols, row, group, outer: Some(outer) };
        if let Some(having) = &select.having
            && !context.holds(having, &env)?
        {
            return Ok(());
        }
        let mut made = Vec::with_capacity(shown.len());
        for item in &shown {
            made.push(match item {
                Shown::Column(at) => row.get(*at).cloned().unwrap_or(Value::Null),
                Shown::Expr(expr, _) => context.eval(expr, &env)?,
            });
        }
        keys.push(order_key(context, order, &env, &cols, &made)?);
        context.grow(row_size(&made))?;
        rows.push(made);
        Ok(())
    };
    match &groups {
        Some(groups) => {
            let empty = vec![Value::Null; source.cols.len()];
            for group in groups {
                one(group.first().unwrap_or(&empty), Some(group))?;
            }
        }
        None => {
            for row in &source.rows {
                context.step()?;
                one(row, None)?;
            }
        }
    }
    // Functions that make many rows of one, where they stand alone.
    if let [Shown::Expr(Expr::Function(function), _)] = shown.as_slice() {
        let name = last(&function.name).to_lowercase();
        if name == "unnest" {
            rows = rows.iter().flatten().flat_map(functions::elements).map(|item| vec![item]).collect();
            keys = vec![Vec::new(); rows.len()];
        }
    }
    match &select.distinct {
        Some(Distinct::Distinct) => {
            let mut seen = BTreeSet::new();
            let kept: Vec<bool> = rows.iter().map(|row| seen.insert(row_key(row, context.dialect))).collect();
            let mut keep = kept.iter();
            rows.retain(|_| *keep.next().unwrap_or(&true));
            let mut keep = kept.iter();
            keys.retain(|_| *keep.next().unwrap_or(&true));
        }
        Some(Distinct::On(_) | Distinct::All) | None => {}
    }
    rows = sorted(context, rows, keys, order);
    for (at, col) in cols.iter_mut().enumerate() {
        let numeric = |row: &Vec<Value>| matches!(row.get(at), Some(Value::Text(text)) if text.contains('.'));
        if col.kind == Kind::Unknown {
            col.kind = guess(rows.iter().filter_map(|row| row.get(at)));
        } else if col.kind == Kind::BigInt && rows.iter().any(numeric) {
            col.kind = Kind::Numeric;
        }
    }
    Ok(Relation { cols, rows })
}

fn grouped(
    context: &Context<'_>,
    source: &mut Relation,
    by: &[Expr],
    shown: &[Shown<'_>],
    outer: &Env<'_>,
) -> Result<Vec<Vec<Vec<Value>>>, Fault> {
    let all = std::mem::take(&mut source.rows);
    if by.is_empty() {
        return Ok(vec![all]);
    }
    let mut groups: Vec<Vec<Vec<Value>>> = Vec::new();
    let mut known = std::collections::BTreeMap::new();
    for row in all {
        let env = Env { cols: &source.cols, row: &row, group: None, outer: Some(outer) };
        let mut key = Vec::with_capacity(by.len());
        for expr in by {
            let value = match expr {
                Expr::Value(value) => match &value.value {
                    Literal::Number(number, _) => {
                        let at = number.parse::<usize>().ok().and_then(|at| at.checked_sub(1));
                        match at.and_then(|at| shown.get(at)) {
                            Some(Shown::Expr(expr, _)) => context.eval(expr, &env)?,
                            Some(Shown::Column(at)) => row.get(*at).cloned().unwrap_or(Value::Null),
                            None => return Err(Fault::Misuse("GROUP BY position is not in select list")),
                        }
                    }
                    _ => context.eval(expr, &env)?,
                },
                // A name of the select list counts where no column has it.
                Expr::Identifier(ident) if find(&source.cols, None, &ident.value).is_none() => {
                    let named = shown.iter().find_map(|item| match item {
                        Shown::Expr(expr, name) if name.eq_ignore_ascii_case(&ident.value) => Some(*expr),
                        _ => None,
                    });
                    context.eval(named.unwrap_or(expr), &env)?
                }
                _ => context.eval(expr, &env)?,
            };
            key.push(value.key(context.dialect));
        }
        let next = groups.len();
        let at = *known.entry(key.join("\u{1}")).or_insert(next);
        match groups.get_mut(at) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    Ok(groups)
}

fn order_key(
    context: &Context<'_>,
    order: &[OrderByExpr],
    env: &Env<'_>,
    cols: &[Col],
    made: &[Value],
) -> Result<Vec<Value>, Fault> {
    let mut key = Vec::with_capacity(order.len());
    for by in order {
        let position = match &by.expr {
            Expr::Value(value) => match &value.value {
                Literal::Number(number, _) => {
                    let at = number.parse::<usize>().ok().and_then(|at| at.checked_sub(1));
                    match at.filter(|at| *at < made.len()) {
                        Some(at) => Some(at),
                        None => return Err(Fault::Misuse("ORDER BY position is not in select list")),
                    }
                }
                _ => None,
            },
            Expr::Identifier(ident) => cols.iter().position(|col| col.name.eq_ignore_ascii_case(&ident.value)),
            _ => None,
        };
        key.push(match position {
            Some(at) => made.get(at).cloned().unwrap_or(Value::Null),
            None => context.eval(&by.expr, env)?,
        });
    }
    Ok(key)
}

fn sorted(
    context: &Context<'_>,
    rows: Vec<Vec<Value>>,
    keys: Vec<Vec<Value>>,
    order: &[OrderByExpr],
) -> Vec<Vec<Value>> {
    if order.is_empty() {
        return rows;
    }
    let mut both: Vec<(Vec<Value>, Vec<Value>)> = keys.into_iter().zip(rows).collect();
    both.sort_by(|(left, _), (right, _)| {
        for (at, by) in order.iter().enumerate() {
            let (Some(a), Some(b)) = (left.get(at), right.get(at)) else { continue };
            let down = matches!(by.options.sort, Some(sqlparser::ast::OrderBySort::Desc));
            let last = by.options.nulls_first.map_or(context.dialect == Dialect::Postgres, |first| first == down);
            let found = match (a, b) {
                (Value::Null, Value::Null) => Ordering::Equal,
                (Value::Null, _) if last => Ordering::Greater,
                (Value::Null, _) => Ordering::Less,
                (_, Value::Null) if last => Ordering::Less,
                (_, Value::Null) => Ordering::Greater,
                (Value::Text(a), Value::Text(b)) => a.to_lowercase().cmp(&b.to_lowercase()),
                (a, b) => a.compare(b, context.dialect).unwrap_or(Ordering::Equal),
            };
            let found = if down { found.reverse() } else { found };
            if found != Ordering::Equal {
                return found;
            }
        }
        Ordering::Equal
    });
    both.into_iter().map(|(_, row)| row).collect()
}
