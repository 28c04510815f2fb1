//! What a query shows of each row: columns, their names and kinds.

use super::*;

pub(super) fn has_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Function(function) => {
            let name = last(&function.name).to_lowercase();
            if functions::is_aggregate(&name) && function.over.is_none() {
                return true;
            }
            match &function.args {
                sqlparser::ast::FunctionArguments::List(list) => list.args.iter().any(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => has_aggregate(expr),
                    _ => false,
                }),
                _ => false,
            }
        }
        Expr::BinaryOp { left, right, .. } => has_aggregate(left) || has_aggregate(right),
        Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } | Expr::Cast { expr: inner, .. } => {
            has_aggregate(inner)
        }
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter().any(|when| has_aggregate(&when.condition) || has_aggregate(&when.result))
                || else_result.as_deref().is_some_and(has_aggregate)
        }
        _ => false,
    }
}

pub(super) fn guess<'a>(values: impl Iterator<Item = &'a Value>) -> Kind {
    for value in values {
        return match value {
            Value::Null => continue,
            Value::Bool(_) => Kind::Bool,
            Value::Int(number) if i32::try_from(*number).is_ok() => Kind::Int,
            Value::Int(_) => Kind::BigInt,
            Value::Float(_) => Kind::Float,
            Value::Text(_) => Kind::Text,
            Value::Bytes(_) => Kind::Bytes,
        };
    }
    Kind::Unknown
}

pub(super) fn kind_of(expr: &Expr, cols: &[Col]) -> Option<Kind> {
    match expr {
        Expr::Identifier(ident) => find(cols, None, &ident.value).and_then(|at| cols.get(at)).map(|col| col.kind),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [.., table, name] => {
                find(cols, Some(&table.value), &name.value).and_then(|at| cols.get(at)).map(|col| col.kind)
            }
            _ => None,
        },
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => kind_of(inner, cols),
        Expr::Cast { data_type, .. } => {
            let lower = data_type.to_string().to_lowercase();
            Some(Kind::declared(lower.strip_prefix("pg_catalog.").unwrap_or(&lower)))
        }
        Expr::Function(function) => match last(&function.name).to_lowercase().as_str() {
            "count" => Some(Kind::BigInt),
            "avg" => Some(Kind::Numeric),
            "min" | "max" | "coalesce" | "ifnull" | "nullif" => match &function.args {
                sqlparser::ast::FunctionArguments::List(list) => match list.args.first() {
                    Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))) => kind_of(expr, cols),
                    _ => None,
                },
                _ => None,
            },
            "sum" => Some(Kind::BigInt),
            "now" | "current_timestamp" | "sysdate" | "localtimestamp" => Some(Kind::Timestamp),
            "current_date" | "curdate" => Some(Kind::Date),
            "current_user" | "session_user" | "current_database" | "current_schema" | "pg_get_userbyid" => {
                Some(Kind::Name)
            }
            _ => None,
        },
        _ => None,
    }
}

