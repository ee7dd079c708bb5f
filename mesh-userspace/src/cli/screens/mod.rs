//! What people see. Pure: a view in, text out.

mod backends;
mod changes;
mod events;
mod explain;
mod flows;
mod guards;
mod preflight;
mod services;
mod status;
mod trace;

pub(super) use backends::backends;
pub(super) use changes::{drained, draining, maintained, reloaded, reported, safe_to_stop, split, weighed};
pub(super) use events::{event, events};
pub(super) use explain::explained;
pub(super) use flows::{counts, flows};
pub(super) use guards::{guard, guards};
pub(super) use preflight::preflight;
pub(super) use services::services;
pub(super) use status::{state, status};
pub(super) use trace::{fate, missed, packet, traced};
