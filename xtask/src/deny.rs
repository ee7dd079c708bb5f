//! What dependencies may be, as `deny.toml` says: their licences, where they come from, which must not be there.
//!
//! The file is that of cargo-deny. What of it is not understood here is an error, so that nothing is taken for checked that
//! is not. Advisories take a database from the network, and so cargo-deny itself.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::Metadata;
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use crate::{
    crates::{self, Crate},
    process::{find_program, run, say},
    workspace::Workspace,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Policy {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    #[expect(dead_code, reason = "there is one answer, and read it is")]
    wildcards: Denied,
    allow_wildcard_paths: bool,
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    #[expect(dead_code, reason = "there is one answer, and read it is")]
    unknown_registry: Denied,
    #[expect(dead_code, reason = "there is one answer, and read it is")]
    unknown_git: Denied,
    allow_registry: Vec<String>,
}

/// The one answer that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Denied {
    Deny,
}

/// Checks every crate of the lock file.
///
/// # Errors
/// When one is not as it should be; the error names all of them.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let file = workspace.root().join("deny.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let policy = read(&text).with_context(|| format!("{}", file.display()))?;
    let metadata = crates::metadata(workspace)?;
    let crates = crates::all(&metadata);
    let mut faults: Vec<_> = crates.iter().flat_map(|one| faults(&policy, one)).collect();
    faults.extend(wildcards(&policy, &metadata));
    ensure!(faults.is_empty(), "dependencies are not as deny.toml wants them:\n{}", faults.join("\n"));
    say(&format!("{} crates: licences, sources and bans are as deny.toml wants them", crates.len()));
    advisories(workspace)
}

fn read(text: &str) -> Result<Policy> {
    let policy: Policy = toml::from_str(text)?;
    for allowed in &policy.licenses.allow {
        Licensee::parse(allowed)
            .with_context(|| format!("licenses.allow: {allowed:?} is no licence of SPDX"))?;
    }
    Ok(policy)
}

/// What is wrong with a crate.
fn faults(policy: &Policy, one: &Crate) -> Vec<String> {
    let ban = policy.bans.deny.iter().find(|ban| ban.name == one.name);
    let banned = ban.map(|ban| format!("{}: banned: {}", one.id(), ban.reason));
    let registry = one.source.strip_prefix("registry+");
    let known =
        registry.is_some_and(|registry| policy.sources.allow_registry.iter().any(|it| it == registry));
    let stranger = (!known).then(|| format!("{}: comes from {}", one.id(), one.source));
    [banned, stranger, licence(policy, one)].into_iter().flatten().collect()
}

fn licence(policy: &Policy, one: &Crate) -> Option<String> {
    let complain = |why: String| Some(format!("{}: licence {:?}: {why}", one.id(), one.licence));
    let expression = match Expression::parse_mode(&one.licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return complain(error.reason.to_string()),
    };
    let allowed: Vec<_> = policy.licenses.allow.iter().filter_map(|it| Licensee::parse(it).ok()).collect();
    let fits = expression.evaluate(|wanted| allowed.iter().any(|it| it.satisfies(wanted)));
    if fits { None } else { complain("not allowed".into()) }
}

/// Dependencies of the workspace's members whose version is left open.
fn wildcards(policy: &Policy, metadata: &Metadata) -> Vec<String> {
    let members: BTreeSet<_> = metadata.workspace_members.iter().collect();
    let members = metadata.packages.iter().filter(|package| members.contains(&package.id));
    let paths_may = policy.bans.allow_wildcard_paths;
    let open = members.flat_map(|package| package.dependencies.iter().map(move |it| (package, it)));
    open.filter(|(_, it)| it.req.to_string() == "*" && !(paths_may && it.path.is_some()))
        .map(|(package, it)| format!("{}: {} has no version", package.name, it.name))
        .collect()
}

/// Asks the database of advisories, if there is what asks it.
fn advisories(workspace: &Workspace) -> Result<()> {
    if find_program("cargo-deny").is_none() {
        say("advisories are not checked: they take `cargo install cargo-deny` and the network");
        return Ok(());
    }
    let mut command = Command::new("cargo-deny");
    run(command.args(["check", "advisories"]).current_dir(workspace.root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        licenses.allow = ["MIT", "Apache-2.0 WITH LLVM-exception"]
        [bans]
        wildcards = "deny"
        allow-wildcard-paths = true
        deny = [{ crate = "bad", reason = "it is bad" }]
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
        allow-registry = ["https://good.example"]
    "#;

    fn found(name: &str, licence: &str, source: &str) -> Vec<String> {
        let one = Crate {
            name: name.into(),
            version: "1.0.0".into(),
            licence: licence.into(),
            source: source.into(),
            directory: "/".into(),
        };
        faults(&read(POLICY).unwrap(), &one)
    }

    #[test]
    fn each_fault_is_found() {
        let good = "registry+https://good.example";
        assert_eq!(found("fine", "MIT OR GPL-3.0-only", good), [""; 0]);
        assert_eq!(found("fine", "Apache-2.0 WITH LLVM-exception", good), [""; 0]);
        assert_eq!(found("bad", "MIT", good), ["bad@1.0.0: banned: it is bad"]);
        let expected = ["copyleft@1.0.0: licence \"MIT AND GPL-3.0-only\": not allowed"];
        assert_eq!(found("copyleft", "MIT AND GPL-3.0-only", good), expected);
        assert_eq!(found("plain", "Apache-2.0", good), ["plain@1.0.0: licence \"Apache-2.0\": not allowed"]);
        assert_eq!(found("none", "", good).len(), 1);
        for source in ["registry+https://bad.example", "git+https://good.example"] {
            assert_eq!(found("far", "MIT", source), [format!("far@1.0.0: comes from {source}")]);
        }
    }

    #[test]
    fn what_is_not_checked_is_refused() {
        for (from, to) in [
            ("wildcards = \"deny\"", "wildcards = \"warn\""),
            ("unknown-git = \"deny\"", "unknown-git = \"deny\"\nprivate = []"),
            ("\"MIT\"", "\"MITT\""),
        ] {
            let text = POLICY.replace(from, to);
            assert_ne!(text, POLICY);
            assert!(read(&text).is_err(), "{text}");
        }
    }
}
