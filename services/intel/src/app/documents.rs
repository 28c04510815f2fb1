//! The documents of a source: fetched, and read into what is to be applied.

use std::{
    io::{self, Read},
    sync::Arc,
};

use aegis_error::{Code, Failure};
use aegis_proto::catalog::v1::ListTechniquesRequest;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{App, progress::Progress, run::Claim, sources::location};
use crate::{
    domain::{
        compliance::{CtidReader, Framework},
        d3fend::D3fendReader,
        kev::{KevDocument, parse_kev},
        knowledge::{Knowledge, ReadError, Reader},
        misp::MispReader,
        rules::{ElasticReader, SigmaReader},
        source::{ENTRY_NAMES, KEV, KEV_MAPPINGS, MITRE_ATTACK},
        stix::{AttackDocument, Domain, parse_attack},
        templates::{AtomicReader, CalderaReader, LolbasReader},
    },
    error::Error,
    fetch::{self, Document, FetchErrorKind, FetchLimits, Fetched, Format, ID, Visitor},
};

/// Techniques of one page.
const PAGE: i32 = 5000;
/// Pages at most; there are about 1,200 techniques.
const MAX_PAGES: usize = 10;
/// Characters of a repository's revision that name it.
const REVISION_CHARS: usize = 12;

/// What is at the source's addresses.
pub(super) enum Found {
    /// What came in last.
    Same,
    /// Something else, perhaps.
    New(Documents),
}

/// The documents of a source, here and still packed.
pub(super) struct Documents {
    main: Document,
    companions: Vec<Document>,
    /// What tells the next sync that the main document is the same.
    pub etag: Option<String>,
    /// The same of the second.
    pub companion_etag: Option<String>,
}

/// What the documents hold.
pub(super) enum Content {
    /// ATT&CK.
    Attack(Box<AttackDocument>),
    /// Known exploited vulnerabilities.
    Kev(KevDocument),
    /// Anything else.
    Knowledge(Box<Knowledge>),
}

impl App {
    /// Fetches the documents, unless all of them are those that came in last.
    pub(super) async fn fetch(&self, claim: &Claim, progress: &Progress) -> Result<Found, Error> {
        let limits = &self.0.limits;
        let parts = if claim.companion_url.is_some() { 2 } else { 1 };
        let main = async |etag: Option<&str>| -> Result<Option<Document>, Error> {
            let told = |bytes, total| progress.fetching_part(0, parts, bytes, total);
            opened(fetch::fetch(&location(&claim.url, limits)?, limits, etag, told).await?)
        };
        let found = main(claim.etag.as_deref()).await?;
        let Some(companion_url) = &claim.companion_url else {
            return Ok(match found {
                Some(document) => Found::New(Documents::new(document, Vec::new(), None)),
                None => Found::Same,
            });
        };
        if companion_url.contains(ID) {
            let ids = self.technique_ids().await?;
            if ids.is_empty() {
                let text = "its second document is one for each technique, and there is none: sync mitre_attack_enterprise first";
                return Err(Failure::new(Code::InvalidState, text).into());
            }
            let tag = tag_of(companion_url, &ids);
            let document = match found {
                Some(document) => document,
                None if claim.companion_etag.as_ref() == Some(&tag) => return Ok(Found::Same),
                None => fetched(main(None).await?)?,
            };
            let locations = ids.iter().map(|id| location(&companion_url.replace(ID, id), limits));
            let locations = locations.collect::<Result<Vec<_>, _>>()?;
            let total = locations.len() as u64;
            let told = |asked: usize| progress.fetching_part(1, 2, asked as u64, Some(total));
            let companions = fetch::fetch_many(locations, limits, told).await?;
            return Ok(Found::New(Documents::new(document, companions, Some(tag))));
        }
        let companion = async |etag: Option<&str>| -> Result<Option<Document>, Error> {
            let told = |bytes, total| progress.fetching_part(1, 2, bytes, total);
            opened(fetch::fetch(&location(companion_url, limits)?, limits, etag, told).await?)
        };
        // Each is only the same together with the other.
        let second = companion(claim.companion_etag.as_deref()).await?;
        let (document, second) = match (found, second) {
            (None, None) => return Ok(Found::Same),
            (Some(document), Some(second)) => (document, second),
            (Some(document), None) => (document, fetched(companion(None).await?)?),
            (None, Some(second)) => (fetched(main(None).await?)?, second),
        };
        let companion_etag = second.etag.clone();
        Ok(Found::New(Documents::new(document, vec![second], companion_etag)))
    }

