//! `FROM`: tables, functions that give rows, and how they are joined.

use super::*;

fn alias_of(alias: Option<&TableAlias>, name: &str) -> (String, Vec<String>) {
    match alias {
        Some(alias) => {
            (alias.name.value.clone(), alias.columns.iter().map(|column| column.name.value.clone()).collect())
        }
        None => (name.to_owned(), Vec::new()),
    }
}

fn factor(context: &Context<'_>, factor: &TableFactor, outer: &Env<'_>) -> Result<Relation, Fault> {
    match factor {
        TableFactor::Table { name, alias, args, .. } => {
            let (schema, table) = named(name, context.dialect);
            let (alias, columns) = alias_of(alias.as_ref(), &table);
            let relation = match args {
                Some(args) => table_function(context, &table, &args.args, outer, &alias)?,
                None => read(context, schema.as_deref(), &table)?,
            };
            Ok(relation.named(&alias, &columns))
        }
        TableFactor::Function { name, args, alias, .. } => {
            let name = last(name).to_lowercase();
            let (alias, columns) = alias_of(alias.as_ref(), &name);
            Ok(table_function(context, &name, args, outer, &alias)?.named(&alias, &columns))
        }
        TableFactor::Derived { subquery, alias, .. } => {
            let (alias, columns) = alias_of(alias.as_ref(), "");
            Ok(context.subquery(subquery, outer)?.named(&alias, &columns))
        }
        TableFactor::NestedJoin { table_with_joins, .. } => context.deeper(|| joined(context, table_with_joins, outer)),
        TableFactor::UNNEST { array_exprs, alias, .. } => {
            let (alias, columns) = alias_of(alias.as_ref(), "unnest");
            let mut rows = Vec::new();
            for array in array_exprs {
                rows.extend(functions::elements(&context.eval(array, outer)?).into_iter().map(|item| vec![item]));
            }
            Ok(Relation::of(&[(alias.as_str(), Kind::Text)], rows).named(&alias, &columns))
        }
        _ => Err(Fault::Misuse("this table expression is not supported")),
    }
}

fn table_function(
    context: &Context<'_>,
    name: &str,
    arguments: &[FunctionArg],
    outer: &Env<'_>,
    alias: &str,
) -> Result<Relation, Fault> {
    let mut values = Vec::new();
    for argument in arguments {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument {
            values.push(context.eval(expr, outer)?);
        }
    }
    let rows: Vec<Vec<Value>> = match name {
        "generate_series" => {
            let get = |at: usize, other: i64| values.get(at).map_or(other, Value::int);
            let (from, to, step) = (get(0, 1), get(1, 0), get(2, 1));
            if step == 0 {
                return Err(Fault::Misuse("step size cannot equal zero"));
            }
            let mut rows = Vec::new();
            let mut at = from;
            while (step > 0 && at <= to) || (step < 0 && at >= to) {
                context.step()?;
                rows.push(vec![Value::Int(at)]);
                let Some(next) = at.checked_add(step) else { break };
                at = next;
            }
            charge(context, &rows)?;
            return Ok(Relation::of(&[(alias, Kind::Int)], rows));
        }
        "unnest" => values.first().map(functions::elements).unwrap_or_default().into_iter().map(|v| vec![v]).collect(),
        _ => {
            if let Some(own) = context.facts.table(context, Some("()"), name) {
                return Ok(own);
            }
            vec![vec![context.call(name, &values)?]]
        }
    };
    let kind = guess(rows.iter().flatten());
    Ok(Relation::of(&[(alias, kind)], rows))
}

fn joined(context: &Context<'_>, tables: &TableWithJoins, outer: &Env<'_>) -> Result<Relation, Fault> {
    let mut relation = factor(context, &tables.relation, outer)?;
    for join in &tables.joins {
        relation = join_one(context, relation, join, outer)?;
    }
    Ok(relation)
}

