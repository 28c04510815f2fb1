//! The data folder: that it is there, ours, private, and has room.

use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use indicatif::HumanBytes;

use super::{
    Findings,
    report::{Finding, Level},
};
use crate::{
    commands::backup::{self, workplace},
    settings::Settings,
    stores,
};

/// Less room than this is a problem.
const SCARCE: u64 = 128 * 1024 * 1024;
/// Less than this will be one.
const LITTLE: u64 = 2 * 1024 * 1024 * 1024;

/// Looks at it.
pub(super) async fn check(settings: &Settings) -> Findings {
    let (path, needed) = (settings.data_dir.clone(), settings.database_url.is_none());
    let own_secret = settings.service_secret.is_none();
    let looked = tokio::task::spawn_blocking(move || look(&path, needed, own_secret)).await;
    looked.unwrap_or_else(|error| vec![Finding::new(Level::Problem, error.to_string())])
}

fn look(path: &Path, needed: bool, own_secret: bool) -> Findings {
    let mut findings = secret_files();
    let meta = match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            findings.push(Finding::new(Level::Problem, "is no folder").advice("choose another with AEGIS_DATA_DIR"));
            return findings;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            findings.push(match needed {
                true => Finding::new(Level::Problem, "is not there")
                    .advice("start Aegis once, which makes it, or name the right one with AEGIS_DATA_DIR"),
                false => Finding::ok("not there, and not needed: the data is in PostgreSQL"),
            });
            return findings;
        }
        Err(error) => {
            findings.push(Finding::new(Level::Problem, format!("cannot be looked at: {error}")));
            return findings;
        }
    };
    if path.join(stores::RESTORING).exists() {
        findings.push(
            Finding::new(Level::Problem, "a restore was cut off; nothing starts on this folder")
                .advice("run `aegis restore` with the same file again"),
        );
    }
    let left = path.join(backup::WORKPLACE);
    if workplace::is_left(&left) {
        findings.push(
            Finding::new(
                Level::Warning,
                "a backup was cut off; files that were removed since are kept by what it left",
            )
            .advice(format!("make the next backup, which clears it away, or remove {}", left.display())),
        );
    }
    private(path, &meta, "the data folder", 0o700, &mut findings);
    findings.extend(readable(path, &meta));
    let secret = path.join(stores::SECRET);
    if own_secret && let Ok(meta) = fs::metadata(&secret) {
        private(&secret, &meta, "the service secret", 0o600, &mut findings);
        if meta.len() < 32 {
            findings.push(
                Finding::new(Level::Problem, "the service secret is damaged").advice(format!(
                    "restore {} from a backup, or remove it: users then sign in anew",
                    secret.display()
                )),
            );
        }
    }
    let probe = path.join(format!(".doctor-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe);
    match written.and_then(|file| file.sync_all()).and_then(|()| fs::remove_file(&probe)) {
        Ok(()) => findings.push(Finding::ok("can be written")),
        Err(error) => {
            let _ = fs::remove_file(&probe);
            findings.push(
                Finding::new(Level::Problem, format!("cannot be written: {error}"))
                    .advice("run this as the user that the product runs as, or give that user the folder"),
            );
        }
    }
    findings.push(room(path));
    findings
}

/// Nobody but its owner may have a look.
fn private(path: &Path, meta: &fs::Metadata, what: &str, mode: u32, findings: &mut Findings) {
    let open = meta.permissions().mode() & 0o077;
    if open != 0 {
        let level = if meta.is_dir() && open & 0o022 == 0 { Level::Warning } else { Level::Problem };
        findings.push(
            Finding::new(level, format!("others may look into {what} (mode {:o})", meta.permissions().mode() & 0o777))
                .advice(format!("chmod {mode:o} {}", path.display())),
        );
    }
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() != own && own != 0 {
        findings.push(
            Finding::new(Level::Warning, format!("{what} belongs to user {}, and this runs as {own}", meta.uid()))
                .advice("run this as the user that the product runs as"),
        );
    }
}

/// Databases that others may read: keys that sign and hashes of passwords are in them.
fn readable(folder: &Path, meta: &fs::Metadata) -> Option<Finding> {
    // Who may pass through the folder, the group and all others, and read a file then.
    let through = meta.permissions().mode();
    let read = (if through & 0o010 != 0 { 0o040 } else { 0 }) | (if through & 0o001 != 0 { 0o004 } else { 0 });
    let open = fs::read_dir(folder).ok()?.flatten().filter(|entry| {
        let database = entry.file_name().to_string_lossy().contains(".db");
        database && entry.metadata().is_ok_and(|meta| meta.permissions().mode() & read != 0)
    });
    let first = open.map(|entry| entry.file_name()).min()?;
    let what = format!("others may read the databases ({} …): keys that sign are in them", first.display());
    let advice = format!("chmod 700 {}; if others were on this machine, `aegis keys rotate`", folder.display());
    Some(Finding::new(Level::Problem, what).advice(advice))
}

/// The files that variables name secrets by.
fn secret_files() -> Findings {
    let named = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("AEGIS_") && name.ends_with("_FILE"))?;
        // Certificates are for everybody, and what tests are told is no setting.
        if name.ends_with("_CERT_FILE") || name.ends_with("CA_FILE") || name.starts_with("AEGIS_TEST_") {
            return None;
        }
        Some((name, PathBuf::from(value)))
    });
    let open = named.filter(|(_, path)| {
        // Where engines mount secrets, whoever is in the container may read them.
        let mounted = path.starts_with("/run/secrets") || path.starts_with("/var/run/secrets");
        !mounted && fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
    });
    open.map(|(name, path)| {
        Finding::new(Level::Warning, format!("everybody on this machine may read the secret of {name}"))
            .advice(format!("chmod 600 {}", path.display()))
    })
    .collect()
}

