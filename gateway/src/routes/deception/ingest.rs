//! Lines of other honeypots: from the body of a request to the service, in whole lines and unzipped, while they arrive.

use std::{io::Write, time::Duration};

use aegis_error::{Code, Failure};
use aegis_proto::deception::v1::{IngestLinesRequest, IngestLinesResponse, ingest_lines_request::Item};
use axum::{
    body::BodyDataStream,
    extract::{Request, State},
};
use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use futures::{SinkExt, StreamExt, channel::mpsc};
use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer, value},
};
use tokio::task::JoinError;
use tracing::Instrument;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::Answer,
    error::Problem,
    extract::{Caller, Name, drain, is_type, too_large},
    openapi::responses::Conflict,
    state::Gateway,
    values::IngestFormat,
};

/// Largest chunk of a message.
const CHUNK: usize = 256 * 1024;
/// Lines are gathered up to this.
const PIECE: usize = 64 * 1024;
/// A line that is longer than this is passed on in parts; the service refuses it.
const LONGEST_HELD: usize = 1024 * 1024;
/// What of a zipped body is unzipped at a time: at most some 4 MiB come of it.
const ZIPPED: usize = 4 * 1024;
/// Chunks on their way besides the one that is being sent; more than that and the client waits.
const IN_FLIGHT: usize = 1;
/// How long the service may take to end after a body that failed here.
const CLEAN_UP: Duration = Duration::from_secs(5);
const GZIP: &[u8] = &[0x1f, 0x8b];
/// What the body may be said to be; what it is the path says, and whether it is zipped its first bytes.
const TYPES: &[&str] = &[
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/json",
    "text/plain",
    "application/octet-stream",
    "application/gzip",
    "application/x-gzip",
];

/// Routes that need a token.
pub fn protected() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(ingest_lines))
}

/// What came of the lines.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "accepted": 998, "duplicate": 1, "refused": 1, "first_refused": [{"line": 17, "why": "is not valid JSON"}]
}))]
pub struct IngestResult {
    accepted: u64,
    /// They were there already.
    duplicate: u64,
    refused: u64,
    /// The first 20.
    first_refused: Vec<RefusedLine>,
}

/// A line that was not taken.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"line": 17, "why": "is not valid JSON"}))]
pub struct RefusedLine {
    /// From 1.
    line: u64,
    why: String,
}

/// Bring in the lines of another honeypot
///
/// For API keys with the role `sensor`, and administrators. `cowrie` and `opencanary` are their JSON logs, one object a
/// line; `syslog` is RFC 5424, one message a line. The body may be zipped (gzip), whatever its headers say. Lines are
/// stored while they arrive: after an answer that is no 200, send the same again; what is there already counts as
/// duplicate.
#[utoipa::path(post, path = "/api/v1/ingest/{format}", tag = "Decoy events",
    params(("format" = inline(IngestFormat), Path, description = "Whose lines these are")),
    request_body(content = String, content_type = "application/x-ndjson",
        example = json!("{\"eventid\":\"cowrie.login.failed\",\"username\":\"root\",\"password\":\"123456\",\"src_ip\":\"203.0.113.9\"}\n")),
    extensions(("x-roles" = json!(["admin", "sensor"]))),
    responses(
        (status = 200, description = "What came of them", body = IngestResult),
        (status = 409, response = Conflict),
    ))]
async fn ingest_lines(
    State(gateway): State<Gateway>,
    caller: Caller,
    Name(format): Name,
    request: Request,
) -> Result<Answer, Problem> {
    let format = IngestFormat::deserialize(format.into_deserializer())
        .map_err(|error: value::Error| Problem::invalid("format", error.to_string()))?;
    let zipped = coding(request.headers())?;
    let limit = gateway.deps.config.max_upload_bytes;
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }

    let (sender, messages) = mpsc::channel(IN_FLIGHT);
    let mut client = gateway.deps.intake.clone();
    let outgoing = caller.ctx().outgoing(messages);
    // In a task of its own, so that the service works beside the reading of the body.
    let mut call = tokio::spawn(async move { client.ingest_lines(outgoing).await }.in_current_span());
    let mut body = request.into_body().into_data_stream();
    let mut feed = Feed { sender, lines: BytesMut::new(), passed: 0, limit };
    // The service may refuse before all is read: then there is no point in reading on.
    let fed = tokio::select! {
        fed = feed.all(&mut body, format, zipped) => fed,
        answer = &mut call => {
            drain(body, 0).await;
            return told(answer);
        }
    };
    drop(feed);
    match fed {
        Ok(()) => told(call.await),
        Err(stop) => {
            let answer = tokio::time::timeout(CLEAN_UP, call).await;
            drain(body, 0).await;
            match (stop, answer) {
                (Stop::Refused(problem), _) => Err(problem),
                (Stop::Closed, Ok(answer)) => told(answer),
                (Stop::Closed, Err(_)) => Err(Failure::unavailable("deception").into()),
            }
        }
    }
}

