//! Where the `meshlb` binary is.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// `MESHLB_BIN`, else the binary that was built beside the running test: `target/<profile>/meshlb` for
/// `target/<profile>/deps/<test>` and `target/<profile>/<bin>`.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("MESHLB_BIN") {
        return Ok(path.into());
    }
    let executable = env::current_exe().context("cannot find the running executable")?;
    let beside = executable.ancestors().skip(1).take(2).map(|directory| directory.join("meshlb"));
    let found = beside.into_iter().find(|path| path.is_file());
    found.with_context(|| missing(&executable))
}

fn missing(executable: &Path) -> String {
    let place = executable.display();
    format!("there is no `meshlb` beside {place}: run `cargo xtask build`, or set MESHLB_BIN to a binary")
}
