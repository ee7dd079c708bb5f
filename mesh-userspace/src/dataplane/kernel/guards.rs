//! The guards' policies in the kernel's memory.

use super::{
    DataplaneError,
    mapped::{Mapped, Memory},
};
use crate::guard::Image;
use mesh_common::{abi::PolicyLayout, policy::Policy};

/// The map of policies.
pub(super) const POLICIES: &str = "POLICIES";

/// Both halves of all parts.
pub(super) struct GuardMaps {
    layout: PolicyLayout,
    policies: Mapped<Policy>,
    boundaries: Mapped<[u64; 2]>,
    /// Two elements a word.
    index: Mapped<u64>,
}

impl GuardMaps {
    pub(super) fn new(memory: &Memory, layout: PolicyLayout) -> Self {
        let PolicyLayout { policies, boundaries, index } = layout;
        Self {
            layout,
            policies: Mapped::new("policies", memory, 0, policies.saturating_mul(2)),
            boundaries: Mapped::new(
                "boundaries",
                memory,
                layout.boundaries_at(),
                boundaries.saturating_mul(2),
            ),
            index: Mapped::new("indexes of boundaries", memory, layout.index_at(), index),
        }
    }

    /// Writes a half that no packet reads.
    pub(super) fn write(&self, half: u32, image: &Image) -> Result<(), DataplaneError> {
        let PolicyLayout { policies, boundaries, index } = self.layout;
        for (at, boundary) in (half * boundaries..).zip(&image.boundaries) {
            self.boundaries.write(at, boundary, 0)?;
        }
        for (at, pair) in (half * index / 2..).zip(image.index.chunks(2)) {
            let [first, second] =
                [pair.first(), pair.get(1)].map(|it| it.copied().unwrap_or(0).to_ne_bytes());
            let [a, b, c, d] = first;
            let [e, f, g, h] = second;
            self.index.write(at, &u64::from_ne_bytes([a, b, c, d, e, f, g, h]), 0)?;
        }
        for (service, policy) in &image.policies {
            self.policies.write(half * policies + service, policy, 0)?;
        }
        Ok(())
    }
}
