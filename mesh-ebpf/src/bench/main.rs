//! Programs for tests and measurements; none of them is part of the product.
//!
//! All but one are marked as taking fragments, as the balancer is: a tail call needs both ends to agree.
#![no_std]
#![no_main]

mod floor;
mod maps;
mod wrapper;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use mesh_ebpf::packet::Packet;

/// Lets everything pass. A veth end takes frames that its peer transmits natively only if it runs a native program.
#[xdp(frags)]
fn pass(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Not marked as taking fragments: nobody can call it.
#[xdp]
fn single(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Returns at once: what the wrapper costs is what this one takes in it.
#[xdp(frags)]
fn null(_: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// The least that a balancer with an outer IPv4 header can do.
#[xdp(frags)]
fn floor4(context: XdpContext) -> u32 {
    transmitted(floor::ipv4(Packet::new(&context)))
}

/// The least that a balancer with an outer IPv6 header can do.
#[xdp(frags)]
fn floor6(context: XdpContext) -> u32 {
    transmitted(floor::ipv6(Packet::new(&context)))
}

/// Restores the packet and hands it to the program under test.
#[xdp(frags)]
fn wrapper(context: XdpContext) -> u32 {
    if wrapper::restore(Packet::new(&context)).is_some() {
        maps::call_program(&context);
    }
    xdp_action::XDP_ABORTED
}

#[inline(always)]
const fn transmitted(done: Option<()>) -> u32 {
    if done.is_some() { xdp_action::XDP_TX } else { xdp_action::XDP_DROP }
}

mesh_ebpf::object!();
