//! The manifest of a test's evidence, signed with the key of the product.

use aegis_auth::OpCtx;
use aegis_db::now;
use aegis_error::Failure;
use aegis_proto::identity::v1::{SignDocumentRequest, SignDocumentResponse};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::DateTime;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{App, MAX_FILES};
use crate::{
    domain::manifest::{File, KIND, Manifest, Test, VERSION},
    error::Error,
    store::{self, Evidence},
};

/// A flattened JWS (RFC 7515, section 7.2.2), and beside it what was signed as people read it.
#[derive(Serialize)]
struct Signed<'a> {
    payload: String,
    protected: String,
    signature: String,
    header: Header<'a>,
    manifest: &'a RawValue,
}

#[derive(Serialize)]
struct Header<'a> {
    jwk: &'a RawValue,
}

impl App {
    /// All files of a test as they were brought; for everyone who is signed in.
    pub(crate) async fn manifest(&self, ctx: &OpCtx, test_id: &str) -> Result<String, Error> {
        let who = ctx.user()?;
        let test_id = test_id.parse::<Uuid>().map_err(|_| Failure::invalid("test_id", "must be a UUID"))?;
        let test = self.test(ctx, test_id).await?;
        let rows = store::of_test(&self.db, test_id, (DateTime::UNIX_EPOCH, Uuid::nil()), MAX_FILES + 1).await?;
        if rows.len() as i64 > MAX_FILES {
            return Err(Error::TooMany);
        }
        let mut manifest = Manifest {
            kind: KIND,
            version: VERSION,
            test: Test { id: test_id, name: test.name, mitre_id: test.mitre_id, state: test.state },
            files: rows.into_iter().map(file).collect(),
            notes_left_out: false,
            generated_at: now(),
            generated_by: who.username.clone(),
            product_version: env!("CARGO_PKG_VERSION"),
        };
        let document = manifest.document().map_err(Failure::internal)?;
        let own = self.background.ctx().await?;
        let request = own.outgoing(SignDocumentRequest { payload: document.clone(), kind: KIND.to_owned() });
        let SignDocumentResponse { protected, signature, jwk_json } =
            self.identity.clone().sign_document(request).await.map_err(Failure::from)?.into_inner();
        let document = String::from_utf8(document).map_err(Failure::internal)?;
        let signed = Signed {
            payload: URL_SAFE_NO_PAD.encode(&document),
            protected,
            signature,
            header: Header { jwk: serde_json::from_str(&jwk_json).map_err(Failure::internal)? },
            manifest: serde_json::from_str(&document).map_err(Failure::internal)?,
        };
        Ok(serde_json::to_string(&signed).map_err(Failure::internal)?)
    }
}

fn file(row: Evidence) -> File {
    File {
        id: row.id,
        file_name: row.file_name,
        size_bytes: row.size_bytes,
        sha256: row.sha256,
        team: row.team,
        notes: row.notes,
        uploaded_by: row.uploaded_by,
        uploaded_by_username: row.uploaded_by_username,
        uploaded_at: row.uploaded_at,
    }
}
