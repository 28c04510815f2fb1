//! `aegis audit …`.

use std::process::ExitCode;

use aegis_error::Failure;
use aegis_proto::identity::v1::VerifyAuditChainRequest;
use anyhow::Result;

use crate::{cli::AuditCommand, commands::access::Access, output::Output, settings::Settings};

/// Runs it; 1 when the chain is broken.
pub async fn run(settings: &Settings, command: AuditCommand, output: Output) -> Result<ExitCode> {
    let AuditCommand::Verify = command;
    let access = Access::open(settings).await?;
    let ctx = access.ctx().await?;
    let mut request = ctx.outgoing(VerifyAuditChainRequest {});
    request.set_timeout(std::time::Duration::from_secs(600));
    let answer = access.clients.audit()?.verify_audit_chain(request).await.map_err(Failure::from)?.into_inner();
    access.close().await;
    if output.json {
        println!(
            "{}",
            serde_json::json!({
                "valid": answer.valid, "records": answer.records, "first_broken_seq": answer.first_broken_seq,
                "reason": answer.reason, "head": answer.head,
            })
        );
    }
    if answer.valid {
        output.done(&format!("{} records, unbroken; head {}", answer.records, answer.head));
        return Ok(ExitCode::SUCCESS);
    }
    output.error(&format!("the chain breaks at record {}: {}", answer.first_broken_seq, answer.reason));
    Ok(ExitCode::from(1))
}