fn room(path: &Path) -> Finding {
    let disk = match rustix::fs::statvfs(path) {
        Ok(disk) => disk,
        Err(error) => return Finding::new(Level::Warning, format!("its disk cannot be looked at: {error}")),
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let all = disk.f_blocks.saturating_mul(disk.f_frsize).max(1);
    let text = format!("{} of {} free", HumanBytes(free), HumanBytes(all));
    let advice = "free some room, or move the folder to a larger disk: with a full one every change is refused";
    let no_names = disk.f_files > 0 && disk.f_favail < 1000;
    match free {
        free if free < SCARCE => Finding::new(Level::Problem, format!("only {text}")).advice(advice),
        _ if no_names => Finding::new(Level::Problem, "the disk takes hardly any more files (inodes)").advice(advice),
        free if free < LITTLE => Finding::new(Level::Warning, format!("only {text}")).advice(advice),
        _ => Finding::ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(folder: &Path) -> String {
        serde_json::to_string(&look(folder, true, true)).unwrap()
    }

    #[test]
    fn databases_that_others_may_read_are_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let database = folder.path().join("identity.db");
        fs::write(&database, b"").unwrap();
        mode(&database, 0o644);
        let found = |folder_mode, file_mode| {
            mode(folder.path(), folder_mode);
            mode(&database, file_mode);
            told(folder.path()).contains("others may read the databases")
        };
        assert!(found(0o755, 0o644) && found(0o711, 0o604) && found(0o710, 0o640));
        // Who can read it does not come so far, or who comes so far cannot read it.
        assert!(!found(0o700, 0o644) && !found(0o710, 0o604) && !found(0o755, 0o600));
    }

    #[test]
    fn what_a_killed_backup_has_left_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(backup::WORKPLACE);
        assert!(!told(folder.path()).contains("a backup was cut off"));
        fs::create_dir(&left).unwrap();
        assert!(told(folder.path()).contains("a backup was cut off"));
        // One that runs is none.
        let running = workplace::Workplace::open(&left, "another runs").unwrap();
        assert!(!told(folder.path()).contains("a backup was cut off"));
        running.remove();
    }
}
