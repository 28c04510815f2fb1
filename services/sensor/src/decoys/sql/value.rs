//! Values and their comparison.

use std::cmp::Ordering;

use super::Dialect;

/// A value in a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Unknown.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any number.
    Float(f64),
    /// A text; also times and decimals.
    Text(String),
    /// Bytes that are no text.
    Bytes(Vec<u8>),
}

/// What kind of values a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their meaning is their name")]
pub(crate) enum Kind {
    Bool,
    Int,
    BigInt,
    Float,
    Numeric,
    Text,
    Varchar,
    Name,
    Oid,
    Char,
    Timestamp,
    Date,
    Bytes,
    Unknown,
}

impl Kind {
    /// From the type as it was declared.
    pub(crate) fn declared(text: &str) -> Kind {
        let lower = text.to_ascii_lowercase();
        let is = |names: &[&str]| names.iter().any(|name| lower.starts_with(name));
        if lower.ends_with("[]") {
            Kind::Text
        } else if is(&["bool"]) {
            Kind::Bool
        } else if is(&["bigint", "int8", "bigserial", "serial8"]) {
            Kind::BigInt
        } else if is(&["interval"]) {
            Kind::Text
        } else if is(&["int", "smallint", "tinyint", "mediumint", "serial", "smallserial"]) {
            Kind::Int
        } else if is(&["double", "float", "real"]) {
            Kind::Float
        } else if is(&["numeric", "decimal", "dec", "money"]) {
            Kind::Numeric
        } else if is(&["timestamp", "datetime"]) {
            Kind::Timestamp
        } else if is(&["date"]) {
            Kind::Date
        } else if is(&["bytea", "blob", "longblob", "mediumblob", "tinyblob", "varbinary", "binary"]) {
            Kind::Bytes
        } else if is(&["varchar", "character varying", "char", "nvarchar"]) {
            Kind::Varchar
        } else if is(&["name"]) {
            Kind::Name
        } else if is(&["oid"]) {
            Kind::Oid
        } else {
            Kind::Text
        }
    }

    /// Whether its values are numbers.
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::BigInt | Kind::Float | Kind::Numeric | Kind::Oid)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Bool(truth)
    }
}

impl Value {
    /// As the server writes it; none for null.
    pub(crate) fn show(&self, dialect: Dialect) -> Option<String> {
        Some(match self {
            Value::Null => return None,
            Value::Bool(truth) => match dialect {
                Dialect::MySql => if *truth { "1" } else { "0" }.to_owned(),
                Dialect::Postgres => if *truth { "t" } else { "f" }.to_owned(),
            },
            Value::Int(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::Bytes(bytes) => match dialect {
                Dialect::MySql => String::from_utf8_lossy(bytes).into_owned(),
                Dialect::Postgres => format!("\\x{}", hex::encode(bytes)),
            },
        })
    }

    /// As the bytes on the wire; none for null.
    pub(crate) fn bytes(&self, dialect: Dialect) -> Option<Vec<u8>> {
        match (self, dialect) {
            (Value::Bytes(bytes), Dialect::MySql) => Some(bytes.clone()),
            _ => self.show(dialect).map(String::into_bytes),
        }
    }

    /// As a text, whatever it is; empty for null.
    pub(crate) fn text(&self) -> String {
        match self {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Bool(truth) => truth.to_string(),
            other => other.show(Dialect::Postgres).unwrap_or_default(),
        }
    }

    /// As a number: of a text, the number that it begins with.
    pub(crate) fn number(&self) -> f64 {
        match self {
            Value::Null => 0.0,
            Value::Bool(truth) => f64::from(u8::from(*truth)),
            Value::Int(number) => int_to_float(*number),
            Value::Float(number) => *number,
            Value::Text(text) => leading_number(text),
            Value::Bytes(bytes) => leading_number(&String::from_utf8_lossy(bytes)),
        }
    }

    /// As a whole number.
    pub(crate) fn int(&self) -> i64 {
        match self {
            Value::Int(number) => *number,
            other => float_to_int(other.number()),
        }
    }

    /// Whether it counts as true; none for null.
    pub(crate) fn truth(&self) -> Option<bool> {
        match self {
            Value::Null => None,
            Value::Bool(truth) => Some(*truth),
            Value::Text(text) if matches!(text.as_str(), "t" | "true" | "on" | "yes") => Some(true),
            other => Some(other.number() != 0.0),
        }
    }

    /// About how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        32 + match self {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Order of two values; none when one is null.
    pub(crate) fn compare(&self, other: &Value, dialect: Dialect) -> Option<Ordering> {
        match (self, other) {
            (Value::Null, _) | (_, Value::Null) => None,
            (Value::Text(left), Value::Text(right)) => Some(match dialect {
                Dialect::MySql => left.to_lowercase().cmp(&right.to_lowercase()),
                Dialect::Postgres => left.cmp(right),
            }),
            (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Value::Bool(left), Value::Text(right)) if dialect == Dialect::Postgres => {
                Some(left.cmp(&matches!(right.as_str(), "t" | "true" | "on" | "yes" | "1")))
            }
            (Value::Text(_), Value::Bool(_)) if dialect == Dialect::Postgres => {
                other.compare(self, dialect).map(Ordering::reverse)
            }
            (Value::Bytes(_), _) | (_, Value::Bytes(_)) => Some(self.text().cmp(&other.text())),
            _ => self.number().partial_cmp(&other.number()),
        }
    }

    /// A key under which equal values meet.
    pub(crate) fn key(&self, dialect: Dialect) -> String {
        match self {
            Value::Null => "n".to_owned(),
            Value::Text(text) if dialect == Dialect::MySql => format!("t{}", text.to_lowercase()),
            Value::Text(text) => format!("t{text}"),
            other => format!("v{}", other.text()),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "that is what the servers do as well")]
pub(super) fn int_to_float(number: i64) -> f64 {
    number as f64
}

#[allow(clippy::cast_possible_truncation, reason = "`as` saturates")]
pub(super) fn float_to_int(number: f64) -> i64 {
    number.round() as i64
}

fn leading_number(text: &str) -> f64 {
    let trimmed = text.trim_start();
    let mut end = 0;
    let (mut point, mut power) = (false, false);
    for (at, byte) in trimmed.bytes().enumerate().take(64) {
        match byte {
            b'0'..=b'9' => {}
            b'+' | b'-' if at == 0 || matches!(trimmed.as_bytes().get(at - 1), Some(b'e' | b'E')) => {}
            b'.' if !point && !power => point = true,
            b'e' | b'E' if !power && at > 0 => power = true,
            _ => break,
        }
        end = at + 1;
    }
    let mut number = trimmed.get(..end).unwrap_or("");
    loop {
        match number.parse() {
            Ok(parsed) => return parsed,
            Err(_) if number.is_empty() => return 0.0,
            Err(_) => number = number.get(..number.len() - 1).unwrap_or(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_numbers_as_far_as_they_are() {
        assert_eq!(Value::from("12abc").number(), 12.0);
        assert_eq!(Value::from("-1.5e").number(), -1.5);
        assert_eq!(Value::from("x").number(), 0.0);
    }

    #[test]
    fn servers_differ_about_case() {
        let (small, large) = (Value::from("root"), Value::from("ROOT"));
        assert_eq!(small.compare(&large, Dialect::MySql), Some(Ordering::Equal));
        assert_ne!(small.compare(&large, Dialect::Postgres), Some(Ordering::Equal));
    }
}
