//! Functions that most servers have.

mod arrays;
mod times;

use std::{cmp::Ordering, collections::BTreeSet};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::DateTime;
use md5::{Digest, Md5};

pub(super) use arrays::{array, elements};
use times::shown;
pub(super) use times::{date_part, moved, time};

use super::{
    Context, Dialect, Fault, Value,
    value::{float_to_int, int_to_float},
};

/// The longest text that a function makes; longer ones are null or refused, as servers do it too.
const LONGEST: usize = 64 << 10;

/// Whether a function is about many rows.
pub(super) fn is_aggregate(name: &str) -> bool {
    matches!(
        name,
        "count" | "sum" | "avg" | "min" | "max" | "group_concat" | "string_agg" | "array_agg" | "bool_and" | "bool_or"
    )
}

/// A function over the arguments of many rows.
pub(super) fn aggregate(
    name: &str,
    mut rows: Vec<Vec<Value>>,
    distinct: bool,
    dialect: Dialect,
) -> Result<Value, Fault> {
    rows.retain(|arguments| arguments.iter().all(|value| *value != Value::Null));
    if distinct {
        let mut seen = BTreeSet::new();
        rows.retain(|arguments| {
            seen.insert(arguments.iter().map(|value| value.key(dialect)).collect::<Vec<_>>().join("\u{1}"))
        });
    }
    let values: Vec<&Value> = rows.iter().filter_map(|arguments| arguments.first()).collect();
    if name == "count" {
        return Ok(rows.len().into());
    }
    if values.is_empty() {
        return Ok(Value::Null);
    }
    let best = |wanted: Ordering| {
        values.iter().copied().reduce(
            |best, value| {
                if value.compare(best, dialect) == Some(wanted) { value } else { best }
            },
        )
    };
    let sum = || values.iter().map(|value| value.number()).sum::<f64>();
    let whole = values.iter().all(|value| matches!(value, Value::Int(_)));
    let places = values.iter().map(|value| places(&value.text())).max().unwrap_or(0);
    let joined = |separator: &str| {
        let mut text = String::new();
        for value in &values {
            if text.len() > LONGEST {
                return Err(Fault::TooMuch);
            }
            if !text.is_empty() {
                text.push_str(separator);
            }
            text.push_str(&value.text());
        }
        Ok(Value::Text(text))
    };
    Ok(match name {
        "sum" if whole => Value::Int(float_to_int(sum())),
        "sum" => Value::Text(format!("{:.places$}", sum())),
        "avg" => {
            let count = int_to_float(i64::try_from(values.len()).unwrap_or(i64::MAX));
            let digits = if dialect == Dialect::MySql { places + 4 } else { 16 };
            Value::Text(format!("{:.digits$}", sum() / count))
        }
        "min" => best(Ordering::Less).cloned().unwrap_or(Value::Null),
        "max" => best(Ordering::Greater).cloned().unwrap_or(Value::Null),
        "bool_and" => values.iter().all(|value| value.truth() == Some(true)).into(),
        "bool_or" => values.iter().any(|value| value.truth() == Some(true)).into(),
        "string_agg" => joined(&rows.first().and_then(|row| row.get(1)).map_or(String::new(), Value::text))?,
        "array_agg" => array(&values.into_iter().cloned().collect::<Vec<_>>()),
        _ => joined(",")?,
    })
}

/// How many places a decimal has.
pub(super) fn places(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, places)| places.len()).min(16)
}

fn chars(text: &str, from: i64, count: Option<i64>) -> String {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let begin = if from < 0 { length + from } else { from - 1 };
    let end = count.map_or(length, |count| begin.saturating_add(count.max(0)).min(length));
    let begin = begin.max(0);
    let place = |at: i64| usize::try_from(at).unwrap_or(0);
    text.chars().skip(place(begin)).take(place(end.saturating_sub(begin).max(0))).collect()
}

