//! When something is due: cron expressions and recurrences in a time zone, free of clocks and databases.

mod cron;
mod recurrence;

pub use cron::{next_after, parse, problem, time_zone};
pub use recurrence::Recurrence;
