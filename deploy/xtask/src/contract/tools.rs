//! Python with schemathesis and the schemas of CycloneDX, in a folder of the build's: installed once for a list of versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::stores::packages;
use crate::workspace::Workspace;
use crate::{proc, ui};

/// The folder, with what `requirements.txt` names in it.
pub fn ready(workspace: &Workspace) -> Result<PathBuf> {
    let wanted = workspace.root.join("deploy/xtask/src/contract/requirements.txt");
    let wanted_text = fs::read_to_string(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    let folder = workspace.target.join("tools/contract");
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted_text) {
        return Ok(folder);
    }
    let since = Instant::now();
    ui::step("tools", "schemathesis and CycloneDX");
    environment(&folder)?;
    let mut install = Command::new(folder.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&wanted);
    proc::run_ok(&mut install).context("schemathesis and CycloneDX cannot be installed")?;
    fs::write(&installed, wanted_text).context("cannot note what was installed")?;
    ui::done("tools", "schemathesis and CycloneDX", since);
    Ok(folder)
}

/// A Python environment; where the distribution's Python cannot make one, it is completed first.
fn environment(folder: &Path) -> Result<()> {
    let make = || {
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(folder).stdin(Stdio::null());
        make.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if make() {
        return Ok(());
    }
    if packages::available() {
        packages::install(&["python3", "python3-venv"])?;
        if make() {
            return Ok(());
        }
    }
    bail!("no Python with venv here (Debian: apt-get install python3-venv)")
}
