//! Rows that a bench needs by the thousand or the million, written straight into the product's database. The product
//! must be stopped, but for people.

mod logs;
mod postgres;
mod sqlite;

use std::time::Instant;

use anyhow::Result;

pub use logs::{ATTACKERS, Bare};

use super::{
    figures::{Figures, grouped},
    home::Home,
};

/// Makes people `person-00000`, `person-00001` … with the password of `admin`.
pub async fn users(home: &Home, count: usize) -> Result<()> {
    let count = i64::try_from(count)?;
    if home.is_postgres() { postgres::users(home, count).await } else { sqlite::users(home, count).await }
}

/// Makes tests of all techniques by the first twenty people over three years, and a campaign of a thousand of them.
/// Indexes and triggers are out of force meanwhile; then the tally is made anew.
pub async fn tests(home: &Home, count: usize) -> Result<()> {
    let count = i64::try_from(count)?;
    if home.is_postgres() { postgres::tests(home, count).await } else { sqlite::tests(home, count).await }
}

/// The same, and how long it took is a figure.
pub async fn timed_tests(home: &Home, count: usize, figures: &mut Figures) -> Result<()> {
    let began = Instant::now();
    tests(home, count).await?;
    let name = format!("seeding {} tests", grouped(count));
    figures.add(&name, began.elapsed().as_secs_f64(), "s", Some(("<", 120.0)));
    Ok(())
}

/// Makes a threat actor that uses 500 techniques, each with two templates.
pub async fn actor(home: &Home) -> Result<()> {
    if home.is_postgres() { postgres::actor(home).await } else { sqlite::actor(home).await }
}

/// Makes the newest snapshot, and its point of the score history, again for each of so many weeks before now.
pub async fn snapshots(home: &Home, weeks: usize) -> Result<()> {
    let weeks = i64::try_from(weeks)?;
    if home.is_postgres() { postgres::snapshots(home, weeks).await } else { sqlite::snapshots(home, weeks).await }
}

/// Makes events of decoys up to so many, the newest of 30 days, and attackers up to [`ATTACKERS`], like those that the
/// product has made of what came in before. How many events there are then, and how many of them are new.
pub async fn events(home: &Home, upto: u64) -> Result<(u64, u64)> {
    logs::write(home, upto).await
}
