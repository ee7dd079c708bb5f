//! The Debian package, of what is in the directory of what is shipped.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use nix::sys::stat::{Mode, umask};

use super::{copy, empty};
use crate::{
    process::{output, run},
    workspace::Workspace,
};

/// File of the directory, where it is installed, and its mode.
const FILES: [(&str, &str, u32); 9] = [
    ("meshlb", "usr/bin/meshlb", 0o755),
    ("meshlb.service", "usr/lib/systemd/system/meshlb.service", 0o644),
    ("meshlb.sysusers", "usr/lib/sysusers.d/meshlb.conf", 0o644),
    ("meshlb.toml", "etc/meshlb/meshlb.toml", 0o644),
    ("completions/meshlb", "usr/share/bash-completion/completions/meshlb", 0o644),
    ("completions/_meshlb", "usr/share/zsh/vendor-completions/_meshlb", 0o644),
    ("completions/meshlb.fish", "usr/share/fish/vendor_completions.d/meshlb.fish", 0o644),
    ("THIRD-PARTY.txt", "usr/share/doc/meshlb/THIRD-PARTY.txt", 0o644),
    ("meshlb.cdx.json", "usr/share/doc/meshlb/meshlb.cdx.json", 0o644),
];

/// What dpkg runs, and when.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Makes the package of a version in the same directory; the same for the same files.
pub(super) fn make(workspace: &Workspace, directory: &Path, version: &str, epoch: &str) -> Result<PathBuf> {
    // Directories have modes, too, in a package.
    umask(Mode::from_bits_truncate(0o022));
    let tree = directory.join("package");
    empty(&tree)?;
    for (file, place, mode) in FILES {
        install(&directory.join(file), &tree.join(place), mode)?;
    }
    let doc = tree.join("usr/share/doc/meshlb");
    install(&workspace.root().join("LICENSE-MIT"), &doc.join("copyright"), 0o644)?;
    install(&workspace.root().join("LICENSE-APACHE"), &doc.join("LICENSE-APACHE"), 0o644)?;
    install(&workspace.root().join("CHANGELOG.md"), &doc.join("changelog"), 0o644)?;
    pages(&directory.join("man"), &tree.join("usr/share/man/man1"))?;
    run(Command::new("gzip").args(["-9n"]).arg(doc.join("changelog")))?;
    control(workspace, &tree, version)?;
    let package = directory.join(format!("meshlb_{version}_amd64.deb"));
    let mut build = Command::new("dpkg-deb");
    build.args(["--build", "--root-owner-group", "-Zxz"]).arg(&tree).arg(&package);
    run(build.env("SOURCE_DATE_EPOCH", epoch))?;
    fs::remove_dir_all(&tree)?;
    Ok(package)
}

/// The manual pages, packed as Debian has them.
fn pages(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let page = entry?;
        let place = to.join(page.file_name());
        install(&page.path(), &place, 0o644)?;
        run(Command::new("gzip").arg("-9n").arg(place))?;
    }
    Ok(())
}

/// What dpkg wants to know.
fn control(workspace: &Workspace, tree: &Path, version: &str) -> Result<()> {
    let sources = workspace.root().join("deploy/debian");
    let about = tree.join("DEBIAN");
    let sums = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 md5sum";
    let sums = output(Command::new("sh").args(["-c", sums]).current_dir(tree))?;
    // By KiB of files, whatever the file system takes for them.
    let sizes = "find . -type f -printf '%s\\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }'";
    let size = output(Command::new("sh").args(["-c", sizes]).current_dir(tree))?;
    let control = fs::read_to_string(sources.join("control"))?;
    let control = control.replace("@VERSION@", version).replace("@SIZE@", size.trim());
    fs::create_dir_all(&about)?;
    fs::write(about.join("control"), control)?;
    fs::write(about.join("md5sums"), sums)?;
    install(&sources.join("conffiles"), &about.join("conffiles"), 0o644)?;
    SCRIPTS.iter().try_for_each(|script| install(&sources.join(script), &about.join(script), 0o755))
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    }
    copy(from, to)?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}