/// Whether the headers say that the body is zipped.
fn coding(headers: &HeaderMap) -> Result<bool, Problem> {
    let unsupported = |text: &'static str| Err(Failure::new(Code::UnsupportedMediaType, text).into());
    if !TYPES.iter().any(|wanted| is_type(headers, wanted)) {
        return unsupported(
            "the Content-Type must be application/x-ndjson, application/json, text/plain or application/gzip",
        );
    }
    let coding = headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes().to_ascii_lowercase());
    match coding.as_deref() {
        None | Some(b"identity") => Ok(is_type(headers, "application/gzip") || is_type(headers, "application/x-gzip")),
        Some(b"gzip" | b"x-gzip") => Ok(true),
        Some(_) => unsupported("the Content-Encoding must be gzip, or there must be none"),
    }
}

type Taken = Result<tonic::Response<IngestLinesResponse>, tonic::Status>;

fn told(answer: Result<Taken, JoinError>) -> Result<Answer, Problem> {
    let answer = answer.map_err(Problem::internal)??.into_inner();
    let first_refused = answer.first_refused.into_iter().map(|line| RefusedLine { line: line.line, why: line.why });
    Answer::json(&IngestResult {
        accepted: answer.accepted,
        duplicate: answer.duplicate,
        refused: answer.refused,
        first_refused: first_refused.collect(),
    })
}

/// Why no more is sent on.
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

struct Feed {
    sender: mpsc::Sender<IngestLinesRequest>,
    /// What is not sent yet.
    lines: BytesMut,
    /// Bytes of lines so far.
    passed: u64,
    limit: u64,
}

impl Feed {
    /// Sends the whole body on. A last line without its end is sent only where the body has come to its own.
    async fn all(&mut self, body: &mut BodyDataStream, format: IngestFormat, zipped: bool) -> Result<(), Stop> {
        self.send(Item::Format(format.into())).await?;
        // Enough to see whether it is zipped.
        let mut head = BytesMut::new();
        while head.len() < GZIP.len() {
            match next(body).await? {
                Some(chunk) => head.extend_from_slice(&chunk),
                None => break,
            }
        }
        let head = head.freeze();
        if head.starts_with(GZIP) {
            self.unzip(head, body).await?;
        } else if zipped && !head.is_empty() {
            return Err(broken().into());
        } else {
            self.take(&head).await?;
            while let Some(chunk) = next(body).await? {
                self.take(&chunk).await?;
            }
        }
        self.flush(self.lines.len()).await
    }

    async fn unzip(&mut self, head: Bytes, body: &mut BodyDataStream) -> Result<(), Stop> {
        let mut decoder = MultiGzDecoder::new(Vec::new());
        let mut chunk = Some(head);
        while let Some(zipped) = chunk {
            for part in zipped.chunks(ZIPPED) {
                decoder.write_all(part).map_err(|_| broken())?;
                let plain = std::mem::take(decoder.get_mut());
                self.take(&plain).await?;
            }
            chunk = next(body).await?;
        }
        let rest = decoder.finish().map_err(|_| broken())?;
        self.take(&rest).await
    }

    /// Gathers lines, and sends whole ones on.
    async fn take(&mut self, plain: &[u8]) -> Result<(), Stop> {
        self.passed += plain.len() as u64;
        if self.passed > self.limit {
            return Err(too_large(self.limit).into());
        }
        self.lines.extend_from_slice(plain);
        if self.lines.len() < PIECE {
            return Ok(());
        }
        match self.lines.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => self.flush(last + 1).await,
            None if self.lines.len() > LONGEST_HELD => self.flush(self.lines.len()).await,
            None => Ok(()),
        }
    }

    async fn flush(&mut self, length: usize) -> Result<(), Stop> {
        let mut whole = self.lines.split_to(length);
        while !whole.is_empty() {
            let chunk = whole.split_to(whole.len().min(CHUNK));
            self.send(Item::Chunk(chunk.into())).await?;
        }
        Ok(())
    }

    async fn send(&mut self, item: Item) -> Result<(), Stop> {
        self.sender.send(IngestLinesRequest { item: Some(item) }).await.map_err(|_| Stop::Closed)
    }
}

