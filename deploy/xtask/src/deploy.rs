//! `cargo xtask deploy-check`: all of `docker-compose.yml`, `deploy/` and `k8s/` that can be held without an engine or a
//! cluster. The settings are tried by running every role with them.

mod cluster;
mod compose;
mod figures;
mod rules;
mod running;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;
use tempfile::TempDir;

use crate::workspace::Workspace;
use crate::{guard, proc, ui};
use tools::Tools;

/// More than a build for tests takes, bytes. The limit of the image is held where that is built: by `check.sh` in the Dockerfile.
const MOST_BYTES: u64 = 1_000_000_000;

/// What `cargo xtask deploy-check` can be told.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Look at the files only: neither lay the image out nor run the roles.
    #[arg(long)]
    files: bool,

    /// Ask and run this binary instead of building one.
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
}

/// How a check ended that found no fault.
enum Outcome {
    Held(String),
    /// It could not be made, and why.
    LeftOut(String),
}

/// What all checks share.
struct Ground {
    root: PathBuf,
    binary: PathBuf,
    tools: Tools,
    /// Secrets as `deploy/secrets/make.sh` makes them.
    secrets: PathBuf,
    scratch: TempDir,
}

impl Ground {
    fn new(workspace: &Workspace, args: &Args) -> Result<Self> {
        let tools = Tools::install(&workspace.target)?;
        let binary = match &args.bin {
            Some(binary) => fs::canonicalize(binary).with_context(|| format!("no {}", binary.display()))?,
            None => workspace.product()?,
        };
        let scratch = tempfile::Builder::new().prefix("aegis-deploy-").tempdir()?;
        guard::folder(scratch.path());
        let secrets = scratch.path().join("secrets");
        let make = workspace.root.join("deploy/secrets/make.sh");
        proc::output(Command::new(&make).arg(&secrets), "").context("deploy/secrets/make.sh")?;
        let before = files_below(&secrets)?;
        proc::output(Command::new(&make).arg(&secrets), "").context("deploy/secrets/make.sh, the second time")?;
        if files_below(&secrets)? != before {
            bail!("deploy/secrets/make.sh changes what it has made");
        }
        // What enrolment makes, for checks that only ask whether it can be read.
        fs::write(secrets.join("sensor/token"), "aegis_key_of-nobody\n")?;
        Ok(Self { root: workspace.root.clone(), binary, tools, secrets, scratch })
    }
}

/// Makes every check, and fails if one finds a fault.
pub fn run(args: &Args) -> Result<u8> {
    let begun = Instant::now();
    let workspace = Workspace::find()?;
    let ground = Ground::new(&workspace, args)?;
    let mut faults = 0;
    let mut check = |name: &str, made: Result<Outcome>, since: Instant| -> Result<()> {
        match made {
            Ok(Outcome::Held(what)) => ui::done(name, &what, since),
            Ok(Outcome::LeftOut(why)) => ui::note(&format!("{name} not checked: {why}")),
            Err(error) if error.is::<proc::Interrupted>() => return Err(error),
            Err(error) => {
                faults += 1;
                ui::error(&format!("{name}: {error:#}"));
            }
        }
        proc::check()
    };
    type Check = fn(&Ground) -> Result<Outcome>;
    let on_files: [(&str, Check); 5] = [
        ("scripts", scripts),
        ("dockerfile", dockerfile),
        ("compose", compose::check),
        ("kubernetes", cluster::check),
        ("prometheus", figures::check_files),
    ];
    let on_programs: [(&str, Check); 2] = [("image", image), ("roles", running::check)];
    let wanted = on_files.into_iter().chain(on_programs.into_iter().filter(|_| !args.files));
    for (name, make) in wanted {
        let since = Instant::now();
        check(name, make(&ground), since)?;
    }
    if faults > 0 {
        bail!("{faults} of the checks found a fault");
    }
    ui::done("deploy", "all that could be checked holds", begun);
    Ok(0)
}

fn scripts(ground: &Ground) -> Result<Outcome> {
    let Some(program) = ground.tools.program("shellcheck") else {
        return Ok(Outcome::LeftOut("no shellcheck".to_owned()));
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in ["image", "secrets", "compose", "postgres"] {
        for entry in fs::read_dir(ground.root.join("deploy").join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "sh") {
                found.push(path);
            }
        }
    }
    tools::answer(Command::new(program).arg("--external-sources").args(&found))?;
    Ok(Outcome::Held(format!("{} of them, by shellcheck", found.len())))
}

fn dockerfile(ground: &Ground) -> Result<Outcome> {
    let path = ground.root.join("deploy/Dockerfile");
    for line in fs::read_to_string(&path)?.lines() {
        if let Some(image) = line.strip_prefix("FROM ")
            && let Some(image) = image.split_whitespace().next()
            && image != "scratch"
            && !rules::pinned(image)
        {
            bail!("{image} has no version");
        }
    }
    let unseen = unseen(&ground.root)?;
    if !unseen.is_empty() {
        bail!(".dockerignore keeps these members of the workspace from the build: {}", unseen.join(", "));
    }
    let Some(program) = ground.tools.program("hadolint") else {
        return Ok(Outcome::LeftOut("no hadolint".to_owned()));
    };
    tools::answer(Command::new(program).arg(&path))?;
    Ok(Outcome::Held("by hadolint".to_owned()))
}

/// Members of the workspace that the build of the image does not get to see.
fn unseen(root: &Path) -> Result<Vec<String>> {
    let ignored = fs::read_to_string(root.join(".dockerignore"))?;
    let seen: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let members = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    let folders = members.workspace_packages().into_iter().filter_map(|package| {
        package.manifest_path.parent()?.strip_prefix(root.to_str()?).ok().map(ToString::to_string)
    });
    Ok(folders.filter(|folder| !seen.iter().any(|seen| Path::new(folder).starts_with(seen))).collect())
}

/// Lays the image out with the scripts that the Dockerfile calls, and runs it as a container would.
fn image(ground: &Ground) -> Result<Outcome> {
    if !proc::is_root() {
        return Ok(Outcome::LeftOut("only root can run it as somebody else".to_owned()));
    }
    let folder = ground.scratch.path().join("image");
    let steps = ground.root.join("deploy/image");
    tools::answer(Command::new(steps.join("install.sh")).arg(&ground.binary).arg(&folder)).context("install.sh")?;
    let said = tools::answer(Command::new(steps.join("check.sh")).arg(&folder).arg(MOST_BYTES.to_string()))
        .context("check.sh")?;
    fs::remove_dir_all(&folder)?;
    let size = said.lines().find_map(|line| line.strip_prefix("size")).unwrap_or_default().trim().to_owned();
    Ok(Outcome::Held(format!("starts, answers and ends as 65532 on a read-only root; {size} with this build")))
}

fn files_below(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files_below(&path)?),
            false => {
                let text = fs::read(&path)?;
                found.push((path, text));
            }
        }
    }
    found.sort();
    Ok(found)
}
