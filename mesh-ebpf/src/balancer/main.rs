//! The balancer: steers packets of services to backends.
//!
//! The packet's way: [`main`](meshlb) → [`parse`] → [`pipeline`] (service, flow decision, backend) → [`forward`] →
//! outcome. The entry decides nothing.
#![no_std]
#![no_main]

mod client;
mod forward;
mod icmp;
mod maps;
mod parse;
mod pipeline;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use mesh_common::outcome::Verdict;
use mesh_ebpf::packet::Packet;

/// The program that is attached to the interfaces.
#[xdp(frags)]
fn meshlb(context: XdpContext) -> u32 {
    let outcome = pipeline::run(Packet::new(&context));
    match outcome.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Transmit => xdp_action::XDP_TX,
        Verdict::Redirect => xdp_action::XDP_REDIRECT,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No panic path survives optimisation; the verifier refuses an endless loop if one did.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the kernel looks the licence up by its section")]
static LICENSE: [u8; 4] = *b"GPL\0";
