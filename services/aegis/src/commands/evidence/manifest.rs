//! A signed manifest: read, its signature verified, its key looked for among known ones.

use std::{
    fs::File,
    io::Read,
    path::{Component, Path},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Largest manifest or file of keys, bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Longest file name, bytes, as the product keeps them.
const MAX_NAME: usize = 255;
/// `typ` of the signature: nothing else that the product signs can be taken for a manifest.
const KIND: &str = "aegis-evidence-manifest";
/// The manifests that this program reads.
const VERSION: u64 = 1;

/// A manifest whose signature holds.
#[derive(Debug)]
pub struct Manifest {
    /// Whose files they are.
    pub test: Test,
    pub files: Vec<Listed>,
    /// Of the key that signed (RFC 7638, SHA-256).
    pub thumbprint: String,
    key: VerifyingKey,
}

/// The test whose files a manifest names.
#[derive(Clone, Debug, Deserialize)]
pub struct Test {
    pub id: String,
    pub name: String,
}

/// A file that the manifest names.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    pub id: String,
    pub file_name: String,
    /// Lower-case hex.
    pub sha256: String,
    pub size_bytes: u64,
}

/// A flattened JWS (RFC 7515, section 7.2.2), with the manifest beside it.
#[derive(Deserialize)]
struct Jws {
    payload: String,
    protected: String,
    signature: String,
    header: Unprotected,
    manifest: Value,
}

#[derive(Deserialize)]
struct Unprotected {
    jwk: Jwk,
}

#[derive(Deserialize)]
struct Protected {
    alg: String,
    typ: String,
    /// What a reader must understand; this one understands nothing more.
    #[serde(default)]
    crit: Value,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Payload {
    test: Test,
    files: Vec<Listed>,
}

impl Manifest {
    /// Reads and verifies one.
    pub fn open(path: &Path) -> Result<Manifest> {
        let text = read(path).with_context(|| format!("cannot read the manifest {}", path.display()))?;
        Manifest::read(&text).with_context(|| format!("{} proves nothing", path.display()))
    }

    /// Verifies the text of one.
    pub fn read(text: &[u8]) -> Result<Manifest> {
        let jws: Jws = serde_json::from_slice(text).context(
            "it is no signed manifest: download it again from GET /api/v1/tests/{id}/evidence/manifest, and keep the \
             file as it is",
        )?;
        let protected: Protected = serde_json::from_slice(&decoded("protected", &jws.protected)?)
            .context("the signature's protected header cannot be read")?;
        ensure!(protected.typ == KIND, "it is signed as {:?}, not as {KIND}", clipped(&protected.typ));
        ensure!(
            matches!(protected.alg.as_str(), "EdDSA" | "Ed25519") && protected.crit.is_null(),
            "it is signed in a way that this program does not know ({:?}): a newer one may",
            clipped(&protected.alg)
        );
        let key = jws.header.jwk.key().context("its key cannot be read: an Ed25519 key is expected")?;
        let signature = Signature::from_slice(&decoded("signature", &jws.signature)?)
            .map_err(|_| anyhow::anyhow!("its signature has not 64 bytes"))?;
        let signed = format!("{}.{}", jws.protected, jws.payload);
        ensure!(
            key.verify_strict(signed.as_bytes(), &signature).is_ok(),
            "the signature does not hold: the manifest was altered after it was signed; download it again"
        );
        let payload = decoded("payload", &jws.payload)?;
        let value: Value = serde_json::from_slice(&payload).context("what is signed is not JSON")?;
        ensure!(
            value == jws.manifest,
            "what stands under `manifest` is not what is signed: it was altered; download it again"
        );
        ensure!(
            value["version"] == VERSION,
            "it is of version {}, and this program reads version {VERSION}: use a newer one",
            clipped(&value["version"].to_string())
        );
        let Payload { test, files } = serde_json::from_value(value).context("what is signed is no manifest")?;
        files.iter().try_for_each(Listed::check)?;
        Ok(Manifest { test, files, thumbprint: thumbprint(&key), key })
    }

    /// Whether the file has the key: the product's `/.well-known/jwks.json`, as it was when the manifest was made.
    pub fn signed_by_one_of(&self, path: &Path) -> Result<()> {
        let text = read(path).with_context(|| format!("cannot read the keys {}", path.display()))?;
        let jwks: Jwks = serde_json::from_slice(&text).with_context(|| {
            format!("{} is no set of keys: save the product's /.well-known/jwks.json", path.display())
        })?;
        // Keys of other kinds may stand beside ours.
        let known = jwks.keys.iter().filter_map(|jwk| jwk.key().ok()).any(|key| key == self.key);
        ensure!(
            known,
            "the manifest is signed by a key that is not in {} (thumbprint {}): take the product's \
             /.well-known/jwks.json of the day on which the manifest was made, for keys change; if it is not in there \
             either, somebody else has signed",
            path.display(),
            self.thumbprint
        );
        Ok(())
    }
}

impl Listed {
    /// A name is one of a file and of nothing else, here and on other systems.
    fn check(&self) -> Result<()> {
        let name = self.file_name.as_str();
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
        if !plain || name.len() > MAX_NAME || name.contains(['/', '\\', '\0']) {
            bail!("it names a file that would be outside the folder, {:?}: no product of ours wrote it", clipped(name));
        }
        let hash = self.sha256.as_bytes();
        let hex = hash.len() == 64 && hash.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
        ensure!(hex, "the hash of {name:?} is no SHA-256");
        Ok(())
    }
}

impl Jwk {
    fn key(&self) -> Result<VerifyingKey> {
        ensure!(self.kty == "OKP" && self.crv == "Ed25519", "the key is not of Ed25519");
        let bytes: [u8; 32] =
            decoded("x", &self.x)?.try_into().map_err(|_| anyhow::anyhow!("the key has not 32 bytes"))?;
        VerifyingKey::from_bytes(&bytes).map_err(|_| anyhow::anyhow!("the key is no point of the curve"))
    }
}

/// As RFC 7638 has it: the hash of the key's required members, in their order.
fn thumbprint(key: &VerifyingKey) -> String {
    let x = URL_SAFE_NO_PAD.encode(key.as_bytes());
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}

fn decoded(name: &str, text: &str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok().with_context(|| format!("its {name} is not base64url"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= MAX_BYTES, "it has more than {} MiB", MAX_BYTES / 1024 / 1024);
    Ok(bytes)
}

/// A text from a file that may be anybody's, short enough for a message.
fn clipped(text: &str) -> String {
    text.chars().take(60).collect()
}