fn join_one(context: &Context<'_>, left: Relation, join: &Join, outer: &Env<'_>) -> Result<Relation, Fault> {
    let (constraint, keep_left, keep_right) = match &join.join_operator {
        JoinOperator::Join(on)
        | JoinOperator::Inner(on)
        | JoinOperator::CrossJoin(on)
        | JoinOperator::StraightJoin(on) => (on, false, false),
        JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (on, true, false),
        JoinOperator::Right(on) | JoinOperator::RightOuter(on) => (on, false, true),
        JoinOperator::FullOuter(on) => (on, true, true),
        _ => return Err(Fault::Misuse("this kind of join is not supported")),
    };
    // A table on the right that depends on the row on the left is made anew for each.
    let lateral = match &join.relation {
        TableFactor::Derived { lateral, .. } | TableFactor::Function { lateral, .. } => *lateral,
        TableFactor::Table { args, .. } => args.is_some(),
        _ => false,
    };
    let right = if lateral {
        let empty = vec![Value::Null; left.cols.len()];
        let env = Env { cols: &left.cols, row: &empty, group: None, outer: Some(outer) };
        factor(context, &join.relation, &env)?
    } else {
        factor(context, &join.relation, outer)?
    };
    let mut cols = left.cols.clone();
    cols.extend(right.cols.iter().cloned());
    let using: Vec<String> = match constraint {
        JoinConstraint::Using(names) => names.iter().map(|name| last(name).to_owned()).collect(),
        JoinConstraint::Natural => {
            let both = |col: &&Col| find(&right.cols, None, &col.name).is_some();
            left.cols.iter().filter(both).map(|col| col.name.clone()).collect()
        }
        _ => Vec::new(),
    };
    let mut rows = Vec::new();
    let mut used = vec![false; right.rows.len()];
    for left_row in &left.rows {
        let own;
        let right_rows = if lateral {
            let env = Env { cols: &left.cols, row: left_row, group: None, outer: Some(outer) };
            own = factor(context, &join.relation, &env)?.rows;
            &own
        } else {
            &right.rows
        };
        let mut met = false;
        for (at, right_row) in right_rows.iter().enumerate() {
            context.step()?;
            let mut row = left_row.clone();
            row.extend(right_row.iter().cloned());
            let fits = match constraint {
                JoinConstraint::On(on) => {
                    context.holds(on, &Env { cols: &cols, row: &row, group: None, outer: Some(outer) })?
                }
                _ => using.iter().all(|name| {
                    let of = |cols: &[Col], row: &[Value]| find(cols, None, name).and_then(|at| row.get(at).cloned());
                    match (of(&left.cols, left_row), of(&right.cols, right_row)) {
                        (Some(left), Some(right)) => context.equal(&left, &right) == Some(true),
                        _ => false,
                    }
                }),
            };
            if fits {
                met = true;
                if let Some(used) = used.get_mut(at) {
                    *used = true;
                }
                context.grow(row_size(&row))?;
                rows.push(row);
            }
        }
        if !met && keep_left {
            let mut row = left_row.clone();
            row.resize(cols.len(), Value::Null);
            rows.push(row);
        }
    }
    if keep_right {
        for (right_row, used) in right.rows.iter().zip(&used) {
            if !used {
                let mut row = vec![Value::Null; left.cols.len()];
                row.extend(right_row.iter().cloned());
                rows.push(row);
            }
        }
    }
    Ok(Relation { cols, rows })
}

/// All tables of a `FROM`, each row with each.
pub(super) fn from(context: &Context<'_>, tables: &[TableWithJoins], outer: &Env<'_>) -> Result<Relation, Fault> {
    let mut all: Option<Relation> = None;
    for table in tables {
        let next = joined(context, table, outer)?;
        all = Some(match all {
            None => next,
            Some(left) => {
                let mut cols = left.cols;
                cols.extend(next.cols);
                let mut rows = Vec::new();
                for left_row in &left.rows {
                    for right_row in &next.rows {
                        context.step()?;
                        let mut row = left_row.clone();
                        row.extend(right_row.iter().cloned());
                        context.grow(row_size(&row))?;
                        rows.push(row);
                    }
                }
                Relation { cols, rows }
            }
        });
    }
    Ok(all.unwrap_or_else(|| Relation { cols: Vec::new(), rows: vec![Vec::new()] }))
}
