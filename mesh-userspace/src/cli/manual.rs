//! What is generated from the definition of the command line: completions of shells, manual pages.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::error::CliError;
use super::examples;
use super::output::Output;

/// Prints what a shell reads to complete commands.
pub(super) fn completions<W: Write>(shell: Shell, output: &mut Output<W>) -> Result<(), CliError> {
    let (mut command, mut script) = (examples::command(), Vec::new());
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output.raw(&script)
}

/// Prints the manual page of `meshlb` itself.
pub(super) fn page<W: Write>(output: &mut Output<W>) -> Result<(), CliError> {
    let mut page = Vec::new();
    Man::new(examples::command()).render(&mut page).map_err(CliError::Output)?;
    output.raw(&page)
}

/// Writes a manual page for each command into a directory, which is made.
pub(super) fn pages(directory: &Path) -> Result<(), CliError> {
    let written = std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(examples::command(), directory));
    Ok(written.with_context(|| format!("cannot write manual pages into {}", directory.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;
    use clap::ValueEnum as _;
    use tempfile::TempDir;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            completions(*shell, &mut Output::new(Format::Table, &mut script)).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in examples::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let directory = TempDir::new().unwrap();
        let below = directory.path().join("man1");
        pages(&below).unwrap();
        for command in examples::command().get_subcommands() {
            let text =
                std::fs::read_to_string(below.join(format!("meshlb-{}.1", command.get_name()))).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{text}");
        }
        let mut printed = Vec::new();
        page(&mut Output::new(Format::Table, &mut printed)).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert!(printed.contains("meshlb\\-decap(1)"), "{printed}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told() {
        let error = pages(Path::new("/proc/none")).unwrap_err();
        assert!(error.to_string().starts_with("cannot write manual pages into /proc/none: "), "{error}");
    }
}
