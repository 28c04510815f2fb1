//! Opens the databases, the bus, the cache and the file store that the settings name.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use aegis_blob::{Blobs, S3Options};
use aegis_cache::Cache;
use aegis_db::{Db, DbOptions, Migrations};
use aegis_events::Bus;
use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    roles::{Role, topology},
    settings::Settings,
    tls,
};

/// Lies in a data folder while a restore changes its files; left behind by one that was cut off.
pub const RESTORING: &str = "restore-unfinished";
/// The file of the data folder with the secret that the processes share; a backup has it by the same name.
pub const SECRET: &str = "service-secret";

/// Makes the data folder, readable by its owner alone.
pub fn make_data_dir(path: &Path) -> Result<()> {
    if path.join(RESTORING).exists() {
        bail!("a restore into {} was cut off: run `aegis restore` again", path.display());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the data folder {}: choose another with AEGIS_DATA_DIR", path.display()))
}

/// The secret that the processes share: from the settings, or kept in the data folder.
pub fn service_secret(settings: &Settings) -> Result<SecretString> {
    if let Some(secret) = &settings.service_secret {
        return Ok(secret.clone());
    }
    make_data_dir(&settings.data_dir)?;
    let path = settings.data_dir.join(SECRET);
    let fresh = hex::encode(rand::random::<[u8; 32]>());
    // Written aside and linked, so that two that start at once agree and nobody reads half.
    let aside = settings.data_dir.join(format!("{SECRET}.{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .with_context(|| format!("cannot write to the data folder {}", settings.data_dir.display()))?;
    file.write_all(fresh.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, &path);
    fs::remove_file(&aside)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).context("cannot keep the service secret in the data folder"),
    }
    let secret = fs::read_to_string(&path).context("cannot read the service secret in the data folder")?;
    let secret = secret.trim().to_owned();
    if secret.len() < 32 {
        bail!("the file {} is damaged: remove it and start again (users have to sign in anew)", path.display());
    }
    Ok(secret.into())
}

/// Opens a service's database.
pub async fn database(settings: &Settings, role: Role) -> Result<Db> {
    let options = DbOptions {
        max_connections: settings.database_connections,
        roots: tls::more_roots(settings)?,
        ..DbOptions::default()
    };
    match &settings.database_url {
        Some(url) => {
            let url = url.expose_secret().replace("{service}", role.as_str());
            Db::postgres(&url, role.as_str(), &options).await.with_context(|| {
                format!("cannot reach the database of {role}: is PostgreSQL running, and is AEGIS_DATABASE_URL right?")
            })
        }
        None => {
            make_data_dir(&settings.data_dir)?;
            let path = settings.data_dir.join(format!("{role}.db"));
            Db::sqlite(&path, &options).await.with_context(|| {
                format!(
                    "cannot open the database {}: is the disk full, or does the file belong to somebody else?",
                    path.display()
                )
            })
        }
    }
}

/// The migrations of a service, the event tables included.
pub fn migrations(role: Role) -> Vec<Migrations> {
    let own = match role {
        Role::Identity => aegis_identity::migrations(),
        Role::Catalog => aegis_catalog::migrations(),
        Role::Testing => aegis_testing::migrations(),
        Role::Evidence => aegis_evidence::migrations(),
        Role::Intel => aegis_intel::migrations(),
        Role::Analytics => aegis_analytics::migrations(),
        Role::Deception => aegis_deception::migrations(),
        Role::Gateway => return Vec::new(),
    };
    vec![aegis_events::migrations(), own]
}

/// Opens the bus.
pub fn bus(settings: &Settings) -> Result<Bus> {
    let Some(url) = &settings.broker_url else { return Ok(Bus::local()) };
    let roots = tls::more_roots(settings)?.map(|roots| String::from_utf8_lossy(&roots).into_owned());
    Ok(Bus::rabbit(url.expose_secret(), topology(), roots))
}

/// Opens the cache.
pub fn cache(settings: &Settings) -> Result<Cache> {
    match &settings.cache_url {
        Some(url) => Cache::redis(url.expose_secret(), tls::more_roots(settings)?)
            .context("cannot use the cache: is AEGIS_CACHE_URL right?"),
        None => Ok(Cache::memory()),
    }
}

/// Opens the file store.
pub fn blobs(settings: &Settings) -> Result<Blobs> {
    match &settings.blob_url {
        Some(url) => {
            let options = S3Options {
                endpoint: settings.s3_endpoint.clone(),
                region: settings.s3_region.clone(),
                access_key_id: settings.s3_access_key_id.clone(),
                secret_access_key: settings.s3_secret_access_key.clone(),
                roots: tls::more_roots(settings)?,
                allow_http: settings.s3_endpoint.as_deref().is_some_and(|url| url.starts_with("http://")),
            };
            Blobs::s3(url, &options)
                .context("cannot use the file store: check AEGIS_BLOB_URL and the AEGIS_S3_ settings")
        }
        None => {
            let folder = settings.data_dir.join("blobs");
            make_data_dir(&folder)?;
            Blobs::folder(&folder).with_context(|| format!("cannot use the folder {}", folder.display()))
        }
    }
}
