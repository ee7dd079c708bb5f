//! Which crates the lock file names, and which of them are in what is shipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use cargo_metadata::{Metadata, MetadataCommand};
use serde::Deserialize;

use crate::{
    process::output,
    workspace::{Workspace, cargo},
};

/// A crate that somebody else publishes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An expression of SPDX; empty where the crate names none.
    pub(crate) licence: String,
    /// Where it comes from, as cargo writes it.
    pub(crate) source: String,
    /// Where its files are on this machine.
    pub(crate) directory: PathBuf,
}

impl Crate {
    /// As cargo writes it on command lines.
    pub(crate) fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// What cargo knows of the workspace and all its dependencies, for every target.
pub(crate) fn metadata(workspace: &Workspace) -> Result<Metadata> {
    let manifest = workspace.root().join("Cargo.toml");
    let mut command = MetadataCommand::new();
    command.cargo_path(cargo().get_program()).manifest_path(manifest).other_options(vec!["--locked".into()]);
    command.exec().context("cargo does not say which crates there are")
}

/// All crates of others.
pub(crate) fn all(metadata: &Metadata) -> Vec<Crate> {
    let foreign = metadata.packages.iter().filter_map(|package| {
        Some(Crate {
            name: package.name.to_string(),
            version: package.version.to_string(),
            // Crates of old separate by a slash what is now "OR".
            licence: package.license.clone().unwrap_or_default().replace('/', " OR "),
            source: package.source.as_ref()?.repr.clone(),
            directory: package.manifest_path.parent()?.as_std_path().to_owned(),
        })
    });
    let mut crates: Vec<_> = foreign.collect();
    crates.sort();
    crates
}

/// Those that are compiled into the binary for this target, or into the kernel programs that it embeds; with whom each
/// needs among them.
pub(crate) fn shipped(
    workspace: &Workspace,
    metadata: &Metadata,
    target: &str,
) -> Result<BTreeMap<Crate, Vec<Crate>>> {
    let mut names = tree(workspace, "mesh-userspace", target)?;
    names.append(&mut tree(workspace, "mesh-ebpf", target)?);
    let crates: Vec<_> = all(metadata).into_iter().filter(|one| names.contains(&one.id())).collect();
    let needs = |one: &Crate| {
        let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let id = format!("{}#{}", one.source, one.id());
        let node = nodes
            .into_iter()
            .find(|node| node.id.repr == id || node.id.repr.ends_with(&format!("#{}", one.id())));
        let needed: BTreeSet<_> =
            node.iter().flat_map(|node| &node.dependencies).map(|id| id.repr.clone()).collect();
        let is_needed = |other: &&Crate| needed.iter().any(|id| id.ends_with(&format!("#{}", other.id())));
        crates.iter().filter(is_needed).cloned().collect()
    };
    Ok(crates.iter().map(|one| (one.clone(), needs(one))).collect())
}

/// The crates that a package is compiled of, as `name@version`; what only runs in the compiler is left out.
fn tree(workspace: &Workspace, package: &str, target: &str) -> Result<BTreeSet<String>> {
    let mut command = cargo();
    command
        .args(["tree", "--locked", "--package", package, "--target", target])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
        .current_dir(workspace.root());
    let id = |line: &str| {
        let mut words = line.split(' ');
        Some(format!("{}@{}", words.next()?, words.next()?.strip_prefix('v')?))
    };
    Ok(output(&mut command)?.lines().filter_map(id).collect())
}

/// The lock file's sums, by `name@version`: SHA-256 of what the registry sends.
pub(crate) fn checksums(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let text = fs::read_to_string(workspace.root().join("Cargo.lock")).context("Cargo.lock")?;
    let lock: Lock = toml::from_str(&text).context("Cargo.lock")?;
    let sum = |package: Package| Some((format!("{}@{}", package.name, package.version), package.checksum?));
    Ok(lock.package.into_iter().filter_map(sum).collect())
}
