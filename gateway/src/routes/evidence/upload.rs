//! Bytes of evidence in: from a multipart body to the service, chunk by chunk.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use aegis_error::{Code, Failure, Fields};
use aegis_proto::evidence::v1::{
    UploadEvidenceRequest, UploadEvidenceResponse, UploadHeader, upload_evidence_request::Part,
};
use axum::{
    body::{Body, BodyDataStream},
    extract::{
        FromRequest, Multipart, Request, State,
        multipart::{Field, MultipartError},
    },
};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, Stream, channel::mpsc};
use http::{
    StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_LENGTH},
};
use percent_encoding::percent_decode_str;
use tokio::task::JoinError;
use tracing::Instrument;
use utoipa::ToSchema;

use super::{Evidence, Links, VERSION};
use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Id, is_type, too_large},
    openapi::responses::{Conflict, NotFound},
    state::Gateway,
    values::Team,
};

/// Largest chunk of a message.
const CHUNK: usize = 256 * 1024;
/// Smaller pieces, as slow or careful clients send them, are put together to this; larger ones are not copied.
const PIECE: usize = 64 * 1024;
/// Chunks on their way besides the one that is being sent; more than that and the client waits.
const IN_FLIGHT: usize = 1;
/// As much of a file is held back while `team` or `notes` may still come after it.
const HELD_BACK: usize = 1024 * 1024;
/// Longest `team` or `notes`, bytes; the service has closer limits.
const MAX_TEXT: usize = 64 * 1024;
/// How long the service may take to clean up after an upload that failed here.
const CLEAN_UP: Duration = Duration::from_secs(5);
/// What is read and thrown away of a file that was refused, so that the client hears why instead of a reset.
const MAX_DRAINED: usize = 32 * 1024 * 1024;

/// A file and what is known of it.
#[derive(ToSchema)]
#[allow(dead_code, reason = "read as a stream, see `feed`; this is its schema")]
#[schema(example = json!({"file": "the bytes of the file", "team": "red", "notes": "Taken on the second host"}))]
pub struct Upload {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    #[schema(value_type = Team, required = false)]
    team: Option<Team>,
    #[schema(value_type = String, required = false)]
    notes: Option<String>,
}

/// Upload evidence
///
/// The field `file` has a file name and the bytes; `team` and `notes` may be left out. They should come before `file`:
/// after it they are taken only when the file is smaller than 1 MiB, because larger files are passed on while they
/// arrive. The same bytes twice on a test are 409. Not for viewers; not once the test is validated.
#[utoipa::path(post, path = "/api/v1/tests/{id}/evidence", tag = "Evidence",
    params(("id" = Uuid, Path, description = "Test")),
    request_body(content = Upload, content_type = "multipart/form-data"),
    extensions(("x-roles" = json!(["admin", "red_tech", "blue_tech", "red_lead", "blue_lead"]))),
    responses(
        (status = 201, description = "Stored", body = Evidence),
        (status = 404, response = NotFound),
        (status = 409, response = Conflict),
    ))]
pub async fn upload_evidence(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Id,
    request: Request,
) -> Result<Answer, Problem> {
    let limit = gateway.deps.config.max_upload_bytes;
    if !is_type(request.headers(), "multipart/form-data") {
        let failure = Failure::new(Code::UnsupportedMediaType, "the Content-Type must be multipart/form-data");
        return Err(failure.into());
    }
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let links = Links::of(&gateway, request.headers());
    let request = request.map(|body| Body::from_stream(Paced { bytes: body.into_data_stream(), paused: true }));
    let mut body = Multipart::from_request(request, &())
        .await
        .map_err(|_| Problem::invalid("body", "the Content-Type names no boundary"))?;

    let (sender, messages) = mpsc::channel(IN_FLIGHT);
    let mut client = gateway.deps.evidence.clone();
    let outgoing = caller.ctx().outgoing(messages);
    // In a task of its own: where the service is in this process, it works beside the reading of the body. And when
    // the client goes away, which ends this handler wherever it is, the service still comes to the end of the stream
    // and takes away what it has.
    let mut call = tokio::spawn(async move { client.upload_evidence(outgoing).await }.in_current_span());
    let header = UploadHeader { test_id: id.to_string(), ..Default::default() };
    let mut feed = Feed { sender, header, begun: false, gathered: BytesMut::new() };
    // The service may refuse before all is read: then there is no point in reading on.
    let fed = tokio::select! {
        fed = feed.all(&mut body, limit) => fed,
        answer = &mut call => {
            drain(&mut body).await;
            return stored(answer, &links);
        }
    };
    drop(feed);
    match fed {
        Ok(()) => stored(call.await, &links),
        Err(stop) => {
            // The stream has ended without `finish`: the service takes away what it has.
            let answer = tokio::time::timeout(CLEAN_UP, call).await;
            drain(&mut body).await;
            match (stop, answer) {
                (Stop::Refused(problem), _) => Err(problem),
                (Stop::Closed, Ok(answer)) => stored(answer, &links),
                (Stop::Closed, Err(_)) => Err(Failure::unavailable("evidence").into()),
            }
        }
    }
}

