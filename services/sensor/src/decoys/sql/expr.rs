//! Expressions over rows.

mod operate;

use std::{
    cell::{Cell, RefCell},
    cmp::Ordering,
};

use chrono::{DateTime, Utc};
use sqlparser::ast::{
    BinaryOperator as Op, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query,
    TrimWhereField, UnaryOperator, Value as Literal,
};

use super::{
    Catalog, Dialect, Facts, Fault, Kind, Relation, Value,
    functions::{self, aggregate},
    select::{self, Col},
    value::{float_to_int, int_to_float},
};
pub(crate) use operate::like;

/// How many steps a statement may take.
const STEPS: u32 = 200_000;
/// How deep an evaluation may go.
const DEEPEST: u32 = 48;
/// The longest text that an expression may make.
const LONGEST: usize = 64 << 10;
/// What a statement may make in all.
const MEMORY: usize = 8 << 20;

/// What a statement sees.
pub(crate) struct Context<'a> {
    /// All databases.
    pub(crate) catalog: &'a Catalog,
    /// What the server knows.
    pub(crate) facts: &'a dyn Facts,
    /// Whose SQL it is.
    pub(crate) dialect: Dialect,
    /// Who asks.
    pub(crate) user: &'a str,
    /// The database that is used; empty when none is.
    pub(crate) database: &'a str,
    /// When.
    pub(crate) now: DateTime<Utc>,
    /// How many seconds it shall seem to have taken.
    pub(crate) delay: Cell<f64>,
    pub(super) named: RefCell<Vec<(String, Relation)>>,
    regex: RefCell<Option<(String, bool, regex::Regex)>>,
    steps: Cell<u32>,
    depth: Cell<u32>,
    memory: Cell<usize>,
}

/// A row that an expression is about.
pub(crate) struct Env<'a> {
    pub(super) cols: &'a [Col],
    pub(super) row: &'a [Value],
    pub(super) group: Option<&'a [Vec<Value>]>,
    pub(super) outer: Option<&'a Env<'a>>,
}

/// No row at all.
pub(super) const NOTHING: Env<'static> = Env { cols: &[], row: &[], group: None, outer: None };

