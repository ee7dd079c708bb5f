//! Running other programs: what failed is always named by its whole command line.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Tells the developer what happens. On stderr: stdout belongs to the programs that are run.
pub(crate) fn say(message: &str) {
    eprintln!("xtask: {message}");
}

/// Runs to the end. An error if it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` cannot be started", line(command)))?;
    ensure!(status.success(), "`{}` failed: {status}", line(command));
    Ok(())
}

/// Becomes that program: its last line, its exit status and the signals sent to it are its own.
pub(crate) fn become_program(command: &mut Command) -> Result<()> {
    let path = std::env::join_paths(search_path()).context("PATH cannot be extended")?;
    let error = command.env("PATH", path).exec();
    Err(error).with_context(|| format!("`{}` cannot be started", line(command)))
}

/// What it prints on stdout. An error if it cannot be started or does not succeed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("`{}` cannot be started", line(command)))?;
    ensure!(output.status.success(), "`{}` failed: {}", line(command), output.status);
    String::from_utf8(output.stdout).with_context(|| format!("`{}` does not print UTF-8", line(command)))
}

/// Whether it can be started and succeeds; silent.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Where a program of that name is.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// `PATH`, then the directories of administration, which root's `PATH` lacks after `su`.
fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).collect()
}

/// Whether this process may administrate the system.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `PATH` with a directory in front.
pub(crate) fn path_with(first: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(first.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(directories).with_context(|| format!("{} cannot be in PATH", first.display()))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_whole_command_line() {
        let error = run(Command::new("false").args(["one", "two"])).unwrap_err();
        assert_eq!(error.to_string(), "`false one two` failed: exit status: 1");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = run(&mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program` cannot be started");
    }

    #[test]
    fn output_is_what_the_program_prints() {
        assert_eq!(output(Command::new("echo").arg("word")).unwrap(), "word\n");
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program"), None);
    }

    #[test]
    fn the_directory_put_first_is_searched_first() {
        let path = path_with(Path::new("/first")).unwrap();
        assert_eq!(std::env::split_paths(&path).next(), Some(PathBuf::from("/first")));
    }
}
