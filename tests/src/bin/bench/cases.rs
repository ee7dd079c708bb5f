//! What is measured.

use mesh_userspace::config::Protocol;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// How packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    L2,
    Outer(Family),
    /// In outer IPv4 and UDP headers.
    Gue,
    /// In outer IPv4, UDP and Geneve headers.
    Geneve,
    /// In an outer IPv4 header whose source is from a configured prefix.
    Prefix,
    /// Translated to IPv4.
    Nat,
    /// In an outer IPv4 header, and senders of packets that are too long are told.
    Tell,
}

/// What the slots of a scene's services are going through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slots {
    /// No flow table.
    Steady,
    /// Every slot changes from one backend to another; old flows are not recorded yet, as in a window's first half.
    Migrating,
    /// Every slot changes from one backend to another, and every flow is recorded.
    Recording,
    /// Every flow is recorded.
    Always,
}

/// Which packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packets {
    /// Of flows that go on for ever.
    Established,
    /// The first of flows that never come again.
    Syns,
    /// Answers of backends to flows that go on for ever.
    Replies,
}

/// One figure of the report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    pub(crate) protocol: Protocol,
    pub(crate) way: Way,
    pub(crate) packets: Packets,
    pub(crate) flows: u64,
    /// Whether they go to a service that owns a range of ports.
    pub(crate) wide: bool,
    /// How many of the group's services packets go to: to each in turn.
    pub(crate) visited: u16,
}

impl Case {
    /// What the floors get: plain packets of a thousand flows.
    pub(crate) const V4: Self = TCP;
    pub(crate) const V6: Self = pair("", Family::V6, Family::V6);
}

/// Cases that share one loaded balancer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) slots: Slots,
    /// How many services there are.
    pub(crate) services: u16,
    /// Whether there are also services of which no packet is: one that owns a range of ports, and one of QUIC.
    pub(crate) others: bool,
    /// Backends and slots of each service; the slots are as many as the agent gives by default.
    pub(crate) backends: u16,
    pub(crate) size: u32,
    /// How many flows the flow table is made for.
    pub(crate) table: u32,
    /// How many prefixes the guard of each service has; 0: there is none.
    pub(crate) prefixes: u32,
    pub(crate) cases: &'static [Case],
}

/// As many flows as there are addresses for.
const EVER_NEW: u64 = 1 << 32;
const MILLION: u64 = 1_000_000;
/// Room for a million flows, half empty.
const TABLE: u32 = 1_000_000;
/// A table that no case uses.
const UNUSED: u32 = 4096;

const TCP: Case = Case {
    name: "",
    family: Family::V4,
    protocol: Protocol::Tcp,
    way: Way::Outer(Family::V4),
    packets: Packets::Established,
    flows: 1000,
    wide: false,
    visited: 1,
};

const fn tcp(name: &'static str, flows: u64) -> Case {
    Case { name, flows, ..TCP }
}

const fn spread(name: &'static str, visited: u16) -> Case {
    Case { visited, ..tcp(name, 100_000) }
}

const fn pair(name: &'static str, family: Family, outer: Family) -> Case {
    Case { name, family, way: Way::Outer(outer), ..TCP }
}

const fn to(name: &'static str, way: Way) -> Case {
    Case { name, way, ..TCP }
}

const fn nat(name: &'static str, flows: u64) -> Case {
    Case { protocol: Protocol::Udp, way: Way::Nat, ..tcp(name, flows) }
}

const fn reply(name: &'static str, flows: u64) -> Case {
    Case { packets: Packets::Replies, ..nat(name, flows) }
}

const fn flood(name: &'static str) -> Case {
    Case { name, packets: Packets::Syns, flows: EVER_NEW, ..TCP }
}

