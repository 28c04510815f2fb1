//! Where the workspace and its build results are, and how cargo is called.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use cargo_metadata::MetadataCommand;

use crate::{proc, ui};

/// The product's roles: a service, a Deployment, a process each.
pub const ROLES: [&str; 8] =
    ["identity", "catalog", "testing", "evidence", "intel", "analytics", "deception", "gateway"];

/// The folders of this checkout.
#[derive(Debug)]
pub struct Workspace {
    /// The folder with the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Where cargo puts what it builds.
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub fn find() -> Result<Self> {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let metadata =
            MetadataCommand::new().manifest_path(manifest).no_deps().exec().context("cargo metadata failed")?;
        Ok(Self { root: metadata.workspace_root.into(), target: metadata.target_directory.into() })
    }

    /// A cargo command in this workspace.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        // What `cargo run` told us about ourselves would make build scripts that look at it run anew.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Where cargo puts the product's binary.
    pub fn binary(&self, release: bool) -> PathBuf {
        self.target.join(if release { "release" } else { "debug" }).join("aegis")
    }

    /// Builds the product for debugging, and says where it is. It is built as a part of the workspace, so that it shares
    /// its dependencies' features with the tests.
    pub fn product(&self) -> Result<PathBuf> {
        let since = Instant::now();
        ui::step("build", "the product");
        proc::run_ok(self.cargo().args(["build", "--workspace", "--bin", "aegis"]))?;
        ui::done("build", "the product", since);
        Ok(self.binary(false))
    }
}
