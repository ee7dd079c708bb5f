//! The image of a container, by `deploy/Containerfile`.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};

use super::{VERSION, empty};
use crate::{
    process::{output, run, say},
    workspace::Workspace,
};

/// Builds an image of what is in the directory, in a store of its own; runs the program in it if that is static, for nothing
/// else is in there.
///
/// # Errors
/// When there is no image, or what it runs is not this version.
pub(super) fn test(workspace: &Workspace, directory: &Path, is_static: bool) -> Result<()> {
    let store = workspace.target().join("dist-image");
    empty(&store)?;
    let buildah = |words: &[&str]| {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs"]).arg("--root").arg(store.join("root"));
        command.arg("--runroot").arg(store.join("run")).args(words);
        command
    };
    let containerfile = workspace.root().join("deploy/Containerfile");
    let mut build = buildah(&["build", "--quiet", "--isolation", "chroot", "--tag", "meshlb", "--file"]);
    run(build.arg(containerfile).arg(directory))?;
    if is_static {
        let container = output(&mut buildah(&["from", "meshlb"]))?;
        let run = ["run", "--isolation", "chroot", container.trim(), "--", "/usr/bin/meshlb", "--version"];
        let version = output(&mut buildah(&run))?;
        ensure!(version.trim() == format!("meshlb {VERSION}"), "the image's program says {version:?}");
        say(&format!("image: built, and runs: {}", version.trim()));
    }
    run(&mut buildah(&["rm", "--all"]))?;
    empty(&store)
}