/// A function by its name in lower case; none when there is none of that name.
pub(super) fn call(context: &Context<'_>, name: &str, arguments: &[Value]) -> Result<Option<Value>, Fault> {
    let dialect = context.dialect;
    let mysql = dialect == Dialect::MySql;
    let get = |at: usize| arguments.get(at).unwrap_or(&Value::Null);
    let text = |at: usize| get(at).text();
    // Most functions know nothing of the unknown.
    let lenient = matches!(
        name,
        "concat"
            | "concat_ws"
            | "nullif"
            | "isnull"
            | "greatest"
            | "least"
            | "array"
            | "elt"
            | "field"
            | "format"
            | "quote_nullable"
            | "char"
            | "now"
            | "sleep"
            | "json_build_object"
            | "row"
    );
    if !lenient && !arguments.is_empty() && arguments.contains(&Value::Null) {
        return Ok(if known(name) { Some(Value::Null) } else { None });
    }
    let long = |length: usize| if length > LONGEST { Err(Fault::TooMuch) } else { Ok(()) };
    let pad = |left: bool| -> Result<Value, Fault> {
        let (text, most) = (text(0), usize::try_from(get(1).int()).unwrap_or(0));
        long(most)?;
        let fill = if arguments.len() > 2 { get(2).text() } else { " ".to_owned() };
        let length = text.chars().count();
        if most <= length || fill.is_empty() {
            return Ok(Value::Text(text.chars().take(most).collect()));
        }
        let filled: String = fill.chars().cycle().take(most - length).collect();
        Ok(Value::Text(if left { filled + &text } else { text + &filled }))
    };
    let strip =
        |at: usize| -> Vec<char> { if arguments.len() > at { get(at).text().chars().collect() } else { vec![' '] } };
    let digest = |algorithm: &'static ring::digest::Algorithm| {
        hex::encode(ring::digest::digest(algorithm, &get(0).bytes(dialect).unwrap_or_default()))
    };
    Ok(Some(match name {
        "upper" | "ucase" => text(0).to_uppercase().into(),
        "lower" | "lcase" => text(0).to_lowercase().into(),
        "length" if mysql => get(0).bytes(dialect).map_or(0, |bytes| bytes.len()).into(),
        "octet_length" => get(0).bytes(dialect).map_or(0, |bytes| bytes.len()).into(),
        "length" | "char_length" | "character_length" => text(0).chars().count().into(),
        "concat" if mysql && arguments.contains(&Value::Null) => Value::Null,
        "concat" => {
            let joined: String = arguments.iter().map(Value::text).collect();
            long(joined.len())?;
            joined.into()
        }
        "concat_ws" => {
            let rest = arguments.iter().skip(1).filter(|value| **value != Value::Null).map(Value::text);
            let joined = rest.collect::<Vec<_>>().join(&text(0));
            long(joined.len())?;
            joined.into()
        }
        "substring" | "substr" | "mid" => {
            chars(&text(0), get(1).int(), (arguments.len() > 2).then(|| get(2).int())).into()
        }
        "left" => chars(&text(0), 1, Some(get(1).int())).into(),
        "right" => {
            let (text, count) = (text(0), usize::try_from(get(1).int()).unwrap_or(0));
            let skip = text.chars().count().saturating_sub(count);
            text.chars().skip(skip).collect::<String>().into()
        }
        "substring_index" => {
            let (text, mark, count) = (text(0), text(1), get(2).int());
            if mark.is_empty() {
                return Ok(Some("".into()));
            }
            let parts: Vec<&str> = text.split(mark.as_str()).collect();
            let many = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX).min(parts.len());
            let kept = if count >= 0 { parts.get(..many) } else { parts.get(parts.len() - many..) };
            kept.unwrap_or_default().join(&mark).into()
        }
        "split_part" => {
            let at = usize::try_from(get(2).int() - 1).unwrap_or(0);
            text(0).split(text(1).as_str()).nth(at).unwrap_or("").into()
        }
        "replace" => {
            let (from, what, with) = (text(0), text(1), text(2));
            if what.is_empty() {
                return Ok(Some(from.into()));
            }
            long(from.matches(what.as_str()).count().saturating_mul(with.len()).saturating_add(from.len()))?;
            from.replace(what.as_str(), &with).into()
        }
        "btrim" | "trim" => text(0).trim_matches(strip(1).as_slice()).into(),
        "ltrim" => text(0).trim_start_matches(strip(1).as_slice()).into(),
        "rtrim" => text(0).trim_end_matches(strip(1).as_slice()).into(),
        "reverse" => text(0).chars().rev().collect::<String>().into(),
        "repeat" => {
            let (text, count) = (text(0), usize::try_from(get(1).int()).unwrap_or(0));
            long(text.len().saturating_mul(count))?;
            text.repeat(count).into()
        }
        "space" => {
            let count = usize::try_from(get(0).int()).unwrap_or(0);
            long(count)?;
            " ".repeat(count).into()
        }
        "lpad" => pad(true)?,
        "rpad" => pad(false)?,
        "abs" => match get(0) {
            Value::Int(number) => Value::Int(number.saturating_abs()),
            other => Value::Float(other.number().abs()),
        },
        "ceil" | "ceiling" => Value::Int(float_to_int(get(0).number().ceil())),
        "floor" => Value::Int(float_to_int(get(0).number().floor())),
        "round" | "truncate" | "trunc" => {
            let places = usize::try_from(get(1).int()).unwrap_or(0).min(16);
            let number = get(0).number();
            match (places, get(0)) {
                (_, Value::Int(number)) => Value::Int(*number),
                (0, _) if arguments.len() < 2 && !mysql => Value::Float(number.round()),
                (0, _) => Value::Int(float_to_int(number)),
                _ => Value::Text(format!("{number:.places$}")),
            }
        }
        "mod" if get(1).int() == 0 => Value::Null,
        "mod" => Value::Int(get(0).int().wrapping_rem(get(1).int())),
        "power" | "pow" => Value::Float(get(0).number().powf(get(1).number())),
        "sqrt" => Value::Float(get(0).number().sqrt()),
        "sign" => Value::Int(get(0).int().signum()),
        "pi" => {
            if mysql {
                "3.141593".into()
            } else {
                Value::Float(std::f64::consts::PI)
            }
        }
        "rand" | "random" => Value::Float(rand::random::<f64>()),
        "greatest" | "least" => {
            if mysql && arguments.contains(&Value::Null) {
                return Ok(Some(Value::Null));
            }
            let wanted = if name == "greatest" { Ordering::Greater } else { Ordering::Less };
            let best = arguments
                .iter()
                .filter(|value| **value != Value::Null)
                .reduce(|best, value| if value.compare(best, dialect) == Some(wanted) { value } else { best });
            best.cloned().unwrap_or(Value::Null)
        }
        "nullif" if context.equal(get(0), get(1)) == Some(true) => Value::Null,
        "nullif" => get(0).clone(),
        "isnull" if mysql => (*get(0) == Value::Null).into(),
        "md5" => hex::encode(Md5::digest(get(0).bytes(dialect).unwrap_or_default())).into(),
        "sha" | "sha1" if mysql => digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY).into(),
        "sha2" if mysql => match get(1).int() {
            0 | 256 => digest(&ring::digest::SHA256).into(),
            384 => digest(&ring::digest::SHA384).into(),
            512 => digest(&ring::digest::SHA512).into(),
            _ => Value::Null,
        },
        "sha256" if !mysql => format!("\\x{}", digest(&ring::digest::SHA256)).into(),
        "hex" => match get(0) {
            Value::Int(number) => format!("{number:X}").into(),
            other => {
                let bytes = other.bytes(dialect).unwrap_or_default();
                long(bytes.len() * 2)?;
                hex::encode_upper(bytes).into()
            }
        },
        "unhex" => match hex::decode(text(0)) {
            Ok(bytes) => String::from_utf8(bytes).map_or_else(|error| Value::Bytes(error.into_bytes()), Value::Text),
            Err(_) => Value::Null,
        },
        "to_hex" => format!("{:x}", get(0).int()).into(),
        "bin" => format!("{:b}", get(0).int()).into(),
        "ascii" | "ord" => Value::Int(text(0).chars().next().map_or(0, |c| i64::from(u32::from(c)))),
        "char" | "chr" => {
            let codes = arguments.iter().filter_map(|value| u32::try_from(value.int()).ok());
            codes.filter_map(char::from_u32).collect::<String>().into()
        }
        "instr" | "strpos" => match text(0).to_lowercase().find(&text(1).to_lowercase()) {
            Some(at) => (text(0).get(..at).map_or(0, |before| before.chars().count()) + 1).into(),
            None => Value::Int(0),
        },
        "locate" => match text(1).to_lowercase().find(&text(0).to_lowercase()) {
            Some(at) => (text(1).get(..at).map_or(0, |before| before.chars().count()) + 1).into(),
            None => Value::Int(0),
        },
        "elt" => arguments.get(usize::try_from(get(0).int()).unwrap_or(0).max(1)).cloned().unwrap_or(Value::Null),
        "field" => {
            let at = arguments.iter().skip(1).position(|value| context.equal(get(0), value) == Some(true));
            at.map_or(0, |at| at + 1).into()
        }
        "find_in_set" => text(1).split(',').position(|item| item == text(0)).map_or(0, |at| at + 1).into(),
        "now"
        | "current_timestamp"
        | "sysdate"
        | "localtime"
        | "localtimestamp"
        | "clock_timestamp"
        | "statement_timestamp"
        | "transaction_timestamp"
        | "utc_timestamp" => shown(context.now, dialect),
        "current_date" | "curdate" | "utc_date" => context.now.format("%Y-%m-%d").to_string().into(),
        "current_time" | "curtime" => context.now.format("%H:%M:%S").to_string().into(),
        "unix_timestamp" if arguments.is_empty() => Value::Int(context.now.timestamp()),
        "unix_timestamp" => time(&text(0)).map_or(Value::Int(0), |time| Value::Int(time.and_utc().timestamp())),
        "from_unixtime" | "to_timestamp" => {
            DateTime::from_timestamp(get(0).int(), 0).map_or(Value::Null, |time| match dialect {
                Dialect::MySql => time.format("%Y-%m-%d %H:%M:%S").to_string().into(),
                Dialect::Postgres => time.format("%Y-%m-%d %H:%M:%S+00").to_string().into(),
            })
        }
        "year" | "month" | "day" | "dayofmonth" | "hour" | "minute" | "second" | "quarter" | "dayofyear" if mysql => {
            date_part(name, get(0))
        }
        "date_part" => date_part(&text(0).to_lowercase(), get(1)),
        "date" => text(0).chars().take(10).collect::<String>().into(),
        "date_add" | "adddate" => moved(&text(0), &text(1), false).unwrap_or(Value::Null),
        "date_sub" | "subdate" => moved(&text(0), &text(1), true).unwrap_or(Value::Null),
        "datediff" => match (time(&text(0)), time(&text(1))) {
            (Some(left), Some(right)) => Value::Int((left.date() - right.date()).num_days()),
            _ => Value::Null,
        },
        "date_format" | "to_char" | "date_trunc" => formatted(name, arguments),
        "to_base64" => {
            let bytes = get(0).bytes(dialect).unwrap_or_default();
            long(bytes.len() * 2)?;
            BASE64_STANDARD.encode(bytes).into()
        }
        "from_base64" => match BASE64_STANDARD.decode(text(0)) {
            Ok(bytes) => String::from_utf8(bytes).map_or_else(|error| Value::Bytes(error.into_bytes()), Value::Text),
            Err(_) => Value::Null,
        },
        "encode" if !mysql => {
            let bytes = get(0).bytes(Dialect::MySql).unwrap_or_default();
            match text(1).as_str() {
                "hex" => hex::encode(bytes).into(),
                "base64" => BASE64_STANDARD.encode(bytes).into(),
                _ => String::from_utf8_lossy(&bytes).into_owned().into(),
            }
        }
        "decode" if !mysql => {
            let bytes = match text(1).as_str() {
                "hex" => hex::decode(text(0)).ok(),
                "base64" => BASE64_STANDARD.decode(text(0)).ok(),
                _ => Some(text(0).into_bytes()),
            };
            Value::Bytes(bytes.ok_or(Fault::BadInput { kind: "bytea", text: text(0) })?)
        }
        "convert_from" => get(0).text().into(),
        "convert_to" => Value::Bytes(text(0).into_bytes()),
        "quote_ident" => {
            let plain = text(0);
            let simple = plain.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if simple { plain.into() } else { format!("\"{}\"", plain.replace('"', "\"\"")).into() }
        }
        "quote_literal" | "quote" | "quote_nullable" => format!("'{}'", text(0).replace('\'', "''")).into(),
        "initcap" => {
            let mut first = true;
            let up = |c: char| {
                let shown = if first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
                first = !c.is_alphanumeric();
                shown
            };
            text(0).chars().map(up).collect::<String>().into()
        }
        "array_to_string" => {
            let items = elements(get(0)).into_iter().filter(|item| *item != Value::Null);
            items.map(|item| item.text()).collect::<Vec<_>>().join(&text(1)).into()
        }
        "array_length" | "cardinality" | "array_upper" => match elements(get(0)).len() {
            0 => Value::Null,
            length => length.into(),
        },
        "array_lower" => Value::Int(1),
        "string_to_array" => {
            let parts: Vec<Value> = text(0).split(text(1).as_str()).map(Value::from).collect();
            array(&parts)
        }
        "uuid" | "gen_random_uuid" => uuid::Uuid::new_v4().to_string().into(),
        "sleep" | "pg_sleep" => {
            context.delay.set((context.delay.get() + get(0).number().max(0.0)).min(30.0));
            if mysql { Value::Int(0) } else { "".into() }
        }
        "benchmark" if mysql => {
            let seconds = get(0).number().max(0.0) * 4e-7;
            context.delay.set((context.delay.get() + seconds).min(30.0));
            Value::Int(0)
        }
        "load_file" if mysql => Value::Null,
        "row" => format!("({})", arguments.iter().map(Value::text).collect::<Vec<_>>().join(",")).into(),
        _ => return Ok(None),
    }))
}

