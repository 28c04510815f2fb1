//! `aegis migrate`.

use std::process::ExitCode;

use aegis_db::Db;
use anyhow::{Context, Result};

use crate::{output::Output, roles::Role, settings::Settings, stores};

/// Brings the databases of these roles, or of all, up to date.
pub async fn run(settings: &Settings, roles: &[Role], output: Output) -> Result<ExitCode> {
    for role in Role::SERVICES {
        if !roles.is_empty() && !roles.contains(&role) {
            continue;
        }
        up_to_date(settings, role).await?.close().await;
        output.done(&format!("{role} is up to date"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens a service's database and brings its tables up to date.
pub async fn up_to_date(settings: &Settings, role: Role) -> Result<Db> {
    let db = stores::database(settings, role).await?;
    db.migrate(&stores::migrations(role))
        .await
        .with_context(|| format!("cannot bring the tables of {role} up to date"))?;
    Ok(db)
}
