//! `aegis user …`: straight on identity's database, for operators who may have lost every password.

use std::{io::Read, process::ExitCode};

use aegis_db::Db;
use aegis_identity::{User, admin};
use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};

use crate::{cli::UserCommand, commands::migrate, output::Output, roles::Role, settings::Settings};

/// Runs it.
pub async fn run(settings: &Settings, command: UserCommand, output: Output) -> Result<ExitCode> {
    let db = migrate::up_to_date(settings, Role::Identity).await?;
    let result = execute(&db, command, output).await;
    db.close().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn execute(db: &Db, command: UserCommand, output: Output) -> Result<()> {
    match command {
        UserCommand::List => {
            let users = admin::list_users(db).await?;
            if output.json {
                println!("{}", serde_json::Value::from(users.iter().map(row).collect::<Vec<_>>()));
                return Ok(());
            }
            for user in users {
                let state = format!("{:<10} {}", user.role, if user.is_active { "active" } else { "disabled" });
                output.row(user.is_active, &user.username, &state);
            }
        }
        UserCommand::Add { username, role, email, password_stdin } => {
            let password = password(password_stdin)?;
            let changed = admin::create_user(db, &username, &role, email, password).await?;
            told(output, &changed.user, changed.password, "is added");
        }
        UserCommand::ResetPassword { username, password_stdin } => {
            let changed = admin::reset_password(db, &username, password(password_stdin)?).await?;
            told(output, &changed.user, changed.password, "has a new password");
        }
        UserCommand::Disable { username } => {
            told(output, &admin::set_active(db, &username, false).await?, None, "is disabled");
        }
        UserCommand::Enable { username } => {
            told(output, &admin::set_active(db, &username, true).await?, None, "is enabled");
        }
    }
    Ok(())
}

/// The password on standard input, if it is to come from there.
fn password(from_stdin: bool) -> Result<Option<SecretString>> {
    if !from_stdin {
        return Ok(None);
    }
    let mut text = String::new();
    std::io::stdin().take(1024).read_to_string(&mut text).context("cannot read the password")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("no password came on standard input");
    }
    Ok(Some(text.to_owned().into()))
}

fn row(user: &User) -> serde_json::Value {
    serde_json::json!({
        "id": user.id, "username": user.username, "email": user.email, "role": user.role,
        "is_active": user.is_active, "must_change_password": user.must_change_password,
    })
}

fn told(output: Output, user: &User, made_up: Option<SecretString>, what: &str) {
    if output.json {
        let mut row = row(user);
        if let Some(password) = made_up {
            row["password"] = password.expose_secret().into();
        }
        println!("{row}");
        return;
    }
    output.done(&format!("{} ({}) {what}", user.username, user.role));
    if let Some(password) = made_up {
        println!("  password: {}   (to be changed at the first login)", password.expose_secret());
    }
}
