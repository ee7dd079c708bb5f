//! Whether the same sources give the same bytes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{empty, make};
use crate::{
    process::{output, run, say},
    toolchain::Toolchain,
    workspace::Workspace,
};

/// Builds copies of the sources in another directory, from nothing, and compares the sums of all files.
pub(super) fn verify(workspace: &Workspace, toolchain: Toolchain, epoch: &str, made: &Path) -> Result<()> {
    let scratch = workspace.target().join("dist-verify");
    let root = scratch.join("a/directory/of/another/depth");
    empty(&scratch)?;
    copy_sources(workspace, &root)?;
    let again = workspace.elsewhere(root, scratch.join("target"));
    let [first, second] = [made.to_owned(), make(&again, toolchain, epoch)?].map(sums);
    let (first, second) = (first?, second?);
    ensure!(first == second, "two builds of the same sources differ:\n{}", differences(&first, &second));
    say(&format!("built twice, in two directories, with the same result:\n{first}"));
    Ok(fs::remove_dir_all(&scratch)?)
}

/// What git knows of, as it is in the developer's directory.
fn copy_sources(workspace: &Workspace, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("{}", to.display()))?;
    let script = "git ls-files -z | xargs -0 cp --parents --target-directory \"$1\"";
    run(Command::new("sh").args(["-c", script, "sh"]).arg(to).current_dir(workspace.root()))
}

fn sums(directory: PathBuf) -> Result<String> {
    output(Command::new("cat").arg(directory.join("SHA256SUMS")))
}

fn differences(first: &str, second: &str) -> String {
    let lines = first.lines().filter(|line| !second.lines().any(|other| other == *line));
    lines.collect::<Vec<_>>().join("\n")
}
