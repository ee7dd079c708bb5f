//! Packets through the loaded program: whole output bytes, and the one counter that moves.

use etherparse::PacketBuilder;
use mesh_common::slot::Slot;
use mesh_tests::lab::{Lab, neighbour};
use mesh_userspace::config::{Forward, Protocol, ServiceKey};

fn web() -> ServiceKey {
    ServiceKey { vip: [192, 0, 2, 10].into(), port: 80, protocol: Protocol::Tcp }
}

#[test]
fn direct_return_rewrites_addresses_and_takes_a_hop() {
    let mut lab = Lab::new().unwrap();
    lab.backend(1, neighbour([10, 0, 0, 1].into(), [10, 0, 0, 9].into(), Forward::L2)).unwrap();
    lab.service(web(), 1, 0, 101, Slot::steady(1)).unwrap();
    let builder = |dst: [u8; 6], src: [u8; 6], ttl| {
        let mut packet = Vec::new();
        PacketBuilder::ethernet2(src, dst)
            .ipv4([198, 51, 100, 7], [192, 0, 2, 10], ttl)
            .tcp(4000, 80, 1, 1000)
            .syn()
            .write(&mut packet, b"")
            .unwrap();
        packet
    };
    let verdict = lab.run(&builder([2, 0, 0, 0, 0, 0xaa], [2, 0, 0, 0, 0, 0x11], 64)).unwrap();
    println!("{verdict:02x?}");
    assert_eq!(verdict.packet, builder([2, 0, 0, 0, 0, 0xcc], [2, 0, 0, 0, 0, 0xbb], 63));
}