/// Everything, in the order of the report.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "steady",
        slots: Slots::Steady,
        services: 1,
        others: false,
        backends: 100,
        size: 16_381,
        table: UNUSED,
        prefixes: 0,
        cases: &[
            tcp("1 flow", 1),
            tcp("1,000 flows", 1000),
            tcp("100,000 flows", 100_000),
            tcp("1,000,000 flows", MILLION),
            tcp("10,000,000 flows", 10 * MILLION),
            Case { name: "UDP", protocol: Protocol::Udp, ..TCP },
            pair("IPv6 in IPv6", Family::V6, Family::V6),
            pair("IPv4 in IPv6", Family::V4, Family::V6),
            pair("IPv6 in IPv4", Family::V6, Family::V4),
            to("l2", Way::L2),
            to("gue", Way::Gue),
            to("geneve", Way::Geneve),
            to("outer_source", Way::Prefix),
            to("oversized = tell", Way::Tell),
            flood("SYN flood"),
        ],
    },
    Group {
        name: "wide and QUIC services beside",
        slots: Slots::Steady,
        services: 1,
        others: true,
        backends: 100,
        size: 16_381,
        table: UNUSED,
        prefixes: 0,
        cases: &[
            tcp("1,000 flows", 1000),
            Case { wide: true, ..tcp("1,000 flows, to a range of ports", 1000) },
        ],
    },
    Group {
        name: "guarded by 100,000 prefixes",
        slots: Slots::Steady,
        services: 1,
        others: false,
        backends: 100,
        size: 16_381,
        table: UNUSED,
        prefixes: 100_000,
        cases: &[
            tcp("1,000 flows", 1000),
            tcp("10,000,000 flows", 10 * MILLION),
            pair("IPv6 in IPv6", Family::V6, Family::V6),
        ],
    },
    Group {
        name: "nat",
        slots: Slots::Steady,
        services: 1,
        others: false,
        backends: 100,
        size: 16_381,
        table: UNUSED,
        prefixes: 0,
        cases: &[
            nat("1 flow", 1),
            nat("1,000 flows", 1000),
            nat("100,000 flows", 100_000),
            nat("1,000,000 flows", MILLION),
            reply("answers to 1 flow", 1),
            reply("answers to 1,000 flows", 1000),
            reply("answers to 100,000 flows", 100_000),
            reply("answers to 1,000,000 flows", MILLION),
        ],
    },
    Group {
        name: "migrating",
        slots: Slots::Migrating,
        services: 1,
        others: false,
        backends: 100,
        size: 16_381,
        table: TABLE,
        prefixes: 0,
        cases: &[tcp("1,000 flows", 1000), tcp("1,000,000 flows", MILLION)],
    },
    Group {
        name: "recording",
        slots: Slots::Recording,
        services: 1,
        others: false,
        backends: 100,
        size: 16_381,
        table: TABLE,
        prefixes: 0,
        cases: &[tcp("1,000,000 flows", MILLION)],
    },
    Group {
        name: "always tracking",
        slots: Slots::Always,
        services: 1,
        others: false,
        backends: 100,
        size: 16_381,
        table: TABLE,
        prefixes: 0,
        cases: &[tcp("1 flow", 1), tcp("100,000 flows", 100_000), tcp("1,000,000 flows", MILLION)],
    },
    Group {
        name: "always tracking, flooded",
        slots: Slots::Always,
        services: 1,
        others: false,
        backends: 100,
        size: 16_381,
        table: TABLE,
        prefixes: 0,
        cases: &[flood("SYN flood")],
    },
    Group {
        name: "100 services",
        slots: Slots::Steady,
        services: 100,
        others: false,
        backends: 40,
        size: 4093,
        table: UNUSED,
        prefixes: 0,
        cases: &[spread("100,000 flows, each in turn", 100)],
    },
    Group {
        name: "10,000 services",
        slots: Slots::Steady,
        services: 10_000,
        others: false,
        backends: 4,
        size: 1021,
        table: UNUSED,
        prefixes: 0,
        cases: &[spread("100,000 flows, to one", 1), spread("100,000 flows, each in turn", 10_000)],
    },
];
