//! The flow table's filter: where it has a say, and that it forgets no recorded flow while it is renewed.
#![expect(unsafe_code, reason = "the maps' memory is written behind the agent's back")]

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aya::maps::MapData;
use memmap2::MmapOptions;
use mesh_common::flow::state;
use mesh_common::slot::Slot;
use mesh_tests::lab::{self, Lab, SEED, SIZES};
use mesh_userspace::config::ServiceKey;
use mesh_userspace::dataplane::Dataplane as _;
use mesh_userspace::dataplane::kernel::{Choices, Kernel, Sizes};

use crate::frame::{Flags, Frame, Transport};
use crate::tracked::{NEW, OLD, OTHER, lab, lab_of_size, send};
use crate::world::{SLOTS, opening, services, xdp};

const MIGRATING: Slot = Slot::new(NEW, OLD, true, false);
const RECORDING: Slot = Slot::new(NEW, OLD, true, true);
const SETTLING: Slot = Slot::new(NEW, NEW, true, false);
const ALWAYS: Slot = Slot::new(NEW, NEW, true, true);

/// Makes the filter of a lab, in both generations, one that knows of no flow.
fn empty_filter(lab: &Lab) {
    let layout = SIZES.layout();
    let tables = MapData::from_pin(lab.pins().map("TABLES")).unwrap();
    let length = usize::try_from(layout.bytes()).unwrap();
    // SAFETY: nothing else looks at the memory meanwhile.
    let mut memory = unsafe { MmapOptions::new().len(length).map_mut(&tables.fd().as_fd()) }.unwrap();
    let [from, to] = [layout.filter_words_at(), layout.slots_at()].map(|at| usize::try_from(at).unwrap());
    memory[from..to].fill(0);
}

fn packet(key: &ServiceKey, flags: Flags, port: u16) -> Frame {
    let mut frame = Frame { transport: Transport::Tcp(flags), ..opening(key) };
    frame.source.set_port(port);
    frame
}

#[test]
fn the_filter_has_a_say_where_an_unknown_flow_leaves_no_record_and_nowhere_else() {
    let mut lab = lab();
    let mut of = |slot: Slot, flags: Flags| {
        let key = services()[0];
        lab.retain_flows(|_| false).unwrap();
        // The flow's record is of another time.
        lab.slots(SLOTS, SLOTS, Slot::new(OTHER, OTHER, true, true)).unwrap();
        assert_eq!(send(&mut lab, &packet(&key, Flags::Ack, 4000)), OTHER);
        lab.slots(SLOTS, SLOTS, slot).unwrap();
        let frame = packet(&key, flags, 4000);
        let known = send(&mut lab, &frame);
        empty_filter(&lab);
        (known, send(&mut lab, &frame))
    };
    assert_eq!(of(MIGRATING, Flags::Ack), (OTHER, OLD));
    assert_eq!(of(MIGRATING, Flags::Rst), (OTHER, OLD));
    assert_eq!(of(MIGRATING, Flags::Syn), (OTHER, OTHER));
    assert_eq!(of(SETTLING, Flags::Ack), (OTHER, NEW));
    assert_eq!(of(SETTLING, Flags::Syn), (OTHER, NEW));
    for slot in [RECORDING, ALWAYS] {
        for flags in [Flags::Syn, Flags::Ack, Flags::FinAck] {
            assert_eq!(of(slot, flags), (OTHER, OTHER), "{slot:?}");
        }
    }
}

#[test]
fn the_next_agent_goes_on_with_a_filter_that_knows_all_recorded_flows() {
    let mut lab = lab();
    let key = services()[0];
    lab.slots(SLOTS, SLOTS, MIGRATING).unwrap();
    let ports = 1000..3000;
    for port in ports.clone() {
        assert_eq!(send(&mut lab, &packet(&key, Flags::Syn, port)), NEW);
    }
    for steps in [1, 2, 2] {
        lab.reload().unwrap();
        for _ in 0..steps {
            // None of its bits is worth keeping, it is told.
            lab.kernel.renew_filter(0).unwrap();
            assert!(ports.clone().all(|port| send(&mut lab, &packet(&key, Flags::Ack, port)) == NEW));
        }
        assert_eq!(send(&mut lab, &packet(&key, Flags::Ack, 1)), OLD);
    }
}

/// Sends packets of ever new flows, each of which must stay where its first packet went, until it is over.
fn churn(kernel: &mut Kernel, key: &ServiceKey, host: u8, is_over: &AtomicBool) -> u32 {
    const LIVE: u32 = 200;
    let client = |flow: u32| {
        let [_, _, high, low] = (flow / 10_000).to_be_bytes();
        SocketAddr::from(([10, host, high, low], 1000 + u16::try_from(flow % 10_000).unwrap()))
    };
    let mut got = |flow: u32, flags: Flags| {
        let frame = Frame { source: client(flow), transport: Transport::Tcp(flags), ..opening(key) };
        let (action, output) = lab::send(kernel, &frame.bytes()).unwrap();
        assert_eq!(action, xdp::TX);
        u32::from(output[5])
    };
    let mut flows = 0;
    while !is_over.load(Ordering::Relaxed) {
        assert_eq!(got(flows, Flags::Syn), NEW);
        assert_eq!(got(flows, Flags::Ack), NEW, "flow {flows} moved with its second packet");
        let earlier = flows - flows.wrapping_mul(7) % LIVE.min(flows + 1);
        assert_eq!(got(earlier, Flags::Ack), NEW, "flow {earlier} moved before flow {flows}");
        if flows >= LIVE {
            assert_eq!(got(flows - LIVE, Flags::Rst), NEW);
        }
        flows += 1;
    }
    flows
}

#[test]
fn no_flow_moves_while_flows_come_and_go_on_other_processors_and_the_filter_is_renewed() {
    const RENEWALS: usize = 12;
    let sizes = Sizes { flows: 8192, ..SIZES };
    let (mut lab, key) = (lab_of_size(sizes), services()[0]);
    lab.slots(SLOTS, SLOTS, MIGRATING).unwrap();
    // Programs of their own over the same maps, for each thread.
    let choices = Choices { seed: Some(SEED), answer_echo: true, next_program: None };
    let kernels = [1, 2].map(|host| (host, Kernel::load(lab.pins().clone(), sizes, &choices).unwrap()));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads = kernels.map(|(host, mut kernel)| {
            let is_over = &is_over;
            scope.spawn(move || churn(&mut kernel, &key, host, is_over))
        });
        let mut left = 0;
        for _ in 0..2 * RENEWALS {
            lab.retain_flows(|flow| {
                left += u32::from(flow.record.state == state::CLOSING);
                flow.record.state != state::CLOSING
            })
            .unwrap();
            // None of its bits is worth keeping, it is told.
            lab.kernel.renew_filter(0).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        let flows = threads.map(|thread| thread.join().unwrap());
        assert!(flows.iter().all(|flows| *flows > 300) && left > 0, "{flows:?} {left}");
    });
}
