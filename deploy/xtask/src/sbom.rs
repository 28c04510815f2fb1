//! `cargo xtask sbom`: what the product is made of, as CycloneDX.
//!
//! Every crate that the program is linked of, with its licence, its checksum and what it needs in turn. What only
//! builds or tests need is left out. The same sources give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use serde_json::{Value, json};

use crate::contract::tools;
use crate::workspace::Workspace;
use crate::{proc, ui};

/// The version of CycloneDX that is written.
const VERSION: &str = "1.6";
/// The program.
const PRODUCT: &str = "aegis";

/// What `cargo xtask sbom` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it is written; standard output without this.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// For which system.
    #[arg(long, default_value = "x86_64-unknown-linux-gnu")]
    target: String,
    /// Also hold it against the schema of CycloneDX, which is installed from PyPI.
    #[arg(long)]
    check: bool,
}

/// Writes it.
pub fn run(args: &Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let since = Instant::now();
    let metadata = MetadataCommand::new()
        .manifest_path(workspace.root.join("Cargo.toml"))
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), args.target.clone()])
        .exec()
        .context("cargo metadata failed")?;
    let lock = fs::read_to_string(workspace.root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let bom = bom(&metadata, &checksums(&lock))?;
    let mut text = serde_json::to_string_pretty(&bom)?;
    text.push('\n');
    let Some(output) = &args.output else {
        if args.check {
            let file = tempfile::NamedTempFile::new()?;
            fs::write(file.path(), &text)?;
            check(&workspace, file.path())?;
        }
        print!("{text}");
        return Ok(0);
    };
    fs::write(output, &text).with_context(|| format!("cannot write {}", output.display()))?;
    if args.check {
        check(&workspace, output)?;
    }
    let count = bom["components"].as_array().map_or(0, Vec::len);
    ui::done("sbom", &format!("{} with {count} components", output.display()), since);
    Ok(0)
}

/// Checksums of packages by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut sums = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        if let (Some(name), Some(version), Some(sum)) = (field("name"), field("version"), field("checksum")) {
            sums.insert((name.to_owned(), version.to_owned()), sum.to_owned());
        }
    }
    sums
}

fn bom(metadata: &Metadata, sums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let resolve = metadata.resolve.as_ref().context("cargo resolved nothing")?;
    let needs: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let linked = node
                .deps
                .iter()
                .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
            (&node.id, linked.map(|dependency| &dependency.pkg).collect())
        })
        .collect();
    let packages: BTreeMap<&PackageId, &Package> =
        metadata.packages.iter().map(|package| (&package.id, package)).collect();
    let product = packages.values().find(|package| package.name.as_str() == PRODUCT).context("there is no product")?;

    let (mut seen, mut todo) = (BTreeSet::new(), vec![&product.id]);
    while let Some(id) = todo.pop() {
        // What a macro needs runs while the product is built, and is not in it.
        let package = packages.get(id).with_context(|| format!("{id} is not among the packages"))?;
        if !is_macro(package) && seen.insert(id) {
            todo.extend(needs.get(id).into_iter().flatten());
        }
    }
    let mut linked: Vec<&Package> = seen.iter().filter_map(|id| packages.get(*id).copied()).collect();
    linked.sort_by_cached_key(|package| (package.name.to_string(), package.version.clone()));

    let components: Vec<Value> = linked
        .iter()
        .filter(|package| package.id != product.id)
        .map(|package| component(package, "library", sums))
        .collect();
    let dependencies: Vec<Value> = linked
        .iter()
        .map(|package| {
            let on: BTreeSet<String> = needs
                .get(&package.id)
                .into_iter()
                .flatten()
                .filter(|id| seen.contains(*id))
                .filter_map(|id| packages.get(*id).map(|package| purl(package)))
                .collect();
            json!({"ref": purl(package), "dependsOn": on})
        })
        .collect();
    Ok(json!({
        "$schema": format!("http://cyclonedx.org/schema/bom-{VERSION}.schema.json"),
        "bomFormat": "CycloneDX",
        "specVersion": VERSION,
        "version": 1,
        "metadata": {
            "component": component(product, "application", sums),
            "lifecycles": [{"phase": "build"}],
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn is_macro(package: &Package) -> bool {
    package.targets.iter().any(cargo_metadata::Target::is_proc_macro)
}

/// The package's name for programs that look for its faults.
fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn component(package: &Package, kind: &str, sums: &BTreeMap<(String, String), String>) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": package.name.as_str(),
        "version": package.version.to_string(),
        "purl": purl(package),
        "scope": "required",
    });
    if let Some(license) = &package.license {
        // The way that older packages write it.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    if let Some(description) = &package.description {
        component["description"] = json!(description.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if let Some(sum) = sums.get(&(package.name.to_string(), package.version.to_string())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    if let Some(repository) = package.repository.as_deref().filter(|url| url.starts_with("https://")) {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}

fn check(workspace: &Workspace, file: &Path) -> Result<()> {
    const PROGRAM: &str = "\
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1], encoding='utf-8').read())
sys.exit(str(error) if error else 0)
";
    let folder = tools::ready(workspace)?;
    let mut python = Command::new(folder.join("bin/python"));
    if let Err(error) = proc::output(python.args(["-c", PROGRAM]).arg(file), "") {
        bail!("{} is not as CycloneDX wants it: {error:#}", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_from_the_lock() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"x\"\nchecksum = \"00ff\"\n\n\
                    [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let sums = checksums(lock);
        assert_eq!(sums.len(), 1);
        assert_eq!(sums[&("a".to_owned(), "1.0.0".to_owned())], "00ff");
    }

    #[test]
    fn the_product_and_what_it_is_linked_of_are_named_once() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .other_options(["--filter-platform".to_owned(), "x86_64-unknown-linux-gnu".to_owned()])
            .exec()
            .unwrap();
        let bom = bom(&metadata, &BTreeMap::new()).unwrap();
        let names: Vec<&str> =
            bom["components"].as_array().unwrap().iter().map(|one| one["bom-ref"].as_str().unwrap()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        let has = |name: &str| names.iter().any(|one| one.starts_with(&format!("pkg:cargo/{name}@")));
        assert!(has("rustls") && has("aegis-sensor") && has("tokio"));
        // A macro, a tool of tests, a tool of builds.
        assert!(!has("serde_derive") && !has("proptest") && !has("protox") && !has("xtask"));
        assert_eq!(bom["metadata"]["component"]["name"], "aegis");
    }
}
