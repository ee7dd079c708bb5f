//! XDP programs that are attached already: what they are called, and which of them are an agent's.

use std::collections::BTreeSet;
use std::path::Path;

use aya::programs::loaded_programs;

use crate::dataplane::kernel::Pins;

/// The programs behind the links that an agent has pinned in this directory.
pub(super) fn ours(pins: &Path) -> BTreeSet<u32> {
    Pins::existing(pins).ok().flatten().map(|pins| pins.linked_programs()).unwrap_or_default()
}

/// The name of a program; `None`: it has none, or the caller may not know.
pub(super) fn name(id: u32) -> Option<String> {
    let found = loaded_programs().map_while(Result::ok).find(|program| program.id() == id)?;
    found.name_as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}