fn title(expr: &Expr, dialect: Dialect) -> String {
    match (dialect, expr) {
        (_, Expr::Identifier(ident)) if dialect == Dialect::MySql || ident.quote_style.is_some() => ident.value.clone(),
        (_, Expr::Identifier(ident)) => ident.value.to_lowercase(),
        (_, Expr::CompoundIdentifier(parts)) if !parts.first().is_some_and(|part| part.value.starts_with("@@")) => {
            parts.last().map_or(String::new(), |part| part.value.clone())
        }
        (Dialect::MySql, Expr::Value(value)) => match &value.value {
            Literal::SingleQuotedString(text) | Literal::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        (Dialect::MySql, other) => other.to_string(),
        (_, Expr::Function(function)) => last(&function.name).to_lowercase(),
        (_, Expr::Cast { expr, data_type, .. }) => match title(expr, dialect) {
            name if name == "?column?" => {
                let name = data_type.to_string().to_lowercase();
                match name.as_str() {
                    "int" | "integer" => "int4".to_owned(),
                    "boolean" => "bool".to_owned(),
                    _ => name,
                }
            }
            name => name,
        },
        (_, Expr::Nested(inner) | Expr::Collate { expr: inner, .. }) => title(inner, dialect),
        (_, Expr::Case { .. }) => "case".to_owned(),
        (_, Expr::Exists { .. }) => "exists".to_owned(),
        (_, Expr::Array(_)) => "array".to_owned(),
        (_, Expr::Substring { .. }) => "substring".to_owned(),
        (_, Expr::Extract { .. }) => "extract".to_owned(),
        (_, Expr::Position { .. }) => "position".to_owned(),
        (_, Expr::Subquery(query)) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first() {
                Some(SelectItem::UnnamedExpr(expr)) => title(expr, dialect),
                Some(SelectItem::ExprWithAlias { alias, .. }) => alias.value.clone(),
                _ => "?column?".to_owned(),
            },
            _ => "?column?".to_owned(),
        },
        _ => "?column?".to_owned(),
    }
}

/// What is shown of each row: a column as it is, or an expression under a name.
pub(super) enum Shown<'a> {
    Column(usize),
    Expr(&'a Expr, String),
}

pub(super) fn shown<'a>(context: &Context<'_>, items: &'a [SelectItem], cols: &[Col]) -> Result<Vec<Shown<'a>>, Fault> {
    let mut shown = Vec::new();
    for item in items {
        match item {
            SelectItem::UnnamedExpr(expr) => shown.push(Shown::Expr(expr, title(expr, context.dialect))),
            SelectItem::ExprWithAlias { expr, alias } => {
                let name = match (context.dialect, alias.quote_style) {
                    (Dialect::Postgres, None) => alias.value.to_lowercase(),
                    _ => alias.value.clone(),
                };
                shown.push(Shown::Expr(expr, name));
            }
            SelectItem::Wildcard(_) => {
                if cols.is_empty() {
                    return Err(Fault::Misuse("SELECT * with no tables specified is not valid"));
                }
                shown.extend((0..cols.len()).map(Shown::Column));
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let table = last(name);
                let found: Vec<usize> =
                    (0..cols.len()).filter(|at| cols.get(*at).is_some_and(|c| c.is_of(table))).collect();
                if found.is_empty() {
                    return Err(Fault::NoTable { schema: None, name: table.to_owned() });
                }
                shown.extend(found.into_iter().map(Shown::Column));
            }
            _ => return Err(Fault::Misuse("this is not supported in a select list")),
        }
    }
    Ok(shown)
}

/// What `RETURNING` shows of rows.
pub(crate) fn returning(
    context: &Context<'_>,
    items: &[SelectItem],
    table: &str,
    rows: Relation,
) -> Result<Relation, Fault> {
    let source = rows.named(table, &[]);
    let shown = shown(context, items, &source.cols)?;
    let mut made = Vec::with_capacity(source.rows.len());
    for row in &source.rows {
        let env = Env { cols: &source.cols, row, group: None, outer: None };
        let mut values = Vec::with_capacity(shown.len());
        for item in &shown {
            values.push(match item {
                Shown::Column(at) => row.get(*at).cloned().unwrap_or(Value::Null),
                Shown::Expr(expr, _) => context.eval(expr, &env)?,
            });
        }
        made.push(values);
    }
    let cols = shown
        .iter()
        .enumerate()
        .map(|(at, item)| match item {
            Shown::Column(at) => source.cols.get(*at).cloned().unwrap_or_else(|| Col::new("", Kind::Unknown)),
            Shown::Expr(expr, name) => {
                let guessed = || guess(made.iter().filter_map(|row| row.get(at)));
                Col::new(name.clone(), kind_of(expr, &source.cols).unwrap_or_else(guessed))
            }
        })
        .collect();
    Ok(Relation { cols, rows: made })
}