fn known(name: &str) -> bool {
    // A function that is asked with nothing but nulls answers null; whether it exists is seen without them.
    !matches!(name, "sys_exec" | "sys_eval")
}

fn formatted(name: &str, arguments: &[Value]) -> Value {
    let get = |at: usize| arguments.get(at).unwrap_or(&Value::Null);
    let (value, format) = if name == "date_trunc" { (get(1), get(0)) } else { (get(0), get(1)) };
    let Some(time) = time(&value.text()) else { return value.text().trim().into() };
    let format = format.text();
    let mut shown = String::new();
    match name {
        "date_trunc" => {
            let whole = time.format("%Y-%m-%d %H:%M:%S").to_string();
            let kept = match format.to_lowercase().as_str() {
                "year" => 4,
                "month" => 7,
                "day" => 10,
                "hour" => 13,
                "minute" => 16,
                _ => 19,
            };
            shown.push_str(whole.get(..kept).unwrap_or(""));
            shown.push_str("0000-01-01 00:00:00".get(kept..).unwrap_or(""));
        }
        "date_format" => {
            let mut signs = format.chars();
            while let Some(c) = signs.next() {
                if c != '%' {
                    shown.push(c);
                    continue;
                }
                let part = match signs.next() {
                    Some('Y') => "%Y",
                    Some('y') => "%y",
                    Some('m') => "%m",
                    Some('c') => "%-m",
                    Some('d') => "%d",
                    Some('e') => "%-d",
                    Some('H') => "%H",
                    Some('h' | 'I') => "%I",
                    Some('i') => "%M",
                    Some('s' | 'S') => "%S",
                    Some('M') => "%B",
                    Some('b') => "%b",
                    Some('W') => "%A",
                    Some('a') => "%a",
                    Some('j') => "%j",
                    Some('p') => "%p",
                    Some('T') => "%H:%M:%S",
                    Some(other) => {
                        shown.push(other);
                        continue;
                    }
                    None => break,
                };
                shown.push_str(&time.format(part).to_string());
            }
        }
        _ => {
            let mut rest = format.as_str();
            let parts = [
                ("YYYY", "%Y"),
                ("MM", "%m"),
                ("DD", "%d"),
                ("HH24", "%H"),
                ("HH12", "%I"),
                ("HH", "%I"),
                ("MI", "%M"),
                ("SS", "%S"),
                ("MS", "%3f"),
                ("Month", "%B"),
                ("Mon", "%b"),
                ("Day", "%A"),
                ("Dy", "%a"),
                ("YY", "%y"),
            ];
            while let Some(c) = rest.chars().next() {
                match parts.iter().find(|(part, _)| rest.starts_with(part)) {
                    Some((part, format)) => {
                        shown.push_str(&time.format(format).to_string());
                        rest = rest.get(part.len()..).unwrap_or("");
                    }
                    None => {
                        shown.push(c);
                        rest = rest.get(c.len_utf8()..).unwrap_or("");
                    }
                }
            }
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_texts() {
        assert_eq!(chars("abcdef", 2, Some(3)), "bcd");
        assert_eq!(chars("abcdef", -2, None), "ef");
        assert_eq!(chars("abc", i64::MAX, Some(i64::MAX)), "");
        assert_eq!(chars("abc", i64::MIN, Some(2)), "");
    }
}
