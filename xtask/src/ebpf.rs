//! Compiling and linting the kernel programs.
//!
//! Invariant: the flags come from one function, whatever the toolchain and whether compiled or linted; no
//! setting of the host's build reaches this one.

use std::{env, fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    process::{path_with, run},
    toolchain::{TARGET, Toolchain, linker_directory},
    workspace::{Workspace, copy_if_changed, withhold},
};

/// The programs' binaries; each becomes an object file.
const OBJECTS: [&str; 3] = ["balancer", "decap", "bench"];

/// Compiles the kernel programs and puts their objects where the host's build scripts look.
pub(crate) fn build(workspace: &Workspace, toolchain: Toolchain) -> Result<()> {
    let mut cargo = cargo(workspace, toolchain, "build")?;
    run(cargo.args(OBJECTS.iter().flat_map(|name| ["--bin", name])))?;
    let objects = workspace.objects();
    fs::create_dir_all(&objects).with_context(|| format!("{}", objects.display()))?;
    let built = workspace.target().join("bpf-build").join(TARGET).join("ebpf");
    for name in OBJECTS {
        copy_if_changed(&built.join(name), &objects.join(name).with_extension("o"))?;
    }
    Ok(())
}

/// Lints the kernel programs; warnings are errors.
pub(crate) fn clippy(workspace: &Workspace, toolchain: Toolchain) -> Result<()> {
    run(cargo(workspace, toolchain, "clippy")?.args(["--", "-Dwarnings"]))
}

fn cargo(workspace: &Workspace, toolchain: Toolchain, subcommand: &str) -> Result<Command> {
    let mut command = match toolchain {
        Toolchain::Nightly => nightly(subcommand),
        Toolchain::Distribution { llvm } => distribution(workspace, llvm, subcommand)?,
    };
    command
        .args(["--package", "mesh-ebpf", "--profile", "ebpf", "--target", TARGET])
        .env("CARGO_TARGET_DIR", workspace.target().join("bpf-build"))
        .current_dir(workspace.root())
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(env::consts::ARCH, &workspace.remaps()));
    Ok(command)
}

fn nightly(subcommand: &str) -> Command {
    let mut command = isolated("rustup");
    command.args(["run", "nightly", "cargo", subcommand, "-Zbuild-std=core"]);
    command
}

/// `cargo-clippy` is called by its path, for cargo would find rustup's before it.
fn distribution(workspace: &Workspace, llvm: u32, subcommand: &str) -> Result<Command> {
    let program = if subcommand == "clippy" { "/usr/bin/cargo-clippy" } else { "/usr/bin/cargo" };
    let mut command = isolated(program);
    command
        .arg(subcommand)
        .env("CARGO", "/usr/bin/cargo")
        .env("RUSTC", "/usr/bin/rustc")
        // Inline assembly and the target itself are unstable.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", path_with(&linker_directory(workspace, llvm).join("bin"))?);
    Ok(command)
}

/// A command that inherits nothing of the build that runs this program.
fn isolated(program: &str) -> Command {
    let mut command = Command::new(program);
    withhold(&mut command, is_of_the_host_build);
    command
}

/// Whether a variable steers cargo or rustc for the host's build. Where cargo keeps its files, how it reaches
/// registries and how it prints is not of a build.
fn is_of_the_host_build(variable: &str) -> bool {
    const KEPT: [&str; 9] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_",
        "RUST_BACKTRACE",
        "RUST_LOG",
    ];
    let steers = ["CARGO", "RUST", "LD_LIBRARY_PATH"].iter().any(|prefix| variable.starts_with(prefix));
    let kept = KEPT.iter().any(|prefix| variable.starts_with(prefix)) && variable != "RUSTUP_TOOLCHAIN";
    steers && !kept
}

/// The compiler's flags for programs that run on a kernel of this architecture, as cargo encodes them.
fn rustflags(arch: &str, remaps: &[String]) -> String {
    let flags = [
        // Line numbers in the verifier's log, and the types for BTF.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // Packet headers are rarely aligned; without it each field is loaded byte by byte.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".into(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ];
    [&flags, remaps].concat().join("\x1f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_encoded_for_cargo_and_name_the_architecture() {
        let flags = rustflags("aarch64", &["--remap-path-prefix=/a=/b".to_owned()]);
        let flags: Vec<_> = flags.split('\x1f').collect();
        assert_eq!(flags.len(), 5);
        assert!(flags.contains(&"-Clink-arg=--btf"));
        assert!(flags.contains(&"--cfg=bpf_target_arch=\"aarch64\""));
        assert!(flags.contains(&"--remap-path-prefix=/a=/b"));
    }

    #[test]
    fn the_host_build_does_not_leak() {
        for variable in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "LD_LIBRARY_PATH",
        ] {
            assert!(is_of_the_host_build(variable), "{variable}");
        }
    }

    #[test]
    fn places_network_and_output_stay_as_the_developer_set_them() {
        for variable in ["CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_TERM_COLOR", "RUSTUP_HOME", "PATH", "HOME"]
        {
            assert!(!is_of_the_host_build(variable), "{variable}");
        }
    }
}
