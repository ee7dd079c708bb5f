//! The one place where the agent's loop reads a clock.

use std::time::Instant;

/// Now.
pub(super) fn now() -> Instant {
    Instant::now()
}
