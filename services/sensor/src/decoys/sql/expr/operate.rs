//! Operators: arithmetic, comparison, patterns, casts.

use super::*;

impl Context<'_> {
    pub(super) fn unary(&self, op: UnaryOperator, value: &Value) -> Value {
        match (op, value) {
            (_, Value::Null) => Value::Null,
            (UnaryOperator::Not | UnaryOperator::BangNot, value) => {
                value.truth().map_or(Value::Null, |truth| Value::Bool(!truth))
            }
            (UnaryOperator::Minus, Value::Int(number)) => Value::Int(number.wrapping_neg()),
            (UnaryOperator::Minus, Value::Text(text)) if text.parse::<f64>().is_ok() && !text.starts_with('-') => {
                Value::Text(format!("-{text}"))
            }
            (UnaryOperator::Minus, value) => Value::Float(-value.number()),
            (UnaryOperator::BitwiseNot, value) => Value::Int(!value.int()),
            (_, value) => value.clone(),
        }
    }

    pub(super) fn binary(&self, left: &Expr, op: &Op, right: &Expr, env: &Env<'_>) -> Result<Value, Fault> {
        let left = self.eval(left, env)?;
        let known = match op {
            Op::And => Some(false),
            Op::Or => Some(true),
            _ => None,
        };
        if known.is_some() && left.truth() == known {
            return Ok(known.map_or(Value::Null, Value::Bool));
        }
        let right = self.eval(right, env)?;
        self.operate(&left, op, &right)
    }

    pub(super) fn operate(&self, left: &Value, op: &Op, right: &Value) -> Result<Value, Fault> {
        let truth = |found: Option<bool>| found.map_or(Value::Null, Value::Bool);
        let ordered = |is: fn(Ordering) -> bool| truth(left.compare(right, self.dialect).map(is));
        Ok(match op {
            Op::And => match (left.truth(), right.truth()) {
                (Some(false), _) | (_, Some(false)) => Value::Bool(false),
                (Some(true), Some(true)) => Value::Bool(true),
                _ => Value::Null,
            },
            Op::Or => match (left.truth(), right.truth()) {
                (Some(true), _) | (_, Some(true)) => Value::Bool(true),
                (Some(false), Some(false)) => Value::Bool(false),
                _ => Value::Null,
            },
            Op::StringConcat if self.dialect == Dialect::MySql => self.operate(left, &Op::Or, right)?,
            Op::Eq => ordered(Ordering::is_eq),
            Op::NotEq => ordered(Ordering::is_ne),
            Op::Lt => ordered(Ordering::is_lt),
            Op::LtEq => ordered(Ordering::is_le),
            Op::Gt => ordered(Ordering::is_gt),
            Op::GtEq => ordered(Ordering::is_ge),
            Op::Spaceship => (left.key(self.dialect) == right.key(self.dialect)).into(),
            _ if *left == Value::Null || *right == Value::Null => Value::Null,
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo | Op::MyIntegerDivide | Op::PGExp => {
                self.arithmetic(left, op, right)?
            }
            Op::Xor => truth(left.truth().zip(right.truth()).map(|(left, right)| left != right)),
            Op::StringConcat => Value::Text(left.text() + &right.text()),
            Op::BitwiseAnd => Value::Int(left.int() & right.int()),
            Op::BitwiseOr => Value::Int(left.int() | right.int()),
            Op::BitwiseXor | Op::PGBitwiseXor => Value::Int(left.int() ^ right.int()),
            Op::PGBitwiseShiftLeft => Value::Int(left.int().wrapping_shl(u32::try_from(right.int()).unwrap_or(0))),
            Op::PGBitwiseShiftRight => Value::Int(left.int().wrapping_shr(u32::try_from(right.int()).unwrap_or(0))),
            Op::PGRegexMatch => truth(self.matches(left, right, false)?),
            Op::PGRegexIMatch | Op::Regexp => truth(self.matches(left, right, true)?),
            Op::PGRegexNotMatch => truth(self.matches(left, right, false)?.map(|found| !found)),
            Op::PGRegexNotIMatch => truth(self.matches(left, right, true)?.map(|found| !found)),
            Op::PGLikeMatch => truth(self.like(left, right, false)?),
            Op::PGILikeMatch => truth(self.like(left, right, true)?),
            Op::PGNotLikeMatch => truth(self.like(left, right, false)?.map(|found| !found)),
            Op::PGNotILikeMatch => truth(self.like(left, right, true)?.map(|found| !found)),
            Op::PGCustomBinaryOperator(name) => match name.last().map(String::as_str) {
                Some("~") => truth(self.matches(left, right, false)?),
                Some("~*") => truth(self.matches(left, right, true)?),
                Some("!~") => truth(self.matches(left, right, false)?.map(|found| !found)),
                Some("!~*") => truth(self.matches(left, right, true)?.map(|found| !found)),
                Some("~~") => truth(self.like(left, right, false)?),
                Some("~~*") => truth(self.like(left, right, true)?),
                Some("=") => ordered(Ordering::is_eq),
                Some("<>" | "!=") => ordered(Ordering::is_ne),
                _ => Value::Null,
            },
            _ => Value::Null,
        })
    }

    fn arithmetic(&self, left: &Value, op: &Op, right: &Value) -> Result<Value, Fault> {
        let zero = |right: f64| right == 0.0;
        if matches!(op, Op::Divide | Op::Modulo | Op::MyIntegerDivide) && zero(right.number()) {
            return match self.dialect {
                Dialect::MySql => Ok(Value::Null),
                Dialect::Postgres => Err(Fault::DivisionByZero),
            };
        }
        if let (Value::Text(time), Op::Plus | Op::Minus, Value::Text(span)) = (left, op, right)
            && let Some(moved) = functions::moved(time, span, *op == Op::Minus)
        {
            return Ok(moved);
        }
        let whole = |value: &Value| matches!(value, Value::Int(_) | Value::Bool(_));
        if whole(left) && whole(right) {
            let (a, b) = (left.int(), right.int());
            let done = match op {
                Op::Plus => a.checked_add(b),
                Op::Minus => a.checked_sub(b),
                Op::Multiply => a.checked_mul(b),
                Op::Modulo => a.checked_rem(b),
                Op::MyIntegerDivide => a.checked_div(b),
                Op::Divide if self.dialect == Dialect::Postgres => a.checked_div(b),
                Op::Divide => return Ok(Value::Text(format!("{:.4}", int_to_float(a) / int_to_float(b)))),
                _ => None,
            };
            if let Some(done) = done {
                return Ok(Value::Int(done));
            }
        }
        let (a, b) = (left.number(), right.number());
        let done = match op {
            Op::Plus => a + b,
            Op::Minus => a - b,
            Op::Multiply => a * b,
            Op::Divide => a / b,
            Op::Modulo => a % b,
            Op::MyIntegerDivide => return Ok(Value::Int(float_to_int((a / b).trunc()))),
            _ => a.powf(b),
        };
        // Decimals stay decimals: no tails of binary fractions.
        let places = [left, right].into_iter().map(|value| functions::places(&value.text())).max().unwrap_or(0);
        Ok(match op {
            Op::Plus | Op::Minus | Op::Multiply if places > 0 => Value::Text(format!("{done:.places$}")),
            _ => Value::Float(done),
        })
    }

    pub(super) fn like(&self, text: &Value, pattern: &Value, fold: bool) -> Result<Option<bool>, Fault> {
        self.cost(text.size().saturating_mul(pattern.size()) >> 12)?;
        Ok(like(text, pattern, fold))
    }

    pub(super) fn matches(&self, text: &Value, pattern: &Value, fold: bool) -> Result<Option<bool>, Fault> {
        if *text == Value::Null || *pattern == Value::Null {
            return Ok(None);
        }
        let pattern = pattern.text();
        let pattern = pattern.strip_prefix("***:").unwrap_or(&pattern);
        let mut last = self.regex.borrow_mut();
        if let Some((of, folded, regex)) = last.as_ref()
            && of == pattern
            && *folded == fold
        {
            return Ok(Some(regex.is_match(&text.text())));
        }
        self.cost(1_000)?;
        if pattern.len() > 512 {
            return Err(Fault::TooComplex);
        }
        let regex = regex::RegexBuilder::new(pattern)
            .case_insensitive(fold)
            .size_limit(256 << 10)
            .dfa_size_limit(256 << 10)
            .nest_limit(16)
            .build()
            .map_err(|_| Fault::BadInput { kind: "regular expression", text: pattern.to_owned() })?;
        let found = regex.is_match(&text.text());
        *last = Some((pattern.to_owned(), fold, regex));
        Ok(Some(found))
    }
}

/// `LIKE`, without running back more than to the last `%`.
pub(crate) fn like(text: &Value, pattern: &Value, fold: bool) -> Option<bool> {
    if *text == Value::Null || *pattern == Value::Null {
        return None;
    }
    let fold = |value: &Value| if fold { value.text().to_lowercase() } else { value.text() };
    let text: Vec<char> = fold(text).chars().collect();
    let mut pattern_chars: Vec<(char, bool)> = Vec::new();
    let mut escaped = false;
    for c in fold(pattern).chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        pattern_chars.push((c, !escaped && matches!(c, '%' | '_')));
        escaped = false;
    }
    let (mut at, mut of, mut star) = (0, 0, None);
    while at < text.len() {
        match pattern_chars.get(of) {
            Some(('%', true)) => {
                star = Some((of, at));
                of += 1;
            }
            Some(('_', true)) => {
                at += 1;
                of += 1;
            }
            Some((c, _)) if text.get(at) == Some(c) => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((star_of, star_at)) => {
                    star = Some((star_of, star_at + 1));
                    at = star_at + 1;
                    of = star_of + 1;
                }
                None => return Some(false),
            },
        }
    }
    Some(pattern_chars.iter().skip(of).all(|c| *c == ('%', true)))
}
