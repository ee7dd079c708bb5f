//! Finding the kernel programs' objects from a build script; shared by the crates that embed or load them.
//!
//! The objects are made by `cargo xtask build`, in `bpf` below the target directory. Never made from here: a
//! build script that calls cargo waits for the lock of the cargo that called it.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// For each (name, variable): the path of `<name>.o` in `variable`, for `env!` in the crate.
pub(crate) fn export(objects: &[(&str, &str)]) -> ExitCode {
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    for (name, variable) in objects {
        let Some(path) = find(name) else {
            println!("cargo::error=the kernel program `{name}` is not built yet: run `cargo xtask build`");
            return ExitCode::FAILURE;
        };
        println!("cargo::rerun-if-changed={}", path.display());
        println!("cargo::rustc-env={variable}={}", path.display());
    }
    ExitCode::SUCCESS
}

/// In the target directory: where the variable says, else the nearest above the script's own output.
fn find(name: &str) -> Option<PathBuf> {
    let object = Path::new("bpf").join(name).with_extension("o");
    let named = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let output = PathBuf::from(env::var_os("OUT_DIR")?);
    let above = output.ancestors().map(Path::to_path_buf);
    named.into_iter().chain(above).map(|directory| directory.join(&object)).find(|path| path.exists())
}
