//! Times and spans of time.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, TimeDelta, Timelike, Utc};

use super::super::{Dialect, Value};

/// A time in the server's writing.
pub(in crate::decoys::sql) fn time(text: &str) -> Option<NaiveDateTime> {
    let text = text.trim();
    let bare = text.split_once('+').map_or(text, |(bare, _)| bare).trim_end_matches('Z');
    NaiveDateTime::parse_from_str(bare, "%Y-%m-%d %H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(bare, "%Y-%m-%dT%H:%M:%S%.f"))
        .ok()
        .or_else(|| NaiveDate::parse_from_str(bare, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
}

/// A time plus or minus a span such as `7 day`.
pub(in crate::decoys::sql) fn moved(from: &str, span: &str, back: bool) -> Option<Value> {
    let time = time(from)?;
    let mut words = span.split_whitespace();
    let mut moved = time;
    while let (Some(count), Some(unit)) = (words.next(), words.next()) {
        let count: i64 = count.parse().ok()?;
        let count = if back { count.checked_neg()? } else { count };
        let months = |factor: u32| u32::try_from(count.unsigned_abs()).ok()?.checked_mul(factor).map(Months::new);
        moved = match unit.trim_end_matches('s') {
            "year" if count < 0 => moved.checked_sub_months(months(12)?)?,
            "year" => moved.checked_add_months(months(12)?)?,
            "month" | "mon" if count < 0 => moved.checked_sub_months(months(1)?)?,
            "month" | "mon" => moved.checked_add_months(months(1)?)?,
            "week" if count < 0 => moved.checked_sub_days(Days::new(count.unsigned_abs().checked_mul(7)?))?,
            "week" => moved.checked_add_days(Days::new(count.unsigned_abs().checked_mul(7)?))?,
            "day" if count < 0 => moved.checked_sub_days(Days::new(count.unsigned_abs()))?,
            "day" => moved.checked_add_days(Days::new(count.unsigned_abs()))?,
            "hour" => moved.checked_add_signed(TimeDelta::try_hours(count)?)?,
            "minute" | "min" => moved.checked_add_signed(TimeDelta::try_minutes(count)?)?,
            "second" | "sec" => moved.checked_add_signed(TimeDelta::try_seconds(count)?)?,
            _ => return None,
        };
    }
    Some(Value::Text(moved.format("%Y-%m-%d %H:%M:%S").to_string()))
}

/// A part of a time.
pub(in crate::decoys::sql) fn date_part(field: &str, value: &Value) -> Value {
    let Some(time) = time(&value.text()) else { return Value::Null };
    Value::Int(match field {
        "year" => i64::from(time.year()),
        "month" => i64::from(time.month()),
        "day" | "dayofmonth" => i64::from(time.day()),
        "hour" => i64::from(time.hour()),
        "minute" => i64::from(time.minute()),
        "second" => i64::from(time.second()),
        "dow" => i64::from(time.weekday().num_days_from_sunday()),
        "doy" | "dayofyear" => i64::from(time.ordinal()),
        "quarter" => i64::from(time.month0() / 3 + 1),
        "epoch" => time.and_utc().timestamp(),
        _ => return Value::Null,
    })
}

/// The time now, as the server shows it.
pub(super) fn shown(now: DateTime<Utc>, dialect: Dialect) -> Value {
    Value::Text(match dialect {
        Dialect::MySql => now.format("%Y-%m-%d %H:%M:%S").to_string(),
        Dialect::Postgres => now.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!(moved("2024-01-31 10:00:00", "1 month", false), Some("2024-02-29 10:00:00".into()));
        assert_eq!(moved("2024-01-31", "1 day", true), Some("2024-01-30 00:00:00".into()));
        assert_eq!(moved("2024-01-31", "9223372036854775807 week", false), None);
    }
}
