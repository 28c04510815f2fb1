//! `aegis user …`.

use std::{io::Read, process::ExitCode};

use aegis_error::Failure;
use aegis_proto::identity::v1::{CreateUserRequest, ListUsersRequest, UpdateUserRequest, User};
use anyhow::{Context, Result, bail};

use crate::{cli::UserCommand, commands::access::Access, output::Output, settings::Settings};

/// Letters and digits that are not mistaken for one another.
const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Runs it.
pub async fn run(settings: &Settings, command: UserCommand, output: Output) -> Result<ExitCode> {
    let access = Access::open(settings).await?;
    let result = execute(&access, command, output).await;
    access.close().await;
    result.map(|()| ExitCode::SUCCESS)
}

async fn execute(access: &Access, command: UserCommand, output: Output) -> Result<()> {
    let ctx = access.ctx().await?;
    let mut identity = access.clients.identity()?;
    match command {
        UserCommand::List => {
            let users = users(access).await?;
            if output.json {
                let rows: Vec<_> = users.iter().map(row).collect();
                println!("{}", serde_json::Value::from(rows));
                return Ok(());
            }
            for user in users {
                let state = format!("{:<10} {}", user.role, if user.is_active { "active" } else { "disabled" });
                output.row(user.is_active, &user.username, &state);
            }
        }
        UserCommand::Add { username, role, email, password_stdin } => {
            let (password, generated) = password(password_stdin)?;
            let request = CreateUserRequest {
                username,
                email,
                password: password.clone(),
                role,
                must_change_password: generated,
            };
            let answer = identity.create_user(ctx.outgoing(request)).await.map_err(Failure::from)?.into_inner();
            told(output, &answer.user.unwrap_or_default(), generated.then_some(password), "added");
        }
        UserCommand::ResetPassword { username, password_stdin } => {
            let (password, generated) = password(password_stdin)?;
            let request = UpdateUserRequest {
                id: find(access, &username).await?.id,
                password: Some(password.clone()),
                must_change_password: Some(generated),
                ..UpdateUserRequest::default()
            };
            let answer = identity.update_user(ctx.outgoing(request)).await.map_err(Failure::from)?.into_inner();
            told(output, &answer.user.unwrap_or_default(), generated.then_some(password), "has a new password");
        }
        UserCommand::Disable { username } => {
            set_active(access, &username, false, output).await?;
        }
        UserCommand::Enable { username } => {
            set_active(access, &username, true, output).await?;
        }
    }
    Ok(())
}

async fn set_active(access: &Access, username: &str, active: bool, output: Output) -> Result<()> {
    let request = UpdateUserRequest {
        id: find(access, username).await?.id,
        is_active: Some(active),
        ..UpdateUserRequest::default()
    };
    let ctx = access.ctx().await?;
    let answer =
        access.clients.identity()?.update_user(ctx.outgoing(request)).await.map_err(Failure::from)?.into_inner();
    told(output, &answer.user.unwrap_or_default(), None, if active { "is enabled" } else { "is disabled" });
    Ok(())
}

async fn users(access: &Access) -> Result<Vec<User>> {
    let ctx = access.ctx().await?;
    let mut identity = access.clients.identity()?;
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListUsersRequest { page_size: 1000, page_token, skip: 0 };
        let page = identity.list_users(ctx.outgoing(request)).await.map_err(Failure::from)?.into_inner();
        all.extend(page.users);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = page.next_page_token;
    }
}

async fn find(access: &Access, username: &str) -> Result<User> {
    users(access)
        .await?
        .into_iter()
        .find(|user| user.username.eq_ignore_ascii_case(username))
        .with_context(|| format!("there is no user {username}: see `aegis user list`"))
}

/// A password from standard input, or a generated one (then true).
fn password(from_stdin: bool) -> Result<(String, bool)> {
    if from_stdin {
        let mut text = String::new();
        std::io::stdin().take(1024).read_to_string(&mut text).context("cannot read the password")?;
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        if text.is_empty() {
            bail!("no password came on standard input");
        }
        return Ok((text, false));
    }
    let generated =
        (0..20).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect::<String>();
    Ok((generated, true))
}

fn row(user: &User) -> serde_json::Value {
    serde_json::json!({
        "id": user.id, "username": user.username, "email": user.email, "role": user.role,
        "is_active": user.is_active, "must_change_password": user.must_change_password,
    })
}

fn told(output: Output, user: &User, generated: Option<String>, what: &str) {
    if output.json {
        let mut row = row(user);
        if let Some(password) = generated {
            row["password"] = password.into();
        }
        println!("{row}");
        return;
    }
    output.done(&format!("{} ({}) {what}", user.username, user.role));
    if let Some(password) = generated {
        println!("  password: {password}   (to be changed at the first login)");
    }
}