async fn next(body: &mut BodyDataStream) -> Result<Option<Bytes>, Problem> {
    match body.next().await.transpose() {
        Ok(chunk) => Ok(chunk),
        Err(_) => Err(Problem::invalid("body", "could not be read to its end")),
    }
}

fn broken() -> Problem {
    Problem::invalid("body", "is not a whole gzip file")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use flate2::{Compression, write::GzEncoder};
    use futures::stream;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// What the service gets of a body that comes in pieces of that size, and why it ends.
    async fn fed(body: &[u8], piece: usize, zipped: bool, limit: u64) -> (Vec<Vec<u8>>, Option<Problem>) {
        let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        let mut body = Body::from_stream(stream::iter(pieces)).into_data_stream();
        let (sender, messages) = mpsc::channel(IN_FLIGHT);
        let mut feed = Feed { sender, lines: BytesMut::new(), passed: 0, limit };
        let feeding = async move {
            let fed = feed.all(&mut body, IngestFormat::Cowrie, zipped).await;
            match fed {
                Ok(()) => None,
                Err(Stop::Refused(problem)) => Some(problem),
                Err(Stop::Closed) => panic!("nobody reads"),
            }
        };
        let (problem, messages) = tokio::join!(feeding, messages.collect::<Vec<_>>());
        let mut items = messages.into_iter().filter_map(|message| message.item);
        assert_eq!(items.next(), Some(Item::Format("cowrie".into())));
        let chunks = items.map(|item| match item {
            Item::Chunk(chunk) => chunk,
            Item::Format(_) => panic!("a format again"),
        });
        (chunks.collect(), problem)
    }

    #[tokio::test]
    async fn a_body_comes_in_whole_lines_zipped_or_not() {
        let plain: Vec<u8> = (0..40_000).flat_map(|n| format!("{{\"n\": {n}}}\n").into_bytes()).collect();
        let members = [gzip(&plain[..1000]), gzip(&plain[1000..])].concat();
        for (body, zipped) in [(plain.clone(), false), (gzip(&plain), true), (gzip(&plain), false), (members, true)] {
            for piece in [1, 1000, body.len()] {
                let (chunks, problem) = fed(&body, piece, zipped, u64::MAX).await;
                assert!(problem.is_none(), "{problem:?}");
                assert!(chunks.iter().all(|chunk| chunk.ends_with(b"\n") || chunk.len() == CHUNK));
                assert!(chunks.len() < 20, "{} chunks", chunks.len());
                assert_eq!(chunks.concat(), plain);
            }
        }
        assert_eq!(fed(b"no end", 3, false, 6).await.0.concat(), b"no end");
        assert!(fed(b"", 1, true, 6).await.0.is_empty());
    }

    #[tokio::test]
    async fn what_is_too_large_or_broken_is_refused_and_no_part_of_a_line_is_sent() {
        let line = [b"x".repeat(100), vec![b'\n']].concat();
        let bomb = gzip(&line.repeat(200_000));
        assert!(bomb.len() < 100_000);
        let (chunks, problem) = fed(&bomb, 10_000, true, 1_000_000).await;
        assert_eq!(problem.unwrap().0.code(), Code::TooLarge);
        assert!(chunks.concat().len() <= 1_000_000);
        let zipped = gzip(b"one\ntwo\n");
        for bad in [&zipped[..zipped.len() - 5], &zipped[..12], b"\x1f\x8b nonsense", b"plain"] {
            let (chunks, problem) = fed(bad, 4, true, u64::MAX).await;
            assert_eq!(problem.unwrap().0.fields()[0].field, "body");
            assert!(chunks.is_empty());
        }
        let cut = stream::iter([Ok(b"one\ntw".to_vec()), Err(std::io::Error::other("gone"))]);
        let mut body = Body::from_stream(cut).into_data_stream();
        let (sender, messages) = mpsc::channel(8);
        let mut feed = Feed { sender, lines: BytesMut::new(), passed: 0, limit: 100 };
        assert!(feed.all(&mut body, IngestFormat::Syslog, false).await.is_err());
        drop(feed);
        assert_eq!(messages.collect::<Vec<_>>().await.len(), 1);
        // A line without an end is not held for ever.
        let (chunks, _) = fed(&b"y".repeat(3 * LONGEST_HELD), 100_000, false, u64::MAX).await;
        assert!(chunks.len() >= 12);
    }
}