    /// Reads the documents whole, on a thread of its own. They are gone after that.
    pub(super) async fn read(
        &self,
        kind: String,
        domain: Option<Domain>,
        documents: Documents,
        progress: &Arc<Progress>,
    ) -> Result<Content, Error> {
        let limits = self.0.limits.clone();
        let progress = Arc::clone(progress);
        let abandoned = CancellationToken::new();
        // The thread cannot be stopped from outside, so it looks whether this future is still there.
        let _guard = abandoned.clone().drop_guard();
        let reading = tokio::task::spawn_blocking(move || match (kind.as_str(), domain) {
            (MITRE_ATTACK, Some(domain)) => read_attack(&documents.main, domain, &limits, abandoned, &progress),
            (KEV, _) => read_kev(&documents.main, &limits),
            (kind, _) => read_all(kind, &documents, &limits, abandoned, &progress),
        });
        reading.await.map_err(Error::fault)?
    }

    /// The ids of all techniques of ATT&CK for Enterprise, in their order.
    async fn technique_ids(&self) -> Result<Vec<String>, Error> {
        let ctx = self.0.background.ctx().await?;
        let mut ids = Vec::new();
        let mut page_token = String::new();
        for _ in 0..MAX_PAGES {
            let request = ListTechniquesRequest {
                page_size: PAGE,
                page_token,
                include_revoked: true,
                domain: Some(Domain::Enterprise.as_str().to_owned()),
                ..ListTechniquesRequest::default()
            };
            let answer = self.0.catalog.clone().list_techniques(ctx.outgoing(request)).await;
            let page = answer.map_err(Failure::from)?.into_inner();
            ids.extend(page.techniques.into_iter().map(|technique| technique.mitre_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    }
}

impl Documents {
    fn new(main: Document, companions: Vec<Document>, companion_etag: Option<String>) -> Self {
        Documents { etag: main.etag.clone(), main, companions, companion_etag }
    }
}

fn opened(fetched: Fetched) -> Result<Option<Document>, Error> {
    Ok(match fetched {
        Fetched::Document(document) => Some(document),
        Fetched::NotModified => None,
    })
}

/// A document that was asked for without conditions.
fn fetched(document: Option<Document>) -> Result<Document, Error> {
    document.ok_or_else(|| Error::fault("a server says of a document that it did not change, without being asked"))
}

/// What stands for the documents of all these ids: which ones they are. They are released with the main document.
fn tag_of(url: &str, ids: &[String]) -> String {
    let mut hasher = Sha256::new();
    for text in std::iter::once(url).chain(ids.iter().map(String::as_str)) {
        hasher.update(text.as_bytes());
        hasher.update([0]);
    }
    hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The reader of a kind of source.
fn reader(kind: &str) -> Result<Box<dyn Reader>, Error> {
    Ok(match kind {
        "d3fend" => Box::<D3fendReader>::default(),
        "atomic_red_team" => Box::<AtomicReader>::default(),
        "caldera" => Box::<CalderaReader>::default(),
        "lolbas" => Box::<LolbasReader>::default(),
        "sigma" => Box::<SigmaReader>::default(),
        "elastic" => Box::<ElasticReader>::default(),
        "misp_threat_actors" => Box::<MispReader>::default(),
        other => match Framework::parse(if other == KEV_MAPPINGS { "kev" } else { other }) {
            Some(framework) => Box::new(CtidReader::new(framework)),
            None => return Err(Error::fault(format!("there is no reader for {other}"))),
        },
    })
}

fn read_attack(
    document: &Document,
    domain: Domain,
    limits: &FetchLimits,
    abandoned: CancellationToken,
    progress: &Progress,
) -> Result<Content, Error> {
    let [latest, named] =
        ENTRY_NAMES.map(|wanted| move |path: &str| wanted(domain, path.rsplit('/').next().unwrap_or_default()));
    let opened = match fetch::open(document, &latest, limits) {
        Err(error) if error.kind() == FetchErrorKind::NotFound => fetch::open(document, &named, limits)?,
        opened => opened?,
    };
    let (size, format) = (document.size, document.format);
    let mut attack = parse_attack(Abandonable { inner: opened, abandoned }, &mut |bytes| {
        progress.parsing(bytes, size, format);
    })?;
    if attack.domain != domain {
        return Err(Error::WrongDomain { found: attack.domain, wanted: domain });
    }
    attack.knowledge.without_nul();
    Ok(Content::Attack(Box::new(attack)))
}

fn read_kev(document: &Document, limits: &FetchLimits) -> Result<Content, Error> {
    let mut kev = Kev(None);
    fetch::each(document, limits, &mut kev)?;
    let document = kev.0.ok_or_else(|| ReadError("it holds no catalogue of exploited vulnerabilities".to_owned()))?;
    Ok(Content::Kev(document))
}

fn read_all(
    kind: &str,
    documents: &Documents,
    limits: &FetchLimits,
    abandoned: CancellationToken,
    progress: &Progress,
) -> Result<Content, Error> {
    let all = || std::iter::once(&documents.main).chain(&documents.companions);
    let size = all().map(|document| document.size).sum();
    let mut files = Files { reader: reader(kind)?, abandoned, progress, bytes: 0, size, format: documents.main.format };
    let mut revision = None;
    for document in all() {
        let visited = fetch::each(document, limits, &mut files)?;
        revision = revision.or(visited.revision);
    }
    let mut knowledge = files.reader.finish()?;
    if knowledge.upstream_version.is_none() {
        knowledge.upstream_version = revision.map(|text| text.chars().take(REVISION_CHARS).collect());
    }
    knowledge.without_nul();
    Ok(Content::Knowledge(Box::new(knowledge)))
}

/// Hands files to a reader for as long as somebody waits for what it reads.
struct Files<'a> {
    reader: Box<dyn Reader>,
    abandoned: CancellationToken,
    progress: &'a Progress,
    bytes: u64,
    size: u64,
    format: Format,
}

impl Visitor for Files<'_> {
    type Error = Error;

    fn wants(&self, path: &str) -> bool {
        self.reader.wants(path)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        if self.abandoned.is_cancelled() {
            return Err(Error::Stopped);
        }
        self.bytes += bytes.len() as u64;
        self.progress.parsing(self.bytes, self.size, self.format);
        Ok(self.reader.file(path, bytes)?)
    }
}

/// Takes the catalogue of exploited vulnerabilities; of several files the last.
struct Kev(Option<KevDocument>);

impl Visitor for Kev {
    type Error = Error;

    fn wants(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with("known_exploited_vulnerabilities") && name.ends_with(".json") && !name.contains("schema")
    }

    fn file(&mut self, _: &str, bytes: &[u8]) -> Result<(), Error> {
        self.0 = Some(parse_kev(bytes)?);
        Ok(())
    }
}

/// Stops reading when nobody waits for what is read.
struct Abandonable<R> {
    inner: R,
    abandoned: CancellationToken,
}

impl<R: Read> Read for Abandonable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.abandoned.is_cancelled() {
            return Err(io::Error::other("nobody waits for the document any more"));
        }
        self.inner.read(buffer)
    }
}
