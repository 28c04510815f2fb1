//! The command line.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};

use crate::{commands, roles::Role};

/// Shows a security team what it can really detect.
///
/// Without a command, everything runs in this process on an embedded database: open the address that it prints.
#[derive(Debug, Parser)]
#[command(
    name = "aegis",
    version,
    after_help = "Examples:
  aegis                                     run everything here, on 127.0.0.1:8000
  AEGIS_LISTEN=0.0.0.0:80 aegis             the same, for the network
  aegis serve identity catalog              run two roles as one process of many
  aegis sync mitre_attack_enterprise        bring in ATT&CK
  aegis user add ana --role red_tech        add a user, with a generated password

Exit codes: 0 done; 1 failed; 2 wrong settings or arguments; 3 not reachable or not healthy."
)]
pub struct Cli {
    /// TOML file with settings.
    #[arg(long, env = "AEGIS_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Address and port, over AEGIS_LISTEN.
    #[arg(long, global = true)]
    pub listen: Option<String>,
    /// Data folder, over AEGIS_DATA_DIR.
    #[arg(long, global = true)]
    pub data_dir: Option<PathBuf>,
    /// Answer in JSON, for machines.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do; everything runs if this is not given.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run some roles as one process of many.
    #[command(after_help = "Example:
  AEGIS_DATABASE_URL=postgres://aegis_{service}:…@db/aegis AEGIS_BROKER_URL=amqp://… AEGIS_CACHE_URL=redis://… \\
  AEGIS_SERVICE_SECRET_FILE=/run/secrets/aegis AEGIS_IDENTITY_URL=http://identity:8000 \\
  AEGIS_CATALOG_URL=http://catalog:8000 aegis serve testing --listen 0.0.0.0:8000")]
    Serve {
        /// The roles.
        #[arg(required = true, value_enum)]
        roles: Vec<Role>,
    },
    /// Host decoys: a process that faces attackers and can do nothing but hand events in.
    #[command(after_help = "Example:
  AEGIS_DECEPTION_URL=https://aegis.example.com AEGIS_SENSOR_TOKEN_FILE=/run/secrets/sensor-key aegis sensor

The product in one process starts one itself (AEGIS_SENSOR=false: it does not).")]
    Sensor(SensorArgs),
    /// Bring the databases up to date and stop.
    Migrate {
        /// Of these roles; of all if none is named.
        #[arg(value_enum)]
        roles: Vec<Role>,
    },
    /// Print the settings in effect, secrets left out.
    Config,
    /// Print the OpenAPI document.
    Openapi,
    /// Ask a running product whether it is well.
    Health,
    /// Check this installation, and say what is wrong and what to do.
    #[command(
        after_help = "It takes the settings of the product: run it with the same variables, file and flags. Nothing is changed, and it
works while the product runs as well as while it does not. No check takes longer than three seconds.

Examples:
  aegis doctor
  aegis doctor --json | jq '.checks[] | select(.level != \"ok\")'

Exit codes: 0 all is well, warnings aside; 1 something is wrong; 3 something that the settings name is not reachable."
    )]
    Doctor,
    /// Back the data folder up into one file, while the product runs.
    #[command(
        after_help = "The file shows all databases as they were at one moment, with evidence, artifacts, keys and secrets. For data in
PostgreSQL and S3 see deploy/BACKUP.md.

Examples:
  aegis backup /backups/aegis-$(date +%F).tar.zst
  aegis backup --verify /backups/aegis-2026-01-31.tar.zst     look whether it is whole"
    )]
    Backup(BackupArgs),
    /// Make a data folder of a backup.
    #[command(
        after_help = "The folder has to be empty, and no product may run in it. The backup may be of an older version.

Examples:
  aegis --data-dir /srv/aegis restore aegis-2026-01-31.tar.zst
  aegis restore --force aegis-2026-01-31.tar.zst     what is in the folder is put aside, not removed"
    )]
    Restore(RestoreArgs),
    /// Users.
    #[command(subcommand)]
    User(UserCommand),
    /// The keys that sign access tokens.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Bring data sources in.
    #[command(after_help = "Examples:
  aegis sync mitre_attack_enterprise
  aegis sync --all
  aegis sync sigma elastic lolbas
  aegis sync mitre_attack_enterprise --from enterprise-attack-18.1.json.zst --dry-run
  aegis sync nist_800_53 --from mappings.tar.zst --companion catalog.json
  aegis sync mitre_attack_enterprise --json | jq .counts")]
    Sync(SyncArgs),
    /// The audit trail.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Evidence files, without the product.
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Compute a projection anew from its owners.
    #[command(after_help = "Examples:
  aegis rebuild analytics
  aegis rebuild statuses")]
    Rebuild {
        /// Which one.
        #[arg(value_enum)]
        projection: Projection,
    },
}

/// `aegis backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file, such as aegis.tar.zst; it must not be there yet.
    pub file: PathBuf,
    /// Read the whole file instead and say whether it is what was backed up.
    #[arg(long)]
    pub verify: bool,
}

