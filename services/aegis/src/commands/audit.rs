//! `aegis audit …`: straight on identity's database, which may be a copy.

use std::process::ExitCode;

use aegis_identity::admin;
use anyhow::Result;

use crate::{cli::AuditCommand, commands::migrate, output::Output, roles::Role, settings::Settings};

/// Runs it; 1 when the chain is broken.
pub async fn run(settings: &Settings, command: AuditCommand, output: Output) -> Result<ExitCode> {
    let AuditCommand::Verify = command;
    let db = migrate::up_to_date(settings, Role::Identity).await?;
    let verdict = admin::verify_audit(&db).await;
    db.close().await;
    let (records, broken) = verdict?;
    if output.json {
        let broken_seq = broken.as_ref().map(|found| found.seq);
        let reason = broken.as_ref().map(|found| found.reason);
        println!(
            "{}",
            serde_json::json!({ "valid": broken.is_none(), "records": records, "first_broken_seq": broken_seq, "reason": reason })
        );
    }
    match broken {
        None => {
            output.done(&format!("{records} records, unbroken"));
            Ok(ExitCode::SUCCESS)
        }
        Some(found) => {
            output.error(&format!("the chain breaks at record {}: {}", found.seq, found.reason));
            Ok(ExitCode::from(1))
        }
    }
}
