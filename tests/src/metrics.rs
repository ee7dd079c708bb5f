//! Metrics as they are scraped.

use std::collections::BTreeSet;

use mesh_userspace::metrics::{Snapshot, render};

/// The names of all metrics of the agent.
#[must_use]
pub fn names() -> BTreeSet<String> {
    let text = render(&Snapshot::default());
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(family, kind): (&str, &str)| match kind {
        "counter" => format!("{family}_total"),
        "info" => format!("{family}_info"),
        _ => family.to_owned(),
    };
    families.map(name).collect()
}