/// `aegis restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The file that `aegis backup` made.
    pub file: PathBuf,
    /// Put what is in the data folder aside first.
    #[arg(long)]
    pub force: bool,
}

/// `aegis sensor`
#[derive(Debug, Args)]
pub struct SensorArgs {
    /// Of the product in one process: tokens come on standard input, and its end is the sensor's.
    #[arg(long, hide = true)]
    pub child: bool,
}

/// What can be rebuilt.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Projection {
    /// Coverage and the counts of tests, from the catalogue and the tests.
    Analytics,
    /// Technique statuses, from the tests.
    Statuses,
}

/// `aegis user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// List users.
    List,
    /// Add a user.
    #[command(after_help = "Example:
  aegis user add ana --role red_lead --email ana@example.org < password.txt")]
    Add {
        /// Username.
        username: String,
        /// admin, red_tech, blue_tech, red_lead, blue_lead or viewer.
        #[arg(long)]
        role: String,
        /// Email address.
        #[arg(long)]
        email: Option<String>,
        /// Read the password from standard input; otherwise one is generated and has to be changed.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Give a user a new password, generated unless it comes on standard input.
    ResetPassword {
        /// Username.
        username: String,
        /// Read the password from standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Disable a user; its tokens end.
    Disable {
        /// Username.
        username: String,
    },
    /// Enable a user again.
    Enable {
        /// Username.
        username: String,
    },
}

/// `aegis keys …`
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List them.
    List,
    /// Sign with a new key from now on. Nobody is logged out: the old key verifies until what it signed has expired.
    #[command(after_help = "Examples:
  aegis keys rotate
  aegis keys rotate --compromised     a private key got out: all tokens end, everybody signs in again")]
    Rotate {
        /// End the old keys and every token at once.
        #[arg(long)]
        compromised: bool,
    },
}

/// `aegis sync …`
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Names of data sources, such as mitre_attack_enterprise.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub sources: Vec<String>,
    /// All that are enabled, ATT&CK first.
    #[arg(long)]
    pub all: bool,
    /// This file or folder instead of the source's URL; of one source only.
    #[arg(long, conflicts_with = "all")]
    pub from: Option<PathBuf>,
    /// This file or folder instead of the URL of the source's second document; of one source only.
    #[arg(long, conflicts_with = "all")]
    pub companion: Option<PathBuf>,
    /// Read all of it, change nothing, and say what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Bring it in even where most of what the source brought before is not in it.
    #[arg(long)]
    pub force: bool,
}

/// `aegis audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Walk the hash chain and name the first break.
    #[command(after_help = "Examples:
  aegis audit verify
  aegis audit verify --file audit.jsonl --complete")]
    Verify {
        /// An exported file, checked by itself, instead of the database.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Every record between the first and the last of the file must be in it: for exports without a filter.
        #[arg(long, requires = "file")]
        complete: bool,
    },
    /// Write the audit trail out as JSON Lines, oldest first. This is itself a record of the trail.
    #[command(after_help = "Examples:
  aegis audit export --out audit.jsonl
  aegis audit export --from 2026-01-01 --to 2026-03-31 | zstd > quarter.jsonl.zst")]
    Export {
        /// From this moment on: a day (2026-01-31, UTC) or a time (2026-01-31T12:00:00Z).
        #[arg(long, value_parser = commands::audit::since)]
        from: Option<DateTime<Utc>>,
        /// Up to this moment: a time, or a day to its end.
        #[arg(long, value_parser = commands::audit::until)]
        to: Option<DateTime<Utc>>,
        /// Into this new file, instead of standard output.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// `aegis evidence …`
#[derive(Debug, Subcommand)]
pub enum EvidenceCommand {
    /// Prove that files are those that a signed manifest names. Needs neither the product nor a network.
    ///
    /// The signature is verified first. Then each file of the manifest is looked for in the folder by its name, or by
    /// its hash where several have the same name, and hashed. Files that the manifest does not name are listed and do
    /// no harm; sub-folders and links are not looked into.
    #[command(after_help = "Examples:
  curl -OJ -H \"Authorization: Bearer $TOKEN\" https://aegis.example.com/api/v1/tests/$TEST/evidence/manifest
  aegis evidence verify evidence-manifest-$TEST.json files/
  aegis evidence verify manifest.json files/ --jwks jwks.json     and prove whose signature it is
  aegis evidence verify manifest.json files/ --json | jq .altered

Exit codes: 0 all files are as they were brought; 1 one is altered or missing, or the manifest proves nothing.")]
    Verify(EvidenceVerifyArgs),
}

/// `aegis evidence verify …`
#[derive(Debug, Args)]
pub struct EvidenceVerifyArgs {
    /// The manifest of a test, as GET /api/v1/tests/{id}/evidence/manifest answers it.
    pub manifest: PathBuf,
    /// Where the files are.
    pub folder: PathBuf,
    /// The product's public keys, saved from its /.well-known/jwks.json when the manifest was made.
    #[arg(long)]
    pub jwks: Option<PathBuf>,
}
