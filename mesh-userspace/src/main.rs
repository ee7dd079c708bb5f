//! `meshlb`: the agent and the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_userspace::cli::main()
}