type Stored = Result<tonic::Response<UploadEvidenceResponse>, tonic::Status>;

fn stored(answer: Result<Stored, JoinError>, links: &Links) -> Result<Answer, Problem> {
    let answer = answer.map_err(Problem::internal)??.into_inner();
    let file = links.evidence(answer.evidence.ok_or_else(Problem::empty)?);
    Ok(Answer::created(&format!("/api/v1/evidence/{}", file.id), &file)?.versioned(VERSION))
}

/// A body of which no more is taken than can be passed on. The reader of multipart bodies takes all that is there at
/// the moment, and from a fast client there is always more.
struct Paced {
    bytes: BodyDataStream,
    /// Nothing was taken since it was last asked.
    paused: bool,
}

impl Stream for Paced {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.paused {
            self.paused = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.bytes).poll_next(context);
        self.paused = next.is_pending();
        next
    }
}

/// Why an upload ends before its end.
enum Stop {
    /// The body is not what it should be.
    Refused(Problem),
    /// The service takes no more; its answer says why.
    Closed,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Stop {
        Stop::Refused(problem)
    }
}

impl From<MultipartError> for Stop {
    fn from(error: MultipartError) -> Stop {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let failure = Failure::new(Code::TooLarge, "a part of the body is too large");
            return Stop::Refused(failure.into());
        }
        Stop::Refused(Problem::invalid("body", "is not a whole multipart body"))
    }
}

struct Feed {
    sender: mpsc::Sender<UploadEvidenceRequest>,
    header: UploadHeader,
    /// The header was sent.
    begun: bool,
    /// Small pieces that are not sent yet.
    gathered: BytesMut,
}

impl Feed {
    /// Sends the whole body on.
    async fn all(&mut self, body: &mut Multipart, limit: u64) -> Result<(), Stop> {
        let mut held: Option<BytesMut> = None;
        while let Some(field) = body.next_field().await? {
            let name = field.name().unwrap_or_default().chars().take(100).collect::<String>();
            match name.as_str() {
                "file" if held.is_some() || self.begun => return Err(again("file")),
                "file" => held = self.file(field, limit).await?,
                "team" | "notes" if self.begun => {
                    let problem = "must come before a file of more than 1 MiB";
                    return Err(Problem::invalid(name, problem).into());
                }
                "team" if self.header.team.is_some() => return Err(again("team")),
                "team" => self.header.team = Some(team(field).await?),
                "notes" if self.header.notes.is_some() => return Err(again("notes")),
                "notes" => self.header.notes = Some(text("notes", field).await?).filter(|notes| !notes.is_empty()),
                _ => {
                    return Err(Problem::invalid(name, "is not known; known here: file, team, notes").into());
                }
            }
        }
        if let Some(bytes) = held {
            self.begin(bytes).await?;
        }
        if !self.begun {
            return Err(Problem::invalid("file", "is required").into());
        }
        self.flush().await?;
        self.send(Part::Finish(true)).await
    }

