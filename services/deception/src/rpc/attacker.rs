//! The gRPC side of attackers: profiles, commands, files, sessions, bounty.

use std::pin::Pin;

use aegis_auth::OpCtx;
use aegis_error::Failure;
use aegis_proto::deception::v1::{self as pb, attacker_service_server::AttackerService};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{Rpc, log, timestamp};
use crate::{
    app::{attackers, follow::at, sessions::Told},
    domain::{behavior::Class, event::Log, profile::Shown},
    store::{attackers::Technique, bounty::Bounty},
};

/// Most services and deckies of an attacker in a list.
const IN_BRIEF: usize = 50;
/// Most fingerprints of an attacker in a list.
const FINGERPRINTS_IN_BRIEF: usize = 10;

#[tonic::async_trait]
impl AttackerService for Rpc {
    async fn list_attackers(
        &self,
        request: Request<pb::ListAttackersRequest>,
    ) -> Result<Response<pb::ListAttackersResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListAttackersRequest { page_size, page_token, skip, search, service, sort_by } = request.into_inner();
        let app = &self.app;
        let result = app.list_attackers(&ctx, page_size, &page_token, skip, &search, &service, &sort_by).await;
        let (rows, next_page_token, total_size) = app.outbox.audited(&app.db, &ctx, "ListAttackers", result).await?;
        let attackers = rows.into_iter().map(in_brief).collect();
        Ok(Response::new(pb::ListAttackersResponse { attackers, next_page_token, total_size }))
    }

    async fn get_attacker(
        &self,
        request: Request<pb::GetAttackerRequest>,
    ) -> Result<Response<pb::GetAttackerResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let app = &self.app;
        let result = app.get_attacker(&ctx, &request.into_inner().uuid).await;
        let told = app.outbox.audited(&app.db, &ctx, "GetAttacker", result).await?;
        Ok(Response::new(pb::GetAttackerResponse { attacker: Some(attacker(told)) }))
    }

    async fn list_attacker_commands(
        &self,
        request: Request<pb::ListAttackerCommandsRequest>,
    ) -> Result<Response<pb::ListAttackerCommandsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListAttackerCommandsRequest { uuid, page_size, page_token, skip, service } = request.into_inner();
        let app = &self.app;
        let result = app.list_attacker_commands(&ctx, &uuid, page_size, &page_token, skip, &service).await;
        let (logs, next_page_token, total_size) =
            app.outbox.audited(&app.db, &ctx, "ListAttackerCommands", result).await?;
        let commands = logs.iter().map(command).collect();
        Ok(Response::new(pb::ListAttackerCommandsResponse { commands, next_page_token, total_size }))
    }

    async fn list_attacker_artifacts(
        &self,
        request: Request<pb::ListAttackerArtifactsRequest>,
    ) -> Result<Response<pb::ListAttackerArtifactsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListAttackerArtifactsRequest { uuid, page_size, page_token, skip } = request.into_inner();
        let app = &self.app;
        let result = app.list_attacker_artifacts(&ctx, &uuid, page_size, &page_token, skip).await;
        let (logs, next_page_token, total_size) =
            app.outbox.audited(&app.db, &ctx, "ListAttackerArtifacts", result).await?;
        let logs = logs.iter().map(log::message).collect();
        Ok(Response::new(pb::ListAttackerArtifactsResponse { logs, next_page_token, total_size }))
    }

    async fn list_attacker_sessions(
        &self,
        request: Request<pb::ListAttackerSessionsRequest>,
    ) -> Result<Response<pb::ListAttackerSessionsResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListAttackerSessionsRequest { uuid, page_size, page_token, skip } = request.into_inner();
        let app = &self.app;
        let result = app.list_attacker_sessions(&ctx, &uuid, page_size, &page_token, skip).await;
        let (rows, next_page_token, total_size) =
            app.outbox.audited(&app.db, &ctx, "ListAttackerSessions", result).await?;
        let sessions = rows.into_iter().map(session).collect();
        Ok(Response::new(pb::ListAttackerSessionsResponse { sessions, next_page_token, total_size }))
    }

    type ReadRecordingStream = Pin<Box<dyn Stream<Item = Result<pb::ReadRecordingResponse, Status>> + Send>>;

    async fn read_recording(
        &self,
        request: Request<pb::ReadRecordingRequest>,
    ) -> Result<Response<Self::ReadRecordingStream>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ReadRecordingRequest { uuid, session_id } = request.into_inner();
        let app = &self.app;
        let result = app.read_recording(&ctx, &uuid, &session_id).await;
        let bytes = app.outbox.audited(&app.db, &ctx, "ReadRecording", result).await?;
        let chunks = bytes.map(|chunk| match chunk {
            Ok(chunk) => Ok(pb::ReadRecordingResponse { chunk: chunk.to_vec() }),
            Err(error) => Err(Status::from(Failure::from(error))),
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn list_bounty(
        &self,
        request: Request<pb::ListBountyRequest>,
    ) -> Result<Response<pb::ListBountyResponse>, Status> {
        let ctx = OpCtx::of(&request)?;
        let pb::ListBountyRequest { page_size, page_token, skip, bounty_type, search } = request.into_inner();
        let app = &self.app;
        let result = app.list_bounty(&ctx, page_size, &page_token, skip, &bounty_type, &search).await;
        let (rows, next_page_token, total_size) = app.outbox.audited(&app.db, &ctx, "ListBounty", result).await?;
        let bounties = rows.into_iter().map(bounty).collect();
        Ok(Response::new(pb::ListBountyResponse { bounties, next_page_token, total_size }))
    }
}

/// As lists show it: a thousand of them fit into one message.
fn in_brief((mut row, techniques): attackers::Told) -> pb::Attacker {
    let services = count(row.profile.services.len());
    let shown = &mut row.profile.0;
    shown.services.truncate(IN_BRIEF);
    shown.deckies.truncate(IN_BRIEF);
    shown.fingerprints.truncate(FINGERPRINTS_IN_BRIEF);
    pb::Attacker { service_count: services, ..attacker((row, techniques)) }
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn attacker((row, techniques): attackers::Told) -> pb::Attacker {
    let shown = row.profile.0;
    pb::Attacker {
        uuid: row.id.to_string(),
        ip: row.ip,
        first_seen: Some(timestamp(at(row.first_seen))),
        last_seen: Some(timestamp(at(row.last_seen))),
        event_count: row.event_count,
        service_count: count(shown.services.len()),
        decky_count: row.decky_count,
        traversal_path: shown.traversal_path(),
        is_traversal: row.decky_count >= 2,
        bounty_count: row.bounty_count,
        credential_count: row.credential_count,
        fingerprints: shown
            .fingerprints
            .iter()
            .map(|(kind, value)| pb::Fingerprint { kind: kind.clone(), value: value.clone() })
            .collect(),
        techniques: techniques.into_iter().map(technique).collect(),
        behavior: Some(behavior(&shown)),
        deckies: shown.deckies.into_iter().map(|contact| contact.decky).collect(),
        services: shown.services,
    }
}

fn technique(technique: Technique) -> pb::ShownTechnique {
    pb::ShownTechnique {
        mitre_id: technique.technique,
        count: technique.count,
        first_seen: Some(timestamp(at(technique.first_seen))),
        last_seen: Some(timestamp(at(technique.last_seen))),
        rules: technique.rules.0,
    }
}

fn behavior(shown: &Shown) -> pb::Behavior {
    let stats = &shown.stats;
    let beacon = shown.class == Class::Beaconing;
    pb::Behavior {
        event_count: i64::try_from(stats.event_count).unwrap_or(i64::MAX),
        duration_s: stats.duration_s,
        mean_iat_s: stats.mean_iat_s,
        median_iat_s: stats.median_iat_s,
        stdev_iat_s: stats.stdev_iat_s,
        min_iat_s: stats.min_iat_s,
        max_iat_s: stats.max_iat_s,
        cv: stats.cv,
        behavior_class: shown.class.as_str().to_owned(),
        beacon_interval_s: stats.mean_iat_s.filter(|_| beacon),
        beacon_jitter_pct: stats.cv.filter(|_| beacon).map(|cv| (cv * 1e8).round() / 1e6),
        tool_guesses: shown.tool_guesses(),
        phase_sequence: shown.phase_sequence().into_iter().map(str::to_owned).collect(),
        os_guess: shown.os_guess().to_owned(),
    }
}

fn command(log: &Log) -> pb::Command {
    let text = log.field("command").or_else(|| log.field("query")).unwrap_or(&log.msg);
    pb::Command {
        timestamp: Some(timestamp(log.at)),
        decky: log.decky.clone(),
        service: log.service.clone(),
        command: text.to_owned(),
        session_id: log.session_id.clone(),
        techniques: log.techniques().map(str::to_owned).collect(),
    }
}

fn session((session, recorded): Told) -> pb::Session {
    pb::Session {
        id: session.id,
        decky: session.decky,
        service: session.service,
        started_at: Some(timestamp(at(session.started_at))),
        ended_at: session.ended_at.map(|ended| timestamp(at(ended))),
        event_count: session.event_count,
        command_count: session.command_count,
        username: session.username.unwrap_or_default(),
        recorded,
    }
}

fn bounty(bounty: Bounty) -> pb::Bounty {
    pb::Bounty {
        id: bounty.id,
        payload_json: bounty.payload_json(),
        bounty_type: bounty.bounty_type,
        attacker_ip: bounty.attacker_ip,
        decky: bounty.decky,
        service: bounty.service,
        first_seen: Some(timestamp(at(bounty.first_seen))),
        last_seen: Some(timestamp(at(bounty.last_seen))),
        count: bounty.count,
    }
}
