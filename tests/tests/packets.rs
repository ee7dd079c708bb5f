//! Packets through the loaded programs: whole output bytes, and the one counter that moves.
//!
//! What comes out is compared with packets that etherparse builds from scratch, never with what our own code makes.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail by panicking, too"
)]

#[path = "packets/ceilings.rs"]
mod ceilings;
#[path = "packets/decap/mod.rs"]
mod decap;
#[path = "packets/echo.rs"]
mod echo;
#[path = "packets/explain.rs"]
mod explain;
#[path = "packets/extensions.rs"]
mod extensions;
#[path = "packets/filter.rs"]
mod filter;
#[path = "packets/flow_log.rs"]
mod flow_log;
#[path = "packets/forwarding.rs"]
mod forwarding;
#[path = "packets/fragments.rs"]
mod fragments;
#[path = "packets/frame.rs"]
mod frame;
#[path = "packets/fuzz.rs"]
mod fuzz;
#[path = "packets/garbage.rs"]
mod garbage;
#[path = "packets/guard.rs"]
mod guard;
#[path = "packets/histories.rs"]
mod histories;
#[path = "packets/history.rs"]
mod history;
#[path = "packets/icmp.rs"]
mod icmp;
#[path = "packets/large.rs"]
mod large;
#[path = "packets/lengths.rs"]
mod lengths;
#[path = "packets/memory.rs"]
mod memory;
#[path = "packets/next.rs"]
mod next;
#[path = "packets/not_ours.rs"]
mod not_ours;
#[path = "packets/outcomes.rs"]
mod outcomes;
#[path = "packets/quic.rs"]
mod quic;
#[path = "packets/random.rs"]
mod random;
#[path = "packets/records.rs"]
mod records;
#[path = "packets/reject.rs"]
mod reject;
#[path = "packets/scale.rs"]
mod scale;
#[path = "packets/schedulers.rs"]
mod schedulers;
#[path = "packets/screen.rs"]
mod screen;
#[path = "packets/spread.rs"]
mod spread;
#[path = "packets/trace.rs"]
mod trace;
#[path = "packets/tracked.rs"]
mod tracked;
#[path = "packets/tracking.rs"]
mod tracking;
#[path = "packets/translation/mod.rs"]
mod translation;
#[path = "packets/tunnels.rs"]
mod tunnels;
#[path = "packets/twin.rs"]
mod twin;
#[path = "packets/undeliverable.rs"]
mod undeliverable;
#[path = "packets/vlan.rs"]
mod vlan;
#[path = "packets/wide.rs"]
mod wide;
#[path = "packets/world.rs"]
mod world;
