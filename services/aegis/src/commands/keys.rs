//! `aegis keys …`: straight on identity's database. Running processes notice within seconds.

use std::process::ExitCode;

use aegis_db::{Db, now};
use aegis_identity::{KeyRow, admin};
use anyhow::Result;

use crate::{cli::KeysCommand, commands::migrate, output::Output, roles::Role, settings::Settings};

/// Runs it.
pub async fn run(settings: &Settings, command: KeysCommand, output: Output) -> Result<ExitCode> {
    let db = migrate::up_to_date(settings, Role::Identity).await?;
    let result = execute(&db, command, output).await;
    db.close().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn execute(db: &Db, command: KeysCommand, output: Output) -> Result<()> {
    match command {
        KeysCommand::List => {
            let keys = admin::list_keys(db).await?;
            if output.json {
                println!("{}", serde_json::Value::from(keys.iter().map(row).collect::<Vec<_>>()));
                return Ok(());
            }
            for key in keys {
                output.row(!has_ended(&key), &key.kid, &state(&key));
            }
        }
        KeysCommand::Rotate { compromised } => {
            let kid = admin::rotate_keys(db, compromised).await?;
            if output.json {
                println!("{}", serde_json::json!({ "kid": kid, "compromised": compromised }));
            } else if compromised {
                output.row(true, &kid, "signs from now on; all tokens have ended, everybody signs in again");
            } else {
                output.row(true, &kid, "signs within seconds; tokens of the old key hold until they expire");
            }
        }
    }
    Ok(())
}

fn has_ended(key: &KeyRow) -> bool {
    key.retire_at.is_some_and(|at| at <= now())
}

fn state(key: &KeyRow) -> String {
    let day = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    let made = day(key.created_at);
    match key.retire_at {
        None => format!("signs; made {made}"),
        Some(at) if has_ended(key) => format!("ended {}; made {made}", day(at)),
        Some(at) => format!("verifies until {}; made {made}", day(at)),
    }
}

fn row(key: &KeyRow) -> serde_json::Value {
    serde_json::json!({ "kid": key.kid, "created_at": key.created_at, "retire_at": key.retire_at })
}