impl<'a> Context<'a> {
    /// Over these databases.
    pub(crate) fn new(
        catalog: &'a Catalog,
        facts: &'a dyn Facts,
        dialect: Dialect,
        user: &'a str,
        database: &'a str,
    ) -> Context<'a> {
        Context {
            catalog,
            facts,
            dialect,
            user,
            database,
            now: Utc::now(),
            delay: Cell::new(0.0),
            named: RefCell::new(Vec::new()),
            regex: RefCell::new(None),
            steps: Cell::new(0),
            depth: Cell::new(0),
            memory: Cell::new(0),
        }
    }

    /// One more step.
    pub(super) fn step(&self) -> Result<(), Fault> {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > STEPS { Err(Fault::TooComplex) } else { Ok(()) }
    }

    /// Work that is as much as that many steps.
    pub(super) fn cost(&self, steps: usize) -> Result<(), Fault> {
        let steps = self.steps.get().saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        self.steps.set(steps);
        if steps > STEPS { Err(Fault::TooComplex) } else { Ok(()) }
    }

    /// Memory that is used from now on.
    pub(super) fn grow(&self, size: usize) -> Result<(), Fault> {
        let memory = self.memory.get() + size;
        self.memory.set(memory);
        if memory > MEMORY { Err(Fault::TooMuch) } else { Ok(()) }
    }

    /// Something one level deeper.
    pub(super) fn deeper<T>(&self, act: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let depth = self.depth.get() + 1;
        if depth > DEEPEST {
            return Err(Fault::TooComplex);
        }
        self.depth.set(depth);
        let done = act();
        self.depth.set(depth - 1);
        done
    }

    /// The value of an expression.
    pub(super) fn eval(&self, expr: &Expr, env: &Env<'_>) -> Result<Value, Fault> {
        self.step()?;
        let value = self.deeper(|| self.value(expr, env))?;
        if let Value::Text(text) = &value {
            if text.len() > LONGEST {
                return Err(Fault::TooMuch);
            }
            self.cost(text.len() / 64)?;
        }
        Ok(value)
    }

    /// Whether an expression is true.
    pub(super) fn holds(&self, expr: &Expr, env: &Env<'_>) -> Result<bool, Fault> {
        Ok(self.eval(expr, env)?.truth().unwrap_or(false))
    }

    fn value(&self, expr: &Expr, env: &Env<'_>) -> Result<Value, Fault> {
        let truth = |found: Option<bool>| found.map_or(Value::Null, Value::Bool);
        Ok(match expr {
            Expr::Identifier(ident) => self.column(None, ident, env)?,
            Expr::CompoundIdentifier(parts) => self.compound(parts, env)?,
            Expr::Value(literal) => self.literal(&literal.value)?,
            Expr::TypedString(typed) => self.literal(&typed.value.value)?,
            Expr::Prefixed { value, .. } | Expr::Collate { expr: value, .. } | Expr::Nested(value) => {
                self.eval(value, env)?
            }
            Expr::AtTimeZone { timestamp, .. } => self.eval(timestamp, env)?,
            Expr::IsNull(inner) => (self.eval(inner, env)? == Value::Null).into(),
            Expr::IsNotNull(inner) => (self.eval(inner, env)? != Value::Null).into(),
            Expr::IsTrue(inner) => (self.eval(inner, env)?.truth() == Some(true)).into(),
            Expr::IsNotTrue(inner) => (self.eval(inner, env)?.truth() != Some(true)).into(),
            Expr::IsFalse(inner) => (self.eval(inner, env)?.truth() == Some(false)).into(),
            Expr::IsNotFalse(inner) => (self.eval(inner, env)?.truth() != Some(false)).into(),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                let (left, right) = (self.eval(left, env)?, self.eval(right, env)?);
                let same = left.key(self.dialect) == right.key(self.dialect);
                (same == matches!(expr, Expr::IsNotDistinctFrom(..))).into()
            }
            Expr::InList { expr, list, negated } => {
                let wanted = self.eval(expr, env)?;
                let mut found = Some(false);
                for item in list {
                    found = either(found, self.equal(&wanted, &self.eval(item, env)?));
                }
                truth(found.map(|found| found != *negated))
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let wanted = self.eval(expr, env)?;
                let mut found = Some(false);
                for row in &self.subquery(subquery, env)?.rows {
                    found = either(found, row.first().and_then(|value| self.equal(&wanted, value)));
                }
                truth(found.map(|found| found != *negated))
            }
            Expr::Between { expr, negated, low, high } => {
                let value = self.eval(expr, env)?;
                let low = value.compare(&self.eval(low, env)?, self.dialect).map(Ordering::is_ge);
                let high = value.compare(&self.eval(high, env)?, self.dialect).map(Ordering::is_le);
                truth(low.zip(high).map(|(low, high)| (low && high) != *negated))
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, env)?,
            Expr::Like { negated, expr, pattern, .. } => {
                let (text, pattern) = (self.eval(expr, env)?, self.eval(pattern, env)?);
                truth(self.like(&text, &pattern, self.dialect == Dialect::MySql)?.map(|like| like != *negated))
            }
            Expr::ILike { negated, expr, pattern, .. } => {
                let (text, pattern) = (self.eval(expr, env)?, self.eval(pattern, env)?);
                truth(self.like(&text, &pattern, true)?.map(|like| like != *negated))
            }
            Expr::RLike { negated, expr, pattern, .. } | Expr::SimilarTo { negated, expr, pattern, .. } => {
                let (text, pattern) = (self.eval(expr, env)?, self.eval(pattern, env)?);
                truth(self.matches(&text, &pattern, true)?.map(|found| found != *negated))
            }
            Expr::AnyOp { left, compare_op, right, .. } => {
                let left = self.eval(left, env)?;
                let mut found = Some(false);
                for item in self.items(right, env)? {
                    found = either(found, self.operate(&left, compare_op, &item)?.truth());
                }
                truth(found)
            }
            Expr::AllOp { left, compare_op, right } => {
                let left = self.eval(left, env)?;
                let mut all = true;
                for item in self.items(right, env)? {
                    all &= self.operate(&left, compare_op, &item)?.truth() == Some(true);
                }
                all.into()
            }
            Expr::UnaryOp { op, expr } => self.unary(*op, &self.eval(expr, env)?),
            Expr::Cast { expr, data_type, .. } => self.cast(self.eval(expr, env)?, &data_type.to_string())?,
            Expr::Convert { expr, data_type, .. } => {
                let value = self.eval(expr, env)?;
                match data_type {
                    Some(data_type) => self.cast(value, &data_type.to_string())?,
                    None => value,
                }
            }
            Expr::Extract { field, expr, .. } => {
                functions::date_part(&field.to_string().to_lowercase(), &self.eval(expr, env)?)
            }
            Expr::Ceil { expr, .. } => self.call("ceil", &[self.eval(expr, env)?])?,
            Expr::Floor { expr, .. } => self.call("floor", &[self.eval(expr, env)?])?,
            Expr::Position { expr, r#in } => {
                let (what, text) = (self.eval(expr, env)?, self.eval(r#in, env)?);
                self.call("strpos", &[text, what])?
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut arguments = vec![self.eval(expr, env)?];
                arguments.push(substring_from.as_ref().map_or(Ok(Value::Int(1)), |from| self.eval(from, env))?);
                if let Some(count) = substring_for {
                    arguments.push(self.eval(count, env)?);
                }
                self.call("substring", &arguments)?
            }
            Expr::Trim { expr, trim_where, trim_what, .. } => {
                let name = match trim_where {
                    Some(TrimWhereField::Leading) => "ltrim",
                    Some(TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let mut arguments = vec![self.eval(expr, env)?];
                if let Some(what) = trim_what {
                    arguments.push(self.eval(what, env)?);
                }
                self.call(name, &arguments)?
            }
            Expr::Function(function) => self.function(function, env)?,
            Expr::Case { operand, conditions, else_result, .. } => {
                let operand = operand.as_ref().map(|operand| self.eval(operand, env)).transpose()?;
                for when in conditions {
                    let hit = match &operand {
                        Some(operand) => self.equal(operand, &self.eval(&when.condition, env)?) == Some(true),
                        None => self.holds(&when.condition, env)?,
                    };
                    if hit {
                        return self.eval(&when.result, env);
                    }
                }
                else_result.as_ref().map_or(Ok(Value::Null), |otherwise| self.eval(otherwise, env))?
            }
            Expr::Exists { subquery, negated } => (self.subquery(subquery, env)?.rows.is_empty() == *negated).into(),
            Expr::Subquery(query) => {
                let found = self.subquery(query, env)?;
                if found.cols.len() > 1 {
                    return Err(Fault::Misuse("subquery must return only one column"));
                }
                if found.rows.len() > 1 {
                    return Err(Fault::ManyRows);
                }
                found.rows.into_iter().flatten().next().unwrap_or(Value::Null)
            }
            Expr::Array(array) => {
                let items = array.elem.iter().map(|item| self.eval(item, env)).collect::<Result<Vec<_>, _>>()?;
                functions::array(&items)
            }
            Expr::Tuple(items) => {
                let items = items.iter().map(|item| self.eval(item, env)).collect::<Result<Vec<_>, _>>()?;
                Value::Text(format!("({})", items.iter().map(Value::text).collect::<Vec<_>>().join(",")))
            }
            Expr::Interval(interval) => {
                let count = self.eval(&interval.value, env)?;
                let unit = interval.leading_field.as_ref().map(|field| format!(" {field}")).unwrap_or_default();
                Value::Text(format!("{}{}", count.text(), unit.to_lowercase()))
            }
            Expr::CompoundFieldAccess { root, .. } => {
                let _ = self.eval(root, env)?;
                Value::Null
            }
            other => return Err(self.misunderstood(other)),
        })
    }

    fn misunderstood(&self, expr: &Expr) -> Fault {
        let near: String = expr.to_string().chars().take(40).collect();
        Fault::Syntax { rest: near.clone(), near, line: 1, at: 8 }
    }

    fn literal(&self, literal: &Literal) -> Result<Value, Fault> {
        Ok(match literal {
            Literal::Number(digits, _) => match digits.parse::<i64>() {
                Ok(number) => Value::Int(number),
                Err(_) if digits.starts_with("0x") => hex_value(digits.get(2..).unwrap_or("")),
                Err(_) => Value::Text(digits.clone()),
            },
            Literal::Boolean(truth) => Value::Bool(*truth),
            Literal::Null => Value::Null,
            Literal::HexStringLiteral(digits) => hex_value(digits),
            Literal::SingleQuotedString(text)
            | Literal::DoubleQuotedString(text)
            | Literal::EscapedStringLiteral(text)
            | Literal::UnicodeStringLiteral(text)
            | Literal::NationalStringLiteral(text)
            | Literal::SingleQuotedByteStringLiteral(text)
            | Literal::DoubleQuotedByteStringLiteral(text) => Value::Text(text.clone()),
            Literal::DollarQuotedString(quoted) => Value::Text(quoted.value.clone()),
            Literal::Placeholder(name) => {
                return Err(Fault::Syntax { near: name.clone(), rest: name.clone(), line: 1, at: 1 });
            }
            other => Value::Text(other.to_string()),
        })
    }

    fn compound(&self, parts: &[Ident], env: &Env<'_>) -> Result<Value, Fault> {
        let Some((last, before)) = parts.split_last() else { return Ok(Value::Null) };
        let first = before.first().map_or("", |ident| ident.value.as_str());
        if first.starts_with("@@") {
            return self.variable(&last.value);
        }
        self.column(before.last().map(|ident| ident.value.as_str()), last, env)
    }

    fn variable(&self, name: &str) -> Result<Value, Fault> {
        self.facts.variable(self, &name.to_lowercase()).ok_or_else(|| Fault::NoVariable(name.to_owned()))
    }

    fn column(&self, table: Option<&str>, ident: &Ident, env: &Env<'_>) -> Result<Value, Fault> {
        let name = ident.value.as_str();
        let mut level = Some(env);
        while let Some(env) = level {
            if let Some(at) = select::find(env.cols, table, name) {
                return Ok(env.row.get(at).cloned().unwrap_or(Value::Null));
            }
            level = env.outer;
        }
        match self.dialect {
            Dialect::MySql if table.is_none() => {
                if let Some(name) = name.strip_prefix("@@") {
                    return self.variable(name);
                }
                if name.starts_with('@') {
                    return Ok(Value::Null);
                }
            }
            Dialect::Postgres if table.is_none() && ident.quote_style.is_none() => {
                let lower = name.to_lowercase();
                if matches!(lower.as_str(), "current_database" | "current_schema") {
                    return self.call(&lower, &[]);
                }
                // A row as a whole, by the name of its table.
                let whole = env.cols.iter().zip(env.row).filter(|(col, _)| col.is_of(name));
                let whole: Vec<String> = whole.map(|(_, value)| value.text()).collect();
                if !whole.is_empty() {
                    return Ok(Value::Text(format!("({})", whole.join(","))));
                }
            }
            _ => {}
        }
        Err(Fault::NoColumn { table: table.map(str::to_owned), name: name.to_owned() })
    }

    /// The rows of a query inside an expression.
    pub(super) fn subquery(&self, query: &Query, env: &Env<'_>) -> Result<Relation, Fault> {
        self.deeper(|| select::query(self, query, env))
    }

    fn items(&self, expr: &Expr, env: &Env<'_>) -> Result<Vec<Value>, Fault> {
        match expr {
            Expr::Subquery(query) => Ok(self.subquery(query, env)?.rows.into_iter().flatten().collect()),
            Expr::Nested(inner) => self.items(inner, env),
            Expr::Array(array) => array.elem.iter().map(|item| self.eval(item, env)).collect(),
            other => Ok(functions::elements(&self.eval(other, env)?)),
        }
    }

    /// Whether two values are equal; none when one is null.
    pub(super) fn equal(&self, left: &Value, right: &Value) -> Option<bool> {
        left.compare(right, self.dialect).map(Ordering::is_eq)
    }

    /// A value as another type.
    pub(super) fn cast(&self, value: Value, declared: &str) -> Result<Value, Fault> {
        let lower = declared.to_lowercase();
        let lower = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
        if value == Value::Null {
            return Ok(value);
        }
        if let Some(resolved) = self.facts.function(self, &format!("::{lower}"), std::slice::from_ref(&value)) {
            return resolved;
        }
        let strict = self.dialect == Dialect::Postgres;
        Ok(match Kind::declared(lower) {
            Kind::Int | Kind::BigInt | Kind::Oid => match &value {
                Value::Text(text) if strict && text.trim().parse::<f64>().is_err() => {
                    return Err(Fault::BadInput { kind: "integer", text: text.clone() });
                }
                value => Value::Int(value.int()),
            },
            Kind::Float => match &value {
                Value::Text(text) if strict && text.trim().parse::<f64>().is_err() => {
                    return Err(Fault::BadInput { kind: "double precision", text: text.clone() });
                }
                value => Value::Float(value.number()),
            },
            Kind::Numeric => match &value {
                Value::Text(text) if strict && text.trim().parse::<f64>().is_err() => {
                    return Err(Fault::BadInput { kind: "numeric", text: text.clone() });
                }
                value => Value::Text(value.text()),
            },
            Kind::Bool => match &value {
                Value::Text(text) => match text.to_lowercase().as_str() {
                    "t" | "true" | "yes" | "on" | "1" => Value::Bool(true),
                    "f" | "false" | "no" | "off" | "0" => Value::Bool(false),
                    _ => return Err(Fault::BadInput { kind: "boolean", text: text.clone() }),
                },
                value => Value::Bool(value.truth().unwrap_or(false)),
            },
            Kind::Date => Value::Text(value.text().chars().take(10).collect()),
            Kind::Bytes => value,
            _ if lower.starts_with("signed") || lower.starts_with("unsigned") => Value::Int(value.int()),
            Kind::Varchar => {
                let most = lower.split(['(', ')']).nth(1).and_then(|most| most.parse().ok()).unwrap_or(usize::MAX);
                Value::Text(value.text().chars().take(most).collect())
            }
            _ => match value {
                Value::Bool(truth) if self.dialect == Dialect::MySql => Value::Int(i64::from(truth)),
                other => Value::Text(other.text()),
            },
        })
    }

    fn function(&self, function: &sqlparser::ast::Function, env: &Env<'_>) -> Result<Value, Fault> {
        let name = last(&function.name).to_lowercase();
        let list = match &function.args {
            FunctionArguments::None => &[][..],
            FunctionArguments::Subquery(query) => {
                let found: Vec<Value> = self.subquery(query, env)?.rows.into_iter().flatten().collect();
                return Ok(functions::array(&found));
            }
            FunctionArguments::List(list) => &list.args,
        };
        if functions::is_aggregate(&name) && function.over.is_none() {
            let group = env.group.ok_or(Fault::Misuse("aggregate functions are not allowed in WHERE"))?;
            let distinct = matches!(
                &function.args,
                FunctionArguments::List(list)
                    if list.duplicate_treatment == Some(sqlparser::ast::DuplicateTreatment::Distinct)
            );
            let mut rows = Vec::new();
            for row in group {
                let env = Env { cols: env.cols, row, group: None, outer: env.outer };
                if let Some(filter) = &function.filter
                    && !self.holds(filter, &env)?
                {
                    continue;
                }
                rows.push(list.iter().map(|argument| self.argument(argument, &env)).collect::<Result<Vec<_>, _>>()?);
            }
            return aggregate(&name, rows, distinct, self.dialect);
        }
        if name == "coalesce" || name == "ifnull" {
            for argument in list {
                let value = self.argument(argument, env)?;
                if value != Value::Null {
                    return Ok(value);
                }
            }
            return Ok(Value::Null);
        }
        if name == "if" && self.dialect == Dialect::MySql && list.len() == 3 {
            let hit = list.first().map(|argument| self.argument(argument, env)).transpose()?;
            let hit = hit.and_then(|value| value.truth()).unwrap_or(false);
            let chosen = list.get(if hit { 1 } else { 2 });
            return chosen.map_or(Ok(Value::Null), |argument| self.argument(argument, env));
        }
        let arguments = list.iter().map(|argument| self.argument(argument, env)).collect::<Result<Vec<_>, _>>()?;
        self.call(&name, &arguments)
    }

    fn argument(&self, argument: &FunctionArg, env: &Env<'_>) -> Result<Value, Fault> {
        let (FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } | FunctionArg::Unnamed(arg)) =
            argument;
        match arg {
            FunctionArgExpr::Expr(expr) => self.eval(expr, env),
            _ => Ok(Value::Int(1)),
        }
    }

    /// A function by its name in lower case.
    pub(super) fn call(&self, name: &str, arguments: &[Value]) -> Result<Value, Fault> {
        if let Some(own) = self.facts.function(self, name, arguments) {
            return own;
        }
        functions::call(self, name, arguments)?.ok_or_else(|| Fault::NoFunction {
            name: name.to_owned(),
            arguments: arguments
                .iter()
                .map(|value| match value {
                    Value::Bool(_) => "boolean",
                    Value::Int(_) => "integer",
                    Value::Float(_) => "double precision",
                    Value::Bytes(_) => "bytea",
                    _ => "unknown",
                })
                .collect(),
        })
    }
}

/// The last part of a name.
pub(super) fn last(name: &ObjectName) -> &str {
    name.0.last().and_then(|part| part.as_ident()).map_or("", |ident| ident.value.as_str())
}

fn hex_value(digits: &str) -> Value {
    let bytes = hex::decode(if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_owned() });
    match bytes.map(String::from_utf8) {
        Ok(Ok(text)) => Value::Text(text),
        Ok(Err(error)) => Value::Bytes(error.into_bytes()),
        Err(_) => Value::Null,
    }
}

fn either(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_is_like() {
        let is = |text: &str, pattern: &str| like(&text.into(), &pattern.into(), false).unwrap();
        assert!(is("version_comment", "version%") && is("abc", "_b_") && is("", "%") && is("a%", "a\\%"));
        assert!(!is("abc", "b%") && !is("ab", "a\\%") && !is("abc", "ab"));
        assert!(!is(&"a".repeat(20_000), &format!("{}b", "%a".repeat(20))));
    }
}