    /// Reads the file. A small one is answered, a large one sent.
    async fn file(&mut self, mut field: Field<'_>, limit: u64) -> Result<Option<BytesMut>, Stop> {
        let Some(file_name) = file_name(&field).filter(|name| !name.trim().is_empty()) else {
            return Err(Problem::invalid("file", "must be a file with a name").into());
        };
        self.header.file_name = file_name.chars().take(1024).collect();
        let (mut held, mut size) = (BytesMut::new(), 0_u64);
        while let Some(chunk) = field.chunk().await? {
            size += chunk.len() as u64;
            if size > limit {
                return Err(too_large(limit).into());
            }
            if self.begun {
                self.bytes(chunk).await?;
                continue;
            }
            held.extend_from_slice(&chunk);
            if size > HELD_BACK as u64 {
                self.begin(std::mem::take(&mut held)).await?;
            }
        }
        Ok((!self.begun).then_some(held))
    }

    async fn begin(&mut self, held: BytesMut) -> Result<(), Stop> {
        self.begun = true;
        self.send(Part::Header(self.header.clone())).await?;
        self.bytes(held.freeze()).await
    }

    async fn bytes(&mut self, mut piece: Bytes) -> Result<(), Stop> {
        if piece.len() < PIECE {
            self.gathered.extend_from_slice(&piece);
            return if self.gathered.len() < PIECE { Ok(()) } else { self.flush().await };
        }
        self.flush().await?;
        while !piece.is_empty() {
            let chunk = piece.split_to(piece.len().min(CHUNK));
            self.send(Part::Chunk(chunk)).await?;
        }
        Ok(())
    }

    /// Sends what was gathered: less than two pieces.
    async fn flush(&mut self) -> Result<(), Stop> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunk = self.gathered.split().freeze();
        self.send(Part::Chunk(chunk)).await
    }

    async fn send(&mut self, part: Part) -> Result<(), Stop> {
        self.sender.send(UploadEvidenceRequest { part: Some(part) }).await.map_err(|_| Stop::Closed)
    }
}

/// The file's name. Some clients send one that is not ASCII in the extended form alone, which the parser does not
/// read.
fn file_name(field: &Field<'_>) -> Option<String> {
    let disposition = field.headers().get(CONTENT_DISPOSITION)?.as_bytes();
    extended_name(&String::from_utf8_lossy(disposition)).or_else(|| field.file_name().map(str::to_owned))
}

fn extended_name(disposition: &str) -> Option<String> {
    let value = disposition.split(';').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("filename*").then(|| value.trim())
    })?;
    let mut parts = value.splitn(3, '\'');
    let (charset, _language, name) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    percent_decode_str(name).decode_utf8().ok().map(Into::into)
}

fn again(field: &str) -> Stop {
    Problem::invalid(field, "is given twice").into()
}

async fn team(field: Field<'_>) -> Result<String, Stop> {
    let text = text("team", field).await?;
    let mut fields = Fields::default();
    fields.one_of("team", &text, &[Team::Red.as_str(), Team::Blue.as_str()]);
    fields.finish().map_err(|failure| Stop::Refused(failure.into()))?;
    Ok(text)
}

async fn text(name: &str, mut field: Field<'_>) -> Result<String, Stop> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await? {
        if bytes.len() + chunk.len() > MAX_TEXT {
            return Err(Problem::invalid(name, "is too long").into());
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid(name, "must be UTF-8").into())
}

async fn drain(body: &mut Multipart) {
    let mut drained = 0;
    let _ = tokio::time::timeout(CLEAN_UP, async {
        while let Ok(Some(mut field)) = body.next_field().await {
            while let Ok(Some(chunk)) = field.chunk().await {
                drained += chunk.len();
                if drained > MAX_DRAINED {
                    return;
                }
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_extended_form_are_read() {
        let name = |text: &str| extended_name(text);
        let read = name("form-data; name=\"file\"; filename*=UTF-8''%C3%9Cbersicht%201.png");
        assert_eq!(read.as_deref(), Some("Übersicht 1.png"));
        assert_eq!(name("form-data; name=\"file\"; filename=\"a.png\""), None);
        assert_eq!(name("form-data; filename*=latin1''%FC"), None);
    }
}
